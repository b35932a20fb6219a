"""Who approves for whom: a small matrix, rings in it marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.patches import Rectangle

from auditlib.evidence.charts import BLUE, GREY, INK, VERMILION, Picture, drawing

MAX_ROWS = 12  # approvers shown, those with the most approvals; the table names all
_CHARS = 28  # characters of a name beside the matrix
_LEAST, _MOST = 0.12, 0.75  # opacity of the cell with the fewest and the most approvals


def who_for_whom(
    approvers: Sequence[tuple[str, int]],
    times: Mapping[tuple[str, str], int],
    own: Mapping[str, int],
    around: set[tuple[str, str]],
) -> Picture | None:
    """Each approver (name, approvals) a row, those for whom they approved the columns; None where nobody approved.

    `times`: (approver, for whom) -> approvals. `own`: approver -> approvals for themselves. `around`: pairs on a ring.
    """
    if not approvers:
        return None
    shown = sorted(approvers, key=lambda one: (-one[1], one[0]))[:MAX_ROWS]
    names = [name for name, _ in shown]
    others: dict[str, int] = dict.fromkeys(names, 0)
    for (approver, person), number in times.items():
        if approver in others and person not in others:
            others[approver] += number
    most = max([1, *(times.get((a, b), 0) for a in names for b in names), *(own.get(name, 0) for name in names)])
    with drawing(1.25 + 0.34 * len(names), "Who approved for whom (approvals; framed: own, or on a ring)") as (
        axes,
        save,
    ):
        for row, one in enumerate(names):
            for column, other in enumerate(names):
                number = own.get(one, 0) if one == other else times.get((one, other), 0)
                flagged = number > 0 and (one == other or (one, other) in around)
                _cell(axes, column, row, number, number / most, flagged=flagged)
            _cell(axes, len(names) + 0.4, row, others[one], 0, flagged=False)
        labels = [f"{row}  {_plain(name)}  ({number:,})" for row, (name, number) in enumerate(shown, 1)]
        axes.set_yticks([-row for row in range(len(names))], labels, parse_math=False)
        places = [*range(len(names)), len(names) + 0.4]
        axes.set_xticks(places, [*map(str, range(1, len(names) + 1)), "others"])
        axes.xaxis.tick_top()
        axes.set_xlim(-0.6, max(len(names) + 1.0, MAX_ROWS))
        axes.set_ylim(-len(names) + 0.4, 0.6)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        return save()


def _cell(axes, x: float, row: int, number: int, share: float, *, flagged: bool) -> None:  # type: ignore[no-untyped-def]
    if share:
        opacity = _LEAST + (_MOST - _LEAST) * share
        axes.add_patch(Rectangle((x - 0.46, -row - 0.44), 0.92, 0.88, facecolor=BLUE, alpha=opacity, linewidth=0))
    if flagged:
        axes.add_patch(
            Rectangle((x - 0.46, -row - 0.44), 0.92, 0.88, facecolor="none", edgecolor=VERMILION, linewidth=1.8)
        )
    axes.text(x, -row, f"{number:,}" if number else "·", ha="center", va="center", color=INK if number else GREY)


def _plain(name: str) -> str:
    """A name that every font can draw and that cannot lead astray; the tables have it as it is."""
    text = "".join(char if char.isascii() and char.isprintable() else "?" for char in name)
    return text if len(text) <= _CHARS else f"{text[: _CHARS - 3]}..."
