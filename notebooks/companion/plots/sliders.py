"""Sliders above a figure, for whoever runs the notebook; where nobody does, the figure stands as it was saved."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import matplotlib.figure
import matplotlib.pyplot as plt


@dataclass(frozen=True)
class Sliders:
    """What a reader can move, and how the figure is drawn then.

    Attributes:
        draw: Takes a value per slider by position, and gives the figure.
        choices: For each slider, by the words beside it, its values and the one at which the figure was saved.
    """

    draw: Callable[..., matplotlib.figure.Figure]
    choices: Mapping[str, tuple[Sequence[Any], Any]]

    def above(self, image: bytes) -> ipywidgets.VBox:
        """The sliders above an image, which they draw anew.

        Args:
            image: The figure as it was saved, a PNG.
        """
        shown = ipywidgets.Image(value=image, format="png")
        shown.add_class("moved-by-sliders")
        style, layout = {"description_width": "14em"}, {"width": "36em"}
        sliders = [
            ipywidgets.SelectionSlider(
                options=list(values), value=at, description=words, continuous_update=False, style=style, layout=layout
            )
            for words, (values, at) in self.choices.items()
        ]

        def redraw(_: object) -> None:
            fig = self.draw(*(slider.value for slider in sliders))
            png = io.BytesIO()
            fig.savefig(png, dpi=plt.rcParams["savefig.dpi"] / 2)  # as the saved image in the notebook
            plt.close(fig)
            shown.value = png.getvalue()

        for slider in sliders:
            slider.observe(redraw, names="value")
        return ipywidgets.VBox([*sliders, shown])
