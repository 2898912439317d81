"""The weighted sum of task gradients, in one pass over them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from mtlcore._touched import coo, numbers, with_numbers

_FEW = 2**16

_Plan = tuple[Tensor, Tensor, Tensor, Tensor]


def weighted_sums(task_grads: Sequence[Tensor], weights: Tensor | None) -> list[Tensor]:
    """Returns sum_t w_t g[t] [*shape] of each g [T, *shape]; a task of weight 0 is left out, even if it holds NaN.

    As 0 * NaN is NaN, rows of weight 0 should not be read. To mask them would take one more pass over every gradient;
    instead, torch's kernel for weighted sums of looked-up rows looks up, in their place, rows that the sum holds
    anyway. So the gradients are read once, and nothing waits for the weights to be known on the host. Few numbers are
    masked all the same, for that takes fewer operations.
    """
    if weights is None:
        return [plain_sum(g) for g in task_grads]
    plans: dict[tuple[int, torch.dtype, torch.device], _Plan] = {}
    sums = []
    for g in task_grads:
        if g.ndim == 2 and weights.ndim == 1 and g.numel() < _FEW:
            sums.append(torch.mv(*_without_zeros(g, weights.to(g.device, g.dtype))))
            continue
        num_tasks, *shape = g.shape
        lead = shape[: weights.ndim] if len(shape) > weights.ndim else shape[: weights.ndim - 1]
        bags, size = math.prod(lead), math.prod(shape[len(lead) :])  # the parameter as a matrix [bags, size]
        key = (bags, g.dtype, g.device)
        if key not in plans:
            plans[key] = _plan(weights.to(g.device, g.dtype), bags)
        rows, offsets, factors, nothing = plans[key]
        total = embedding_bag(rows, g.reshape(num_tasks * bags, size), offsets, mode="sum", per_sample_weights=factors)
        sums.append(total.masked_fill_(nothing, 0).reshape(shape))
    return sums


def _without_zeros(g: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns g [T, n] transposed, and weights [T], both without tasks of weight 0, or with zeros in their place."""
    if weights.device.type == "cpu":  # what lies at an end is left out without reading it
        kept = [t for t, weight in enumerate(weights.tolist()) if weight != 0]
        ends = slice(kept[0], kept[-1] + 1) if kept else slice(0, 0)
        if ends.stop - ends.start == len(kept):
            return g[ends].t(), weights[ends]
    return g.masked_fill((weights == 0).unsqueeze(1), 0).t(), weights


def surely_nonzero(weights: Tensor) -> bool:
    """Says whether no weight is 0, where that can be seen: on the host. Elsewhere to look would wait for the device."""
    return weights.device.type == "cpu" and 0 not in weights.reshape(-1).tolist()


def _plan(weights: Tensor, bags: int) -> _Plan:
    """Returns which rows of a table [T * bags, size] each bag adds up, with which factors, and which bags are empty."""
    num_tasks = len(weights)
    per_bag = weights.reshape(num_tasks, -1, 1).expand(-1, -1, bags // weights[0].numel()).reshape(num_tasks, bags)
    out = per_bag == 0  # [T, bags]
    place = torch.arange(num_tasks * bags, device=weights.device).reshape(num_tasks, bags)
    tasks = torch.where(out, per_bag.abs().argmax(0) * bags + place[0], place)
    return tasks.t().reshape(-1), place[0] * num_tasks, per_bag.t().reshape(-1), out.all(0)[:, None]


def plain_sum(task_grad: Tensor) -> Tensor:
    """Returns sum_t g[t] [*shape] of g [T, *shape]; additions one by one are faster than torch's sum for few tasks.

    Sparse ones are put side by side, not coalesced, as a sum of losses leaves them.
    """
    if task_grad.is_sparse:
        return coo(task_grad._indices()[1:], task_grad._values().clone(), task_grad.shape[1:])
    first, *rest = task_grad.unbind()
    result = first + rest[0] if rest else first.clone()
    for row in rest[1:]:
        result += row
    return result


def weighted_rows(task_grad: Tensor, weights: Tensor) -> Tensor:
    """Returns w_t task_grad[t] for every task [T, *shape]; rows of weight 0 are 0."""
    view, values = task_weight_view(weights, task_grad), numbers(task_grad)
    # `where` keeps the order in memory, `masked_fill` does not
    return with_numbers(task_grad, torch.where(view == 0, 0, values) * view)


def scaled(grad: Tensor, weight: Tensor) -> Tensor:
    """Returns ``weight`` [] or [R] times a gradient [*shape]; zeros where the weight is 0, whatever stands there."""
    if weight.ndim and grad.is_sparse:
        grad = grad.to_dense()  # for its rows are of several runs
    values = numbers(grad)
    weight = weight.to(values.device, values.dtype)
    if weight.device.type == "cpu" and not weight.ndim:
        return with_numbers(grad, values * weight if bool(weight) else torch.zeros_like(values))
    if weight.ndim:
        weight = weight.reshape(weight.shape + (1,) * (values.ndim - 1))
    return with_numbers(grad, (values * weight).masked_fill_(weight == 0, 0))


def task_weight_view(weights: Tensor, task_grad: Tensor) -> Tensor:
    """Returns ``weights`` [T] or [T, R] so that they broadcast against the numbers of ``task_grad`` [T, ...]."""
    weights = weights.to(dtype=task_grad.dtype, device=task_grad.device)
    if task_grad.is_sparse:
        weights, task_grad = weights[task_grad._indices()[0]], task_grad._values()
    return weights.reshape(weights.shape + (1,) * (task_grad.ndim - weights.ndim))
