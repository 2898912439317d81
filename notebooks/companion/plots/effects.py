"""Registered rows, one line each: question, interval in units of the smallest effect that counts, verdict."""

from collections.abc import Hashable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.claims.evidence import rulings
from companion.claims.lines import in_units, lines
from companion.claims.register import load_claims
from companion.claims.verdicts import Verdict
from companion.claims.words import IN_WORDS
from companion.plots.style import INK, MINUS, head

# One colour and one mark per verdict, told apart without colour too.
VERDICT_STYLES: dict[Verdict, tuple[str, str]] = {
    "holds": ("#0072B2", "o"),
    "holds in part": ("#56B4E9", "D"),
    "undecided": ("#999999", "s"),
    "does not hold": ("#D55E00", "X"),
    "uninterpretable": (INK, "$\\emptyset$"),
}
CLAIMED = "#E3EEF6"  # the ground of effects that are as claimed
EDGE = 4.0  # units that are shown; what lies beyond is marked there, with its number
ROW, HEADING = 0.22, 1.5  # inches per row; rows per heading
TEXT = 8.5  # points
BLOCKS = {"primary": "Primary", "secondary": "Secondary", "sanity": "Sanity checks: planted or derived"}


def height_of(rows: pd.DataFrame) -> float:
    """How many inches high the panel of `draw_rows` is."""
    return ROW * (len(rows) + HEADING * rows["block"].nunique() + 1)


def draw_rows(ax: Axes, rows: pd.DataFrame, columns: tuple[float, float], others: pd.DataFrame | None = None) -> None:
    """Draw rows from the top down, those of a block below its heading; as claimed is where the ground is blue.

    Args:
        ax: Where.
        rows: Of `companion.claims.lines.lines`, with the heading `block` and the text `label`.
        columns: Width of the columns of questions and of labels, in points.
        others: `claim`, `comparison` and `mean` of every comparison, to mark those that do not decide.
    """
    y, asked = 0.0, ""
    for block, part in rows.groupby("block", sort=False):
        y += HEADING
        _beside(ax, y - 0.15, -sum(columns), str(block), size=TEXT + 1.5, weight="bold")
        for row in part.to_dict("records"):
            y += 1
            faint = 1.0 if row["kind"] == "primary" else 0.6
            question = IN_WORDS[row["group"]]
            if f"{block}: {question}" != asked:
                asked = f"{block}: {question}"
                _beside(ax, y, -sum(columns), question, size=TEXT, weight="bold", alpha=faint)
                ax.axhline(y - 0.5, color="#E5E5E5", lw=0.8, zorder=0)
            _beside(ax, y, -columns[1], row["label"], size=TEXT, alpha=faint)
            shade, mark = VERDICT_STYLES[row["verdict"]]
            ax.plot(
                1.05, y, marker=mark, color=shade, ms=6, alpha=faint, transform=ax.get_yaxis_transform(), clip_on=False
            )
            _beside(ax, y, 24, row["verdict"], size=TEXT, alpha=faint, right=True)
            claimed = [-1, 1] if row["direction"] == "within" else [1, EDGE]
            ax.fill_between(claimed, y - 0.5, y + 0.5, color=CLAIMED, lw=0, zorder=0)
            if others is not None:
                own = others[(others["claim"] == row["claim"]) & (others["comparison"] != row["comparison"])]
                marks = own["mean"].clip(-EDGE, EDGE)
                ax.plot(marks, [y] * len(marks), "|", color=shade, ms=7, mew=0.9, alpha=0.5, zorder=2)
            _interval(ax, y, row, faint)
    ax.axvline(0, color=INK, lw=1, zorder=1)
    ax.set_xlim(-EDGE * 1.06, EDGE * 1.06)
    ax.set_ylim(y + 0.7, 0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False)
    ax.set_xticks([-3, -2, -1, 0, 1, 2, 3], [f"{x:g}".replace("-", MINUS) for x in (-3, -2, -1, 0, 1, 2, 3)])
    ax.set_xlabel("effect, in units of the smallest that counts")
    for place, words in ((-EDGE / 2, "against the claim"), (0.5, "too\nsmall"), (1 + (EDGE - 1) / 2, "as claimed")):
        ax.annotate(words, (place, 1), xycoords=ax.get_xaxis_transform(), ha="center", va="top", size=TEXT, color=INK)


def _beside(ax: Axes, y: float, points: float, text: str, *, right: bool = False, **style: Any) -> None:
    """Write beside the panel, so many points from its left or right edge."""
    ax.annotate(text, (1 if right else 0, y), (points, 0), xycoords=ax.get_yaxis_transform(),
                textcoords="offset points", va="center", ha="left", **style)  # fmt: skip


def _interval(ax: Axes, y: float, row: Mapping[Hashable, Any], alpha: float) -> None:
    """The interval and the mark of one row; what lies beyond the panel ends in an arrow at its edge."""
    shade, mark = VERDICT_STYLES[row["verdict"]]
    low, mean, high = row["low"], row["mean"], row["high"]
    ends = [min(max(end, -EDGE), EDGE) for end in (low, high)]
    ax.plot(ends, [y, y], color=shade, lw=1.8, alpha=alpha, zorder=3, solid_capstyle="butt")
    for end, beyond, arrow in ((low, low < -EDGE, "<"), (high, high > EDGE, ">")):
        if beyond:
            ax.plot(min(max(end, -EDGE), EDGE), y, arrow, color=shade, ms=4, alpha=alpha, zorder=3)
    inside = min(max(mean, 0.1 - EDGE), EDGE - 0.1)
    ax.plot(inside, y, marker=mark, color=shade, ms=6, alpha=alpha, zorder=4)
    if abs(mean) > EDGE:
        inwards = -8 if mean > 0 else 8  # points
        ax.annotate(f"{mean:.0f}".replace("-", MINUS), (inside, y), (inwards, 0), textcoords="offset points",
                    size=TEXT - 1, ha="right" if mean > 0 else "left", va="bottom", color=shade)  # fmt: skip


def draw_evidence(table: pd.DataFrame, title: str) -> Figure:
    """Draw the rows of a notebook: primary first, secondary lighter, sanity checks apart.

    Args:
        table: Of `claims.evidence.evidence_table`.
        title: What was asked and where.
    """
    claims = {name: claim for name, claim in load_claims().items() if name in set(table["claim"])}
    rows = lines(claims, table, rulings(claims, table))
    where = rows["domain"] + ": " if rows["domain"].nunique() > 1 else ""
    several = [f", of {count}" * (count > 1) for count in rows["comparisons"]]
    rows["label"] = where + rows["label"] + ", " + rows["comparison"] + several
    rows["block"] = rows["kind"].map(BLOCKS)
    others = pd.concat([in_units(c, table[table["claim"] == n]).assign(claim=n) for n, c in claims.items()])
    fig, ax = plt.subplots(figsize=(11.6, 1.1 + height_of(rows)))
    draw_rows(ax, rows, (200, 300), others)
    return head(
        fig,
        f"{title}\n95 % interval of the comparison that decides each row, named on the left; thin marks: its others",
    )
