"""What the baselines share: one forward pass, one backward pass per task, weights, and where the gradients go."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtlcore._checks import check_losses, check_shared, check_task_grad
from mtlcore.gains import Gradients
from mtlcore.lookahead import LossesFn
from mtlcore.task_gradients import add_grad, add_task_grad, weighted_sum


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
        if not isinstance(main_task, int) or main_task < 0:
            raise ValueError(
                f"Parameter `main_task` should be the index of a task, 0 or more. Found `main_task = {main_task!r}`. "
                "Pass the main loss's place in what `losses_fn` returns."
            )
        self.model, self.losses_fn, self.main_task = model, losses_fn, main_task
        self.shared, self.heads = split_parameters(model, shared)

    def backward(self, batch: Any) -> Step:
        """Adds task gradients to ``p.task_grad`` of shared parameters and weighted gradients to ``p.grad`` of all.

        Args:
            batch: What ``losses_fn`` takes.

        Raises:
            ValueError: If ``losses_fn`` returns something else than T losses with a graph, or the main task is not
                among them.
        """
        losses = check_losses(self.losses_fn(self.model, batch))
        if self.main_task >= len(losses):
            raise ValueError(
                f"Parameter `main_task` should be the index of a task. Found `main_task = {self.main_task}` and "
                f"{len(losses)} losses. Pass 0 to {len(losses) - 1}."
            )
        gradients = task_gradients(losses, self.shared, self.heads)
        values = torch.stack([loss.detach() for loss in losses])  # [T] or [T, R]
        with torch.no_grad():
            weights = self._weigh(values, gradients.shared)
        accumulate(gradients, weights, self.scales_heads)
        return Step(values, weights)

    @abstractmethod
    def _weigh(self, losses: Tensor, rows: Mapping[Tensor, Tensor]) -> Tensor:
        """Returns the weights [T] or [T, R] of losses of that shape and task gradients [T, *shape] per parameter."""


def split_parameters(model: nn.Module, shared: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the trainable shared parameters and all other trainable ones, the heads."""
    listed, members = check_shared(shared), set(model.parameters())
    strangers = sum(p not in members for p in listed)
    if strangers:
        raise ValueError(
            f"Parameter `shared` should hold parameters of the model. Found {strangers} that are not. Pass, for "
            "example, trunk.parameters()."
        )
    ours = [p for p in listed if p.requires_grad]
    if not ours:
        raise ValueError("Parameter `shared` should hold a trainable parameter. Found only frozen ones. Unfreeze one.")
    return ours, [p for p in model.parameters() if p.requires_grad and p not in set(ours)]


def task_gradients(losses: list[Tensor], shared: Sequence[Tensor], heads: Sequence[Tensor]) -> Gradients:
    """Returns the gradients of T losses, checked against those that the parameters already hold."""
    for p in shared:
        check_task_grad(p, len(losses), losses[0].shape[0] if losses[0].ndim else None)
    return Gradients.of(losses, shared, heads)


def accumulate(gradients: Gradients, weights: Tensor, scales_heads: bool) -> None:
    """Adds task gradients and their weighted sum [*shape] to the parameters, with weights [T] or [T, R]."""
    num_runs = weights.shape[1] if weights.ndim == 2 else None
    for p, task_grad in gradients.shared.items():
        if any(gradients.reached[p]):
            add_task_grad(p, task_grad, gradients.reached[p], num_runs, weights)
    head_weights = weights if scales_heads else torch.ones_like(weights)
    for p, rows in gradients.heads.items():
        reached = {t: row for t, row in enumerate(rows) if row is not None}
        if reached:
            add_grad(p, weighted_sum(torch.stack(list(reached.values())), head_weights[list(reached)]))


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


def check_positive(name: str, value: float, example: str) -> None:
    """Raises ValueError unless ``value`` is a positive, finite number."""
    if not (isinstance(value, int | float) and isfinite(value) and value > 0):
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
