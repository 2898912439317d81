"""Task gradients in other magnitudes: clipped by their norm, divided by the scale of a gradient scaler."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mtlcore._checks import check_shared
from mtlcore.task_gradients import runs_of, task_grad_of, task_weight_view


@torch.no_grad()
def clip_task_grad_norm_(shared: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales each task's gradient to an L2 norm of at most ``max_norm``, over all shared parameters together.

    Call it before :func:`combine`. Like ``torch.nn.utils.clip_grad_norm_``, it divides by the norm + 1e-6, and a
    non-finite norm spoils that gradient: here the one task's only.

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
    reached = [p for p in check_shared(shared) if task_grad_of(p) is not None]
    if not reached:
        raise ValueError(
            "Parameter `shared` should hold parameters with task gradients. Found none. Call `task_backward` before "
            "clipping."
        )
    rows = [p.task_grad.reshape(*p.task_grad.shape[: 2 if runs_of(p) else 1], -1) for p in reached]  # type: ignore[attr-defined]
    norms: Tensor = torch.stack([torch.linalg.vector_norm(row, dim=-1) for row in rows]).norm(dim=0)  # [T] or [T, R]
    factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for p in reached:
        p.task_grad.mul_(task_weight_view(factors, p.task_grad))  # type: ignore[attr-defined]
    return norms


@torch.no_grad()
def unscale_task_grad_(scaler: torch.amp.GradScaler, shared: Iterable[Tensor]) -> None:
    """Divides task gradients by the scale of a gradient scaler; call it before ``scaler.step(optimizer)`` of AdaTask.

    All losses are scaled alike, ``task_backward([scaler.scale(loss) for loss in losses], shared)``. An inf or NaN in
    any task makes the scaler skip the whole step: the scaler looks at ``p.grad`` only, which AdaTask ignores here, so
    this writes 0 or NaN there. With :func:`combine` it is not needed: ``p.grad`` is then scaled, as the scaler
    expects.

    Args:
        scaler: The gradient scaler, enabled or not.
        shared: The shared parameters, all of them among the optimizer's.

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
    for p in check_shared(shared):
        task_grad = task_grad_of(p)
        if task_grad is not None:
            task_grad.div_(scaler.scale(task_grad.new_ones(())))  # no host synchronisation, unlike `get_scale()`
            p.grad = (task_grad * 0).sum(0)  # 0 where every task is finite, else NaN
