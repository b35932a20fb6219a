"""Lanes of moments in days from a day of each lane's own: a first day, a last day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from auditlib.evidence.charts import BLUE, GREY, VERMILION, Picture, drawing

MAX_LANES = 40
MAX_LABEL = 40  # characters


class Lane(NamedTuple):
    """One person: a label, and days from zero; `noted` is what somebody should look at."""

    label: str
    sound: Sequence[float]
    noted: Sequence[float]


def day_chart(
    lanes: Sequence[Lane], *, title: str, sound: str, noted: str, agreed: float | None = None
) -> Picture | None:
    """The first MAX_LANES from the top, dots and diamonds; a line at zero and at `agreed` days. None for no lane."""
    shown = lanes[:MAX_LANES]
    if not shown:
        return None
    more = f"; {len(lanes) - len(shown):,} more are in the tables" if len(lanes) > len(shown) else ""
    with drawing(1.4 + 0.4 * len(shown), title + more) as (axes, save):
        axes.axvline(0, color=GREY, linewidth=1.2)
        if agreed is not None:
            axes.axvline(agreed, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        for days, sign, colour, label, lift in (
            ([lane.sound for lane in shown], "o", BLUE, sound, 0.1),
            ([lane.noted for lane in shown], "D", VERMILION, noted, -0.1),
        ):
            x = [day for lane in days for day in lane]
            y = [lift - place for place, lane in enumerate(days) for _ in lane]
            axes.plot(x, y, sign, color=colour, markersize=5.5, alpha=0.75, linestyle="none", label=label)
        axes.set_yticks([-place for place in range(len(shown))], [_plain(lane.label) for lane in shown])
        axes.set_ylim(-len(shown) + 0.45, 0.55)
        axes.set_xlabel("days")
        axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.legend(loc="upper right", bbox_to_anchor=(1, -0.3 / (0.4 * len(shown) + 0.4)), ncols=2, frameon=False)
        return save()


def _plain(label: str) -> str:
    """What a picture can show of a name that a record states: fonts, XML and mathtext stay out of it."""
    text = "".join(c if " " <= c <= "~" else "?" for c in label[:MAX_LABEL])
    return (text + "..." * (len(label) > MAX_LABEL)).replace("$", r"\$")
