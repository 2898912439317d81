"""The figures of notebook 10. Each takes the table that is saved beside it."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from companion.plots.style import INK, colour, head
from companion.studies.cost.report import front
from companion.studies.cost.studies import PAPERS

PALE = "#C9C9C9"


def draw_planes(costs: pd.DataFrame, axis: str, label: str, title: str, equal: float = 0.0) -> Figure:
    """Draw gain over single-task training against one cost, a panel per study, with the front of what is not beaten.

    Args:
        costs: Of `report.study_costs`.
        axis: Its column with the cost, on a logarithmic axis.
        label: What the axis says.
        title: Of the figure.
        equal: As for `report.front`.
    """
    studies = list(dict.fromkeys(costs["study"]))
    columns = 3
    fig, axes = plt.subplots(
        -(-len(studies) // columns), columns, figsize=(10.0, 2.75 * -(-len(studies) // columns) + 0.8), squeeze=False
    )
    for ax, study in zip(axes.flat, studies, strict=False):
        rows = costs[costs["study"] == study].dropna(subset=[axis])
        _plane(ax, rows, axis, front(rows, axis, equal))
        ax.set_title(f"{rows['notebook'].iloc[0][:2]} {study}")
    for ax in axes.flat[len(studies) :]:
        ax.set_visible(False)
    methods = [m for m in dict.fromkeys(costs["method"]) if m != "single tasks"]
    handles = [Line2D([], [], marker="o", ls="", color=colour(m), label=m) for m in methods]
    handles.append(Line2D([], [], color=PALE, lw=3, label="not beaten at that cost"))
    fig.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8.5)
    for ax in axes[:, 0]:
        ax.set_ylabel("gain over single-task\ntraining, % of its loss")
    axes[(len(studies) - 1) // columns, min(1, len(studies) - 1)].set_xlabel(label)
    return head(fig, title)


def _plane(ax: Axes, rows: pd.DataFrame, axis: str, unbeaten: Sequence[str]) -> None:
    """Methods of one study; those of equal cost stand side by side."""
    ax.axhline(0, color=INK, lw=0.8)
    rows = rows.sort_values([axis, "gain"])
    low, high = rows[axis].min(), rows[axis].max()
    room = max((high / low) ** 0.22, 1.6)
    places = rows[axis].to_numpy(np.float64) * _apart(rows[axis].to_numpy(np.float64), (high / low * room**2) ** 0.014)
    at = dict(zip(rows["method"], zip(places, rows["gain"], strict=True), strict=True))
    steps = np.array([at[method] for method in unbeaten])
    ax.step(steps[:, 0], steps[:, 1], where="post", color=PALE, lw=4, zorder=0, solid_capstyle="round")
    for row, x in zip(rows.to_dict("records"), places, strict=True):
        named = row["method"] in (*unbeaten, *PAPERS)
        ax.plot([x, x], [row["gain low"], row["gain high"]], color=colour(row["method"]), lw=1.3 if named else 0.7)
        ax.plot(x, row["gain"], "o", color=colour(row["method"]), ms=6 if named else 3.5, zorder=3)
    ax.set(xscale="log", xlim=(low / room, high * room))
    several = (1.0, 2.0, 5.0) if high / low < 8 else (1.0, 3.0) if high / low < 25 else (1.0,)
    ax.xaxis.set_major_locator(LogLocator(10, several))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    _labels(ax, [(method, *at[method]) for method in dict.fromkeys((*unbeaten, *PAPERS)) if method in at])


def _apart(costs: np.ndarray, gap: float) -> np.ndarray:
    """Factors, powers of `gap`, that set points of (nearly) equal cost side by side on a logarithmic axis."""
    factors = np.ones(len(costs))
    start = 0
    for i in range(1, len(costs) + 1):
        if i == len(costs) or costs[i] > 1.02 * costs[start]:
            factors[start:i] = gap ** (np.arange(i - start) - (i - start - 1) / 2)
            start = i
    return factors


def _labels(ax: Axes, points: Iterable[tuple[str, float, float]]) -> None:
    """Write names beside their points, each above the names that it would cover."""
    taken: list[tuple[float, float, float]] = []  # left, right and height of a name, in parts of the panel
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.12 * (high - low))
    left, right = np.log(ax.get_xlim())
    for name, x, y in sorted(points, key=lambda point: point[2]):
        across = (np.log(x) - left) / (right - left)
        height = (y - low) / (1.12 * (high - low)) + 0.045
        width = 0.034 * len(name)
        begin = across + 0.02 if across < 0.5 else across - 0.02 - width
        while any(begin < b and begin + width > a and abs(height - h) < 0.075 for a, b, h in taken):
            height += 0.02
        taken.append((begin, begin + width, height))
        ax.annotate(
            name, (begin if across < 0.5 else begin + width, height), xycoords="axes fraction", fontsize=8,
            ha="left" if across < 0.5 else "right", va="center", zorder=4,
            color=colour(name) if name in PAPERS else INK, weight="bold" if name in PAPERS else "normal",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip


def draw_price(prices: pd.DataFrame, title: str) -> Figure:
    """Draw what the papers' methods gain over methods of one backward pass, a panel per paper and a block per study.

    Args:
        prices: Of `report.price`.
        title: Of the figure.
    """
    papers = list(dict.fromkeys(prices["method"]))
    sizes = [int((prices["method"] == method).sum()) for method in papers]
    fig, axes = plt.subplots(1, len(papers), figsize=(10.0, 0.8 + 0.27 * max(sizes)), squeeze=False)
    for ax, method in zip(axes[0], papers, strict=True):
        ax.axvline(0, color=INK, lw=0.8)
        place, ticks = 0.0, {}
        for _, rows in prices[prices["method"] == method].groupby("study", sort=False):
            first = rows.iloc[0]
            ratios = f"{first['passes ratio']:g} x gradients, {rows['seconds ratio'].median():.1f} x time"
            ticks[place] = f"{first['notebook'][:2]} {first['study']}\n{ratios}"
            for row in rows.to_dict("records"):
                shade = colour(row["reference"])
                ax.plot([row["gain low"], row["gain high"]], [place, place], color=shade, lw=1.6)
                ax.plot(row["gain"], place, "o", color=shade, ms=5)
                place += 1
            place += 0.8
        ax.set_yticks([tick + 1 for tick in ticks], list(ticks.values()))
        ax.grid(axis="y", visible=False)
        ax.invert_yaxis()
        ax.set_title(f"{method} over methods of one pass")
        ax.set_xlabel("gain, % of the other's loss")
    references = list(dict.fromkeys(prices["reference"]))
    handles = [Line2D([], [], marker="o", color=colour(m), label=m) for m in references]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(references))
    return head(fig, title)


def draw_growth(growth: pd.DataFrame, methods: Sequence[str], title: str) -> Figure:
    """Draw the time of a step against tasks, parameters and runs, above it and its floor, below their ratio.

    Args:
        growth: Of `report.growth`, all three sweeps, with the column `sweep`: the name of the column that varies.
        methods: Which to draw, from top to bottom of the legend; the table may hold more.
        title: Of the figure.
    """
    sweeps = {
        "tasks": ("number of tasks T", "394 thousand parameters, one run"),
        "parameters": ("shared parameters", "2 tasks, one run"),
        "runs": ("runs trained as one program", "2 tasks, 5,504 parameters"),
    }
    fig, axes = plt.subplots(2, 3, sharex="col", figsize=(10.0, 6.4), height_ratios=[3, 2])
    for (above, below), (sweep, (name, held)) in zip(axes.T, sweeps.items(), strict=True):
        for method in methods:
            rows = growth[(growth["sweep"] == sweep) & (growth["method"] == method)].sort_values(sweep)
            if rows.empty:
                continue
            look = {"color": colour(method), "lw": 2.4 if method in PAPERS else 1.4, "marker": "o", "ms": 3.5}
            above.plot(rows[sweep], rows["step ms"], **look)
            below.plot(rows[sweep], rows["seconds ratio"], **look)
            if method in (*PAPERS, "equal weights"):
                above.plot(rows[sweep], rows["floor ms"], color=colour(method), lw=1.2, ls=":")
        for ax in (above, below):
            ax.set(xscale="log", yscale="log")
            ax.xaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        points = sorted(growth.loc[growth["sweep"] == sweep, sweep].unique())
        texts = [f"$10^{round(np.log10(p))}$" if sweep == "parameters" else f"{p:g}" for p in points]
        below.set_xticks(points, texts)
        below.axhline(1, color=INK, lw=0.8, ls=":")
        below.set_yticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        below.set_xlabel(name)
        above.set_title(held, fontsize=10)
    axes[0, 0].set_ylabel("time of a step per run, ms")
    axes[1, 0].set_ylabel("times the floor")
    handles = [Line2D([], [], color=colour(m), lw=2.4 if m in PAPERS else 1.4, label=m) for m in methods]
    handles.append(Line2D([], [], color=INK, lw=1.2, ls=":", label="floor: bare products and a copy"))
    fig.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8.5)
    return head(fig, title)


def draw_memory(memory: pd.DataFrame, title: str) -> Figure:
    """Draw the counted peak of a step against the number of tasks, and what each method cannot do without.

    Args:
        memory: Of `report.memory`.
        title: Of the figure.
    """
    looks = {
        "plain Adam": ("equal weights", "-"),
        "AdaTask-Adam": ("AdaTask-Adam", "-"),
        "AdaTask-Adagrad": ("AdaTask-Adagrad", "-"),
        "HydaLearn exact, loop": ("HydaLearn", "-"),
        "HydaLearn exact, vmap": ("HydaLearn", "--"),
        "PCGrad (TorchJD)": ("PCGrad", "-"),
    }
    fig, ax = plt.subplots(figsize=(7.2, 4.4))
    for name, (method, style) in looks.items():
        rows = memory[memory["method"] == name].sort_values("tasks")
        if rows.empty:
            continue
        ax.plot(rows["tasks"], rows["units"], color=colour(method), ls=style, marker="o", ms=4)
        ax.plot(rows["tasks"], rows["ideal"], color=colour(method), ls="", marker="_", ms=16, mew=1.6)
        last = rows.iloc[-1]
        shift = {"HydaLearn exact, vmap": 6, "AdaTask-Adagrad": -4}.get(name, 0)
        ax.annotate(name, (last["tasks"], last["units"]), (12, shift), textcoords="offset points", va="center",
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
