"""Each task's share of the squared updates and of the squared gradients, table by table and layer by layer."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from companion.train.share_recorder import Measures, ShareRecorder

MOMENTS = 10  # equal parts of training whose ends are followed
LOOKS = 20  # in a training, at least, whose mean is the average over time


class LayerShares(ShareRecorder):
    """Follows each task's share, and AU at the end of each tenth of the training, through that of R stacked runs.

    A row of a table moves only in the steps after a batch that has its id, so most rows have small AU; shares are taken
    row by row and each live parameter counts once.

    Args:
        optimizer: Before its first step.
        layers: Parameters `[R, *shape]` of each layer.
        steps: Length of the training.

    Raises:
        ValueError: The training is too short to be followed.
    """

    def __init__(self, optimizer: Optimizer, layers: Sequence[Sequence[Tensor]], steps: int) -> None:
        """Begin with empty averages."""
        if steps < LOOKS:
            raise ValueError(
                f"Parameter `steps` should be at least {LOOKS} for dominance over time. Found `steps = {steps}`. "
                "Pass smaller batches, more epochs or more data."
            )
        super().__init__(optimizer, layers, steps // LOOKS)
        self._length = steps
        self._moments: Measures = {}

    def take_in(self) -> None:
        """Take in the tasks' gradients of a step, and AU where it is the first at or after the end of a part."""
        super().take_in()
        part, rest = divmod((self.steps + 1) * MOMENTS, self._length)
        if rest < MOMENTS and part:
            now = self.now()
            self._moments |= {(n, f"{metric}, part {part}"): v for (n, metric), v in now.items() if "updates" in metric}

    def summarise(self, relative: Tensor) -> dict[str, Tensor]:
        """Each task's mean share, beside the summaries."""
        return super().summarise(relative) | {f"task {t + 1}": row.nanmean(-1) for t, row in enumerate(relative)}

    @torch.no_grad()
    def measures(self) -> Measures:
        """All that was measured, and how many parameters each layer has."""
        measures = super().measures() | self._moments
        for number, layer in enumerate(self.layers):
            size = sum(p[0].numel() for p in layer)
            measures[number, "parameters"] = torch.full_like(measures[number, "dead parameters"], size)
        return measures
