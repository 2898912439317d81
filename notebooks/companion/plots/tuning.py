"""Tuning: validation loss over learning rate and scale, and what was chosen."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from companion.plots.style import colour, head, legend_below, line_style

FAR = 5.0  # per cent above the least loss; settings that are worse look alike
RING = "#D55E00"


def draw_rates(curves: pd.DataFrame, ylabel: str, title: str = "", *, panel: str = "optimizer") -> Figure:
    """Draw validation loss over one knob at a time, a line per method, its least loss ringed.

    The panel ends where the lines' least losses fill a quarter of its height: settings that are far worse leave it.

    Args:
        curves: One row per panel, `label` and learning `rate`, or `knob` and its `value` where several are turned:
            `mean` over tuning seeds, and where known `low` and `high` of them, drawn at the least mean.
        ylabel: What the loss is.
        title: Of the figure.
        panel: Column of the columns of panels; the knobs are the rows. Panels of one knob share the axis of losses.
    """
    if "knob" not in curves:
        curves = curves.assign(knob="learning rate", value=curves["rate"])
    panels, knobs = list(dict.fromkeys(curves[panel])), list(dict.fromkeys(curves["knob"]))
    shared = len(knobs) == 1
    size = (max(7.2, 2.4 * len(panels)), 1.2 + 2.5 * len(knobs))
    fig, axes = plt.subplots(len(knobs), len(panels), sharey=shared, figsize=size, squeeze=False)
    for line, knob in zip(axes, knobs, strict=True):
        for ax, name in zip(line, panels, strict=True):
            here = curves[(curves[panel] == name) & (curves["knob"] == knob)]
            _rates_panel(ax, here)
            _limit(ax, curves if shared else curves[curves[panel] == name], panel)
            ax.set_xlabel(knob)
    for ax, name in zip(axes[0], panels, strict=True):
        ax.set_title(name)
    fig.supylabel(ylabel, fontsize=10)
    legend_below(fig)
    how = "ring: least mean over tuning seeds" + (", bar: their range there" if "low" in curves else "")
    return head(fig, f"{title}\n{how}".strip())


def _rates_panel(ax: Axes, rows: pd.DataFrame) -> None:
    for label, line in rows.groupby("label", sort=False):
        if len(line) < 2:
            continue
        line, name = line.sort_values("value"), str(label)
        papers = any(word in name for word in ("AdaTask", "HydaLearn"))
        look: dict[str, Any] = {"color": colour(name), "ls": line_style(name), "lw": 2.2 if papers else 1.2}
        ax.plot(line["value"], line["mean"], marker="o", ms=3, label=name, zorder=3 if papers else 2, **look)
        best = line.iloc[int(np.nanargmin(line["mean"]))]
        if "low" in line:
            ax.vlines(best["value"], best["low"], best["high"], color=colour(name), lw=1)
        ax.plot(best["value"], best["mean"], "o", ms=9, mfc="none", mec=colour(name), mew=1.5)
    values = sorted(set(rows["value"]))[::2]
    ax.set_xscale("log")
    ax.set_xticks(values, [f"{float(f'{value:.2g}'):g}" for value in values], fontsize=8)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(MaxNLocator(5))


def _limit(ax: Axes, curves: pd.DataFrame, panel: str) -> None:
    best = curves.groupby([panel, "label"])["mean"].min()
    room = 4 * (best.max() - best.min()) or 1.0
    ax.set_ylim(best.min() - 0.12 * room, best.min() + room)


def draw_grids(losses: pd.DataFrame, methods: Sequence[str], title: str) -> Figure:
    """Draw by learning rate and scale how far a method's validation loss is above its own least, a map per method.

    Methods are not compared: they may have been tuned on different numbers of splits.

    Args:
        losses: One row per `method`, `scale` of the auxiliary losses and learning `rate`: `validation loss`, the mean
            over tuning runs. A method without a scale has scale 1 only.
        methods: Order of the maps.
        title: Data; how it is drawn is added.
    """
    columns = min(5, len(methods))
    lines = -(-len(methods) // columns)
    scales, rates = sorted(set(losses["scale"])), sorted(set(losses["rate"]))
    size = (9.0, 1.3 + lines * (0.9 + 0.15 * max(len(scales), 5)))
    fig, axes = plt.subplots(lines, columns, sharex=True, sharey=True, figsize=size, squeeze=False)
    for ax in axes.flat[len(methods) :]:
        ax.set_axis_off()
    for ax, method in zip(axes.flat, methods, strict=False):
        rows = losses[losses["method"] == method].pivot(index="scale", columns="rate", values="validation loss")
        values = rows.reindex(index=scales, columns=rates).to_numpy()
        y, x = divmod(int(np.nanargmin(values)), len(rates))
        above = 100 * (values / values[y, x] - 1)
        image = ax.imshow(above, "cividis", aspect="auto", origin="lower", vmin=0, vmax=FAR)
        ax.plot(x, y, "o", ms=8, mfc="none", mec="white", mew=3)
        ax.plot(x, y, "o", ms=8, mfc="none", mec=RING, mew=1.6)
        ax.set_title(f"{method}\n{values[y, x]:.4f}", fontsize=8.5)
        ax.set_xticks(range(len(rates)), [f"{rate:g}".lstrip("0") for rate in rates], fontsize=7, rotation=45)
        ax.set_yticks(range(len(scales)), [f"{scale:g}" for scale in scales], fontsize=7)
        ax.grid(visible=False)
    fig.colorbar(image, ax=axes, extend="max", shrink=0.8, aspect=30, label="validation loss above the ring's, %")
    fig.supxlabel("learning rate", fontsize=10)
    fig.supylabel("scale of the auxiliary losses", fontsize=10)
    how = "ring and number: the method's least validation loss, mean over tuning runs, which chose its rate and scale"
    return head(fig, f"{title}\n{how}")
