"""The collector: what it acknowledges is in the store, what it refuses is kept apart and sealed, nothing is lost."""

import contextlib
import datetime
import gzip
import http.client
import ipaddress
import json
import logging
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st

from auditlib.collector import Limits, serve
from auditlib.collector.intake import MAX_BODY_BYTES, split
from auditlib.collector.refusals import MAX_KEPT_BYTES
from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.formats.catalog import extend_catalog
from auditlib.formats.event import parse_event
from auditlib.store import init_store, open_store
from auditlib.tokens import Tokens, revoke_tokens
from tests.collectors import CATALOG, Collector, clock, event, process, running, wait_for
from tests.pg_service import pg_service
from tests.strength import LONG

SECRET = "hunter2-and-some-more"  # what must be found nowhere


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """One collector a database for the tests that leave it as they found it; each takes a source of its own."""
    url = None if request.param == "sqlite" else pg_service().new_database()
    limits = Limits(auth_seconds=3600.0)  # one record of failed authentications, then none beside what a test counts
    with running(tmp_path_factory.mktemp("collector"), store_url=url, limits=limits) as collector:
        yield collector


@pytest.fixture
def source(request: pytest.FixtureRequest) -> str:
    return f"s-{sha256(request.node.name.encode()).hexdigest()[:12]}"


@pytest.fixture
def token(shared: Collector, source: str) -> str:
    return shared.add(source)


def of(collector: Collector, source: str) -> list[Any]:
    """The records of a source and its instances."""
    return [record for record in collector.records() if record.receipt.source.split("/")[0] == source]


def refused(collector: Collector, source: str) -> tuple[list[Any], list[Any]]:
    """What is quarantined of a source, and the records that seal it: they belong together one by one."""
    kept = [refusal for refusal in collector.refusals() if refusal.source.split("/")[0] == source]
    sealed = [
        record
        for record in collector.records("audit.refused")
        if record.event.context["source"].split("/")[0] == source
    ]
    assert [(one.sha256, one.reason, one.source_seq) for one in kept] == [
        tuple(record.event.context[key] for key in ("sha256", "reason", "source_seq")) for record in sealed
    ]
    for record in sealed:
        assert record.receipt.source == "auditlib:collector"
        assert record.event.actor.type == "system"
        CATALOG.check(record.event)
    return kept, sealed


# ------------------------------------------------------------------------------------------------- what is acknowledged


def test_what_is_acknowledged_is_in_the_store(shared: Collector, token: str, source: str) -> None:
    """Each receipt answered is the receipt stored; numbers and instance are as the client sent them."""
    answered = shared.results(token, [event("e-1"), event("e-2")], Audit_Instance="7f3a", Audit_First_Seq="101")
    stored = of(shared, source)
    assert [one["status"] for one in answered] == ["recorded", "recorded"]
    assert [(r.event.event_id, r.receipt.recorded_at, r.receipt.source, r.receipt.source_seq) for r in stored] == [
        (one["event_id"], one["recorded_at"], one["source"], one["source_seq"]) for one in answered
    ]
    assert [(one["source"], one["source_seq"]) for one in answered] == [
        (f"{source}/7f3a", 101),
        (f"{source}/7f3a", 102),
    ]
    assert stored[0].event == parse_event(event("e-1"))


def test_one_event_an_array_and_lines_are_the_same(shared: Collector, token: str, source: str) -> None:
    """The three forms of a body, and an empty one of each that may be empty."""
    assert shared.results(token, event("e-1"))[0]["status"] == "recorded"
    lines = f"{json.dumps(event('e-2'))}\n\r\n{json.dumps(event('e-3'))}\r\n".encode()
    ndjson = shared.raw(token, lines, Content_Type="application/x-ndjson")
    assert [one["status"] for one in ndjson.json()["results"]] == ["recorded", "recorded"]
    assert shared.results(token, [event("e-1"), event("e-2"), event("e-3")])[2]["status"] == "repeated"
    assert shared.results(token, []) == []
    assert shared.raw(token, b"", Content_Type="application/x-ndjson").json() == {"results": []}
    assert [record.event.event_id for record in of(shared, source)] == ["e-1", "e-2", "e-3"]


def test_the_same_event_again_is_acknowledged_again(shared: Collector, token: str, source: str) -> None:
    """A client that lost the answer sends again, in another spelling, and gets the first receipt; it is kept once."""
    (first,) = shared.results(token, event("e-1"))
    spelled = json.dumps(event("e-1", occurred_at="2026-01-08T15:32:07.0+01:00"), indent=3).encode()
    again = shared.raw(token, spelled).json()["results"][0]
    assert again == first | {"status": "repeated"}
    twice = shared.results(token, [event("e-2"), event("e-2")])
    assert [one["status"] for one in twice] == ["recorded", "repeated"]
    assert len(of(shared, source)) == 2


def test_another_body_under_an_id_is_a_conflict_and_kept(shared: Collector, token: str, source: str) -> None:
    """It is refused as a conflict, also within one request, and both bodies reach the sealer."""
    shared.results(token, event("e-1"))
    other = event("e-1", outcome="denied")
    (answer,) = shared.results(token, other)
    assert answer["status"] == "conflict"
    assert answer["event_id"] == "e-1"
    assert "another body" in answer["reason"]
    inside = shared.results(token, [event("e-2"), event("e-2", outcome="failure")])
    assert [one["status"] for one in inside] == ["recorded", "conflict"]
    assert [record.event.outcome for record in of(shared, source)] == ["success", "denied", "success", "failure"]


def test_one_id_in_two_sources_is_no_conflict(shared: Collector, token: str) -> None:
    """An id is unique within a source; an instance is a source of its own."""
    assert shared.results(token, event("e-1"))[0]["status"] == "recorded"
    assert shared.results(token, event("e-1"), Audit_Instance="a")[0]["status"] == "recorded"
    assert shared.results(token, event("e-1", outcome="denied"), Audit_Instance="b")[0]["status"] == "recorded"


def test_the_offset_between_the_clocks_is_kept(tmp_path: Path) -> None:
    """The skew check gets collector minus client, and recorded_at is the collector's own."""
    noon = 1_767_873_600_000_000  # 2026-01-08T12:00:00Z
    with running(tmp_path, now=lambda: noon) as collector:
        token = collector.add("billing-api")
        (answer,) = collector.results(token, event("e-1"), Audit_Sent_At="2026-01-08T13:00:30.5+01:00")
        assert answer["recorded_at"] == "2026-01-08T12:00:00Z"
        assert [(one.source, one.at, one.offset) for one in collector.clocks()] == [("billing-api", noon, -30_500_000)]


def test_an_account_follows_only_the_token_of_an_import(shared: Collector, token: str, source: str) -> None:
    """One token imports many accounts; no other token may lengthen its name."""
    imports = shared.add(f"import:{source}")
    (answer,) = shared.results(imports, event("e-1"), Audit_Account="123456789012", Audit_Instance="a1")
    assert answer["source"] == f"import:{source}:123456789012/a1"
    assert shared.post(token, event("e-1"), Audit_Account="123456789012")[0] == 400
    assert of(shared, source) == []


@pytest.mark.parametrize(
    ("headers", "status", "named"),
    [
        ({"Audit_Instance": "7F3A"}, 400, "Audit-Instance"),
        ({"Audit_Instance": "a/b"}, 400, "Audit-Instance"),
        ({"Audit_Instance": ""}, 400, "Audit-Instance"),
        ({"Audit_Instance": "a" * 33}, 400, "Audit-Instance"),
        ({"Audit_First_Seq": "1"}, 400, "Audit-First-Seq"),
        ({"Audit_First_Seq": "0", "Audit_Instance": "a"}, 400, "Audit-First-Seq"),
        ({"Audit_First_Seq": "9" * 16, "Audit_Instance": "a"}, 400, "Audit-First-Seq"),
        ({"Audit_First_Seq": "9" * 5000, "Audit_Instance": "a"}, 400, "Audit-First-Seq"),
        ({"Audit_First_Seq": "-1", "Audit_Instance": "a"}, 400, "Audit-First-Seq"),
        ({"Audit_Sent_At": "yesterday"}, 400, "Audit-Sent-At"),
        ({"Audit_Sent_At": "2026-01-08T14:32:07"}, 400, "Audit-Sent-At"),
        ({"Content_Type": "text/plain"}, 415, "Content-Type"),
        ({"Content_Type": ""}, 415, "Content-Type"),
        ({"Content_Type": "application/json; charset=utf-16"}, 415, "Content-Type"),
        ({"Content_Encoding": "gzip"}, 415, "Content-Encoding"),
        ({"Content_Encoding": "identity, gzip"}, 415, "Content-Encoding"),
    ],
)
def test_a_header_that_is_wrong_is_named_and_the_body_kept(
    shared: Collector, token: str, source: str, headers: dict[str, str], status: int, named: str
) -> None:
    """No header is guessed at; the act happened nevertheless, so that the body is quarantined and sealed."""
    body = json.dumps(event("e-1")).encode()
    response = shared.raw(token, body, **headers)
    assert response.status == status
    assert named in response.json()["error"]
    assert of(shared, source) == []
    (kept,), (sealed,) = refused(shared, source)
    assert kept.sha256 == sha256(body).hexdigest()
    assert sealed.event.context["claimed"] == {
        "action": "invoice.pay",
        "event_id": "e-1",
        "occurred_at": "2026-01-08T14:32:07Z",
    }


def test_a_compressed_body_is_never_unpacked(shared: Collector, token: str, source: str) -> None:
    """A bomb of a gigabyte stays what it is: some bytes, refused."""
    bomb = gzip.compress(bytes(100_000_000))
    assert shared.raw(token, bomb, Content_Encoding="gzip").status == 415
    assert shared.raw(token, bomb).status == 400
    assert {one.sha256 for one in refused(shared, source)[0]} == {sha256(bomb).hexdigest()}


# ------------------------------------------------------------------------------------------------------ what is refused


def test_one_bad_event_does_not_stop_the_others(shared: Collector, token: str, source: str) -> None:
    """Each of many gets its own precise answer, in order; the good ones are recorded in the same commit."""
    bad = {
        "no actor": {key: item for key, item in event("e-2").items() if key != "actor"},
        "unknown field": event("e-3") | {"extra": 1},
        "no offset": event("e-4", occurred_at="2026-01-08T14:32:07"),
        "outcome": event("e-5", outcome="maybe"),
        "not an object": "e-6",
        "too deep": event("e-7", context={"a": [[[[[[[[1]]]]]]]]}),
        "too large": event("e-8", context={"a": "x" * 20_000}),
        "integer": event("e-9", context={"a": 2**53}),
        "reserved": event("e-10", context={"$enc": "x"}),
        "surrogate": event("e-11", context={"a": "\ud800"}),
        "nul": event("e-12", context={"a": "\0"}),
        "no context": event("e-13", action="role.grant"),
    }
    sent = [event("e-1"), *bad.values(), event("e-14")]
    answered = shared.results(token, sent, Audit_Instance="a", Audit_First_Seq="1")
    assert [one["status"] for one in answered] == ["recorded", *["refused"] * len(bad), "recorded"]
    assert [one["event_id"] for one in answered if one["status"] == "refused"] == [
        "e-2", "e-3", "e-4", "e-5", None, "e-7", "e-8", "e-9", "e-10", "e-11", "e-12", "e-13",
    ]  # fmt: skip
    reasons = [one["reason"] for one in answered if one["status"] == "refused"]
    for reason, word in zip(
        reasons,
        ["actor", "extra", "occurred_at", "outcome", "object", "levels", "16,384", "2^53", "$enc", "surrogate",
         "U+0000", "granted_role"],
        strict=True,
    ):  # fmt: skip
        assert word in reason
    assert [(r.event.event_id, r.receipt.source_seq) for r in of(shared, source)] == [("e-1", 1), ("e-14", 14)]
    kept, _ = refused(shared, source)
    assert [one.source_seq for one in kept] == list(range(2, 14))
    assert [one.reason for one in kept] == reasons
    assert [one.sha256 for one in kept] == [sha256(json.dumps(one).encode()).hexdigest() for one in bad.values()]


def test_a_refused_line_is_hashed_exactly_as_received(shared: Collector, token: str, source: str) -> None:
    """The client can show which of its bytes were refused: blanks, order and duplicates as they were."""
    lines = [b'{"event_id" : "e-1", "event_id":"e-2"}', b"{broken", b'\t{"a": 1e999}', b'"\xff\xfe"']
    body = b"\n".join([lines[0], json.dumps(event("e-3")).encode(), *lines[1:]])
    response = shared.raw(token, body, Content_Type="application/x-ndjson")
    assert [one["status"] for one in response.json()["results"]] == ["refused", "recorded", *["refused"] * 3]
    kept, sealed = refused(shared, source)
    assert [one.sha256 for one in kept] == [sha256(line).hexdigest() for line in lines]
    assert json.loads(kept[0].body) == {"event_id": "e-1", "event_id~": "e-2"}
    assert [record.event.context["claimed"] for record in sealed] == [{"event_id": "e-1"}, {}, {}, {}]
    array = b'[ {"event_id" : "e-4" }\n , {"event_id":"\\ud800"},"\xc3\xa9" ]'
    shared.raw(token, array)
    assert [one.sha256 for one in refused(shared, source)[0][4:]] == [
        sha256(piece).hexdigest() for piece in (b'{"event_id" : "e-4" }', b'{"event_id":"\\ud800"}', b'"\xc3\xa9"')
    ]


def test_credentials_in_a_refused_event_are_kept_nowhere(tmp_path: Path) -> None:
    """Not in the quarantine, not in the sealed refusal, not in a log, whether or not the body is JSON."""
    with running(tmp_path) as collector:
        token = collector.add("billing-api")
        for number, body in enumerate(
            [
                event("e-1", context={"password": SECRET}) | {"x": 1},
                event("e-2", outcome=f"password={SECRET}"),
                event(f"token={SECRET} x"),
                event("e-4", occurred_at=f"secret={SECRET}"),
                event("e-5", action=f"password={SECRET}"),
            ]
        ):
            assert collector.results(token, body)[0]["status"] == "refused", number
        assert collector.raw(token, b'{"password": "%s", broken' % SECRET.encode()).status == 400
        assert collector.raw(token, b'"Authorization: Bearer %s' % SECRET.encode()).status == 400
        assert len(refused(collector, "billing-api")[0]) == 7
        for path in tmp_path.iterdir():
            assert SECRET.encode() not in path.read_bytes(), path
            assert token.encode() not in path.read_bytes(), path


def test_a_refused_body_is_kept_within_bounds(shared: Collector, token: str, source: str) -> None:
    """64 KiB of a long body are kept, and the digest of all of it."""
    long = json.dumps(event("e-1", context={"a": "é€𝄞" * 100_000}), ensure_ascii=False).encode()
    broken = b"{" + "𝄞".encode() * 100_000
    deep = b"[" * 200_000
    assert shared.raw(token, long).json()["results"][0]["status"] == "refused"
    assert shared.raw(token, broken).status == 400
    assert shared.raw(token, deep).status == 400
    kept, _ = refused(shared, source)
    assert [one.sha256 for one in kept] == [sha256(body).hexdigest() for body in (long, broken, deep)]
    for one in kept:
        assert MAX_KEPT_BYTES - 16 < len(one.body.encode()) <= MAX_KEPT_BYTES + 16


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"[1,]", b"[1 2]", b"[1]x", b"{}{}", b"3", b'"text"', b"null", b"\xff", b"\xef\xbb\xbf{}", b"[",
     b"[{}", b"[{},", b'{"a":"\x01"}', "{}".encode("utf-16")],
)  # fmt: skip
def test_a_body_that_is_no_json_is_quarantined_whole(shared: Collector, token: str, source: str, body: bytes) -> None:
    """400, and one refusal with the digest of the bytes; nothing of it is taken for an event."""
    response = shared.raw(token, body)
    assert response.status == 400
    assert response.json()["error"]
    kept, _ = refused(shared, source)
    assert [one.sha256 for one in kept] == [sha256(body).hexdigest()]
    assert of(shared, source) == []


def test_a_thousand_events_are_taken_and_one_more_is_not(shared: Collector, token: str, source: str) -> None:
    """At the limit all are recorded; past it none is, and the request is quarantined as one."""
    events = [event(f"e-{number}") for number in range(1001)]
    lines = "\n".join(map(json.dumps, events)).encode()
    assert shared.post(token, events)[0] == 413
    assert shared.raw(token, lines, Content_Type="application/x-ndjson").status == 413
    assert of(shared, source) == []
    assert [one.sha256 for one in refused(shared, source)[0]] == [
        sha256(json.dumps(events).encode()).hexdigest(),
        sha256(lines).hexdigest(),
    ]
    assert {one["status"] for one in shared.results(token, events[:1000])} == {"recorded"}
    assert len(of(shared, source)) == 1000


def test_a_body_past_four_mebibytes_is_not_read_whole(shared: Collector, token: str, source: str) -> None:
    """Announced or in chunks without an end: the collector stops at its limit and says what the digest covers."""
    padded = json.dumps(event("e-1")).encode().ljust(MAX_BODY_BYTES)
    assert shared.raw(token, padded).json()["results"][0]["status"] == "recorded"
    assert shared.raw(token, padded + b" ").status == 413

    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):  # sixteen times the limit
            sent += 1
            yield b" " * 1_048_576

    assert shared.raw(token, endless()).status == 413
    assert sent == 64
    kept, _ = refused(shared, source)
    assert kept[0].sha256 == sha256(b"").hexdigest()
    assert "4,194,304 bytes" in kept[1].reason
    assert wait_for(lambda: shared.metric("auditlib_buffered_bytes") == 0)
    assert len(of(shared, source)) == 1


def test_a_catalogue_that_asks_for_more_loses_nothing_of_older_clients(tmp_path: Path) -> None:
    """What an older client sends is refused by the new catalogue, kept and sealed; the updated client is recorded."""
    stricter = extend_catalog(CATALOG, b'[actions."invoice.pay"]\nkind = "change"\nrequired = ["approved_by"]\n')
    old, new = event("e-1"), event("e-2", context={"amount": 17, "approved_by": "u_1"})
    with running(tmp_path) as collector:
        token = collector.add("billing-api")
        assert collector.results(token, event("e-0"))[0]["status"] == "recorded"
    with running(tmp_path, catalog=stricter) as collector:
        token = collector.add("billing-api")
        answered = collector.results(token, [event("e-0"), old, new])
        # Even the repeat is judged by today's catalogue: it is kept twice rather than not at all.
        assert [one["status"] for one in answered] == ["refused", "refused", "recorded"]
        assert "approved_by" in answered[1]["reason"]
        kept, sealed = refused(collector, "billing-api")
        assert parse_event(kept[1].body) == parse_event(old)
        assert sealed[1].event.context["claimed"]["event_id"] == "e-1"
        assert [record.event.event_id for record in of(collector, "billing-api")] == ["e-0", "e-2"]
    with running(tmp_path) as collector:  # the catalogue is taken back: the same event is welcome
        assert collector.results(collector.add("billing-api"), old)[0]["status"] == "recorded"


# --------------------------------------------------------------------------------------------------------- who comes in


def test_without_a_valid_token_nothing_is_taken(shared: Collector, token: str, source: str) -> None:
    """None, a wrong one, one more character, another scheme, two headers: 401, and the body is not even kept."""
    body = json.dumps(event("e-1")).encode()
    before = len(shared.refusals())
    for given in [None, "wrong", token + "x", token[:-1], "é".encode().decode("latin-1"), "x" * 10_000]:
        response = shared.raw(given, body)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert shared.raw(None, body, Authorization=f"Basic {token}").status == 401
    assert shared.raw(None, body, Authorization=token).status == 401
    headers = urllib3.HTTPHeaderDict({"Content-Type": "application/json"})
    for _ in range(2):
        headers.add("Authorization", f"Bearer {token}")
    host, port = shared.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("POST", "/v1/events")
    for name, text in headers.iteritems():
        connection.putheader(name, text)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    assert connection.getresponse().status == 401
    connection.close()
    assert of(shared, source) == []
    assert len(shared.refusals()) == before
    assert shared.raw(None, body, Authorization=f"bearer  {token}").status == 200
    wait_for(lambda: shared.records("audit.auth_failure"))


def test_a_revoked_token_is_refused_without_a_restart(shared: Collector, token: str, source: str) -> None:
    """The next request with it is 401, on the same connection; a new token of the source works at once."""
    assert shared.post(token, event("e-1"))[0] == 200
    revoke_tokens(shared.tokens, source)
    assert shared.post(token, event("e-2"))[0] == 401
    assert shared.post(shared.add(source), event("e-3"))[0] == 200
    assert [record.event.event_id for record in of(shared, source)] == ["e-1", "e-3"]


def test_tokens_that_cannot_be_read_turn_nobody_away(tmp_path: Path) -> None:
    """503, not 401: a client keeps what it has, and no attempt is counted as an attack."""
    with running(tmp_path) as collector:
        token = collector.add("billing-api")
        collector.tokens.rename(tmp_path / "away")
        response = collector.raw(token, json.dumps(event("e-1")).encode())
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        (tmp_path / "away").rename(collector.tokens)
        assert collector.post(token, event("e-1"))[0] == 200
    assert collector.records("audit.auth_failure") == []


def test_an_attacker_cannot_flood_the_trail_with_wrong_tokens(tmp_path: Path) -> None:
    """Five hundred attempts: every one is counted, a few records say so."""
    with running(tmp_path, limits=Limits(auth_seconds=3600.0)) as collector:
        for number in range(500):
            assert collector.post(f"guess-{number}", event(f"e-{number}"))[0] == 401
        assert collector.metric("auditlib_auth_failures_total") == 500
        first = wait_for(lambda: collector.records("audit.auth_failure"))
        assert len(first) == 1
    records = collector.records()
    assert {record.event.action for record in records} == {"audit.auth_failure"}
    assert len(records) == 2  # the first at once, the rest when the collector stopped
    assert sum(record.event.context["attempts"] for record in records) == 500
    assert records[1].event.context["addresses"] == ["127.0.0.1"]
    for record in records:
        CATALOG.check(record.event)


def test_nothing_can_be_read_changed_or_deleted(shared: Collector, token: str, source: str) -> None:
    """With a valid token, by every method, at every place where an event might be."""
    assert shared.post(token, event("e-1"))[0] == 200
    before = shared.records()
    places = [
        "/v1/events",
        "/v1/events/e-1",
        "/v1",
        "/v1/events?event_id=e-1",
        "/",
        "/v1/records",
        "/admin",
        "/metrics",
    ]
    for place in places:
        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "COPY"]:
            response = shared.request(method, place, headers={"Authorization": f"Bearer {token}"})
            allowed = (place == "/metrics" and method == "GET") or method == "OPTIONS"
            assert response.status in ({200, 204, 404} if allowed else {404, 405}), (method, place)
            assert b"e-1" not in response.data
            assert b"u_8842" not in response.data
    assert shared.post(token, event("e-2"), X_HTTP_Method_Override="DELETE")[0] == 200
    assert shared.records()[: len(before)] == before
    assert len(of(shared, source)) == 2


def test_every_answer_carries_the_security_headers_and_no_server_name(shared: Collector, token: str) -> None:
    """Good answers, refusals, errors, and pages that are not there."""
    answers = [
        shared.raw(token, b"[]"),
        shared.raw(token, b"x"),
        shared.raw(None, b"[]"),
        *(shared.request("GET", path) for path in ("/health", "/metrics", "/schema", "/nowhere", "/v1/events")),
    ]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers


def test_no_token_and_no_body_stands_in_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the most talkative level, through good requests, bad ones and a store that fails."""
    caplog.set_level(logging.DEBUG)
    with running(tmp_path, store=Faulty(tmp_path, ValueError("no such thing"))) as collector:
        token = collector.add("billing-api")
        body = json.dumps(event(SECRET)).encode()
        assert collector.raw(token, body).status == 503
        assert collector.raw(token + "x", body).status == 401
        host, port = collector.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(f"POST /v1/events HTTP/1.1\r\nAuthorization : Bearer {token}\r\n\r\n".encode())
            assert raw.recv(4096).startswith(b"HTTP/1.1 400")
    assert caplog.text
    assert token not in caplog.text
    assert SECRET not in caplog.text


# ------------------------------------------------------------------------------------------------- when things go wrong


class Faulty:
    """A real store in front of which a test puts a fault, or a door."""

    def __init__(self, folder: Path, fault: Exception | None = None) -> None:
        url = f"sqlite:///{folder / 'store.sqlite'}"
        init_store(url)
        self.store = open_store(url, role="writer")
        self.fault = fault
        self.door = threading.Event()
        self.door.set()
        self.waiting = threading.Semaphore(0)

    @property
    def identity(self) -> str:
        if self.fault is not None:
            raise self.fault
        return self.store.identity

    def append(self, records: Any, **others: Any) -> Any:
        self.waiting.release()
        assert self.door.wait(30)
        if self.fault is not None:
            raise self.fault
        return self.store.append(records, **others)


@pytest.mark.parametrize("fault", [UnavailableError("the disk is full."), ValueError("a fault of ours"), MemoryError()])
def test_what_the_store_did_not_take_is_not_acknowledged(tmp_path: Path, fault: Exception) -> None:
    """503 with Retry-After, never 500; sent again, it is recorded once."""
    store = Faulty(tmp_path, fault)
    with running(tmp_path, store=store) as collector:
        token = collector.add("billing-api")
        for body in (json.dumps(event("e-1")).encode(), b"no json"):
            response = collector.raw(token, body)
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0
            assert str(fault) not in response.json()["error"] or not str(fault)
        assert collector.request("GET", "/health").status == 503
        assert collector.metric("auditlib_store_errors_total") == 2
        assert collector.records() == collector.refusals() == []
        store.fault = None
        assert collector.results(token, event("e-1"))[0]["status"] == "recorded"
        wait_for(lambda: collector.request("GET", "/health").status == 200)
    assert len(collector.records()) == 1


def test_a_store_whose_file_is_gone_is_told_by_health(tmp_path: Path) -> None:
    """/health is 503 and events are not acknowledged; when the file is back, both are well again."""
    with running(tmp_path) as collector:
        token = collector.add("billing-api")
        assert collector.request("GET", "/health").json() == {"store": True}
        (tmp_path / "store.sqlite").rename(tmp_path / "away")
        wait_for(lambda: collector.request("GET", "/health").status == 503)
        assert collector.post(token, event("e-1"))[0] == 503
        (tmp_path / "away").rename(tmp_path / "store.sqlite")
        wait_for(lambda: collector.request("GET", "/health").status == 200)
        assert collector.post(token, event("e-1"))[0] == 200
    assert len(collector.records()) == 1


def test_past_its_limits_the_collector_says_so_and_holds_nothing(tmp_path: Path) -> None:
    """A source at its share gets 429, a full collector 503, both with Retry-After, at once; what waits is answered."""
    store = Faulty(tmp_path)
    store.door.clear()
    limits = Limits(requests=3, requests_a_source=2, threads=2)
    with running(tmp_path, store=store, limits=limits) as collector, ThreadPoolExecutor(8) as pool:
        one, two = collector.add("one"), collector.add("two")
        waiting = [pool.submit(collector.post, one, event(f"e-{number}")) for number in range(2)]
        waiting.append(pool.submit(collector.post, two, event("e-0")))
        wait_for(lambda: collector.metric("auditlib_requests_in_flight") == 3)
        for token, status in ((one, 429), (two, 503)):
            response = collector.raw(token, json.dumps(event("late")).encode())
            assert response.status == status
            assert int(response.headers["Retry-After"]) > 0
        assert collector.request("GET", "/health").status == 200
        assert collector.post("wrong", event("late"))[0] == 401
        store.door.set()
        assert [call.result()[0] for call in waiting] == [200, 200, 200]
        assert collector.post(one, event("late"))[0] == 200
        assert collector.metric("auditlib_requests_in_flight") == 0
    assert sorted(r.event.event_id for r in collector.records("invoice.pay")) == ["e-0", "e-0", "e-1", "late"]


def test_the_bytes_in_flight_are_bounded(tmp_path: Path) -> None:
    """Bodies that together pass the limit are refused with 503 while they come, and the room is given back."""
    store = Faulty(tmp_path)
    store.door.clear()
    with running(tmp_path, store=store, limits=Limits(buffered=1_000_000)) as collector, ThreadPoolExecutor(2) as pool:
        token = collector.add("billing-api")
        padded = json.dumps(event("e-1")).encode().ljust(800_000)
        waiting = pool.submit(collector.raw, token, padded)
        assert store.waiting.acquire(timeout=30)
        assert collector.metric("auditlib_buffered_bytes") == 800_000
        assert collector.raw(token, padded).status == 503
        store.door.set()
        assert waiting.result().status == 200
        assert collector.raw(token, padded).status == 200
        assert collector.metric("auditlib_buffered_bytes") == 0


def connect(collector: Collector) -> socket.socket:
    host, port = collector.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def everything(connection: socket.socket) -> bytes:
    """All that comes until the other side ends the connection, in whatever way."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def head(token: str, length: int | None, *more: str) -> bytes:
    lines = ["POST /v1/events HTTP/1.1", "Host: x", "Content-Type: application/json", f"Authorization: Bearer {token}"]
    lines += ["Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def test_a_client_that_dawdles_is_let_go(tmp_path: Path) -> None:
    """Half a head, silence, or a body that never ends: the connection is closed, and nothing is recorded."""
    limits = Limits(read_seconds=0.3, head_seconds=0.3)
    with running(tmp_path, limits=limits) as collector:
        token = collector.add("billing-api")
        with connect(collector) as silent, connect(collector) as half, connect(collector) as slow:
            half.sendall(b"POST /v1/events HTT")
            slow.sendall(head(token, 100) + b"{")
            assert everything(silent) == b""
            assert everything(half) == b""
            assert everything(slow).startswith(b"HTTP/1.1 408")
        with connect(collector) as again:  # also behind a request that was answered
            again.sendall(head(token, 2) + b"[]")
            assert again.recv(65536).startswith(b"HTTP/1.1 200")
            again.sendall(b"POST /v1/ev")
            everything(again)
        assert collector.metric("auditlib_requests_in_flight") == 0
    assert collector.records() == collector.refusals() == []


def test_a_client_that_hangs_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """In the middle of its body: no record, no refusal, no place taken."""
    with running(tmp_path) as collector:
        token = collector.add("billing-api")
        with connect(collector) as connection:
            connection.sendall(head(token, None) + b"5\r\n[1,2,\r\n")
            wait_for(lambda: collector.metric("auditlib_buffered_bytes") == 5)
        wait_for(lambda: collector.metric("auditlib_requests_in_flight") == 0)
    assert collector.records() == collector.refusals() == []


def test_too_many_connections_are_told_so(tmp_path: Path) -> None:
    """The one past the limit gets 503 with Retry-After; when another goes, there is room again."""
    with running(tmp_path, limits=Limits(connections=2)) as collector:
        collector.http.clear()
        with connect(collector) as one, connect(collector) as two:
            for connection in (one, two):
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            with connect(collector) as three:
                three.sendall(head("x", 2) + b"[]")
                answer = everything(three).lower()
                assert answer.startswith(b"http/1.1 503")
                assert b"retry-after: 1" in answer
        wait_for(lambda: collector.request("GET", "/health").status == 200)


def test_pipelined_requests_are_answered_in_order(shared: Collector, token: str, source: str) -> None:
    """Several requests in one packet, good and bad: each its own answer."""
    bodies = [json.dumps(event("e-1")).encode(), b"x", json.dumps(event("e-2")).encode()]
    with connect(shared) as connection:
        parts = [head(token, len(body)) + body for body in bodies[:2]]
        parts.append(head(token, len(bodies[2]), "Connection: close") + bodies[2])
        connection.sendall(b"".join(parts))
        answered = everything(connection)
    assert [answered.count(status) for status in (b"HTTP/1.1 200", b"HTTP/1.1 400")] == [2, 1]
    assert answered.index(b"e-1") < answered.index(b"HTTP/1.1 400") < answered.index(b"e-2")
    assert [record.event.event_id for record in of(shared, source)] == ["e-1", "e-2"]


def test_requests_cannot_be_smuggled(shared: Collector, token: str, source: str) -> None:
    """Two lengths, or a length and chunks, have no one meaning: no second request is seen in a body."""
    inner = head(token, 2) + b"[]"
    for more in (f"Content-Length: {len(inner) + 1}", "Content-Length: 2", "Transfer-Encoding: chunked"):
        with connect(shared) as connection:
            connection.sendall(head(token, len(inner), more) + inner)
            connection.shutdown(socket.SHUT_WR)
            assert b"HTTP/1.1 200" not in everything(connection)
    assert of(shared, source) == []


# ------------------------------------------------------------------------------------------------ many, and the process


def test_fifty_clients_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    """Fifty threads, each with its own instance, single events and batches: the store holds just what was answered."""
    with running(tmp_path) as collector:
        token = collector.add("billing-api")

        def client(number: int) -> list[dict[str, Any]]:
            answered = []
            for round_ in range(6):
                events = [event(f"e-{number}-{round_}-{index}") for index in range(1 if round_ % 2 else 20)]
                headers = {"Audit_Instance": f"i{number}", "Audit_First_Seq": str(1 + len(answered))}
                while (answer := collector.post(token, events, **headers))[0] in (429, 503):
                    pass
                assert answer[0] == 200, answer
                answered += answer[1]["results"]
            return answered

        with ThreadPoolExecutor(50) as pool:
            answered = [one for results in pool.map(client, range(50)) for one in results]
        stored = collector.records()
    assert {one["status"] for one in answered} == {"recorded"}
    assert len(stored) == len(answered) == 50 * 63
    assert {(r.receipt.source, r.receipt.source_seq, r.event.event_id) for r in stored} == {
        (one["source"], one["source_seq"], one["event_id"]) for one in answered
    }
    for number in range(50):
        mine = [r.receipt.source_seq for r in stored if r.receipt.source == f"billing-api/i{number}"]
        assert mine == list(range(1, 64))


def test_sigterm_answers_what_is_in_flight_and_ends_with_zero(tmp_path: Path) -> None:
    """A request half sent when the signal comes is answered after its durable commit; no new one is let in."""
    with process(tmp_path) as (collector, child):
        token = collector.add("billing-api")
        collector.http.clear()
        body = json.dumps(event("e-1")).encode()
        with connect(collector) as connection:
            connection.sendall(head(token, len(body)) + body[:10])
            wait_for(lambda: collector.metric("auditlib_requests_in_flight") == 1)
            child.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses_connections(collector))
            assert child.poll() is None
            connection.sendall(body[10:])
            assert b'"recorded"' in everything(connection)
        assert child.wait(30) == 0
        assert child.stderr is not None
        assert "Traceback" not in child.stderr.read()
    assert [record.event.event_id for record in collector.records()] == ["e-1"]


def refuses_connections(collector: Collector) -> bool:
    try:
        connect(collector).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_collector_killed_outright_has_what_it_acknowledged(tmp_path: Path) -> None:
    """SIGKILL while clients send: every acknowledged event is in the store."""
    acknowledged: list[str] = []
    with process(tmp_path) as (collector, child):
        token = collector.add("billing-api")

        def client(number: int) -> None:
            index = 0
            while True:
                event_id = f"e-{number}-{index}"
                try:
                    status, _ = collector.post(token, event(event_id))
                except urllib3.exceptions.HTTPError:
                    return
                if status == 200:
                    acknowledged.append(event_id)
                index += 1

        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(acknowledged) > 100)
        child.kill()
        for thread in threads:
            thread.join()
    assert set(acknowledged) <= {record.event.event_id for record in collector.records()}


def test_a_unix_socket_serves_its_owner_and_group(tmp_path: Path) -> None:
    """`unix:/path`: 0660, gone afterwards; what a killed collector left there does not stop the next."""
    path = tmp_path / "collector.socket"
    for stop in (signal.SIGKILL, signal.SIGTERM):
        with process(tmp_path, f"unix:{path}") as (collector, child):
            assert collector.url == f"unix:{path}"
            assert path.stat().st_mode & 0o777 == 0o660
            token = collector.add(f"source-{stop}")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                body = json.dumps(event("e-1")).encode()
                connection.sendall(head(token, len(body), "Connection: close") + body)
                assert b'"recorded"' in everything(connection)
            child.send_signal(stop)
            child.wait(30)
            assert path.exists() is (stop == signal.SIGKILL)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "collector")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def test_over_tls_events_are_taken_and_plain_text_is_not(tmp_path: Path) -> None:
    """A client that trusts the certificate gets in; one that speaks plain HTTP or TLS 1.1 does not."""
    tls = certificate(tmp_path)
    with running(tmp_path, tls=tls, ca_certs=str(tls[0])) as collector:
        token = collector.add("billing-api")
        assert collector.url.startswith("https://127.0.0.1:")
        assert collector.results(token, event("e-1"))[0]["status"] == "recorded"
        plain = urllib3.PoolManager(retries=False, timeout=10)
        with pytest.raises(urllib3.exceptions.HTTPError):
            plain.request("GET", collector.url.replace("https", "http") + "/health")
        with pytest.raises(urllib3.exceptions.SSLError):
            urllib3.PoolManager(retries=False).request("GET", f"{collector.url}/health")
        host, port = collector.url.removeprefix("https://").split(":")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection((host, int(port))) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
            old.wrap_socket(raw)
    assert len(collector.records()) == 1


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"listen": "nowhere"}, MalformedError, "is no address"),
        ({"listen": "127.0.0.1:99999"}, MalformedError, "is no address"),
        ({"listen": ":80"}, MalformedError, "is no address"),
        ({"listen": "203.0.113.1:80"}, UnavailableError, "listened on"),
        ({"listen": "unix:no/such/folder/s"}, UnavailableError, "listened on"),
        ({"listen": "unix:" + "x" * 200}, UnavailableError, "listened on"),
        ({"tls_cert": Path("cert.pem")}, MalformedError, "both"),
        ({"tls_key": Path("key.pem")}, MalformedError, "both"),
        ({"tls_cert": Path("no.pem"), "tls_key": Path("no.pem")}, MalformedError, "cannot be used"),
        ({"tls_cert": Path("key.pem"), "tls_key": Path("cert.pem")}, MalformedError, "cannot be used"),
    ],
)
def test_an_address_or_certificate_that_is_none_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], error: type[AuditlibError], word: str
) -> None:
    """The person at the command line gets one sentence, and nothing listens."""
    certificate(tmp_path)
    (tmp_path / "tokens").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=word):
        serve(Faulty(tmp_path), Tokens(tmp_path / "tokens"), CATALOG, now=clock, announce=pytest.fail, **options)


# --------------------------------------------------------------------------------------------- whatever anyone may send

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["\ud800", "\0", "2026-01-08T14:32:07Z", "role.grant", "e-1", 10**400, -0.0, 1e308]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["event_id", "action", "context", "$enc"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)
mutations = st.dictionaries(st.sampled_from([*event("x"), "more"]), values, max_size=4)
events = st.tuples(st.uuids(), mutations).map(lambda pair: event(str(pair[0])) | pair[1])
texts = st.one_of(
    st.binary(max_size=200),
    st.lists(values | events, max_size=5).map(lambda items: json.dumps(items).encode()),
    events.map(lambda item: json.dumps(item, ensure_ascii=False).encode(errors="surrogatepass")),
    st.lists(events, max_size=5).map(lambda items: b"\n".join(json.dumps(item).encode() for item in items)),
    st.text(alphabet='{}[]",:\\u0dE+-. \n\t\x00', max_size=80).map(str.encode),
    st.integers(1, 100_000).map(lambda depth: b'{"a":' * depth),
    st.integers(1, 100_000).map(lambda depth: b"[" * depth + b"]" * depth),
    st.integers(1, 100_000).map(lambda digits: b'{"a":' + b"9" * digits + b"}"),
    st.binary(max_size=60).map(lambda raw: b'{"event_id":"' + raw + b'"}'),
    events.map(lambda item: json.dumps(item).encode()[:-1] + b',"event_id":"other"}'),
)
header_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(str.strip)


@hypothesis.settings(
    max_examples=400 if LONG else 100,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    body=texts,
    kind=st.sampled_from(["application/json", "application/x-ndjson", "application/JSON; charset=utf-8", "text/xml"]),
    headers=st.dictionaries(
        st.sampled_from(["Audit_Instance", "Audit_First_Seq", "Audit_Sent_At", "Audit_Account"]),
        header_values | st.sampled_from(["1", "a", "2026-01-08T14:32:07Z"]),
        max_size=2,
    ),
    chunked=st.booleans(),
)
def test_whatever_is_sent_is_answered_and_accounted_for(
    shared: Collector, token: str, body: bytes, kind: str, headers: dict[str, str], chunked: bool
) -> None:
    """No 500 whatever the bytes; each event ends as a record or a refusal, each refused body as one refusal."""
    before = Counted.of(shared)
    response = shared.raw(token, iter([body[:7], body[7:]]) if chunked else body, Content_Type=kind, **headers)
    after = Counted.of(shared)
    assert response.status in (200, 400, 413, 415), response.data
    answer = response.json()
    if response.status == 200:
        statuses = [one["status"] for one in answer["results"]]
        assert len(statuses) == len(list(split(body, "ndjson" if "ndjson" in kind else "json")))
        refusals = statuses.count("refused")
        stored = statuses.count("recorded") + statuses.count("conflict")
    else:
        assert set(answer) == {"error"}
        refusals, stored = 1, 0
    assert (after.refusals - before.refusals, after.records - before.records) == (refusals, refusals + stored)


class Counted:
    """How many rows the store holds, asked of the database itself."""

    def __init__(self, records: int, refusals: int) -> None:
        self.records, self.refusals = records, refusals

    @classmethod
    def of(cls, collector: Collector) -> "Counted":
        url = collector.store_url
        file = url.removeprefix("sqlite:///")
        schema, connection = ("main", sqlite3.connect(file)) if file != url else ("auditlib", psycopg.connect(url))
        with contextlib.closing(connection):
            tables = (f"SELECT count(*) FROM {schema}.{table}" for table in ("records", "refusals"))
            return cls(*(connection.execute(query).fetchone()[0] for query in tables))


SCHEMATHESIS_CONFIG = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "413", "415"]
[checks.positive_data_acceptance]
expected-statuses = ["200"]
"""
SCHEMATHESIS_HOOKS = """
import schemathesis

@schemathesis.hook
def before_call(context, case, kwargs):
    # Two rules that OpenAPI has no words for: a number needs an instance, and no time lies before 1970.
    if "Audit-First-Seq" in case.headers:
        case.headers.setdefault("Audit-Instance", "a1")
    if str(case.headers.get("Audit-Sent-At", "9")) < "1971":
        del case.headers["Audit-Sent-At"]
"""


def test_the_collector_does_what_its_schema_says(shared: Collector, tmp_path: Path) -> None:
    """schemathesis, all its checks: no 500, no status and no answer that /schema does not describe."""
    token = shared.add("import:schemathesis")
    before = Counted.of(shared)
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS_CONFIG)
    (tmp_path / "hooks.py").write_text(SCHEMATHESIS_HOOKS)
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["--config-file", "schemathesis.toml", "run", f"{shared.url}/schema", "--checks", "all", "--no-color"]
    command += ["--header", f"Authorization: Bearer {token}", "--max-examples", "100" if LONG else "40", "--seed", "1"]
    command += ["--continue-on-failure"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks.py", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 selected" in done.stdout
    after = Counted.of(shared)
    assert after.refusals > before.refusals
    assert after.records > before.records
    assert shared.metric('auditlib_responses_total{code="500"}') == 0
