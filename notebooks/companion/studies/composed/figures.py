"""Figures of the composed study alone: the mechanism, shares of the updates, quality over time of a step."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from companion.plots.style import INK, colour, legend_below
from companion.studies.composed.report import constant_share
from companion.studies.composed.variants import MEAN

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
        shade = colour(f"{form}-{name}" if form == "AdaTask" else f"joint {name}")
        rows = rows.sort_values("eps")
        left.fill_between(rows["eps"], rows["low"], rows["high"], color=shade, alpha=0.15, lw=0)
        look = {"ls": "-" if form == "AdaTask" else ":", "marker": OPTIMIZER_MARKS[str(name)], "ms": 4}
        left.plot(rows["eps"], rows["ratio"], color=shade, label=f"{form}, {name}", **look)
    left.set(xscale="log", yscale="log", xlabel="eps (default: 1e-8, Adagrad 1e-10)", title="A constant weight of 1000")
    left.set_ylabel("distance of the runs with and without it /\ndistance moved")
    left.legend(loc="lower right", fontsize=8)
    v = np.linspace(0, float(fluctuation["variation"].max()), 100)
    right.plot(v, (1 + v**2) ** -0.5, color=INK, lw=1.2, label=r"$1/\sqrt{1+v^2}$")
    levels = sorted(fluctuation["level"].unique())
    for (name, kind, level), rows in fluctuation.groupby(["optimizer", "kind", "level"], sort=False):
        shade = colour(str(name))
        mark = OPTIMIZER_MARKS[str(name)]
        if level != levels[0]:  # a ring around the same mark at the other level
            right.plot(rows["variation"], rows["ratio"], mark, color=shade, mfc="none", ms=9, mew=0.8)
            continue
        face, label = (shade, f"{name}, smooth") if kind == "gamma" else ("white", f"{name}, gate")
        right.plot(rows["variation"], rows["ratio"], mark, color=shade, mfc=face, ms=5, label=label)
    right.set(xlabel="coefficient of variation v of the weights", title="Weights that fluctuate")
    right.set_ylabel("mean update / without weights")
    right.set_ylim(0, 1.05)
    right.legend(fontsize=8, title=f"rings: weights x {levels[-1]:g}", title_fontsize=8)
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
        below.axhline(share, color=colour("AdaTask"), lw=1.4, ls=":", label="AdaTask without weights")
        for method, rows in here.groupby("method", sort=False):
            rows = rows.sort_values("scale")
            look = {"color": colour(str(method)), "marker": MARKS[str(method)], "ms": 4}
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
    legend_below(fig, 3)
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
            look = {"color": colour(row["method"]), "label": f"{row['method']} ({row['gradients']:g})"}
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
