"""Forest plots: paired differences of one method to several references, with their intervals and what counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from companion.plots.style import INK, LEFT, MINUS, RIGHT, SHADE, colour, head

MOST_COLUMNS = 6
FAR = 50  # per cent; a panel with greater effects is logarithmic beyond 10 %


@dataclass(frozen=True)
class Panel:
    """What the differences of one panel are.

    Attributes:
        title: Heads the panel.
        unit: What differs, and in which unit.
        lower_is_better: Which side of 0 is better; None where neither is.
        smallest: The least difference that counts; the band where none does is shaded.
        percent: Whether the table has log differences, which are drawn in per cent.
    """

    title: str
    unit: str
    lower_is_better: bool | None = True
    smallest: float | None = None
    percent: bool = False

    def drawn(self, difference: float) -> float:
        """Where a difference of the table stands on the axis."""
        return 100 * float(np.expm1(difference)) if self.percent else difference


def draw_forest(
    table: pd.DataFrame,
    panels: Mapping[Any, Panel],
    title: str,
    *,
    panel: str = "design",
    row: str = "reference",
    hue: str | None = None,
    first: str = "HydaLearn",
) -> Figure:
    """Draw paired differences, a row per reference.

    Args:
        table: One row per panel, reference and hue: `mean`, `low`, `high`; where it has them, `plain low` and
            `plain high` are the interval that is not corrected for rows that splits share, and `rival` the mean at
            another setting that tuning hardly told from the chosen one. A mean of NaN has failed.
        panels: Value of the column `panel` -> what its differences are.
        title: What is compared; how it is drawn is added.
        panel: Column that divides the table into panels.
        row: Column whose values are the rows, from top to bottom in the table's order, in their method's colour.
        hue: Column whose values share a row, told apart by colour.
        first: The method from which references are subtracted.
    """
    order = list(dict.fromkeys(table[row]))
    hues = list(dict.fromkeys(table[hue])) if hue else []
    lines = -(-len(panels) // MOST_COLUMNS)
    columns = -(-len(panels) // lines)
    height = (0.27 + 0.13 * max(len(hues) - 1, 0)) * len(order)
    size = (min(max(7.6, 1.9 + 2.1 * columns), 10.0), 0.75 + lines * (0.95 + height))
    fig, axes = plt.subplots(lines, columns, sharey=True, figsize=size, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (value, what) in zip(axes.flat, panels.items(), strict=False):
        forest_panel(ax, table[table[panel] == value], order, what, row=row, hue=hue, first=first)
    if len(hues) > 1:
        handles = [Line2D([], [], marker="o", color=colour(text), label=text) for text in hues]
        fig.legend(handles=handles, loc="outside lower center", ncols=len(hues))
    how = "95 % intervals" + ": line corrected for shared rows, bar plain" * ("plain low" in table) + "; open: holds 0"
    if "rival" in table and table["rival"].notna().any():
        how += f"; diamond: {first} at its runner-up setting"
    if any(what.smallest is not None for what in panels.values()):
        how += "; shaded: too small"
    return head(fig, f"{title}\n{how}")


def forest_panel(
    ax: Axes,
    rows: pd.DataFrame,
    order: Sequence[str],
    what: Panel,
    *,
    row: str = "reference",
    hue: str | None = None,
    first: str = "HydaLearn",
) -> None:
    """Draw one panel on given axes; for the arguments see `draw_forest`.

    Args:
        ax: Where.
        rows: The panel's part of the table.
        order: All rows of the figure from top to bottom.
        what: What the differences are.
        row: As above.
        hue: As above.
        first: As above.
    """
    if what.smallest is not None:
        ax.axvspan(what.drawn(-what.smallest), what.drawn(what.smallest), color=SHADE, zorder=0)
    ax.axvline(0, color=INK, lw=1, zorder=1)
    for name, several in rows.groupby(row, sort=False):
        places = order.index(name) + 0.24 * (np.arange(len(several)) - (len(several) - 1) / 2)
        for y, entry in zip(places, several.to_dict("records"), strict=True):
            shade = colour(entry[hue or row])
            if np.isnan(entry["mean"]):
                ax.text(0, y, " failed", va="center", fontsize=8, color=shade)
                continue
            if "plain low" in entry:
                plain = [what.drawn(entry["plain low"]), what.drawn(entry["plain high"])]
                ax.plot(plain, [y, y], color=shade, lw=5, alpha=0.4, solid_capstyle="butt")
            ax.plot([what.drawn(entry["low"]), what.drawn(entry["high"])], [y, y], color=shade, lw=1.5)
            if not np.isnan(entry.get("rival", np.nan)):
                ax.plot(what.drawn(entry["rival"]), y, "D", ms=4.5, mec=shade, mfc="white", mew=1, zorder=1.5)
            face = "white" if entry["low"] <= 0 <= entry["high"] else shade
            ax.plot(what.drawn(entry["mean"]), y, "o", ms=5.5, mec=shade, mfc=face, mew=1.5)
    better = f"{first} better".strip()
    sides = {True: f"\n{LEFT} {better}", False: f"\n{better} {RIGHT}", None: ""}
    unit = what.unit
    if what.percent and ax.dataLim.intervalx.max() > FAR:
        ax.set_xscale("symlog", linthresh=10, linscale=1)
        ax.set_xticks([-10, 0, 10, 100], [f"{MINUS}10", "0", "10", "100"])
        unit += " (log beyond 10)"
    else:
        ax.xaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
    ax.set_xlabel(unit + sides[what.lower_is_better], fontsize=9)
    ax.set_title(what.title, fontsize=10)
    ax.set_yticks(range(len(order)), order)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.08)
