"""Losses as functions of a model and a batch, and what experiments do to them: factors, a choice of targets."""

import torch
from torch import Tensor, nn

from companion.train.stacked import Batch, LossesFn


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


def loss_weights(num_tasks: int, spread: float) -> Tensor:
    """Weights of the losses from 1 of the first task to `spread` of the last, in equal ratios, `[T]`.

    Example:
        >>> loss_weights(3, 100.0)
        tensor([  1.,  10., 100.], dtype=torch.float64)
    """
    return spread ** (torch.arange(num_tasks, dtype=torch.float64) / (num_tasks - 1))


def select_tasks(losses_fn: LossesFn, tasks: list[int]) -> LossesFn:
    """Make a loss function that trains towards some of the targets, as many as the model has heads."""

    def selected(model: nn.Module, batch: Batch) -> list[Tensor]:
        x, y = batch
        return list(losses_fn(model, (x, y[tasks])))

    return selected
