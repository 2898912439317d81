r"""Each task's share of the squared updates, and of the squared gradients, layer by layer during training.

`Dominance` has the accumulated updates (AU) of whatever optimizer. `ShareRecorder` adds the same average of the squared
gradients, so that both are seen through one window, follows summaries of the two over training, and compares AU with
what the signal-to-noise ratio of the gradients allows under Adam (`adam_share`).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtlcore.dominance import Dominance
from mtlcore.task_gradients import contributions

THRESHOLD = 0.9  # a parameter is dominated when one task has more than this share: our choice, as in `Dominance`
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_BINS = 21  # odd, so that 1/2, which is common, is no edge between two bins
EVERY = 10  # steps between two looks, whose mean is the average over time


def share(accumulated: Tensor) -> Tensor:
    """Divide `[T, ...]` by its sum over tasks; NaN where that is 0, at the parameters of dead units."""
    return accumulated / accumulated.sum(0)


def summary(relative: Tensor) -> dict[str, Tensor]:
    """Summarise shares `[T, R, n]` of n parameters, dead ones left out.

    Returns:
        `[R]` each: the share of parameters that one task dominates, the mean over parameters of the share of the
        task that is least served there, and the mean share of the last task.
    """
    live = relative.isfinite().all(0)  # [R, n]
    count = live.sum(-1)
    known = torch.where(live, relative, 0.0)
    return {
        "dominated": (known.amax(0) > THRESHOLD).sum(-1) / count,
        "least served": known.amin(0).sum(-1) / count,
        "last task": known[-1].sum(-1) / count,
    }


def adam_share(mean: Tensor, square: Tensor, decay: float, beta1: float = 0.9) -> Tensor:
    r"""Predict the tasks' shares of AU under AdaTask-Adam from the signal-to-noise ratio of their gradients.

    A gradient with mean :math:`\mu` and independent noise of variance :math:`\sigma^2` has a first moment of expected
    square :math:`\mu^2 + c\sigma^2` with :math:`c = (1-\beta_1)/(1+\beta_1)`, over a second moment
    :math:`\mu^2 + \sigma^2`. With :math:`s = \mu^2/\sigma^2` a squared update is therefore

    .. math:: E[u^2] = \frac{s + c}{s + 1} \in [c, 1] :

    between two tasks the share of AU stays within :math:`[c/(1+c), 1/(1+c)]`, and is 1/2 where both have the same s.
    Derived here, for stationary gradients.

    Args:
        mean: Decaying average of the gradients, `[T, ...]`.
        square: The same average of their squares.
        decay: Of both averages.
        beta1: Of Adam.
    """
    left = (1 - decay) / (1 + decay)  # the part of the noise's variance that is left in the average
    signal = torch.minimum(((mean.square() - left * square) / (1 - left)).clamp(min=0), square)  # mu^2
    c = (1 - beta1) / (1 + beta1)
    return share((signal + c * (square - signal)) / square)


def histogram(relative: Tensor) -> Tensor:
    """Share of live parameters in each of `NUM_BINS` equal bins of [0, 1], `[bins, R]`, from shares `[R, n]`."""
    inside = _inside(relative)
    return inside.sum(-1) / inside.sum((0, -1))


def by_prediction(measured: Tensor, predicted: Tensor) -> Tensor:
    """Mean of measured shares `[R, n]` in bins of the predicted ones, `[bins, R]`; NaN where a bin is empty."""
    inside = _inside(predicted) & measured.isfinite()
    return (inside * measured.nan_to_num()).sum(-1) / inside.sum(-1)


def _inside(relative: Tensor) -> Tensor:
    """Which bin each of `[R, n]` is in, `[bins, R, n]`; NaN is in none."""
    number = (relative.nan_to_num(-1.0) * NUM_BINS).floor().clamp(max=NUM_BINS - 1)
    return number == torch.arange(NUM_BINS, device=number.device)[:, None, None]


class ShareRecorder:
    """Follows AU and the accumulated squared gradients of a trunk that stacks R runs.

    Args:
        dominance: Of the optimizer, made before its first step.
        parameters: Of the trunk, two per layer (weight and bias), `[R, *shape]`.
    """

    def __init__(self, dominance: Dominance, parameters: Sequence[Tensor]) -> None:
        """Begin with empty averages."""
        self.dominance = dominance
        self.parameters = parameters
        # Number 0 is the whole trunk.
        self.layers = [parameters, *(parameters[i : i + 2] for i in range(0, len(parameters), 2))]
        self._mean: dict[Tensor, Tensor] = {}
        self._square: dict[Tensor, Tensor] = {}
        self._sum: dict[Tensor, Tensor] = {}
        self._looks: list[Tensor] = []  # [measures, R]
        self._steps = 0

    @torch.no_grad()
    def record(self) -> None:
        """Take in the tasks' gradients; call it after each step, before the gradients are cleared."""
        decay = self.dominance.decay
        for p in self.parameters:
            grad = contributions(p)  # [T, R, *shape]
            zero = torch.zeros_like(grad)
            self._mean[p] = self._mean.get(p, zero).lerp(grad, 1 - decay)
            self._square[p] = self._square.get(p, zero).lerp(grad.square(), 1 - decay)
            self._sum[p] = self._sum.get(p, zero) + grad.square()
        self._steps += 1
        if self._steps % EVERY == 0:
            self._looks.append(torch.stack(list(self._now().values())))

    @torch.no_grad()
    def mean_square(self) -> Tensor:
        """Mean square of each task's gradient over the trunk and all steps so far, `[T, R]`."""
        return self._joined(self._sum, self.parameters).mean(-1) / self._steps

    def _now(self) -> dict[tuple[int, str], Tensor]:
        """Summaries of AU and of the accumulated gradients in every layer, (layer, metric) -> `[R]`."""
        return {
            (number, f"{name}, {what}"): values
            for number, layer in enumerate(self.layers)
            for what, accumulated in (("updates", self.dominance.au), ("gradients", self._square))
            for name, values in summary(share(self._joined(accumulated, layer))).items()
        }

    @torch.no_grad()
    def measures(self) -> dict[tuple[int, str], Tensor]:
        """All that was measured, (layer, metric) -> `[R]`; layers count from 1, and 0 is the whole trunk.

        The summaries of `summary` at the end and averaged over time, for updates and gradients; dead parameters; and
        of the last task's rAU at the end: quantiles, a histogram, that of the share predicted for Adam, and the mean
        where that is predicted.
        """
        now = self._now()
        measures = {(layer, f"{metric}, end"): values for (layer, metric), values in now.items()}
        over_time = torch.stack(self._looks).nanmean(0)  # [measures, R]
        measures |= {(layer, f"{metric}, mean"): row for (layer, metric), row in zip(now, over_time, strict=True)}
        for number, layer in enumerate(self.layers):
            last = share(self._joined(self.dominance.au, layer))[-1]  # [R, n]
            mean, square = (self._joined(averages, layer) for averages in (self._mean, self._square))
            expected = adam_share(mean, square, self.dominance.decay)
            measures[number, "dead parameters"] = last.isnan().sum(-1).to(last.dtype)
            for q, row in zip(QUANTILES, last.nanquantile(last.new_tensor(QUANTILES), dim=-1), strict=True):
                measures[number, f"rAU, quantile {q:g}"] = row
            rows = zip(histogram(last), histogram(expected[-1]), by_prediction(last, expected[-1]), strict=True)
            for b, (found, predicted, mean) in enumerate(rows):
                measures[number, f"rAU, bin {b}"] = found
                measures[number, f"predicted rAU, bin {b}"] = predicted
                measures[number, f"rAU where predicted in bin {b}"] = mean
        return measures

    @staticmethod
    def _joined(values: Mapping[Tensor, Tensor], layer: Sequence[Tensor]) -> Tensor:
        return torch.cat([values[p].flatten(2) for p in layer], dim=2)  # [T, R, n]
