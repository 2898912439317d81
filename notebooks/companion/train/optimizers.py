"""The optimizers of the experiments: torch's and their AdaTask forms, with their defaults and a rate per run."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from mtlcore.adatask import AdaTaskAdagrad, AdaTaskAdam, AdaTaskAdamW, AdaTaskRMSprop

# Ordinary optimizer and its AdaTask form.
OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], Callable[..., Optimizer]]] = {
    "Adagrad": (Adagrad, AdaTaskAdagrad),
    "RMSprop": (RMSprop, AdaTaskRMSprop),
    "Adam": (Adam, AdaTaskAdam),
    "AdamW": (AdamW, AdaTaskAdamW),
}
ORDINARY = {name: ordinary for name, (ordinary, _) in OPTIMIZERS.items()} | {"SGD": partial(SGD, momentum=0.9)}


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], num_tasks: int | None = None, **options: Any
) -> Optimizer:
    """Build an optimizer for `runs.train_step`, with `lr=1`.

    Args:
        name: One of `OPTIMIZERS`; an ordinary one may also be "SGD", with a momentum of 0.9.
        parameters: What it trains.
        num_tasks: T, for the AdaTask form.
        options: What the optimizer takes besides.
    """
    if num_tasks is None:
        return ORDINARY[name](parameters, lr=1.0, **options)
    return OPTIMIZERS[name][1](parameters, num_tasks=num_tasks, lr=1.0, **options)


def per_run(values: Tensor, like: Tensor) -> Tensor:
    """Values `[R]` as a view that multiplies a stacked tensor `[R, ...]`."""
    return values.view(-1, *[1] * (like.dim() - 1))  # [R, 1, ...]


def step_per_run(optimizer: Optimizer, rates: Tensor) -> None:
    """Take one step in which every run has its own learning rate `rates [R]`.

    The optimizer's own `lr` should be 1: its step, which is proportional to `lr` in torch's optimizers (weight decay
    included), is then scaled per run.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    with torch.no_grad():
        torch._foreach_sub_(parameters, before)
        torch._foreach_mul_(parameters, [per_run(rates, p).to(p.dtype) for p in parameters])
        torch._foreach_add_(parameters, before)
