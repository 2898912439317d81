"""What the AdaTask optimizers refuse, in one sentence each, before anything changes."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from mtlcore._sharded import like, local
from mtlcore._task_record import TaskRecord, check_unchanged, holds_something, record_of, task_grad_of

Group = dict[str, Any]
State = Mapping[Tensor, dict[str, Tensor]]

_NON_NEGATIVE = ("lr", "eps", "weight_decay", "alpha", "momentum", "lr_decay", "initial_accumulator_value")


@cache
def _has_kernel(fused_op: str, device_type: str) -> bool:
    """Asks torch's dispatcher whether the fused operator is implemented for a kind of device."""
    if device_type == "meta":  # "implemented" there by an operator that does nothing at all
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(fused_op, torch._C._dispatch_key_for_device(device_type))


def fit_fused(params: Iterable[Tensor], fused_op: str | None) -> bool:
    """Whether torch's fused kernel can update these: it walks the memory of a tensor, which therefore has no holes."""
    return (
        fused_op is not None
        and all(
            d.is_floating_point and _has_kernel(fused_op, on.type) for d, on in {(p.dtype, p.device) for p in params}
        )
        and all(p.is_contiguous() or p.stride() == torch.empty_like(p).stride() for p in params)
    )


def needs_float_lr(group: Group) -> bool:
    """Whether torch's foreach function refuses the learning rate: Adam's, a tensor in a step that is not capturable."""
    return "betas" in group and isinstance(group["lr"], Tensor) and not group["capturable"]


def check_distinct(params: Sequence[Any], groups: Iterable[Group]) -> None:
    """Raises ValueError where a new group names a parameter twice, or one of an earlier group."""
    known = {p for group in groups for p in group["params"]}
    if len(set(params)) < len(params) or not known.isdisjoint(params):
        raise ValueError(
            "Parameter `params` should name each parameter once, over all groups. Found one of them twice. "
            "Take it out of one of its groups."
        )


def check_group(group: Group, fused_op: str | None, layout: torch.layout) -> None:
    """Raises ValueError unless the hyper-parameters and parameters of a new group can be used."""
    num_tasks = group["num_tasks"]
    if not isinstance(num_tasks, int) or isinstance(num_tasks, bool) or num_tasks < 1:
        raise ValueError(
            "Parameter `num_tasks` should be a positive integer. "
            f"Found `num_tasks = {num_tasks!r}`. Pass the number of losses."
        )
    if isinstance(group["lr"], Tensor) and group["lr"].ndim != 0:
        raise ValueError(
            f"Parameter `lr` should be one number. Found `lr` of shape {tuple(group['lr'].shape)}. "
            "Pass a float or lr.squeeze(), and `task_weights` [T, R] for one step size per run."
        )
    for name in _NON_NEGATIVE:
        if name in group and not group[name] >= 0:
            raise ValueError(
                f"Parameter `{name}` should be non-negative. Found `{name} = {group[name]}`. Pass {name} >= 0"
                + (", for example 1e-3." if name == "lr" else ".")
            )
    if layout is torch.sparse_coo and group["eps"] == 0:
        raise ValueError(
            "Parameter `eps` should be positive, for a touched row may have a gradient of zero. Found `eps = 0`. Pass, "
            "for example, 1e-8."
        )
    betas = group.get("betas", (0.0, 0.0))
    if len(betas) != 2 or not all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in betas):
        raise ValueError(
            "Parameter `betas` should be two floats in [0, 1). "
            f"Found `betas = {betas}`. Pass, for example, (0.9, 0.999)."
        )
    for p in group["params"]:
        if p.is_complex() or p.layout is not torch.strided:
            raise ValueError(
                f"Parameter `params` should hold real, dense parameters. Found one of {p.dtype} and {p.layout}. "
                "Give it to another optimizer, or its real, dense form to this one."
            )
    check_kernel(group, fused_op)
    check_task_weights(group)


def check_kernel(group: Group, fused_op: str | None) -> None:
    """Raises ValueError where the flags ``foreach`` and ``fused`` ask for what there is not."""
    if group.get("fused") and group.get("foreach"):
        raise ValueError(
            "Parameters `fused` and `foreach` should not both be True. "
            "Found `fused = True` and `foreach = True`. Pass one of them."
        )
    unfit = [p for p in group["params"] if group.get("fused") and not fit_fused([p], fused_op)]
    if unfit:
        raise ValueError(
            "Parameter `fused` should be True only where torch has such a kernel of this optimizer, for dense "
            f"floating-point parameters. Found one of {unfit[0].dtype} with strides {unfit[0].stride()} on "
            f"{unfit[0].device.type}. Pass fused=None."
        )
    if group.get("foreach") and needs_float_lr(group):
        raise ValueError(
            "Parameter `lr` should be a float with foreach=True and capturable=False. "
            "Found a tensor. Pass foreach=None."
        )


def check_task_weights(group: Group) -> None:
    """Raises ValueError unless the weights are None, T non-negative numbers, or a tensor [T] or [T, R], left unread."""
    weights, num_tasks = group["task_weights"], group["num_tasks"]
    if weights is None:
        return
    if isinstance(weights, str):
        fits, found = weights in ("gradients", "updates"), f"`task_weights = {weights!r}`"
    elif isinstance(weights, Tensor):
        fits = weights.ndim in (1, 2) and weights.shape[0] == num_tasks and not weights.is_complex()
        found = f"a tensor of shape {tuple(weights.shape)}"
    else:
        fits = isinstance(weights, Sequence) and len(weights) == num_tasks
        fits = fits and all(isinstance(w, (int, float)) and isfinite(w) and w >= 0 for w in weights)
        found = f"`task_weights = {weights!r}`"
    if not fits:
        raise ValueError(
            f"Parameter `task_weights` should hold {num_tasks} finite, non-negative numbers, be a tensor [T], or "
            f'[T, R] for R runs, or say where HydaLearn\'s weights count, "gradients" or "updates". Found {found}. '
            "Pass one weight per task, or None for ones."
        )


def check_step(
    group: Group, state: State, fused_op: str | None, scaler: str | None, layout: torch.layout
) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the parameters with task gradients and those with ordinary ones.

    Args:
        group: The group.
        state: The optimizer's.
        fused_op: The operator of torch's fused kernel.
        scaler: None, or what a gradient scaler that takes the step says of the gradients, "scaled" or "unscaled".
        layout: Of the gradients that the optimizer is for.

    Raises:
        ValueError: Where a step of the group could not be taken as a whole, or would drop what a user did.
    """
    check_kernel(group, fused_op)
    check_task_weights(group)
    per_task: list[Tensor] = []
    ordinary: list[Tensor] = []
    no_shape, by_task = torch.Size(()), torch.Size((group["num_tasks"],))
    for p in group["params"]:
        task_grad = task_grad_of(p)
        if task_grad is None:
            grad, step_shape, members = p.grad, no_shape, ordinary
        else:
            grad, step_shape, members = task_grad, by_task, per_task
            record = record_of(p)
            if record is not None:
                _check_record(p, record, group, scaler)
        if grad is None:
            continue
        known = state.get(p)
        found = None if known is None else known.get("step")
        fits = found is None or found.shape == step_shape
        if not fits and not holds_something(grad):
            continue  # cleared without `set_to_none`
        members.append(p)
        if grad.layout is not layout or grad.is_complex():
            dense = layout is torch.strided
            raise ValueError(
                f"A gradient should be real and {'dense' if dense else 'sparse'}. Found one of {grad.dtype} and "
                f"{grad.layout}. Give the parameter to {'AdaTaskSparseAdam' if dense else 'AdaTaskAdam'}, or pass "
                f"sparse={not dense} to its nn.Embedding."
            )
        if task_grad is not None:
            _check_task_grad(p, task_grad, group)
        if found is not None and not fits:
            raise ValueError(
                "A parameter should keep the number of tasks, or the one ordinary gradient, that its state began with. "
                f"Found a state for `step` of shape {tuple(found.shape)} where {tuple(step_shape)} is needed, on a "
                f"parameter of shape {tuple(p.shape)}. Change between `p.task_grad` and `p.grad` with a new optimizer."
            )
    return per_task, ordinary


def _check_task_grad(p: Tensor, task_grad: Tensor, group: Group) -> None:
    num_tasks, weights = group["num_tasks"], group["task_weights"]
    part = local(p)
    fits = task_grad.shape == (num_tasks, *p.shape)
    if fits and part is not p:
        fits = local(task_grad).shape == (num_tasks, *part.shape)
    if not fits or task_grad.dtype != p.dtype or task_grad.device != p.device:
        raise ValueError(
            f"A `task_grad` should have shape {(num_tasks, *p.shape)} for `num_tasks = {num_tasks}`, and dtype and "
            f"device of its parameter. Found shape {tuple(task_grad.shape)}, {task_grad.dtype} on {task_grad.device}. "
            "Pass as many losses to `task_backward` as there are tasks."
        )
    reached = vars(p).get("task_reached")
    if reached is not None and len(reached) != num_tasks:
        raise ValueError(
            f"A `task_reached` should hold {num_tasks} booleans, one per task. "
            f"Found {len(reached)}. Let `task_backward` set it."
        )
    if not isinstance(weights, Tensor) or weights.ndim != 2:
        return
    runs = p.shape[:1] if task_grad.layout is torch.strided else ()
    if weights.shape[1:] != runs or part is not p:
        raise ValueError(
            "Parameter `task_weights` [T, R] should be for the R runs that parameters [R, *shape] stack. Found "
            f"weights of shape {tuple(weights.shape)} and a parameter of shape {tuple(p.shape)}. "
            "Pass weights [T] for one run."
        )


def check_gradients(params: Iterable[Tensor], scaler: str | None) -> None:
    """Raises ValueError where a step would drop what was done to ``p.grad``; it may forget cleared task gradients."""
    held = [p for p in params if (record := record_of(p)) is not None and (scaler != "unscaled" or record.unscaled)]
    check_unchanged(
        held,
        "a step by task, which reads `p.task_grad` only",
        "Clip with `clip_task_grad_norm_`, and put a regulariser into a task's loss or use weight_decay.",
    )


def _check_record(p: Tensor, record: TaskRecord, group: Group, scaler: str | None) -> None:
    if record.others is not None and holds_something(like(p, record.others)):
        raise ValueError(
            "A shared parameter's `p.grad` should come from task gradients alone before a step by task. Found one of "
            f"shape {tuple(p.shape)} that another backward pass began. Put a regulariser into a task's loss, or use "
            "weight_decay."
        )
    if scaler == "unscaled" and not record.unscaled:
        raise ValueError(
            "Task gradients should be unscaled where `scaler.unscale_(optimizer)` was called. Found scaled ones. Call "
            "`unscale_task_grad_(scaler, shared)` beside it."
        )
    if group["task_weights"] is None and record.weighed_by and getattr(p, "task_weights", None) is not None:
        raise ValueError(
            f"Parameter `task_weights` should say where the weights of {record.weighed_by} count. Found None, which "
            'would drop them. Pass task_weights="gradients" (in front of the accumulators) or "updates".'
        )
    if group["task_weights"] == "updates" and record.parts is not None:
        raise ValueError(
            'Micro-batches should have the same weights with `task_weights = "updates"`. Found several. Pass '
            '"gradients", or weigh once after the last micro-batch.'
        )


def check_loaded(kind: str, defaults: Group, groups: list[Group], new_groups: list[Group], new_state: State) -> None:
    """Raises ValueError where a checkpoint belongs to another optimizer, other tasks or other shapes."""
    for group, new in zip(groups, new_groups, strict=True):
        missing = sorted(defaults.keys() - new.keys())
        # Adam and AdamW share their hyper-parameters; only the last of them tells the two apart.
        decay = "decoupled_weight_decay"
        if missing or new.get(decay) != defaults.get(decay):
            found = f"without `{missing[0]}`" if missing else f"with `{decay} = {new.get(decay)}`"
            raise ValueError(
                f"Parameter `state_dict` should be a checkpoint of {kind}. Found one {found}. "
                "Load it into an optimizer of the class that saved it."
            )
        if new["num_tasks"] != group["num_tasks"]:
            raise ValueError(
                f"Parameter `state_dict` should be for {group['num_tasks']} tasks. Found `num_tasks = "
                f"{new['num_tasks']}`. Construct the optimizer with the number of tasks of the checkpoint."
            )
        for p in group["params"]:
            _check_loaded_state(p, group["num_tasks"], new_state.get(p, {}))


def _check_loaded_state(p: Tensor, num_tasks: int, state: dict[str, Tensor]) -> None:
    leading = (num_tasks,) if "step" in state and state["step"].ndim else ()
    for name, value in state.items():
        expected = leading if name == "step" else (*leading, *p.shape)
        part = leading if name == "step" else (*leading, *local(p).shape)
        if value.shape != expected or local(value).shape != part:
            raise ValueError(
                f"Parameter `state_dict` should fit a parameter of shape {tuple(p.shape)}. Found `{name}` of shape "
                f"{tuple(value.shape)} instead of {expected}, or sharded otherwise. Load it into an optimizer of the "
                "same model, and where that is sharded by torch.distributed.checkpoint."
            )
