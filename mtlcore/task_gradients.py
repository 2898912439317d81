r"""Task gradients: one gradient per task for shared parameters, the ordinary one for all others.

For losses :math:`L_1, \dots, L_T` and a shared parameter :math:`p`

.. math:: \text{p.task\_grad}[t] = \nabla_p L_t, \qquad \text{p.grad} = \sum_t w_t \nabla_p L_t ,

where :func:`task_backward` computes both by T backward passes, with all weights 1, and :func:`combine` sets weights.
So after `task_backward` alone, ``p.grad`` is what ``sum(losses).backward()`` would leave, for whoever reads it: any
optimizer, a gradient scaler, a log of norms. **Task gradients live as long as the p.grad that they made**: each
ordinary way to clear gradients (``optimizer.zero_grad``, ``model.zero_grad``, ``p.grad = None``) clears them, without
it they accumulate as ``p.grad`` does, and where something else changed ``p.grad`` since, a function that would drop
that change raises an error (a change through ``p.grad.data`` leaves no trace and goes unnoticed).

Everything is kept as attributes of the shared parameters:

- ``task_grad`` [T, \*p.shape]: unweighted task gradients, each in the parameter's order in memory; those of an
  embedding table with ``sparse=True`` are one coalesced COO tensor of tasks and rows, and ``p.grad`` is sparse too,
- ``task_reached`` (T booleans; None = all): the tasks whose loss depends on the parameter,
- ``task_weights`` [T] or [T, R] (None = ones): the weights that made ``p.grad``.

To train R runs at once, stack their parameters to [R, \*shape] and declare that with ``p.task_runs = R``; losses are
then [R] each.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from mtlcore._checks import Losses, Shared, Weights, check_losses, check_runs, check_shared, check_weights
from mtlcore._eager import eager
from mtlcore._passes import backward_passes
from mtlcore._rows import Rows, SparseRows, flat, grouped, runs_of
from mtlcore._sharded import like, local
from mtlcore._task_record import (
    attach,
    begin,
    check_unchanged,
    contributions,
    find_scale,
    forget,
    new_rows,
    record_of,
    seal,
    seal_sum,
    task_grad_of,
)
from mtlcore._touched import added
from mtlcore._weighted_sums import task_weight_view, weighted_rows

__all__ = ["combine", "contributions", "runs_of", "task_backward", "task_grad_of", "task_weight_view", "zero_task_grad"]


@eager
def task_backward(losses: Losses, shared: Shared) -> None:
    r"""Adds each task's gradient to ``p.task_grad`` of shared parameters, and their sum to ``p.grad`` of all.

    One backward pass per task. A non-finite value in one task never enters another task's gradient, since no pass walks
    another task's graph. That holds for a **sequence** of losses only: the elements of a stacked tensor share one graph
    node, through which 0 * inf = NaN leaks. Like ``loss.backward()``, repeated calls accumulate.

    Args:
        losses: T scalars, or None for a task that this batch does not have; for R runs trained at once T tensors [R]
            with shared parameters [R, \*shape]. A stacked tensor [T] (or [T, R]) is accepted, without that promise.
        shared: The shared parameters, or a module that holds them. Frozen ones are passed over; a parameter named twice
            counts once.

    Raises:
        ValueError: Before any pass, if a loss is no scalar or does not require grad, the number of tasks differs from
            that of the gradients there are, or something else changed those.

    Example:
        >>> trunk, heads = torch.nn.Linear(2, 3), [torch.nn.Linear(3, 1) for _ in range(2)]
        >>> features = trunk(torch.ones(4, 2)).relu()
        >>> losses = [head(features).square().mean() for head in heads]
        >>> task_backward(losses, trunk.parameters())
        >>> trunk.weight.task_grad.shape, trunk.weight.grad.shape, heads[0].weight.grad.shape
        (torch.Size([2, 3, 2]), torch.Size([3, 2]), torch.Size([1, 3]))
    """
    losses = check_losses(losses)
    trainable = [p for p in check_shared(shared) if p.requires_grad]
    check_runs(losses, trainable)
    begin(trainable, len(losses))
    earlier = [(p, task_grad_of(p)) for p in trainable]
    fresh = [p for p, task_grad in earlier if task_grad is None]
    more = [p for p, task_grad in earlier if task_grad is not None and not task_grad.is_sparse]
    sparse = [[p] for p, task_grad in earlier if task_grad is not None and task_grad.is_sparse]
    tables = [new_rows(group, len(losses)) for group in (*grouped(fresh), *sparse)]
    kept = [*more, *(p for rows in tables for p in rows.params)]
    reached = [[False] * len(losses) for _ in more]
    parts = {i: contributions(p).clone() for i, p in enumerate(more) if getattr(p, "task_weights", None) is not None}

    def take(t: int, grads: Sequence[Tensor | None]) -> None:
        for i, grad in enumerate(grads[: len(more)]):  # added in place: a second table would take as much memory again
            if grad is not None:
                reached[i][t] = True
                local(more[i].task_grad)[t] += grad  # type: ignore[attr-defined]
                if i in parts:
                    parts[i][t] += grad
        start = len(more)
        for rows in tables:
            rows.write(t, grads[start : start + len(rows.params)])
            start += len(rows.params)

    backward_passes(losses, kept, take)
    with torch.no_grad():
        for i, p in enumerate(more):
            if any(reached[i]):
                mark_reached(p, reached[i])
                seal_sum(p, **({"parts": parts[i]} if i in parts else {}))
        for rows in tables:
            for table in rows.finish():
                add_rows(table)


@torch.no_grad()
def add_rows(
    rows: Rows | SparseRows,
    weights: Tensor | None = None,
    weighed_by: str = "",
    scale: Tensor | None = None,
) -> None:
    """Adds a table to its parameters, all of which have earlier task gradients, or none of which has.

    One that no task reached is passed over; ``p.grad`` gets the sum with weights [T] or [T, R] (None =
    ones) that somebody gave, times a gradient scaler's scale.
    """
    if not any(True in flags for flags in rows.reached):
        return
    if task_grad_of(rows.params[0]) is None:
        totals = rows.totals(weights, scale)
        attach(rows, totals, weighed_by=weighed_by, unscaled=scale is not None, scale=scale)
    else:
        for p, view, flags in zip(rows.params, rows.views(), rows.reached, strict=True):
            if True in flags:
                changes: dict[str, Any] = {"weighed_by": weighed_by} if weighed_by else {}
                if contributions(p) is not local(task_grad_of(p)) or weights is not None:
                    part = view if weights is None else weighted_rows(view, weights)
                    changes["parts"] = added(contributions(p).clone(), part)
                p.task_grad = like(p, added(local(p.task_grad), view))  # type: ignore[attr-defined]
                mark_reached(p, flags)
                seal_sum(p, **changes)
    for p, flags in zip(rows.params, rows.reached, strict=True) if weights is not None else ():
        if True in flags:
            p.task_weights = weights  # type: ignore[attr-defined]


def mark_reached(p: Tensor, reached: Sequence[bool]) -> None:
    """Adds the tasks that reached a parameter to those that reached it before."""
    before = getattr(p, "task_reached", None) or (True,) * len(reached)
    flags = tuple(a or b for a, b in zip(before, reached, strict=True))
    p.task_reached = None if all(flags) else flags  # type: ignore[attr-defined]


@eager
@torch.no_grad()
def combine(shared: Shared, weights: Weights | None = None) -> None:
    r"""Sets :math:`\text{p.grad} = \sum_t w_t\, \text{p.task\_grad}[t]`, for any optimizer of ``torch.optim``.

    What ``p.grad`` held before the task gradients came stays in the sum. A task of weight 0 is left out altogether: not
    even a NaN of its gradient reaches ``p.grad``. Clip ``p.grad``, or add a regulariser's gradient to it, afterwards.

    Args:
        shared: The shared parameters, or a module that holds them; those without task gradients keep their ``p.grad``.
        weights: T numbers, a tensor [T], or [T, R] for R runs. None stands for all ones.

    Raises:
        ValueError: Before anything changes, if no parameter has task gradients, the weights do not fit them, something
            else changed ``p.grad`` since, or HydaLearn has set weights and none are given here.

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> task_backward([p.sum(), p.square().sum()], [p])
        >>> combine([p], weights=[0.5, 2.0])
        >>> p.grad
        tensor([4.5000, 8.5000])
    """
    params = check_shared(shared)
    check_unchanged(params, "`combine`", "Call `combine` first, and change `p.grad` afterwards.")
    reached = [p for p in params if task_grad_of(p) is not None]
    if not reached:
        raise ValueError(
            "Parameter `shared` should hold parameters with task gradients. Found none. Call `task_backward` before "
            "`combine`."
        )
    for p in reached:
        record = record_of(p)
        if weights is not None:
            check_weights(weights, p.task_grad)  # type: ignore[attr-defined]
        elif record is not None and record.weighed_by == "HydaLearn":
            raise ValueError(
                "Parameter `weights` should be given after `HydaLearn.backward`, which has combined the gradients with "
                "its own. Found None. Leave `combine` out."
            )
        find_scale(p)
    if weights is not None:
        finest = reduce(torch.promote_types, (p.dtype for p in reached))
        weights = torch.as_tensor(weights, dtype=finest).to(reached[0].device, non_blocking=True)
    set_weights(reached, weights, "combine")


def set_weights(params: Sequence[Tensor], weights: Tensor | None, weighed_by: str) -> None:
    """Sets ``p.grad`` of parameters with task gradients to their weighted sum, beside what it held of no task."""
    for p, total in weighted_totals(params, weights):
        if record_of(p) is None:  # task gradients that were put there by hand
            p.grad = like(p, total)
        else:
            seal(p, total, parts=None, weighed_by=weighed_by)
        p.task_weights = weights  # type: ignore[attr-defined]


def weighted_totals(params: Sequence[Tensor], weights: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Returns sum_t w_t p.task_grad[t] of each parameter, those of one whole table in one operation."""
    pairs = []
    left = dict.fromkeys(params)
    for p in params:
        if p not in left:
            continue
        record = record_of(p)
        rows = record.rows if record is not None else None
        if rows is None or not all(other in left and _lies_in(other, rows) for other in rows.params):
            task_grad = local(p.task_grad)  # type: ignore[attr-defined]
            if task_grad.is_sparse:
                rows = SparseRows(p, task_grad)
            else:
                rows = Rows([p], len(task_grad), torch.stack([flat(row, p) for row in task_grad]))
        for member, view in zip(rows.params, rows.totals(weights), strict=True):
            pairs.append((member, view.data))
            del left[member]
    return pairs


def _lies_in(p: Tensor, rows: Rows | SparseRows) -> bool:
    """Says whether ``p.task_grad`` is still the table's, and not one that was put in its place by hand."""
    record, task_grad = record_of(p), task_grad_of(p)
    return record is not None and record.rows is rows and task_grad is record.task_grad


@eager
def zero_task_grad(shared: Shared, keep_memory: bool = False) -> None:
    """Forgets the task gradients of shared parameters; ``p.grad`` stays, and counts as a gradient of no task then.

    Nobody needs it: ``optimizer.zero_grad()`` or ``model.zero_grad()`` clears task gradients with ``p.grad``.

    Args:
        shared: The shared parameters, or a module that holds them.
        keep_memory: Whether the next task gradients are written where these are, like ``set_to_none=False`` of torch's
            optimizers: a ``p.task_grad`` that you still hold then changes. On a CPU that saves time where T numbers per
            parameter fill more than 32 MB, which the system gives back and clears anew in every step. Default False.

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> task_backward([p.sum(), p.square().sum()], [p])
        >>> zero_task_grad([p])
        >>> hasattr(p, "task_grad"), p.grad
        (False, tensor([3., 5.]))
    """
    for p in check_shared(shared):
        forget(p, keep_memory)
