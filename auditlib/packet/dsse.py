"""A DSSE envelope, version 1: a payload, its type, and Ed25519 signatures over both together.

    {"payload":"eyJfdHlwZSI6...","payloadType":"application/vnd.in-toto+json",
     "signatures":[{"keyid":"cd0ca78c","sig":"c2lnbmF0dXJl..."}]}

https://github.com/secure-systems-lab/dsse. Signed is the pre-authentication encoding, of which the first word keeps a
signature apart from those over seals and checkpoints: `DSSEv1 <bytes of the type> <type> <bytes of the payload>
<payload>`. A `keyid` only says which key to try: here the key hash of a verifier key, in hex (DESIGN 4.5).
"""

from __future__ import annotations

import re

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical
from auditlib.formats.keys import SIGNATURE_BYTES, SigningKey, VerifierKey

MAX_SIGNATURES = 16  # as many as are read of a checkpoint, DESIGN 4.5
_KEYID = re.compile(r"[0-9a-f]{8}")


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature, and a hint at its key."""

    keyid: str
    sig: bytes


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"payload_type": "payloadType"}):
    """What was signed, and by which keys it is said to be; nothing is verified by reading it."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...] = ()

    def pae(self) -> bytes:
        """The bytes that are signed."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)

    def signed(self, key: SigningKey) -> Envelope:
        """The same envelope with one more signature. MalformedError where the key has signed, or no more are taken."""
        more = Signature(key.verifier.hash.hex(), key.sign(self.pae()))
        if any(signature.keyid == more.keyid for signature in self.signatures):
            raise MalformedError(f"{key.verifier} has signed it already.")
        if len(self.signatures) == MAX_SIGNATURES:
            raise MalformedError(f"it carries {MAX_SIGNATURES} signatures; no more are read.")
        return msgspec.structs.replace(self, signatures=(*self.signatures, more))

    def verified(self, signature: Signature, key: VerifierKey) -> bool:
        """Whether the signature is this key's over this payload, whatever its hint says."""
        return key.verifies(signature.sig, self.pae())


def envelope_bytes(envelope: Envelope) -> bytes:
    """An envelope -> its canonical JSON."""
    return canonical(msgspec.to_builtins(envelope))


def parse_envelope(data: bytes) -> Envelope:
    """Canonical JSON -> the envelope, unverified. MalformedError for unknown fields or any other spelling."""
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError(f"no DSSE envelope: {error}.") from None
    if envelope_bytes(envelope) != data:
        raise MalformedError("the envelope is not written canonically (RFC 8785).")
    if not 1 <= len(envelope.signatures) <= MAX_SIGNATURES:
        raise MalformedError(f"{len(envelope.signatures)} signatures; 1 to {MAX_SIGNATURES} are read.")
    for signature in envelope.signatures:
        if not _KEYID.fullmatch(signature.keyid) or len(signature.sig) != SIGNATURE_BYTES:
            raise MalformedError("a signature is no Ed25519 signature by a key hash.")
    if len({signature.keyid for signature in envelope.signatures}) != len(envelope.signatures):
        raise MalformedError("two signatures name the same key.")
    return envelope
