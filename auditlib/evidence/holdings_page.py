"""What a report says and shows of who holds what."""

from __future__ import annotations

from typing import Any

import msgspec
import pandas as pd
from matplotlib.ticker import MaxNLocator

from auditlib.evidence.answer import Column, Section, listed, many
from auditlib.evidence.charts import BLUE, GREY, VERMILION, Picture, drawing
from auditlib.evidence.examined import NOT_TESTABLE, PASS, TESTED
from auditlib.evidence.holding_verdicts import HOLDS, LISTED
from auditlib.evidence.listings import Listed
from auditlib.formats.times import format_time

MAX_BARS = 14  # entitlements in the picture, the privileged and then those with most holders
MAX_NAMED = 10  # entitlements, or records that name nobody, that one sentence names
_CHARS = 32  # characters of a name beside a bar

COLUMNS = [
    Column("item", "Item", "code"),
    Column("subject", "Holder"),
    Column("entitlement", "Entitlement"),
    Column("basis", "Rests on"),
    Column("held_since", "Since (UTC)", "time"),
    Column("last_seen_at", "Last seen (UTC)", "time"),
    Column("verdict", "Verdict", "verdict"),
]
NOTED = [
    Column("item", "Item", "code"),
    Column("subject", "Holder"),
    Column("entitlement", "Entitlement"),
    Column("state", "What it is"),
    Column("verdict", "Attribute not met", "verdict"),
    Column("reason", "What was noted", "wide"),
]
_CHANGED = [
    Column("change", "Change"),
    Column("subject", "Holder"),
    Column("entitlement", "Entitlement"),
    Column("item", "Rests on", "code"),
    Column("reason", "What was noted", "wide"),
]
_ENDED = [
    Column("subject", "Holder"),
    Column("entitlement", "Entitlement"),
    Column("item", "Grant", "code"),
    Column("occurred_at", "Granted (UTC)", "time"),
    Column("valid_until", "Ended (UTC)", "time"),
]
_UNREAD = [
    Column("item", "Item", "code"),
    Column("occurred_at", "Occurred (UTC)", "time"),
    Column("action", "Action"),
    Column("actor_id", "By"),
    Column("entitlement", "Entitlement"),
]


class Asked(msgspec.Struct, frozen=True):
    """What was asked, and what there was to answer it from."""

    at: int
    privileged: tuple[str, ...]
    dormant_days: int
    opening: list[Listed]
    closing: list[Listed]
    recorded_leaves: bool


def procedure(asked: Asked) -> list[str]:
    """How holdings were worked out and judged."""
    begins = _words(asked.opening) or "nothing, because no opening listing is there"
    told = [
        f"Holdings at {format_time(asked.at)}: begun from {begins}; then every successful grant and removal before "
        "that moment, in the order in which they occurred (ties by their place in the trail).",
        "A holding rests on the opening listing, or on its first grant since it was last removed. A grant whose stated "
        "end lies at or before the moment gives nothing at it.",
    ]
    if asked.closing:
        told.append(
            f"Reconciled to {_words(asked.closing)}: the replay up to that moment was held against it, pair by pair; a "
            "difference is a change that nobody logged."
        )
    else:
        told.append("No closing listing to reconcile to: whether anything changed without a record was not tested.")
    names = listed(asked.privileged) if asked.privileged else "none"
    told.append(
        f"Privileged entitlements: {names}. Their holders are dormant where no successful event of theirs occurred in "
        f"the {many(asked.dormant_days, 'day')} before."
    )
    return told


def facts(
    held: pd.DataFrame, unlogged: pd.DataFrame, ended: pd.DataFrame, unread: pd.DataFrame, asked: Asked
) -> list[str]:
    """What was found, for the conclusion."""
    told = []
    privileged = held.loc[held["privileged"], "entitlement"].value_counts().sort_index()
    if len(privileged):
        counted = [f"{name}: {number:,}" for name, number in privileged.items()]
        more = [f"and {len(counted) - MAX_NAMED:,} more"] if len(counted) > MAX_NAMED else []
        told.append(f"Holders of privileged entitlements: {', '.join([*counted[:MAX_NAMED], *more])}.")
    if asked.closing and asked.opening:
        counts = unlogged["change"].value_counts().sort_index()
        kinds = listed(f"{number:,} {name}" for name, number in counts.items())
        told.append(
            f"{many(len(unlogged), 'difference')} to {_words(asked.closing)}: {kinds}."
            if len(unlogged)
            else f"No difference to {_words(asked.closing)}."
        )
    if len(ended):
        told.append(
            f"{many(len(ended), 'holding')} had ended by the terms of the grant without a recorded removal, and "
            f"{'is' if len(ended) == 1 else 'are'} not counted as held (table ended)."
        )
    if len(unread):
        names = listed([*unread["item"].tolist()[:MAX_NAMED], *(["others"] if len(unread) > MAX_NAMED else [])])
        told.append(
            f"{many(len(unread), 'grant or removal', 'grants and removals')} of the time name no holder or no "
            f"entitlement: whose access they changed is not testable ({names})."
        )
    unsealed = int((held["evidence"] == "unsealed").sum())
    if unsealed:
        rests = "holding rests" if unsealed == 1 else "holdings rest"
        told.append(f"{unsealed:,} {rests} on an attached listing: unsealed evidence.")
    if not asked.recorded_leaves:
        told.append("No leaving is recorded in this trail: whether holders had left was not tested.")
    return told


def limits(asked: Asked) -> list[str]:
    """What this answer does not show."""
    told = [
        "Access in systems that neither record grants here nor list their holders here does not show; who shares an "
        "account does not show."
    ]
    if asked.opening:
        told.append("What the opening listing shows is taken as it stands: what gave it is older than this answer.")
    if len({part.system for one in asked.opening for part in one.parts}) > 1:
        told.append(
            "Listings of several systems were put together; grants do not say for which of them they are, so that an "
            "entitlement of one name in two systems is one holding."
        )
    return told


def sections() -> list[Section]:
    """What stands in the report beside the holdings."""
    return [
        Section(
            title="Changes that nobody logged",
            sentences=[
                "appeared: the closing listing shows it, and nothing gives it. vanished: the closing listing lacks it, "
                "and no removal was recorded. outlived its end: its grant had ended, and the closing listing shows it."
            ],
            table="unlogged",
            columns=_CHANGED,
            empty="None was found, or there are not two listings to compare.",
        ),
        Section(
            title="Grants that had ended by themselves",
            sentences=["No removal is recorded; by their own terms they give nothing at the date."],
            table="ended",
            columns=_ENDED,
            empty="None.",
        ),
        Section(
            title="Grants and removals that name no holder or no entitlement",
            table="unread",
            columns=_UNREAD,
            empty="None.",
        ),
    ]


def holders_chart(items: pd.DataFrame, when: str) -> Picture | None:
    """How many hold each entitlement, potential exceptions apart; None where nothing is held."""
    held = items[items["state"].isin([HOLDS, LISTED])]
    if held.empty:
        return None
    kind = held["verdict"].map(lambda verdict: verdict if verdict in TESTED else "potential exception")
    counts = pd.crosstab(held["entitlement"], kind)
    order = pd.DataFrame({"n": -counts.sum(axis=1), "last": ~held.groupby("entitlement")["privileged"].any()})
    names = order.reset_index().sort_values(["last", "n", "entitlement"])["entitlement"].tolist()[:MAX_BARS]
    with drawing(1.1 + 0.3 * len(names), f"Holders of each entitlement at {when}") as (axes, save):
        styles: dict[str, Any] = {
            PASS: {"color": BLUE},
            "potential exception": {"facecolor": "none", "edgecolor": VERMILION, "hatch": "/////"},
            NOT_TESTABLE: {"color": GREY},
        }
        left = [0] * len(names)
        for kind_name, style in styles.items():
            if kind_name in counts:
                width = [int(counts.loc[name, kind_name]) for name in names]
                some = [n for n, size in enumerate(width) if size]  # a bar without a length would still show its edge
                at, size = [left[n] for n in some], [width[n] for n in some]
                axes.barh([-n for n in some], size, left=at, height=0.62, label=kind_name, **style)
                left = [before + more for before, more in zip(left, width, strict=True)]
        labels = [f"{_plain(name)}  ({total:,})" for name, total in zip(names, left, strict=True)]
        axes.set_yticks([-n for n in range(len(names))], labels, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.legend(loc="lower right", frameon=False)
        return save()


def _words(listings: list[Listed]) -> str:
    return listed(one.words for one in listings) if listings else ""


def _plain(name: str) -> str:
    """A name that every font can draw and that cannot lead astray; the tables have it as it is."""
    text = "".join(char if char.isascii() and char.isprintable() else "?" for char in name)
    return text if len(text) <= _CHARS else f"{text[: _CHARS - 3]}..."
