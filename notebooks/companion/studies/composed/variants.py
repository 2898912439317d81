r"""The ways to put HydaLearn and AdaTask together, and AdaTask on projected gradients, as weightings for `runs`.

With :math:`w_t` HydaLearn's weight of task t in this step, :math:`g_t` its gradient of a shared parameter and
:math:`u[\cdot]` the update that one accumulator makes of a sequence of gradients:

- HydaLearn + Adam: :math:`u\big[\sum_t w_t g_t\big]`, one accumulator;
- in front of AdaTask: :math:`\sum_t u_t[w_t g_t]`, where a constant :math:`w_t` is erased;
- on AdaTask's updates: :math:`\sum_t w_t\, u_t[g_t]`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from companion.studies.composed.projection import project_conflicts
from companion.train.runs import StaticStep, StaticWeights, WeightedStep, Weighting
from companion.train.stacked import Batch, LossesFn, StackedModel
from mtlcore.adatask import AdaTaskAdam
from mtlcore.hydalearn import HydaLearn, HydaLearnStep
from mtlcore.task_gradients import combine, contributions, task_backward

# Method -> weight of every auxiliary loss where it is constant, the main task's being 1.
CONSTANT = {"single task": 0.0, "equal weights": 1.0, "static grid": 1.0}
MEAN = "mean weights on updates"
METHODS = (
    *CONSTANT, "HydaLearn", "AdaTask", "HydaLearn in front", "HydaLearn on updates", MEAN, "static on updates",
)  # fmt: skip
UNSCALED = ("single task", "equal weights", "AdaTask")  # nothing to tune but the rate: AdaTask erases a scale
DIRECTIONS = ("equal weights", "PCGrad", "AdaTask", "PCGrad + AdaTask")  # of the second study, without a main task
SEPARATE = ("AdaTask", "HydaLearn in front", "HydaLearn on updates", MEAN, "static on updates", "PCGrad + AdaTask")


class InFront:
    """HydaLearn's weights multiply the task gradients before AdaTask's accumulators see them."""

    def __init__(self, hydalearn: HydaLearn) -> None:
        self._hydalearn = hydalearn

    def backward(self, batch: Batch) -> HydaLearnStep:
        """Weigh, and leave the weighted gradients where AdaTask reads the tasks' own."""
        step = self._hydalearn.backward(batch)
        for p in self._hydalearn.shared:
            p.task_grad, p.task_weights = contributions(p), None  # type: ignore[attr-defined]
        return step


class OnUpdates:
    """HydaLearn's weights multiply the updates that AdaTask makes of the tasks' own gradients."""

    def __init__(self, hydalearn: HydaLearn, optimizer: Optimizer) -> None:
        self._hydalearn, self._optimizer = hydalearn, optimizer

    def backward(self, batch: Batch) -> HydaLearnStep:
        """Weigh, and hand the weights to the optimizer's next step."""
        step = self._hydalearn.backward(batch)
        self._optimizer.param_groups[0]["task_weights"] = step.weights
        return step


class TaskGradients:
    """Task gradients with constant weights on AdaTask's updates.

    Args:
        model: The stacked model.
        losses_fn: Its losses.
        shared: The stacked parameters that tasks share.
        weights: `[T, R]`, reported as those of every step.
        orders: Draws the orders in which conflicts are projected away; None leaves them.

    Attributes:
        conflicts: Of every step so far, in which runs a conflict was projected away, `[R]` each.
    """

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        shared: Sequence[Tensor],
        weights: Tensor,
        orders: torch.Generator | None = None,
    ) -> None:
        self._model, self._losses_fn, self._shared, self._weights = model, losses_fn, shared, weights
        self._orders = orders
        self.conflicts: list[Tensor] = []

    def backward(self, batch: Batch) -> StaticStep:
        """One backward pass per task."""
        losses = list(self._losses_fn(self._model, batch))
        task_backward(losses, self._shared)
        if self._orders is not None:
            self.conflicts.append(project_conflicts(self._shared, self._orders))
        combine(self._shared)
        return StaticStep(torch.stack(losses).detach(), self._weights)


class Decaying:
    """Lets the learning rate fall linearly to 0 over the training, whatever weighs.

    Args:
        weighting: Fills the gradients.
        optimizer: Takes the step that follows.
        steps: Length of the training.
    """

    def __init__(self, weighting: Weighting, optimizer: Optimizer, steps: int) -> None:
        self._weighting, self._group, self._left, self._steps = weighting, optimizer.param_groups[0], steps, steps

    def backward(self, batch: Batch) -> WeightedStep:
        """Set the rate of this step and weigh."""
        self._group["lr"], self._left = self._left / self._steps, self._left - 1
        return self._weighting.backward(batch)


def make_variant(
    method: str, model: StackedModel, losses_fn: LossesFn, shared: Sequence[Tensor], scales: Tensor,
    means: Tensor | None = None, follow: bool = False,
) -> tuple[Weighting, Optimizer]:  # fmt: skip
    """Build a method: what fills the gradients, and the optimizer with `lr=1` for `runs.step_per_run`.

    Args:
        method: One of `METHODS` or `DIRECTIONS`.
        model: The stacked model of R runs.
        losses_fn: The losses, auxiliary ones scaled by `scales` already.
        shared: The stacked parameters that tasks share.
        scales: `[T, R]`, which "static on updates" takes as its weights.
        means: `[T, R]`, the weights of "mean weights on updates".
        follow: Whether joint training keeps the tasks' gradients apart too, at a backward pass each, for `Dominance`.

    Raises:
        ValueError: There is no such method.
    """
    if method not in (*METHODS, *DIRECTIONS):
        raise ValueError(
            f"Parameter `method` should be one of {', '.join(dict.fromkeys((*METHODS, *DIRECTIONS)))}. "
            f"Found {method!r}. Pass one of them."
        )
    parameters, ones = list(model.parameters()), torch.ones_like(scales)
    separate = method in SEPARATE
    optimizer: Optimizer = (
        AdaTaskAdam(parameters, num_tasks=len(scales), lr=1.0) if separate else torch.optim.Adam(parameters, lr=1.0)
    )
    if method in CONSTANT and not follow:
        weights = torch.full_like(scales, CONSTANT[method])
        weights[0] = 1
        return StaticWeights(model, losses_fn, weights), optimizer
    if method.startswith("HydaLearn"):
        hydalearn = HydaLearn(model, losses_fn, shared)
        if method == "HydaLearn":
            return hydalearn, optimizer
        return (InFront(hydalearn) if method == "HydaLearn in front" else OnUpdates(hydalearn, optimizer)), optimizer
    constant = {"static on updates": scales, MEAN: means}.get(method)
    if constant is not None:
        optimizer.param_groups[0]["task_weights"] = constant
    orders = torch.Generator().manual_seed(0) if method.startswith("PCGrad") else None
    reported = ones if constant is None else constant
    return TaskGradients(model, losses_fn, shared, reported, orders), optimizer
