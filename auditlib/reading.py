"""A vault's own account while it is read, with distrust: what was found, and every fault in it.

Objects are read by version, the oldest that fits; folders are listed when something in them is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from auditlib.errors import AuditlibError, MismatchError, MissingError, UnavailableError
from auditlib.findings import Finding, Severity
from auditlib.formats import layout
from auditlib.formats.catalog import Catalog
from auditlib.formats.checkpoint import Checkpoint
from auditlib.formats.document import Document
from auditlib.formats.keys import VerifierKey
from auditlib.formats.lines import Page
from auditlib.formats.merkle import leaf_hash
from auditlib.formats.seal import MAX_SEAL_BYTES, Seal
from auditlib.listing import Listing
from auditlib.seals import SealedBytes, Seals
from auditlib.vault import Stored, Vault, Versioned, is_remote

T = TypeVar("T")
CONNECTIONS = 16  # objects read at once over the network
_AHEAD = 2 * CONNECTIONS  # objects read, or being read, before they are judged; bounds what waits in memory
MAX_PAGE_BYTES = layout.PAGE * (MAX_SEAL_BYTES + 1)


class Judged(Protocol):
    """Where columns of pages that were parsed before are kept, by the SHA-256 (hex) of the page's bytes."""

    def page(self, name: str) -> Page | None:
        """What was parsed of these bytes, by nobody else than this account; None where it is not kept."""

    def keep(self, name: str, page: Page) -> None:
        """Keep what was just parsed of these bytes."""

    def settle(self) -> None:
        """Say what was the matter with the place, once the pages were read."""


@dataclass
class History:
    """A vault's own account, and every fault found in it."""

    vault: Vault
    judged: Judged | None = None  # pages parsed before
    given: tuple[VerifierKey, ...] = ()  # the keys the user brought along
    trusted: tuple[VerifierKey, ...] = ()  # given, and introduced by those; without any given, the vault's own
    introduced: dict[VerifierKey, int] = field(default_factory=dict)  # key: the checkpoint that introduced it
    documents: list[Document] = field(default_factory=list)
    document_hashes: list[str] = field(default_factory=list)
    catalogs: dict[str, Catalog] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    checkpoint_data: bytes = b""
    checkpoints: list[tuple[str, Checkpoint]] = field(default_factory=list)  # those read, greatest first
    beyond: list[SealedBytes] = field(default_factory=list)  # validly signed, past the checkpoint
    read_versions: dict[str, str] = field(default_factory=dict)  # where it was not the oldest that fitted
    findings: list[Finding] = field(default_factory=list)
    ahead: dict[str, Future[bytes]] = field(default_factory=dict)  # oldest versions that are being read
    listing: Listing = field(init=False)
    seals: Seals = field(init=False)  # under the checkpoint, in order

    def __post_init__(self) -> None:
        self.listing = Listing(self.vault)
        self.seals = Seals(self.seals_again)

    @property
    def origin(self) -> str:
        """The trail's name, as the checkpoint or the first document says."""
        if self.checkpoint:
            return self.checkpoint.origin
        return self.documents[0].origin if self.documents else ""

    @property
    def key_confirmed(self) -> bool:
        """Whether the checkpoint taken (without one: the trail) stands on a key that came from outside."""
        return bool(self.given) and (
            self.checkpoint is None or any(key in self.given for key in self.checkpoint.signers)
        )

    @property
    def errors(self) -> list[Finding]:
        """The findings that say the evidence is wrong."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def document(self) -> Document | None:
        """The trail document in force for the next seal: the one the last seal names, else the first (DESIGN 4.6)."""
        if self.beyond:
            return self.document_of(self.beyond[-1].seal)
        if self.seals:
            return self.document_named(self.seals.last_trail)
        return self.documents[0] if self.documents else None

    @property
    def leaves(self) -> list[bytes]:
        """The leaf hashes of the checkpoint's tree."""
        return self.seals.leaves

    @property
    def stored(self) -> dict[str, Stored]:
        """The oldest version of each object: lists the whole vault, which `listing` does not."""
        return self.listing.stored

    @property
    def shadows(self) -> list[Stored]:
        """Newer versions, and delete markers: lists the whole vault."""
        return self.listing.shadows

    def document_of(self, seal: Seal) -> Document | None:
        """The trail document in force for a seal."""
        return self.document_named(seal.trail)

    def document_named(self, trail: str) -> Document | None:
        """The trail document of that hash."""
        if trail not in self.document_hashes:
            return None
        return self.documents[self.document_hashes.index(trail)]

    def catalog_of(self, seal: Seal) -> Catalog | None:
        """The catalogue in force for a seal."""
        document = self.document_of(seal)
        return self.catalogs.get(document.catalog) if document else None

    @property
    def catalog(self) -> Catalog | None:
        """The catalogue in force at the checkpoint: that of the last seal, or of the last document while none is."""
        if self.seals:
            document = self.document_named(self.seals.last_trail)
            return self.catalogs.get(document.catalog) if document else None
        return self.catalogs.get(self.documents[-1].catalog) if self.documents else None

    def version_of(self, key: str) -> str:
        """The version of an object that was read, or is to be: the oldest, unless only a newer one fitted."""
        if key in self.read_versions:
            return self.read_versions[key]
        oldest = self.listing.oldest(key)
        return oldest.version if oldest else ""

    def versions_of(self, key: str) -> list[str]:
        """Every version of an object, the oldest first; one that is not listed has the version ''."""
        return self.listing.versions(key)

    def read(self, key: str, limit: int, fits: Callable[[bytes], T]) -> T:
        """What `fits` makes of the oldest version of an object that it takes; else the first version's error.

        Nothing is ever overwritten, so that a newer version is somebody's shadow over the one that was sealed.
        """
        failed: AuditlibError | None = None
        for version in self.versions_of(key):
            try:
                early = self.ahead.pop(key, None)  # of the first version here, the oldest
                found = fits(early.result() if early else self.vault.get(key, limit, version))
            except AuditlibError as error:
                if isinstance(error, UnavailableError) and type(error) is UnavailableError:
                    raise
                failed = failed or error
                continue
            if failed:
                self.read_versions[key] = version
            return found
        raise failed or MismatchError("no version of the object fits.", where=key)

    def reading_ahead(
        self, numbers: Iterable[int], key_of: Callable[[int], str], limit: int, ahead: int = _AHEAD
    ) -> Iterator[int]:
        """The same numbers in the same order, while the objects that come next are read; `read` takes them from there.

        Over the network alone: from a disk each is there sooner than a thread.
        """
        if not is_remote(self.vault):
            yield from numbers
            return
        waiting: deque[int] = deque()
        pool = ThreadPoolExecutor(CONNECTIONS)
        try:
            for number in numbers:
                key = key_of(number)
                self.ahead[key] = pool.submit(self.vault.get, key, limit, self.versions_of(key)[0])
                waiting.append(number)
                if len(waiting) > ahead:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)
            for number in waiting:
                self.ahead.pop(key_of(number), None)

    def seals_again(self, numbers: Sequence[int], leaves: Sequence[bytes]) -> list[bytes]:
        """The bytes of seals that were read before, believed where their leaf hashes are those that were verified."""

        def fits(page: bytes) -> list[bytes]:
            lines = page.split(b"\n")[:-1]
            for line, leaf in zip(lines, leaves, strict=True):
                _same(line, leaf)
            return lines

        page = numbers[0] // layout.PAGE
        if [*numbers] == [*range(page * layout.PAGE, (page + 1) * layout.PAGE)]:
            with suppress(MismatchError, MissingError, ValueError):  # ValueError: not so many lines
                return self.read(layout.page_key(page), MAX_PAGE_BYTES, fits)
        wanted = dict(zip(numbers, leaves, strict=True))
        found = []
        for number in self.reading_ahead(numbers, layout.seal_key, MAX_SEAL_BYTES):
            key = layout.seal_key(number)
            found.append(self.read(key, MAX_SEAL_BYTES, partial(_same, leaf=wanted[number])))
        return found

    def add(
        self,
        check: int,
        where: str,
        message: str,
        expected: Any = "",
        found: Any = "",
        severity: Severity = "error",
    ) -> None:
        """Note one finding."""
        self.findings.append(Finding(check, severity, where, message, str(expected)[:400], str(found)[:400]))

    @property
    def planted(self) -> Severity:
        """How grave it is that somebody without the key put an object where the trail has not come to yet.

        Where storage keeps versions the sealer writes its own beside it; elsewhere it stands in the way.
        """
        return "warning" if isinstance(self.vault, Versioned) else "error"

    def add_error(self, check: int, where: str, error: AuditlibError, severity: Severity = "error") -> None:
        """Note an error as a finding; unavailable storage is no finding and goes on up."""
        if isinstance(error, UnavailableError) and type(error) is UnavailableError:
            raise error
        message = f"{error.where}: {error.message}" if error.where and where not in error.where else error.message
        expected, found = getattr(error, "expected", None) or "", getattr(error, "found", None) or ""
        self.add(check, where, message, expected, found, severity)


def _same(data: bytes, leaf: bytes) -> bytes:
    if leaf_hash(data) != leaf:
        message = "the seal is not the one that was verified: it changed since."
        raise MismatchError(message, expected=leaf.hex(), found=leaf_hash(data).hex())
    return data
