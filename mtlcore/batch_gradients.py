"""The gradients of one mini-batch: one per task for shared parameters and heads, before they are weighted and added."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor, nn

from mtlcore._checks import Shared, check_runs, check_shared
from mtlcore._passes import Graph, backward_passes
from mtlcore._rows import Rows, SparseRows, grouped
from mtlcore._sharded import as_sharded, check_sharded, like, local
from mtlcore._task_record import begin, new_rows, task_grad_of
from mtlcore._touched import added, numbers, settled, with_numbers
from mtlcore._weighted_sums import scaled
from mtlcore.task_gradients import add_rows


@dataclass(frozen=True)
class Gradients:
    """The gradients of one mini-batch: of shared parameters in tables, of heads task by task."""

    tables: list[Rows | SparseRows]
    heads: dict[Tensor, list[Tensor | None]]  # T rows [*shape] each; None where a task does not reach the head
    graph: Graph  # of the losses
    scale: Tensor | None = None  # of a gradient scaler, which expects it in p.grad

    @classmethod
    def of(
        cls, losses: Sequence[Tensor | None], shared: Sequence[Tensor], model: nn.Module, scale: Tensor | None = None
    ) -> "Gradients":
        """Returns the gradients of T losses, each [], [R] or None, by one backward pass per loss.

        Heads are all other leaves of the losses' graph, whether they are parameters of the model or not. With a
        gradient scaler's ``scale``, the passes are of the losses times it, and the gradients are divided by it.

        Raises:
            ValueError: Before any pass, where the shared parameters hold gradients of other tasks or runs.
        """
        check_runs(losses, shared)
        begin(shared, len(losses), unscaled=scale is not None)
        graph, ours = Graph(losses), set(shared)
        leaves = graph.leaves
        check_sharded(leaves)
        if graph.hides_leaves():
            leaves = leaves + [p for p in as_sharded(model.parameters()) if p.requires_grad]
        heads: dict[Tensor, list[Tensor | None]] = {p: [None] * len(losses) for p in leaves if p not in ours}
        # A table's parameters all have earlier gradients to add to, or none of them has.
        more = [p for p in shared if task_grad_of(p) is not None]
        fresh = [p for p in shared if task_grad_of(p) is None] if more else shared
        tables = [new_rows(group, len(losses)) for group in [*grouped(fresh), *grouped(more)]]
        kept = [*(p for rows in tables for p in rows.params), *heads]

        def take(t: int, grads: Sequence[Tensor | None]) -> None:
            start = 0
            for rows in tables:
                rows.write(t, grads[start : start + len(rows.params)])
                start += len(rows.params)
            for row, grad in zip(heads.values(), grads[start:], strict=True):
                row[t] = None if grad is None else settled(grad)

        larger = losses if scale is None else [None if loss is None else loss * scale for loss in losses]
        backward_passes(larger, kept, take)
        gradients = cls([done for rows in tables for done in rows.finish(keep=scale is None)], heads, graph, scale)
        if scale is not None:
            for_all = [numbers(rows.table) for rows in gradients.reached_tables]
            for grads in heads.values():
                # Autograd may hand the same numbers to two embedding tables, so theirs are copied.
                grads[:] = [g if g is None or not g.is_sparse else with_numbers(g, g._values().clone()) for g in grads]
                for_all += [numbers(grad) for grad in grads if grad is not None]
            torch._foreach_div_(for_all, scale) if for_all else None
        return gradients

    @property
    def reached(self) -> dict[Tensor, Sequence[bool]]:
        """T flags of each shared parameter."""
        return {p: flags for rows in self.tables for p, flags in zip(rows.params, rows.reached, strict=True)}

    @cached_property
    def reached_tables(self) -> list[Rows | SparseRows]:
        """The tables of parameters that some task reaches."""
        return [rows for rows in self.tables if any(True in flags for flags in rows.reached)]

    @property
    def first(self) -> Tensor:
        """A shared parameter, which says how all are sharded."""
        return self.tables[0].params[0]

    @property
    def shared(self) -> dict[Tensor, Tensor]:
        """The task gradients [T, *shape] of each shared parameter."""
        return {p: view for rows in self.tables for p, view in zip(rows.params, rows.views(), strict=True)}

    @property
    def head_parameters(self) -> dict[Tensor, list[Tensor | None]]:
        """The heads without leaves that are inputs, such as coordinates whose gradient is a force."""
        return {p: rows for p, rows in self.heads.items() if isinstance(p, nn.Parameter)}

    def row(self, task: int, with_heads: bool) -> dict[Tensor, Tensor]:
        """Returns one task's gradient [*shape] of each parameter that it reaches."""
        grads: dict[Tensor, Tensor] = {}
        for rows in self.reached_tables:
            each = zip(rows.params, rows.row(task), rows.reached, strict=True)
            grads |= {p: grad for p, grad, flags in each if flags[task] and grad is not None}
        if with_heads:
            grads |= {p: row for p, rows in self.head_parameters.items() if (row := rows[task]) is not None}
        return grads

    @torch.no_grad()
    def add_to_parameters(self, weights: Tensor, scales_heads: bool, weighed_by: str = "combine") -> None:
        """Adds task gradients, and their sum with weights [T] or [T, R], to the parameters; heads get the sum alone."""
        for rows in self.tables:
            add_rows(rows, weights, weighed_by, self.scale)
        factors = (weights if scales_heads else torch.ones_like(weights)).unbind()
        for p, grads in self.heads.items():
            each = zip(grads, factors, strict=True)
            parts = [scaled(grad, factor) for grad, factor in each if grad is not None]
            if parts:
                total = reduce(added, parts)
                total = total if self.scale is None else total * self.scale
                p.grad = like(p, total if p.grad is None else added(local(p.grad), total))


def trainable(shared: Shared) -> list[Tensor]:
    """Returns the shared parameters, checked, that are trainable now; raises ValueError where there is none."""
    return unfrozen(check_shared(shared))


def unfrozen(shared: Sequence[Tensor]) -> list[Tensor]:
    """Returns those of checked shared parameters that are trainable now; raises ValueError where there is none."""
    trained = [p for p in shared if p.requires_grad]
    if not trained:
        raise ValueError("Parameter `shared` should hold a trainable parameter. Found only frozen ones. Unfreeze one.")
    return trained


def check_members(model: nn.Module, shared: Shared) -> None:
    """Raises ValueError where a shared parameter is not the model's."""
    members = set(as_sharded(model.parameters()))
    strangers = sum(p not in members for p in check_shared(shared))
    if strangers:
        raise ValueError(
            f"Parameter `shared` should hold parameters of the model. Found {strangers} that are not. Pass, for "
            "example, trunk.parameters()."
        )
