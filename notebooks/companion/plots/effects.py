"""Registered comparisons in units of the smallest effect that counts, by verdict."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from companion.claims.verdicts import Verdict
from companion.plots.style import INK, MINUS, head

# One colour and one mark per verdict, told apart without colour too.
VERDICT_STYLES: dict[Verdict, tuple[str, str]] = {
    "holds": ("#0072B2", "o"),
    "holds in part": ("#56B4E9", "D"),
    "undecided": ("#999999", "s"),
    "does not hold": ("#D55E00", "X"),
}
CLAIMED = "#E3EEF6"  # the ground of effects that are as claimed
ROW_HEIGHT = 0.17  # inches
GAP = 1.3  # rows between the last row of a block and the next heading


def height_of(rows: pd.DataFrame) -> float:
    """How many rows high the blocks of `effects_panel` are."""
    return len(rows) + GAP * rows["heading"].nunique()


def effects_panel(ax: Axes, rows: pd.DataFrame, height: float, limits: tuple[float, float]) -> None:
    """Draw effects from the top down, a heading above each block; as claimed is where the ground is blue.

    The axis is linear between -1 and 1 and logarithmic beyond, so that effects of all sizes stay legible.

    Args:
        ax: Where.
        rows: `heading`, `label`, `verdict`, `direction`, and in units of the smallest effect that counts, positive
            where the claim points, `mean`, `low` and `high`; `least` and `most` where the mean is one of several.
        height: Of the panel, in rows.
        limits: The least and greatest effect of the figure.
    """
    ax.set_xscale("symlog", linthresh=1.0, linscale=1.0)
    low, high = min(1.25 * limits[0], -1.5), max(1.25 * limits[1], 1.5)
    y, at = 0.0, {}
    for heading, block in rows.groupby("heading", sort=False):
        ax.annotate(str(heading), (0, y), (-90, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                    va="center", fontsize=8, weight="bold", zorder=5,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
        for row in block.to_dict("records"):
            y += 1
            at[y] = row["label"]
            shade, mark = VERDICT_STYLES[row["verdict"]]
            claimed = [-1, 1] if row["direction"] == "within" else [1, high]
            ax.fill_between(claimed, y - 0.5, y + 0.5, color=CLAIMED, lw=0, zorder=0)
            ax.plot([row["low"], row["high"]], [y, y], color=shade, lw=1.3)
            if "least" in row:
                ax.plot([row["least"], row["most"]], [y, y], color=shade, lw=4, solid_capstyle="butt", alpha=0.55)
            ax.plot(row["mean"], y, mark, color=shade, ms=5.5)
        y += GAP
    ax.axvline(0, color=INK, lw=1, zorder=1)
    ax.set_yticks(list(at), list(at.values()), fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(height - GAP + 0.7, -0.8)
    ax.grid(axis="y", visible=False)
    ticks = [sign * step * 10.0**power for power in range(4) for step in (1, 3) for sign in (-1, 1)]
    ax.xaxis.set_major_locator(FixedLocator([0.0, *ticks]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", MINUS)))
    ax.set_xlim(low, high)
    ax.set_xlabel("effect / smallest that counts")


def verdict_legend(fig: Figure) -> None:
    """Name the marks of the verdicts below a figure."""
    marks = [
        Line2D([], [], color=shade, marker=mark, lw=2, ms=6, label=name)
        for name, (shade, mark) in VERDICT_STYLES.items()
    ]
    fig.legend(handles=[*marks, Patch(color=CLAIMED, label="as claimed")], loc="outside lower center", ncols=5)


def draw_evidence(table: pd.DataFrame, title: str) -> Figure:
    """Draw every comparison of a notebook, a block per claim with the number of comparisons of each verdict.

    Args:
        table: Of `claims.evidence.evidence_table`.
        title: What was asked and where.
    """
    sign = table["direction"].map({"higher": 1.0, "within": 1.0, "lower": -1.0})
    scaled = table[["mean", "low", "high"]].mul(sign / table["smallest"], axis=0)
    counts = table.groupby("claim")["verdict"].value_counts().unstack(fill_value=0)
    words = {
        claim: ", ".join(f"{name} {found[name]}" for name in VERDICT_STYLES if found.get(name))
        for claim, found in counts.iterrows()
    }
    rows = table.assign(
        **{name: scaled[name] for name in ("mean", "low", "high")},
        label=table["comparison"],
        heading=[f"{claim}:  {words[claim]}" for claim in table["claim"]],
    )
    height = height_of(rows)
    fig, ax = plt.subplots(figsize=(7.2, 1.5 + ROW_HEIGHT * height))
    effects_panel(ax, rows, height, (float(scaled.min().min()), float(scaled.max().max())))
    verdict_legend(fig)
    return head(fig, f"{title}\n95 % interval of each comparison, not corrected for their number; log beyond 1")
