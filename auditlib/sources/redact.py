"""Credentials in other systems' logs: which keys and texts are secret, and what stands in their place.

secretString   a key that names a secret: its value becomes "[redacted]"
note           any other text: whatever looks like a credential in it becomes "[redacted]"
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

REDACTED = "[redacted]"
# AWS's own redactions.
PLACEHOLDERS = frozenset({"HIDDEN_DUE_TO_SECURITY_REASONS", "<sensitiveDataRemoved>", "****"})

# Keys, lower-case without punctuation.
_SECRET_KEY = re.compile(
    r".*(passwords?\d*|passwd|pwd|passphrase|passworddata|secret|secretstring|secretbinary|secretvalue"
    r"|secrets?key|privatekey|keymaterial|sharedkey|customerkey|apikey|psk|plaintext|signature|authorization"
    r"|assertion|jwt|cookie|connectionstring|tokens?|tokencode|authenticationcode\d*|credentialblob|authparameters"
    r"|challengeresponses|encodedmessage|userdata|base32stringseed|qrcodepng|webhookurl)"
    r"|otp|mfacode|secrets?accesskey.*|.*privatekeypem"
)
_NO_SECRET_KEY = re.compile(
    r".*(next|client|clientrequest|page|pagination|continuation|idempotency|change|previous)tokens?"
    r"|.*publickeymaterial|.*httptokens|.*manage[a-z]*password"
)
_POLICY_KEY = re.compile(r".*policydocument|(bucket|resource|trust|key|session|inline)?policy|policytext")
_VARIABLES_KEY = re.compile(r"environment|environmentvariables|environmentvariablesoverride|variables")
_CREDENTIALS_KEY = re.compile(r".*credentials")
_ACCESS_KEY = re.compile(r".*accesskey")  # an object in CreateAccessKey's response, a secret where it is text

# Text: a cheap look for one of these first, then the patterns.
_HINTS = (
    "=", "bearer", "basic", "eyj", "private key", "iqojb3", "gozxiv", "odyxdz", "://", "ghp_", "gho_", "ghu_",
    "ghs_", "ghr_", "github_pat_", "xox", "glpat-", "sk_live_", "encoded auth", "passw", "passphrase",
    "token", "secret", "apikey", "api_key", "privatekey", "private_key",
)  # fmt: skip
_NAMED = (
    r"((?:password|passwd|passphrase|secret_?access_?key|secret_?key|secret_?string|session_?token"
    r"|security[_-]?token|client_?secret|access_?token|refresh_?token|id_?token|auth_?token|private_?key|api_?key"
    r"|x-amz-signature)"
    r"""["']?\s*[:=]\s*)"""
)
_SHORT = r"(?<![a-z0-9])((?:signature|sig|token|secret|pwd)=)"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*KEY-----|\Z)", re.DOTALL), REDACTED),
    (re.compile(r"(Encoded authorization failure message:\s*)\S+", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*"), REDACTED),  # JSON web tokens
    (re.compile(r"(?:IQoJb3JpZ2lu|F[wQ]o(?:GZXIv|DYXdz))[\w+/=%-]{20,}"), REDACTED),  # STS session tokens
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|sk_live_|xox[abeprs]-)[\w-]{10,}"), REDACTED),
    (re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+@"), f"{REDACTED}@"),  # https://user:password@host
    (re.compile(r"\b(bearer\s+)[\w.~+/=-]{12,}", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"\b(basic\s+)(?=[\w+/=-]*[0-9=])[\w+/=-]{8,}", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(_NAMED + r"""("[^"]*"?|'[^']*'?|[^\s"',;&}{]+)""", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(_SHORT + r"""[^\s"',;&]+""", re.IGNORECASE), rf"\1{REDACTED}"),
)

_REFERENCE = re.compile(
    r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:[\w/+=,.@:*-]{1,400}|(?:AKIA|ASIA)[A-Z0-9]{12,28}"
)

PLAIN, SECRET, ACCESS, CREDENTIALS, VARIABLES, POLICY = range(6)  # what a key says of its value
_KINDS = (
    (_ACCESS_KEY, ACCESS),
    (_CREDENTIALS_KEY, CREDENTIALS),
    (_VARIABLES_KEY, VARIABLES),
    (_POLICY_KEY, POLICY),
)


def hide(value: Any, *, references: bool = True) -> Any:
    """[redacted], but for what is no secret: nothing, yes or no, AWS's own redaction, an ARN or key id."""
    if empty(value) or isinstance(value, bool):
        return value
    if isinstance(value, str) and (value in PLACEHOLDERS or (references and _REFERENCE.fullmatch(value))):
        return value
    return REDACTED


def rule(key: str) -> tuple[int, str]:
    """What a key says of its value, and the key in lower case without punctuation; past 200 characters: secret."""
    return _cached_rule(key) if len(key) <= 200 else (SECRET, key)


@lru_cache(maxsize=8192)
def _cached_rule(key: str) -> tuple[int, str]:
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    if _SECRET_KEY.fullmatch(plain) and not _NO_SECRET_KEY.fullmatch(plain):
        return SECRET, plain
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(plain)), PLAIN), plain


def scrub(text: str) -> str:
    """A text without U+0000, lone surrogates (both U+FFFD) and whatever looks like a credential."""
    return _cached_scrub(text) if len(text) <= 256 else _scrub_text(text)


def _scrub_text(text: str) -> str:
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if len(text) >= 8:
        lower = text.lower()
        if any(hint in lower for hint in _HINTS):
            for pattern, replacement in _PATTERNS:
                text = pattern.sub(replacement, text)
    return text


_cached_scrub = lru_cache(maxsize=16384)(_scrub_text)


def empty(value: Any) -> bool:
    """Whether a value says nothing: null, or an empty text, list or object."""
    return value is None or value in ("", [], {})
