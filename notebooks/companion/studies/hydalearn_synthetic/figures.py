"""The figures of the weight study. Each takes the table that is saved beside it."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from companion.plots.figures import METHOD_COLOURS, task_colours
from companion.studies.hydalearn_synthetic.composed_batches import DOSES

BLUE, GREY, INK = METHOD_COLOURS["HydaLearn"], "#8C8C8C", "#444444"


def composition_bins(batches: pd.DataFrame, num_bins: int = 8) -> pd.DataFrame:
    """Summarise the shares of probed batches by dose, step and composition: one row per bin of the minor share.

    Args:
        batches: Of `report.probed_batches`.
        num_bins: Equal bins of the minor share from 0 to 1, the last of them closed.

    Returns:
        Columns probe_dose, step, minor share (mean within the bin), count, median, and the quantiles q10 and q90.
    """
    number = (batches["minor share"] * num_bins).astype(int).clip(upper=num_bins - 1)
    groups = batches.groupby(["probe_dose", "step", number.rename("bin")])
    return pd.DataFrame(
        {
            "minor share": groups["minor share"].mean(),
            "count": groups.size(),
            "median": groups["share"].median(),
            "q10": groups["share"].quantile(0.1),
            "q90": groups["share"].quantile(0.9),
        }
    ).reset_index()


def draw_composition(bins: pd.DataFrame, explained: Mapping[tuple[str, int], float]) -> Figure:
    """Draw the auxiliary share against the batch's composition: a column of panels per dose, a row per checkpoint.

    Args:
        bins: Of `composition_bins`.
        explained: (dose, step) -> mean R squared, NaN where composition does not vary.
    """
    steps = sorted(set(bins["step"]))
    fig, axes = plt.subplots(
        len(steps), len(DOSES), sharex=True, sharey=True, figsize=(9.0, 1.0 + 1.75 * len(steps)), squeeze=False
    )
    for (row, step), (column, dose) in ((r, c) for r in enumerate(steps) for c in enumerate(DOSES)):
        ax, rows = axes[row, column], bins[(bins["probe_dose"] == dose) & (bins["step"] == step)]
        ax.vlines(rows["minor share"], rows["q10"], rows["q90"], color=BLUE, lw=2, alpha=0.5)
        sizes = 90 * (rows["count"] / rows["count"].sum()) ** 0.5
        ax.scatter(rows["minor share"], rows["median"], s=sizes, color=BLUE, zorder=3)
        r2 = explained[(dose, step)]
        text = "composition constant" if np.isnan(r2) else f"R² {r2:.2f}"
        ax.annotate(text, (0.97, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=9, color=INK)
        if row == 0:
            ax.set_title(dose)
        if column == 0:
            ax.set_ylabel(f"step {step}\nauxiliary share")
    top = bins["q90"].max()  # the notes stand above
    axes[0, 0].set(xlim=(-0.06, 1.06), xticks=[0, 0.5, 1], ylim=(-0.06 * top, 1.32 * top))
    fig.supxlabel("share of the smaller hidden cluster in the mini-batch", fontsize=10)
    fig.suptitle(
        "Auxiliary task's share of HydaLearn's weights, parameters fixed\n"
        "dot: median over batches (area: how many), line: 10 % to 90 % of batches, all seeds",
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    return fig


def draw_forest(panels: Mapping[str, pd.DataFrame], smallest: float, title: str) -> Figure:
    """Draw paired log differences, one panel per design and one row per comparison.

    Args:
        panels: Title -> rows with reference, mean, low, high.
        smallest: Log difference that counts; the band where none does is shaded.
        title: What is compared, and which side of 0 is whose.
    """
    order = list(dict.fromkeys(reference for rows in panels.values() for reference in rows["reference"]))
    fig, axes = plt.subplots(1, len(panels), figsize=(9.0, 1.6 + 0.28 * len(order)), squeeze=False, sharey=True)
    for ax, (name, rows) in zip(axes[0], panels.items(), strict=True):
        ax.axvspan(100 * np.expm1(-smallest), 100 * np.expm1(smallest), color="#EFEFEF", zorder=0)
        ax.axvline(0, color=INK, lw=1)
        for row in rows.to_dict("records"):
            y = order.index(row["reference"])
            low, mean, high = (100 * np.expm1(row[key]) for key in ("low", "mean", "high"))
            sure = row["low"] > 0 or row["high"] < 0
            ax.plot([low, high], [y, y], color=BLUE, lw=1.6)
            ax.plot(mean, y, "o", ms=6, color=BLUE, mfc=BLUE if sure else "white")
        ax.set_yticks(range(len(order)), order)
        ax.set_ylim(len(order) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.set_title(name)
        ax.margins(x=0.1)
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    fig.supxlabel("difference of the test loss, %", fontsize=10)
    fig.suptitle(
        f"{title}\nmean over paired seeds, 95 % interval; open: holds 0; shaded: too small to count",
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    return fig


def draw_jump(curve: pd.DataFrame, jump_epoch: int) -> Figure:
    """Draw the auxiliary share by epoch, jump against stationary control, with intervals over seeds.

    Args:
        curve: Columns setting ("jump" or "control"), epoch, mean, low, high.
        jump_epoch: Epoch, from 0, at which the auxiliary becomes unrelated.
    """
    fig, ax = plt.subplots(figsize=(7.2, 3.6))
    colours = dict(zip(("control", "jump"), task_colours(["control", "jump"]).values(), strict=True))
    for name, colour in colours.items():
        rows = curve[curve["setting"] == name]
        epoch = rows["epoch"] + 1
        ax.fill_between(epoch, rows["low"], rows["high"], color=colour, alpha=0.18, lw=0)
        ax.plot(epoch, rows["mean"], color=colour, marker="o", ms=4, ls="-" if name == "control" else "--")
        label = {"control": "stationary", "jump": "unrelated\nafter the jump"}[name]
        ax.annotate(label, (epoch.iloc[-1], rows["mean"].iloc[-1]), (8, 0), textcoords="offset points",
                    va="center", fontsize=9, color=colour)  # fmt: skip
    ax.axvline(jump_epoch + 0.5, color=INK, lw=1, ls=":")
    ax.annotate("jump", (jump_epoch + 0.5, 0.98), (4, 0), xycoords=ax.get_xaxis_transform(),
                textcoords="offset points", va="top", fontsize=9, color=INK)  # fmt: skip
    ax.set(xlabel="epoch", ylabel="auxiliary task's share of the weights")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.02)
    fig.suptitle("HydaLearn's share of the auxiliary task: mean over seeds, 95 % interval", x=0.01, ha="left",
                 fontsize=11)  # fmt: skip
    return fig


def draw_switch_off(curve: pd.DataFrame, epochs: int, jump_epoch: int, smallest: float) -> Figure:
    """Draw what switching the auxiliary off at an epoch does to the test loss, jump and stationary control.

    Args:
        curve: Columns setting, kept, off_epoch, mean, low, high: log differences to always on.
        epochs: Number of epochs, where "always on" stands.
        jump_epoch: Epoch at which the auxiliary becomes unrelated in the jump design.
        smallest: Log difference that counts.
    """
    fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.9), sharey=True, sharex=True)
    colours = task_colours(["control", "jump"])
    for ax, (name, colour) in zip(axes, colours.items(), strict=True):
        ax.axhspan(np.exp(-smallest), np.exp(smallest), color="#EFEFEF", zorder=0)
        ax.axhline(1, color=INK, lw=1)
        for kept, look in {"best epoch": {}, "last epoch": {"mfc": "white", "ls": "--", "alpha": 0.7}}.items():
            rows = curve[(curve["setting"] == name) & (curve["kept"] == kept)]
            low, mean, high = (np.exp(rows[key]) for key in ("low", "mean", "high"))
            whiskers = [mean - low, high - mean]
            ax.errorbar(
                rows["off_epoch"], mean, whiskers, color=colour, marker="o", ms=5, capsize=3, label=kept, **look
            )
        ax.plot(epochs, 1, "s", color=INK, ms=6)
        ax.annotate("always on", (epochs, 1), (0, 10), textcoords="offset points", ha="right", fontsize=9, color=INK)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0)))
        ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_title({"control": "stationary auxiliary", "jump": "unrelated after the jump"}[name])
        ax.set_xlabel("epochs with the auxiliary task")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[1].axvline(jump_epoch, color=INK, lw=1, ls=":")
    axes[1].annotate("jump", (jump_epoch, 0.98), (4, 0), xycoords=axes[1].get_xaxis_transform(),
                     textcoords="offset points", va="top", fontsize=9, color=INK)  # fmt: skip
    axes[0].set_ylabel("loss relative to always on")
    axes[1].legend(title="of each run is kept the", title_fontsize=9)
    fig.suptitle(
        "Auxiliary task switched off: paired difference, 95 % interval; shaded: too small to count\n"
        "best epoch: test loss, as registered; last epoch: validation loss with its noise",
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    return fig


def draw_tuning(grid: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Draw validation loss against learning rate, a panel per method and a line per auxiliary loss scale.

    Args:
        grid: Columns method, scale, rate, validation loss (mean over tuning seeds).
        methods: Order of the panels.
    """
    columns = min(5, len(methods))
    lines = -(-len(methods) // columns)
    fig, axes = plt.subplots(lines, columns, sharex=True, sharey=True, figsize=(9.0, 0.9 + 1.9 * lines), squeeze=False)
    scales, rates = sorted(set(grid["scale"])), sorted(set(grid["rate"]))[::2]  # room for every second rate
    shades = dict(zip(scales, sns.color_palette("viridis", len(scales)), strict=True))
    for ax in axes.flat[len(methods) :]:
        ax.set_axis_off()
    for ax, method in zip(axes.flat, methods, strict=False):
        for scale, rows in grid[grid["method"] == method].groupby("scale"):
            rows = rows.sort_values("rate")
            ax.plot(rows["rate"], rows["validation loss"], marker="o", ms=3.5, lw=1.4, color=shades[scale],
                    label=f"{scale:g}")  # fmt: skip
        ax.set(xscale="log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
        ax.set_title(method, fontsize=9)
    best = grid["validation loss"].min()
    axes[0, 0].set_ylim(best - 0.01, min(grid["validation loss"].max(), best + 0.15))
    handles = [Line2D([], [], color=shade, marker="o", ms=3.5, label=f"{scale:g}") for scale, shade in shades.items()]
    fig.legend(handles=handles, title="scale", title_fontsize=9, loc="outside right upper")
    fig.supxlabel("learning rate", fontsize=10)
    fig.supylabel("validation loss", fontsize=10)
    fig.suptitle(
        "Validation loss by learning rate and scale of the auxiliary losses, mean over tuning seeds",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    return fig


def draw_ablation(table: pd.DataFrame) -> Figure:
    """Draw the heat map of HydaLearn's options: test loss against the defaults, per cent, by option and dose.

    Args:
        table: Columns option, probe dose "dose", mean, low, high (log differences); the rows' order is kept.
    """
    options, doses = list(dict.fromkeys(table["option"])), list(dict.fromkeys(table["dose"]))
    cells = table.assign(sure=(table["low"] > 0) | (table["high"] < 0)).pivot(index="option", columns="dose")
    percent = 100 * np.expm1(cells["mean"].loc[options, doses].to_numpy(dtype=float))  # [options, doses]
    marks = cells["sure"].loc[options, doses].to_numpy(dtype=bool)
    fig, ax = plt.subplots(figsize=(4.6 + 1.1 * len(doses), 1.5 + 0.34 * len(options)))
    limit = max(5.0, float(np.nanmax(np.abs(percent))))
    image = ax.imshow(percent, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(percent):
        text = (
            "failed"
            if np.isnan(value)
            else f"{value:+z.1f}".replace("-", "\N{MINUS SIGN}") + (" *" if marks[row, column] else "")
        )
        colour = "white" if abs(value) > 0.6 * limit else "black"
        ax.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    fig.colorbar(image, ax=ax, label="test loss, %")
    ax.set_xticks(range(len(doses)), doses)
    ax.set_yticks(range(len(options)), options)
    ax.grid(visible=False)
    ax.set_xlabel("composition of the mini-batches")
    ax.tick_params(length=0)
    title = "HydaLearn's options against its defaults\nblue: better; *: 95 % interval without 0"
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig
