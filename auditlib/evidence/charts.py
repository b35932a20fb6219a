"""Pictures as SVG text: fixed ids, no date, text as text, so that equal data are equal bytes.

Colours are Okabe and Ito's, told apart with any colour vision; shape and place say the same again.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLUE, VERMILION, GREY, INK = "#0072B2", "#D55E00", "#8A8F98", "#333a45"
_BINS = 28  # columns of a histogram
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


class Mark(NamedTuple):
    """Something noted in a strip: which (0 is the first), what, its sign, from when until when."""

    lane: int
    label: str
    sign: str
    start: datetime
    end: datetime


def timeline(
    lanes: Sequence[tuple[str, Sequence[datetime], str]],
    *,
    span: tuple[datetime, datetime],
    silences: Sequence[tuple[datetime, datetime]] = (),
    title: str,
) -> Picture:
    """Dots in time, one lane a label (label, times, colour), first on top; silences of the pipeline shaded."""
    with drawing(0.9 + 0.42 * max(1, len(lanes)), title) as (axes, save):
        places = range(len(lanes))
        for place, (_, times, colour) in zip(places, lanes, strict=True):
            marker = "o" if colour == BLUE else "D" if colour == VERMILION else "s"
            x: Any = list(times)
            axes.plot(x, [-place] * len(x), marker, color=colour, markersize=5.5, alpha=0.75, clip_on=False)
        for start, end in silences:
            axes.axvspan(start, end, color=GREY, alpha=0.35, linewidth=0)  # type: ignore[arg-type]
        axes.set_yticks([-place for place in places], [f"{label}  ({len(times)})" for label, times, _ in lanes])
        axes.set_ylim(-len(lanes) + 0.5, 0.5)
        in_time(axes, span)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return save()


def growth(times: Sequence[datetime], sizes: Sequence[int], *, title: str, label: str) -> Picture:
    """Something that only grows, as steps in time; a mark at each."""
    with drawing(2.6, title) as (axes, save):
        x: Any = list(times)
        axes.step(x, sizes, where="post", color=BLUE, linewidth=1.4)
        axes.plot(x, sizes, "o", color=BLUE, markersize=3.2, clip_on=False)
        axes.set_ylim(0, max(sizes) * 1.08)
        axes.set_ylabel(label)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)
        in_time(axes, None)
        return save()


def strips(
    lanes: Sequence[tuple[str, Sequence[datetime], Sequence[int]]],
    marks: Sequence[Mark],
    *,
    span: tuple[datetime, datetime],
    title: str,
    days: int = 1,
) -> Picture:
    """How many in `days` days, one strip a label (label, first days, numbers), first on top; what was noted is marked.

    A mark that has a length is a band from its beginning to its end; its sign stands above the strip, at the middle.
    """
    with drawing(1.3 + 0.62 * max(1, len(lanes)), title) as (axes, save):
        most = [max(numbers, default=0) for _, _, numbers in lanes]
        for place, (_, starts, numbers) in enumerate(lanes):
            height = [0.62 * number / max(1, most[place]) for number in numbers]
            x: Any = list(starts)
            axes.bar(x, height, width=float(days), bottom=-place, align="edge", color=BLUE, alpha=0.55, linewidth=0)
            axes.axhline(-place, color=GREY, linewidth=0.6)
        for label, sign in dict.fromkeys((mark.label, mark.sign) for mark in marks):
            chosen = [mark for mark in marks if mark.label == label]
            for mark in chosen:
                if mark.end > mark.start:
                    low, size = -mark.lane, 0.74
                    axes.broken_barh(
                        [(mark.start, mark.end - mark.start)],  # type: ignore[list-item]
                        (low, size),
                        facecolor="none",
                        edgecolor=VERMILION,
                        hatch="//////",
                        linewidth=0.9,
                    )
            middles: Any = [mark.start + (mark.end - mark.start) / 2 for mark in chosen]
            heights = [0.82 - mark.lane for mark in chosen]
            axes.plot(middles, heights, sign, color=VERMILION, markersize=6, linestyle="none", label=label)
        axes.set_yticks([0.3 - place for place in range(len(lanes))], [label for label, _, _ in lanes])
        for place, number in enumerate(most):
            axes.annotate(
                f"most {number:,}", (1.005, -place), xycoords=("axes fraction", "data"), fontsize=7.5, va="bottom"
            )
        axes.set_ylim(-len(lanes) + 0.85, 1.0)
        in_time(axes, span)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        if marks:
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.14 / max(1, len(lanes)) * 4), ncols=6, frameon=False
            )
        return save()


def histograms(
    lanes: Sequence[tuple[str, Sequence[tuple[str, Sequence[float]]]]], *, title: str, label: str
) -> Picture:
    """How values are spread, one strip a label, its values in named parts: parts past the first are hatched."""
    values = [value for _, parts in lanes for _, part in parts for value in part]
    low, high = min(0.0, *values), max(values)
    width = (high - low) / _BINS or 1.0
    edges = [low + width * number for number in range(_BINS + 1)]
    with drawing(1.2 + 0.62 * len(lanes), title) as (axes, save):
        names = list(dict.fromkeys(name for _, parts in lanes for name, _ in parts))
        for place, (_, parts) in enumerate(lanes):
            counts = {name: _counted(part, low, width) for name, part in parts}
            most = max(1, *(sum(count[n] for count in counts.values()) for n in range(_BINS)))
            below = [0.0] * _BINS
            for name, count in counts.items():
                height = [0.66 * number / most for number in count]
                first = name == names[0]
                axes.bar(
                    edges[:-1],
                    height,
                    width=width,
                    bottom=[-place + under for under in below],
                    align="edge",
                    color=BLUE if first else "none",
                    edgecolor="white" if first else VERMILION,
                    hatch="" if first else "////",
                    linewidth=0.6,
                    label=name,
                )
                below = [under + more for under, more in zip(below, height, strict=True)]
            axes.axhline(-place, color=GREY, linewidth=0.6)
        axes.set_yticks([0.3 - place for place in range(len(lanes))], [label for label, _ in lanes])
        axes.set_ylim(-len(lanes) + 0.85, 0.9)
        axes.set_xlim(low, high + width)
        axes.set_xlabel(label)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
        handles, labels = axes.get_legend_handles_labels()
        shown = dict(zip(labels, handles, strict=True))
        axes.legend(shown.values(), shown.keys(), loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False)
        return save()


def _counted(values: Sequence[float], low: float, width: float) -> list[int]:
    counts = [0] * _BINS
    for value in values:
        counts[min(_BINS - 1, int((value - low) / width))] += 1
    return counts


@contextmanager
def drawing(height: float, title: str) -> Iterator[tuple[Axes, Callable[[], Picture]]]:
    """Axes of this height in inches, drawn in our style whatever the user's own matplotlibrc says, and their SVG."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(9, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)

        def save() -> Picture:
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
            return Picture(_without_preamble(buffer.getvalue()))

        yield axes, save


def in_time(axes: Axes, span: tuple[datetime, datetime] | None) -> None:
    """A time axis in UTC, over the span where one is given."""
    if span:
        axes.set_xlim(*span)  # type: ignore[arg-type]
    locator = AutoDateLocator(tz="UTC")  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz="UTC"))  # type: ignore[no-untyped-call]
    axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)


def _without_preamble(svg: str) -> str:
    """The <svg> element alone, to stand inside HTML."""
    return svg[svg.index("<svg") :].strip() + "\n"
