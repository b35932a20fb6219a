"""The chain of a trail: its seals, the checkpoints over them, and on whose word they stand."""

from __future__ import annotations

from hashlib import sha256
from math import ceil

import pandas as pd

from auditlib.evidence.answer import many
from auditlib.evidence.charts import Picture, growth
from auditlib.formats import layout
from auditlib.formats.keys import VerifierKey
from auditlib.formats.times import parse_time, to_datetime
from auditlib.trail import Trail

MAX_STEPS = 1000  # seals drawn, evenly chosen; all stand in the table


def seal_frame(trail: Trail) -> pd.DataFrame:
    """The seals in order, each with its hash and whether a checkpoint over exactly so many is at hand."""
    return pd.DataFrame(
        [
            {
                "sequence": entry.seal.sequence,
                "sealed_at": to_datetime(parse_time(entry.seal.sealed_at)),
                "recorded_from": to_datetime(parse_time(entry.seal.recorded[0])),
                "recorded_until": to_datetime(parse_time(entry.seal.recorded[1])),
                "events": entry.seal.batch.events,
                "checkpoint": "yes" if layout.checkpoint_key(entry.seal.sequence + 1) in trail.history.stored else "no",
                "seal_sha256": sha256(entry.data).hexdigest(),
            }
            for entry in trail.history.seals
        ]
    )


def chain_sentences(trail: Trail, seals: pd.DataFrame, *, forked: bool) -> list[str]:
    """What the chain is and who signed it; `forked` where an earlier checkpoint is not a prefix of it."""
    told = [
        f"{many(len(seals), 'seal')} over {many(trail.count, 'event')}; the first was sealed at "
        f"{trail.seals[0].sealed_at}, the last at {trail.seals[-1].sealed_at}.",
        f"The checkpoint over {many(trail.checkpoint.size, 'seal')} has the root {trail.checkpoint.root.hex()}.",
        *(f"It is signed by {key}, {standing(trail, key)}." for key in trail.checkpoint.signers),
    ]
    earlier = int((seals["checkpoint"] == "yes").sum()) - 1
    if forked:
        told.append("An earlier signed checkpoint in the vault is of another history than this one.")
    elif earlier > 0:
        told.append(f"{many(earlier, 'earlier checkpoint')} in the vault: this history goes on from each.")
    else:
        told.append("No earlier checkpoint is in the vault.")
    return told


def standing(trail: Trail, key: VerifierKey) -> str:
    """Where the trust in a key comes from, in words."""
    if key in trail.history.given:
        return "a key that was given from outside the vault"
    if key in trail.history.introduced:
        return "a key that one given from outside introduced; it is not confirmed itself"
    return "a key found in the vault itself: it is not confirmed until you compare it with one you were given"


def chain_picture(seals: pd.DataFrame) -> Picture:
    """The number of seals over time."""
    step = max(1, ceil(len(seals) / MAX_STEPS))
    shown = pd.concat([seals.iloc[:-1:step], seals.iloc[-1:]])
    title = "The size of the chain: seals, by when each was sealed (UTC)"
    return growth(shown["sealed_at"].tolist(), (shown["sequence"] + 1).tolist(), title=title, label="seals")
