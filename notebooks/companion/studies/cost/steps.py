"""One training step of any method under one name, with Adam, for one model or a stack of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from companion.baselines import AGGREGATORS, make_baseline, trained_parameters
from companion.studies.hydalearn_synthetic.study import STATIC
from companion.train.runs import StaticWeights, Weighting
from companion.train.stacked import Batch, LossesFn, StackedModel
from mtlcore.adatask import AdaTaskAdam
from mtlcore.hydalearn import HydaLearn
from mtlcore.task_gradients import combine, task_backward, zero_task_grad

ONE_PASS = (*STATIC, "uncertainty weighting", "DWA")  # one backward pass of a weighted sum of losses
WEIGHED_GRADIENTS = ("T backward passes", "GradNorm", "cosine gate", "OL-AUX", "per-task RMS", *AGGREGATORS)
FIRST_ORDER = "HydaLearn, first order"
METHODS = (*ONE_PASS, *WEIGHED_GRADIENTS, "AdaTask-Adam", FIRST_ORDER, "HydaLearn")


@dataclass(frozen=True)
class Problem:
    """What a step needs.

    Attributes:
        model: A module, or a `StackedModel` of R.
        shared: Its shared parameters.
        losses_fn: Gives T losses, `[]` or `[R]`.
        batch: What `losses_fn` takes.
        kinds: "regression" or "classification" per task; their number is T.
    """

    model: nn.Module
    shared: Sequence[nn.Parameter]
    losses_fn: LossesFn
    batch: Batch
    kinds: Sequence[str]


@dataclass(frozen=True)
class Step:
    """A whole training step: gradients forgotten, passes and weights, one step of the optimizer."""

    problem: Problem
    backward: Callable[[Batch], object]
    optimizer: torch.optim.Optimizer

    def __call__(self) -> None:
        """Take the step."""
        self.optimizer.zero_grad()
        zero_task_grad(self.problem.shared)
        self.backward(self.problem.batch)
        self.optimizer.step()


def training_step(method: str, problem: Problem) -> Step:
    """Make a method's step with Adam at rate 0.001; the parameters move with every call.

    Args:
        method: One of `METHODS`. "T backward passes" is equal weights with the tasks' gradients kept apart: what every
            method costs that looks at them, before it looks.
        problem: Model and data.
    """
    if method not in METHODS:
        raise ValueError(f"Parameter `method` should be one of {', '.join(METHODS)}. Found {method!r}. Pass one.")
    model, num_tasks = problem.model, len(problem.kinds)
    if method == "AdaTask-Adam":
        return Step(problem, partial(_separate, problem), AdaTaskAdam(model.parameters(), num_tasks=num_tasks))
    if method == "T backward passes":
        return Step(problem, partial(_combined, problem), torch.optim.Adam(model.parameters(), fused=True))
    weighting = _weighting(method, problem)
    adam = torch.optim.Adam(trained_parameters(model, weighting), fused=True)
    return Step(problem, weighting.backward, adam)


def _separate(problem: Problem, batch: Batch) -> None:
    task_backward(problem.losses_fn(problem.model, batch), problem.shared)


def _combined(problem: Problem, batch: Batch) -> None:
    _separate(problem, batch)
    combine(problem.shared)


def _weighting(method: str, problem: Problem) -> Weighting:
    model, losses_fn, num_tasks = problem.model, problem.losses_fn, len(problem.kinds)
    if method in STATIC:
        runs = [model.num_runs] if isinstance(model, StackedModel) else []
        weights = torch.full([num_tasks, *runs], STATIC[method], device=problem.shared[0].device)
        weights[0] = 1
        return StaticWeights(model, losses_fn, weights)
    if method in ("HydaLearn", FIRST_ORDER):
        gain = "exact" if method == "HydaLearn" else "first_order"
        return HydaLearn(model, losses_fn, problem.shared, gain=gain)
    return make_baseline(method, model, losses_fn, problem.shared, kinds=problem.kinds, steps_per_epoch=20)
