"""Small weightings that experiments put around others: scaled losses, weights by schedule, a change at a known step."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from companion.train.runs import StaticStep, StaticWeights, WeightedStep, Weighting
from companion.train.stacked import Batch, LossesFn
from mtlcore.hydalearn import HydaLearn


def squared_losses(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Mean squared error of every task on `x [R, B, F]` and `y [T, R, B]`: T tensors `[R]`."""
    x, y = batch
    return [(output - target).square().mean(-1) for output, target in zip(model(x), y, strict=True)]


class ScaledLosses:
    """Losses multiplied by a scale per task and run.

    Args:
        losses_fn: `losses_fn(model, batch)` gives T losses `[R]`.
        scales: `[T, R]`. In HydaLearn a scale enters twice, with the gain and with the gradient; elsewhere once.
    """

    def __init__(self, losses_fn: LossesFn, scales: Tensor) -> None:
        self.losses_fn, self.scales = losses_fn, scales

    def __call__(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """The T scaled losses `[R]`."""
        return [scale * loss for scale, loss in zip(self.scales, self.losses_fn(model, batch), strict=True)]


def auxiliary_scales(scales: Tensor, num_tasks: int) -> Tensor:
    """Scales `[T, R]` with 1 for the main task and `scales [R]` for every auxiliary one."""
    return torch.stack([torch.ones_like(scales), *[scales] * (num_tasks - 1)])


class ScheduledWeights:
    """Weights that were fixed before training, one set per step.

    Args:
        model: The stacked model.
        losses_fn: `losses_fn(model, batch)` gives T losses `[R]`.
        weights: `[steps, T, R]`.
    """

    def __init__(self, model: nn.Module, losses_fn: LossesFn, weights: Tensor) -> None:
        self._static = StaticWeights(model, losses_fn, weights[:0])
        self._schedule = iter(weights)

    def backward(self, batch: Batch) -> StaticStep:
        """Add the gradient of the weighted sum of losses with the next step's weights."""
        self._static.weights = next(self._schedule)
        return self._static.backward(batch)


class Switched:
    """One weighting until a step, another from there on.

    Args:
        before: Used for the steps 0 to `step` - 1.
        after: Used from `step` on; both fill the same model's gradients.
        step: Number of the step.
    """

    def __init__(self, before: Weighting, after: Weighting, step: int) -> None:
        self._before, self._after, self._left = before, after, step

    def backward(self, batch: Batch) -> WeightedStep:
        """Let the weighting that is due fill the gradients."""
        self._left -= 1
        return (self._before if self._left >= 0 else self._after).backward(batch)


class GainElsewhere:
    """HydaLearn whose gains are measured on other data than the mini-batch.

    Args:
        hydalearn: The weighting.
        draw: Gives the data of the next step's gains.
    """

    def __init__(self, hydalearn: HydaLearn, draw: Callable[[], Batch]) -> None:
        self._hydalearn, self._draw = hydalearn, draw

    def backward(self, batch: Batch) -> WeightedStep:
        """Train on the batch with gains on the drawn data."""
        return self._hydalearn.backward(batch, self._draw())


def select_tasks(losses_fn: LossesFn, tasks: list[int]) -> LossesFn:
    """Make a loss function that trains towards some of the targets, as many as the model has heads."""

    def selected(model: nn.Module, batch: Batch) -> list[Tensor]:
        x, y = batch
        return list(losses_fn(model, (x, y[tasks])))

    return selected
