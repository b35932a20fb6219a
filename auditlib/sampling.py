"""Samples that neither side could have chosen, and that anyone can draw again by hand.

    drawn = draw_sample(items, Rule("simple", size=25, word="heron"), request="role-grants")
    drawn.items                 the rows drawn, in the population's order
    drawn.sentences()           how, and how to redraw it with printf, sort and sha256sum

    key      ["billing-api/7f3a","01JH2K8Q9R3W","01JH2K8Q9R3W#2"]    RFC 8785 of [source, event_id, item]: one line
    digest   SHA-256 of [key,key,...], the keys in the order of their bytes: the population, frozen
    seed     SHA-256 of ["<digest>","<request id>","<the auditor's word, or nothing>"], RFC 8785
    hash     SHA-256 of the seed's 64 hex digits followed by the key; the least hashes are drawn

The order matters: management records the digest, then the auditor says a word that nobody could guess, then the sample
is drawn. Before the word the seed cannot be known; after it neither side has anything left to choose. The seed goes
into the hash as text, so that no shell has to write raw bytes.

A sample is the beginning of one fixed order over the population, whatever its size: enlarging it keeps what was drawn.
With strata that order is a divisor method (Sainte-Laguë, also known as Webster): one seat to each stratum, the largest
first, then always to the stratum with the greatest population / (2 x seats + 1), ties in the order of the names. By
largest remainders a stratum could lose a seat when the sample grows (the Alabama paradox).
A roll-forward names the first sample's seed and items: a population that grew would displace some of them otherwise.
"""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from hashlib import sha256
from heapq import nlargest
from html import escape
from itertools import pairwise
from shlex import quote
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical

Method = Literal["whole", "simple", "stratified", "chosen"]
DrawnBy = Literal["the auditor's word", "management", "the auditor's own selection", "whole population"]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

KEY = ("source", "event_id", "item")  # what tells the items of a population apart
MONTH = "month"  # as a stratum: the UTC month of occurred_at, `2026-03`
ALL = "all"  # the one stratum of a population that is not divided
MAX_TEXT_CHARS = 200  # of a word and of a request id, which are printed in commands
MAX_CANDIDATES = 100  # items with which a mistyped id is compared closely
MAX_COMPARED_CHARS = 256  # of such an item; comparing takes the square of it
MAX_NAMED = 5  # ids that an error names
MAX_EXAMPLE_CHARS = 300  # of the key that stands in the instructions

# How often a control operates -> fewest and most items that are customarily tested of a year. Seen in 2026: of SOX and
# SOC testing, sarbanes-oxley-forum.com/topic/6949 and /8142 (1, 2, 3, 5 to 15, 25), and tables in several public
# repositories, by risk (1, 2, 2 to 5, 5 to 15, 20 to 40, 25 to 60). kfinancial.com/sampling-guidance-for-soc-reports:
# neither the AICPA nor another body requires a size.
ILLUSTRATIVE_SIZES: dict[str, tuple[int, int]] = {
    "annual": (1, 1),
    "quarterly": (2, 2),
    "monthly": (2, 5),
    "weekly": (5, 15),
    "daily": (20, 40),
    "many times a day": (25, 60),
}
ILLUSTRATIVE = (
    "These sizes are illustrative: they are customary, no standard prescribes them, and they follow from no stated "
    "risk or tolerable rate of deviation. The auditor decides on the size."
)


class Rule(msgspec.Struct, frozen=True):
    """How to draw. Raises MalformedError for a rule that says too little, or what its method would not heed."""

    method: Method
    size: int | None = None  # items in all, `kept` among them; simple and stratified
    strata: tuple[str, ...] = ()  # columns of texts, or MONTH; stratified
    word: str | None = None  # the auditor's, said after the population was frozen; None: drawn by management
    chosen: tuple[str, ...] = ()  # item ids, or `source item` where an id occurs under several sources; chosen
    seed: str | None = None  # roll-forward: the first sample's seed, 64 hex digits
    kept: tuple[str, ...] = ()  # roll-forward: the items drawn then, written like `chosen`

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        methods = get_args(Method)
        if self.method not in methods:
            near = get_close_matches(str(self.method), methods, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise MalformedError(
                f"there is no way to sample called {str(self.method)[:80]!r}.",
                remedy=f"{hint}Known are {', '.join(methods)}.",
            )
        heeded = {
            "whole": set(),
            "simple": {"size", "word", "seed", "kept"},
            "stratified": {"size", "strata", "word", "seed", "kept"},
            "chosen": {"chosen"},
        }[self.method]
        stated = {name for name in self.__struct_fields__[1:] if getattr(self, name) not in (None, ())}
        if unheeded := sorted(stated - heeded):
            raise MalformedError(
                f"the method {self.method!r} does not heed {' and '.join(unheeded)}.",
                remedy="Leave it out, or take another method.",
            )
        for name in sorted(heeded & {"size", "strata", "chosen"} - stated):
            raise MalformedError(f"the method {self.method!r} needs {name}.")
        if self.size is not None and (type(self.size) is not int or self.size < 1):
            raise MalformedError(f"a sample of {str(self.size)[:80]} items cannot be drawn; give a number from 1 on.")
        if self.word is not None:
            _check_text(self.word, "the auditor's word")
        if self.seed is not None and not re.fullmatch("[0-9a-f]{64}", self.seed):
            raise MalformedError(f"{self.seed[:80]!r} is no seed: that is 64 digits of 0 to 9 and a to f.")
        if (self.seed is None) != (not self.kept):
            raise MalformedError(
                "a roll-forward names the first sample's seed and the items that were drawn then, both.",
                remedy="Without the items, newer ones could displace them; without the seed, there is nothing to keep.",
            )
        for names in (self.strata, self.chosen, self.kept):
            for name, following in pairwise(sorted(names)):
                if name == following:
                    raise MalformedError(f"the rule names {name[:80]!r} twice; name it once.")


class Sample(msgspec.Struct, frozen=True):
    """What was drawn from a population, and all that is needed to draw it again."""

    rule: Rule
    request: str
    population_digest: str
    population: int  # items
    seed: str | None  # hex; None where nothing was left to chance
    drawn_by: DrawnBy
    items: pd.DataFrame  # the rows drawn, in the population's order, with `rank` (by hash within `stratum`, from 1)
    strata: pd.DataFrame  # stratum, population, drawn

    def facts(self) -> dict[str, Any]:
        """The sample as packet.json states it."""
        return {
            "drawn": len(self.items),
            "drawn_by": self.drawn_by,
            "kept": len(self.rule.kept),
            "method": self.rule.method,
            "population": {"digest": self.population_digest, "items": self.population},
            "seed": self.seed,
            "seed_reused": self.rule.seed is not None,
            "size": self.rule.size,
            "strata": self.strata.to_dict("records"),
            "stratified_by": list(self.rule.strata),
            "word": self.rule.word,
        }

    def sentences(self) -> list[str]:
        """How it was drawn and how to draw it again, in words; commands stand between backquotes."""
        frozen = (
            f"The population has {self.population:,} item{'' if self.population == 1 else 's'}; its digest is "
            f"{self.population_digest}. An item's key is the canonical JSON (RFC 8785) of [source, event_id, item]. "
            "With every key on a line of its own in keys.txt, `{ printf '['; LC_ALL=C sort keys.txt | paste -sd, - | "
            "tr -d '\\n'; printf ']'; } | sha256sum` gives the digest."
        )
        if self.rule.method == "whole":
            return ["Every item of the population was taken; nothing was sampled.", frozen]
        if self.rule.method == "chosen":
            return [
                f"Selected by the auditor: {len(self.items):,} of {self.population:,} items. A selection is no random "
                "sample: what is found in it says nothing of the other items.",
                frozen,
            ]
        return [self._origin(), frozen, *self._way(), *self._redraw()]

    def _origin(self) -> str:
        said = f"{len(self.items):,} of {self.population:,} items are in the sample, "
        if self.rule.word is None:
            return (
                f"{said}drawn by management: no word of the auditor's went into the seed, so management could have "
                "known the sample while it could still change the population."
            )
        if self.rule.seed is not None:
            return f"{said}drawn by the auditor's word {self.rule.word!r}, which was said for an earlier sample."
        return (
            f"{said}drawn by the auditor's word {self.rule.word!r}. That neither side could choose it rests on the "
            "digest having been recorded before the word was said: compare the two."
        )

    def _way(self) -> list[str]:
        found = []
        if self.rule.strata:
            found.append(
                f"The population was divided by {' and '.join(self.rule.strata)} into {len(self.strata):,} strata. "
                "Each got one item, the largest first, then the stratum with the greatest population / (2 x items "
                "it has + 1) the next, ties in the order of their names, until the size was reached."
            )
            if empty := int((self.strata["drawn"] == 0).sum()):
                found.append(f"Strata without an item, because the size is below the number of strata: {empty:,}.")
        if self.rule.size is not None and self.rule.size > self.population:
            found.append(f"A size of {self.rule.size:,} was asked for; the population has fewer items: all were taken.")
        return found

    def _redraw(self) -> list[str]:
        if self.rule.seed is None:
            text = canonical([self.population_digest, self.request, self.rule.word or ""]).decode()
            seed = f"The seed is {self.seed}: `printf '%s' {quote(text)} | sha256sum` gives it."
        else:
            seed = (
                f"The seed {self.seed} and the items kept ({len(self.rule.kept):,}) are those of an earlier sample. "
                "That cannot be seen from here: compare both with that sample's packet."
            )
        one = "An item's hash is the SHA-256 of the seed's 64 digits followed by its key"
        keys = (key.decode() for key in item_keys(self.items))
        short = (key for key in keys if len(key) <= MAX_EXAMPLE_CHARS and key.isascii() and key.isprintable())
        if example := next(short, None):
            value = sha256(f"{self.seed}{example}".encode()).hexdigest()
            one += f": `printf '%s' {quote(f'{self.seed}{example}')} | sha256sum` gives {value}"
        first = f" | head -n {self.rule.size}" if self.rule.method == "simple" and not self.rule.kept else ""
        every = (
            "`while IFS= read -r key; do "
            f'printf \'%s %s\\n\' "$(printf \'%s%s\' {self.seed} "$key" | sha256sum | cut -c1-64)" "$key"; '
            f"done < keys.txt | LC_ALL=C sort{first}`"
        )
        taken = "prints the sample" if first else "prints the items in the order in which they are taken"
        if self.rule.kept:
            taken += ", after those that are kept"
        if self.rule.strata:
            taken += "; of each stratum as many as the table of strata says"
        return [seed, f"{one}.", f"{every} {taken}."]

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in self.sentences())


def item_keys(items: pd.DataFrame) -> list[bytes]:
    """The key of every item, in the frame's order: canonical JSON of [source, event_id, item], never a line break.

    Raises MalformedError for a missing column, or a value that is no text.
    """
    for name in KEY:
        for row, value in enumerate(_column(items, name).tolist(), 1):
            if type(value) is not str:
                raise MalformedError(f"row {row:,} of the population has no text here.", where=name)
    return [canonical(list(key)) for key in zip(*(items[name].tolist() for name in KEY), strict=True)]


def population_digest(items: pd.DataFrame) -> str:
    """SHA-256, in hex, of the canonical JSON of the list of all [source, event_id, item], sorted by their own bytes.

    The order of the rows says nothing. Raises MalformedError for an item that stands twice.
    """
    return _digest(item_keys(items))


def make_seed(digest: str, request: str, word: str | None) -> str:
    """SHA-256, in hex, of the canonical JSON [population digest, request id, the auditor's word or an empty text]."""
    return sha256(canonical([digest, request, word or ""])).hexdigest()


def draw_sample(items: pd.DataFrame, rule: Rule, *, request: str) -> Sample:
    """Draw from a population, a row an item, with the columns KEY and those the strata ask for.

    Deterministic, and the order of the rows changes nothing but the order of the answer's. A size past the population
    takes all of it. Raises MalformedError for an item twice, a column that is not there, an id that is not in the
    population (naming the closest) or is there under several sources.
    """
    _check_text(request, "the request id")
    keys = item_keys(items)
    digest = _digest(keys)
    seed: str | None = None
    codes, names = _strata(items, rule.strata)
    counts = np.bincount(codes, minlength=len(names))
    drawn_by: DrawnBy
    if rule.method == "whole":
        drawn_by, drawn = "whole population", np.arange(len(keys))
    elif rule.method == "chosen":
        drawn_by, drawn = "the auditor's own selection", _positions(items, rule.chosen, "chosen")
    else:
        drawn_by = "management" if rule.word is None else "the auditor's word"
        seed = rule.seed or make_seed(digest, request, rule.word)
    rank = np.arange(1, len(keys) + 1)
    if seed is not None:
        order = _hash_order(seed, keys)
        kept = np.zeros(len(keys), bool)
        kept[_positions(items, rule.kept, "kept")] = True
        rank = _places(order, codes, counts)
        drawn = _first(order, codes, counts, kept, rule.size or 0)
    else:
        rank[drawn] = np.arange(1, len(drawn) + 1)  # no hash, no order of chance: that of the population
    rows = items.iloc[drawn].reset_index(drop=True)
    table = {"stratum": names, "population": counts, "drawn": np.bincount(codes[drawn], minlength=len(names))}
    return Sample(
        rule=rule,
        request=request,
        population_digest=digest,
        population=len(keys),
        seed=seed,
        drawn_by=drawn_by,
        items=rows.assign(rank=rank[drawn], stratum=[names[code] for code in codes[drawn]]),
        strata=pd.DataFrame(table),
    )


def _digest(keys: list[bytes]) -> str:
    hasher = sha256(b"[")
    before = b""
    for key in sorted(keys):
        if key == before:
            raise MalformedError(
                f"the population holds the item {key.decode()[:200]!r} twice; an item is tested once.",
                remedy="Leave the repetition out, or tell the two apart by their item id.",
            )
        hasher.update(b"," + key if before else key)
        before = key
    hasher.update(b"]")
    return hasher.hexdigest()


def _hash_order(seed: str, keys: list[bytes]) -> Ints:
    """The items' positions, from the least hash on."""
    prefix = seed.encode()
    hashes = b"".join(sha256(prefix + key).digest() for key in keys)
    words = np.frombuffer(hashes, dtype=">u8").astype(np.uint64).reshape(-1, 4)
    return np.lexsort(words.T[::-1]).astype(np.int64)


def _places(order: Ints, codes: Ints, counts: Ints) -> Ints:
    """For each item its place, from 1, among those of its stratum in an order over all."""
    grouped = order[np.argsort(codes[order], kind="stable")]
    places = np.empty(len(order), np.int64)
    places[grouped] = np.arange(1, len(order) + 1) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def _first(order: Ints, codes: Ints, counts: Ints, kept: Mask, size: int) -> Ints:
    """The first `size` of the one order by which items are drawn, as positions in the population's order."""
    if size < kept.sum():
        raise MalformedError(
            f"a sample of {size:,} items cannot keep the {kept.sum():,} that were drawn earlier.",
            remedy="The size counts all: those kept and those to come.",
        )
    seat = _places(order[np.argsort(~kept[order], kind="stable")], codes, counts)
    # Sainte-Laguë. Doubles compare like the fractions they stand for while population x seats is below 2^51: two
    # fractions that differ do so by more than a rounding, and equal ones round alike.
    priority = counts[codes] / (2 * seat - 1)
    return np.sort(np.lexsort((codes, -priority, seat > 1, ~kept))[:size])


def _strata(items: pd.DataFrame, columns: tuple[str, ...]) -> tuple[Ints, list[str]]:
    """Each item's stratum as a number, and the strata's names in the order of the numbers."""
    if not columns:
        return np.zeros(len(items), np.int64), [ALL]
    cells = [_months(items) if name == MONTH else _column(items, name) for name in columns]
    labels = [[_label(value, name) for value in cell.tolist()] for name, cell in zip(columns, cells, strict=True)]
    joined = np.array([" / ".join(row) for row in zip(*labels, strict=True)], dtype=object)
    numbers, names = pd.factorize(joined, sort=True)
    return numbers.astype(np.int64), names.tolist()


def _label(value: Any, column: str) -> str:
    """A value as it stands in a stratum's name; different values never give one name."""
    if isinstance(value, str):
        bare = value.isprintable() and " " not in value and value not in ("", "null", "true", "false")
        return value if bare and value[0] != '"' else canonical(value).decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "null"
    raise MalformedError(
        f"a population is divided by texts, not by {type(value).__name__}.",
        where=column,
        remedy=f"Take a column of texts, or {MONTH!r}.",
    )


def _months(items: pd.DataFrame) -> Any:
    times = _column(items, "occurred_at")
    if items.empty:  # where nothing was found, the column may have no type
        return times
    if not isinstance(times.dtype, pd.DatetimeTZDtype):
        raise MalformedError("the months need times with a time zone.", where="occurred_at")
    return times.dt.tz_convert("UTC").dt.strftime("%Y-%m")


def _column(items: pd.DataFrame, name: str) -> Any:
    if name not in items.columns:
        near = get_close_matches(name, [MONTH, *map(str, items.columns)], n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(map(str, items.columns))}."
        raise MalformedError(f"the population has no column {name[:80]!r}.", remedy=hint)
    return items[name]


def _positions(items: pd.DataFrame, ids: tuple[str, ...], what: str) -> Ints:
    """Item ids, or `source item` -> their positions, in the population's order."""
    if not ids:
        return np.empty(0, np.int64)
    alone: list[str] = items["item"].tolist()
    whole = [f"{source} {item}" for source, item in zip(items["source"].tolist(), alone, strict=True)]
    found: dict[str, set[int]] = {name: set() for name in ids}
    for texts in (alone, whole):
        for position, text in enumerate(texts):
            if text in found:
                found[text].add(position)
    if missing := [name for name in ids if not found[name]]:
        named = ", ".join(f"{name[:80]!r}{_closest(name, alone + whole)}" for name in missing[:MAX_NAMED])
        more = f" and {len(missing) - MAX_NAMED:,} more" if len(missing) > MAX_NAMED else ""
        raise MalformedError(
            f"{len(missing):,} of the {len(ids):,} ids are not in the population: {named}{more}.", where=what
        )
    for name, places in found.items():
        if len(places) > 1:
            example = next((whole[place] for place in sorted(places) if whole[place] != name), None)
            raise MalformedError(
                f"the id {name[:80]!r} stands for {len(places):,} items.",
                where=what,
                remedy=f"Write the source before it, like {example[:120]!r}."
                if example
                else "They share source and item id and cannot be told apart; take another method.",
            )
    every = sorted(place for places in found.values() for place in places)
    if twice := next((a for a, b in pairwise(every) if a == b), None):
        raise MalformedError(f"the item {whole[twice][:80]!r} is named twice.", where=what)
    return np.array(every, np.int64)


def _closest(name: str, pool: list[str]) -> str:
    """` (the closest is 'x')`, or nothing. One slip of the pen leaves an id's first or last half as it was."""
    if len(name) > MAX_COMPARED_CHARS:
        return ""

    def shared(text: str) -> int:
        return sum(map(str.__eq__, name, text)) + sum(map(str.__eq__, name[::-1], text[::-1]))

    first, last = name[: len(name) // 2], name[len(name) // 2 :]
    fit = [text for text in pool if len(text) <= MAX_COMPARED_CHARS]
    alike = [text for text in fit if text.startswith(first) or text.endswith(last)]
    near = get_close_matches(name, nlargest(MAX_CANDIDATES, alike or fit, key=shared), n=1)
    return f" (the closest is {near[0]!r})" if near else ""


def _check_text(text: str, what: str) -> None:
    """A word and a request id are read aloud, typed again and printed in commands."""
    if not text or text != text.strip() or not text.isprintable() or len(text) > MAX_TEXT_CHARS:
        raise MalformedError(
            f"{what} {text[:80]!r} must be 1 to {MAX_TEXT_CHARS} visible characters, with no space at either end."
        )
