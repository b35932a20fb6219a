"""Lists from outside, as a company attaches them: rows here, a CSV file and its declaration inside."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from auditlib.attachments import Attachment, parse


def attachment(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Attachment:
    """The list `name` with these rows, exported on 2026-12-01."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([columns, *rows])
    declared = [
        'format = "auditlib/attachment/v1"',
        f'name = "{name}"',
        'system = "tickets"',
        'query = "all"',
        'exporter = "Grace Lee"',
        'exported_at = "2026-12-01T00:00:00Z"',
        'time_zone = "UTC"',
        f"rows = {len(rows)}",
        "[columns]",
        *(f'{column} = "{column}"' for column in columns),
    ]
    return parse(name, stream.getvalue().encode(), "\n".join(declared).encode())


def identities(*rows: tuple[str, str]) -> Attachment:
    """(person, account), in every source and always."""
    columns = ("person_id", "account", "source", "valid_from", "valid_until")
    return attachment("identities", columns, [(person, account, "", "", "") for person, account in rows])
