"""What switching the auxiliary task off at some epoch does to the test loss."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from companion.plots.style import INK, METHOD_COLOURS, SHADE, head

ORANGE = METHOD_COLOURS["static grid"]  # the method that is trained
LOOKS: tuple[dict[str, Any], ...] = ({"ls": "-"}, {"ls": "--", "alpha": 0.7})


def draw_switch_off(
    curves: pd.DataFrame,
    panels: Mapping[Any, str],
    epochs: int | Mapping[Any, int],
    smallest: float,
    title: str,
    *,
    panel: str = "design",
    relative: bool = False,
) -> Figure:
    """Draw the test loss against the epoch at which the auxiliary task is switched off, as differences to always on.

    Args:
        curves: One row per panel and `off_epoch`: `mean`, `low`, `high` of the paired difference; `chosen` where one
            epoch was, and then it alone is filled; `kept` where lines differ in which epoch's parameters are tested.
        panels: Value of the column `panel` -> title of the panel.
        epochs: Number of epochs, of all panels or of each, where "always on" stands.
        smallest: The least difference that counts.
        title: Of the figure; how it is drawn is added.
        panel: Column that divides the table into panels.
        relative: Whether differences are logarithmic, to be drawn as ratios.
    """
    size = (max(7.2, 1.2 + 3.4 * len(panels)), 3.9)
    fig, axes = plt.subplots(1, len(panels), sharex=True, sharey=relative, figsize=size, squeeze=False)
    drawn = np.exp if relative else np.asarray
    for ax, (value, text) in zip(axes[0], panels.items(), strict=True):
        ax.axhspan(*drawn([-smallest, smallest]), color=SHADE, zorder=0)
        always = float(drawn(0.0))
        ax.axhline(always, color=INK, lw=1)
        here = curves[curves[panel] == value]
        lines = here.groupby("kept", sort=False) if "kept" in here else [("", here)]
        for (kept, rows), look in zip(lines, LOOKS, strict=False):
            low, mean, high = drawn(rows[["low", "mean", "high"]].to_numpy()).T
            face = "white" if "chosen" in rows or look["ls"] == "--" else ORANGE
            ax.errorbar(rows["off_epoch"], mean, [mean - low, high - mean], color=ORANGE, marker="o", ms=5, mfc=face,
                        capsize=3, label=kept, **look)  # fmt: skip
            if "chosen" in rows:
                chosen = rows[rows["chosen"]]
                ax.plot(chosen["off_epoch"], drawn(chosen["mean"]), "o", color=ORANGE, ms=6, zorder=5)
        end = epochs if isinstance(epochs, int) else epochs[value]
        ax.plot(end, always, "s", color=INK, ms=6)
        free = 9 if (here["mean"] < 0).any() else -17  # points: the side of the line where no curve is
        ax.annotate("always on", (end, always), (4, free), textcoords="offset points", ha="right", fontsize=9)
        ax.set(title=text, xlabel="epochs with the auxiliary task")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5))
    axes[0, 0].set_ylabel(
        "loss relative to always on" if relative else "test loss after the last epoch,\n% above always on"
    )
    if relative:
        axes[0, 0].set_yscale("log")
        low, high = axes[0, 0].get_ylim()
        ticks = (0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0) if high / low < 4 else (1.0, 2.0, 5.0)
        axes[0, 0].yaxis.set_major_locator(LogLocator(subs=ticks))
        axes[0, 0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes[0, 0].yaxis.set_minor_locator(NullLocator())
    if "kept" in curves:
        axes[0, -1].legend(title="of each run is kept the", title_fontsize=9)
    how = "paired difference, 95 % interval; shaded: too small to count"
    if "chosen" in curves:
        how += "; filled: chosen on tuning splits"
    return head(fig, f"{title}\n{how}")
