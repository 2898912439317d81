"""What the methods refuse, in one sentence each, before anything changes."""

from collections.abc import Iterable, Sequence
from math import isfinite

from torch import Tensor

Losses = Sequence[Tensor] | Tensor
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


def check_losses(losses: Losses) -> list[Tensor]:
    """Returns the T losses as a list, each [] or each [R]; raises ValueError for anything else."""
    if isinstance(losses, Tensor) and losses.ndim == 0:
        raise ValueError(
            "Parameter `losses` should be a sequence of T scalar tensors. Found one scalar. Pass a list, for "
            "example [loss_a, loss_b]."
        )
    items = list(losses)
    if not items:
        raise ValueError(
            "Parameter `losses` should hold at least one loss. Found none. Pass one scalar tensor per task."
        )
    for t, loss in enumerate(items):
        if not isinstance(loss, Tensor):
            raise ValueError(
                f"Parameter `losses` should hold tensors. Found `losses[{t}]` of type {type(loss).__name__}. Pass "
                "one scalar tensor per task."
            )
        if loss.ndim > 1 or loss.shape != items[0].shape:
            raise ValueError(
                f"Parameter `losses` should hold scalars, or tensors [R] for R runs, all of one shape. Found "
                f"`losses[{t}]` of shape "
                f"{tuple(loss.shape)}. Reduce each loss, for example with .mean()."
            )
        if not loss.requires_grad:
            raise ValueError(
                f"Parameter `losses` should hold tensors that require grad. Found `losses[{t}]` without a graph. "
                "Compute it from trainable parameters, outside torch.no_grad()."
            )
        if loss.is_complex():
            raise ValueError(
                f"Parameter `losses` should be real. Found `losses[{t}]` of {loss.dtype}. Take its absolute value."
            )
    return items


def check_shared(shared: Iterable[Tensor]) -> list[Tensor]:
    """Returns the shared parameters, each once; raises ValueError where one cannot hold task gradients."""
    if isinstance(shared, Tensor):
        raise ValueError(
            "Parameter `shared` should be a collection of parameters. Found one tensor. Pass a list, [parameter]."
        )
    parameters = list(dict.fromkeys(shared))  # tensors hash by identity: tied weights count once
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
    return parameters


def check_task_grad(p: Tensor, num_tasks: int, num_runs: int | None) -> None:
    """Raises ValueError where gradients of ``num_tasks`` tasks and ``num_runs`` runs cannot be added to p's."""
    if num_runs is not None and (p.ndim == 0 or p.shape[0] != num_runs):
        raise ValueError(
            f"Parameter `losses` should hold scalars, or tensors [R] with shared parameters [R, *shape]. Found "
            f"losses [{num_runs}] and a "
            f"shared parameter of shape {tuple(p.shape)}. Reduce each loss, for example with .mean()."
        )
    task_grad: Tensor | None = getattr(p, "task_grad", None)
    runs: int | None = getattr(p, "task_runs", None)
    if task_grad is not None and (task_grad.shape != (num_tasks, *p.shape) or runs != num_runs):
        raise ValueError(
            f"Parameter `losses` should hold as many tasks and runs as the gradients it is added to. Found "
            f"{num_tasks} losses and a "
            f"`task_grad` of shape {tuple(task_grad.shape)} on a parameter {tuple(p.shape)}. Call `zero_task_grad` "
            "first."
        )


def check_weights(weights: Weights, task_grad: Tensor) -> None:
    """Raises ValueError unless the weights are T finite numbers, a tensor [T], or [T, R] for R runs."""
    if isinstance(weights, Tensor):
        fits = (
            weights.ndim in (1, 2)
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
