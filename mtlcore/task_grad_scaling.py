"""Task gradients in other magnitudes: clipped by their norm, divided by the scale of a gradient scaler."""

import torch
from torch import Tensor

from mtlcore._checks import Shared, check_shared
from mtlcore._eager import eager
from mtlcore._rows import runs_of
from mtlcore._sharded import local, over_parts
from mtlcore._task_record import check_unchanged, find_scale, record_of, seal_sum, task_grad_of
from mtlcore._touched import numbers, per_task, with_numbers
from mtlcore._weighted_sums import task_weight_view


@eager
@torch.no_grad()
def clip_task_grad_norm_(shared: Shared, max_norm: float) -> Tensor:
    """Scales each task's gradient to an L2 norm of at most ``max_norm``, over all shared parameters together.

    ``p.grad`` becomes the sum of the clipped gradients, whether :func:`combine` came before or comes after. Like
    ``torch.nn.utils.clip_grad_norm_``, it divides by the norm + 1e-6, and a non-finite norm spoils that gradient: here
    the one task's only.

    Args:
        shared: The shared parameters.
        max_norm: The largest norm allowed, in units of the gradient; positive.

    Returns:
        The norms before clipping: [T], or [T, R] for R runs, each run with its own.

    Raises:
        ValueError: If ``max_norm`` is not positive, or no parameter has task gradients.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.task_grad = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
        >>> clip_task_grad_norm_([p], max_norm=1.0)
        tensor([5.0000, 0.5000])
        >>> p.task_grad
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    if not max_norm > 0:
        raise ValueError(
            f"Parameter `max_norm` should be positive. Found `max_norm = {max_norm}`. Pass, for example, 1.0."
        )
    params = check_shared(shared)
    check_unchanged(params, "clipping by task", "Clip by task first, and change `p.grad` afterwards.")
    reached = [p for p in params if task_grad_of(p) is not None]
    if not reached:
        raise ValueError(
            "Parameter `shared` should hold parameters with task gradients. Found none. Call `task_backward` before "
            "clipping."
        )
    norms: Tensor = torch.stack([_norms(p) for p in reached]).norm(dim=0)  # [T] or [T, R]
    if local(reached[0]) is not reached[0]:
        norms = over_parts(norms.square(), reached[0]).sqrt()
    factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for p in reached:
        find_scale(p)
    for p in reached:
        numbers(p.task_grad).mul_(task_weight_view(factors, p.task_grad))  # type: ignore[attr-defined]
        record = record_of(p)
        if record is None:
            continue
        if record.parts is not None:  # a task that was left out has zeros there, whatever its norm
            by_task, parts = task_weight_view(factors, record.parts), numbers(record.parts)
            record.parts = with_numbers(record.parts, torch.where(parts == 0, 0, parts * by_task))
        seal_sum(p)
    return norms


def _norms(p: Tensor) -> Tensor:
    """Returns the norm of each task's gradient, [T] or [T, R], of what is in this process."""
    task_grad = local(p.task_grad)  # type: ignore[attr-defined]
    if task_grad.is_sparse:
        return torch.stack([torch.linalg.vector_norm(numbers(grad)) for grad in per_task(task_grad)])
    rows = task_grad.reshape(*task_grad.shape[: 2 if runs_of(p) else 1], -1)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=-1)
    return norms


@eager
@torch.no_grad()
def unscale_task_grad_(scaler: torch.amp.GradScaler, shared: Shared) -> None:
    """Divides task gradients by the scale of a gradient scaler, for who reads them before an AdaTask optimizer's step.

    It is needed where task gradients are clipped, and beside each ``scaler.unscale_(optimizer)``, which divides
    ``p.grad`` only: before or after it, and before :func:`combine`. Elsewhere ``scaler.step(optimizer)`` divides by the
    scale what was not divided yet. All losses are scaled alike, ``task_backward([scaler.scale(loss) for loss in
    losses], shared)``, and an inf or NaN in any task makes the scaler skip the whole step.

    Args:
        scaler: The gradient scaler, enabled or not.
        shared: The shared parameters, or a module that holds them.

    Example:
        >>> from mtlcore.task_gradients import task_backward
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        >>> task_backward([scaler.scale(loss) for loss in (p.sum(), p.square().sum())], [p])
        >>> unscale_task_grad_(scaler, [p])
        >>> p.task_grad
        tensor([[1., 1.],
                [2., 4.]])
    """
    if not scaler.is_enabled():
        return
    params = [p for p in check_shared(shared) if task_grad_of(p) is not None]
    if any((record := record_of(p)) is not None and record.unscaled for p in params):
        raise ValueError(
            "Task gradients should be unscaled once. Found some that are unscaled already. Call `unscale_task_grad_` "
            "once in a step, after the last micro-batch."
        )
    for p in params:
        divide(p, scaler.scale(local(p).new_ones(())))


def divide(p: Tensor, scale: Tensor) -> None:
    """Divides a parameter's task gradients by a gradient scaler's scale; ``p.grad`` is the scaler's to divide."""
    record = record_of(p)
    numbers(p.task_grad).div_(scale)  # type: ignore[attr-defined]
    if record is not None:
        record.unscaled, record.scale = True, scale
        if record.parts is not None:
            numbers(record.parts).div_(scale)
