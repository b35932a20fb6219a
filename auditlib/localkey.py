"""A secret of this account on this machine: what is kept beside a vault and signed with it was written here.

    <state>/local.key      32 random bytes, 0600, made when first asked for; see state.default_state

It never leaves the machine and proves nothing to anybody else. Deleting it costs what was kept under it: that is then
built again.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from auditlib.errors import MalformedError, UnavailableError
from auditlib.ownfiles import one_writer, replace_file
from auditlib.state import default_state

KEY_BYTES = 32  # as long as what HMAC-SHA256 gives, RFC 2104 section 3
_OTHERS = 0o077  # group and others may read, write or run


def local_key() -> bytes:
    """The 32 secret bytes; the first call of this account makes them.

    Raises MalformedError where the file is another's, may be read by others or has another length, and
    UnavailableError where it cannot be read or made.
    """
    path = default_state() / "local.key"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.lexists(path):
            with one_writer(path, _unusable):
                if not os.path.lexists(path):  # another process may have been first
                    replace_file(path, secrets.token_bytes(KEY_BYTES), _unusable)
        # O_NONBLOCK: a pipe put in the file's place must not hang the reader
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, error, "used") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
            raise _refused(path, "it is not a plain file that only you can read.")
        key = os.read(descriptor, KEY_BYTES + 1)
    except OSError as error:
        raise _unusable(path, error, "read") from None
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise _refused(path, f"it does not hold {KEY_BYTES} bytes.")
    return key


def _unusable(path: Path, error: OSError, done: str) -> UnavailableError:
    return UnavailableError(
        f"the local key cannot be {done} ({error.strerror}).",
        where=str(path),
        remedy="Set AUDITLIB_STATE to a folder that can be read and written.",
    )


def _refused(path: Path, why: str) -> MalformedError:
    remedy = "Delete it: a new one is made, and what was kept under the old one is built again."
    return MalformedError(f"the local key cannot be trusted: {why}", where=str(path), remedy=remedy)
