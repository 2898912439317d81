r"""The methods again, in float64, one line per equation, slow: the oracle of the tests.

Nothing here is meant to be imported by a training loop. Every step function takes plain tensors and returns new ones;
``state`` is a dictionary that the caller keeps from step to step and that begins empty.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# ---------------------------------------------------------------------------------------------------------- AdaTask
# Yang et al., arXiv 2211.15055. For task k: theta the parameter, g[k] its gradient (None where the task did not reach
# theta), w[k] its weight, delta[k] the update of theta that it makes. The paper has Adam without weights, weight decay
# and missing tasks, and one step count; the rest is our design, as is every detail of Adagrad and RMSprop.

Gradients = Sequence[Tensor | None]
Step = tuple[Tensor, list[Tensor]]


def adatask_adam(
    theta: Tensor,
    g: Gradients,
    state: dict[int, Any],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    amsgrad: bool = False,
    maximize: bool = False,
    w: Sequence[Tensor | float] | None = None,
) -> Step:
    """One step of AdaTask-Adam (-AdamW with ``decoupled``, -SparseAdam of sparse g): new theta, delta of every task."""
    theta, delta = theta.double(), [torch.zeros_like(theta).double() for _ in g]
    for k in _reached(g):
        g_k = _gradient(g, k, theta, 0.0 if decoupled else weight_decay, maximize)
        t, m, v, v_max = state.get(k, (0, *[torch.zeros_like(theta)] * 3))
        t, rest, eps_k = t + 1, torch.tensor(False), eps
        if g_k.is_sparse:  # AdaTask-SparseAdam: rows that g_k does not hold rest, and eps is added to v uncorrected
            rest = torch.ones(len(theta), 1, dtype=torch.bool).index_fill(0, g_k.coalesce().indices()[0], False)
            g_k, eps_k = g_k.to_dense(), eps / math.sqrt(1 - beta2**t)
        m = torch.where(rest, m, beta1 * m + (1 - beta1) * g_k)
        v = torch.where(rest, v, beta2 * v + (1 - beta2) * g_k**2)
        v_max = torch.maximum(v_max, v)
        m_hat = m / (1 - beta1**t)
        v_hat = (v_max if amsgrad else v) / (1 - beta2**t)
        delta[k] = torch.where(rest, 0, -lr * _weight(w, k) * m_hat / (v_hat.sqrt() + eps_k))
        state[k] = (t, m, v, v_max)
    if decoupled and _reached(g):
        theta = theta - lr * weight_decay * theta
    return theta + sum(delta), delta


def adatask_adagrad(
    theta: Tensor,
    g: Gradients,
    state: dict[int, Any],
    *,
    lr: float,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
    w: Sequence[Tensor | float] | None = None,
) -> Step:
    """One step of AdaTask-Adagrad: the new theta, and delta of every task."""
    theta, delta = theta.double(), [torch.zeros_like(theta).double() for _ in g]
    for k in _reached(g):
        g_k = _gradient(g, k, theta, weight_decay, maximize)
        t, accumulator = state.get(k, (0, initial_accumulator_value))
        t = t + 1
        accumulator = accumulator + g_k**2
        delta[k] = -lr / (1 + (t - 1) * lr_decay) * _weight(w, k) * g_k / (accumulator.sqrt() + eps)
        state[k] = (t, accumulator)
    return theta + sum(delta), delta


def adatask_rmsprop(
    theta: Tensor,
    g: Gradients,
    state: dict[int, Any],
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
    w: Sequence[Tensor | float] | None = None,
) -> Step:
    """One step of AdaTask-RMSprop: the new theta, and delta of every task."""
    theta, delta = theta.double(), [torch.zeros_like(theta).double() for _ in g]
    for k in _reached(g):
        g_k = _gradient(g, k, theta, weight_decay, maximize)
        square_avg, grad_avg, buffer = state.get(k, (0.0, 0.0, 0.0))
        square_avg = alpha * square_avg + (1 - alpha) * g_k**2
        grad_avg = alpha * grad_avg + (1 - alpha) * g_k
        variance = square_avg - grad_avg**2 if centered else square_avg
        buffer = momentum * buffer + g_k / (variance.sqrt() + eps)
        delta[k] = -lr * _weight(w, k) * buffer
        state[k] = (square_avg, grad_avg, buffer)
    return theta + sum(delta), delta


def _reached(g: Gradients) -> list[int]:
    return [k for k, g_k in enumerate(g) if g_k is not None]


def _gradient(g: Gradients, k: int, theta: Tensor, weight_decay: float, maximize: bool) -> Tensor:
    """The gradient to descend, with the task's share of the coupled weight decay: lambda theta / T."""
    g_k = g[k]
    assert g_k is not None
    g_k = (-g_k if maximize else g_k).double()
    return g_k + weight_decay * theta / len(g) if weight_decay else g_k


def _weight(w: Sequence[Tensor | float] | None, k: int) -> Tensor | float:
    return 1.0 if w is None else w[k]


# -------------------------------------------------------------------------------------------------------- Dominance
# The abstract defines AU as the exponentially decaying average of squared updates; the recursion is inferred. That the
# joint optimizer's update of task k is -lr m_hat_k / (sqrt(v_hat) + eps), with v of the summed gradient, follows from
# its linearity in the gradients that came before.


def joint_adam(
    theta: Tensor,
    g: Sequence[Tensor],
    state: dict[str, Any],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    w: Sequence[Tensor | float] | None = None,
) -> Step:
    """One step of ordinary Adam on sum_k w_k g_k: the new theta, and the delta that is owed to every task."""
    T = len(g)
    t, m, v = state.get("t", 0) + 1, state.get("m", [0.0] * T), state.get("v", 0.0)
    m = [beta1 * m[k] + (1 - beta1) * _weight(w, k) * g[k].double() for k in range(T)]
    v = beta2 * v + (1 - beta2) * sum(_weight(w, k) * g[k].double() for k in range(T)) ** 2
    delta = [-lr * m_k / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps) for m_k in m]
    state.update(t=t, m=m, v=v)
    return theta.double() + sum(delta), delta


def accumulated_updates(au: Sequence[Tensor | float], delta: Sequence[Tensor], rho: float) -> list[Tensor]:
    """AU_k <- rho AU_k + (1 - rho) d_k^2, with d_k = delta[k]."""
    return [rho * au_k + (1 - rho) * d_k.double() ** 2 for au_k, d_k in zip(au, delta, strict=True)]


def relative_updates(au: Sequence[Tensor]) -> list[Tensor]:
    """rAU_k = AU_k / sum_j AU_j; NaN where all AU are 0."""
    return [au_k / sum(au) for au_k in au]


# ------------------------------------------------------------------------------------------------------------ HydaLearn
# Verboven et al., arXiv 2008.11643. The ratio of weights is the paper's; how a gain is measured is our design.


def hydalearn_gain(main_loss: Callable[[Tensor], Tensor], theta: Tensor, task_grad: Tensor, a: float) -> Tensor:
    """Gain of a trial step: delta_t = L_M(theta) - L_M(theta - a g_t)."""
    return main_loss(theta) - main_loss(theta - a * task_grad)


def hydalearn_weights(
    gains: Sequence[float], main_task: int, negative: str = "clamp", normalise: str = "one"
) -> list[float]:
    """Weights with w_i / w_j = delta_i / delta_j; all options beyond this ratio are our design."""
    delta = [gain if math.isfinite(gain) else 0.0 for gain in gains]  # a non-finite gain counts as none
    alone = [float(t == main_task) for t in range(len(delta))]
    total = {"one": 1.0, "tasks": float(len(delta)), "main": 1.0}[normalise]
    if max(delta) <= 0 or (normalise == "main" and delta[main_task] <= 0):
        return [total * w for w in alone]  # no gain: the main task alone
    if negative == "clamp":
        delta = [max(gain, 0.0) for gain in delta]
    largest = max(abs(gain) for gain in delta)
    delta = [gain / largest for gain in delta]
    scale = delta[main_task] if normalise == "main" else sum(abs(gain) for gain in delta)
    return [total * gain / scale for gain in delta]
