"""How an answer over several trails is shown: what each says, its pictures, tiles and sections (see `joining`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from auditlib.evidence.answer import Answer, Column, Listing, Page, Section

TRAIL = "trail"  # the column that names an item's trail
_COLUMN = Column(TRAIL, "Trail", "code")


def said_of(told: Mapping[str, Sequence[str]]) -> list[str]:
    """What each trail says for itself, with its name; then what all of them say, once.

    A sentence with a number in it counts something of one trail, also where another trail counts as much.
    """
    every = [sentence for sentence in next(iter(told.values())) if all(sentence in said for said in told.values())]
    own = [f"{origin}: {sentence}" for origin, said in told.items() for sentence in said if sentence not in every]
    shared = dict.fromkeys(f"Each trail: {said}" if re.search(r"\d", said) else said for said in every)
    return [*own, *shared]


def figure_of(name: str, origin: str) -> str:
    """The name of a trail's figure: its caption too, where a list of items shows the one that is called `picture`."""
    return origin if name == "picture" else f"{name} of {origin}"


def page_of(answers: Mapping[str, Answer]) -> Page | None:
    """The tiles of each trail, those of one meaning side by side, and the sections; None for a list of items."""
    pages = {origin: answer.page for origin, answer in answers.items() if answer.page is not None}
    if not pages:
        return None
    tiles = [
        msgspec.structs.replace(tile, words=f"{tile.words}: {origin}")
        for number in range(max(len(page.tiles) for page in pages.values()))
        for origin, page in pages.items()
        for tile in page.tiles[number : number + 1]
    ]
    return Page(tiles, _sections(answers, {origin: page.sections for origin, page in pages.items()}))


def listing_of(answers: Mapping[str, Answer]) -> Listing | None:
    """The columns with the trail's before them, the attributes, and the sections; None for what is no list of items."""
    listings = {origin: answer.listing for origin, answer in answers.items() if answer.listing is not None}
    if not listings:
        return None
    every = list(listings.values())
    attributes = {attribute.name: attribute for listing in every for attribute in listing.attributes}
    return Listing(
        items=[_COLUMN, *_columns(listing.items for listing in every)],
        exceptions=[_COLUMN, *_columns(listing.exceptions for listing in every)],
        attributes=list(attributes.values()),
        sections=_sections(answers, {origin: listing.sections for origin, listing in listings.items()}),
    )


def _columns(columns: Iterable[Sequence[Column]]) -> list[Column]:
    return list({column.name: column for some in columns for column in some}.values())


def _sections(answers: Mapping[str, Answer], sections: Mapping[str, Sequence[Section]]) -> list[Section]:
    """Sections of one title become one, its figures one a trail before it, each under its trail's name."""
    found: list[Section] = []
    for title in dict.fromkeys(section.title for some in sections.values() for section in some):
        own = {origin: one for origin, some in sections.items() for one in some if one.title == title}
        found += [
            Section(title=f"{title}: {origin}", figure=figure_of(one.figure, origin))
            for origin, one in own.items()
            if one.figure in answers[origin].figures
        ]
        one = next(iter(own.values()))
        if one.table or any(section.sentences for section in own.values()):
            found.append(
                Section(
                    title=title,
                    sentences=said_of({origin: section.sentences for origin, section in own.items()}),
                    table=one.table,
                    columns=[_COLUMN, *_columns(section.columns for section in own.values())] if one.table else [],
                    empty=one.empty,
                )
            )
    return found
