"""CloudTrail log and digest files made as AWS documents them, and a small server for `aws cloudtrail validate-logs`.

The digests are signed with RSA (SHA256withRSA over end time, place, hash and the signature before), one an hour, each
naming one log file. The server answers just what the command asks: S3's bucket location, listing and objects, and
CloudTrail's DescribeTrails and ListPublicKeys.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import MD5, SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auditlib.formats.times import SECOND, format_time, parse_time

ACCOUNT, REGION, BUCKET, NAME = "123456789012", "us-east-1", "bench-logs", "bench"
ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/{NAME}"
HOUR = 3600 * SECOND  # AWS delivers a digest an hour
BEGIN = parse_time("2026-01-01T00:00:00Z")
LISTED = 1000  # keys a listing, as S3 gives


class Object(msgspec.Struct, frozen=True):
    """An object and the metadata that S3 gives with it."""

    data: bytes
    metadata: dict[str, str] = {}


class Bucket(msgspec.Struct, frozen=True):
    """What was delivered: objects by key, the public key (PKCS #1 DER), and the period covered."""

    objects: dict[str, Object]
    public_key: bytes
    since: str
    until: str

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self.public_key)


def delivered(groups: Sequence[bytes]) -> Bucket:
    """Each group, records as JSON joined by commas, as one log file of an hour with that hour's digest."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    objects: dict[str, Object] = {}
    before: dict[str, str | None] = dict.fromkeys(("S3Bucket", "S3Object", "HashValue", "HashAlgorithm", "Signature"))
    for number, group in enumerate(groups):
        since, until = _time(number), _time(number + 1)
        text = b'{"Records":[' + group + b"]}"
        log = f"{_folder('CloudTrail', since)}/{ACCOUNT}_CloudTrail_{REGION}_{_stamp(until)}_bench.json.gz"
        objects[log] = Object(gzip.compress(text, 6, mtime=0))
        place = (
            f"{_folder('CloudTrail-Digest', until)}/"
            f"{ACCOUNT}_CloudTrail-Digest_{REGION}_{NAME}_{REGION}_{_stamp(until)}.json.gz"
        )
        digest = {
            "awsAccountId": ACCOUNT,
            "digestStartTime": since,
            "digestEndTime": until,
            "digestS3Bucket": BUCKET,
            "digestS3Object": place,
            "digestPublicKeyFingerprint": _fingerprint(public),
            "digestSignatureAlgorithm": "SHA256withRSA",
            "newestEventTime": until,
            "oldestEventTime": since,
            **{f"previousDigest{name}": value for name, value in before.items()},
            "logFiles": [
                {
                    "s3Bucket": BUCKET,
                    "s3Object": log,
                    "hashValue": sha256(text).hexdigest(),
                    "hashAlgorithm": "SHA-256",
                    "newestEventTime": until,
                    "oldestEventTime": since,
                }
            ],
        }
        data = json.dumps(digest).encode()
        hashed = sha256(data).hexdigest()
        signed = f"{until}\n{BUCKET}/{place}\n{hashed}\n{before['Signature'] or 'null'}".encode()
        signature = key.sign(signed, padding.PKCS1v15(), SHA256()).hex()
        metadata = {"signature": signature, "signature-algorithm": "SHA256withRSA"}
        objects[place] = Object(gzip.compress(data, 6, mtime=0), metadata)
        before = {
            "S3Bucket": BUCKET,
            "S3Object": place,
            "HashValue": hashed,
            "HashAlgorithm": "SHA-256",
            "Signature": signature,
        }
    return Bucket(objects, public, _time(0), _time(len(groups)))


def _time(number: int) -> str:
    return format_time(BEGIN + number * HOUR)


def _stamp(time: str) -> str:
    return time.replace("-", "").replace(":", "")


def _folder(kind: str, time: str) -> str:
    return f"AWSLogs/{ACCOUNT}/{kind}/{REGION}/{time[:10].replace('-', '/')}"


def _fingerprint(public_key: bytes) -> str:
    digest = Hash(MD5())  # AWS names keys so; nothing rests on it
    digest.update(public_key)
    return digest.finalize().hex()


@contextmanager
def served(bucket: Bucket) -> Iterator[str]:
    """The address of a server of it, on this machine alone."""
    keys = sorted(bucket.objects)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            asked = parse_qs(address.query, keep_blank_values=True)
            key = unquote(address.path).removeprefix(f"/{BUCKET}").lstrip("/")
            if "location" in asked:
                self._answer(b"<LocationConstraint/>")
            elif not key:
                self._answer(_listing(keys, asked))
            elif key in bucket.objects:
                self._answer(bucket.objects[key].data, bucket.objects[key].metadata)
            else:
                self._answer(b"<Error><Code>NoSuchKey</Code></Error>", status=404)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            public = base64.b64encode(bucket.public_key).decode()
            answers = {
                "DescribeTrails": {"trailList": [{"Name": NAME, "TrailARN": ARN, "S3BucketName": BUCKET}]},
                "ListPublicKeys": {"PublicKeyList": [{"Value": public, "Fingerprint": bucket.fingerprint}]},
            }
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            self._answer(json.dumps(answers[operation]).encode())

        def _answer(self, body: bytes, metadata: dict[str, str] | None = None, status: int = 200) -> None:
            self.send_response(status)
            for name, value in (metadata or {}).items():
                self.send_header(f"x-amz-meta-{name}", value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _listing(keys: list[str], asked: dict[str, list[str]]) -> bytes:
    prefix, marker = asked.get("prefix", [""])[0], asked.get("marker", [""])[0]
    found = [key for key in keys if key.startswith(prefix) and key > marker]
    shown = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in found[:LISTED])
    more = "true" if len(found) > LISTED else "false"
    return f"<ListBucketResult><IsTruncated>{more}</IsTruncated>{shown}</ListBucketResult>".encode()
