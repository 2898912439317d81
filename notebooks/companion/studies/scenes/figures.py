"""Figures of the scene study alone: scenes beside their predictions, and dominance by layer and over training."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from companion.plots.dominance import layers_panel
from companion.plots.style import colour, head, legend_below, line_style

# Classes differ in lightness as well as in hue; the order is that of `earth_scenes.CLASSES`.
CLASS_COLOURS = ("#16306E", "#6CC5F0", "#0B5D1E", "#EBC944", "#8DB255", "#7A4A2B", "#F4F4F4")
UNKNOWN = "#000000"


def draw_predictions(
    images: NDArray[np.float64],
    columns: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    classes: Sequence[str],
    number: str,
    title: str,
) -> Figure:
    """Draw scenes: the image, and truth and predictions of both tasks beside one another.

    Args:
        images: `[N, 3, H, W]` in [0, 1].
        columns: Title -> classes and numbers, `[N, H, W]` each; "truth" has -1 and NaN where unknown.
        classes: Their names.
        number: What the second task's number is, with its unit.
        title: Of the figure.
    """
    fig, axes = plt.subplots(len(images), 1 + 2 * len(columns), figsize=(7.2, 0.75 + 0.56 * len(images)))
    palette = ListedColormap([UNKNOWN, *CLASS_COLOURS])
    low, high = np.nanmin(columns["truth"][1]), np.nanmax(columns["truth"][1])
    for i, row in enumerate(axes):
        row[0].imshow(images[i].transpose(1, 2, 0).clip(0, 1), interpolation="nearest")
        for k, (found, _) in enumerate(columns.values()):
            row[1 + k].imshow(found[i], palette, vmin=-1.5, vmax=6.5, interpolation="nearest")
        for k, (_, found) in enumerate(columns.values()):
            shown = row[1 + len(columns) + k].imshow(found[i], "cividis", vmin=low, vmax=high, interpolation="nearest")
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            for spine in ax.spines.values():
                spine.set_visible(False)
    tasks = ("classes", number.replace(",", " ").split()[0])
    titles = ["image", *(f"{task}:\n{name}" if name == "truth" else name for task in tasks for name in columns)]
    for ax, text in zip(axes[0], titles, strict=True):
        ax.set_title(text, fontsize=9, loc="center", color=colour(text))
    fig.legend(
        handles=[Patch(color=shade, label=name) for shade, name in zip(CLASS_COLOURS, classes, strict=True)],
        loc="outside lower left",
        ncols=len(classes),
        fontsize=8,
        handlelength=0.8,
        columnspacing=0.7,
        handletextpad=0.3,
    )
    bar = fig.colorbar(shown, ax=axes, shrink=0.75, aspect=14, pad=0.01)
    bar.set_label(number, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return head(fig, title)


def draw_dominance(layers: pd.DataFrame, course: pd.DataFrame, title: str) -> Figure:
    """Draw the dominated share by layer, averaged over training, and over the epochs, averaged over layers.

    Args:
        layers: Of `report.by_layer`.
        course: One row per label and epoch: `value`.
        title: Of the figure.
    """
    fig, (left, right) = plt.subplots(1, 2, sharey=True, width_ratios=[1.5, 1], figsize=(7.2, 4.0))
    names, labels = (list(dict.fromkeys(layers[column])) for column in ("name", "label"))
    layers_panel(left, layers.assign(layer=layers["name"]), names, labels)
    for label, line in course.groupby("label", sort=False):
        right.plot(line["epoch"], line["value"], color=colour(str(label)), ls=line_style(str(label)))
    left.set(title="by layer, mean over training", ylabel="share of parameters\nthat one task dominates")
    right.set(title="over training, mean of layers", xlabel="epoch")
    legend_below(fig, 3)
    return head(fig, title)
