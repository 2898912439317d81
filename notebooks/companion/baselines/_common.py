"""What the baselines share: one forward pass, one backward pass per task, weights, and where the gradients go."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtlcore._checks import Losses, check_losses, check_main_task
from mtlcore.batch_gradients import Gradients, check_members, trainable
from mtlcore.trials import LossesFn


class Step(NamedTuple):
    """Losses and weights of one mini-batch: each [T], or [T, R] for R runs, on the device."""

    losses: Tensor
    weights: Tensor


class TaskGradientWeighting(ABC):
    """A weighting that looks at the task gradients of the shared parameters; subclasses say how.

    ``backward`` fills ``p.task_grad`` and ``p.task_weights`` of shared parameters, so that ``Dominance`` can read
    them, and ``p.grad`` of all. It costs one forward and T backward passes.

    Attributes:
        scales_heads: Whether a task's weight also scales the gradient of its head.
    """

    scales_heads = False

    def __init__(self, model: nn.Module, losses_fn: LossesFn, shared: Iterable[Tensor], main_task: int = 0) -> None:
        check_main_task(main_task)
        self.model, self.losses_fn, self.main_task = model, losses_fn, main_task
        self.shared = trainable(shared)
        check_members(model, self.shared)

    def backward(self, batch: Any) -> Step:
        """Adds task gradients to ``p.task_grad`` of shared parameters and weighted gradients to ``p.grad`` of all.

        Args:
            batch: What ``losses_fn`` takes.

        Raises:
            ValueError: If ``losses_fn`` returns something else than T losses with a graph, or the main task is not
                among them.
        """
        losses = all_losses(self.losses_fn(self.model, batch))
        check_main_task(self.main_task, len(losses))
        gradients = Gradients.of(losses, self.shared, self.model)
        values = torch.stack([loss.detach() for loss in losses])  # [T] or [T, R]
        with torch.no_grad():
            weights = self._weigh(values, gradients.shared)
        gradients.add_to_parameters(weights, self.scales_heads)
        return Step(values, weights)

    @abstractmethod
    def _weigh(self, losses: Tensor, rows: Mapping[Tensor, Tensor]) -> Tensor:
        """Returns the weights [T] or [T, R] of losses of that shape and task gradients [T, *shape] per parameter."""


def all_losses(losses: Losses) -> list[Tensor]:
    """Returns the T losses as a list; raises ValueError for anything else, and where a task has none."""
    checked = check_losses(losses)
    present = [loss for loss in checked if loss is not None]
    if len(present) < len(checked):
        raise ValueError(
            "Parameter `losses` should hold a loss of every task for this weighting. Found "
            f"{len(checked) - len(present)} of None. Leave out the step, or use HydaLearn or AdaTask."
        )
    return present


def inner_products(a: Iterable[Tensor], b: Iterable[Tensor], like: Tensor) -> Tensor:
    """Returns the inner products of task gradients over all parameters together, of the shape [T] or [T, R] of like.

    Args:
        a: Task gradients [T, *shape], one tensor per parameter; with runs [T, R, *shape].
        b: The same, or with 1 in place of T.
        like: The losses.
    """
    total = torch.zeros_like(like)
    for x, y in zip(a, b, strict=True):
        x, y = (z.reshape(*z.shape[: like.ndim], -1) for z in (x, y))
        total = total + torch.linalg.vecdot(x, y)
    return total


def check_positive(name: str, value: float | Tensor, example: str) -> None:
    """Raises ValueError unless ``value`` is a positive, finite number; a tensor, a number per run, is not read."""
    if not (isinstance(value, Tensor) or (isinstance(value, int | float) and isfinite(value) and value > 0)):
        raise ValueError(
            f"Parameter `{name}` should be positive and finite. Found `{name} = {value!r}`. Pass, for example, "
            f"{example}."
        )


def check_count(name: str, value: int, example: str) -> None:
    """Raises ValueError unless ``value`` is a positive integer."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Parameter `{name}` should be an integer, 1 or more. Found `{name} = {value!r}`. Pass, for example, "
            f"{example}."
        )
