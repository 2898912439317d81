"""One training step of any method under one name, with Adam, for one model or a stack of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from companion.baselines import AGGREGATORS, trained_parameters
from companion.train.stacked import Batch, LossesFn
from companion.train.weightings import STATIC, TaskGradients, make_weighting
from mtlcore.adatask import AdaTaskAdam
from mtlcore.task_gradients import task_backward, zero_task_grad

ONE_PASS = (*STATIC, "uncertainty weighting", "DWA")  # one backward pass of a weighted sum of losses
WEIGHED_GRADIENTS = ("T backward passes", "GradNorm", "cosine gate", "OL-AUX", "per-task RMS", *AGGREGATORS)
FIRST_ORDER = "HydaLearn, first order"
METHODS = (*ONE_PASS, *WEIGHED_GRADIENTS, "AdaTask-Adam", FIRST_ORDER, "HydaLearn")


@dataclass(frozen=True)
class Workload:
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

    problem: Workload
    backward: Callable[[Batch], object]
    optimizer: torch.optim.Optimizer

    def __call__(self) -> None:
        """Take the step."""
        self.optimizer.zero_grad()
        zero_task_grad(self.problem.shared)
        self.backward(self.problem.batch)
        self.optimizer.step()


def training_step(method: str, problem: Workload) -> Step:
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
        return Step(
            problem,
            TaskGradients(model, problem.losses_fn, problem.shared).backward,
            torch.optim.Adam(model.parameters(), fused=True),
        )
    gain: dict[str, Any] = {FIRST_ORDER: {"gain": "first_order"}}.get(method, {})
    weighting = make_weighting(
        "HydaLearn" if gain else method, model, problem.losses_fn, problem.shared, kinds=problem.kinds,
        steps_per_epoch=20, **gain,
    )  # fmt: skip
    adam = torch.optim.Adam(trained_parameters(model, weighting), fused=True)
    return Step(problem, weighting.backward, adam)


def _separate(problem: Workload, batch: Batch) -> None:
    task_backward(problem.losses_fn(problem.model, batch), problem.shared)
