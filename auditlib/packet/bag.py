"""A BagIt 1.0 bag (RFC 8493), as a folder or a zip.

    bagit.txt  bag-info.txt  manifest-sha256.txt  tagmanifest-sha256.txt  data/...

Everything read from a bag is hostile: names, sizes, links and zip members are judged before anything is opened.
"""

from __future__ import annotations

import lzma
import re
import secrets
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from auditlib.errors import AuditlibError, MalformedError, MismatchError, UnavailableError
from auditlib.formats.layout import check_key

BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"  # RFC 8493 2.1.1
MANIFEST, TAGMANIFEST, INFO, DECLARATION = "manifest-sha256.txt", "tagmanifest-sha256.txt", "bag-info.txt", "bagit.txt"
TRANSMITTAL = "transmittal.json"  # signed on its own, listed in no manifest (DESIGN 4.7)
MAX_FILES = 10_000  # files in a packet
MAX_FILE_BYTES = 1024 * 1024 * 1024  # bytes of one file
MAX_PACKET_BYTES = 4 * 1024 * 1024 * 1024  # bytes of all files
# What the zipfile module lets through where a zip is damaged or hostile: ValueError and IndexError by its parsing,
# RuntimeError for encryption, NotImplementedError (one of those) for methods it does not know.
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, IndexError, OverflowError),
    *(struct.error, zlib.error, lzma.LZMAError),
)
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
MAX_RATIO = 200  # bytes out of one byte deflated; evidence packs 3 to 20 times, a bomb up to 1,032 times
_MIN_DEFLATED = 1024  # bytes; below it any ratio is harmless
_ENCRYPTED = 0x1 | 0x40  # APPNOTE 4.4.4: bits 0 and 6
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say


class Bag:
    """A bag opened for reading: names, sizes, bytes. Nothing in it has been checked but its shape."""

    def __init__(self, sizes: Mapping[str, int], source: Path | zipfile.ZipFile, prefix: str = "") -> None:
        self.sizes = dict(sorted(sizes.items()))
        self._source = source
        self._prefix = prefix

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """A file's bytes; MismatchError if it is not there, MalformedError past the limit."""
        if name not in self.sizes:
            raise MismatchError("the packet has no such file.", where=name)
        if self.sizes[name] > limit:
            raise MalformedError(f"{self.sizes[name]:,} bytes; at most {limit:,} are read.", where=name)
        if isinstance(self._source, Path):
            try:
                with (self._source / name).open("rb") as file:
                    data = file.read(self.sizes[name] + 1)
            except OSError as error:
                raise UnavailableError(f"cannot be read ({error.strerror}).", where=name) from None
            if len(data) != self.sizes[name]:
                raise MismatchError("the file changed while it was read.", where=name)
            return data
        try:
            with self._source.open(self._prefix + name) as member:
                data = member.read(limit + 1)
        except _ZIP_ERRORS as error:
            raise MismatchError(f"the zip is damaged: {error}.", where=name) from None
        if len(data) != self.sizes[name]:
            raise MismatchError("the zip states another size.", where=name, expected=self.sizes[name], found=len(data))
        return data


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a packet, a folder or a `.zip`. MalformedError where it is none, or is built to do harm."""
    if path.is_dir():
        yield Bag(_folder_sizes(path), path)
    elif path.is_file():
        try:
            archive = zipfile.ZipFile(path)
        except _ZIP_ERRORS:
            raise MalformedError(
                "neither a folder nor a zip.", where=str(path), remedy="Give the packet's path."
            ) from None
        with archive:
            sizes, prefix = _zip_sizes(archive)
            yield Bag(sizes, archive, prefix)
    else:
        raise MalformedError("there is no such packet.", where=str(path), remedy="Give a folder or a .zip.")


def check_manifests(bag: Bag) -> Iterator[AuditlibError]:
    """Every way in which the bag is not what its manifests say: files missing, left over, or changed."""
    for manifest, payload in ((MANIFEST, True), (TAGMANIFEST, False)):
        try:
            listed = read_manifest(bag, manifest)
        except AuditlibError as error:
            yield error
            continue
        for name, expected in listed.items():
            if name not in bag.sizes:
                yield MismatchError("a file of the packet is missing.", where=name, expected=expected, found="no file")
                continue
            try:
                found = sha256(bag.read(name)).hexdigest()
            except AuditlibError as error:
                yield error
                continue
            if found != expected:
                yield MismatchError("a file of the packet was changed.", where=name, expected=expected, found=found)
            if name.startswith("data/") is not payload:
                yield MismatchError("the file stands in the wrong manifest.", where=name, found=manifest)
        present = {name for name in bag.sizes if name.startswith("data/") is payload}
        for name in sorted(present - set(listed) - {TAGMANIFEST, TRANSMITTAL}):
            yield MismatchError(
                "a file was added that no manifest lists.", where=name, expected="no file", found="a file"
            )
    for name in bag.sizes:  # a listed fetch.txt would have other tools load files from anywhere (RFC 8493 2.2.3)
        if not name.startswith("data/") and name not in (DECLARATION, INFO, MANIFEST, TAGMANIFEST, TRANSMITTAL):
            yield MismatchError("a packet has no such tag file.", where=name, expected="no file", found="a file")
    if bag.sizes.get(DECLARATION) != len(BAGIT) or bag.read(DECLARATION) != BAGIT:
        yield MismatchError("bagit.txt does not declare BagIt 1.0.", where=DECLARATION)
    payload_sizes = [size for name, size in bag.sizes.items() if name.startswith("data/")]
    oxum = f"Payload-Oxum: {sum(payload_sizes)}.{len(payload_sizes)}"  # RFC 8493 2.2.2
    if INFO not in bag.sizes or oxum.encode() not in bag.read(INFO).split(b"\n"):
        yield MismatchError("bag-info.txt states another number of files or bytes.", where=INFO, expected=oxum)


def read_manifest(bag: Bag, name: str) -> dict[str, str]:
    """A manifest -> {file: SHA-256}. MalformedError for a line that is none, or a file listed twice."""
    listed: dict[str, str] = {}
    try:
        text = bag.read(name).decode()
    except UnicodeDecodeError:
        raise MalformedError("not UTF-8.", where=name) from None
    lines = text.split("\n")
    if lines.pop():
        raise MalformedError("does not end with a newline.", where=name)
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or match.group(2) in listed:
            raise MalformedError("no line of a manifest: SHA-256, two spaces, a file once.", where=f"{name}:{number}")
        listed[match.group(2)] = match.group(1)
    return listed


def packet_digest(bag: Bag) -> str:
    """SHA-256 of tagmanifest-sha256.txt: the packet's name (DESIGN 4.7)."""
    return sha256(bag.read(TAGMANIFEST)).hexdigest()


def bag_info(packet: Mapping[str, Any], evidence_digest: str) -> dict[str, str]:
    """packet.json's content and its SHA-256 -> bag-info.txt but for Payload-Oxum: nothing in it is news."""
    checkpoints = packet["checkpoints"]
    return {
        "Bagging-Date": max(one["last_sealed_at"] for one in checkpoints)[:10],
        "External-Description": packet["title"],
        "External-Identifier": evidence_digest,
        "Source-Organization": ", ".join(one["origin"] for one in checkpoints),
    }


def bag_files(payload: Mapping[str, bytes], info: Mapping[str, str]) -> dict[str, bytes]:
    """Payload files (names below data/) and bag-info -> every file of the bag, manifests included."""
    files = {f"data/{name}": data for name, data in payload.items()}
    octets = sum(map(len, files.values()))
    lines = [f"{name}: {value}" for name, value in sorted({**info, "Payload-Oxum": f"{octets}.{len(files)}"}.items())]
    tags = {
        DECLARATION: BAGIT,
        INFO: ("\n".join(lines) + "\n").encode(),
        MANIFEST: _manifest(files),
    }
    return files | tags | {TAGMANIFEST: _manifest(tags)}


def write_bag(files: Mapping[str, bytes], path: Path) -> None:
    """Write a new packet, a `.zip` or a folder, whole or not at all. MalformedError if something is there."""
    if path.exists():
        raise MalformedError("exists already and is not overwritten.", where=str(path), remedy="Choose another -o.")
    for name in files:
        check_key(name)  # an origin may hold `..`: nothing is written outside the packet
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zip":
            _write_zip(files, fresh)
        else:
            for name, data in files.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(data)
        fresh.rename(path)
    except OSError as error:
        raise UnavailableError(f"the packet cannot be written ({error.strerror}).", where=str(path)) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if fresh.is_file():
            fresh.unlink()


def _write_zip(files: Mapping[str, bytes], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # stored: compressors differ between versions
        for name in sorted(files, key=str.encode):
            member = zipfile.ZipInfo(name, _ZIP_TIME)
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, files[name])


def _manifest(files: Mapping[str, bytes]) -> bytes:
    return "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())).encode()


def _folder_sizes(path: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    total = 0
    try:
        for found in path.rglob("*"):
            name = check_key(found.relative_to(path).as_posix())
            status = found.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise MalformedError("a packet holds plain files alone, no links or devices.", where=name)
            sizes[name] = status.st_size
            total += status.st_size
            _check_limits(len(sizes), status.st_size, total, name)
    except OSError as error:
        raise UnavailableError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    _check_capitals(sizes)
    return sizes


def _zip_sizes(archive: zipfile.ZipFile) -> tuple[dict[str, int], str]:
    sizes: dict[str, int] = {}
    total = 0
    for member in archive.infolist():
        name = check_key(member.orig_filename.removesuffix("/"))  # zipfile cuts `filename` at a zero byte
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise MalformedError("a packet holds plain files alone, no links or devices.", where=name)
        if member.is_dir():
            continue
        if name in sizes:
            raise MalformedError("a file stands twice in the zip.", where=name)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & _ENCRYPTED:
            raise MalformedError("this zip member is neither stored nor deflated, or it is encrypted.", where=name)
        if member.file_size > MAX_RATIO * max(_MIN_DEFLATED, member.compress_size):
            raise MalformedError("this zip member unpacks to more than it may (a zip bomb?).", where=name)
        sizes[name] = member.file_size
        total += member.file_size
        _check_limits(len(sizes), member.file_size, total, name)
    _check_capitals(sizes)
    prefix = _common_folder(sizes)
    return {name.removeprefix(prefix): size for name, size in sizes.items()}, prefix


def _common_folder(sizes: Mapping[str, int]) -> str:
    """People zip the folder: then everything lies below one."""
    tops = {name.split("/", 1)[0] for name in sizes}
    only = tops.pop() + "/" if len(tops) == 1 else ""
    return only if only and f"{only}{DECLARATION}" in sizes else ""


def _check_capitals(sizes: Mapping[str, int]) -> None:
    """Two names that one laptop tells apart and another does not would make two packets of one."""
    seen: dict[str, str] = {}
    for name in sizes:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise MalformedError(f"its name differs from {other} in capitals alone.", where=name)


def _check_limits(files: int, size: int, total: int, name: str) -> None:
    if files > MAX_FILES or size > MAX_FILE_BYTES or total > MAX_PACKET_BYTES:
        raise MalformedError("the packet is larger than a packet may be.", where=name)
