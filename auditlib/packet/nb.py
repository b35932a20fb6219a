"""nbformat, without a second of work that no notebook needs.

It imports jsonschema, which builds the grammar of internationalised addresses (RFC 3987) where that is installed. No
notebook's schema asks for such an address.
"""

from __future__ import annotations

import sys

_GRAMMAR = "rfc3987_syntax"
_kept = sys.modules.get(_GRAMMAR)
sys.modules[_GRAMMAR] = _kept  # type: ignore[assignment] # None: "not installed", to who imports it
try:
    import nbformat
finally:
    if _kept is None:
        del sys.modules[_GRAMMAR]

__all__ = ["nbformat"]
