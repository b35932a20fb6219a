"""Long histories: seals as columns, listed and read no further than needed, believed no more than one by one."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import Tamper, snapshot

import auditlib
from auditlib.errors import MalformedError, MismatchError
from auditlib.formats import layout, merkle
from auditlib.formats.page import parse_page
from auditlib.formats.seal import parse_seal, seal_bytes, seal_hash
from auditlib.formats.times import format_time, parse_time
from auditlib.history import read_history
from auditlib.query import Filter
from auditlib.seals import Seals
from auditlib.vault import folders_of
from auditlib.vault.local import LocalVault
from benchmarks.data import KEY as BENCH_KEY
from benchmarks.history import make

SIZE = 2 * layout.PAGE + 5  # seals: two full pages, and a page that is begun


class Counting(LocalVault):
    """A directory that notes what was asked of it."""

    def __init__(self, path):
        super().__init__(path)
        self.listings, self.reads = [], []

    def list(self, prefix=""):
        self.listings.append(prefix)
        return super().list(prefix)

    def folders(self, prefix):
        self.listings.append(prefix)
        return super().folders(prefix)

    def get(self, key, limit=2**20, version=""):
        self.reads.append(key)
        return super().get(key, limit, version)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A vault of many seals without batches; nobody writes to it."""
    folder = tmp_path_factory.mktemp("long")
    make(folder / "vault", SIZE)
    return folder / "vault"


@pytest.fixture(scope="module")
def lines(long):
    """Every seal's bytes, in order."""
    paged = b"".join((long / layout.page_key(page)).read_bytes() for page in range(2)).splitlines()
    return [*paged, *((long / layout.seal_key(number)).read_bytes() for number in range(2 * layout.PAGE, SIZE))]


NAMES = ["role.grant", "user.login", "user.logout", "audit.heartbeat"]
SOURCES = ["billing-api/7f3a", "billing-api/9e21", "idp/a1", "import:cloudtrail:42"]
MOMENTS = st.integers(0, 200).map(lambda n: n * 43_200_000_123)  # microseconds, half a day apart, some of whole seconds
COUNTS = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 9), min_size=1)


@st.composite
def described(draw):
    """What seals say that differ in everything a column holds."""
    actions = draw(COUNTS)
    events = sum(actions.values())
    names = draw(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=min(3, events), unique=True))
    low = draw(st.integers(1, 50))
    numbers = draw(st.sampled_from([(None, None), (low, low + events)]))
    sources = dict.fromkeys(names[1:], (1, *numbers)) | {names[0]: (events - len(names) + 1, *numbers)}
    ranges = [sorted((draw(MOMENTS), draw(MOMENTS))) for _ in range(2)]
    counted = actions if draw(st.integers(0, 4)) else None
    return counted, events, sources, ranges, draw(st.sampled_from(["success", "denied"])), draw(st.integers(0, 2))


def sealed(first, described):
    """Chained canonical seals that say this, in the manner of the first."""
    seal, previous, found = parse_seal(first), "0" * 64, []
    for number, (actions, events, sources, (occurred, recorded), outcome, trail) in enumerate(described):
        digest = f"{number:064x}"
        batch = msgspec.structs.replace(
            seal.batch, events=events, object=layout.batch_key(number, recorded[0], digest), sha256=digest, root=digest
        )
        changed = msgspec.structs.replace(
            seal,
            batch=batch,
            counts=type(seal.counts)(actions, {outcome: events}),
            occurred=tuple(map(format_time, occurred)),
            recorded=tuple(map(format_time, recorded)),
            previous=previous,
            sequence=number,
            sources={name: next(iter(seal.sources.values())).__class__(*of) for name, of in sources.items()},
            trail=f"{trail:064x}",
        )
        found.append(seal_bytes(changed))
        previous = seal_hash(found[-1])
    return found


def as_columns(lines, block=3):
    """Seals of several blocks, of which none is kept in memory once another was read."""

    def fetch(numbers, leaves):
        assert [merkle.leaf_hash(lines[number]) for number in numbers] == leaves
        return [lines[number] for number in numbers]

    seals = Seals(fetch)
    for start in range(0, len(lines), block):
        some = lines[start : start + block]
        seals.extend(range(start, start + len(some)), some)
    return seals


@settings(max_examples=25, deadline=None)
@given(said=st.lists(described(), min_size=1, max_size=8))
def test_columns_say_what_the_seals_say(lines, said):
    """Every field, one by one, against the seals themselves; places, slices, iteration, roots."""
    found = sealed(lines[0], said)
    objects, seals = [parse_seal(line) for line in found], as_columns(found)
    assert [entry.seal for entry in seals] == objects == list(seals.chosen())
    assert [entry.data for entry in seals[1:-1]] == found[1:-1] and seals[-1].data == found[-1]
    assert seals.sealed_at.tolist() == [parse_time(seal.sealed_at) for seal in objects]
    for name in ("occurred", "recorded"):
        assert getattr(seals, name).tolist() == [list(map(parse_time, getattr(seal, name))) for seal in objects]
    assert seals.events.tolist() == [seal.batch.events for seal in objects]
    assert seals.sizes.tolist() == [seal.batch.size for seal in objects]
    assert seals.uncounted.tolist() == [seal.counts.actions is None for seal in objects]
    for coded, named in (
        (seals.actions, [seal.counts.actions or {} for seal in objects]),
        (seals.outcomes, [seal.counts.outcomes for seal in objects]),
        (seals.sources, [{name: source.events for name, source in seal.sources.items()} for seal in objects]),
    ):
        pairs = list(zip([coded.names[code] for code in coded.entries], coded.counts.tolist(), strict=True))
        starts = coded.starts.tolist()
        assert [dict(pairs[a:b]) for a, b in pairwise(starts)] == named
    spans = [[source.first_seq or 0, source.last_seq or 0] for seal in objects for source in seal.sources.values()]
    assert seals.spans.tolist() == spans
    assert seals.leaves == [merkle.leaf_hash(line) for line in found]
    assert [seals.hash_of(number) for number in range(len(found))] == [seal_hash(line) for line in found]
    assert [seals.root(size) for size in range(1, len(found) + 1)] == [
        merkle.root(seals.leaves[:size]) for size in range(1, len(found) + 1)
    ]
    trails = [seal.trail for seal in objects]
    assert seals.changes == [(n, t) for n, t in enumerate(trails) if not n or trails[n - 1] != t]
    assert seals.last_trail == trails[-1]


GLOBS = st.one_of(st.none(), st.lists(st.sampled_from([*NAMES, *SOURCES, "role.*", "*a*", "?dp/a1", "no"]), min_size=1))


@settings(max_examples=50, deadline=None)
@given(
    said=st.lists(described(), min_size=1, max_size=8),
    actions=GLOBS,
    sources=GLOBS,
    outcomes=st.one_of(st.none(), st.just(["success"]), st.just(["d*"])),
    since=st.one_of(st.none(), MOMENTS),
    until=st.one_of(st.none(), MOMENTS),
)
def test_batches_chosen_by_columns_are_those_chosen_seal_by_seal(lines, said, since, until, **globs):
    """No batch more and none less, whatever is asked."""
    found = sealed(lines[0], said)
    asked = Filter(since=since, until=until, **{n: None if g is None else tuple(g) for n, g in globs.items()})
    seals = as_columns(found)
    chosen = seals.chosen(asked.holding(seals))
    assert list(chosen) == [seal for seal in map(parse_seal, found) if asked.may_hold(seal)]
    assert [seal.sequence for seal in chosen] == list(chosen.places)


SPOILT = [
    (b'"events":60,', b'"events":60.0,'),
    (b'"events":60,', b'"events":61,'),
    (b'"events":60,', b'"events":0,'),
    (b'"events":60,', b'"events":99999999999999999999999,'),
    (b'{"batch"', b'{ "batch"'),
    (b'"format":"auditlib/seal/v1"', b'"format":"auditlib/seal/v2"'),
    (b'"schema":"auditlib/record/v1"', b'"schema":"auditlib/record/v2"'),
    (b'"origin":"bench', b'"origin":"+ench'),
    (b'"previous":"0', b'"previous":"g'),
    (b'"previous":"0', b'"previous":" '),
    (b'"previous":"00', b'"previous":"'),
    (b'"root":"5f', b'"root":"5F'),
    (b'"sequence":0', b'"sequence":-1'),
    (b'"sequence":0', b'"sequence":7'),
    (b"recorded_date=2021-01-01", b"recorded_date=2021-01-02"),
    (b".001234Z", b".00123Z"),
    (b".001234Z", b".000000Z"),
    (b'"sealed_at":"2021-01-01T00:05:00Z"', b'"sealed_at":"2021-01-01 00:05:00Z"'),
    (b'"sealed_at":"2021-01-01T00:05:00Z"', b'"sealed_at":"2021-02-30T00:05:00Z"'),
    (b'"sealed_at":"2021-01-01T00:05:00Z"', b'"sealed_at":"1969-01-01T00:05:00Z"'),
    (b'"sealed_at":"2021-01-01T00:05:00Z"', b'"sealed_at":"2021-01-01T00:05:60Z"'),
    (b'"sealed_at":"2021-01-01T00:05:00Z"', b'"sealed_at":"2021-01-01T00:05Z"'),
    (b'"sealed_at":"2021-01-01T00:05:00Z"', b'"sealed_at":""'),
    (b'"occurred":["2021', b'"occurred":["2022'),
    (b'"success":60', b'"success":59'),
    (b'"success":60', b'"perhaps":60'),
    (b'"success":60', b'"denied":-1,"success":61'),
    (b'"user.login":58', b'"user.Login":58'),
    (b'"user.login":58', b'"user.login":57'),
    (b'"user.login":58', b'"user.login":57,"user.login":58'),
    (b'"user.login":58', b'"user.login":4611686018427387904,"x":4611686018427387904,"y":-9223372036854775750'),
    (b'"first_seq":1,"last_seq":30', b'"first_seq":31,"last_seq":30'),
    (b'"first_seq":1,"last_seq":30', b'"first_seq":null,"last_seq":30'),
    (b'"first_seq":1,"last_seq":30', b'"first_seq":0,"last_seq":30'),
    (b'"first_seq":1,"last_seq":30', b'"first_seq":1,"last_seq":9007199254740992'),
    (b'"idp/a1"', b'"idp/ a1"'),
    (b'"trail":"', b'"trail":"x'),
    (b'"trail"', b'"trial"'),
    (b'{"batch"', b'{"added":1,"batch"'),
]


@pytest.mark.parametrize(("old", "new"), SPOILT, ids=[new.decode() for _, new in SPOILT])
def test_no_seal_passes_in_a_page_that_is_refused_alone(lines, old, new):
    """And the error is the one that it would have got alone."""
    assert old in lines[0]
    spoilt = lines[0].replace(old, new, 1)
    with pytest.raises(MalformedError) as alone:
        parse_seal(spoilt)
    with pytest.raises(MalformedError) as together:
        parse_page([lines[2], spoilt, lines[1]])
    assert str(together.value) == str(alone.value)


def test_opening_lists_folders_and_reads_pages(long):
    """Neither the batches nor the full folders of seals and checkpoints are listed; of full pages no seal is read."""
    vault = Counting(long)
    history = read_history(vault, [BENCH_KEY.verifier])
    assert history.findings == [] and len(history.seals) == SIZE
    full = {"", "batches", "seals", "checkpoints", "seals/000000", "seals/000001", "checkpoints/000000"}
    assert not full & {prefix.rstrip("/") for prefix in vault.listings} - {"seals", "checkpoints"}
    assert len(vault.listings) <= 7
    seals = [key for key in vault.reads if key.startswith("seals/")]
    assert seals == [layout.seal_key(number) for number in range(2 * layout.PAGE, SIZE)]


def test_the_newest_checkpoint_is_found_in_two_listings_however_many_there_are(long):
    """The names of the folders, and what is in the last."""
    vault = Counting(long)
    assert read_history(vault, [BENCH_KEY.verifier]).checkpoint.size == SIZE
    assert len([prefix for prefix in vault.listings if prefix.startswith("checkpoints")]) == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A shorter vault with every seal and every checkpoint; nobody writes to it."""
    folder = tmp_path_factory.mktemp("whole")
    make(folder / "vault", layout.PAGE + 3, objects=True)
    return LocalVault(folder / "vault")


def test_what_is_read_through_pages_is_what_is_read_seal_by_seal(whole):
    """The same seals, checkpoint and findings; thorough reading needs no page."""
    vault = whole
    fast, slow = (read_history(vault, [BENCH_KEY.verifier], thorough=thorough) for thorough in (False, True))
    assert fast.findings == slow.findings == [] and len(slow.checkpoints) == len(slow.seals)
    assert fast.seals.leaves == slow.seals.leaves and fast.seals.numbers.tolist() == slow.seals.numbers.tolist()
    assert fast.checkpoint == slow.checkpoint


@pytest.fixture
def spoilable(long, tmp_path):
    """A copy of the long vault."""
    tamper = Tamper(tmp_path / "vault")
    for path in (path for path in long.rglob("*") if path.is_file()):
        target = tamper.root / path.relative_to(long)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tamper


def test_a_page_altered_after_opening_is_not_believed(spoilable, monkeypatch):
    """Bytes that are read again must lead to the leaf hash that was verified, wherever they come from."""
    monkeypatch.setattr("auditlib.seals.KEPT_BYTES", 0)
    with auditlib.open(spoilable.root, keys=BENCH_KEY.verifier) as trail:
        first = trail.seals[0]
        assert trail.seals[layout.PAGE].sequence == layout.PAGE  # another page: the first is let go
        page = spoilable.root / layout.page_key(0)
        page.write_bytes(page.read_bytes().replace(b'"success":60', b'"success":61', 1))
        for number, line in enumerate(page.read_bytes().splitlines()):
            spoilable.write(layout.seal_key(number), line)
        with pytest.raises(MismatchError, match="changed since"):
            _ = trail.seals[0]
        spoilable.write(layout.seal_key(0), seal_bytes(first))
        assert trail.seals[0] == first  # the page is a cache: its seals stand in for it


@pytest.mark.parametrize("what", ["a page is cut", "a page holds another seal", "a page is gone"])
def test_a_page_that_is_not_its_seals_hides_nothing(spoilable, what):
    """Without the seals beside it a fault is told, and the trail is not opened."""
    page = spoilable.root / layout.page_key(1)
    data = page.read_bytes()
    if what == "a page is gone":
        page.unlink()
    else:
        page.write_bytes(data[:-9] if what == "a page is cut" else data.replace(b'"idp/a1"', b'"idp/b1"', 1))
    before = snapshot(LocalVault(spoilable.root))
    history = read_history(LocalVault(spoilable.root), [BENCH_KEY.verifier])
    assert {finding.check for finding in history.errors} == {2, 4}
    with pytest.raises(MismatchError, match="check"):
        auditlib.open(spoilable.root, keys=BENCH_KEY.verifier)
    assert snapshot(LocalVault(spoilable.root)) == before


def test_a_checkpoint_planted_far_ahead_does_not_hide_the_newest(spoilable):
    """What nobody validly signed is told, and the next folder is looked at."""
    spoilable.write(layout.checkpoint_key(900_000), b"nothing")
    history = read_history(LocalVault(spoilable.root), [BENCH_KEY.verifier])
    assert history.checkpoint.size == SIZE
    assert [(f.check, f.object) for f in history.findings] == [(0, layout.checkpoint_key(900_000))]


def test_an_older_checkpoint_is_found_in_its_own_folder(whole):
    """`at` reads the trail as it was, past no page that is not full by then."""
    for size in (1, layout.PAGE - 1, layout.PAGE, layout.PAGE + 1):
        history = read_history(whole, [BENCH_KEY.verifier], at=size)
        assert history.findings == [] and len(history.seals) == size == history.checkpoint.size


def test_no_listing_follows_a_symbolic_link(tmp_path, spoilable):
    """Neither of a folder nor of the folders below one."""
    (tmp_path / "outside" / "000001").mkdir(parents=True)
    (tmp_path / "outside" / "000001" / "x").write_bytes(b"x")
    (spoilable.root / "planted").symlink_to(tmp_path / "outside")
    vault = LocalVault(spoilable.root)
    for prefix in ("planted/", "planted/000001"):
        assert list(vault.list(prefix)) == [] and folders_of(vault, prefix) == []


def test_the_trail_counts_by_columns(long, lines):
    """Events and the recorded range, as the seals state them one by one."""
    with auditlib.open(long, keys=BENCH_KEY.verifier) as trail:
        objects = list(map(parse_seal, lines))
        assert list(trail.seals) == objects
        assert trail.count == sum(seal.batch.events for seal in objects)
        assert trail.recorded == (min(s.recorded[0] for s in objects), max(s.recorded[1] for s in objects))
        assert trail.events(action="role.grant").skipped == sum("role.grant" not in s.counts.actions for s in objects)
