"""A BagIt 1.0 bag (RFC 8493), as a folder or a zip.

    bagit.txt  bag-info.txt  manifest-sha256.txt  tagmanifest-sha256.txt  data/...

Everything read from a bag is hostile: names, sizes, links and zip members are judged before anything is opened.
"""

from __future__ import annotations

import re
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.formats.layout import check_key

BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"  # RFC 8493 2.1.1
MANIFEST, TAGMANIFEST, INFO, DECLARATION = "manifest-sha256.txt", "tagmanifest-sha256.txt", "bag-info.txt", "bagit.txt"
TRANSMITTAL = "transmittal.json"  # signed on its own, listed in no manifest (DESIGN 4.7)
MAX_FILES = 10_000  # files in a packet
MAX_FILE_BYTES = 1024 * 1024 * 1024  # bytes of one file
MAX_PACKET_BYTES = 4 * 1024 * 1024 * 1024  # bytes of all files
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
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
            return (self._source / name).read_bytes()
        try:
            with self._source.open(self._prefix + name) as member:
                data = member.read(limit + 1)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
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
            with zipfile.ZipFile(path) as archive:
                sizes, prefix = _zip_sizes(archive)
                yield Bag(sizes, archive, prefix)
        except zipfile.BadZipFile:
            raise MalformedError(
                "neither a folder nor a zip.", where=str(path), remedy="Give the packet's path."
            ) from None
    else:
        raise MalformedError("there is no such packet.", where=str(path), remedy="Give a folder or a .zip.")


def check_manifests(bag: Bag) -> Iterator[MismatchError]:
    """Every way in which the bag is not what its manifests say: files missing, left over, or changed."""
    for manifest, payload in ((MANIFEST, True), (TAGMANIFEST, False)):
        listed = read_manifest(bag, manifest)
        for name, expected in listed.items():
            if name not in bag.sizes:
                yield MismatchError("a file of the packet is missing.", where=name, expected=expected, found="no file")
                continue
            found = sha256(bag.read(name)).hexdigest()
            if found != expected:
                yield MismatchError("a file of the packet was changed.", where=name, expected=expected, found=found)
        present = {name for name in bag.sizes if name.startswith("data/") is payload}
        for name in sorted(present - set(listed) - {TAGMANIFEST, TRANSMITTAL}):
            yield MismatchError(
                "a file was added that no manifest lists.", where=name, expected="no file", found="a file"
            )
    if bag.sizes.get(DECLARATION) is None or bag.read(DECLARATION, 4096) != BAGIT:
        yield MismatchError("bagit.txt does not declare BagIt 1.0.", where=DECLARATION)


def read_manifest(bag: Bag, name: str) -> dict[str, str]:
    """A manifest -> {file: SHA-256}. MalformedError for a line that is none, or a file listed twice."""
    listed: dict[str, str] = {}
    try:
        text = bag.read(name).decode()
    except UnicodeDecodeError:
        raise MalformedError("not UTF-8.", where=name) from None
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match.group(2) in listed:
            raise MalformedError("no line of a manifest: SHA-256, two spaces, a file once.", where=f"{name}:{number}")
        listed[match.group(2)] = match.group(1)
    return listed


def packet_digest(bag: Bag) -> str:
    """SHA-256 of tagmanifest-sha256.txt: the packet's name (DESIGN 4.7)."""
    return sha256(bag.read(TAGMANIFEST)).hexdigest()


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
    for found in sorted(path.rglob("*")):
        name = found.relative_to(path).as_posix()
        status = found.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise MalformedError("a packet holds plain files alone, no links or devices.", where=name)
        sizes[name] = status.st_size
        _check_limits(sizes, name)
    return sizes


def _zip_sizes(archive: zipfile.ZipFile) -> tuple[dict[str, int], str]:
    sizes: dict[str, int] = {}
    for member in archive.infolist():
        name = member.filename
        if member.is_dir():
            continue
        if name in sizes:
            raise MalformedError("a file stands twice in the zip.", where=name)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise MalformedError("a packet holds plain files alone, no links.", where=name)
        if member.compress_type != zipfile.ZIP_STORED and member.file_size > 1000 * max(1, member.compress_size):
            raise MalformedError("this zip member unpacks to more than it may (a zip bomb?).", where=name)
        sizes[name] = member.file_size
        _check_limits(sizes, name)
    prefix = _common_folder(sizes)
    return {name.removeprefix(prefix): size for name, size in sizes.items()}, prefix


def _common_folder(sizes: Mapping[str, int]) -> str:
    """People zip the folder: then everything lies below one."""
    tops = {name.split("/", 1)[0] for name in sizes}
    only = tops.pop() + "/" if len(tops) == 1 else ""
    return only if only and f"{only}{DECLARATION}" in sizes else ""


def _check_limits(sizes: Mapping[str, int], name: str) -> None:
    check_key(name)
    if len(sizes) > MAX_FILES or sizes[name] > MAX_FILE_BYTES or sum(sizes.values()) > MAX_PACKET_BYTES:
        raise MalformedError("the packet is larger than a packet may be.", where=name)
