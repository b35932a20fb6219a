"""auditlib: an audit trail as evidence that an auditor accepts.

application -> client -> collector -> store -> sealer -> vault -> verify -> trail -> notebook -> packet -> auditor

formats/   bytes and values in, objects out                 sources/   other systems' logs -> events
client/    what an application imports to record an event   collector/ HTTP intake, append only
store/     records that are not sealed yet                  drain      store -> sealer -> vault, again and again
sealer     records -> batch -> seal -> checkpoint           vault/     locked storage
verify     the numbered checks, distrusting the writer      trail      verified queries
approvals  does each grant have its approval?               evidence   what a notebook calls
packet/    builds and checks what the auditor gets          monitor/   is the pipeline alive?
cli/       arguments, exit codes, wiring
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditlib.errors import AuditlibError, MalformedError, MismatchError, UnavailableError

if TYPE_CHECKING:
    from auditlib.trail import Trail, open

__version__ = "0.1.0"
__all__ = ["AuditlibError", "MalformedError", "MismatchError", "Trail", "UnavailableError", "__version__", "open"]


def __getattr__(name: str) -> Any:
    """`open` and `Trail` come when they are first asked for, so that verifying alone needs no query engine."""
    if name in ("open", "Trail"):
        from auditlib import trail

        return getattr(trail, name)
    raise AttributeError(f"module 'auditlib' has no attribute {name!r}")
