r"""Task gradients: one gradient per task for shared parameters, the ordinary one for all others.

For losses :math:`L_1, \dots, L_T` and a shared parameter :math:`p`

.. math:: \text{p.task\_grad}[t] = \nabla_p L_t, \qquad \text{p.grad} = \sum_t w_t \nabla_p L_t ,

where :func:`task_backward` computes the first with T backward passes and :func:`combine` the second.
Everything is kept as attributes of the shared parameters:

- ``task_grad`` [T, \*p.shape]: unweighted task gradients,
- ``task_reached`` (T booleans; absent = all): the tasks whose loss depends on the parameter,
- ``task_weights`` [T] or [T, R] (absent = ones): the weights that made ``p.grad``,
- ``weighted_task_grad`` [T, \*p.shape] (mostly absent): the tasks' parts of ``p.grad`` where several weights were
  accumulated,
- ``task_runs`` (absent = one run): the number R of runs that the parameter [R, \*shape] stacks.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mtlcore._checks import Losses, Weights, check_losses, check_shared, check_task_grad, check_weights
from mtlcore._weighted_sums import weighted_sums

_ATTRIBUTES = ("task_grad", "task_reached", "task_weights", "weighted_task_grad", "task_runs", "task_grad_memory")


def task_grad_of(parameter: Tensor) -> Tensor | None:
    """Returns ``parameter.task_grad`` [T, *shape], or None where there is none."""
    return getattr(parameter, "task_grad", None)


def task_backward(losses: Losses, shared: Iterable[Tensor]) -> None:
    """Adds each task's gradient to ``p.task_grad`` of shared parameters, and their sum to ``p.grad`` of all others.

    One backward pass per task. A non-finite value in one task never enters another task's gradient, since no pass walks
    another task's graph. That holds for a **sequence** of losses only: the elements of a stacked tensor share one graph
    node, through which 0 * inf = NaN leaks. Like ``loss.backward()``, repeated calls accumulate.

    Args:
        losses: T scalars, or for R runs trained at once T tensors [R] with shared parameters [R, *shape]. A stacked
            tensor [T] (or [T, R]) is accepted, without the promise above.
        shared: The shared parameters. Frozen ones are passed over; a parameter named twice counts once.

    Raises:
        ValueError: If a loss is no scalar or does not require grad, or the number of tasks differs from an earlier
            call's.

    Example:
        >>> trunk, heads = torch.nn.Linear(2, 3), [torch.nn.Linear(3, 1) for _ in range(2)]
        >>> features = trunk(torch.ones(4, 2)).relu()
        >>> losses = [head(features).square().mean() for head in heads]
        >>> task_backward(losses, trunk.parameters())
        >>> trunk.weight.task_grad.shape, trunk.weight.grad, heads[0].weight.grad.shape
        (torch.Size([2, 3, 2]), None, torch.Size([1, 3]))
    """
    losses = check_losses(losses)
    trainable = [p for p in check_shared(shared) if p.requires_grad]
    num_tasks, num_runs = len(losses), losses[0].shape[0] if losses[0].ndim else None
    for p in trainable:
        check_task_grad(p, num_tasks, num_runs)

    earlier_grads = [p.grad for p in trainable]
    rows: list[Tensor | None] = [task_grad_of(p) for p in trainable]  # [T, *shape] each
    reached = [[False] * num_tasks for _ in trainable]
    try:
        for t, loss in enumerate(losses):
            for p in trainable:
                p.grad = None
            loss.sum().backward(retain_graph=t < num_tasks - 1)  # type: ignore[no-untyped-call]
            for i, p in enumerate(trainable):
                if p.grad is None:
                    continue
                row = p.grad.to_dense() if p.grad.is_sparse else p.grad
                reached[i][t] = True
                if task_grad_of(p) is not None:
                    p.task_grad[t] += row  # type: ignore[attr-defined]
                    continue
                if rows[i] is None:
                    rows[i] = empty_task_grad(p, num_tasks)
                rows[i][t].copy_(row)  # type: ignore[index]
    finally:
        for p, grad in zip(trainable, earlier_grads, strict=True):
            p.grad = grad
    for p, task_grad, flags in zip(trainable, rows, reached, strict=True):
        if task_grad is None or not any(flags):
            continue
        if task_grad_of(p) is None:
            for t, flag in enumerate(flags):
                if not flag:  # one row at a time: an index list would be copied to the device, which waits for it
                    task_grad[t].zero_()
        _attach(p, task_grad, flags, num_runs)


def _attach(p: Tensor, task_grad: Tensor, reached: Sequence[bool], num_runs: int | None) -> None:
    """Makes ``task_grad`` the parameter's own, and marks the tasks that reached it in this or an earlier call."""
    if task_grad_of(p) is not None:
        before = getattr(p, "task_reached", None) or (True,) * len(reached)
        reached = [a or b for a, b in zip(before, reached, strict=True)]
    p.task_grad = task_grad  # type: ignore[attr-defined]
    p.task_reached = None if all(reached) else tuple(reached)  # type: ignore[attr-defined]
    p.task_runs = num_runs  # type: ignore[attr-defined]


@torch.no_grad()
def add_task_grad(p: Tensor, task_grad: Tensor, reached: Sequence[bool], num_runs: int | None, weights: Tensor) -> None:
    """Adds ``task_grad`` [T, *shape] to ``p.task_grad`` and records the weights with which its sum joins ``p.grad``."""
    earlier = task_grad_of(p)
    if earlier is not None:
        p.weighted_task_grad = contributions(p) + weighted_rows(task_grad, weights)  # type: ignore[attr-defined]
    _attach(p, task_grad if earlier is None else earlier.add_(task_grad), reached, num_runs)
    p.task_weights = weights  # type: ignore[attr-defined]


@torch.no_grad()
def combine(shared: Iterable[Tensor], weights: Weights | None = None) -> None:
    r"""Sets :math:`\text{p.grad} = \sum_t w_t\, \text{p.task\_grad}[t]`, for any optimizer of ``torch.optim``.

    A task of weight 0 is left out altogether: not even a NaN of its gradient reaches ``p.grad``.

    Args:
        shared: The shared parameters; those without task gradients keep the ``p.grad`` they have.
        weights: T numbers, a tensor [T], or [T, R] for R runs. None stands for all ones.

    Raises:
        ValueError: If no parameter has task gradients, or the weights do not fit them.

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> task_backward([p.sum(), p.square().sum()], [p])
        >>> combine([p], weights=[0.5, 2.0])
        >>> p.grad
        tensor([4.5000, 8.5000])
    """
    reached = [p for p in check_shared(shared) if task_grad_of(p) is not None]
    if not reached:
        raise ValueError(
            "Parameter `shared` should hold parameters with task gradients. Found none. Call `task_backward` before "
            "`combine`."
        )
    if weights is not None:
        first = reached[0].task_grad  # type: ignore[attr-defined]
        for p in reached:
            check_weights(weights, p.task_grad)  # type: ignore[attr-defined]
        weights = torch.as_tensor(weights, dtype=first.dtype).to(first.device, non_blocking=True)
    sums = weighted_sums([p.task_grad for p in reached], weights)  # type: ignore[attr-defined]
    for p, total in zip(reached, sums, strict=True):
        p.grad = total
        p.task_weights, p.weighted_task_grad = weights, None  # type: ignore[attr-defined]


def weighted_rows(task_grad: Tensor, weights: Tensor) -> Tensor:
    """Returns w_t task_grad[t] for every task [T, *shape]; rows of weight 0 are 0."""
    view = task_weight_view(weights, task_grad)
    return task_grad.masked_fill(view == 0, 0) * view


def contributions(p: Tensor) -> Tensor:
    """Returns each task's part of ``p.grad`` [T, *shape], as `combine` and `HydaLearn.backward` recorded it."""
    recorded: Tensor | None = getattr(p, "weighted_task_grad", None)
    if recorded is not None:
        return recorded
    task_grad: Tensor = p.task_grad  # type: ignore[attr-defined]
    weights: Tensor | None = getattr(p, "task_weights", None)
    return task_grad if weights is None else weighted_rows(task_grad, weights)


def task_weight_view(weights: Tensor, task_grad: Tensor) -> Tensor:
    """Returns ``weights`` [T] or [T, R] as a view that broadcasts against ``task_grad`` [T, ...]."""
    weights = weights.to(dtype=task_grad.dtype, device=task_grad.device)
    return weights.reshape(weights.shape + (1,) * (task_grad.ndim - weights.ndim))


def zero_task_grad(shared: Iterable[Tensor], keep_memory: bool = False) -> None:
    """Forgets the task gradients of shared parameters; ``p.grad`` stays, for ``optimizer.zero_grad`` clears it.

    Args:
        shared: The shared parameters.
        keep_memory: Whether the next task gradients are written where these are, like ``set_to_none=False`` of torch's
            optimizers: a ``p.task_grad`` that you still hold then changes. On a CPU that saves time where T numbers per
            parameter fill more than 32 MB, which the system gives back and clears anew in every step. Default False.

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> for _ in range(2):  # two mini-batches
        ...     zero_task_grad([p])
        ...     task_backward([p.sum(), p.square().sum()], [p])
        >>> p.task_grad  # of the second alone
        tensor([[1., 1.],
                [2., 4.]])
    """
    for p in check_shared(shared):
        memory = task_grad_of(p) if keep_memory else None
        for name in _ATTRIBUTES:
            if hasattr(p, name):
                delattr(p, name)
        if memory is not None:
            p.task_grad_memory = memory  # type: ignore[attr-defined]


def empty_task_grad(p: Tensor, num_tasks: int) -> Tensor:
    """Returns memory for new task gradients of a parameter [T, *shape], that of `zero_task_grad` where it fits."""
    memory: Tensor | None = vars(p).pop("task_grad_memory", None)
    new = (num_tasks, *p.shape), p.dtype, p.device
    if memory is not None and (memory.shape, memory.dtype, memory.device) == new and memory.is_contiguous():
        return memory
    return p.new_empty((num_tasks, *p.shape))


def runs_of(p: Tensor) -> int | None:
    """Returns the number R of runs that a parameter stacks, None for one run."""
    return getattr(p, "task_runs", None)


def add_grad(p: Tensor, grad: Tensor) -> None:
    """Adds to ``p.grad``, which may be None."""
    p.grad = grad if p.grad is None else p.grad.add_(grad)
