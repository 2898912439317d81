"""What a shared parameter keeps beside its task gradients: where ``p.grad`` came from, and whether it is still that.

The gradients of tasks live exactly as long as the ``p.grad`` that was made of them. So each ordinary way to clear
gradients clears them too, and whatever else was done to ``p.grad`` since is noticed: by its identity and its version
counter, which torch raises with every change in place. Neither is a number on the device, so nothing waits for it.
Of sharded gradients torch's ``foreach`` functions, such as those that clip, raise none: there the norm tells.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtlcore._rows import Rows, SparseRows
from mtlcore._sharded import like, local, none_sharded, over_parts
from mtlcore._touched import added, aligned, numbers, with_numbers
from mtlcore._weighted_sums import plain_sum, weighted_rows

_ATTRIBUTES = ("task_grad", "task_reached", "task_weights", "task_record", "task_grad_memory")


@dataclass(slots=True)
class TaskRecord:
    """How ``p.grad`` of one parameter was made; the invariant is p.grad = others + sum_t (part of task t)."""

    grad: Tensor  # p.grad as it was left
    version: int  # its version counter then
    others: Tensor | None = None  # what p.grad held before, of no task
    parts: Tensor | None = None  # [T, *shape], where several weights were accumulated; else task_weights says it
    weighed_by: str = ""  # "combine", "HydaLearn": who gave weights
    unscaled: bool = False  # whether the task gradients were divided by a gradient scaler's scale
    scale: Tensor | None = None  # that scale, where p.grad still has it: p.grad = others + scale * sum_t part_t
    rows: Rows | SparseRows | None = None  # the table that holds p.task_grad beside those of other parameters
    task_grad: Tensor | None = None  # p.task_grad as that table's view
    norm: Tensor | None = None  # of this process's part of p.grad, where p is sharded


def record_of(p: Tensor) -> TaskRecord | None:
    """Returns the parameter's record; None where its task gradients were put there by hand, or there are none."""
    record: TaskRecord | None = vars(p).get("task_record")
    return record


def task_grad_of(p: Tensor) -> Tensor | None:
    """Returns ``p.task_grad`` [T, *shape]; None where there is none, or ``p.grad`` was cleared since."""
    task_grad: Tensor | None = vars(p).get("task_grad")
    return None if task_grad is None or (p.grad is None and record_of(p) is not None) else task_grad


def seal(p: Tensor, total: Tensor, **changes: Any) -> None:
    """Sets ``p.grad`` to the sum of the tasks' parts, scaled and beside what it held of no task, as the record says.

    Args:
        p: A parameter with a record.
        total: That sum, of a sharded parameter this process's part; its memory may become that of ``p.grad``.
        changes: To the record, made first.
    """
    record = record_of(p)
    assert record is not None
    for name, value in changes.items():
        setattr(record, name, value)
    total = total if record.scale is None else total * record.scale
    grad = like(p, total if record.others is None else added(total, record.others))
    p.grad, record.grad, record.version, record.norm = grad, grad, grad._version, norm_of(grad)


def seal_sum(p: Tensor, **changes: Any) -> None:
    """Sets ``p.grad`` by `seal` to the sum of the tasks' parts, those of the record if ``changes`` have none."""
    parts = changes["parts"] if "parts" in changes else contributions(p)  # summed in the parameter's order in memory
    total = plain_sum(parts) if parts.is_sparse else torch.sum(parts, 0, out=torch.empty_like(local(p)))
    seal(p, total, **changes)


def check_unchanged(params: Iterable[Tensor], before: str, remedy: str) -> None:
    """Raises ValueError where ``p.grad`` is no longer what the task gradients made it, unless it was cleared.

    Only where the version counter moved, numbers are read: zeros were a clearing, after which the task gradients are
    forgotten, and the old numbers were a measurement, such as `clip_grad_norm_` with a norm that nothing exceeds.

    Args:
        params: Parameters.
        before: The call that needs them, for the message.
        remedy: What to do instead, for the message.
    """
    held = [(p, grad, record) for p in params if (record := record_of(p)) is not None and (grad := p.grad) is not None]
    watched = [(p, record) for p, grad, record in held if record.norm is not None and grad is record.grad]
    uncounted = _changed_uncounted(watched) if watched else ()
    for p, grad, record in held:
        if grad is record.grad and grad._version == record.version and (not uncounted or p not in uncounted):
            continue
        if not holds_something(p.grad):
            forget(p, keep_memory=True)  # cleared without `set_to_none`
        elif p.grad is record.grad and _is_sum(p, record.scale):
            record.version, record.norm = p.grad._version, norm_of(p.grad)
        else:
            raise ValueError(
                f"A shared parameter's `p.grad` should be as the task gradients made it before {before}. Found one of "
                f"shape {tuple(p.shape)} that was changed since, by clipping or another backward pass. {remedy}"
            )


_late: list[Tensor] = []  # what the last look at another device found


@torch.no_grad()
def _changed_uncounted(watched: Sequence[tuple[Tensor, TaskRecord]]) -> set[Tensor]:
    """Returns those parameters, the same on all processes, whose sharded ``p.grad`` has another norm on some process.

    Elsewhere than on the host the answer comes with the next call, as an error, so that nothing waits.
    """
    now = torch.stack([norm_of(record.grad) for _, record in watched])  # type: ignore[misc]
    then = torch.stack([record.norm for _, record in watched])  # type: ignore[misc]
    unscaled = torch.stack([n if r.scale is None else n / r.scale for n, (_, r) in zip(then, watched, strict=True)])
    near = [torch.isclose(now, norms, rtol=1e-6, atol=0, equal_nan=True) for norms in (then, unscaled)]
    flags = over_parts((~(near[0] | near[1])).float(), watched[0][0]) > 0
    if flags.device.type == "cpu":
        return {p for (p, _), flag in zip(watched, flags.tolist(), strict=True) if flag}
    _late.append(flags.any().to("cpu", non_blocking=True))
    if len(_late) > 1 and bool(_late.pop(0)):
        raise ValueError(
            "A shared parameter's `p.grad` should be as the task gradients made it. Found one that was changed in the "
            "step before, by clipping, another backward pass, or zeros in its place. Use `clip_task_grad_norm_`, and "
            "clear gradients with set_to_none=True."
        )
    return set()


def norm_of(grad: Tensor) -> Tensor | None:
    """Returns the norm of this process's part of a sharded gradient; None of any other gradient."""
    if local(grad) is grad:
        return None
    norm: Tensor = torch.linalg.vector_norm(local(grad), dtype=torch.promote_types(grad.dtype, torch.float32))
    return norm


@torch.no_grad()
def _is_sum(p: Tensor, scale: Tensor | None) -> bool:
    """Says whether p.grad = others + scale * sum of the tasks' parts, to rounding."""
    record, parts = record_of(p), contributions(p)
    assert record is not None
    assert p.grad is not None
    factor = 1 if scale is None else scale
    total, size = plain_sum(parts) * factor, plain_sum(_absolute(parts)) * factor
    if record.others is not None:
        total, size = added(total, record.others), added(size, _absolute(record.others))
    grad, total, size = aligned([local(p.grad), total, size])
    near = (grad - total).abs() <= size * (4 * len(parts) * torch.finfo(p.dtype).eps)
    wrong = ~(near | (total.isfinite() == 0))
    return not over_parts(wrong.sum(), p)


def _absolute(grad: Tensor) -> Tensor:
    return with_numbers(grad, numbers(grad).abs())


def find_scale(p: Tensor) -> None:
    """Finds out whether a gradient scaler has divided ``p.grad`` since the task gradients were divided.

    The scaler leaves no trace but the numbers, so these are read; only parameters with unscaled task gradients are.

    Raises:
        ValueError: If ``p.grad`` is neither.
    """
    record = record_of(p)
    if record is None or record.scale is None or not holds_something(p.grad) or _is_sum(p, record.scale):
        return
    if not _is_sum(p, None):
        raise ValueError(
            "A shared parameter's `p.grad` should be the sum of its task gradients, times a gradient scaler's scale or "
            f"not. Found another one, of shape {tuple(p.shape)}. Clip with `clip_task_grad_norm_` only."
        )
    record.scale = None


def contributions(p: Tensor) -> Tensor:
    """Returns each task's part of ``p.grad`` [T, *shape], as `combine` and `HydaLearn.backward` recorded it.

    Of a sharded parameter it returns what belongs to this process's part.
    """
    record = record_of(p)
    if record is not None and record.parts is not None:
        return record.parts
    task_grad = local(p.task_grad)  # type: ignore[attr-defined]
    weights: Tensor | None = getattr(p, "task_weights", None)
    return task_grad if weights is None else weighted_rows(task_grad, weights)


def holds_something(grad: Tensor | None) -> bool:
    """Says whether there is a gradient and not all of it is zero; waits for the device only where there is one."""
    return grad is not None and not grad.is_meta and bool(over_parts(numbers(grad).any().float(), grad))


def forget(p: Any, keep_memory: bool = False) -> None:
    """Drops the task gradients of a parameter and all that belongs to them; ``p.grad`` stays."""
    attributes = vars(p)
    if not attributes:  # as most parameters are, where nobody keeps their gradients apart
        return
    record = attributes.get("task_record")
    rows = record.rows if record is not None and keep_memory else None
    for name in _ATTRIBUTES:
        attributes.pop(name, None)
    if isinstance(rows, Rows):
        p.task_grad_memory = rows


def new_rows(params: list[Tensor], num_tasks: int) -> Rows:
    """Returns a table for new task gradients, in the memory that `forget` kept where it fits."""
    if "task_grad_memory" not in vars(params[0]):
        return Rows(params, num_tasks)
    kept = [vars(p).pop("task_grad_memory", None) for p in params]
    memory = kept[0]
    fits = (
        memory is not None
        and all(other is memory for other in kept)
        and memory.table.shape[0] == num_tasks
        and len(memory.params) == len(params)
        and all(a is b for a, b in zip(memory.params, params, strict=True))
        and (memory.table.dtype, memory.table.device) == (params[0].dtype, params[0].device)
    )
    return Rows(params, num_tasks, memory.table if fits else None)


def begin(params: Sequence[Tensor], num_tasks: int, unscaled: bool = False) -> None:
    """Makes parameters ready for more task gradients: forgets what was cleared, refuses what does not fit.

    Args:
        params: The shared parameters.
        num_tasks: T.
        unscaled: Whether the new task gradients are divided by a gradient scaler's scale already.

    Raises:
        ValueError: Before anything changes.
    """
    for p in params:
        record = record_of(p)
        if record is not None and p.grad is not record.grad:  # taken away, and perhaps made anew by another pass
            forget(p)
    params = [p for p in params if vars(p)]  # only these may hold something
    check_unchanged(
        params,
        "more task gradients are added",
        "Clear gradients after each step, with set_to_none=True where another backward pass comes first; clip, or add "
        "other gradients, after the last micro-batch.",
    )
    for p in params:
        record, task_grad = record_of(p), vars(p).get("task_grad")
        if task_grad is not None and task_grad.shape != (num_tasks, *p.shape):
            raise ValueError(
                f"Parameter `losses` should hold as many tasks as the gradients it is added to. Found {num_tasks} "
                f"losses and a `task_grad` of shape {tuple(task_grad.shape)} on a parameter {tuple(p.shape)}. Clear "
                "the gradients first, for example with optimizer.zero_grad()."
            )
        if record is not None and record.unscaled is not unscaled:
            raise ValueError(
                "Task gradients should all have a gradient scaler's scale, or none. Found both in one step. Pass the "
                "scaler to each `HydaLearn.backward`, and call `unscale_task_grad_` after the last micro-batch."
            )


@torch.no_grad()
def attach(rows: Rows | SparseRows, totals: Sequence[Tensor], **changes: Any) -> None:
    """Gives the parameters of a new table their task gradients, and ``p.grad`` their sum beside what it held before.

    Args:
        rows: The table; a parameter that no task reached gets nothing.
        totals: The sum for each parameter.
        changes: To the record.
    """
    whole = none_sharded(rows.params)
    for p, view, total, flags in zip(rows.params, rows.views(), totals, rows.reached, strict=True):
        if True in flags:
            others, grad, task_grad, norm = p.grad, total.data, view, None  # `data`: a version counter of its own
            if others is not None:
                others = local(others)
                grad = added(grad, others)
            if not whole:
                grad, task_grad = like(p, grad), like(p, view)
                norm = norm_of(grad)
            p.grad, attributes = grad, vars(p)
            attributes["task_grad"], attributes["task_weights"] = task_grad, None
            attributes["task_reached"] = tuple(flags) if False in flags else None
            attributes["task_record"] = TaskRecord(
                grad, grad._version, others, rows=rows, task_grad=task_grad, norm=norm, **changes
            )
