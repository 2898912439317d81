"""Answers that a student might plausibly give to the exercises, each with the properties that it violates.

Not in the students' version: half of a wrong answer is right.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


class WrongAnswer(NamedTuple):
    """A wrong answer, what is wrong about it, and what its self-check has to find.

    Attributes:
        exercise: The name of the exercise's function.
        function: The answer.
        red: The names of exactly those properties that do not hold.
        says: Words of the counterexample to the first of them.
    """

    exercise: str
    function: Callable[..., Any]
    red: frozenset[str]
    says: str


WRONG: list[WrongAnswer] = []


def wrong(exercise: str, *red: str, says: str = "") -> Callable[[F], F]:
    """Decorator: register a wrong answer."""

    def register(function: F) -> F:
        WRONG.append(WrongAnswer(exercise, function, frozenset(red), says))
        return function

    return register


# ----------------------------------------------------------------------------------------------- 01: weights_from_gains
@wrong("weights_from_gains", "they_sum_to_one", "no_help_no_weight", "main_task_alone", says="with the sum")
def negative_gains_kept(gains: Tensor, main_task: int) -> Tensor:
    return gains / gains.sum()


@wrong("weights_from_gains", "they_sum_to_one", "main_task_alone", says="with the sum nan")
def nothing_to_divide_by(gains: Tensor, main_task: int) -> Tensor:
    return gains.clamp(min=0) / gains.clamp(min=0).sum()


@wrong("weights_from_gains", "main_task_alone", "permuted_weights", says="is the main one and no gain is positive")
def main_task_is_the_first(gains: Tensor, main_task: int) -> Tensor:
    weights = gains.clamp(min=0)
    if weights.sum() == 0:
        weights[0] = 1
    return weights / weights.sum()


@wrong("weights_from_gains", "ratio_of_gains", "no_help_no_weight", "main_task_alone", "other_units", says="ratios")
def softmax(gains: Tensor, main_task: int) -> Tensor:
    return gains.softmax(0)


@wrong("weights_from_gains", "other_units", says="1e+12 times as large")
def epsilon_below(gains: Tensor, main_task: int) -> Tensor:
    helpful = gains.clamp(min=0)
    if helpful.sum() == 0:
        return torch.eye(len(gains))[main_task]
    return helpful / (helpful.sum() + 1e-10)


@wrong("weights_from_gains", "one_weight_per_task", says="changed its argument gains in place")
def clamped_in_place(gains: Tensor, main_task: int) -> Tensor:
    return gains.clamp_(min=0) / gains.sum()


# ------------------------------------------------------------------------------------------------ 01: first_order_gains
def products(gradients: list[list[Tensor]], main: list[Tensor]) -> Tensor:
    return torch.stack([torch.stack([(m * g).sum() for m, g in zip(main, t, strict=True)]).sum() for t in gradients])


def joined(gradients: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.cat([g.flatten() for g in task]) for task in gradients])


@wrong("first_order_gains", "own_gain", "scaled_loss", says="squared length over both parameters")
def cosine_in_place_of_product(gradients: list[list[Tensor]], main_task: int, trial_step: float) -> Tensor:
    G = joined(gradients)
    return trial_step * torch.cosine_similarity(G, G[main_task], dim=1)


@wrong("first_order_gains", "right_angle", "scaled_loss", says="task 0 is the main one")
def own_loss(gradients: list[list[Tensor]], main_task: int, trial_step: float) -> Tensor:
    return trial_step * joined(gradients).square().sum(1)


@wrong("first_order_gains", "own_gain", "longer_step", says="the step")
def step_forgotten(gradients: list[list[Tensor]], main_task: int, trial_step: float) -> Tensor:
    return products(gradients, gradients[main_task])


@wrong("first_order_gains", "own_gain", "one_long_vector", says="squared length over both parameters")
def mean_over_parameters(gradients: list[list[Tensor]], main_task: int, trial_step: float) -> Tensor:
    return trial_step * products(gradients, gradients[main_task]) / len(gradients[main_task])


@wrong("first_order_gains", "own_gain", "scaled_loss", "permuted_gains", says="squared length over both parameters")
def main_task_is_zero(gradients: list[list[Tensor]], main_task: int, trial_step: float) -> Tensor:
    return trial_step * products(gradients, gradients[0])


@wrong("first_order_gains", "one_gain_per_task", says="returned shape [1, 2]; it should be [1]")
def one_gain_per_parameter(gradients: list[list[Tensor]], main_task: int, trial_step: float) -> Tensor:
    main = gradients[main_task]
    rows = [torch.stack([(m * g).sum() for m, g in zip(main, task, strict=True)]) for task in gradients]
    return trial_step * torch.stack(rows)


# ------------------------------------------------------------------------------------------------------ 01: exact_gains
def gradients_of(model: Any, losses: list[Tensor]) -> list[tuple[Tensor, ...]]:
    return [torch.autograd.grad(loss, list(model.parameters()), retain_graph=True) for loss in losses]


def move(model: Any, gradient: tuple[Tensor, ...], step: float) -> None:
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradient, strict=True):
            p.sub_(step * g)


@wrong(
    "exact_gains", "parameters_untouched", "same_start", "tangent", "overshoot", "permuted_exact_gains", says="moved"
)
def never_put_back(model: Any, losses_of: Any, main_task: int, trial_step: float) -> Tensor:
    losses, gains = losses_of(model), []
    for gradient in gradients_of(model, losses):
        move(model, gradient, trial_step)
        gains.append((losses[main_task] - losses_of(model)[main_task]).detach())
    return torch.stack(gains)


@wrong("exact_gains", "same_start", "tangent", "overshoot", "permuted_exact_gains", says="the first one again")
def put_back_only_at_the_end(model: Any, losses_of: Any, main_task: int, trial_step: float) -> Tensor:
    start = [p.detach().clone() for p in model.parameters()]
    gains = never_put_back(model, losses_of, main_task, trial_step)
    with torch.no_grad():
        for p, old in zip(model.parameters(), start, strict=True):
            p.copy_(old)
    return gains


@wrong("exact_gains", "parameters_untouched", says="copy the old values back")
def added_again(model: Any, losses_of: Any, main_task: int, trial_step: float) -> Tensor:
    losses, gains = losses_of(model), []
    for gradient in gradients_of(model, losses):
        move(model, gradient, trial_step)
        gains.append((losses[main_task] - losses_of(model)[main_task]).detach())
        move(model, gradient, -trial_step)
    return torch.stack(gains)


@wrong("exact_gains", "tangent", says="the first-order gains")
def each_task_its_own_loss(model: Any, losses_of: Any, main_task: int, trial_step: float) -> Tensor:
    start = [p.detach().clone() for p in model.parameters()]
    losses, gains = losses_of(model), []
    for t, gradient in enumerate(gradients_of(model, losses)):
        move(model, gradient, trial_step)
        gains.append((losses[t] - losses_of(model)[t]).detach())
        with torch.no_grad():
            for p, old in zip(model.parameters(), start, strict=True):
                p.copy_(old)
    return torch.stack(gains)


@wrong("exact_gains", "overshoot", says="leads to")
def no_look_ahead(model: Any, losses_of: Any, main_task: int, trial_step: float) -> Tensor:
    gradients = [list(task) for task in gradients_of(model, losses_of(model))]
    return trial_step * products(gradients, gradients[main_task])


@wrong("exact_gains", "gradients_untouched", says=".grad is")
def backward_in_place_of_grad(model: Any, losses_of: Any, main_task: int, trial_step: float) -> Tensor:
    start = [p.detach().clone() for p in model.parameters()]
    gains = []
    for t in range(len(losses_of(model))):
        model.zero_grad()
        losses = losses_of(model)
        losses[t].backward()
        move(model, tuple(p.grad for p in model.parameters()), trial_step)
        gains.append((losses[main_task] - losses_of(model)[main_task]).detach())
        with torch.no_grad():
            for p, old in zip(model.parameters(), start, strict=True):
                p.copy_(old)
    return torch.stack(gains)


@wrong("exact_gains", "one_exact_gain_per_task", says="returned shape []; it should be [1]")
def only_the_main_task(model: Any, losses_of: Any, main_task: int, trial_step: float) -> Tensor:
    trial = copy.deepcopy(model)
    move(trial, gradients_of(model, losses_of(model))[main_task], trial_step)
    gain: Tensor = losses_of(model)[main_task] - losses_of(trial)[main_task]
    return gain


# ----------------------------------------------------------------------------------------- 01: scale_free_contributions
@wrong("scale_free_contributions", "scaled_away", says="multiplied by")
def hydalearn_itself(gradients: Tensor, main_task: int) -> Tensor:
    main = gradients[main_task]
    return (gradients @ main / main.square().sum()).clamp(min=0)[:, None] * gradients


@wrong("scale_free_contributions", "equal_lengths", says="the cosines are")
def hard_gate(gradients: Tensor, main_task: int) -> Tensor:
    main = gradients[main_task]
    lengths = gradients.norm(dim=1, keepdim=True)
    unit = gradients / lengths.where(lengths > 0, torch.ones(()))
    contributions: Tensor = (gradients @ main > 0)[:, None] * unit * main.norm()
    return contributions


@wrong("scale_free_contributions", "main_contribution", "common_scale", "equal_lengths", says="weight 1")
def all_of_unit_length(gradients: Tensor, main_task: int) -> Tensor:
    lengths = gradients.norm(dim=1, keepdim=True)
    unit = gradients / lengths.where(lengths > 0, torch.ones(()))
    contributions: Tensor = (unit @ unit[main_task]).clamp(min=0)[:, None] * unit
    return contributions


@wrong("scale_free_contributions", "scaled_away", says="multiplied by")
def only_the_weight_normalised(gradients: Tensor, main_task: int) -> Tensor:
    cosine = torch.cosine_similarity(gradients, gradients[main_task], dim=1)
    return cosine.clamp(min=0)[:, None] * gradients


@wrong("scale_free_contributions", "conflict_contributes_nothing", says="no positive product")
def divides_by_zero(gradients: Tensor, main_task: int) -> Tensor:
    main = gradients[main_task]
    unit = gradients / gradients.norm(dim=1, keepdim=True)
    contributions: Tensor = main.norm() * (unit @ unit[main_task]).clamp(min=0)[:, None] * unit
    return contributions


@wrong(
    "scale_free_contributions",
    "main_contribution",
    "scaled_away",
    "conflict_contributes_nothing",
    "equal_lengths",
    "permuted_contributions",
    says="weight 1",
)
def main_task_is_the_first_one(gradients: Tensor, main_task: int) -> Tensor:
    lengths = gradients.norm(dim=1, keepdim=True)
    unit = gradients / lengths.where(lengths > 0, torch.ones(()))
    contributions: Tensor = lengths[0] * (unit @ unit[0]).clamp(min=0)[:, None] * unit
    return contributions


@wrong("scale_free_contributions", "one_contribution_per_task", says="returned shape [2]; it should be [1, 2]")
def their_sum(gradients: Tensor, main_task: int) -> Tensor:
    cosine = torch.cosine_similarity(gradients, gradients[main_task], dim=1)
    return (cosine.clamp(min=0)[:, None] * gradients).sum(0)


# ---------------------------------------------------------------------------------------------------- 01: unbiased_gain
@wrong("unbiased_gain", "right_on_average", "contradiction", says="on average; it should be")
def product_of_means(main_gradients: Tensor, task_gradients: Tensor, trial_step: float) -> Tensor:
    return trial_step * main_gradients.mean(0) @ task_gradients.mean(0)


@wrong("unbiased_gain", "no_noise", "right_on_average", "contradiction", says="times the product of")
def all_pairs_counted(main_gradients: Tensor, task_gradients: Tensor, trial_step: float) -> Tensor:
    all_pairs = main_gradients.sum(0) @ task_gradients.sum(0) - (main_gradients * task_gradients).sum()
    return trial_step * all_pairs / len(main_gradients) ** 2


@wrong("unbiased_gain", "order_of_examples", says="in the order")
def two_halves(main_gradients: Tensor, task_gradients: Tensor, trial_step: float) -> Tensor:
    half = len(main_gradients) // 2
    return trial_step * main_gradients[:half].mean(0) @ task_gradients[half:].mean(0)


@wrong("unbiased_gain", "one_number", says="returned shape [1]; it should be []")
def product_without_sum(main_gradients: Tensor, task_gradients: Tensor, trial_step: float) -> Tensor:
    return trial_step * main_gradients.mean(0) * task_gradients.mean(0)


# ------------------------------------------------------------------------------------------------- 05: relative_updates
def decayed(steps: Tensor, rho: float) -> Tensor:
    au = torch.zeros_like(steps[0])
    for step in steps:
        au = rho * au + (1 - rho) * step
    return au


@wrong("relative_updates", "squares", says="times as far")
def sizes_in_place_of_squares(updates: Tensor, rho: float) -> Tensor:
    au = decayed(updates.abs(), rho)
    return au / au.sum(0)


@wrong("relative_updates", "direction_does_not_count", "forgetting", says="positive")
def squared_after_averaging(updates: Tensor, rho: float) -> Tensor:
    au = decayed(updates, rho) ** 2
    return au / au.sum(0)


@wrong("relative_updates", "forgetting", says="before task 1")
def summed_without_decay(updates: Tensor, rho: float) -> Tensor:
    au = updates.square().sum(0)
    return au / au.sum(0)


@wrong("relative_updates", "forgetting", says="before task 1")
def rho_the_wrong_way_round(updates: Tensor, rho: float) -> Tensor:
    return decayed(updates.square(), 1 - rho) / decayed(updates.square(), 1 - rho).sum(0)


@wrong("relative_updates", "squares", "forgetting", "nobody_moved_it", says="times as far")
def epsilon_hides_dead_parameters(updates: Tensor, rho: float) -> Tensor:
    au = decayed(updates.square(), rho)
    return au / (au.sum(0) + 1e-8)


@wrong("relative_updates", "shares_sum_to_one", "squares", "forgetting", "nobody_moved_it", says="over the tasks")
def shares_over_parameters(updates: Tensor, rho: float) -> Tensor:
    au = decayed(updates.square(), rho)
    return au / au.sum(1, keepdim=True)


@wrong("relative_updates", "shares_sum_to_one", "permuted_shares", says="over the tasks")
def two_tasks_assumed(updates: Tensor, rho: float) -> Tensor:
    au = decayed(updates.square(), rho)
    return au / (au[0] + au[-1])


@wrong("relative_updates", "one_share_each", says="returned shape [2, 1, 2]; it should be [1, 2]")
def shares_of_every_step(updates: Tensor, rho: float) -> Tensor:
    return updates.square() / updates.square().sum(1, keepdim=True)


# ----------------------------------------------------------------------------------------------------- 05: adatask_adam
def adam(gradients: Tensor, squares: Tensor, beta1: float, beta2: float, eps: float) -> Tensor:
    """Adam's quotients [S, ...], with the squares that its accumulator takes in."""
    m, G, quotients = torch.zeros_like(gradients[0]), torch.zeros_like(squares[0]), []
    for t, (g, square) in enumerate(zip(gradients, squares, strict=True), start=1):
        m = beta1 * m + (1 - beta1) * g
        G = beta2 * G + (1 - beta2) * square
        quotients.append(m / (1 - beta1**t) / ((G / (1 - beta2**t)).sqrt() + eps))
    return torch.stack(quotients)


@wrong("adatask_adam", "tasks_do_not_meet", "erased_weight", "summed", says="alone the tasks move theta")
def joint_adam(theta: Tensor, gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    g = gradients.sum(1)
    return theta - lr * adam(g, g**2, beta1, beta2, eps).sum(0)


@wrong("adatask_adam", "tasks_do_not_meet", "erased_weight", "summed", says="alone the tasks move theta")
def shared_accumulator(theta: Tensor, gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    squares = (gradients**2).sum(1, keepdim=True).expand_as(gradients)
    return theta - lr * adam(gradients, squares, beta1, beta2, eps).sum((0, 1))


@wrong("adatask_adam", "tasks_do_not_meet", "summed", "silent_task", says="alone the tasks move theta")
def averaged(theta: Tensor, gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    return theta - lr * adam(gradients, gradients**2, beta1, beta2, eps).mean(1).sum(0)


@wrong("adatask_adam", "one_task_is_adam", "summed", says="where torch.optim.Adam is")
def no_bias_correction(theta: Tensor, gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    m, G = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])
    for g in gradients:
        m = beta1 * m + (1 - beta1) * g
        G = beta2 * G + (1 - beta2) * g**2
        theta = theta - lr * (m / (G.sqrt() + eps)).sum(0)
    return theta


@wrong("adatask_adam", "one_task_is_adam", says="where torch.optim.Adam is")
def epsilon_in_the_root(theta: Tensor, gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    m, G = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        G = beta2 * G + (1 - beta2) * g**2
        theta = theta - lr * (m / (1 - beta1**t) / (G / (1 - beta2**t) + eps**2).sqrt()).sum(0)
    return theta


@wrong("adatask_adam", "one_place", says="raised ZeroDivisionError: ")
def counted_from_zero(theta: Tensor, gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    for t, _ in enumerate(gradients):
        theta = theta * (1.0 / (1 - beta1**t))
    return theta


@wrong("adatask_adam", "tasks_do_not_meet", "erased_weight", "summed", "silent_task", "order_of_tasks", says="alone")
def moments_not_kept_apart(
    theta: Tensor, gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float
) -> Tensor:
    m, G = torch.zeros_like(theta), torch.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        for g_k in g:
            m = beta1 * m + (1 - beta1) * g_k
            G = beta2 * G + (1 - beta2) * g_k**2
            theta = theta - lr * m / (1 - beta1**t) / ((G / (1 - beta2**t)).sqrt() + eps)
    return theta


# ------------------------------------------------------------------------------------------------- 05: joint_adam_parts
@wrong(
    "joint_adam_parts",
    "parts_make_the_whole",
    "parts_are_as_the_gradients",
    "momentum_has_an_owner",
    says="returned parts with the sums",
)
def parts_of_adatask(gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    return -lr * adam(gradients, gradients**2, beta1, beta2, eps)


@wrong("joint_adam_parts", "parts_make_the_whole", says="returned parts with the sums")
def sum_of_squares(gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    squares = (gradients**2).sum(1, keepdim=True).expand_as(gradients)
    return -lr * adam(gradients, squares, beta1, beta2, eps)


@wrong(
    "joint_adam_parts", "no_gradient_no_part", "parts_are_as_the_gradients", "momentum_has_an_owner", says="task 1 had"
)
def equal_parts(gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    g = gradients.sum(1, keepdim=True)
    return (-lr * adam(g, g**2, beta1, beta2, eps) / gradients.shape[1]).expand_as(gradients)


@wrong("joint_adam_parts", "parts_make_the_whole", "momentum_has_an_owner", says="with the sums")
def by_the_current_gradient(gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    g = gradients.sum(1, keepdim=True)
    share = gradients / g.where(g != 0, torch.ones(()))
    return -lr * adam(g, g**2, beta1, beta2, eps) * share


@wrong(
    "joint_adam_parts", "parts_are_as_the_gradients", "permuted_parts", "momentum_has_an_owner", says="the same root"
)
def task_after_task(gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    sums = gradients.cumsum(
        1
    )  # what joint Adam does with the first k tasks, less what it does without the last of them
    return -lr * adam(sums, sums**2, beta1, beta2, eps).diff(dim=1, prepend=torch.zeros_like(gradients[:, :1]))


@wrong("joint_adam_parts", "one_part_each", says="returned shape [1, 2]; it should be [2, 1, 2]")
def last_step_only(gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    squares = gradients.sum(1, keepdim=True) ** 2
    return -lr * adam(gradients, squares.expand_as(gradients), beta1, beta2, eps)[-1]


# ---------------------------------------------------------------------------------------------------- 05: adatask_adamw
def adamw(theta: Tensor, updates: Tensor, shrink: float, before: bool = True) -> Tensor:
    for update in updates:
        theta = shrink * theta - update if before else shrink * (theta - update)
    return theta


@wrong("adatask_adamw", "decay_once", "weight_zero", says="times")
def decay_per_task(
    theta: Tensor,
    gradients: Tensor,
    task_weights: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> Tensor:
    updates = lr * (task_weights[:, None] * adam(gradients, gradients**2, beta1, beta2, eps)).sum(1)
    return adamw(theta, updates, (1 - lr * weight_decay) ** len(task_weights))


@wrong("adatask_adamw", "weights_count", says="alone, with weight 1")
def weights_on_the_losses(
    theta: Tensor,
    gradients: Tensor,
    task_weights: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> Tensor:
    weighted = task_weights[:, None] * gradients
    return adamw(theta, lr * adam(weighted, weighted**2, beta1, beta2, eps).sum(1), 1 - lr * weight_decay)


@wrong(
    "adatask_adamw", "one_task_is_adamw", "decay_once", "erased_loss_weight", "weight_zero", says="torch.optim.AdamW"
)
def decay_in_the_gradient(
    theta: Tensor,
    gradients: Tensor,
    task_weights: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> Tensor:
    m, G = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])
    for t, g in enumerate(gradients, start=1):
        g = g + weight_decay * theta / len(task_weights)
        m = beta1 * m + (1 - beta1) * g
        G = beta2 * G + (1 - beta2) * g**2
        update = m / (1 - beta1**t) / ((G / (1 - beta2**t)).sqrt() + eps)
        theta = theta - lr * (task_weights[:, None] * update).sum(0)
    return theta


@wrong("adatask_adamw", "one_task_is_adamw", says="torch.optim.AdamW")
def decay_after_the_update(
    theta: Tensor,
    gradients: Tensor,
    task_weights: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> Tensor:
    updates = lr * (task_weights[:, None] * adam(gradients, gradients**2, beta1, beta2, eps)).sum(1)
    return adamw(theta, updates, 1 - lr * weight_decay, before=False)


@wrong("adatask_adamw", "decay_once", says="times")
def decay_times_the_weights(
    theta: Tensor,
    gradients: Tensor,
    task_weights: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> Tensor:
    updates = lr * (task_weights[:, None] * adam(gradients, gradients**2, beta1, beta2, eps)).sum(1)
    return adamw(theta, updates, 1 - lr * weight_decay * float(task_weights.sum()))


@wrong("adatask_adamw", "weights_count", "weight_zero", "order_of_tasks", says="alone, with weight 1")
def weights_relative_to_the_first(
    theta: Tensor,
    gradients: Tensor,
    task_weights: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> Tensor:
    weights = task_weights / task_weights[0]
    updates = lr * (weights[:, None] * adam(gradients, gradients**2, beta1, beta2, eps)).sum(1)
    return adamw(theta, updates, 1 - lr * weight_decay)


@wrong("adatask_adamw", "one_place", says="changed its argument theta in place")
def theta_itself_moved(
    theta: Tensor,
    gradients: Tensor,
    task_weights: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> Tensor:
    for quotients in adam(gradients, gradients**2, beta1, beta2, eps):
        theta *= 1 - lr * weight_decay
        theta -= lr * (task_weights[:, None] * quotients).sum(0)
    return theta


# --------------------------------------------------------------------------------------------------- 05: expected_share
@wrong("expected_share", "bound", "simulation", says="no task can have a greater share")
def noise_left_misjudged(snr_a: float, snr_b: float, beta1: float) -> float:
    c = 1 - beta1  # forgets that the noise is averaged too
    a, b = (snr_a + c) / (snr_a + 1), (snr_b + c) / (snr_b + 1)
    return a / (a + b)


@wrong("expected_share", "no_momentum", "simulation", "bound", says="root mean square")
def first_moment_only(snr_a: float, snr_b: float, beta1: float) -> float:
    c = (1 - beta1) / (1 + beta1)
    return (snr_a + c) / (snr_a + c + snr_b + c)


@wrong("expected_share", "simulation", says="simulated parameters give")
def ratio_of_standard_deviations(snr_a: float, snr_b: float, beta1: float) -> float:
    c = (1 - beta1) / (1 + beta1)
    a, b = (snr_a**2 + c) / (snr_a**2 + 1), (snr_b**2 + c) / (snr_b**2 + 1)
    return a / (a + b)


@wrong("expected_share", "more_signal", "bound", "simulation", says="above 1/2")
def perfect_balance(snr_a: float, snr_b: float, beta1: float) -> float:
    return 0.5


@wrong("expected_share", "equal_tasks", "swapped", "no_momentum", "bound", "simulation", says="tells the tasks apart")
def square_in_place_of_share(snr_a: float, snr_b: float, beta1: float) -> float:
    c = (1 - beta1) / (1 + beta1)
    return (snr_a + c) / (snr_a + 1)


@wrong("expected_share", "one_share", says="returned shape [2]; it should be []")
def both_shares(snr_a: float, snr_b: float, beta1: float) -> tuple[float, float]:
    c = (1 - beta1) / (1 + beta1)
    a, b = (snr_a + c) / (snr_a + 1), (snr_b + c) / (snr_b + 1)
    return a / (a + b), b / (a + b)
