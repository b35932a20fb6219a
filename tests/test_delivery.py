"""A packet that was handed over stays as it was, and the trail itself says what became of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import simulator
import typer
from packets import ROOT, Packet, event, read_folder, sample, sample_vault
from s3_service import refusal, s3_service
from simulator import KEY
from typer.testing import CliRunner

from auditlib.cli import handover
from auditlib.copying import copy_vault
from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.formats.document import Retention
from auditlib.formats.keys import SigningKey
from auditlib.formats.layout import packet_key
from auditlib.formats.times import DAY, SECOND, parse_time
from auditlib.keyfiles import load_signing_key, write_key_files
from auditlib.packet import delivery as deliveries
from auditlib.packet.bag import write_bag
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet
from auditlib.packet.delivery import deliver, list_packets, withdraw
from auditlib.packet.transmittal import Supersedes, sign_packet
from auditlib.state import SealerState
from auditlib.trail import open as open_trail
from auditlib.vault import Lock
from auditlib.vault.local import LocalVault
from auditlib.vault.s3 import S3Vault

ADA = SigningKey("ada@acme.example", bytes(range(64, 96)))
GRACE = SigningKey("grace@acme.example", bytes(range(96, 128)))
PERIOD = {"since": "2026-03-01", "until": "2026-04-01"}
PACKET = "data/packet.json"
LATER = parse_time("2026-04-10T00:00:00Z")
RETENTION = Retention(1, "COMPLIANCE")  # days; what the tests lock on a real server is soon gone


class World(NamedTuple):
    """A trail of two batches, the packets that were built from it, by name, and their digests."""

    folder: Path
    packets: dict[str, Path]
    digests: dict[str, str]

    @property
    def url(self) -> str:
        return str(self.folder / "vault")

    @property
    def state(self) -> SealerState:
        return SealerState(self.folder / "state", KEY.verifier)

    def deliver(self, name: str) -> deliveries.Delivery:
        return deliver(self.packets[name], self.url, KEY, self.state, actor="ada", now=lambda: LATER)

    def withdraw(self, digest: str, reason: str = "The wrong period.") -> deliveries.Withdrawal:
        return withdraw(digest, self.url, KEY, self.state, reason=reason, actor="ada", now=lambda: LATER)

    def listed(self) -> list[deliveries.Listed]:
        with open_trail(self.url, keys=KEY.verifier) as trail:
            return list_packets(trail)

    def sign(self, name: str, supersedes: str | None = None) -> None:
        instead = Supersedes(self.digests[supersedes], f"{supersedes} was wrong.") if supersedes else None
        sign_packet(self.packets[name], ADA, now=LATER, preparer="Ada Okafor", supersedes=instead)

    def snapshot(self) -> dict[str, str]:
        return simulator.snapshot(LocalVault(self.url))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Packet `first` rests on one batch; `second` and `third` on both. In the second are two late grants."""
    folder = tmp_path_factory.mktemp("made")
    trail = simulator.Trail(folder)
    trail.clock = simulator.Clock(parse_time("2026-04-03T00:00:00Z"))
    trail.create(retention=RETENTION)
    digests, packets = {}, {}

    def build(name: str, **more: str) -> None:
        packets[name] = folder / f"{name}.zip"
        given = {**PERIOD, **more}
        built = build_packet("role-grants", str(folder / "vault"), given, packets[name], keys=KEY.verifier)
        digests[name] = built.packet_digest

    with trail.sealer() as sealer:
        sealer.add([event(f"early-{day}", at=f"2026-03-{day:02}T12:00:00Z") for day in range(1, 10)])
        sealer.flush()
    build("first")
    late = "2026-04-02T00:00:00Z"
    with trail.sealer() as sealer:
        sealer.add(
            [
                event("late-1", at="2026-03-20T12:00:00Z", recorded=late),
                event("late-2", at="2026-03-31T23:59:59Z", recorded=late, outcome="denied"),
                event("past-the-period", at="2026-04-01T00:00:00Z", recorded=late),
                event("another-action", "user.login", "2026-03-20T12:00:00Z", recorded=late),
            ]
        )
        sealer.flush()
    build("second")
    build("third", entitlement="auditor")
    return World(folder, packets, digests)


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy of it, nothing signed or delivered."""
    folder = tmp_path / "world"
    shutil.copytree(made.folder, folder)
    return World(folder, {name: folder / path.name for name, path in made.packets.items()}, made.digests)


def events_of(world: World) -> list[dict[str, Any]]:
    with open_trail(world.url, keys=KEY.verifier) as trail:
        return [json.loads(text) for text in trail.events(action="evidence.packet").arrow()["context"].to_pylist()]


# --- delivered ------------------------------------------------------------------------------------------------


def test_a_delivered_packet_is_kept_and_told(world: World) -> None:
    """The zip stands under its digest, byte for byte; one event tells of it; the trail verifies."""
    world.sign("first")
    told = world.deliver("first")
    stored = (Path(world.url) / packet_key(world.digests["first"])).read_bytes()
    assert stored == world.packets["first"].read_bytes()
    (context,) = events_of(world)
    assert context == {
        "checkpoint": 1,
        "evidence_digest": told.evidence_digest,
        "packet_digest": world.digests["first"],
        "period": {"since": "2026-03-01T00:00:00Z", "until": "2026-04-01T00:00:00Z"},
        "preparer": "Ada Okafor",
        "reason": None,
        "request": "role-grants",
        "sha256": sha256(stored).hexdigest(),
        "state": "delivered",
        "supersedes": None,
    }
    (listed,) = world.listed()
    assert (listed.status, listed.stored, listed.checkpoint) == ("current", "as sealed", 1)
    assert listed.delivered_at == "2026-04-10T00:00:00Z"
    with open_trail(world.url, keys=KEY.verifier) as trail:
        report = trail.verify(deep=True)
        assert trail.seals[-1].counts.actions == {"evidence.packet": 1}  # a batch of its own
    assert report.ok


def test_a_folder_is_delivered_as_the_zip_it_makes(world: World, tmp_path: Path) -> None:
    """Whatever it came in, the stored bytes are the same."""
    world.sign("first")
    shutil.unpack_archive(world.packets["first"], tmp_path / "folder")
    deliver(tmp_path / "folder", world.url, KEY, world.state, actor="ada", now=lambda: LATER)
    stored = Path(world.url) / packet_key(world.digests["first"])
    assert stored.read_bytes() == world.packets["first"].read_bytes()


def test_delivered_twice_is_delivered_once(world: World) -> None:
    """The second time says the same and writes nothing; with another signature on it, it is refused."""
    world.sign("first")
    first = world.deliver("first")
    before = world.snapshot()
    assert world.deliver("first") == first
    sign_packet(world.packets["first"], GRACE, now=LATER)
    with pytest.raises(MismatchError, match="never changes"):
        world.deliver("first")
    assert world.snapshot() == before


def test_the_sample_packet_is_delivered_to_a_copy_of_the_sample(tmp_path: Path) -> None:
    """As the README's reader would: the sample trail, its own key, a packet of the sample."""
    shutil.copytree(sample_vault(), tmp_path / "vault")
    key = load_signing_key(ROOT / "data-samples" / "sample.key")
    write_bag(sample(), tmp_path / "packet.zip")
    sign_packet(tmp_path / "packet.zip", ADA, now=LATER + 90 * DAY, preparer="Ada")
    url, state = str(tmp_path / "vault"), SealerState(tmp_path / "state", key.verifier)
    deliver(tmp_path / "packet.zip", url, key, state, actor="ada", now=lambda: LATER + 100 * DAY)
    with open_trail(url, keys=key.verifier) as trail:
        (listed,) = list_packets(trail)
    assert (listed.status, listed.late_events, listed.stored) == ("current", 0, "as sealed")


def test_a_crash_before_the_event_is_finished_by_delivering_again(world: World) -> None:
    """The object alone is harmless: nothing lists it, and the same packet takes its place."""
    world.sign("first")
    vault, key = LocalVault(world.url), packet_key(world.digests["first"])
    vault.put(key, world.packets["first"].read_bytes(), Lock("COMPLIANCE", LATER))
    assert world.listed() == []
    world.deliver("first")
    assert [one.stored for one in world.listed()] == ["as sealed"]


def test_an_object_planted_in_the_packets_place_stops_the_delivery(world: World) -> None:
    """Nothing is overwritten, and no event claims a packet that is not there."""
    world.sign("first")
    LocalVault(world.url).put(packet_key(world.digests["first"]), b"planted")
    before = world.snapshot()
    with pytest.raises(MismatchError, match="another object stands"):
        world.deliver("first")
    assert world.snapshot() == before and events_of(world) == []


def test_what_was_checked_is_what_is_delivered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody puts another packet in its place between the check and the delivery."""
    for name in ("first", "second"):
        world.sign(name)
    other = world.packets["second"].read_bytes()

    def checked(path: Path, keys: Any) -> Any:
        report = check_packet(path, keys)
        world.packets["first"].write_bytes(other)
        return report

    monkeypatch.setattr(deliveries, "check_packet", checked)
    told = world.deliver("first")
    stored = world.folder / "stored.zip"
    stored.write_bytes(LocalVault(world.url).get(packet_key(told.packet_digest), 2**30))
    assert check_packet(stored).digest == told.packet_digest == world.digests["first"]


def test_a_packet_whose_period_asks_for_nothing_leaves_the_others_listed(world: World) -> None:
    """Its manifests are right and it is signed: what cannot be counted is not counted, and the list stands."""

    def backwards(told: Any) -> None:
        told["period"]["utc"] = {"since": "2026-04-01T00:00:00Z", "until": "2026-03-01T00:00:00Z"}

    rewrite(world.packets["first"], Packet(unzipped(world.packets["first"])).json(PACKET, backwards).fix().files)
    for name in ("first", "third"):
        world.sign(name)
        world.deliver(name)
    assert [(one.stored, one.late_events) for one in world.listed()] == [("as sealed", None), ("as sealed", 0)]


# --- superseded, withdrawn, late ---------------------------------------------------------------------------------


def test_a_chain_of_corrections_is_told(world: World) -> None:
    """The third takes the second's place, which took the first's; a packet has one successor."""
    world.sign("first")
    world.deliver("first")
    world.sign("second", supersedes="first")
    world.deliver("second")
    branch = world.folder / "branch.zip"
    shutil.copy(world.packets["third"], branch)
    sign_packet(branch, ADA, now=LATER, preparer="Ada", supersedes=Supersedes(world.digests["first"], "again"))
    before = world.snapshot()
    with pytest.raises(MalformedError, match=f"superseded by {world.digests['second']} already"):
        deliver(branch, world.url, KEY, world.state, actor="ada", now=lambda: LATER)
    assert world.snapshot() == before
    world.sign("third", supersedes="second")
    world.deliver("third")
    listed = world.listed()
    assert [one.packet_digest for one in listed] == [world.digests[name] for name in ("first", "second", "third")]
    assert [one.status for one in listed] == ["superseded", "superseded", "current"]
    assert [one.superseded_by for one in listed] == [world.digests["second"], world.digests["third"], None]
    assert [one.why for one in listed] == ["first was wrong.", "second was wrong.", None]


def test_what_was_not_delivered_here_cannot_be_superseded(world: World) -> None:
    """A correction names a packet that stands in this vault."""
    world.sign("second", supersedes="first")
    before = world.snapshot()
    with pytest.raises(MalformedError, match="not delivered here"):
        world.deliver("second")
    assert world.snapshot() == before


def test_a_withdrawn_packet_stays_and_is_told(world: World) -> None:
    """By the beginning of its digest, once, for a reason; then it is not delivered again."""
    world.sign("first")
    world.deliver("first")
    digest = world.digests["first"]
    before = world.snapshot()
    for wrong, reason in ((digest[:7], "x"), ("0" * 64, "x"), ("", "x"), (digest, " ")):
        with pytest.raises(MalformedError):
            world.withdraw(wrong, reason)
        assert world.snapshot() == before
    world.withdraw(digest[:8])
    (listed,) = world.listed()
    assert (listed.status, listed.why, listed.stored) == ("withdrawn", "The wrong period.", "as sealed")
    before = world.snapshot()
    for again in (lambda: world.withdraw(digest), lambda: world.deliver("first")):
        with pytest.raises(MalformedError, match="withdrawn at 2026-04-10T00:00:00Z"):
            again()
    assert world.snapshot() == before


def test_late_events_since_are_counted(world: World) -> None:
    """Recorded after the packet's checkpoint, occurred in its period, of its actions; a newer packet has none."""
    for name in ("first", "second"):
        world.sign(name)
        world.deliver(name)
    assert [one.late_events for one in world.listed()] == [2, 0]


def test_what_another_source_says_of_packets_counts_for_nothing(world: World) -> None:
    """An application that records evidence.packet events delivers and withdraws nothing."""
    world.sign("first")
    world.deliver("first")
    withdrawal = {
        "evidence_digest": "0" * 64,
        "packet_digest": world.digests["first"],
        "reason": "x",
        "state": "withdrawn",
    }
    odd = {"packet_digest": world.digests["second"], "evidence_digest": "0" * 64}
    at = "2026-04-11T00:00:00Z"
    with simulator.Trail(world.folder, LocalVault(world.url)).sealer() as sealer:
        sealer.add([event("forged", "evidence.packet", at, withdrawal)])
        sealer.add([event("odd", "evidence.packet", at, odd, source="auditlib:sealer")])
        sealer.flush()
    assert len(events_of(world)) == 3
    assert [one.status for one in world.listed()] == ["current"]


def test_a_stored_packet_that_changed_or_went_is_told(world: World) -> None:
    """Its hash stands in the event: nothing is counted from bytes that are not those."""
    world.sign("first")
    world.deliver("first")
    path = Path(world.url) / packet_key(world.digests["first"])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    (listed,) = world.listed()
    assert (listed.stored, listed.late_events, listed.status) == ("changed", None, "current")
    path.unlink()
    assert [one.stored for one in world.listed()] == ["missing"]


# --- refused --------------------------------------------------------------------------------------------------


def unsigned(world: World) -> None:
    """Nobody signed it."""


def damaged(world: World) -> None:
    """Signed, and then changed."""
    world.sign("first")
    files = Packet(unzipped(world.packets["first"])).edit("data/report.html", lambda data: data + b" ")
    rewrite(world.packets["first"], files.files)


def falsely_signed(world: World) -> None:
    """The transmittal is of another packet."""
    world.sign("second")
    files = unzipped(world.packets["first"])
    files["transmittal.json"] = unzipped(world.packets["second"])["transmittal.json"]
    rewrite(world.packets["first"], files)


def of_another_trail(world: World) -> None:
    """A packet of the sample trail, which has the same origin and another key."""
    rewrite(world.packets["first"], dict(sample()))
    sign_packet(world.packets["first"], ADA, now=LATER + 90 * DAY, preparer="Ada")


def of_a_fork(world: World) -> None:
    """The same key has signed another history of the same length."""
    shutil.rmtree(world.folder / "vault")
    other = simulator.Trail(world.folder, state=world.folder / "other-state").create(retention=RETENTION).seal(2)
    world.sign("second")
    shutil.rmtree(world.folder / "state")
    assert other.verify().ok


def unzipped(path: Path) -> dict[str, bytes]:
    folder = path.with_suffix("")
    shutil.unpack_archive(path, folder)
    files = read_folder(folder)
    shutil.rmtree(folder)
    return files


def rewrite(path: Path, files: dict[str, bytes]) -> None:
    path.unlink()
    write_bag(files, path)


@pytest.mark.parametrize(
    ("prepare", "message", "name"),
    [
        (unsigned, "nobody has signed", "first"),
        (damaged, "check 1", "first"),
        (falsely_signed, "check 7", "first"),
        (of_another_trail, "check 3", "first"),
        (of_a_fork, "not drawn from this trail", "second"),
    ],
)
def test_what_does_not_check_is_not_delivered(
    prepare: Callable[[World], None], message: str, name: str, world: World
) -> None:
    """Nothing is written: no object, no event."""
    prepare(world)
    before = world.snapshot()
    with pytest.raises(AuditlibError, match=message):
        world.deliver(name)
    assert world.snapshot() == before


def test_a_vault_at_fault_takes_no_packet(world: World) -> None:
    """The sealer refuses to go on, and the packet is not put."""
    world.sign("first")
    simulator.Tamper(Path(world.url)).flip("seals/*/000000000000.json", after='"sequence":')
    before = world.snapshot()
    with pytest.raises(AuditlibError):
        world.deliver("first")
    assert world.snapshot() == before


def test_a_packet_past_what_a_vault_keeps_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is that of a batch."""
    world.sign("first")
    monkeypatch.setattr(deliveries, "MAX_DELIVERED_BYTES", 1000)
    before = world.snapshot()
    with pytest.raises(MalformedError, match="past 1,000 bytes"):
        world.deliver("first")
    assert world.snapshot() == before


# --- a real server --------------------------------------------------------------------------------------------


def test_delivered_packets_are_locked_in_object_storage(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COMPLIANCE for as long as the trail promises: not deleted, and what is put over it shadows nothing."""
    service = s3_service()
    identity = service.identities["owner"]
    for name, value in {
        "AWS_ACCESS_KEY_ID": identity.key,
        "AWS_SECRET_ACCESS_KEY": identity.secret,
        "AWS_ENDPOINT_URL": service.endpoint,
        "AWS_DEFAULT_REGION": service.region,
    }.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{service.new_bucket()}/trail"
    store = S3Vault(url, client=service.client("owner"))
    assert copy_vault(LocalVault(world.url), store, keys=[KEY.verifier], now=LATER).report.ok
    world.sign("first")

    def now() -> int:
        return time.time_ns() // 1000

    started = now()
    deliver(world.packets["first"], url, KEY, world.state, actor="ada", now=now)
    key = packet_key(world.digests["first"])
    (stored,) = store.list(key.rpartition("/")[0])
    lock = store.lock_of(key, stored.version)
    assert lock is not None and lock.mode == "COMPLIANCE" and lock.until >= started + DAY - SECOND
    where = {"Bucket": store.bucket, "Key": store.prefix + key}
    assert refusal(store.client.delete_object, **where, VersionId=stored.version)[0] == 403
    store.client.put_object(**where, Body=b"over it")
    with open_trail(url, keys=KEY.verifier) as trail:
        assert [(one.status, one.stored) for one in list_packets(trail)] == [("current", "as sealed")]
    withdraw(world.digests["first"], url, KEY, world.state, reason="A test.", actor="ada", now=now)
    with open_trail(url, keys=KEY.verifier) as trail:
        assert [(one.status, one.stored) for one in list_packets(trail)] == [("withdrawn", "as sealed")]
        assert trail.verify(deep=False).ok


# --- the commands ---------------------------------------------------------------------------------------------


def test_the_commands_hand_over_correct_and_list(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """deliver, withdraw and list as people and programs run them; a changed packet ends the listing with 1."""
    app = typer.Typer()
    app.add_typer(handover.app)
    monkeypatch.setenv("AUDITLIB_STATE", str(world.folder / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    write_key_files(KEY, tmp_path)
    sealing = ["--vault", world.url, "--key", str(tmp_path / "acme.example_audit.key")]
    reading = ["--vault", world.url, "--key", str(KEY.verifier)]

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.output

    assert "0 packets delivered." in run("list", *reading)
    world.sign("first")
    world.sign("second", supersedes="first")
    assert packet_key(world.digests["first"]) in run("deliver", str(world.packets["first"]), *sealing)
    told = json.loads(run("deliver", str(world.packets["second"]), *sealing, "--json"))
    assert told["supersedes"] == world.digests["first"] and told["ok"] is True
    assert "is withdrawn: Late." in run("withdraw", world.digests["second"][:12], *sealing, "--reason", "Late.")
    shown = run("list", *reading)
    for text in (
        world.digests["first"][:12],
        "2026-03-01 to 2026-04-01",
        f"superseded; by {world.digests['second'][:12]} (first was wrong.)",
        "withdrawn (Late.)",
        "2 packets delivered.",
    ):
        assert text in shown, shown
    listed = json.loads(run("list", *reading, "--json"))
    assert [one["late_events"] for one in listed["packets"]] == [2, 0] and listed["ok"]
    path = Path(world.url) / packet_key(world.digests["first"])
    path.unlink()
    assert "the stored packet is missing" in run("list", *reading, code=1)
