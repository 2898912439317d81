"""The gradients of one mini-batch: one per task for shared parameters and heads, before they are weighted and added."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlcore._checks import check_shared, check_task_grad
from mtlcore._weighted_sums import weighted_sums
from mtlcore.task_gradients import add_grad, add_task_grad, empty_task_grad


@dataclass(frozen=True)
class Gradients:
    """The gradients of one mini-batch: of shared parameters stacked over tasks, of heads task by task."""

    shared: dict[Tensor, Tensor]  # [T, *shape] each; zero rows where a task does not reach the parameter
    reached: dict[Tensor, list[bool]]  # T flags each
    heads: dict[Tensor, list[Tensor | None]]  # T rows [*shape] each; None where a task does not reach the head

    @classmethod
    def of(cls, losses: list[Tensor], shared: Sequence[Tensor], heads: Sequence[Tensor]) -> "Gradients":
        """Returns the gradients of T losses, each [] or [R], by one backward pass per loss.

        Raises:
            ValueError: Before any pass, where the shared parameters hold gradients of other tasks or runs.
        """
        for p in shared:
            check_task_grad(p, len(losses), losses[0].shape[0] if losses[0].ndim else None)
        num_tasks, rows = len(losses), {p: empty_task_grad(p, len(losses)) for p in shared}
        reached: dict[Tensor, list[bool]] = {p: [] for p in shared}
        head_rows: dict[Tensor, list[Tensor | None]] = {p: [] for p in heads}
        for t, loss in enumerate(losses):
            retain = t < num_tasks - 1
            grads: tuple[Tensor | None, ...] = torch.autograd.grad(
                loss.sum(), [*shared, *heads], retain_graph=retain, allow_unused=True
            )
            for p, grad in zip(shared, grads, strict=False):
                reached[p].append(grad is not None)
                if grad is None:
                    rows[p][t].zero_()
                else:
                    rows[p][t].copy_(grad.to_dense() if grad.is_sparse else grad)
            for p, grad in zip(heads, grads[len(shared) :], strict=True):
                head_rows[p].append(grad.to_dense() if grad is not None and grad.is_sparse else grad)
            del grads, grad  # or this task's would still be there in the next one's pass
        return cls(rows, reached, head_rows)

    def row(self, task: int, with_heads: bool) -> dict[Tensor, Tensor]:
        """Returns one task's gradient [*shape] of each parameter that it reaches."""
        grads = {p: rows[task] for p, rows in self.shared.items() if self.reached[p][task]}
        if with_heads:
            grads |= {p: row for p, rows in self.heads.items() if (row := rows[task]) is not None}
        return grads

    def stacked(self, with_heads: bool) -> dict[Tensor, Tensor]:
        """Returns the gradients of all tasks [T, *shape], heads included where asked for."""
        if not with_heads:
            return self.shared
        filled = {p: [torch.zeros_like(p) if row is None else row for row in rows] for p, rows in self.heads.items()}
        return self.shared | {p: torch.stack(rows) for p, rows in filled.items()}

    @torch.no_grad()
    def add_to_parameters(self, weights: Tensor, scales_heads: bool) -> None:
        """Adds task gradients, and their sum with weights [T] or [T, R], to the parameters; heads get the sum alone."""
        num_runs = weights.shape[1] if weights.ndim == 2 else None
        shared = [p for p in self.shared if any(self.reached[p])]
        sums = weighted_sums([self.shared[p] for p in shared], weights)
        for p, total in zip(shared, sums, strict=True):
            add_task_grad(p, self.shared[p], self.reached[p], num_runs, weights)
            add_grad(p, total)
        head_weights = weights if scales_heads else torch.ones_like(weights)
        groups: dict[tuple[int, ...], list[Tensor]] = {}  # heads by the tasks that reach them
        for p, rows in self.heads.items():
            groups.setdefault(tuple(t for t, row in enumerate(rows) if row is not None), []).append(p)
        for tasks, heads in groups.items():
            if tasks:
                stacks = [torch.stack([row for row in self.heads[p] if row is not None]) for p in heads]
                sums = weighted_sums(stacks, torch.stack([head_weights[t] for t in tasks]))
                for p, total in zip(heads, sums, strict=True):
                    add_grad(p, total)


def split_parameters(model: nn.Module, shared: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the trainable shared parameters and all other trainable ones, the heads."""
    members = set(model.parameters())
    listed = dict.fromkeys(check_shared(shared))  # looked up by identity, in their order
    strangers = sum(p not in members for p in listed)
    if strangers:
        raise ValueError(
            f"Parameter `shared` should hold parameters of the model. Found {strangers} that are not. Pass, for "
            "example, trunk.parameters()."
        )
    trained = [p for p in listed if p.requires_grad]
    if not trained:
        raise ValueError("Parameter `shared` should hold a trainable parameter. Found only frozen ones. Unfreeze one.")
    return trained, [p for p in model.parameters() if p.requires_grad and p not in listed]
