"""Checkpoints and keys: C2SP tlog-checkpoint and signed-note, byte for byte."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.formats.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    parse_checkpoint,
    read_unverified,
    sign_checkpoint,
)
from auditlib.formats.keys import SigningKey, VerifierKey, decode_base64, parse_signing_key, parse_verifier_key

ORIGIN = "acme.example/audit"
KEY = SigningKey(ORIGIN, bytes(range(32)))
VKEY = "acme.example/audit+cd0ca78c+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
ROOT = base64.b64decode("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
EXAMPLE = """\
acme.example/audit
43
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— acme.example/audit zQynjPDVo8Gd032UrZd7gmviXsHd4sDNRizmqMAm08vLXWCM17TtoN3fHd0vJXKlzfsC1QuUZjafi9jwsaqLIxD9uA0=
""".encode()
TEXT, _, SIGNATURE_LINE = EXAMPLE.partition(b"\n\n")
OTHER = SigningKey("witness.example/w", bytes(32))


def line(name: str, blob: bytes) -> bytes:
    return f"— {name} {base64.b64encode(blob).decode()}\n".encode()


def signed(text: str, key: SigningKey = KEY) -> bytes:
    """A note over any text, with a signature that is good."""
    return (text + "\n").encode() + line(key.name, key.verifier.hash + key.sign(text.encode()))


def test_the_example_of_the_design_is_byte_exact() -> None:
    """DESIGN 4.5, secret key bytes 00 to 1f: Ed25519 is deterministic, so every byte is known."""
    assert str(KEY.verifier) == VKEY
    assert sign_checkpoint(ORIGIN, 43, ROOT, [KEY]) == EXAMPLE
    found = parse_checkpoint(EXAMPLE, [parse_verifier_key(VKEY)])
    assert (found.origin, found.size, found.root, found.signers) == (ORIGIN, 43, ROOT, (KEY.verifier,))
    assert read_unverified(EXAMPLE).text().encode() == TEXT + b"\n"


@settings(max_examples=40, deadline=None)
@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="+"), min_size=1, max_size=255),
    st.integers(0, 10**12),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_signed_is_read_back(origin: str, size: int, root: bytes) -> None:
    """Any origin, size and root; and both signers of a key rotation are seen."""
    key, new = SigningKey(origin, bytes(32)), SigningKey(origin, bytes(range(32)))
    note = sign_checkpoint(origin, size, root, [key, new])
    found = parse_checkpoint(note, [new.verifier, key.verifier])
    assert (found.origin, found.size, found.root) == (origin, size, root)
    assert found.signers == (key.verifier, new.verifier)
    assert parse_checkpoint(note, [new.verifier]).signers == (new.verifier,)


@pytest.mark.parametrize("at", range(len(TEXT) + 1))
def test_a_note_with_one_changed_byte_is_refused(at: int) -> None:
    """No byte of what is signed can be another one."""
    for mask in (0x01, 0x20, 0x80):
        altered = bytearray(EXAMPLE)
        altered[at] ^= mask
        with pytest.raises(AuditlibError):
            parse_checkpoint(bytes(altered), [KEY.verifier])


@pytest.mark.parametrize(
    "extra",
    [
        line("witness.example/w", b"x"),
        line("witness.example/w", b"abc"),
        line("witness.example/w", b"k" * 4 + b"s" * 72),
        line("witness.example/w", b"\xff" * 100_000),
        line(ORIGIN, b"\0\0\0\0" + b"s" * 64),
        line("other", KEY.verifier.hash + b"s" * 64),
        line("wïtness", b"k" * 68),
        line("w", b"k" * 68) * 1500,
    ],
    ids=["short", "three", "cosignature", "long", "same-name", "same-hash", "beyond-ascii", "many"],
)
def test_lines_of_unknown_keys_are_ignored_whatever_their_length(extra: bytes) -> None:
    """A witness's cosignature, or a key's name or hash alone, neither helps nor hurts, before or after ours."""
    for note in (TEXT + b"\n\n" + extra + SIGNATURE_LINE, TEXT + b"\n\n" + SIGNATURE_LINE + extra):
        assert parse_checkpoint(note, [KEY.verifier]).signers == (KEY.verifier,)
    with pytest.raises(MismatchError, match="trusted key"):
        parse_checkpoint(TEXT + b"\n\n" + extra, [KEY.verifier])


def test_a_bad_signature_by_a_known_key_rejects_the_note() -> None:
    """Also beside a good one, and also where it is too short or too long to be a signature."""
    good = KEY.verifier.hash + KEY.sign(TEXT + b"\n")
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:4], good[:-1], good + b"\0", good[:4] + bytes(64)):
        for note in (line(ORIGIN, bad), SIGNATURE_LINE + line(ORIGIN, bad), line(ORIGIN, bad) + SIGNATURE_LINE):
            with pytest.raises(MismatchError, match="does not verify"):
                parse_checkpoint(TEXT + b"\n\n" + note, [KEY.verifier])


def test_a_signature_over_another_text_does_not_count() -> None:
    """Signed is the text with its last newline and without the blank line."""
    for text in (TEXT, TEXT + b"\n\n", b"", TEXT + b"\r\n"):
        note = TEXT + b"\n\n" + line(ORIGIN, KEY.verifier.hash + KEY.sign(text))
        with pytest.raises(MismatchError):
            parse_checkpoint(note, [KEY.verifier])


def test_no_trusted_key_means_no_checkpoint() -> None:
    """Without keys, or with another's, nothing is believed; the message names who signed."""
    for keys in ([], [OTHER.verifier], [VerifierKey(ORIGIN, OTHER.verifier.public)]):
        with pytest.raises(MismatchError) as caught:
            parse_checkpoint(EXAMPLE, keys)
        assert f"{ORIGIN}+cd0ca78c" in str(caught.value.found)


def test_the_same_signature_many_times_is_one_signer() -> None:
    """Repeating a line does not make more signers, and past 16 distinct ones the note is refused."""
    note = TEXT + b"\n\n" + SIGNATURE_LINE * 50
    assert parse_checkpoint(note, [KEY.verifier, KEY.verifier]).signers == (KEY.verifier,)
    keys = [SigningKey(f"w{number}", bytes([number]) * 32) for number in range(MAX_SIGNATURES + 1)]
    trusted = [key.verifier for key in keys]
    assert len(parse_checkpoint(sign_checkpoint(ORIGIN, 1, ROOT, keys[:-1]), trusted).signers) == MAX_SIGNATURES >= 16
    with pytest.raises(MalformedError, match="16"):
        parse_checkpoint(sign_checkpoint(ORIGIN, 1, ROOT, keys), trusted)


TEXTS = {
    "an extension line": "acme.example/audit\n43\n{root}\nextension\n",
    "an empty extension line": "acme.example/audit\n43\n{root}\n\n",
    "a blank line inside": "acme.example/audit\n\n43\n{root}\n",
    "no root": "acme.example/audit\n43\n",
    "an origin with a space": "acme example\n43\n{root}\n",
    "an origin with a plus": "acme+audit\n43\n{root}\n",
    "an empty origin": "\n43\n{root}\n",
    "an origin of 256 characters": "a" * 256 + "\n43\n{root}\n",
    "an origin beyond ASCII": "acmé\n43\n{root}\n",
    "a leading zero": "acme.example/audit\n043\n{root}\n",
    "a sign": "acme.example/audit\n+43\n{root}\n",
    "a negative size": "acme.example/audit\n-1\n{root}\n",
    "other digits": "acme.example/audit\n\u0664\u0663\n{root}\n",
    "a space behind the size": "acme.example/audit\n43 \n{root}\n",
    "a size of 5,000 digits": "acme.example/audit\n" + "9" * 5000 + "\n{root}\n",
    "a root of 31 bytes": "acme.example/audit\n43\n" + base64.b64encode(bytes(31)).decode() + "\n",
    "a root of 33 bytes": "acme.example/audit\n43\n" + base64.b64encode(bytes(33)).decode() + "\n",
    "a root in other base64": "acme.example/audit\n43\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n",
    "a root without padding": "acme.example/audit\n43\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I\n",
    "a carriage return": "acme.example/audit\r\n43\r\n{root}\r\n",
    "a tab": "acme.example/audit\t\n43\n{root}\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_text_that_is_no_checkpoint_is_refused_though_it_is_signed(text: str) -> None:
    """The signature is good in every case: it is the form that is refused."""
    note = signed(text.replace("{root}", base64.b64encode(ROOT).decode()))
    with pytest.raises(MalformedError):
        parse_checkpoint(note, [KEY.verifier])
    with pytest.raises(MalformedError):
        read_unverified(note)


NOTES = {
    "nothing": b"",
    "no blank line": TEXT + b"\n" + SIGNATURE_LINE,
    "no signature": TEXT + b"\n\n",
    "no last newline": EXAMPLE[:-1],
    "two last newlines": EXAMPLE + b"\n",
    "a hyphen for the dash": EXAMPLE.replace("—".encode(), b"-"),
    "two spaces": EXAMPLE.replace(b"audit zQ", b"audit  zQ"),
    "text behind the signature": EXAMPLE + b"hello\n",
    "an empty signature": TEXT + b"\n\n" + "— w \n".encode() + SIGNATURE_LINE,
    "base64 with spare bits": TEXT + b"\n\n" + SIGNATURE_LINE + "— w YR==\n".encode(),
    "base64 without padding": TEXT + b"\n\n" + SIGNATURE_LINE + "— w YQ\n".encode(),
    "our signature with spare bits": EXAMPLE.replace(b"uA0=", b"uA1="),
    "padding inside": TEXT + b"\n\n" + SIGNATURE_LINE + "— w YQ==YQ==\n".encode(),
    "url-safe base64": TEXT + b"\n\n" + SIGNATURE_LINE + "— w -_-_\n".encode(),
    "not UTF-8": EXAMPLE + b"\xff",
    "U+0000": EXAMPLE.replace(b"acme", b"ac\0e"),
    "more than 256 KiB": EXAMPLE + line("w", b"k" * 200_000),
}


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES.keys())
def test_what_is_no_signed_note_is_malformed(note: bytes) -> None:
    """The good signature in it does not save it."""
    with pytest.raises(MalformedError):
        parse_checkpoint(note, [KEY.verifier])


def test_the_note_is_split_at_the_last_empty_line() -> None:
    """A signed note inside the text of another is text, so it is no checkpoint, and its signature is none of ours."""
    inner = signed("acme.example/audit\n99\n" + base64.b64encode(ROOT).decode() + "\n")
    outer = inner + b"\n" + SIGNATURE_LINE
    with pytest.raises(MalformedError, match="three lines"):
        parse_checkpoint(outer, [KEY.verifier])


def test_a_note_of_256_kib_is_still_read() -> None:
    """DESIGN 4.5: at most 256 KiB; exactly that much is fine."""
    room = MAX_NOTE_BYTES - len(EXAMPLE) - len(line("w", b""))
    note = EXAMPLE + line("w", b"k" * (room // 4 * 3))
    assert MAX_NOTE_BYTES - 4 < len(note) <= MAX_NOTE_BYTES
    assert parse_checkpoint(note, [KEY.verifier]).size == 43


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(EXAMPLE)), st.integers(0, 20))
def test_any_bytes_are_a_checkpoint_or_a_known_error(junk: bytes, at: int, gone: int) -> None:
    """Splicing junk anywhere raises nothing but our own errors, and never yields another statement."""
    note = EXAMPLE[:at] + junk + EXAMPLE[at + gone :]
    try:
        found = parse_checkpoint(note, [KEY.verifier])
    except (MalformedError, MismatchError):
        return
    assert (found.origin, found.size, found.root) == (ORIGIN, 43, ROOT)


# --- keys ---------------------------------------------------------------------------------------------------


def test_a_key_file_is_read_back_and_never_shown() -> None:
    """secret_text and parse_signing_key are inverse; repr holds no secret."""
    text = KEY.secret_text()
    again = parse_signing_key(text)
    assert again.verifier == KEY.verifier
    assert again.sign(b"x") == KEY.sign(b"x")
    secret = text.rpartition("+")[2]
    assert secret not in repr(KEY)
    for bad in (text[:-4], text.replace("cd0ca78c", "00000000"), text.replace("PRIVATE+KEY+", ""), text + "A"):
        with pytest.raises(MalformedError) as caught:
            parse_signing_key(bad)
        assert secret[:20] not in str(caught.value)


VKEYS = {
    "another hash": VKEY.replace("cd0ca78c", "cd0ca78d"),
    "another name": VKEY.replace("acme", "acne"),
    "an upper-case hash": VKEY.replace("cd0ca78c", "CD0CA78C"),
    "base64 with spare bits": VKEY[:-4] + "UTG5" + "=",
    "another algorithm": VKEY.replace("+AQOh", "+AgOh"),
    "33 bytes": VKEY + "AAAA",
    "two parts": VKEY.rpartition("+")[0],
    "nothing": "",
    "a secret key": KEY.secret_text(),
}


@pytest.mark.parametrize("text", VKEYS.values(), ids=VKEYS.keys())
def test_a_verifier_key_that_does_not_fit_itself_is_refused(text: str) -> None:
    """A mistyped key must not quietly become another trust anchor."""
    with pytest.raises(MalformedError):
        parse_verifier_key(text)
    assert str(parse_verifier_key(VKEY)) == VKEY


@settings(max_examples=200, deadline=None)
@given(st.text("AQgw+/=-_ \n", max_size=12))
def test_base64_that_does_not_reencode_to_itself_is_refused(text: str) -> None:
    """One byte string, one text (RFC 4648 3.5)."""
    try:
        data = decode_base64(text)
    except MalformedError:
        return
    assert re.fullmatch(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", text)
    assert base64.b64encode(data).decode() == text
