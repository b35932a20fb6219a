"""Keys as people hand them over: a line of text, a `.vkey` or `.key` file, an environment variable."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.formats.keys import SECRET_PREFIX, SigningKey, VerifierKey, parse_signing_key, parse_verifier_key

MAX_KEY_FILE_BYTES = 64 * 1024  # bytes


def load_verifier_keys(
    given: str | Path | VerifierKey | Iterable[str | Path | VerifierKey] | None,
) -> list[VerifierKey]:
    """Verifier keys from key lines, files of them (one a line, `#` comments), or keys; None gives none."""
    if given is None:
        return []
    if isinstance(given, str | Path | VerifierKey):
        given = [given]
    found: list[VerifierKey] = []
    for item in given:
        if isinstance(item, VerifierKey):
            found.append(item)
        elif isinstance(item, str) and "+" in item and not _exists(item):
            found.append(parse_verifier_key(item))
        else:
            found.extend(_read_verifier_keys(Path(item)))
    return found


def load_signing_key(path: str | Path) -> SigningKey:
    """The signing key in a `.key` file; its secret never stands in an error."""
    lines = [line for line in _read(Path(path)).splitlines() if line and not line.startswith("#")]
    try:
        return parse_signing_key(lines[0] if lines else "")
    except AuditlibError as error:
        raise error.at(str(path)) from None


def load_token(path: Path) -> str:
    """The token in a file, the one line that `auditlib token add` prints."""
    return _read(path).strip()


def write_key_files(key: SigningKey, folder: Path) -> tuple[Path, Path]:
    """ORIGIN.key (0600) and ORIGIN.vkey, a slash as `_`; refuses to overwrite either."""
    name = key.name.replace("/", "_")
    secret, public = folder / f"{name}.key", folder / f"{name}.vkey"
    for path in (secret, public):
        if _exists(path):
            raise MalformedError("exists already and is not overwritten.", where=str(path), remedy="Choose another -o.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key.secret_text() + "\n")
        with public.open("x") as file:
            file.write(f"{key.verifier}\n")
    except OSError as error:
        raise UnavailableError(f"cannot be written ({error.strerror}).", where=str(folder)) from None
    return secret, public


def _exists(path: str | Path) -> bool:
    """Whether something stands there; a key line can be longer than any file name, which Path.exists minds."""
    try:
        return os.path.lexists(path)
    except ValueError:
        return False


def _read_verifier_keys(path: Path) -> list[VerifierKey]:
    lines = [line.strip() for line in _read(path).splitlines()]
    keys = []
    for number, line in enumerate(lines, 1):
        if line.startswith(SECRET_PREFIX):
            raise MalformedError("this is a signing key; give the .vkey file.", where=f"{path}:{number}")
        if line and not line.startswith("#"):
            try:
                keys.append(parse_verifier_key(line))
            except AuditlibError as error:
                raise error.at(f"{path}:{number}") from None
    if not keys:
        raise MalformedError("holds no verifier key.", where=str(path))
    return keys


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE_BYTES).decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise MalformedError(
            f"the key cannot be read ({reason}).", where=str(path), remedy="Give a key line or a key file."
        ) from None
