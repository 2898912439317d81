"""What the methods refuse, in one sentence each, before anything changes."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from torch import Tensor, nn

from mtlcore._rows import runs_of
from mtlcore._sharded import as_sharded, check_sharded, local

Losses = Sequence[Tensor | None] | Tensor
Shared = Iterable[Tensor] | nn.Module
Weights = Sequence[float] | Tensor


def check_option(name: str, value: str, options: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of the options."""
    if value not in options:
        raise ValueError(
            f"Parameter `{name}` should be one of {', '.join(map(repr, options))}. Found `{name} = {value!r}`. Pass "
            "one of them."
        )


def check_main_task(main_task: int, num_tasks: int | None = None) -> None:
    """Raises ValueError unless ``main_task`` is the index of a task; of how many is known once there are losses."""
    if not isinstance(main_task, int) or main_task < 0:
        raise ValueError(
            f"Parameter `main_task` should be the index of a task, 0 or more. Found `main_task = {main_task!r}`. "
            "Pass the main loss's place in what `losses_fn` returns."
        )
    if num_tasks is not None and main_task >= num_tasks:
        raise ValueError(
            f"Parameter `main_task` should be the index of a task. Found `main_task = {main_task}` and {num_tasks} "
            f"losses. Pass 0 to {num_tasks - 1}."
        )


def check_losses(losses: Losses) -> list[Tensor | None]:
    """Returns the T losses as a list, each [], each [R], or None; raises ValueError for anything else."""
    if isinstance(losses, Mapping):
        raise ValueError(
            f"Parameter `losses` should be a sequence of T scalar tensors. Found a {type(losses).__name__}. Pass "
            "list(losses.values()), always in the same order."
        )
    if isinstance(losses, Tensor) and losses.ndim == 0:
        raise ValueError(
            "Parameter `losses` should be a sequence of T scalar tensors. Found one scalar. Pass a list, for "
            "example [loss_a, loss_b]."
        )
    items = list(losses)
    present = [loss for loss in items if loss is not None]
    if not present:
        raise ValueError(
            "Parameter `losses` should hold at least one loss. Found none. Pass one scalar tensor per task; leave out "
            "the step where no task has a loss."
        )
    for t, loss in enumerate(items):
        if loss is None:
            continue
        if not isinstance(loss, Tensor):
            hint = "one scalar tensor per task, or None for a task that this batch does not have"
            if isinstance(loss, Mapping | list | tuple):
                hint = "the losses alone, one scalar tensor per task, without logs or outputs beside them"
            raise ValueError(
                f"Parameter `losses` should hold tensors. Found `losses[{t}]` of type {type(loss).__name__}. Pass "
                f"{hint}."
            )
        if loss.ndim > 1 or loss.shape != present[0].shape:
            raise ValueError(
                f"Parameter `losses` should hold scalars, or tensors [R] for R runs, all of one shape. Found "
                f"`losses[{t}]` of shape "
                f"{tuple(loss.shape)}. Reduce each loss, for example with .mean()."
            )
        if not loss.requires_grad:
            raise ValueError(
                f"Parameter `losses` should hold tensors that require grad. Found `losses[{t}]` without a graph. "
                "Compute it from trainable parameters, outside torch.no_grad(), and pass None for a task that this "
                "batch does not have."
            )
        if loss.is_complex():
            raise ValueError(
                f"Parameter `losses` should be real. Found `losses[{t}]` of {loss.dtype}. Take its absolute value."
            )
    return items


def check_runs(losses: Sequence[Tensor | None], parameters: Iterable[Tensor]) -> None:
    """Raises ValueError where losses [R] meet parameters that are not declared to stack R runs, or the other way."""
    shape = next(tuple(loss.shape) for loss in losses if loss is not None)
    for p in parameters:
        runs = runs_of(p)
        if shape != (() if runs is None else (runs,)):
            found = "one run" if runs is None else f"{runs} runs"
            raise ValueError(
                "Parameter `losses` should hold scalars, or tensors [R] where the shared parameters are declared to "
                f"stack R runs, [R, *shape]. Found losses of shape {shape} and a shared parameter of {found}, "
                f"{tuple(p.shape)}. Reduce each loss, for example with .mean(), or declare runs with `p.task_runs = R`."
            )


def check_shared(shared: Shared) -> list[Tensor]:
    """Returns the shared parameters, each once; raises ValueError where one cannot hold task gradients."""
    if isinstance(shared, nn.Module):
        shared = shared.parameters()
    if isinstance(shared, Tensor):
        raise ValueError(
            "Parameter `shared` should be a collection of parameters. Found one tensor. Pass a list, [parameter]."
        )
    parameters = list(dict.fromkeys(as_sharded(shared)))  # tensors hash by identity: tied weights count once
    if not parameters:
        raise ValueError(
            "Parameter `shared` should hold the shared parameters. Found none. Was a generator, such as "
            "`model.parameters()`, used up by an earlier call? Pass a list."
        )
    for i, p in enumerate(parameters):
        if not isinstance(p, Tensor):
            raise ValueError(
                f"Parameter `shared` should hold parameters. Found `shared[{i}]` of type {type(p).__name__}. Pass "
                "model.parameters()."
            )
        if not p.is_leaf or p.is_complex() or p.is_sparse:
            kind = "a computed tensor" if not p.is_leaf else "a complex tensor" if p.is_complex() else "a sparse tensor"
            raise ValueError(
                f"Parameter `shared` should hold real, dense leaf parameters. Found `shared[{i}]`, {kind}. Pass "
                "model parameters."
            )
    check_sharded(parameters)
    return parameters


def check_weights(weights: Weights, task_grad: Tensor) -> None:
    """Raises ValueError unless the weights are T finite numbers, a tensor [T], or [T, R] for R runs."""
    if isinstance(weights, Tensor):
        fits = (
            weights.ndim in ((1,) if task_grad.is_sparse or local(task_grad) is not task_grad else (1, 2))
            and weights.ndim <= task_grad.ndim
            and weights.shape == task_grad.shape[: weights.ndim]
        )
        found = f"shape {tuple(weights.shape)}"
    else:
        fits = len(weights) == len(task_grad) and all(isfinite(w) for w in weights)
        found = f"{list(weights)}"
    if not fits:
        raise ValueError(
            f"Parameter `weights` should hold {len(task_grad)} finite numbers, one per task ([T], or [T, R] for R "
            "runs). "
            f"Found `weights` = {found}. Pass one weight per loss."
        )
