"""Pictures as SVG text: fixed ids, no date, text as text, so that equal data are equal bytes.

Colours are Okabe and Ito's, told apart with any colour vision; shape and place say the same again.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

BLUE, VERMILION, GREY, INK = "#0072B2", "#D55E00", "#8A8F98", "#333a45"
_STYLE: Any = {
    "svg.hashsalt": "auditlib",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
}


class Picture:
    """One SVG, shown by notebooks."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def __repr__(self) -> str:
        return "Picture (SVG)"

    def _repr_svg_(self) -> str:
        return self.svg


def timeline(
    lanes: Sequence[tuple[str, Sequence[datetime], str]],
    *,
    span: tuple[datetime, datetime],
    silences: Sequence[tuple[datetime, datetime]] = (),
    title: str,
) -> Picture:
    """Dots in time, one lane a label (label, times, colour), first on top; silences of the pipeline shaded."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's own matplotlibrc says
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(9, 0.9 + 0.42 * max(1, len(lanes))), layout="constrained")
        axes = figure.add_subplot()
        places = range(len(lanes))
        for place, (_, times, colour) in zip(places, lanes, strict=True):
            marker = "o" if colour == BLUE else "D" if colour == VERMILION else "s"
            x: Any = list(times)
            axes.plot(x, [-place] * len(x), marker, color=colour, markersize=5.5, alpha=0.75, clip_on=False)
        for start, end in silences:
            axes.axvspan(start, end, color=GREY, alpha=0.35, linewidth=0)  # type: ignore[arg-type]
        axes.set_yticks([-place for place in places], [f"{label}  ({len(times)})" for label, times, _ in lanes])
        axes.set_ylim(-len(lanes) + 0.5, 0.5)
        axes.set_xlim(*span)  # type: ignore[arg-type]
        locator = AutoDateLocator(tz="UTC")  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz="UTC"))  # type: ignore[no-untyped-call]
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(_without_preamble(buffer.getvalue()))


def _without_preamble(svg: str) -> str:
    """The <svg> element alone, to stand inside HTML."""
    return svg[svg.index("<svg") :].strip() + "\n"
