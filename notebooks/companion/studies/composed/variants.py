r"""The ways to put HydaLearn and AdaTask together, and AdaTask on projected gradients, as weightings for `runs`.

With :math:`w_t` HydaLearn's weight of task t in this step, :math:`g_t` its gradient of a shared parameter and
:math:`u[\cdot]` the update that one accumulator makes of a sequence of gradients:

- HydaLearn + Adam: :math:`u\big[\sum_t w_t g_t\big]`, one accumulator;
- in front of AdaTask: :math:`\sum_t u_t[w_t g_t]`, where a constant :math:`w_t` is erased;
- on AdaTask's updates: :math:`\sum_t w_t\, u_t[g_t]`.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer

from companion.studies.composed.projection import project_conflicts
from companion.train.optimizers import make_optimizer
from companion.train.problem import Problem
from companion.train.stacked import Batch, LossesFn
from companion.train.weightings import STATIC, StaticStep, TaskGradients, Weighting, make_weighting
from mtlcore.hydalearn import HydaLearn, HydaLearnStep
from mtlcore.task_gradients import contributions

MEAN = "mean weights on updates"
METHODS = (
    *STATIC, "HydaLearn", "AdaTask", "HydaLearn in front", "HydaLearn on updates", MEAN, "static on updates",
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


class ConstantOnUpdates(TaskGradients):
    """Constant weights `[T, R]` multiply the updates that AdaTask makes of the tasks' own gradients."""

    def __init__(self, problem: Problem, losses_fn: LossesFn, optimizer: Optimizer, weights: Tensor) -> None:
        super().__init__(problem.model, losses_fn, problem.shared)
        optimizer.param_groups[0]["task_weights"] = self._on_updates = weights

    def backward(self, batch: Batch) -> StaticStep:
        """One backward pass per task."""
        return StaticStep(super().backward(batch).losses, self._on_updates)


class Projected(TaskGradients):
    """Task gradients without their conflicts.

    Attributes:
        conflicts: Of every step so far, in which runs a conflict was projected away, `[R]` each.
    """

    def __init__(self, problem: Problem, losses_fn: LossesFn) -> None:
        super().__init__(problem.model, losses_fn, problem.shared)
        self._orders = torch.Generator().manual_seed(0)
        self.conflicts: list[Tensor] = []

    def combine(self) -> None:
        """Project, then combine."""
        self.conflicts.append(project_conflicts(self.shared, self._orders))
        super().combine()


def make_variant(
    method: str, problem: Problem, losses_fn: LossesFn, constant: Tensor | None = None, follow: bool = False
) -> tuple[Weighting, Optimizer]:
    """Build a method: what fills the gradients, and the optimizer with `lr=1` for `runs.train_step`.

    Args:
        method: One of `METHODS` or `DIRECTIONS`.
        problem: Model and data.
        losses_fn: Its losses, scaled already.
        constant: `[T, R]`, the weights of "static on updates" and "mean weights on updates".
        follow: Whether joint training keeps the tasks' gradients apart too, at a backward pass each, for `Dominance`.

    Raises:
        ValueError: There is no such method.
    """
    if method not in (*METHODS, *DIRECTIONS):
        raise ValueError(
            f"Parameter `method` should be one of {', '.join(dict.fromkeys((*METHODS, *DIRECTIONS)))}. "
            f"Found {method!r}. Pass one of them."
        )
    num_tasks = problem.num_tasks if method in SEPARATE else None
    optimizer = make_optimizer("Adam", problem.model.parameters(), num_tasks)
    if method in (MEAN, "static on updates"):
        assert constant is not None
        return ConstantOnUpdates(problem, losses_fn, optimizer, constant), optimizer
    if method.startswith("PCGrad"):
        return Projected(problem, losses_fn), optimizer
    if method in ("HydaLearn in front", "HydaLearn on updates"):
        hydalearn = HydaLearn(problem.model, losses_fn, problem.shared)
        return (InFront(hydalearn) if method == "HydaLearn in front" else OnUpdates(hydalearn, optimizer)), optimizer
    weighting = make_weighting(
        method, problem.model, losses_fn, problem.shared, kinds=problem.kinds,
        steps_per_epoch=problem.steps_per_epoch, apart=follow,
    )  # fmt: skip
    return weighting, optimizer
