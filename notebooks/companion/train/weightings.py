"""What fills the gradients of a batch: every method by its name, and the small weightings that experiments put around.

A weighting adds to `p.grad`, and to `p.task_grad` where it keeps the tasks' gradients apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from companion.baselines import make_baseline
from companion.train.stacked import Batch, LossesFn, StackedModel
from mtlcore.hydalearn import HydaLearn
from mtlcore.task_gradients import combine, task_backward

# Constant weights of every auxiliary task, the main task's being 1; "static grid" tunes the scale of their losses.
STATIC = {"single task": 0.0, "equal weights": 1.0, "static grid": 1.0}


class WeightedStep(Protocol):
    """What a weighting returns for a batch: losses and weights, `[T, R]`, on the device."""

    @property
    def losses(self) -> Tensor:
        """Losses of the batch."""
        ...

    @property
    def weights(self) -> Tensor:
        """Weights that made the gradient."""
        ...


class Weighting(Protocol):
    """Adds the weighted gradient of a batch to `p.grad`; `StaticWeights` and `HydaLearn` are weightings."""

    def backward(self, batch: Batch) -> WeightedStep:
        """Add to `p.grad` and say with which weights."""
        ...


def make_weighting(
    method: str, model: nn.Module, losses_fn: LossesFn, shared: Sequence[nn.Parameter], *,
    kinds: Sequence[str], steps_per_epoch: int, apart: bool = False, **options: Any,
) -> Weighting:  # fmt: skip
    """Build the weighting of a method.

    Args:
        method: A name in `STATIC`, "AdaTask", "HydaLearn" or a baseline of `companion.baselines`.
        model: Any module; a stack of R models has `num_runs`.
        losses_fn: `losses_fn(model, batch)` gives T losses, scaled or not.
        shared: The parameters that tasks share.
        kinds: For each task "regression" or "classification".
        steps_per_epoch: Batches of an epoch.
        apart: Whether constant weights keep the tasks' gradients apart too, at a backward pass each, for `Dominance`.
        options: What HydaLearn or the baseline takes besides.
    """
    if method == "AdaTask" or (apart and STATIC.get(method) == 1):
        return TaskGradients(model, losses_fn, shared)
    if method in STATIC:
        runs = [model.num_runs] if isinstance(model, StackedModel) else []
        weights = shared[0].new_full([len(kinds), *runs], STATIC[method])
        weights[0] = 1
        return StaticWeights(model, losses_fn, weights)
    if method == "HydaLearn":
        return HydaLearn(model, losses_fn, shared, **options)
    return make_baseline(method, model, losses_fn, shared, kinds=kinds, steps_per_epoch=steps_per_epoch, **options)


@dataclass(frozen=True)
class StaticStep:
    """Losses and weights of one batch, `[T, R]`."""

    losses: Tensor
    weights: Tensor


class StaticWeights:
    """Constant task weights: one backward pass of the weighted sum of losses, as in ordinary joint training.

    Args:
        model: The (stacked) model.
        losses_fn: `losses_fn(model, batch)` gives T losses `[R]`.
        weights: `[T, R]`; equal weights are ones, a single task has zeros elsewhere.
    """

    def __init__(self, model: nn.Module, losses_fn: LossesFn, weights: Tensor) -> None:
        self.model, self.losses_fn, self.weights = model, losses_fn, weights

    def backward(self, batch: Batch) -> StaticStep:
        """Add the gradient of the weighted sum of losses to `p.grad`."""
        losses = torch.stack(list(self.losses_fn(self.model, batch)))  # [T, R]
        torch.autograd.backward((self.weights * losses).sum())
        return StaticStep(losses.detach(), self.weights)


class TaskGradients:
    """The tasks' gradients kept apart, for AdaTask or `Dominance`, and their weighted sum in `p.grad`.

    Args:
        model: The (stacked) model.
        losses_fn: `losses_fn(model, batch)` gives T losses `[R]`.
        shared: The parameters that tasks share.
        weights: Constant weights of the shared parameters' gradients, `[T, R]`, or None for ones; heads follow their
            own loss.
    """

    def __init__(
        self, model: nn.Module, losses_fn: LossesFn, shared: Sequence[Tensor], weights: Tensor | None = None
    ) -> None:
        self.model, self.losses_fn, self.shared, self.weights = model, losses_fn, shared, weights

    def backward(self, batch: Batch) -> StaticStep:
        """One backward pass per task."""
        losses = list(self.losses_fn(self.model, batch))
        task_backward(losses, self.shared)
        self.combine()
        values = torch.stack(losses).detach()
        return StaticStep(values, torch.ones_like(values) if self.weights is None else self.weights)

    def combine(self) -> None:
        """From the tasks' gradients to `p.grad`."""
        combine(self.shared, self.weights)


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
