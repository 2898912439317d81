"""Dominance: which share of a layer's parameters one task moves alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from companion.plots.style import colour, line_style


def layers_panel(ax: Axes, rows: pd.DataFrame, layers: Sequence[str], labels: Sequence[str]) -> None:
    """Draw the share of dominated parameters by layer on given axes.

    Args:
        ax: Where.
        rows: One row per `label` and `layer`: `mean`, `low`, `high`.
        layers: From the input on.
        labels: All settings of the figure, each at its own place beside a layer's middle.
    """
    for label, line in rows.groupby("label", sort=False):
        name = str(label)
        x = np.array([layers.index(layer) for layer in line["layer"]])
        x = x + 0.1 * (labels.index(name) - (len(labels) - 1) / 2)
        whiskers = [line["mean"] - line["low"], line["high"] - line["mean"]]
        look: dict[str, Any] = {"color": colour(name), "ls": line_style(name), "lw": 1, "elinewidth": 1.4}
        ax.errorbar(x, line["mean"], whiskers, marker="o", ms=4, label=name, **look)
    named = isinstance(layers[0], str)
    ax.set_xticks(range(len(layers)), layers, rotation=45 * named, ha="right" if named else "center")
    ax.set_ylim(-0.03, 1.03)
