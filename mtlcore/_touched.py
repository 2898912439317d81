"""Gradients that hold only the rows a batch touched, as embedding tables with ``sparse=True`` get them.

torch keeps such a gradient [N, *rest] as a COO tensor, K row indices beside numbers [K, *rest]. These functions do to
those K rows what is done to a dense gradient, so that nothing costs what the table costs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlcore._sharded import local


def is_rows(grad: Tensor) -> bool:
    """Says whether a gradient holds touched rows; torch's other sparse gradients are not of rows."""
    return grad.is_sparse and grad.sparse_dim() == 1


def settled(grad: Tensor) -> Tensor:
    """Returns a gradient as the functions below take it: dense, or of touched rows that stand there once each."""
    return grad if not grad.is_sparse else grad.coalesce() if is_rows(grad) else grad.to_dense()


def numbers(grad: Tensor) -> Tensor:
    """Returns the numbers that a gradient holds: itself, or of touched rows or this process's part only, as a view."""
    return grad._values() if grad.is_sparse else local(grad)


def with_numbers(like: Tensor, values: Tensor) -> Tensor:
    """Returns other numbers in the place of those of ``like``."""
    return coo(like._indices(), values, like.shape, like.is_coalesced()) if like.is_sparse else values


def coo(indices: Tensor, values: Tensor, shape: torch.Size, coalesced: bool = False) -> Tensor:
    """Returns a COO tensor of these very indices and numbers, unchecked."""
    is_coalesced = coalesced or None  # torch knows those that cannot be otherwise
    return torch.sparse_coo_tensor(indices, values, shape, is_coalesced=is_coalesced, check_invariants=False)


def no_rows(p: Tensor) -> Tensor:
    """Returns a gradient that touches no row of ``p``."""
    return coo(torch.empty((1, 0), dtype=torch.int64, device=p.device), p.new_empty((0, *p.shape[1:])), p.shape)


def at(p: Tensor, like: Tensor) -> Tensor:
    """Returns the numbers of ``p`` where ``like`` has some: all that are here, or a copy of the touched rows."""
    return p.index_select(0, like._indices()[0]) if like.is_sparse else local(p)


Moved = Sequence[tuple[Tensor, Tensor]]
"""Parameters, each with other numbers for it that are in this process; sparse where only touched rows move."""


def put(moved: Moved) -> None:
    """Gives parameters other numbers: another memory, or in its own touched rows of a table, or a part of a whole."""
    for p, value in moved:
        if value.is_sparse:
            p.data.index_copy_(0, value._indices()[0], value._values())
        elif local(p) is p:
            p.data = value
        else:  # torch gathers from this memory
            local(p).copy_(value)


def held(moved: Moved) -> Moved:
    """Returns what `put` would overwrite, to put it back."""
    before = []
    for p, value in moved:
        if value.is_sparse:
            before.append((p, with_numbers(value, at(p.data, value))))
        else:
            before.append((p, p.data if local(p) is p else local(p).clone()))
    return before


def added(a: Tensor, b: Tensor) -> Tensor:
    """Returns a + b, in the memory of ``a`` unless only that is sparse; coalesced if both are."""
    return b + a if a.is_sparse and not b.is_sparse else a.add_(b)


def aligned(grads: Sequence[Tensor]) -> Sequence[Tensor]:
    """Returns gradients of one parameter as dense tensors of one shape: whole, or the rows that any of them holds."""
    if not all(grad.is_sparse for grad in grads):
        return [grad.to_dense() if grad.is_sparse else grad for grad in grads]
    indices = [grad._indices()[0] for grad in grads]
    rows, places = torch.unique(torch.cat(indices), return_inverse=True)
    values = [grad._values() for grad in grads]
    each = zip(values, torch.split(places, [len(v) for v in values]), strict=True)
    return [v.new_zeros((len(rows), *v.shape[1:])).index_add_(0, place, v) for v, place in each]


def product(a: Tensor, b: Tensor, runs: Sequence[int] = ()) -> Tensor:
    """Returns the inner product of two gradients, [] or one per run [R]."""
    if a.is_sparse or b.is_sparse:
        return (a.coalesce() * b.coalesce() if a.is_sparse and b.is_sparse else a * b)._values().sum()
    result: Tensor = torch.linalg.vecdot(a.reshape(*runs, -1), b.reshape(*runs, -1))
    return result


def per_task(task_grad: Tensor) -> Sequence[Tensor]:
    """Returns the gradients [*shape] of each task in [T, *shape], as views."""
    if not task_grad.is_sparse:
        return task_grad.unbind()
    task_grad = task_grad.coalesce()  # so its entries lie task by task
    indices, values = task_grad._indices(), task_grad._values()
    sizes = torch.bincount(indices[0], minlength=len(task_grad)).tolist()
    parts = zip(torch.split(indices[1:], sizes, 1), torch.split(values, sizes), strict=True)
    return [coo(rows, part, task_grad.shape[1:], coalesced=True) for rows, part in parts]
