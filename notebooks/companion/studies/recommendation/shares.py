"""Each task's share of the squared updates and of the squared gradients, table by table and layer by layer."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from companion.train.layer_shares import QUANTILES, histogram, share, summary
from mtlcore.dominance import Dominance
from mtlcore.task_gradients import contributions

MOMENTS = 10  # equal parts of training whose ends are followed
LOOKS = 20  # in a training, at least, whose mean is the average over time


class LayerShares:
    """Follows AU, and the same average of the squared gradients, through the training of R stacked runs.

    A row of a table moves only in the steps after a batch that has its id, so most rows have small AU; shares are taken
    row by row and each live parameter counts once.

    Args:
        dominance: Of the optimizer, made before its first step.
        layers: Name -> parameters `[R, *shape]`; all together are number 0, the layers count from 1.
        steps: Length of the training.

    Raises:
        ValueError: The training is too short to be followed.
    """

    def __init__(self, dominance: Dominance, layers: Mapping[str, Sequence[Tensor]], steps: int) -> None:
        """Begin with empty averages."""
        if steps < LOOKS:
            raise ValueError(
                f"Parameter `steps` should be at least {LOOKS} for dominance over time. Found `steps = {steps}`. "
                "Pass smaller batches, more epochs or more data."
            )
        self.dominance, self.steps = dominance, steps
        self._every = steps // LOOKS
        everything = [p for layer in layers.values() for p in layer]
        self.layers = [everything, *layers.values()]
        self._square: dict[Tensor, Tensor] = {}
        self._looks: list[dict[tuple[int, str], Tensor]] = []
        self._moments: dict[tuple[int, str], Tensor] = {}
        self._step = 0

    @torch.no_grad()
    def record(self) -> None:
        """Take in the tasks' gradients; call it after each step, before the gradients are cleared."""
        for p in self.layers[0]:
            square = contributions(p).square()  # [T, R, *shape]
            self._square[p] = self._square.get(p, torch.zeros_like(square)).lerp(square, 1 - self.dominance.decay)
        self._step += 1
        if self._step % self._every == 0:
            self._looks.append(self._now())
        part, rest = divmod(self._step * MOMENTS, self.steps)
        if rest < MOMENTS and part:  # the first step at or after the end of this part
            now = self._now()
            self._moments |= {(n, f"{metric}, part {part}"): v for (n, metric), v in now.items() if "updates" in metric}

    def _now(self) -> dict[tuple[int, str], Tensor]:
        """Summaries of AU and of the accumulated gradients, (layer, metric) -> `[R]`."""
        measures: dict[tuple[int, str], Tensor] = {}
        for number, layer in enumerate(self.layers):
            for what, accumulated in (("updates", self.dominance.au), ("gradients", self._square)):
                relative = share(_joined(accumulated, layer))  # [T, R, n]
                found = summary(relative)
                found |= {f"task {t + 1}": row.nanmean(-1) for t, row in enumerate(relative)}
                measures |= {(number, f"{name}, {what}"): values for name, values in found.items()}
        return measures

    @torch.no_grad()
    def measures(self) -> dict[tuple[int, str], Tensor]:
        """All that was measured, (layer, metric) -> `[R]`.

        The shares of `summary` and each task's mean share, for updates and gradients: at the end, averaged over time
        and, for updates, at the end of each tenth of the training; dead parameters, those that no task ever moved; and
        quantiles and a histogram of the last task's rAU at the end.
        """
        now = self._now()
        measures = {(layer, f"{metric}, end"): values for (layer, metric), values in now.items()}
        looks = {key: torch.stack([look[key] for look in self._looks]).nanmean(0) for key in now}
        measures |= {(layer, f"{metric}, mean"): values for (layer, metric), values in looks.items()}
        measures |= self._moments
        for number, layer in enumerate(self.layers):
            last = share(_joined(self.dominance.au, layer))[-1]  # [R, n]
            measures[number, "parameters"] = torch.full_like(last[:, 0], last.shape[1])
            measures[number, "dead parameters"] = last.isnan().sum(-1).to(last.dtype)
            for q, row in zip(QUANTILES, last.nanquantile(last.new_tensor(QUANTILES), dim=-1), strict=True):
                measures[number, f"rAU, quantile {q:g}"] = row
            for b, row in enumerate(histogram(last)):
                measures[number, f"rAU, bin {b}"] = row
        return measures


def _joined(values: Mapping[Tensor, Tensor], layer: Sequence[Tensor]) -> Tensor:
    return torch.cat([values[p].flatten(2) for p in layer], dim=2)  # [T, R, n]
