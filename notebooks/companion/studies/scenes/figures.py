"""Figures of the scene study alone: what networks see, how they learned, and dominance by layer."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from companion.plots.dominance import layers_panel
from companion.plots.style import colour, end_labels, head, legend_below, line_style
from companion.studies.scenes.predictions import Picture

# The order of `earth_scenes.CLASSES`: water, forest, savanna, shrub, grass, crop, snow, barren.
CLASS_COLOURS = ("#1F4E9E", "#0B5D1E", "#8FAE3C", "#B5703A", "#B9E07F", "#F2C40F", "#FFFFFF", "#D8C3A5")
UNKNOWN = "#000000"


def draw_predictions(pictures: Mapping[str, Picture], classes: Sequence[str], number: str, title: str) -> Figure:
    """Draw a tile per method: its image, and truth beside prediction of both tasks.

    Args:
        pictures: Method -> what it saw; classes of -1 are unknown.
        classes: Their names.
        number: What the second task's number is, with its unit.
        title: Of the figure.
    """
    fig, axes = plt.subplots(len(pictures), 5, figsize=(7.6, 1.0 + 1.4 * len(pictures)), squeeze=False)
    palette = ListedColormap([UNKNOWN, *CLASS_COLOURS[: len(classes)]])
    high = max(picture.truth["number"].max() for picture in pictures.values())
    for row, (method, picture) in zip(axes, pictures.items(), strict=True):
        row[0].imshow(picture.image.transpose(1, 2, 0), interpolation="nearest")
        planes = [side[name] for name in ("class", "number") for side in (picture.truth, picture.predicted)]
        for ax, plane in zip(row[1:3], planes[:2], strict=True):
            ax.imshow(plane, palette, vmin=-1.5, vmax=len(classes) - 0.5, interpolation="nearest")
        for ax, plane in zip(row[3:], planes[2:], strict=True):
            shown = ax.imshow(plane, "cividis", vmin=0, vmax=high, interpolation="nearest")
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
        row[0].set_ylabel(method, color=colour(method))
    titles = ("image", "classes: truth", "predicted", "distance: truth", "predicted")
    for ax, text in zip(axes[0], titles, strict=True):
        ax.set_title(text, fontsize=9, loc="center")
    fig.legend(
        handles=[
            Patch(facecolor=shade, edgecolor="#888888", lw=0.5, label=name)
            for shade, name in zip(CLASS_COLOURS, classes, strict=False)
        ],
        loc="outside lower left",
        ncols=len(classes),
        fontsize=8,
        handlelength=0.9,
        columnspacing=0.9,
        handletextpad=0.3,
    )
    bar = fig.colorbar(shown, ax=axes, shrink=0.75, aspect=18, pad=0.01)
    bar.set_label(number, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return head(fig, title)


def draw_curves(curves: pd.DataFrame, best: pd.DataFrame, panels: Mapping[str, str], title: str) -> Figure:
    """Draw validation losses over the epochs, a panel per loss and a line per method, and each run's best epoch.

    Args:
        curves: One row per `label`, `metric` and `epoch`: `value`, the mean over seeds.
        best: One row per `label`, `metric` and seed: `epoch` and `value`, of the best epoch.
        panels: Metric -> title of the panel.
        title: Of the figure.
    """
    fig, axes = plt.subplots(1, len(panels), figsize=(7.6, 3.5))
    for ax, (metric, text) in zip(axes, panels.items(), strict=True):
        here, marks = curves[curves["metric"] == metric], best[best["metric"] == metric]
        heights = {}
        for name, line in here.groupby("label", sort=False):
            label = str(name)
            shade = colour(label)
            ax.plot(line["epoch"], line["value"], color=shade, ls=line_style(label))
            own = marks[marks["label"] == label]
            ax.plot(own["epoch"], own["value"], "o", ms=4, mfc="none", mec=shade, alpha=0.6)
            heights[label] = float(line["value"].iloc[-1])
        ax.set(title=text, xlabel="epoch")
        ax.set_ylim(0.9 * min(here["value"].min(), marks["value"].min()), here["value"].quantile(0.96))
        end_labels(ax, heights, {label: colour(label) for label in heights})
    return head(fig, title)


def draw_dominance(layers: pd.DataFrame, title: str) -> Figure:
    """Draw the dominated share of every shared layer, averaged over training, from the image to the heads.

    Args:
        layers: Of `report.by_layer`.
        title: Of the figure.
    """
    fig, ax = plt.subplots(figsize=(7.2, 3.9))
    names, labels = (list(dict.fromkeys(layers[column])) for column in ("name", "label"))
    layers_panel(ax, layers.assign(layer=layers["name"]), names, labels)
    ax.set(ylabel="share of parameters\nthat one task dominates", xlabel="shared layer, from the image to the heads")
    legend_below(fig, 5)
    return head(fig, title)
