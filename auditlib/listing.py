"""What lies in a vault, listed no further than somebody asks: folder by folder, or the whole.

Storage that keeps versions lists each, the oldest of a key first. The oldest is what was sealed; newer ones and delete
markers are shadows over it.
"""

from __future__ import annotations

import re
import threading

from auditlib.formats import layout
from auditlib.vault import Stored, Vault, folders_of

_PAGE = re.compile(r"\d{6}", re.ASCII)  # the folder of 1,024 seals or checkpoints, DESIGN 4.6


class Listing:
    """The objects of a vault. A folder is listed when an object in it is first asked for, and then remembered."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._oldest: dict[str, Stored] = {}
        self._shadows: dict[str, list[Stored]] = {}
        self._keys: dict[str, list[str]] = {}  # by folder
        self._listed: set[str] = set()
        self._lock = threading.Lock()

    @property
    def stored(self) -> dict[str, Stored]:
        """The oldest version of each object there is: lists the whole vault."""
        self._list("")
        return self._oldest

    @property
    def shadows(self) -> list[Stored]:
        """Newer versions, and delete markers: lists the whole vault."""
        self._list("")
        return [stored for shadows in self._shadows.values() for stored in shadows]

    def __contains__(self, key: str) -> bool:
        return self.oldest(key) is not None

    def oldest(self, key: str) -> Stored | None:
        """The oldest version of one object; None where there is none."""
        self._list(key.rpartition("/")[0])
        return self._oldest.get(key)

    def versions(self, key: str) -> list[str]:
        """Every version of an object, the oldest first; one that is not listed has the version ''."""
        oldest = self.oldest(key)
        newer = [stored.version for stored in self._shadows.get(key, ()) if not stored.marker]
        return [oldest.version if oldest else "", *newer]

    def keys(self, folder: str) -> list[str]:
        """The keys in one folder (`trail/`)."""
        self._list(folder[:-1])
        return self._keys.get(folder[:-1], [])

    def numbers(self, kind: str, folder: str) -> list[int]:
        """What the keys of a kind in one folder (`trail/`) name, sorted."""
        found = (layout.number_of(kind, key) for key in self.keys(folder))
        return sorted(number for number in found if number is not None)

    def pages(self, prefix: str) -> list[int]:
        """The numbers of the folders in `seals/` or `checkpoints/`, sorted; one listing each time."""
        return sorted(int(name) for name in folders_of(self._vault, prefix) if _PAGE.fullmatch(name))

    def _list(self, folder: str) -> None:
        with self._lock:
            if folder in self._listed or "" in self._listed:
                return
            if not folder:
                self._oldest, self._shadows, self._keys = {}, {}, {}
            for entry in self._vault.list(folder):
                parent = entry.key.rpartition("/")[0]
                if folder not in ("", parent):
                    continue  # nobody asks for what lies in a folder within
                if entry.marker or entry.key in self._oldest:
                    self._shadows.setdefault(entry.key, []).append(entry)
                else:
                    self._oldest[entry.key] = entry
                    self._keys.setdefault(parent, []).append(entry.key)
            self._listed.add(folder)
