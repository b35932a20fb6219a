"""The S3 service enforces what the tests that use it rest on, and the proxy in front of it fails as it is told."""

import base64
import contextlib
import datetime as dt
import hashlib
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest
import s3_service as services
from faulty_proxy import CutUpload, Delay, Drip, FaultyProxy, Hang, Reset, Status, Truncate
from s3_service import SERVICES, refusal

HOUR = dt.timedelta(hours=1)
DENIED = (403, "AccessDenied")


@pytest.fixture(scope="module")
def service():
    yield services.s3_service()
    services.leave_s3_service()


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """A folder of our own, and what two starts in it at once printed; stopped at the end, with nothing left behind."""
    services.require_boto3()
    folder = tmp_path_factory.mktemp("own") / "s3"
    try:
        running = [subprocess.Popen([SERVICES / "s3-start", folder], stdout=subprocess.PIPE) for _ in range(2)]
        said = [start.communicate(timeout=services.START_SECONDS)[0] for start in running]
        if services.NO_SERVICE in (codes := [start.returncode for start in running]):
            services.unavailable("s3-start says above why")
        assert codes == [0, 0]
        yield folder, said
    finally:
        services.stop(folder)
    services.stop(folder)  # a second stop finds nothing to do
    assert not folder.exists()
    conf = str(folder / "ceph.conf").encode()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # ended meanwhile
            assert conf not in process.read_bytes().split(b"\0")


@pytest.fixture(scope="module")
def own(starts):
    """A service that these tests may crash."""
    folder, _ = starts
    with services.own_s3_service(folder, keep=True) as service:
        yield service


@pytest.fixture(scope="module")
def s3(service):
    return service.client()


@pytest.fixture(scope="module")
def operator(service):
    return service.client("operator")


@pytest.fixture(scope="module")
def readonly(service):
    return service.client("readonly")


@pytest.fixture(scope="module")
def bucket(service):
    return service.new_bucket()


@pytest.fixture
def key(request):
    """A key of its own for each test, so that all may share a bucket."""
    return f"{request.node.name}/k"


@pytest.fixture
def record(request):
    """Keep what servers differ in: in the test's output and among its properties (--junitxml)."""

    def keep(name, value):
        print(f"{name}: {value}")
        request.node.user_properties.append((name, value))

    return keep


def in_(span):
    """That far from now, in the whole seconds a lock can hold."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0) + span


def put(s3, bucket, key, body=b"one", mode=None, until=None):
    """Where a new version lies: the arguments with which it is read and deleted."""
    lock = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": until or in_(HOUR)} if mode else {}
    written = s3.put_object(Bucket=bucket, Key=key, Body=body, **lock)
    return {"Bucket": bucket, "Key": key, "VersionId": written["VersionId"]}


def body(s3, where):
    # Not `with ... as stream`: that is the raw stream, whose errors are urllib3's.
    with contextlib.closing(s3.get_object(**where)["Body"]) as stream:
        return stream.read()


def retention(s3, where):
    got = s3.get_object_retention(**where)["Retention"]
    return got["Mode"], got["RetainUntilDate"]


def batch_refusal(client, bucket, batch, bypass):
    """The code for its only key, or for the whole call where Ceph refuses that."""
    from botocore.exceptions import ClientError

    try:
        answer = client.delete_objects(Bucket=bucket, Delete=batch, **bypass)
    except ClientError as error:
        return error.response["Error"]["Code"]
    assert not answer.get("Deleted")
    return answer["Errors"][0]["Code"]


# --------------------------------------------------------------------------------------------- what locks promise


def test_a_bucket_with_lock_has_versions_that_cannot_be_suspended(service, s3, bucket):
    """Lock implies versioning, for good."""
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    suspended = {"Status": "Suspended"}
    assert refusal(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=suspended)[0] == 409
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_a_bucket_without_lock_takes_no_locks(service, s3, key):
    """A locked put into it is refused, with versions or without."""
    for versioning in (True, False):
        bucket = service.new_bucket(lock=False, versioning=versioning)
        assert s3.get_bucket_versioning(Bucket=bucket).get("Status") == ("Enabled" if versioning else None)
        lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": in_(HOUR)}
        assert refusal(s3.put_object, Bucket=bucket, Key=key, Body=b"", **lock)[0] == 400
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("who", ["owner", "operator"])
def test_a_compliance_lock_outlasts_everyone(service, s3, bucket, key, who):
    """Neither owner nor operator deletes, shortens or weakens it, by bypass or in a batch; nothing changes."""
    client, until = service.client(who), in_(HOUR)
    where = put(s3, bucket, key, mode="COMPLIANCE", until=until)
    for bypass in ({}, {"BypassGovernanceRetention": True}):
        assert refusal(client.delete_object, **where, **bypass) == DENIED
        for mode, date in (("COMPLIANCE", in_(HOUR / 2)), ("GOVERNANCE", until), ("GOVERNANCE", in_(2 * HOUR))):
            weaker = {"Mode": mode, "RetainUntilDate": date}
            assert refusal(client.put_object_retention, **where, Retention=weaker, **bypass)[0] == 403
        batch = {"Objects": [{"Key": key, "VersionId": where["VersionId"]}]}
        assert batch_refusal(client, bucket, batch, bypass) == "AccessDenied"
    assert retention(s3, where) == ("COMPLIANCE", until)
    assert body(s3, where) == b"one"


def test_a_compliance_lock_can_be_lengthened(s3, bucket, key):
    """Later is allowed, to the second, and holds."""
    where, later = put(s3, bucket, key, mode="COMPLIANCE"), in_(2 * HOUR)
    s3.put_object_retention(**where, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": later})
    assert retention(s3, where) == ("COMPLIANCE", later)


def test_an_expired_lock_holds_nothing(s3, bucket, key):
    """A version locked for two seconds is refused before and deleted after."""
    until = in_(dt.timedelta(seconds=3))
    where = put(s3, bucket, key, mode="COMPLIANCE", until=until)
    assert refusal(s3.delete_object, **where) == DENIED
    time.sleep((until - dt.datetime.now(dt.UTC)).total_seconds() + 1.1)
    s3.delete_object(**where)
    assert refusal(s3.get_object, **where)[0] == 404


def test_a_governance_lock_yields_to_a_bypass_alone(s3, bucket, key):
    """The owner's delete and shortening are refused until they ask for the bypass."""
    where, sooner = put(s3, bucket, key, mode="GOVERNANCE"), in_(HOUR / 2)
    shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": sooner}
    assert refusal(s3.delete_object, **where) == DENIED
    assert refusal(s3.put_object_retention, **where, Retention=shorter) == DENIED
    s3.put_object_retention(**where, Retention=shorter, BypassGovernanceRetention=True)
    assert retention(s3, where) == ("GOVERNANCE", sooner)
    s3.delete_object(**where, BypassGovernanceRetention=True)
    assert refusal(s3.get_object, **where)[0] == 404


def test_an_explicit_deny_keeps_the_operator_from_the_bypass(service, s3, operator, key):
    """With deny_bypass an operator who may delete versions still cannot bypass GOVERNANCE."""
    bucket = service.new_bucket(deny_bypass=True)
    where = put(operator, bucket, key, mode="GOVERNANCE")
    assert refusal(operator.delete_object, **where) == DENIED
    assert refusal(operator.delete_object, **where, BypassGovernanceRetention=True) == DENIED
    assert body(s3, where) == b"one"
    operator.delete_object(**put(operator, bucket, key))


def test_whether_a_bypass_never_granted_is_refused_is_recorded(s3, operator, bucket, key, record):
    """Ceph 16.2 grants the bypass to whoever may delete; AWS refuses it: the record says which this server does."""
    where = put(s3, bucket, key, mode="GOVERNANCE")
    assert refusal(operator.delete_object, **where) == DENIED
    try:
        refused = refusal(operator.delete_object, **where, BypassGovernanceRetention=True)
        record("ungranted_bypass", "refused")
        assert refused == DENIED
        assert body(s3, where) == b"one"
    except AssertionError:
        record("ungranted_bypass", "allowed")
        assert refusal(s3.get_object, **where)[0] == 404


def test_a_default_retention_locks_a_plain_put(service, s3, key):
    """A put without a lock gets the bucket's: one day from now."""
    bucket = service.new_bucket(default_retention=("GOVERNANCE", 1))
    where = put(s3, bucket, key)
    mode, until = retention(s3, where)
    assert mode == "GOVERNANCE"
    assert abs(until - in_(24 * HOUR)) < dt.timedelta(minutes=1)
    assert refusal(s3.delete_object, **where) == DENIED


def test_whether_a_multipart_upload_keeps_its_lock_is_recorded(s3, bucket, key, record):
    """Ceph 16.2 drops the lock without a word, so a lock counts only once it was read back."""
    where = {"Bucket": bucket, "Key": key}
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": in_(HOUR)}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where, **lock)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"part")
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    head = s3.head_object(**where)
    assert head.get("ObjectLockMode") in (None, "GOVERNANCE")
    record("multipart_lock", "kept" if head.get("ObjectLockMode") else "dropped")


# -------------------------------------------------------------------------------------------- versions and markers


def test_a_lock_does_not_keep_others_from_covering_the_object(s3, operator, bucket, key):
    """A newer version or a delete marker shadows a locked one, which stays readable by its version."""
    locked = put(s3, bucket, key, mode="COMPLIANCE")
    plain = {"Bucket": bucket, "Key": key}
    newer = put(operator, bucket, key, body=b"forged")
    assert body(s3, plain) == b"forged"
    marker = operator.delete_object(**plain)
    assert marker["DeleteMarker"] is True
    assert refusal(s3.get_object, **plain) == (404, "NoSuchKey")
    assert body(s3, locked) == b"one"
    s3.delete_object(**plain, VersionId=marker["VersionId"])
    s3.delete_object(**newer)
    assert body(s3, plain) == b"one"


def test_versions_are_listed_newest_first_with_markers_in_pages(s3, bucket, key):
    """Every version and marker appears once, across pages of two, and one alone is the latest."""
    versions = [put(s3, bucket, key, body=b"%d" % n)["VersionId"] for n in range(3)]
    marker = s3.delete_object(Bucket=bucket, Key=key)["VersionId"]
    versions.append(put(s3, bucket, key, body=b"3")["VersionId"])
    other = put(s3, bucket, key + "2")["VersionId"]
    pages = list(
        s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key, PaginationConfig={"PageSize": 2})
    )
    assert len(pages) == 3
    listed = [v for page in pages for v in page.get("Versions", [])]
    assert [v["VersionId"] for v in listed] == [*reversed(versions), other]
    assert [m["VersionId"] for page in pages for m in page.get("DeleteMarkers", [])] == [marker]
    assert [v["VersionId"] for v in listed if v["IsLatest"]] == [versions[-1], other]


# ------------------------------------------------------------------------------------------------- what puts check


def test_a_body_that_differs_from_its_md5_is_refused(s3, bucket, key):
    """Content-MD5 guards a put on the wire; the refused body is not stored."""
    wrong, right = (base64.b64encode(hashlib.md5(b).digest()).decode() for b in (b"another", b"one"))
    assert refusal(s3.put_object, Bucket=bucket, Key=key, Body=b"one", ContentMD5=wrong) == (400, "BadDigest")
    assert refusal(s3.head_object, Bucket=bucket, Key=key)[0] == 404
    s3.put_object(Bucket=bucket, Key=key, Body=b"one", ContentMD5=right)


def test_whether_if_none_match_is_honoured_is_recorded(s3, bucket, key, record):
    """Honoured, it leaves one version; ignored (Ceph 16.2), it leaves both: never an overwrite without a trace."""
    written = s3.put_object(Bucket=bucket, Key=key, Body=b"1", IfNoneMatch="*")
    first = {"Bucket": bucket, "Key": key, "VersionId": written["VersionId"]}
    try:
        refused = refusal(s3.put_object, Bucket=bucket, Key=key, Body=b"2", IfNoneMatch="*")
        expected, outcome = 1, "honoured"
        assert refused == (412, "PreconditionFailed")
    except AssertionError:
        expected, outcome = 2, "ignored"
    record("if_none_match", outcome)
    assert len(s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]) == expected
    assert body(s3, first) == b"1"


def test_the_read_only_identity_reads_and_writes_nothing(service, s3, readonly, bucket, key):
    """Get and list succeed on bytes, versions and locks; every write is refused and leaves no trace."""
    where, plain = put(s3, bucket, key, mode="GOVERNANCE"), {"Bucket": bucket, "Key": key}
    assert body(readonly, where) == b"one"
    assert retention(readonly, where)[0] == "GOVERNANCE"
    assert readonly.head_object(**where)["ObjectLockMode"] == "GOVERNANCE"
    assert readonly.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] == 1
    assert readonly.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert "ObjectLockConfiguration" in readonly.get_object_lock_configuration(Bucket=bucket)
    longer = {"Mode": "GOVERNANCE", "RetainUntilDate": in_(2 * HOUR)}
    before = readonly.list_object_versions(Bucket=bucket, Prefix=key)
    for call, arguments in [
        (readonly.put_object, {**plain, "Body": b"two"}),
        (readonly.put_object, {"Bucket": bucket, "Key": key + "2", "Body": b"two"}),
        (readonly.delete_object, plain),
        (readonly.delete_object, where),
        (readonly.delete_object, {**where, "BypassGovernanceRetention": True}),
        (readonly.put_object_retention, {**where, "Retention": longer}),
        (readonly.put_object_legal_hold, {**where, "LegalHold": {"Status": "ON"}}),
        (readonly.create_multipart_upload, plain),
        (readonly.put_bucket_policy, {"Bucket": bucket, "Policy": "{}"}),
        (readonly.put_bucket_versioning, {"Bucket": bucket, "VersioningConfiguration": {"Status": "Suspended"}}),
        (readonly.create_bucket, {"Bucket": bucket + "-2"}),
        (readonly.delete_bucket, {"Bucket": bucket}),
    ]:
        assert refusal(call, **arguments)[0] == 403, arguments
    after = readonly.list_object_versions(Bucket=bucket, Prefix=key)
    assert after["Versions"] == before["Versions"]
    assert after.get("DeleteMarkers") == before.get("DeleteMarkers")


# ---------------------------------------------------------------------------------------------------- life and death


def listening(pid):
    """The addresses a process listens on, as /proc writes them, without their ports."""
    sockets = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(fd.readlink()))
        except FileNotFoundError:
            continue
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:  # 0A: LISTEN
                yield fields[1].split(":")[0]


def test_the_service_is_private_to_this_machine_and_user(own):
    """Its daemons listen on 127.0.0.1 alone and its keys are readable by their owner alone."""
    addresses = [address for pid in own.pids().values() for address in listening(pid)]
    assert len(addresses) >= 3
    assert set(addresses) == {"0100007F"}
    assert stat.S_IMODE((own.folder / "s3.env").stat().st_mode) == 0o600
    assert stat.S_IMODE(own.folder.stat().st_mode) == 0o700


def test_two_starts_at_once_make_one_service(starts, own):
    """Both print the same keys, those of the three daemons that run."""
    folder, said = starts
    assert said[0] == said[1] == (folder / "s3.env").read_bytes()
    assert set(own.pids()) == {"mon", "osd", "rgw"}


def test_a_later_start_finds_the_first(own):
    """Nothing is started twice, and the keys stay."""
    before = own.pids()
    variables = services.start(own.folder)
    assert own.pids() == before
    assert variables["OWNER_SECRET"] == own.identities["owner"].secret


@pytest.mark.parametrize("dies", ["gateway", "osd", "both"])
def test_objects_and_locks_survive_kill_9(own, dies):
    """Whatever was acknowledged before the crash is there after it, byte for byte and still locked."""
    bucket, s3, until = own.new_bucket(), own.client(), in_(HOUR)
    put_ = [put(s3, bucket, f"{n:02}", os.urandom(1000 * n), "COMPLIANCE", until) for n in range(20)]
    bodies = [body(s3, where) for where in put_]
    if dies != "gateway":
        own.kill_osd()
    if dies != "osd":
        own.kill_gateway()
    from botocore.exceptions import BotoCoreError

    with pytest.raises(BotoCoreError):  # refused by a dead gateway, hanging behind a dead OSD
        own.client(read_timeout=0.5).put_object(Bucket=bucket, Key="meanwhile", Body=b"")
    own.restart()
    assert [body(s3, where) for where in put_] == bodies
    assert retention(s3, put_[-1]) == ("COMPLIANCE", until)
    assert refusal(s3.delete_object, **put_[-1]) == DENIED
    put(s3, bucket, "after")


def test_where_it_cannot_be_had_it_says_so(tmp_path):
    """Without Ceph and apt-get: one sentence and exit code 77."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "cat", "chmod", "dirname", "flock", "id", "ls", "mkdir"):
        source = next(p for d in os.environ["PATH"].split(":") if (p := Path(d) / name).exists())
        (tools / name).symlink_to(source)
    done = subprocess.run(
        [tools / "bash", SERVICES / "s3-start", tmp_path / "s3"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == services.NO_SERVICE
    assert len(done.stderr.splitlines()) == 1
    assert "AUDITLIB_TEST_S3_ENDPOINT" in done.stderr


def test_it_takes_no_folder_that_holds_other_files(tmp_path):
    """A folder it did not make is left as it is, by start and by stop."""
    (tmp_path / "precious").write_text("1")
    done = subprocess.run([SERVICES / "s3-start", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "holds other files" in done.stderr
    services.stop(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_a_missing_service_skips_but_fails_on_ci(monkeypatch):
    """CI=true turns the skip into a failure: a lock test that did not run proves nothing."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Ceph"):
        services.unavailable("no Ceph")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Ceph"):
        services.unavailable("no Ceph")


# ------------------------------------------------------------------------------------------------------- the proxy


@pytest.fixture
def proxy(service):
    with FaultyProxy(service.endpoint) as proxy:
        yield proxy


@pytest.fixture
def through(service, proxy):
    """The owner's client by way of the proxy, with a timeout that a test can wait for."""
    return service.client(endpoint=proxy.endpoint, read_timeout=1)


def fails(call, error, **arguments):
    """The named botocore error, and not one that is a kind of it."""
    from botocore import exceptions

    with pytest.raises(getattr(exceptions, error)) as caught:
        call(**arguments)
    assert type(caught.value).__name__ == error


def versions(s3, bucket, key):
    return len(s3.list_object_versions(Bucket=bucket, Prefix=key).get("Versions", []))


def test_without_rules_the_proxy_changes_nothing(through, proxy, bucket, key):
    """Signatures hold although the client signs for the proxy's port; bodies, locks and listings pass whole."""
    large = os.urandom(3_000_000)
    where = put(through, bucket, key + " ä+%/~", large, "GOVERNANCE")
    assert body(through, where) == large
    assert through.head_object(**where)["ContentLength"] == len(large)
    assert retention(through, where)[0] == "GOVERNANCE"
    assert versions(through, bucket, key) == 1
    assert refusal(through.delete_object, **where) == DENIED
    assert (proxy.count(), proxy.count("PUT"), proxy.count(path="versions")) == (6, 1, 1)
    assert [r.status for r in proxy.requests] == [200, 200, 200, 200, 200, 403]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("fault", [Status, Reset, Hang])
def test_a_put_may_fail_before_or_after_it_was_stored(through, proxy, s3, bucket, key, fault, after):
    """503, reset and timeout look alike to the client whether the server stored the object or not."""
    proxy.add(fault(after=after), method="PUT", times=1)
    where = {"Bucket": bucket, "Key": key, "Body": b"one"}
    if fault is Status:
        assert refusal(through.put_object, **where) == (503, "SlowDown")
    else:
        fails(through.put_object, "ReadTimeoutError" if fault is Hang else "ConnectionClosedError", **where)
    assert versions(s3, bucket, key) == int(after)
    through.put_object(**where)
    assert versions(s3, bucket, key) == 1 + int(after)


def test_a_rule_strikes_the_nth_of_the_requests_it_names(through, proxy, bucket):
    """Method, path and count choose; everything else passes."""
    proxy.add(Status(500, "InternalError"), method="PUT", path="/seals/", nth=2)
    answers = []
    for key in ("seals/1", "pages/1", "seals/2", "seals/3"):
        try:
            answers.append(refusal(through.put_object, Bucket=bucket, Key=key, Body=b""))
        except AssertionError:
            answers.append("stored")
    assert answers == ["stored", "stored", (500, "InternalError"), "stored"]
    assert proxy.count("PUT", "/seals/") == 3
    proxy.clear()
    assert proxy.count() == 0


def test_a_cut_upload_is_not_stored(through, proxy, s3, bucket, key):
    """Half a body, then a reset: the server keeps no half objects."""
    proxy.add(CutUpload(keep=500), method="PUT")
    fails(through.put_object, "ConnectionClosedError", Bucket=bucket, Key=key, Body=bytes(1000))
    assert versions(s3, bucket, key) == 0


def test_a_truncated_body_is_noticed_by_its_length(through, proxy, s3, bucket, key):
    """The client knows the length it was promised."""
    where = put(s3, bucket, key, bytes(1000))
    proxy.add(Truncate(keep=500), method="GET", times=1)
    fails(body, "ResponseStreamingError", s3=through, where=where)
    assert body(through, where) == bytes(1000)


def test_a_slow_drip_outlasts_any_read_timeout(through, proxy, s3, bucket, key):
    """Each piece comes in time, so the read takes longer than the timeout and succeeds."""
    where = put(s3, bucket, key, bytes(7))
    proxy.add(Drip(size=1, pause=0.2), method="GET")
    started = time.monotonic()
    assert body(through, where) == bytes(7)
    assert time.monotonic() - started > 1.2


def test_a_delay_only_delays(through, proxy, bucket, key):
    """Within the client's timeout it succeeds, later."""
    proxy.add(Delay(0.4), nth=1)
    started = time.monotonic()
    put(through, bucket, key)
    assert time.monotonic() - started > 0.4


def test_behind_the_proxy_a_dead_server_resets(bucket, service):
    """A proxy whose server is gone closes the connection, as the server would."""
    with FaultyProxy("http://127.0.0.1:1") as proxy:
        fails(service.client(endpoint=proxy.endpoint).head_bucket, "ConnectionClosedError", Bucket=bucket)


def test_closing_the_proxy_ends_its_hangs(service, bucket):
    """A test need not wait for the requests it left hanging."""
    started = time.monotonic()
    with FaultyProxy(service.endpoint) as proxy:
        proxy.add(Hang(30))
        client = service.client(endpoint=proxy.endpoint, read_timeout=0.3)
        fails(client.head_bucket, "ReadTimeoutError", Bucket=bucket)
    assert time.monotonic() - started < 10
