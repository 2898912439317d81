"""Recorders of the tasks' shares in AU and in the squared gradients, layer by layer during training.

`Dominance` has the accumulated updates (AU) of whatever optimizer. `ShareRecorder` adds the same average of the squared
gradients, so that both are seen through one window, and follows summaries of the two over training.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from companion.train.layer_shares import QUANTILES, adam_share, by_prediction, histogram, share, summary
from mtlcore.dominance import Dominance
from mtlcore.task_gradients import contributions

EVERY = 10  # steps between two looks, whose mean is the average over time
Measures = dict[tuple[int, str], Tensor]  # (layer, metric) -> `[R]`


class ShareRecorder:
    """Follows AU and the accumulated squared gradients of shared layers that stack R runs, after each step.

    Args:
        optimizer: Before its first step.
        layers: Parameters `[R, *shape]` of each layer; all together are number 0, the layers count from 1.
        every: Steps between two looks.

    Attributes:
        dominance: Of the optimizer.
        layers: All parameters, then those of each layer.
        steps: How many there were.
    """

    def __init__(self, optimizer: Optimizer, layers: Sequence[Sequence[Tensor]], every: int = EVERY) -> None:
        """Begin with empty averages."""
        self.dominance = Dominance(optimizer)
        self.layers = [[p for layer in layers for p in layer], *layers]
        self.steps = 0
        self._every = every
        self._looks: list[Measures] = []
        self._square: dict[Tensor, Tensor] = {}
        optimizer.register_step_post_hook(self._after_step)  # after that of `Dominance`

    @torch.no_grad()
    def _after_step(self, *_: object) -> None:
        self.take_in()
        self.steps += 1
        if self.steps % self._every == 0:
            self._looks.append(self.now())

    def take_in(self) -> None:
        """Take in the tasks' gradients of a step."""
        for p in self.layers[0]:
            self.average(self._square, p, contributions(p).square())

    def average(self, averages: dict[Tensor, Tensor], p: Tensor, values: Tensor) -> None:
        """Update a parameter's decaying average, which begins at 0, with the decay of AU."""
        before = averages.get(p, torch.zeros_like(values))
        averages[p] = before.lerp(values, 1 - self.dominance.decay)

    def now(self) -> Measures:
        """Summaries of AU and of the accumulated gradients in every layer."""
        return {
            (number, f"{name}, {what}"): values
            for number, layer in enumerate(self.layers)
            for what, accumulated in (("updates", self.dominance.au), ("gradients", self._square))
            for name, values in self.summarise(share(joined(accumulated, layer))).items()
        }

    def summarise(self, relative: Tensor) -> dict[str, Tensor]:
        """Summarise shares `[T, R, n]` of n parameters, `[R]` each."""
        return summary(relative)

    def over_time(self) -> Measures:
        """The mean of all looks."""
        return {key: torch.stack([look[key] for look in self._looks]).nanmean(0) for key in self._looks[0]}

    @torch.no_grad()
    def measures(self) -> Measures:
        """All that was measured.

        The summaries at the end and averaged over time, for updates and gradients; dead parameters, those that no task
        ever moved; and quantiles and a histogram of the last task's rAU at the end.
        """
        measures = {(layer, f"{metric}, end"): values for (layer, metric), values in self.now().items()}
        measures |= {(layer, f"{metric}, mean"): values for (layer, metric), values in self.over_time().items()}
        for number, layer in enumerate(self.layers):
            last = share(joined(self.dominance.au, layer))[-1]  # [R, n]
            measures[number, "dead parameters"] = last.isnan().sum(-1).to(last.dtype)
            for q, row in zip(QUANTILES, last.nanquantile(last.new_tensor(QUANTILES), dim=-1), strict=True):
                measures[number, f"rAU, quantile {q:g}"] = row
            for b, row in enumerate(histogram(last)):
                measures[number, f"rAU, bin {b}"] = row
        return measures


class SignalRecorder(ShareRecorder):
    """Compares AU with what the signal-to-noise ratio of the gradients allows under Adam too (`adam_share`).

    Args:
        optimizer: Before its first step.
        parameters: Of the shared layers, two per layer (weight and bias), `[R, *shape]`.
    """

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        """Begin with empty averages."""
        super().__init__(optimizer, [parameters[i : i + 2] for i in range(0, len(parameters), 2)])
        self._mean: dict[Tensor, Tensor] = {}
        self._sum: dict[Tensor, Tensor] = {}

    def take_in(self) -> None:
        """Take in the tasks' gradients of a step."""
        super().take_in()
        for p in self.layers[0]:
            grad = contributions(p)  # [T, R, *shape]
            self.average(self._mean, p, grad)
            self._sum[p] = self._sum.get(p, torch.zeros_like(grad)) + grad.square()

    def over_time(self) -> Measures:
        """The mean of all looks, in the precision of the shares."""
        looks = torch.stack([torch.stack(list(look.values())) for look in self._looks])  # [looks, measures, R]
        return dict(zip(self._looks[0], looks.nanmean(0), strict=True))

    @torch.no_grad()
    def mean_square(self) -> Tensor:
        """Mean square of each task's gradient over all layers and all steps so far, `[T, R]`."""
        return joined(self._sum, self.layers[0]).mean(-1) / self.steps

    @torch.no_grad()
    def measures(self) -> Measures:
        """All that was measured; besides, histograms of the share predicted for Adam, and mean rAU where predicted."""
        measures = super().measures()
        for number, layer in enumerate(self.layers):
            last = share(joined(self.dominance.au, layer))[-1]  # [R, n]
            mean, square = (joined(averages, layer) for averages in (self._mean, self._square))
            expected = adam_share(mean, square, self.dominance.decay)[-1]
            rows = zip(histogram(expected), by_prediction(last, expected), strict=True)
            for b, (predicted, found) in enumerate(rows):
                measures[number, f"predicted rAU, bin {b}"] = predicted
                measures[number, f"rAU where predicted in bin {b}"] = found
        return measures


def joined(values: Mapping[Tensor, Tensor], layer: Sequence[Tensor]) -> Tensor:
    """All values of a layer's parameters, `[T, R, n]`."""
    return torch.cat([values[p].flatten(2) for p in layer], dim=2)
