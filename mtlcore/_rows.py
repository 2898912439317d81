"""Gradients of several parameters side by side, one row per task: what is done to all of them is one operation."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mtlcore._sharded import local, parts_of
from mtlcore._touched import is_rows, no_rows, per_task, product
from mtlcore._weighted_sums import plain_sum, weighted_rows, weighted_sums

# Numbers of a parameter below which starting an operation costs more than reading them (measured on a CPU).
_SMALL = 2**15


def runs_of(p: Tensor) -> int | None:
    """Returns the number R of runs that a parameter is declared to stack (``p.task_runs``), None for one run."""
    return getattr(p, "task_runs", None)


def dense_strides(p: Tensor) -> tuple[int, ...]:
    """Returns the strides of a gradient of ``p``: its own order in memory, without holes."""
    return p.stride() if p.is_contiguous() else torch.empty_like(p, device="meta").stride()


def flat(grad: Tensor, p: Tensor) -> Tensor:
    """Returns ``grad`` [*p.shape] as [p.numel()] in the memory order of ``p``; a view where it lies in that order."""
    if grad.is_contiguous() and p.is_contiguous():
        return grad.reshape(-1)
    strides = dense_strides(p)
    if grad.stride() != strides:
        grad = torch.empty_strided(p.shape, strides, dtype=grad.dtype, device=grad.device).copy_(grad)
    return grad.as_strided((grad.numel(),), (1,))


class Rows:
    """A table [T, n] of gradients, n the numbers of all its parameters, each in its parameter's memory order.

    The table of one parameter is written row by row; that of several small ones is put together at the end, at once.

    Of sharded parameters it holds this process's parts, as everything that is written to it.

    Args:
        params: Parameters of one dtype and device; several of them are contiguous.
        num_tasks: T.
        table: Memory to use, or None for new memory, taken once it is needed.

    Attributes:
        parts: This process's part of each parameter.
        reached: T flags of each parameter; rows of tasks that do not reach it are zero.
    """

    __slots__ = ("_num_tasks", "_table", "_waiting", "params", "parts", "reached")

    def __init__(self, params: Sequence[Tensor], num_tasks: int, table: Tensor | None = None) -> None:
        self.params, self._num_tasks, self._table = tuple(params), num_tasks, table
        self.parts = parts_of(self.params)
        self.reached = [[False] * num_tasks for _ in params]
        self._waiting: list[Sequence[Tensor | None]] = [(None,) * len(params)] * num_tasks

    @property
    def table(self) -> Tensor:
        """The gradients [T, n]; zeros where none was written."""
        if self._table is None:
            self._table = self._memory().zero_()
        return self._table

    def write(self, task: int, grads: Sequence[Tensor | None]) -> None:
        """Takes one task's gradients; None counts as zeros."""
        self._waiting[task] = grads
        for flags, grad in zip(self.reached, grads, strict=True):
            flags[task] = grad is not None
        if len(self.params) == 1 and grads[0] is not None and not grads[0].is_sparse:
            self._table = self._memory() if self._table is None else self._table
            self.split(self._table[task])[0].copy_(grads[0])
            self._waiting[task] = (self._table,)  # anything but None: the gradient itself should not live on

    def finish(self, keep: bool = False) -> "list[Rows | SparseRows]":
        """Returns the complete table, and beside it one of each parameter whose gradients hold touched rows only.

        Tasks that were not written, and parameters that they did not reach, are zeros.

        Args:
            keep: Whether the gradients of several parameters live on beside their table, for `row` to return: for a
                caller that does not change the table.
        """
        columns = list(zip(*self._waiting, strict=True))
        sparse = [i for i, c in enumerate(columns) if any(grad is not None and grad.is_sparse for grad in c)]
        if len(self.params) == 1:
            (p,), (column,) = self.params, columns
            if sparse and runs_of(p) is None and all(grad is None or is_rows(grad) for grad in column):
                return [SparseRows.of(p, column, self.reached)]
            for t, grad in enumerate(column if sparse or self._table is not None else ()):
                if grad is None or grad.is_sparse:
                    self.table[t].zero_()
                if grad is not None and grad.is_sparse:
                    self.split(self.table[t])[0].add_(grad)
        elif sparse:
            dense = [i for i in range(len(columns)) if i not in sparse]
            parts = [part for part in (dense, *([i] for i in sparse)) if part]
            tables = [Rows([self.params[i] for i in part], self._num_tasks) for part in parts]
            for t, grads in enumerate(self._waiting):
                for rows, part in zip(tables, parts, strict=True):
                    rows.write(t, [grads[i] for i in part])
            return [done for rows in tables for done in rows.finish(keep)]
        else:
            grads = [
                torch.zeros_like(p) if grad is None else grad
                for row in self._waiting
                for p, grad in zip(self.parts, row, strict=True)
            ]
            flat_grads: Tensor = torch._utils._flatten_dense_tensors(grads)  # type: ignore[no-untyped-call]
            self._table = flat_grads.view(self._num_tasks, -1)
            if keep:
                return [self]
        self._waiting = []
        return [self]

    def _memory(self) -> Tensor:
        return self.parts[0].new_empty((self._num_tasks, sum(p.numel() for p in self.parts)))

    def split(self, row: Tensor) -> Sequence[Tensor]:
        """Returns views [*p.shape] of a row [n], in the memory order of each parameter."""
        if len(self.params) == 1:
            (p,) = self.parts
            return [row.as_strided(p.shape, dense_strides(p), row.storage_offset())]
        views: Sequence[Tensor] = torch._utils._unflatten_dense_tensors(row, self.parts)  # type: ignore[no-untyped-call]
        return views

    def views(self) -> list[Tensor]:
        """Returns the gradients of each parameter as a view [T, *p.shape]."""
        num_tasks, size = self.table.shape
        views, offset = [], self.table.storage_offset()
        for p in self.parts:
            strides = p.stride() if len(self.params) > 1 else dense_strides(p)
            views.append(self.table.as_strided((num_tasks, *p.shape), (size, *strides), offset))
            offset += p.numel()
        return views

    def per_run(self) -> Tensor:
        """Returns the table as [T, R, n / R] where its one parameter stacks R runs, else as it is."""
        runs = runs_of(self.params[0])
        return self.table if runs is None else self.table.view(len(self.table), runs, -1)

    def row(self, task: int) -> Sequence[Tensor | None]:
        """Returns one task's gradient [*p.shape] of each parameter; None or zeros where the task does not reach it."""
        return self._waiting[task] if self._waiting else self.split(self.table[task])

    def totals(self, weights: Tensor | None, scale: Tensor | None = None) -> Sequence[Tensor]:
        """Returns sum_t w_t g[t] of each parameter, times ``scale``; weights [T], [T, R], or None for ones."""
        (sums,) = weighted_sums([self.per_run()], weights)
        return self.split((sums if scale is None else sums * scale).reshape(-1))

    def products(self, main: int | Mapping[Tensor, Tensor], rates: Sequence[float | Tensor]) -> Tensor:
        """Returns sum_p rate_p <main gradient, g[t]> of each task, [T] or [T, R].

        ``main`` is the main task's index, or the gradient of its loss on another batch for each parameter it reaches.
        """
        table = self.per_run()  # [T, n] or [T, R, n]
        if isinstance(main, int):
            row = table[main]
        else:
            pairs = zip(self.params, self.parts, strict=True)
            grads = [torch.zeros_like(part) if p not in main else main[p] for p, part in pairs]
            grads = [grad.to_dense() if grad.is_sparse else grad for grad in grads]
            row = torch.cat([flat(grad, p) for grad, p in zip(grads, self.parts, strict=True)]).view(table[0].shape)
        if all(rate is rates[0] for rate in rates):
            return (torch.mv(table, row) if table.ndim == 2 else torch.linalg.vecdot(table, row)) * rates[0]
        sizes = [p.numel() for p in self.parts]
        parts = zip(torch.split(table, sizes, 1), torch.split(row, sizes), rates, strict=True)
        return sum(torch.mv(part, r) * rate for part, r, rate in parts)  # type: ignore[return-value]


class SparseRows:
    """The gradients of one embedding table, as :class:`Rows` would hold them, but of touched rows only.

    They are one COO tensor [T, *p.shape], whose sparse dimensions are task and row. It is coalesced: each row that a
    task touched stands there once, task by task.
    """

    __slots__ = ("params", "reached", "table")

    def __init__(self, p: Tensor, table: Tensor, reached: Sequence[Sequence[bool]] = ()) -> None:
        self.params, self.table, self.reached = (p,), table.coalesce(), reached

    @classmethod
    def of(cls, p: Tensor, grads: Sequence[Tensor | None], reached: Sequence[Sequence[bool]]) -> "SparseRows":
        """Returns the table of T gradients, None where a task does not reach ``p``, with its one row of flags."""
        each = [no_rows(p) if grad is None else grad.coalesce() for grad in grads]
        return cls(p, torch.stack(each)._coalesced_(True), reached)  # task by task, so nothing is left to sort

    def views(self) -> list[Tensor]:
        """Returns the gradients [T, *p.shape]."""
        return [self.table]

    def row(self, task: int) -> Sequence[Tensor]:
        """Returns one task's gradient [*p.shape]."""
        return [per_task(self.table)[task]]

    def totals(self, weights: Tensor | None, scale: Tensor | None = None) -> Sequence[Tensor]:
        """Returns sum_t w_t g[t], times ``scale``: not coalesced, as a sum of losses leaves it."""
        total = plain_sum(self.table if weights is None else weighted_rows(self.table, weights))
        return [total if scale is None else total * scale]

    def products(self, main: int | Mapping[Tensor, Tensor], rates: Sequence[float | Tensor]) -> Tensor:
        """Returns rate * <main gradient, g[t]> of each task [T], as :meth:`Rows.products`."""
        grads = per_task(self.table)
        mine = grads[main] if isinstance(main, int) else main.get(self.params[0])
        if mine is None:
            return grads[0].new_zeros(len(grads))
        return torch.stack([product(mine, grad) for grad in grads]) * rates[0]


def grouped(params: Iterable[Tensor]) -> list[list[Tensor]]:
    """Puts small, contiguous parameters of one dtype and device together; every other one is alone."""
    together: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    alone = []
    for p in params:
        if local(p).numel() < _SMALL and p.is_contiguous() and runs_of(p) is None:
            together.setdefault((p.dtype, p.device), []).append(p)
        else:
            alone.append([p])
    return [*together.values(), *alone]
