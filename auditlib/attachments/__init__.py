"""Evidence from outside the trail: tickets, HR lists, responses, files; declared, hashed, copied, never sealed.

    tickets = load("approvals", Path("tickets.csv"))      # with tickets.csv.toml beside it
    tickets.declaration.system, tickets.frame

The way of the data:

shapes.py       the lists that are known, column by column      cells.py       one cell -> a value
declaration.py  FILE.toml: what somebody declares of FILE       table.py       the file -> a typed frame
files.py        PDFs and screenshots of a folder                given.py       read, handed on, put into a packet
decisions.py    approvals beside those of the trail             identities.py  accounts as persons

Every row parses or nothing is taken: what a list from outside says may decide a verdict, so none of it is guessed.
"""

from auditlib.attachments.decisions import UNSEALED, decisions, is_unsealed
from auditlib.attachments.declaration import Declaration
from auditlib.attachments.given import (
    FILES,
    FOLDER,
    NOTHING,
    PLACE,
    Attached,
    Attachment,
    attached,
    gather,
    load,
    parse,
    pass_on,
)
from auditlib.attachments.identities import Persons, for_matching, persons

__all__ = [
    "FILES",
    "FOLDER",
    "NOTHING",
    "PLACE",
    "UNSEALED",
    "Attached",
    "Attachment",
    "Declaration",
    "Persons",
    "attached",
    "decisions",
    "for_matching",
    "gather",
    "is_unsealed",
    "load",
    "parse",
    "pass_on",
    "persons",
]
