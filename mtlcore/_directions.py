"""The direction that each task's gradients move a parameter in, from the state of its optimizer after the step.

Every function returns [T, *shape], to be multiplied by -lr, from the gradients to descend [T, *shape]. ``state`` is the
optimizer's, per task under AdaTask and shared otherwise. ``moments`` holds what is linear in the gradients, per task:
AdaTask's own state, which the step has moved on already, or the recorder's, moved on here.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mtlcore.adatask import AdaTaskAdagrad, AdaTaskAdam, AdaTaskRMSprop

State = dict[str, Tensor]
Group = dict[str, Any]


def _adam(group: Group, state: State, moments: State, grads: Tensor) -> Tensor:
    beta1, beta2 = group["betas"]
    if moments is not state:
        moments["exp_avg"] = moments.get("exp_avg", torch.zeros_like(grads)).lerp(grads, 1 - beta1)
    steps = _steps(state, grads)
    first = exact(moments["exp_avg"]) / _bias_correction(beta1, steps)
    second = exact(state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]) / _bias_correction(beta2, steps)
    direction: Tensor = first / (second.sqrt() + group["eps"])
    return direction


def _adagrad(group: Group, state: State, moments: State, grads: Tensor) -> Tensor:
    del moments
    slowdown = 1 + (_steps(state, grads) - 1) * group["lr_decay"]
    direction: Tensor = grads / (exact(state["sum"]).sqrt() + group["eps"]) / slowdown
    return direction


def _rmsprop(group: Group, state: State, moments: State, grads: Tensor) -> Tensor:
    variance = exact(state["square_avg"])
    if group["centered"]:
        variance = variance - exact(state["grad_avg"]).square()
    update: Tensor = grads / (variance.sqrt() + group["eps"])
    if group["momentum"] == 0:
        return update
    if moments is not state:
        moments["momentum_buffer"] = moments.get("momentum_buffer", 0) * group["momentum"] + update
    return exact(moments["momentum_buffer"])


def _sgd(group: Group, state: State, moments: State, grads: Tensor) -> Tensor:
    del state
    momentum: float = group["momentum"]
    if momentum == 0:
        return grads
    earlier = moments.get("momentum_buffer")
    if earlier is None:  # a copy: the gradients' memory may be written again
        moments["momentum_buffer"] = grads.clone()
    else:
        moments["momentum_buffer"] = earlier * momentum + grads * (1 - group["dampening"])
    return grads + moments["momentum_buffer"] * momentum if group["nesterov"] else moments["momentum_buffer"]


def exact(x: Tensor) -> Tensor:
    """Returns ``x`` in float32 at least: an average over many steps does not move in bfloat16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _steps(state: State, like: Tensor) -> Tensor:
    """Returns the step count, [T] or [], as a tensor that broadcasts against [T, *shape]."""
    steps = state["step"].to(device=like.device, dtype=like.dtype, non_blocking=True)
    return steps.reshape(steps.shape + (1,) * (like.ndim - 1))


def _bias_correction(beta: float, steps: Tensor) -> Tensor:
    """Returns 1 - beta**steps, without the digits that float32 loses where beta is close to 1."""
    return -torch.expm1(steps * (math.log(beta) if beta > 0 else -math.inf))


DIRECTIONS: dict[type[Optimizer], Callable[[Group, State, State, Tensor], Tensor]] = {
    AdaTaskAdam: _adam,
    AdaTaskAdagrad: _adagrad,
    AdaTaskRMSprop: _rmsprop,
    torch.optim.Adam: _adam,  # and AdamW, a subclass
    torch.optim.Adagrad: _adagrad,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.SGD: _sgd,
}
