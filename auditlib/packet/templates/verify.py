#!/usr/bin/env python3
"""Check an evidence packet alone and offline. It needs Python 3.9 or newer and nothing else.

    python3 -I verify.py PACKET --key 'acme.example/audit+a7478514+ARe02ZgMMQ6NCZ0mtDK1POeonac1oa5K3HbU9bNkkY+p'

PACKET is a folder or a .zip; --key is a verifier key, or a file of them. Nothing is written and nothing is sent.
Exit codes: 0 no fault was found, 1 the evidence is wrong, 2 no packet or wrong usage, 3 the storage failed.

Take the key, and this file or its SHA-256, from somewhere else than the packet: whoever forges a packet can put a
forged key and a forged verify.py into it. It is meant to be read in one sitting, from the top down:

    1  reading hostile files   a folder or zip, its names and sizes judged before anything is opened
    2  canonical JSON          RFC 8785: one value, one spelling, so that a hash means one thing
    3  Ed25519                 RFC 8032, verification only
    4  Merkle trees            RFC 6962, trees with holes, and the check of all this by published vectors
    5  events, seals, keys     what a record, a seal, a key and a checkpoint must look like
    6  the six checks          numbered as in `auditlib packet verify`; each goes on after a fault
    7  the command line

How a packet proves something: a record leads to the Merkle root of its batch (check 5), which stands in a seal; the
seals lead to the root in the checkpoint (4); the checkpoint is signed (3). The rest ties tables and counts to the
records (6), and every file to packet.json (2) and to the manifests (1), whose digest is the name of the packet.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # a file json.py beside this one would be imported in place of Python's own
    _HERE = os.path.realpath(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - nothing imported yet
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != _HERE]

import argparse
import base64
import csv
import functools
import io
import json
import re
import stat
import struct
import zipfile
import zlib
from bisect import bisect_left
from collections import Counter, defaultdict
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from hashlib import sha256, sha512
from pathlib import Path
from typing import NamedTuple

CHECKS = {
    1: "the bag holds the files its manifests list, unchanged, and no others",
    2: "packet.json is canonical and names every file of the evidence by its hash",
    3: "the checkpoint is signed by a trusted key",
    4: "the seals lead to the checkpoint, and each carries the hash of the one before where both are here",
    5: "every record is canonical and leads to the root of its sealed batch",
    6: "the tables speak of records that are here as these do, and their counts are those of packet.json",
}
MIB = 1024 * 1024  # bytes
MAX_FILES, MAX_FILE, MAX_PACKET = 10_000, 1024 * MIB, 4096 * MIB  # files; bytes of one; bytes of all
MAX_JSON = 16 * MIB  # bytes of packet.json
MAX_PROOF = 64 * MIB  # bytes of one proof; a whole batch of 1,048,576 rows takes 53 MiB
MAX_LINES = 2_000_000  # lines of a file
MAX_FAULTS = 1_000  # faults of one check that are told
MAX_RATIO, MIN_DEFLATED = 200, 1024  # a zip member unpacks to at most 200 times its size, small ones aside
MAX_INTEGER = 2**53 - 1  # RFC 8785 3.2.2.3: what an IEEE double holds exactly
MAX_LEVELS = 100  # of nested JSON; packets have 6


class Fault(Exception):
    """The evidence is wrong, or is not built as it must be: one sentence."""


class Refused(Exception):
    """There is nothing to check: (exit code, sentence)."""


# What a value of another shape than expected raises where it is used.
STRANGE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)


# --- 1  reading hostile files --------------------------------------------------------------------------------------

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, *STRANGE)


class Files:
    """The files of a packet: {name: size}, and how to open one. Nothing in them has been checked but their names."""

    def __init__(self, sizes, opened, errors=()):
        """`opened(name)` is a binary stream; `errors` are what it raises where the container is damaged."""
        self.sizes, self.opened, self.errors, self.hashes = dict(sorted(sizes.items())), opened, errors, {}

    def chunks(self, name):
        """The bytes of a file, 1 MiB at a time, never more than the size that was judged."""
        if name not in self.sizes:
            raise Fault("the packet has no such file.")
        left = self.sizes[name]
        try:
            with self.opened(name) as stream:
                while left >= 0:
                    chunk = stream.read(min(MIB, left + 1))  # one byte past the end shows a file that is longer
                    if not chunk:
                        break
                    left -= len(chunk)
                    yield chunk
        except self.errors as error:
            raise Fault(f"the zip is damaged: {error}.") from None
        except OSError as error:
            raise Refused(3, f"{name} cannot be read: {error.strerror}.") from None
        if left:
            raise Fault("the file is longer or shorter than the container states.")

    def read(self, name, limit=MAX_FILE):
        """A whole file."""
        if self.sizes.get(name, 0) > limit:
            raise Fault(f"{self.sizes[name]:,} bytes; at most {limit:,} are read.")
        return b"".join(self.chunks(name))

    def sha256(self, name):
        """The hash of a file in hex, worked out once."""
        if name not in self.hashes:
            digest = sha256()
            for chunk in self.chunks(name):
                digest.update(chunk)
            self.hashes[name] = digest.hexdigest()
        return self.hashes[name]


def safe_name(name):
    """A name that is safe as a path below a folder: visible ASCII, relative, no `..`, no backslash."""
    if len(name) > 1024 or not re.fullmatch(r"[!-\[\]-~]+", name) or {"", ".", ".."} & set(name.split("/")):
        raise Refused(2, f"{name[:120]!r} is no name of a file in a packet.")
    return name


def judge(sizes):
    """Refuse what is too large, and names that a file system which ignores case takes for one."""
    if len(sizes) > MAX_FILES or max(sizes.values(), default=0) > MAX_FILE or sum(sizes.values()) > MAX_PACKET:
        raise Refused(2, "the packet is larger than a packet may be.")
    twice = [name for name, times in Counter(map(str.lower, sizes)).items() if times > 1]
    if twice:
        raise Refused(2, f"two names differ in their capitals alone: {twice[0]}.")


def open_folder(path):
    """A packet that is a folder. No link is followed and nothing but plain files is opened."""
    sizes, folders = {}, [path]
    while folders:
        for found in folders.pop().iterdir():
            name, status = safe_name(found.relative_to(path).as_posix()), found.lstat()
            if stat.S_ISDIR(status.st_mode):
                folders.append(found)
            elif stat.S_ISREG(status.st_mode):
                sizes[name] = status.st_size
                if len(sizes) > MAX_FILES:
                    judge(sizes)
            else:
                raise Refused(2, f"a packet holds plain files alone, no links or devices: {name}.")
    judge(sizes)
    return Files(sizes, lambda name: (path / name).open("rb"))


def open_zip(stream):
    """A packet that is a zip. Nothing is unpacked to disk."""
    try:
        archive = zipfile.ZipFile(stream)
    except ZIP_ERRORS:
        raise Refused(2, "this is neither a folder nor a zip.") from None
    sizes = {}
    for member in archive.infolist():
        name = safe_name(member.orig_filename[:-1] if member.filename.endswith("/") else member.orig_filename)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise Refused(2, f"a packet holds plain files alone, no links or devices: {name}.")
        if member.filename.endswith("/"):
            continue
        if name in sizes:
            raise Refused(2, f"a file stands twice in the zip: {name}.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 0x41:
            raise Refused(2, f"neither stored nor deflated, or encrypted: {name}.")  # APPNOTE 4.4.4: bits 0 and 6
        if member.file_size > MAX_RATIO * max(MIN_DEFLATED, member.compress_size):
            raise Refused(2, f"it unpacks to more than it may (a zip bomb?): {name}.")
        sizes[name] = member.file_size
    judge(sizes)
    tops = {name.split("/")[0] for name in sizes}  # people zip the folder: then everything lies below one
    around = next(iter(tops)) + "/" if len(tops) == 1 else ""
    around = around if around + "bagit.txt" in sizes else ""
    inner = {name[len(around) :]: size for name, size in sizes.items()}
    return Files(inner, lambda name: archive.open(around + name), ZIP_ERRORS)


# --- 2  canonical JSON ---------------------------------------------------------------------------------------------


quoted = json.JSONEncoder(ensure_ascii=False).encode


def number(value):
    """A finite double as ECMAScript writes it (RFC 8785 3.2.2.3); Python finds the same shortest digits."""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))  # value = 0.digits x 10^point
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    if not digits:
        return "0"
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[0]}{'.' + digits[1:] if digits[1:] else ''}e{point - 1:+d}"


def canonical(value, level=0):
    """A JSON value -> its one spelling (RFC 8785), as text."""
    if level > MAX_LEVELS:
        raise Fault(f"JSON nested past {MAX_LEVELS} levels.")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return quoted(value)  # Python escapes exactly what RFC 8785 3.2.2.2 escapes
    if isinstance(value, int) and abs(value) <= MAX_INTEGER:
        return str(value)
    if isinstance(value, float) and abs(value) < float("inf"):
        return number(value)
    if isinstance(value, list):
        return "[" + ",".join([canonical(item, level + 1) for item in value]) + "]"
    if isinstance(value, dict):  # RFC 8785 3.2.3: keys by UTF-16 code units
        pairs = sorted(value.items(), key=lambda pair: pair[0].encode("utf-16-be"))
        return "{" + ",".join([f"{canonical(key)}:{canonical(item, level + 1)}" for key, item in pairs]) + "}"
    raise Fault("JSON with a number that is no safe integer and no finite double.")


def parse(data):
    """Canonical JSON bytes -> a value. Whatever is spelled otherwise, or could be read in two ways, is a Fault."""

    def pairs(items):
        found = dict(items)
        if len(found) != len(items):
            raise Fault("JSON with a key twice in one object.")
        return found

    def integer(text):  # Python before 3.10.7 would spend minutes on a million digits
        return int(text) if len(text) <= 17 else 2**64

    try:
        value = json.loads(data.decode(), object_pairs_hook=pairs, parse_int=integer)
        if canonical(value).encode() != data:
            raise Fault("JSON that is not written canonically (RFC 8785).")
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a lone surrogate, nested too deeply
        raise Fault(f"no JSON that can be read: {error}.") from None
    return value


def fields(value, **kinds):
    """The fields of an object that has exactly these, each of one of these types."""
    if not isinstance(value, dict) or value.keys() != kinds.keys():
        raise Fault(f"this is no object with the fields {', '.join(kinds)} and no others.")
    for name, kind in kinds.items():
        if type(value[name]) not in (kind if isinstance(kind, tuple) else (kind,)):
            raise Fault(f"{name} is of another type than it must be.")
    return [value[name] for name in kinds]


# --- 3  Ed25519 ----------------------------------------------------------------------------------------------------

P = 2**255 - 19  # RFC 8032 5.1: the field
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point
D = -121665 * pow(121666, P - 2, P) % P  # of the curve -x^2 + y^2 = 1 + d x^2 y^2
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def point_add(p, q):
    """RFC 8032 5.1.4, in extended coordinates (x, y, z, t); complete, so it doubles as well."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_decode(data):
    """RFC 8032 5.1.3 -> a point, or None. A y past the prime is reduced and the sign of x = 0 not looked at: so does
    OpenSSL, and both verifiers must agree. Nobody holds the secret of such a key."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, (y & (2**255 - 1)) % P
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P != u:
        x = x * ROOT_OF_MINUS_1 % P
    if v * x * x % P != u:
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


@functools.lru_cache(maxsize=64)
def ed25519(public, signature, message):
    """Whether the signature is good: RFC 8032 5.1.7 without the cofactor, S below the order, R compared as bytes
    (which refuses every other spelling of R)."""
    a, s = point_decode(public), int.from_bytes(signature[32:], "little")
    if a is None or len(public) != 32 or len(signature) != 64 or s >= ORDER:
        return False
    k = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % ORDER
    minus_a = (P - a[0], a[1], 1, P - a[3])
    terms = (None, BASE, minus_a, point_add(BASE, minus_a))
    r = (0, 1, 1, 0)
    for bit in range(252, -1, -1):  # s B - k A, both multiples in one pass
        r = point_add(r, r)
        term = terms[(s >> bit & 1) | (k >> bit & 1) << 1]
        r = point_add(r, term) if term else r
    inverse = pow(r[2], P - 2, P)
    x, y = r[0] * inverse % P, r[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


def has_field(event, path):
    """Whether an event has a field: actor.session, or a dotted path of its context."""
    if path == "actor.session":
        return event["actor"]["session"] is not None
    return stands({"context": event["context"]}, path.split("."))


def stands(place, path):
    """Whether a path leads anywhere; through a list, by any of its elements."""
    if not path:
        return True
    if isinstance(place, list):
        return any(stands(element, path) for element in place)
    return isinstance(place, dict) and path[0] in place and stands(place[path[0]], path[1:])


# --- 4  Merkle trees -----------------------------------------------------------------------------------------------


def leaf_hash(entry):
    """RFC 6962 2.1: the hash of one entry."""
    return sha256(b"\x00" + entry).digest()


def merkle_root(size, indexes, leaves, hashes):
    """The root of a tree with holes: `leaves` are the hashes at `indexes`; a subtree that shows none is the next of
    `hashes`, left to right."""
    if not indexes or indexes[0] < 0 or indexes[-1] >= size or indexes != sorted(set(indexes)):
        raise Fault("the leaf indexes are not distinct, rising and within the tree.")
    rest = iter(hashes)

    def walk(start, width, low, high):  # indexes[low:high] lie in this subtree; it is at most 54 levels deep
        if low == high:
            return next(rest)
        if width == 1:
            return leaves[low]
        left = 1 << ((width - 1).bit_length() - 1)  # RFC 6962 2.1: the largest power of two below the width
        middle = bisect_left(indexes, start + left, low, high)
        pair = walk(start, left, low, middle) + walk(start + left, width - left, middle, high)
        return sha256(b"\x01" + pair).digest()

    try:
        root = walk(0, size, 0, len(indexes))
    except StopIteration:
        raise Fault("the proof has too few hashes.") from None
    if next(rest, None) is not None:
        raise Fault("the proof has hashes left over.")
    return root


# RFC 8032 7.1, tests 1 to 3: public key, message, signature.
RFC_8032 = """
d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a - e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873
e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b
3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c 72 92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb37
62223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00
fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025 af82 6291d657deec24024827e69c3abe01a30ce548a284743a445
e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a
"""
# The eight entries that implementations of RFC 6962 publish, and the roots of the first 1, 3, 7 and 8.
RFC_6962 = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
# RFC 8785 appendix B: doubles as they must be written; 3.2.3: an object whose keys stand in their order.
RFC_8785 = """
0 5e-324 -5e-324 1.7976931348623157e+308 -1.7976931348623157e+308 9007199254740992 295147905179352830000
9.999999999999997e+22 1e+23 1.0000000000000001e+23 999999999999999700000 999999999999999900000 1e+21
9.999999999999997e-7 0.000001 333333333.3333332 333333333.33333325 333333333.3333333 333333333.3333334
333333333.33333343 -0.0000033333333333333333 1424953923781206.2
"""
RFC_8785_KEYS = '{"\\r":"\\u000f\\n\\"\\\\/","1":1,"\x80":null,"\xf6":true,"\u20ac":false,"\U0001f600":[1],"\ufb33":{}}'


def self_test():
    """The published vectors, and that whatever differs from them fails. It runs before every check of a packet."""
    parts = RFC_8032.split()
    for at in range(0, len(parts), 4):
        key, message = bytes.fromhex(parts[at]), bytes.fromhex(parts[at + 1].strip("-"))
        r, s = bytes.fromhex(parts[at + 2] + parts[at + 3])[:32], bytes.fromhex(parts[at + 2] + parts[at + 3])[32:]
        larger = (int.from_bytes(s, "little") + ORDER).to_bytes(32, "little")  # RFC 8032 5.1.7: S below the order
        wrong = (r + larger, r + s[:-1] + b"\xff", bytes([r[0] ^ 1]) + r[1:] + s, s + r, r)
        if not ed25519(key, r + s, message) or ed25519(key, r + s, message + b"x"):
            return False
        if any(ed25519(key, signature, message) for signature in wrong):
            return False
    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in RFC_6962]
    for size, root in ROOTS.items():
        if merkle_root(size, list(range(size)), leaves, []).hex() != root:
            return False
    left, right = merkle_root(2, [0, 1], leaves, []), merkle_root(4, [0, 1, 2, 3], leaves[4:], [])
    if merkle_root(8, [2], leaves[2:], [left, leaves[3], right]).hex() != ROOTS[8]:
        return False
    numbers = all(number(float(text)) == text for text in RFC_8785.split())
    return numbers and canonical(json.loads(RFC_8785_KEYS)) == RFC_8785_KEYS


# --- 5  events, seals, keys ----------------------------------------------------------------------------------------

NAME = re.compile(r"[a-z0-9_.:/-]{1,128}")
ACTION = re.compile(r"[a-z0-9_:/-]+(\.[a-z0-9_:/-]+)+")
EVENT_ID = re.compile(r"[!-~]{1,128}")
ORIGIN = re.compile(r"[!-*,-~]{1,255}")  # visible ASCII without `+`
HASH = re.compile(r"[0-9a-f]{64}")
BLIND = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")  # 16 bytes; or, of a redacted record, its leaf hash instead
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)
SIGNATURE = re.compile("\u2014 ([^ +\n]+) ([A-Za-z0-9+/=]+)")
OUTCOMES = ("success", "failure", "denied")
ACTORS = ("user", "service", "system", "support", "anonymous")
UTC = timezone.utc  # noqa: UP017 - datetime.UTC is younger than Python 3.9
NO_SEAL = "0" * 64  # what the first seal carries as the hash of the one before
TEXT_OR_NULL, INT_OR_NULL = (str, type(None)), (int, type(None))


class Key(NamedTuple):
    """A verifier key: whose it is, and the 32 bytes."""

    name: str
    public: bytes

    @property
    def hash(self):
        """The 4 bytes by which a signature names its key (C2SP signed-note)."""
        return sha256(self.name.encode() + b"\n\x01" + self.public).digest()[:4]

    def __str__(self):
        public = base64.b64encode(b"\x01" + self.public).decode()
        return f"{self.name}+{self.hash.hex()}+{public}"


class Checkpoint(NamedTuple):
    """A signed statement: this trail has so many seals, under this root. And who signed it."""

    origin: str
    size: int
    root: bytes
    signers: list


def rule(holds, sentence):
    """A Fault with this sentence where the rule does not hold."""
    if not holds:
        raise Fault(sentence)


def unbase64(text):
    """Base64 -> bytes; there is one spelling."""
    data = base64.b64decode(text)
    rule(base64.b64encode(data).decode() == text, "base64 that does not re-encode to itself.")
    return data


def moment(text):
    """RFC 3339 with an offset -> microseconds since 1970 UTC, digits past six cut off."""
    match = TIME.fullmatch(text) if len(text) <= 64 else None
    rule(match, f"{text[:64]!r} is no time.")
    seconds, fraction, sign, hours, minutes = match.groups()
    hours, minutes = int(hours or 0), int(minutes or 0)
    rule(hours <= 23 and minutes <= 59, f"{text!r} has an offset past 23:59.")
    shift = timedelta(hours=hours, minutes=minutes) * (-1 if sign == "-" else 1)
    since = datetime(*map(int, re.split("[-T:]", seconds)), tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC) - shift
    rule(timedelta(0) <= since < timedelta(days=2_932_897), f"{text!r} is outside the years 1970 to 9999.")
    return since // timedelta(microseconds=1) + int((fraction or "")[:6].ljust(6, "0"))


def canonical_time(text):
    """The same, of the one canonical spelling: UTC, whole seconds or exactly six digits that are not all zero."""
    micros = moment(text)
    fraction = f".{micros % 1_000_000:06}" if micros % 1_000_000 else ""
    rule(text == f"{text[:19]}{fraction}Z", f"{text!r} is not written as times are.")
    return micros


def check_record(line):
    """One line of events.jsonl -> (event, receipt), every rule of the frozen schema held."""
    rule(len(line) <= 131_072, f"a record of {len(line):,} bytes.")
    event, receipt = fields(parse(line), event=dict, receipt=dict)
    action, actor, context, event_id, occurred, outcome, target = fields(
        event, action=str, actor=dict, context=dict, event_id=str, occurred_at=str, outcome=str, target=dict
    )
    actor_id, session, actor_type = fields(actor, id=str, session=TEXT_OR_NULL, type=str)
    target_id, target_type = fields(target, id=str, type=str)
    recorded, source, source_seq = fields(receipt, recorded_at=str, source=str, source_seq=INT_OR_NULL)
    rule(EVENT_ID.fullmatch(event_id), "event_id is not 1 to 128 visible ASCII characters.")
    rule(NAME.fullmatch(action) and ACTION.fullmatch(action), "action is not dotted lower-case words.")
    rule(actor_type in ACTORS and outcome in OUTCOMES, "actor.type or outcome is none of those there are.")
    rule(NAME.fullmatch(target_type) and NAME.fullmatch(source), "target.type or source is not written as it must be.")
    for text in (actor_id, target_id, "-" if session is None else session):
        rule(1 <= len(text.encode()) <= 1024 and "\0" not in text, "an id is empty, too long, or holds U+0000.")
    rule(source_seq is None or source_seq >= 1, "source_seq counts from 1.")
    canonical_time(occurred)
    canonical_time(recorded)
    check_context(context, 1)
    rule(len(canonical(context).encode()) <= 16_384, "the context has more than 16,384 bytes.")
    return event, receipt


def check_context(value, level):
    """At most 8 levels, no U+0000, no object whose only key is $enc, no integer written as a double (1e+21)."""
    inner = []
    if isinstance(value, dict):
        rule(list(value) != ["$enc"], "an object whose only key is $enc is reserved.")
        inner = [*value, *value.values()]
    elif isinstance(value, list):
        inner = value
    elif isinstance(value, str):
        rule("\0" not in value, "U+0000 is not allowed.")
    elif isinstance(value, float):
        rule(not value.is_integer(), "an integer past 2^53 - 1.")
    rule(level <= 8 or not isinstance(value, (dict, list)), "the context has more than 8 levels.")
    for item in inner:
        check_context(item, level + 1)


def check_seal(data):
    """One line of seals.jsonl -> the seal, every rule of its form held. Its own signature is not looked at: the
    checkpoint's covers the root over all seals."""
    rule(len(data) <= 262_144, f"a seal of {len(data):,} bytes.")
    seal = parse(data)
    fields(
        seal, **{"batch": dict, "counts": dict, "format": str, "occurred": list, "origin": str, "previous": str},
        **{"recorded": list, "schema": str, "sealed_at": str, "sequence": int, "signature": str, "sources": dict},
        trail=str,
    )  # fmt: skip
    events, key, root, digest, size = fields(seal["batch"], events=int, object=str, root=str, sha256=str, size=int)
    actions, outcomes = fields(seal["counts"], actions=(dict, type(None)), outcomes=dict)
    rule((seal["format"], seal["schema"]) == ("auditlib/seal/v1", "auditlib/record/v1"), "a seal of another version.")
    rule(ORIGIN.fullmatch(seal["origin"]), "origin is not written as it must be.")
    rule(0 <= seal["sequence"] < 10**12, "sequence is out of bounds.")
    rule(1 <= events <= 2**20 and 1 <= size <= 512 * MIB, "the batch's events or size are out of bounds.")
    rule(all(map(HASH.fullmatch, (root, digest, seal["previous"], seal["trail"]))), "a hash is no SHA-256 in hex.")
    canonical_time(seal["sealed_at"])
    for span in (seal["occurred"], seal["recorded"]):
        rule(len(span) == 2 and canonical_time(span[0]) <= canonical_time(span[1]), "a range is not [least, greatest].")
    expected = f"batches/recorded_date={seal['recorded'][0][:10]}/{seal['sequence']:012}-{digest[:16]}.parquet"
    rule(key == expected, f"the batch's object is not {expected}.")
    stated = [list(outcomes.values()), [], *([] if actions is None else [list(actions.values())])]
    for name, source in seal["sources"].items():
        number_of, first, last = fields(source, events=int, first_seq=INT_OR_NULL, last_seq=INT_OR_NULL)
        stated[1].append(number_of)
        rule(NAME.fullmatch(name) and (first is None) == (last is None), "a source is not described as it must be.")
        rule(first is None or 1 <= first <= last, "the numbers of a source are out of order.")
    for counts in stated:
        rule(all(type(count) is int and count >= 1 for count in counts), "a count is not 1 or more.")
        rule(sum(counts) == events, "the counts do not add up to the batch's events.")
    rule(set(outcomes) <= set(OUTCOMES), "counts of outcomes that there are not.")
    rule(len(actions or ()) <= 256 and all(map(NAME.fullmatch, actions or ())), "counts of actions that cannot be.")
    return seal


def parse_key(text):
    """`name+<8 hex of the key hash>+<base64 of 0x01 and the public key>` -> Key."""
    name, digest, public = (*text.strip().split("+", 2), "", "")[:3]
    try:
        data = unbase64(public)
    except ValueError:
        data = b""
    rule(ORIGIN.fullmatch(name) and len(data) == 33 and data[0] == 1, "this is no verifier key: name+hash+base64.")
    key = Key(name, data[1:])
    rule(key.hash.hex() == digest, f"the hash in the verifier key of {name} is not that of its name and key.")
    return key


def check_note(data, keys):
    """A checkpoint (C2SP tlog-checkpoint in a signed-note) and the keys one trusts -> Checkpoint. A bad signature
    by one of these keys is a Fault, and so is none at all; signatures of others are passed over."""
    rule(len(data) <= 262_144, f"a checkpoint of {len(data):,} bytes.")
    note = data.decode()
    rule(not re.search("[\0-\x09\x0b-\x1f]", note), "a control character stands in the checkpoint.")
    text, blank, lines = note.rpartition("\n\n")
    rule(blank and lines.endswith("\n") and text.count("\n") == 2, "not three lines, an empty one, signatures.")
    origin, size, root = text.split("\n")
    rule(ORIGIN.fullmatch(origin) and re.fullmatch("0|[1-9][0-9]{0,15}", size), "the origin or the size is none.")
    rule(len(unbase64(root)) == 32, "the root is not 32 bytes.")
    known, signers = {(key.name, key.hash): key for key in keys}, []
    signed = [SIGNATURE.fullmatch(line) for line in lines[:-1].split("\n")]
    rule(all(signed), "a signature line is not '\u2014 name base64'.")
    for name, blob in [(match[1], unbase64(match[2])) for match in signed]:
        key = known.get((name, blob[:4]))
        if key:
            rule(len(signers) < 16, "more than 16 signatures by known keys.")
            good = ed25519(key.public, blob[4:], f"{text}\n".encode())
            rule(good, f"the signature by {name} does not verify: it was altered or forged.")
            signers += [] if key in signers else [key]
    rule(signers, "no signature by a trusted key.")
    return Checkpoint(origin, int(size), unbase64(root), signers)


# --- 6  the six checks ---------------------------------------------------------------------------------------------

PROOF_FILES = ("checkpoint", "inclusion.jsonl", "seals-proof.json", "seals.jsonl")
NOT_HASHED = {"packet.json", "report.html", "report.pdf"}  # the reports print the hash of packet.json
TAGS = {"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt", "transmittal.json"}
BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"  # RFC 8493 2.1.1
MANIFEST_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")  # tables put an apostrophe before these


class Verifier:
    """Every check over one packet: `faults` are (check, file, sentence), `evidence` is what was counted."""

    def __init__(self, files, keys):
        self.files, self.keys = files, keys
        self.faults, self.seen, self.evidence = [], Counter(), Counter()
        self.packet, self.checkpoints, self.seals = {}, [], []
        self.lines, self.records = [], []  # of events.jsonl; a record is (event, receipt), or None where it is none
        self.redacted = []  # lines whose place is proven by a leaf hash, and whose content is not
        self.places = {}  # line of events.jsonl -> (trail, sequence, row)
        self.tables, self.digests = {}, {}

    def run(self):
        """Make all six; the order matters to the last alone."""
        with self._noting(1, "manifests"):
            self._check_bag()
        self._check_packet_json()
        self.lines = self._read_lines(5, "data/events.jsonl")
        for at, line in enumerate(self.lines):
            self.records.append(None)
            if not self._flooded(5):
                with self._noting(5, f"data/events.jsonl line {at}"):
                    self.records[at] = check_record(line)
        with self._noting(3, "data/packet.json"):
            self._check_trails()
        with self._noting(5, "data/packet.json"):
            self._check_redactions(self.packet.get("redacted"))
        unproven = sorted(set(range(len(self.lines))) - self.places.keys())
        if unproven:
            message = f"{len(unproven)} record(s) have no proof, such as line {', '.join(map(str, unproven[:5]))}."
            self._fault(5, "data/events.jsonl", message)
        if self.packet:
            self._check_tables()
        for check, name, file in ((2, "Evidence", "data/packet.json"), (1, "Packet", "tagmanifest-sha256.txt")):
            with self._noting(check, file):
                self.digests[f"{name} digest"] = self.files.sha256(file)
        return self

    # 1: the manifests

    def _check_bag(self):
        sizes = self.files.sizes
        for manifest, payload in (("manifest-sha256.txt", True), ("tagmanifest-sha256.txt", False)):
            with self._noting(1, manifest):
                listed = self._read_manifest(manifest)
                for name, expected in listed.items():
                    with self._noting(1, name):
                        rule(name in sizes, "a file of the packet is missing.")
                        rule(self.files.sha256(name) == expected, "a file of the packet was changed.")
                        rule(name.startswith("data/") is payload, "the file stands in the wrong manifest.")
                        self.evidence["files hashed"] += 1
                here = {name for name in sizes if name.startswith("data/") is payload}
                for name in sorted(here - listed.keys() - {"tagmanifest-sha256.txt", "transmittal.json"}):
                    self._fault(1, name, "a file was added that no manifest lists.")
        for name in sizes:  # a listed fetch.txt would have other tools load files from anywhere (RFC 8493 2.2.3)
            if not name.startswith("data/") and name not in TAGS:
                self._fault(1, name, "a packet has no such tag file.")
        with self._noting(1, "bagit.txt"):
            rule(self.files.read("bagit.txt", MIB) == BAGIT, "it does not declare BagIt 1.0.")
        payload_sizes = [size for name, size in sizes.items() if name.startswith("data/")]
        self.evidence["bytes"] = sum(payload_sizes)
        with self._noting(1, "bag-info.txt"):  # RFC 8493 2.2.2
            oxum = f"Payload-Oxum: {sum(payload_sizes)}.{len(payload_sizes)}"
            rule(oxum.encode() in self.files.read("bag-info.txt", MIB).split(b"\n"), f"it does not say {oxum}.")

    def _read_manifest(self, name):
        text = self.files.read(name, 16 * MIB).decode()
        rule(text.endswith("\n") or not text, "it does not end with a newline.")
        listed = {}
        for line in text.split("\n")[:-1]:
            match = MANIFEST_LINE.fullmatch(line)
            rule(match and match[2] not in listed, "a line is not: SHA-256, two spaces, a file once.")
            listed[match[2]] = match[1]
        return listed

    # 2: packet.json

    def _check_packet_json(self):
        where = "data/packet.json"
        raw = self._read(2, where, MAX_JSON)
        with self._noting(2, where):
            packet = parse(raw)
            rule(isinstance(packet, dict) and packet.get("format") == "auditlib/packet/v1", "this is another format.")
            self.packet = packet
            self._check_hashes(packet.get("files"))
            self._check_catalogs(packet["catalogs"])
            trails = packet["checkpoints"]
            told = set(self._read(1, "bag-info.txt", MIB).decode().split("\n"))
            expected = {
                f"Bagging-Date: {max(trail['last_sealed_at'] for trail in trails)[:10]}",
                f"External-Description: {packet['title']}",
                f"External-Identifier: {sha256(raw).hexdigest()}",
                f"Source-Organization: {', '.join(trail['origin'] for trail in trails)}",
            }
            if not expected <= told or len(told) != len(expected) + 2:  # Payload-Oxum, and the end
                self._fault(1, "bag-info.txt", "it says something else than packet.json.")
            self._check_attachments(packet.get("attachments", []), packet.get("attached_files", {}))

    def _check_hashes(self, stated):
        rule(isinstance(stated, dict), "files is no object of names and hashes.")
        here = {name[5:] for name in self.files.sizes if name.startswith("data/")} - NOT_HASHED
        for name in sorted(here | stated.keys()):
            with self._noting(2, f"data/{name}"):
                rule(name in here, "packet.json names this file, and it is not here.")
                rule(self.files.sha256(f"data/{name}") == stated.get(name), "this is not the file packet.json names.")
                self.evidence["files named"] += 1

    def _check_catalogs(self, stated):
        named = {f"data/catalogs/{digest}.toml" for digest in (stated["answered"], *stated["in_force"]) if digest}
        here = {name for name in self.files.sizes if name.startswith("data/catalogs/")}
        if named != here:
            self._fault(2, "data/catalogs/", "the catalogues are not those that packet.json names.")
        for name in sorted(here):
            with self._noting(2, name):
                rule(name == f"data/catalogs/{self.files.sha256(name)}.toml", "a catalogue is named by its SHA-256.")

    def _check_attachments(self, lists, files):  # what came from outside the trail
        rule(type(lists) is list and type(files) is dict, "it does not list what was attached.")
        stated = [(f"attachments/files/{name}", digest) for name, digest in files.items()]
        for one in lists:
            name = f"attachments/{one['name']}.csv"
            stated += [(name, one["sha256"]), (f"{name}.toml", one["declaration_sha256"])]
            rule(repr(len(self._read_table(f"data/{name}"))) == repr(one["rows"]), f"{name} has another row count.")
        here = [pair for pair in self.packet["files"].items() if pair[0].startswith("attachments/")]
        rule(sorted(stated) == sorted(here), "the attachments are not those that it lists.")

    # 3 to 5: checkpoint, seals, records

    def _check_trails(self):
        stated = self.packet.get("checkpoints")
        rule(isinstance(stated, list) and stated, "packet.json names no checkpoint, so that nothing here is proven.")
        origins = {str(trail.get("origin")) for trail in stated}
        rule(len(origins) == len(stated), "packet.json names two checkpoints of one trail.")
        for trail in stated:
            with self._noting(3, "data/packet.json"):
                self._check_trail(trail, f"data/proof/{trail.get('origin')}")
        known = {f"data/proof/{origin}/{name}" for origin in origins for name in PROOF_FILES}
        for name in self.files.sizes:
            if name.startswith("data/proof/") and name not in known:
                self._fault(3, name, "a proof of a trail that packet.json does not name.")
        if json.dumps([seal["sequence"] for seal in self.seals]) != json.dumps(self.packet.get("seals")):  # 0 == False
            self._fault(4, "data/packet.json", "the seals here are not those that packet.json names.")

    def _check_trail(self, stated, folder):
        named = [parse_key(str(key)) for key in stated.get("keys", [])]
        note, checkpoint = self._read(3, f"{folder}/checkpoint"), None
        with self._noting(3, f"{folder}/checkpoint"):
            checkpoint = check_note(note, self.keys or named)
            self.checkpoints.append(checkpoint)
            facts = [checkpoint.origin, checkpoint.size, checkpoint.root.hex()]
            rule(facts == [stated.get(name) for name in ("origin", "size", "root")], "packet.json names another.")
            own = [key for key in checkpoint.signers if key.name == checkpoint.origin]
            rule(own, "it is signed by keys of other trails alone.")  # else A's key could speak for B
            signers = check_note(note, [*self.keys, *named]).signers
            rule(named and all(key in signers for key in named), "packet.json names a key that did not sign.")
        if checkpoint:
            self._check_proofs(stated, folder, checkpoint)

    def _check_proofs(self, stated, folder, checkpoint):
        seals = {}
        with self._noting(4, f"{folder}/seals.jsonl"):
            data = self.files.read(f"{folder}/seals.jsonl")
            rule(data.endswith(b"\n") and data.count(b"\n") <= MAX_LINES, "no last newline, or too many lines.")
            lines = data.split(b"\n")[:-1]
            seals = self._check_seals(lines, self._read(4, f"{folder}/seals-proof.json", MAX_PROOF), checkpoint)
            self._check_chain(folder, lines, seals, checkpoint)
            self.seals += seals.values()
            self.evidence["seals of all"] += checkpoint.size
            last = seals.get(checkpoint.size - 1)
            if last and last["sealed_at"] != stated.get("last_sealed_at"):
                self._fault(4, "data/packet.json", f"the last seal is of {last['sealed_at']}, it says otherwise.")
            self.evidence["last seals"] += bool(last)
        done = set()
        for at, line in enumerate(self._read_lines(5, f"{folder}/inclusion.jsonl")):
            if self._flooded(5):
                break
            with self._noting(5, f"{folder}/inclusion.jsonl line {at}"):
                sequence, lines, rows = self._check_inclusion(line, seals)
                twice = sequence in done or not self.places.keys().isdisjoint(lines)
                rule(not twice, "a batch or a record is proven twice.")
                done.add(sequence)
                self.places.update((n, (checkpoint.origin, sequence, row)) for n, row in zip(lines, rows))  # noqa: B905
                self.redacted += [n for n, blind in zip(lines, parse(line)["blinds"]) if len(blind) == 64]  # noqa: B905
        self.evidence["batches"] += len(done)

    def _check_seals(self, lines, proof, checkpoint):
        """The seals by sequence, once they lead to the checkpoint's root."""
        hashes, indexes, size = fields(parse(proof), hashes=list, leaf_indexes=list, tree_size=int)
        check_lists(hashes, indexes)
        rule(len(lines) == len(indexes), "there are not as many seals as leaves.")
        rule(size == checkpoint.size, f"the proof is for a tree of {size}, the checkpoint of {checkpoint.size}.")
        root = merkle_root(size, indexes, list(map(leaf_hash, lines)), map(bytes.fromhex, hashes))
        rule(root == checkpoint.root, "the seals do not lead to the checkpoint's root.")
        seals = dict(zip(indexes, map(check_seal, lines)))  # noqa: B905 - as many; strict= is younger than 3.9
        rule(all(seal["sequence"] == at for at, seal in seals.items()), "a seal states another number than its place.")
        return seals

    def _check_chain(self, folder, lines, seals, checkpoint):
        hashes = {-1: NO_SEAL}
        for line, (at, seal) in zip(lines, seals.items()):  # noqa: B905
            where, before = f"{folder}/seals.jsonl seal {at}", hashes.get(at - 1)
            if seal["origin"] != checkpoint.origin:
                self._fault(4, where, "the seal is of another trail.")
            if before and seal["previous"] != before:
                self._fault(4, where, "the seal does not carry the hash of the one before.")
            self.evidence["links"] += before is not None
            hashes[at] = sha256(line).hexdigest()

    def _check_inclusion(self, line, seals):
        """One batch: its records lead to the root in its seal -> (sequence, lines of events.jsonl, rows)."""
        rule(len(line) <= MAX_PROOF, f"a proof of {len(line):,} bytes.")
        blinds, hashes, rows, lines, sequence, size = fields(
            parse(line), blinds=list, hashes=list, leaf_indexes=list, lines=list, sequence=int, tree_size=int
        )
        check_lists(hashes, rows)
        check_lists([], lines)
        rule(all(isinstance(blind, str) and BLIND.fullmatch(blind) for blind in blinds), "a blind is no blind.")
        rule(sequence in seals, f"the seal of batch {sequence} is not in the packet.")
        batch = seals[sequence]["batch"]
        rule(len(blinds) == len(rows) == len(lines), "there are not as many blinds and lines as leaves.")
        rule(lines == sorted(set(lines)), "the lines of events.jsonl are not distinct and rising.")
        rule(not lines or lines[-1] < len(self.lines), "a line of events.jsonl is named that is not there.")
        rule(size == batch["events"], "the tree has another size than the seal states.")
        pairs = zip(blinds, lines)  # noqa: B905
        leaves = [bytes.fromhex(b) if len(b) == 64 else leaf_hash(bytes.fromhex(b) + self.lines[at]) for b, at in pairs]
        root = merkle_root(size, rows, leaves, map(bytes.fromhex, hashes))
        rule(root.hex() == batch["root"], "the records do not lead to the root of their batch.")
        return sequence, lines, rows

    def _check_redactions(self, stated):
        """What was left out is what packet.json says, and it is not here."""
        names, lines = ([], []) if stated is None else (stated["fields"], stated["lines"])
        if lines != sorted(self.redacted):
            message = "these are not the records from which packet.json says that fields were left out."
            self._fault(5, "data/packet.json", message)
        for at in self.redacted:
            for name in names if self.records[at] else ():
                if has_field(self.records[at][0], str(name)):
                    self._fault(5, f"data/events.jsonl line {at}", "a field that was left out is here.")

    # 6: the tables

    def _check_tables(self):
        for name in self.files.sizes:
            if name.startswith("data/tables/") and name.endswith(".csv"):
                with self._noting(6, name):
                    self.tables[name[12:-4]] = self._read_table(name)
        with self._noting(6, "data/packet.json"):
            if self.packet.get("records") != len(self.lines):
                self._fault(6, "data/events.jsonl", "there are not as many records as packet.json states.")
            facts = {n: self._facts(n, *record) for n, record in enumerate(self.records) if record}
            spoken = set()
            for name, rows in self.tables.items():
                if rows and "event_id" in rows[0]:
                    spoken |= self._check_rows(f"data/tables/{name}.csv", rows, facts)
            self._check_population(spoken)
            self._check_exceptions()

    def _read_table(self, name):
        text = self.files.read(name).decode("utf-8-sig")
        rule(text.count("\n") + text.count("\r") <= 2 * MAX_LINES, "more rows than are read.")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)  # Python before 3.11 refuses U+0000 here
        try:
            names, rows = next(reader, []), list(reader)
        except csv.Error as error:
            raise Fault(f"not a CSV table: {error}.") from None
        rule(names and len(set(names)) == len(names), "there are no columns, or one stands twice.")
        rule(all(len(row) == len(names) for row in rows), "a row has more or fewer cells than there are columns.")
        return [dict(zip(names, row)) for row in rows]  # noqa: B905

    def _facts(self, line, event, receipt):
        """What a row can say of a record, spelled as tables spell it."""
        facts = {name: event[name] for name in ("event_id", "occurred_at", "action", "outcome")}
        facts.update(recorded_at=receipt["recorded_at"], source=receipt["source"])
        facts.update(actor_type=event["actor"]["type"], actor_id=event["actor"]["id"])
        if line in self.places:
            facts["trail"], facts["sequence"], facts["row"] = map(str, self.places[line])
        return {name: plain_cell(text) for name, text in facts.items()}

    def _check_rows(self, where, rows, facts):
        """Each row agrees with a record in every column that records have -> the lines that rows speak of. A record
        without a proof has no place, and is compared without it."""
        by_values = {True: defaultdict(list), False: defaultdict(list)}  # with a place or without
        columns = {True: [], False: []}
        for line, known in facts.items():
            placed = "row" in known
            columns[placed] = [column for column in known if column in rows[0]]
            by_values[placed][tuple(known[column] for column in columns[placed])].append(line)
        spoken, trails = set(), [plain_cell(one.origin) for one in self.checkpoints]
        for at, row in enumerate(rows, 2):
            if len(trails) > 1 and row.get("trail") not in trails:  # ids count within a trail alone
                self._fault(6, where, f"row {at} names none of the packet's trails as the one that it is of.")
            if not row["event_id"]:  # an item of a list from outside, which no record speaks of
                continue
            agree = [(placed, tuple(row[column] for column in columns[placed])) for placed in (True, False)]
            agree = [(placed, values) for placed, values in agree if values in by_values[placed]]
            if not agree:
                self._fault(6, where, f"row {at}: no record says this of the event {row['event_id'][:140]}.")
            spoken.update(agree)
            self.evidence["rows"] += 1
        return {line for placed, values in spoken for line in by_values[placed][values]}

    def _check_population(self, spoken):
        stated = self.packet["population"]
        name = f"{stated.get('kind')}s"
        rows, where = self.tables.get(name, []), f"data/tables/{name}.csv"
        if rows and not {"event_id", "source", "verdict"} <= set(rows[0]):
            self._fault(6, where, "the table has no column event_id, source or verdict.")
            return
        events = {(row.get("trail"), row["source"], row["event_id"]) for row in rows if row["event_id"]}
        for what, expected, found in (("items", stated["items"], len(rows)), ("events", stated["events"], len(events))):
            if expected != found:
                self._fault(6, where, f"packet.json states {expected!r} {what}; there are {found:,}.")
        counted = {verdict: times for verdict, times in stated["verdicts"].items() if times}
        if counted != Counter(row["verdict"] for row in rows):
            self._fault(6, where, "the verdicts are not as many as packet.json states.")
        self.evidence["items"] = len(rows)
        utc = self.packet["period"]["utc"]
        since, until = (None if utc.get(end) is None else moment(utc[end]) for end in ("since", "until"))
        for line, event in ((line, record[0]) for line, record in enumerate(self.records) if record):
            at = moment(event["occurred_at"])
            within = (since is None or at >= since) and (until is None or at < until)
            of_population = within and event["action"] in stated["actions"] and event["outcome"] == "success"
            if of_population and line not in spoken:
                message = f"line {line} is a {event['action']} of the period, and no table speaks of it."
                self._fault(6, "data/events.jsonl", message)

    def _check_exceptions(self):
        rows, where = self.tables.get("exceptions", []), "data/tables/exceptions.csv"
        if len(rows) != self.packet.get("exceptions"):
            self._fault(6, where, f"packet.json states {self.packet.get('exceptions')!r}; there are {len(rows):,}.")
        kind = self.packet.get("population", {}).get("kind")
        tested = [row for row in self.tables.get(f"{kind}s", []) if row.get("verdict") not in ("pass", "not-testable")]
        columns = [column for column in (rows[0] if rows else ()) if not tested or column in tested[0]]
        expected, found = (Counter(tuple(row[column] for column in columns) for row in some) for some in (tested, rows))
        if expected != found:
            self._fault(6, where, "these are not the items of the population whose verdict is no pass.")

    # what cannot be seen here

    def unchecked(self):
        """What this file cannot see, in sentences."""
        if not self.keys:
            yield (
                "the signature was checked only against the key that the packet itself names; that proves nothing "
                "alone: give the key that you got by another way with --key"
            )
        yield "Parquet, XLSX and PDF files, attachments, the report and the notebook are checked by their hashes only"
        yield (
            "verdicts, entitlements, reasons and the sentences of packet.json are not worked out again: a forgery of "
            "these with the manifests put right shows in the packet digest that you were told, in the signature over "
            "the packet, or when the packet is built again (auditlib packet reproduce), not here"
        )
        if self.redacted:
            yield (
                f"{len(self.redacted):,} of {len(self.lines):,} records lack fields that were left out: that a record "
                "was sealed at each of these places is proven, what it says rests on whoever made the packet"
            )
        scope = self.packet.get("scope")
        if not isinstance(scope, dict) or not scope.get("every_seal_of_period"):
            yield "not every seal of the period is here: completeness needs the vault"
        yield "whether a record was left out of the population needs the vault"
        for name, rows in sorted(self.tables.items()):
            if rows and "event_id" not in rows[0]:
                yield f"tables/{name}.csv names no events: it is checked by its hash only"
        if self.evidence["last seals"] < len(self.checkpoints):
            yield "the last seal is not here: when it was sealed rests on packet.json"
        yield "which catalogue was in force, and the versions named, rest on packet.json"
        if "transmittal.json" in self.files.sizes:
            yield "transmittal.json is not read: who prepared and reviewed the packet is not checked"
        yield "inclusion proves that a record was sealed, not that every act was recorded"

    # helpers

    def _fault(self, check, where, message):
        self.seen[check] += 1
        if self.seen[check] <= MAX_FAULTS:
            self.faults.append((check, where, message))

    def _flooded(self, check):
        return self.seen[check] >= MAX_FAULTS

    @contextmanager
    def _noting(self, check, where):
        """A Fault inside is noted, and the checks go on behind it."""
        try:
            yield
        except Fault as error:
            self._fault(check, where, str(error))
        except STRANGE as error:
            self._fault(check, where, f"it is not built as it must be ({type(error).__name__}: {error}).")

    def _read(self, check, name, limit=MAX_FILE):
        data = b""
        with self._noting(check, name):
            data = self.files.read(name, limit)
        return data

    def _read_lines(self, check, name):
        data = self._read(check, name)
        if data.count(b"\n") > MAX_LINES:
            self._fault(check, name, f"more than {MAX_LINES:,} lines are not read.")
            return []
        lines = data.split(b"\n")
        if lines.pop():
            self._fault(check, name, "the file does not end with a newline.")
        return lines


def plain_cell(text):
    """A text as tables write it: what a spreadsheet would run as a formula has an apostrophe before it."""
    return "'" + text if text.startswith(FORMULA) else text


def check_lists(hashes, indexes):
    """The lists of a proof: hashes in hex, and numbers from 0."""
    rule(all(isinstance(text, str) and HASH.fullmatch(text) for text in hashes), "a hash is no SHA-256 in hex.")
    rule(all(type(index) is int and index >= 0 for index in indexes), "an index is no number from 0.")


# --- 7  the command line -------------------------------------------------------------------------------------------


def verify(path, keys=()):
    """A packet's path and the keys one trusts -> a Verifier that has run. Raises Refused where there is no packet."""
    try:
        if path.is_dir():
            return Verifier(open_folder(path), list(keys)).run()
        if not path.is_file():
            raise Refused(2, f"there is no such packet: {path}.")
        with path.open("rb") as stream:
            return Verifier(open_zip(stream), list(keys)).run()
    except OSError as error:
        raise Refused(3, f"{path} cannot be read: {error.strerror}.") from None
    except MemoryError:
        raise Refused(3, "there is not enough memory for this packet.") from None


def read_keys(given):
    """What --key was given: a key line, or a file with one a line and # comments."""
    try:
        if "+" in given and not os.path.lexists(given):
            return [parse_key(given)]
        with Path(given).open("rb") as stream:
            lines = [line.strip() for line in stream.read(64 * 1024).decode().splitlines()]
        keys = [parse_key(line) for line in lines if line and not line.startswith("#")]
    except OSError as error:
        raise Refused(2, f"the key cannot be read: {given[:200]}: {error.strerror}.") from None
    except (Fault, ValueError) as error:
        raise Refused(2, f"the key cannot be used: {error}") from None
    if not keys:
        raise Refused(2, f"this file holds no key: {given}.")
    return keys


def plain(text):
    """Text that no terminal takes for a command: whatever is not printable is shown escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def report(verifier, path):
    """The outcome for a person, line by line."""
    count, faulty = verifier.evidence, {check for check, _, _ in verifier.faults}
    signers = [str(key) for checkpoint in verifier.checkpoints for key in checkpoint.signers]
    done = {
        1: f"{count['files hashed']:,} files hashed, {count['bytes']:,} bytes under data/",
        2: f"{count['files named']:,} files hashed",
        3: f"{len(verifier.checkpoints)} checkpoint(s), signed by {', '.join(signers) or 'nobody'}"
        + ("" if verifier.keys else " (KEY NOT CONFIRMED: it stands in the packet itself)"),
        4: f"{len(verifier.seals):,} of {count['seals of all']:,} seals are here, {count['links']:,} links compared",
        5: f"{len(verifier.places):,} of {len(verifier.lines):,} records lead to {count['batches']:,} batches",
        6: f"{len(verifier.tables):,} CSV tables, {count['rows']:,} rows held against records; "
        f"{count['items']:,} items, {len(verifier.tables.get('exceptions', ())):,} potential exceptions",
    }
    yield f"Packet {path}"
    for check, sentence in CHECKS.items():
        yield f"{'FAULT' if check in faulty else 'ok':<6}{check}  {sentence}"
        yield f"         {done[check]}"
    for check, where, message in sorted(verifier.faults, key=lambda fault: fault[0]):
        yield f"FAULT {check}  {where}: {message}"
    for check in sorted(faulty):
        if verifier._flooded(check):
            yield f"FAULT {check}  there are more faults than these; not all was read, and not all are told."
    yield "Not checked:"
    for sentence in verifier.unchecked():
        yield f"  - {sentence}"
    yield f"It says          {verifier.packet.get('headline')}"
    for name, digest in verifier.digests.items():
        yield f"{name:<15}  {digest}"
    found, redacted = sum(verifier.seen.values()), len(verifier.redacted)
    rest = f" The contents of {redacted:,} records are NOT proven: fields were left out of them." if redacted else ""
    yield f"{found:,} fault(s) were found." if found else f"No fault was found in what was checked.{rest}"


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check an evidence packet alone and offline.")
    parser.add_argument("packet", nargs="?", type=Path, help="the packet: a folder or a .zip")
    parser.add_argument("--key", action="append", default=[], help="a verifier key or a file of them; several allowed")
    parser.add_argument("--self-test", action="store_true", help="run the published vectors alone")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character
    try:
        if not self_test():
            raise Refused(3, "the published vectors fail: this Python, or this file, is broken.")
        if options.self_test:
            print("The published vectors of RFC 8032, 6962 and 8785 pass.")
            return 0
        if options.packet is None:
            parser.error("name a packet, a folder or a .zip")
        verifier = verify(options.packet, [key for given in options.key for key in read_keys(given)])
        for line in report(verifier, options.packet):
            print(plain(line))
        return 1 if verifier.faults else 0
    except Refused as refused:
        print(plain(refused.args[1]), file=sys.stderr)
        return refused.args[0]


if __name__ == "__main__":
    sys.exit(main())
