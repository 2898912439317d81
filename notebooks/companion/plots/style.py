"""The look of every figure: one style, one colour per method and task, and the small marks that figures share."""

from collections.abc import Iterable, Mapping

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every common kind of colour vision: one per method, in every figure.
METHOD_COLOURS: dict[str, str] = {
    "single task": "#000000",
    "equal weights": "#999999",
    "static grid": "#E69F00",
    "HydaLearn": "#0072B2",
    "HydaLearn, first order": "#56B4E9",
    "joint Adam": "#999999",
    "joint Adagrad": "#7F7F7F",
    "joint RMSprop": "#B3B3B3",
    "AdaTask-Adam": "#D55E00",
    "AdaTask-Adagrad": "#CC79A7",
    "AdaTask-RMSprop": "#F0A07A",
    "HydaLearn + AdaTask": "#009E73",
    "HydaLearn in front": "#5CC8A8",
    "mean weights on updates": "#004D38",
    "static on updates": "#8F5F00",
    "PCGrad + AdaTask": "#A6418B",
    # The baselines are too many for colours of their own: a family shares a hue, and its members differ in lightness,
    # which every kind of colour vision sees. Label them directly all the same.
    "uncertainty weighting": "#6B5F00",
    "DWA": "#A39418",
    "GradNorm": "#D6C94F",
    "cosine gate": "#5B2A86",
    "OL-AUX": "#A583C9",
    "SLGrad": "#D9C9EC",
    "per-task RMS": "#7A3B1D",
    "PCGrad": "#12423F",
    "CAGrad": "#245F5B",
    "MGDA": "#3B7C77",
    "IMTL-G": "#579994",
    "Aligned-MTL": "#78B5B0",
    "Nash-MTL": "#9FD0CB",
    "PCD": "#C6E6E2",
}
# Names under which studies show a method; an optimizer's name alone stands for its AdaTask form.
_METHOD_OF = {
    "AdaTask": "AdaTask-Adam",
    "Adam": "AdaTask-Adam",
    "Adagrad": "AdaTask-Adagrad",
    "RMSprop": "AdaTask-RMSprop",
    "HydaLearn on updates": "HydaLearn + AdaTask",
    "joint 1:1": "equal weights",
    "joint 1:1, the null level": "equal weights",
    "single tasks": "single task",
    "constant weights": "static grid",
    "tuned static": "static grid",
    "null level": "HydaLearn",
}
_LINES = {
    "single task": "--",
    "joint 1:1": "--",
    "joint 1:1, the null level": "--",
    "joint 1:0.1": ":",
    "per-task RMS": ":",
    "null level": "--",
    "mean weights on updates": "--",
}
# Tasks are another kind of thing than methods, so their colours are others (Paul Tol's muted scheme).
_TASK_COLOURS = ("#332288", "#882255", "#117733", "#AA4499", "#44AA99", "#DDCC77", "#88CCEE", "#CC6677")


INK, SHADE = "#3D3D3D", "#EFEFEF"  # of lines and words that belong to no method; of bands
LEFT, RIGHT, MINUS = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}", "\N{MINUS SIGN}"


def use_style() -> None:
    """Set the style of every figure: one size (inches) and resolution, fonts that ship with matplotlib, quiet axes."""
    import seaborn as sns

    mpl.rcdefaults()  # whatever the user's own settings say
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=list(_TASK_COLOURS),
        rc={
            "figure.figsize": (7.2, 4.0),
            "figure.dpi": 100,
            "savefig.dpi": 200,
            "figure.constrained_layout.use": True,
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E5E5E5",
            "lines.linewidth": 1.8,
        },
    )


def task_colours(tasks: Iterable[str]) -> dict[str, str]:
    """One colour per task, in the order in which the tasks are named, the main task first.

    Example:
        >>> task_colours(["default", "prepayment"])
        {'default': '#332288', 'prepayment': '#882255'}
    """
    tasks = list(tasks)
    if len(tasks) > len(_TASK_COLOURS):
        raise ValueError(
            f"Parameter `tasks` should name at most {len(_TASK_COLOURS)} tasks. Found {len(tasks)}. Draw more panels."
        )
    return dict(zip(tasks, _TASK_COLOURS, strict=False))


def colour(label: str) -> str:
    """The colour of a method under any of its names; dark grey for what has none, such as joint training 1:10."""
    return METHOD_COLOURS.get(_METHOD_OF.get(label, label), INK)


def line_style(label: str) -> str:
    """The line of a method, so that colour alone tells no two apart."""
    return _LINES.get(label, "-")


def head(fig: Figure, title: str) -> Figure:
    """Head a figure with what it shows and, on a second line, how it shows it."""
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def legend_below(fig: Figure, columns: int = 5) -> None:
    """Name every line of all panels once, below them."""
    entries = {text: mark for ax in fig.axes for mark, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(len(entries), columns))


def end_labels(ax: Axes, heights: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Name curves at the right edge of a panel, each pushed above the one that it would cover."""
    low, high = ax.get_ylim()
    gap = 14 / 72 * ax.figure.dpi / ax.bbox.height  # 14 points
    place = float("-inf")
    for text, height in sorted(heights.items(), key=lambda item: item[1]):
        place = max((height - low) / (high - low), place + gap)
        ax.text(1.02, place, text, color=colours[text], transform=ax.transAxes, va="center", fontsize=9)
