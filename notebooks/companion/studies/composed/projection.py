r"""Task gradients whose conflicts are removed, one per task, for an optimizer that keeps the tasks apart.

TorchJD's aggregators give one combined gradient; AdaTask needs its parts.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtlcore.task_gradients import runs_of


@torch.no_grad()
def project_conflicts(shared: Sequence[Any], generator: torch.Generator) -> Tensor:
    r"""Replace every task gradient by its projection onto the normal planes of the gradients that it conflicts with.

    PCGrad (Yu et al. 2020, `arXiv:2001.06782 <https://arxiv.org/abs/2001.06782>`_, Algorithm 1): beginning at
    :math:`\hat g_i = g_i`, for the other tasks j in random order

    .. math:: \hat g_i \leftarrow \hat g_i - \frac{\min(0, \langle \hat g_i, g_j \rangle)}{\|g_j\|^2}\, g_j .

    All shared parameters together are one vector. With two tasks there is no order, and
    :math:`\langle \hat g_i, g_j \rangle = \max(0, \langle g_i, g_j \rangle)`. :math:`\hat g_i` is proportional to
    the scale of task i's loss and does not depend on that of task j's.

    Args:
        shared: Parameters with ``task_grad`` of all tasks, `[T, *shape]` or `[T, R, *shape]` for R runs; each run is
            projected by itself.
        generator: Draws the orders, the same for all runs.

    Returns:
        Whether the gradients of any two tasks had an obtuse angle, `[R]` (`[1]` for one run).
    """
    lead = 2 if runs_of(shared[0]) else 1
    parts = [p.task_grad.flatten(lead) if lead == 2 else p.task_grad.flatten(1)[:, None] for p in shared]  # [T, R, n_p]
    grads = torch.cat(parts, dim=2)  # [T, R, n]
    norms = grads.square().sum(-1)  # [T, R]
    projected, found = grads.clone(), torch.zeros_like(norms[0], dtype=torch.bool)
    for i in range(len(grads)):
        for j in torch.randperm(len(grads), generator=generator).tolist():
            if j != i:
                conflict = (projected[i] * grads[j]).sum(-1).clamp(max=0)  # [R]
                found |= conflict < 0
                factor = torch.where(norms[j] > 0, conflict / norms[j], 0)
                projected[i] -= factor[:, None] * grads[j]
    for p, rows in zip(shared, torch.split(projected, [part.shape[2] for part in parts], dim=2), strict=True):
        p.task_grad = rows.reshape(p.task_grad.shape)
    return found
