"""The figures of notebook 10. Each takes the table that is saved beside it."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from companion.plots.effects import CLAIMED, EDGE
from companion.plots.style import INK, colour, end_labels, head

PASSES = {"AdaTask-Adam": 2, "HydaLearn": 3}  # a step of T tasks takes (1 + this T) / 3 joint steps, if all is products


def draw_bought(table: pd.DataFrame, title: str) -> Figure:
    """Draw what the papers' methods gain over methods of one gradient evaluation, a line per data set.

    Args:
        table: Of `report.bought`.
        title: Of the figure.
    """
    papers = list(dict.fromkeys(table["method"]))
    rivals = list(dict.fromkeys(table["rival"]))
    sizes = [table.loc[table["method"] == method, "data"].nunique() for method in papers]
    fig, axes = plt.subplots(
        len(papers), 1, sharex=True, figsize=(7.6, 1.9 + 0.42 * sum(sizes)), height_ratios=sizes, squeeze=False
    )
    for ax, method in zip(axes[:, 0], papers, strict=True):
        rows = table[table["method"] == method]
        names = list(dict.fromkeys(rows["data"]))
        ax.axvspan(1, EDGE, color=CLAIMED, lw=0, zorder=0)
        ax.axvline(0, color=INK, lw=1)
        for row in rows.to_dict("records"):
            shade = colour(row["rival"])
            y = names.index(row["data"]) + 0.3 * (rivals.index(row["rival"]) - (len(rivals) - 1) / 2)
            ax.plot(np.clip([row["low"], row["high"]], -EDGE, EDGE), [y, y], color=shade, lw=1.8)
            ax.plot(np.clip(row["mean"], -EDGE, EDGE), y, "o", color=shade, ms=5.5)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlim(-EDGE * 1.03, EDGE)
        ax.set_title(method.removesuffix("-Adam"), color=colour(method))
    axes[-1, 0].set_xlabel("gain, in units of the smallest\nthat counts (blue: it counts)")
    marks = [Line2D([], [], marker="o", color=colour(rival), label=f"over {rival}") for rival in rivals]
    fig.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return head(fig, title)


def draw_growth(growth: pd.DataFrame, methods: Sequence[str], title: str) -> Figure:
    """Draw the time of a step against the number of tasks (left) and of runs that train as one program (right).

    Args:
        growth: Of `report.growth`, the sweeps "tasks" and "runs", with the column `sweep`.
        methods: Which to draw; the table may hold more.
        title: Of the figure.
    """
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.8))
    panels = {"tasks": ("joint steps", "number of tasks T", "time of a step, in joint steps"),
              "runs": ("step ms", "runs trained as one program", "time of a step per run, ms")}  # fmt: skip
    for ax, (sweep, (value, xlabel, ylabel)) in zip(axes, panels.items(), strict=True):
        heights = {}
        for method in methods:
            rows = growth[(growth["sweep"] == sweep) & (growth["method"] == method)].sort_values(sweep)
            ax.plot(rows[sweep], rows[value], "o-", color=colour(method), ms=4)
            heights[method] = float(rows[value].iloc[-1])
            if sweep == "tasks" and method in PASSES:
                ax.plot(rows[sweep], (1 + PASSES[method] * rows[sweep]) / 3, color=colour(method), lw=1.2, ls=":")
        points = sorted(growth.loc[growth["sweep"] == sweep, sweep].unique())
        ax.set(xlabel=xlabel, ylabel=ylabel)
        if sweep == "runs":
            ax.set(xscale="log", yscale="log")
            ax.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xticks(points, [f"{point:g}" for point in points])
        ax.xaxis.set_minor_locator(NullLocator())
        if sweep == "tasks":
            end_labels(ax, heights, {name: colour(name) for name in heights})
    return head(fig, title)


def draw_memory(memory: pd.DataFrame, title: str) -> Figure:
    """Draw the counted peak of a step against the number of tasks, and what each method cannot do without.

    Args:
        memory: Of `report.memory`.
        title: Of the figure.
    """
    methods = {
        "plain Adam": "equal weights",
        "AdaTask-Adam": "AdaTask-Adam",
        "AdaTask-Adagrad": "AdaTask-Adagrad",
        "HydaLearn exact": "HydaLearn",
        "PCGrad (TorchJD)": "PCGrad",
    }
    fig, ax = plt.subplots(figsize=(7.2, 4.4))
    for name, method in methods.items():
        rows = memory[memory["method"] == name].sort_values("tasks")
        ax.plot(rows["tasks"], rows["units"], color=colour(method), marker="o", ms=4)
        ax.plot(rows["tasks"], rows["ideal"], color=colour(method), ls="", marker="_", ms=16, mew=1.6)
        last = rows.iloc[-1]
        ax.annotate(name, (last["tasks"], last["units"]), (12, 0), textcoords="offset points", va="center",
                    fontsize=9, color=colour(method))  # fmt: skip
    ax.set(
        xticks=sorted(memory["tasks"].unique()),
        xlabel="number of tasks T",
        ylabel="memory, in copies of the shared parameters",
    )
    ax.set_xlim(0.7, 11.2)
    ax.set_ylim(0, None)
    ax.set_title(title)
    handles = [
        Line2D([], [], color=INK, marker="o", ms=4, label="counted peak of a step"),
        Line2D([], [], color=INK, ls="", marker="_", ms=16, mew=1.6, label="what has to exist at once"),
    ]
    ax.legend(handles=handles, loc="upper left")
    return fig
