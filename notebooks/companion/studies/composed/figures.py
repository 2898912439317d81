"""The figures of the composed study. Each takes the table that is saved beside it."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from companion.plots.figures import METHOD_COLOURS
from companion.studies.composed.report import Measure, constant_share
from companion.studies.composed.variants import MEAN
from companion.studies.tabular.panels import LEFT, RIGHT

INK = "#444444"
COLOURS = {
    **METHOD_COLOURS,
    "AdaTask": METHOD_COLOURS["AdaTask-Adam"],
    "HydaLearn on updates": METHOD_COLOURS["HydaLearn + AdaTask"],
    "HydaLearn in front": "#5CC8A8",
    MEAN: "#004D38",
    "static on updates": "#8F5F00",
    "PCGrad + AdaTask": "#A6418B",
}
MARKS = {"HydaLearn on updates": "o", "HydaLearn in front": "s", MEAN: "D", "HydaLearn": "^"}
OPTIMIZER_MARKS = {"Adagrad": "s", "RMSprop": "^", "Adam": "o"}


def draw_mechanism(erased: pd.DataFrame, fluctuation: pd.DataFrame) -> Figure:
    """Draw what becomes of a constant weight (left, by eps) and of one that fluctuates (right).

    Args:
        erased: One row per optimizer, form and eps: geometric mean `ratio` over seeds, and its range `low`, `high`.
        fluctuation: Of `mechanism.fluctuation`.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.0, 4.0))
    for (name, form), rows in erased.groupby(["optimizer", "form"], sort=False):
        colour = METHOD_COLOURS[f"AdaTask-{name}" if form == "AdaTask" else f"joint {name}"]
        rows = rows.sort_values("eps")
        left.fill_between(rows["eps"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
        look = {"ls": "-" if form == "AdaTask" else ":", "marker": OPTIMIZER_MARKS[str(name)], "ms": 4}
        left.plot(rows["eps"], rows["ratio"], color=colour, label=f"{form}, {name}", **look)
    left.set(xscale="log", yscale="log", xlabel="eps (default: 1e-8, Adagrad 1e-10)", title="A constant weight of 1000")
    left.set_ylabel("distance of the runs with and without it /\ndistance moved")
    left.legend(loc="lower right", fontsize=8)
    v = np.linspace(0, float(fluctuation["variation"].max()), 100)
    right.plot(v, (1 + v**2) ** -0.5, color=INK, lw=1.2, label=r"$1/\sqrt{1+v^2}$")
    levels = sorted(fluctuation["level"].unique())
    for (name, kind, level), rows in fluctuation.groupby(["optimizer", "kind", "level"], sort=False):
        colour = METHOD_COLOURS[f"AdaTask-{name}"]
        mark = OPTIMIZER_MARKS[str(name)]
        if level != levels[0]:  # a ring around the same mark at the other level
            right.plot(rows["variation"], rows["ratio"], mark, color=colour, mfc="none", ms=9, mew=0.8)
            continue
        face, label = (colour, f"{name}, smooth") if kind == "gamma" else ("white", f"{name}, gate")
        right.plot(rows["variation"], rows["ratio"], mark, color=colour, mfc=face, ms=5, label=label)
    right.set(xlabel="coefficient of variation v of the weights", title="Weights that fluctuate")
    right.set_ylabel("mean update / without weights")
    right.set_ylim(0, 1.05)
    right.legend(fontsize=8, title=f"rings: weights x {levels[-1]:g}", title_fontsize=8)
    return fig


def draw_tuning(curves: pd.DataFrame) -> Figure:
    """Draw validation losses over the learning rate (above) and the loss scale (below), a column per problem.

    Args:
        curves: Of `report.tuning_curves`, with the column `problem`.
    """
    problems = list(curves["problem"].unique())
    fig, axes = plt.subplots(2, len(problems), figsize=(2.6 * len(problems) + 0.6, 6.2), squeeze=False)
    for column, problem in enumerate(problems):
        here = curves[curves["problem"] == problem]
        best = here.groupby("method")["loss"].min()
        for ax, knob in zip(axes[:, column], ("rate", "scale"), strict=True):
            for method, rows in here[here["knob"] == knob].groupby("method", sort=False):
                if len(rows) < 2:
                    continue
                rows, ring = rows.sort_values("value"), rows[rows["chosen"]]
                look = {"color": COLOURS[str(method)], "ls": "--" if method == MEAN else "-"}
                ax.plot(rows["value"], rows["loss"], marker="o", ms=3, lw=1.4, label=method, **look)
                ax.plot(ring["value"], ring["loss"], "o", ms=8, mfc="none", mec=COLOURS[str(method)], mew=1.3)
            ax.set(xscale="log", ylim=(best.min() * 0.997, best.min() + 3.0 * (best.max() - best.min())))
            values = sorted(here.loc[here["knob"] == knob, "value"].unique())[::2]  # room for every second one
            ax.set_xticks(values, [f"{value:g}" for value in values], fontsize=8)
            ax.xaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_locator(MaxNLocator(5))
            ax.set_xlabel({"rate": "learning rate", "scale": "auxiliary scale or weight"}[knob])
        axes[0, column].set_title(problem)
    axes[0, 0].set_ylabel("validation loss, best scale")
    axes[1, 0].set_ylabel("validation loss, best rate")
    entries = {text: h for ax in axes.flat for h, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=5, fontsize=8)
    return fig


def draw_shares(dose: pd.DataFrame, plain: Mapping[str, float], auxiliaries: Mapping[str, int]) -> Figure:
    """Draw the auxiliary tasks' mean weight (above) and share of the updates (below) over the auxiliary loss scale.

    Args:
        dose: Of `report.by_level`, with the column `problem`.
        plain: Problem -> the share under AdaTask without weights.
        auxiliaries: Problem -> number of auxiliary tasks.
    """
    size = (max(7.2, 2.5 * len(plain) + 0.6), 5.6)
    fig, axes = plt.subplots(2, len(plain), sharex="col", sharey="row", figsize=size, squeeze=False)
    for (above, below), (problem, share) in zip(axes.T, plain.items(), strict=True):
        here = dose[dose["problem"] == problem]
        below.axhline(share, color=COLOURS["AdaTask"], lw=1.4, ls=":", label="AdaTask without weights")
        for method, rows in here.groupby("method", sort=False):
            rows, look = (
                rows.sort_values("scale"),
                {"color": COLOURS[str(method)], "marker": MARKS[str(method)], "ms": 4},
            )
            above.plot(rows["scale"], rows["level"], **look)
            below.fill_between(rows["scale"], rows["low"], rows["high"], color=look["color"], alpha=0.15, lw=0)
            below.plot(rows["scale"], rows["mean"], label=method, **look)
            if method == MEAN:
                expected = [constant_share(w, auxiliaries[problem]) for w in rows["level"]]
                below.plot(rows["scale"], expected, color=INK, lw=1, ls="--", label="constant weights, equal tasks")
        above.set(title=problem, xscale="log", ylim=(0, 1.04))
        below.set(xlabel="auxiliary loss scale", ylim=(0, 1.04))
        below.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel("mean auxiliary weight\n(share of the sum)")
    axes[1, 0].set_ylabel("auxiliary share of AU")
    fig.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return fig


def _forest(ax: Axes, rows: pd.DataFrame, order: Sequence[str], offset: float, colour: str, log: bool) -> None:
    for row in rows.to_dict("records"):
        y = order.index(row["reference"]) + offset
        low, mean, high = (100 * np.expm1(row[k]) if log else row[k] for k in ("low", "mean", "high"))
        sure = row["low"] > 0 or row["high"] < 0
        ax.plot([low, high], [y, y], color=colour, lw=1.6)
        ax.plot(mean, y, "o", ms=5.5, color=colour, mfc=colour if sure else "white", zorder=3)


def draw_forest(table: pd.DataFrame, measures: Mapping[str, Measure], smallest: Mapping[str, float]) -> Figure:
    """Draw paired differences of one or two methods to several references, a panel per problem.

    Args:
        table: Of `report.differences`, with the column `problem`.
        measures: Problem -> what is compared.
        smallest: Problem -> the smallest effect that counts; a band where none does is shaded.
    """
    order, methods = list(dict.fromkeys(table["reference"])), list(dict.fromkeys(table["method"]))
    size = (2.3 * len(measures) + 1.6, 1.7 + 0.36 * len(order))
    fig, axes = plt.subplots(1, len(measures), sharey=True, figsize=size, squeeze=False)
    for ax, (problem, measure) in zip(axes[0], measures.items(), strict=True):
        least = smallest[problem]
        band = (100 * np.expm1(-least), 100 * np.expm1(least)) if measure.log else (-least, least)
        ax.axvspan(*band, color="#EFEFEF", zorder=0)
        ax.axvline(0, color=INK, lw=1)
        for number, method in enumerate(methods):
            rows = table[(table["problem"] == problem) & (table["method"] == method)]
            offset = 0.26 * (number - (len(methods) - 1) / 2)
            _forest(ax, rows, order, offset, COLOURS[method], measure.log)
        ax.set_title(problem)
        better = f"{LEFT} better" if measure.lower else f"better {RIGHT}"
        ax.set_xlabel(f"{'test loss, %' if measure.log else measure.text}\n{better}", fontsize=9)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(order)), order)
    axes[0, 0].set_ylim(len(order) - 0.5, -0.5)
    handles = [
        axes[0, 0].plot([], [], "o-", color=COLOURS[m], label=f"{m} \N{MINUS SIGN} reference")[0] for m in methods
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=9)
    return fig


def draw_cost(table: pd.DataFrame) -> Figure:
    """Draw the test loss relative to equal weights over the time of a training step, a panel per problem.

    Args:
        table: One row per problem and method: `seconds` of a step over those of equal weights, `gradients` per step,
            and the log difference of test losses `mean`, `low`, `high`.
    """
    problems = list(table["problem"].unique())
    fig, axes = plt.subplots(1, len(problems), figsize=(2.5 * len(problems) + 0.6, 4.2), squeeze=False)
    for ax, problem in zip(axes[0], problems, strict=True):
        ax.axhline(0, color=INK, lw=0.8)
        for row in table[table["problem"] == problem].to_dict("records"):
            low, mean, high = (100 * np.expm1(row[key]) for key in ("low", "mean", "high"))
            look = {"color": COLOURS[row["method"]], "label": f"{row['method']} ({row['gradients']:g})"}
            ax.errorbar(row["seconds"], mean, [[mean - low], [high - mean]], marker="o", ms=5, lw=1.2, **look)
        ax.set(title=problem, xscale="log", xlabel="time of a step")
        times = [t for t in (1, 2, 4, 8) if t <= 1.3 * table["seconds"].max()]
        ax.set_xticks(times, [f"x {t:g}" for t in times])
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel("test loss against equal weights, %")
    title = "in brackets: gradients of the shared layers per step, with two tasks"
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncols=4, fontsize=8, title=title, title_fontsize=8)
    return fig
