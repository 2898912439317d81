"""Answers that a student might plausibly give: each is the solution with a mistake put in, and what has to find it.

Not in the students' version: all but the mistake is right.
"""

import inspect
import runpy
from collections.abc import Callable
from typing import Any, NamedTuple

from companion.coursework import BY_NAME, EXERCISES
from companion.store import paths

SOLUTIONS = {name: paths.NOTEBOOKS / "solutions" / f"{name}.py" for name in EXERCISES}
RIGHT: dict[str, Callable[..., Any]] = {
    name: function
    for path in SOLUTIONS.values()
    for name, function in runpy.run_path(str(path)).items()
    if name in BY_NAME
}


class Mistake(NamedTuple):
    """What stands once in the solution and what replaces it, the properties that then fail, and what the first says."""

    edits: dict[str, str]
    red: str
    says: str


def wrong_answer(exercise: str, mistake: str) -> Callable[..., Any]:
    """The solution with a mistake in it."""
    source = inspect.getsource(RIGHT[exercise])
    for right, wrong in MISTAKES[exercise][mistake].edits.items():
        if source.count(right) != 1:
            raise ValueError(f"The solution of {exercise} should hold `{right}` once. Found:\n{source}")
        source = source.replace(right, wrong)
    namespace = dict(RIGHT[exercise].__globals__)
    exec(source, namespace)
    function: Callable[..., Any] = namespace[exercise]
    return function


MISTAKES: dict[str, dict[str, Mistake]] = {
    "weights_from_gains": {
        "negative gains kept": Mistake(
            {".clamp(min=0)": ""}, "they_sum_to_one no_help_no_weight main_task_alone", "with the sum"
        ),
        "nothing to divide by": Mistake({"helpful.sum() == 0": "False"}, "they_sum_to_one main_task_alone", "sum nan"),
        "the main task is the first": Mistake(
            {"weights[main_task]": "weights[0]"}, "main_task_alone permuted_weights", "and no gain is positive"
        ),
        "softmax": Mistake(
            {"helpful.sum() == 0": "False", "helpful / helpful.sum()": "gains.softmax(0)"},
            "ratio_of_gains no_help_no_weight main_task_alone other_units",
            "ratios",
        ),
        "epsilon below": Mistake(
            {"/ helpful.sum()": "/ (helpful.sum() + 1e-10)"}, "other_units", "1e+12 times as large"
        ),
        "clamped in place": Mistake(
            {"clamp(": "clamp_("}, "one_weight_per_task", "changed its argument gains in place"
        ),
    },
    "first_order_gains": {
        "cosine in place of product": Mistake(
            {
                "sum((m * g).sum() for m, g in zip(gradients[main_task], task)) for": "torch.cosine_similarity("
                "*(torch.cat([g.flatten() for g in each]) for each in (gradients[main_task], task)), dim=0) for"
            },
            "own_gain scaled_loss",
            "squared length over both parameters",
        ),
        "own loss": Mistake({"gradients[main_task]": "task"}, "right_angle scaled_loss", "task 0 is the main one"),
        "step forgotten": Mistake({"trial_step * ": ""}, "own_gain longer_step", "the step"),
        "mean over parameters": Mistake(
            {"(products)": "(products) / len(gradients[0])"}, "own_gain one_long_vector", "squared length over both"
        ),
        "main task is zero": Mistake(
            {"[main_task]": "[0]"}, "own_gain scaled_loss permuted_gains", "squared length over both parameters"
        ),
        "one gain per parameter": Mistake(
            {"[sum((m * g)": "[torch.stack([(m * g)", ", task)) for": ", task)]) for"},
            "one_gain_per_task",
            "returned shape [1, 2]; it should be [1]",
        ),
    },
    "exact_gains": {
        "never put back": Mistake(
            {"p_start - trial_step": "p - trial_step", "p.copy_(p_start)": "pass"},
            "parameters_untouched same_start tangent overshoot permuted_exact_gains",
            "moved",
        ),
        "put back only at the end": Mistake(
            {"p_start - trial_step": "p - trial_step"},
            "same_start tangent overshoot permuted_exact_gains",
            "the first one again",
        ),
        "added again": Mistake(
            {
                "p.copy_(p_start - trial_step * g)": "p.sub_(trial_step * g)",
                "[main_task])\n": "[main_task])\n            for p, g in zip(parameters, task):\n"
                "                p.add_(trial_step * g)\n",
                "p.copy_(p_start)": "pass",
            },
            "parameters_untouched",
            "copy the old values back",
        ),
        "each task its own loss": Mistake(
            {"losses[main_task] - losses_of(model)[main_task]": "losses[len(gains)] - losses_of(model)[len(gains)]"},
            "tangent",
            "the first-order gains",
        ),
        "no look-ahead": Mistake(
            {
                "losses[main_task] - losses_of(model)[main_task]": "trial_step * "
                "sum((m * g).sum() for m, g in zip(gradients[main_task], task))"
            },
            "overshoot",
            "leads to",
        ),
        "backward in place of grad": Mistake(
            {
                "torch.autograd.grad(loss, parameters, retain_graph=True)": "(model.zero_grad(), "
                "loss.backward(retain_graph=True), [p.grad for p in parameters])[-1]"
            },
            "gradients_untouched",
            ".grad is",
        ),
        "only the main task": Mistake(
            {"torch.stack(gains)": "gains[main_task]"}, "one_exact_gain_per_task", "returned shape []; it should be [1]"
        ),
    },
    "scale_free_contributions": {
        "HydaLearn itself": Mistake(
            {
                "main.norm() * cosine.clamp": "(gradients @ main / main.square().sum()).clamp",
                "None] * directions": "None] * gradients",
            },
            "scaled_away",
            "multiplied by",
        ),
        "hard gate": Mistake({"cosine.clamp(min=0)": "(cosine > 0)"}, "equal_lengths", "the cosines are"),
        "all of unit length": Mistake(
            {"main.norm() * ": "", "contributions[main_task] = main": "pass"},
            "main_contribution common_scale equal_lengths",
            "weight 1",
        ),
        "only the weight normalised": Mistake(
            {"main.norm() * ": "", "None] * directions": "None] * gradients"}, "scaled_away", "multiplied by"
        ),
        "divides by zero": Mistake(
            {"lengths.where(lengths > 0, 1)": "lengths"}, "conflict_contributes_nothing", "no positive product"
        ),
        "main task is the first one": Mistake(
            {"main = gradients[main_task]": "main_task = 0\n    main = gradients[0]"},
            "main_contribution scaled_away conflict_contributes_nothing equal_lengths permuted_contributions",
            "weight 1",
        ),
        "their sum": Mistake(
            {"return contributions": "return contributions.sum(0)"},
            "one_contribution_per_task",
            "returned shape [2]; it should be [1, 2]",
        ),
    },
    "unbiased_gain": {
        "product of means": Mistake(
            {"(all_pairs - same) / (count * (count - 1))": "all_pairs / count**2"},
            "right_on_average contradiction",
            "on average; it should be",
        ),
        "all pairs counted": Mistake(
            {"(count - 1)": "count"}, "no_noise right_on_average contradiction", "times the product of"
        ),
        "two halves": Mistake(
            {
                "(all_pairs - same) / (count * (count - 1))": "main_gradients[: count // 2].mean(0)"
                " @ task_gradients[count // 2 :].mean(0)"
            },
            "order_of_examples",
            "in the order",
        ),
        "product without sum": Mistake(
            {"(0) @": "(0) *", "gradients).sum()": "gradients).sum(0)"},
            "one_number",
            "returned shape [1]; it should be []",
        ),
    },
    "relative_updates": {
        "sizes in place of squares": Mistake({"update**2": "update.abs()"}, "squares", "times as far"),
        "squared after averaging": Mistake(
            {"update**2": "update", "au / au.sum": "au**2 / (au**2).sum"},
            "direction_does_not_count forgetting",
            "positive",
        ),
        "summed without decay": Mistake({"rho * au + (1 - rho) *": "au +"}, "forgetting", "before task 1"),
        "rho the wrong way round": Mistake(
            {"rho * au + (1 - rho) *": "(1 - rho) * au + rho *"}, "forgetting", "before task 1"
        ),
        "epsilon hides dead parameters": Mistake(
            {"au.sum(0)": "(au.sum(0) + 1e-8)"}, "squares forgetting nobody_moved_it", "times as far"
        ),
        "shares over parameters": Mistake(
            {"sum(0)": "sum(1, keepdim=True)"}, "shares_sum_to_one squares forgetting nobody_moved_it", "over the tasks"
        ),
        "two tasks assumed": Mistake(
            {"au.sum(0)": "(au[0] + au[-1])"}, "shares_sum_to_one permuted_shares", "over the tasks"
        ),
        "shares of every step": Mistake(
            {"au / au.sum(0)": "updates**2 / (updates**2).sum(1, keepdim=True)"},
            "one_share_each",
            "returned shape [2, 1, 2]; it should be [1, 2]",
        ),
    },
    "adatask_adam": {
        "joint Adam": Mistake(
            {"m, G =": "gradients = gradients.sum(1, keepdim=True)\n    m, G ="},
            "tasks_do_not_meet erased_weight summed",
            "alone the tasks move theta",
        ),
        "shared accumulator": Mistake(
            {"g**2": "(g**2).sum(0)"}, "tasks_do_not_meet erased_weight summed", "alone the tasks move theta"
        ),
        "averaged": Mistake({".sum(0)": ".mean(0)"}, "tasks_do_not_meet summed silent_task", "alone the tasks"),
        "no bias correction": Mistake(
            {"m / (1 - beta1**t), G / (1 - beta2**t)": "m, G"}, "one_task_is_adam summed", "where torch.optim.Adam is"
        ),
        "epsilon in the root": Mistake(
            {"(G_hat.sqrt() + eps)": "(G_hat + eps**2).sqrt()"}, "one_task_is_adam", "where torch.optim.Adam is"
        ),
        "counted from zero": Mistake(
            {"start=1": "start=0", "m / (1 - beta1**t)": "m * (1 / (1 - beta1**t))"},
            "one_place",
            "raised ZeroDivisionError: ",
        ),
        "moments not kept apart": Mistake(
            {
                "gradients[0]), torch.zeros_like(gradients[0])": "theta), torch.zeros_like(theta)",
                "in enumerate(gradients, start=1)": "in ((1 + i, g) for i, rows in enumerate(gradients) for g in rows)",
                ").sum(0)": ")",
            },
            "tasks_do_not_meet erased_weight summed silent_task order_of_tasks",
            "alone",
        ),
    },
    "joint_adam_parts": {
        "parts of AdaTask": Mistake(
            {"g.sum(0) **": "g **"},
            "parts_make_the_whole parts_are_as_the_gradients momentum_has_an_owner",
            "returned parts with the sums",
        ),
        "sum of squares": Mistake(
            {"g.sum(0) ** 2": "(g**2).sum(0)"}, "parts_make_the_whole", "returned parts with the sums"
        ),
        "equal parts": Mistake(
            {"(1 - beta1) * g": "(1 - beta1) * g.mean(0)"},
            "no_gradient_no_part parts_are_as_the_gradients momentum_has_an_owner",
            "task 1 had",
        ),
        "by the current gradient": Mistake(
            {"-lr * m /": "-lr * m.sum(0) * g / g.sum(0).where(g.sum(0) != 0, 1) /"},
            "parts_make_the_whole momentum_has_an_owner",
            "with the sums",
        ),
        "task after task": Mistake(  # what joint Adam does with the first k tasks, less what it does with k - 1
            {
                "enumerate(gradients,": "enumerate(gradients.cumsum(1),",
                "g.sum(0) **": "g **",
                "(parts)": "(parts).diff(dim=1, prepend=torch.zeros_like(gradients[:, :1]))",
            },
            "parts_are_as_the_gradients permuted_parts momentum_has_an_owner",
            "the same root",
        ),
        "last step only": Mistake(
            {"torch.stack(parts)": "parts[-1]"}, "one_part_each", "returned shape [1, 2]; it should be [2, 1, 2]"
        ),
    },
    "adatask_adamw": {
        "decay per task": Mistake(
            {"weight_decay) * theta": "weight_decay) ** len(task_weights) * theta"}, "decay_once weight_zero", "times"
        ),
        "weights on the losses": Mistake(
            {"(task_weights[:, None] * ": "(", "enumerate(gradients": "enumerate(task_weights[:, None] * gradients"},
            "weights_count",
            "alone, with weight 1",
        ),
        "decay in the gradient": Mistake(
            {
                "m = beta1": "g = g + weight_decay * theta / len(task_weights)\n        m = beta1",
                "(1 - lr * weight_decay) * theta": "theta",
            },
            "one_task_is_adamw decay_once erased_loss_weight weight_zero",
            "torch.optim.AdamW",
        ),
        "decay after the update": Mistake(
            {"* theta - lr": "* (theta - lr", "updates).sum(0)": "updates).sum(0))"},
            "one_task_is_adamw",
            "torch.optim.AdamW",
        ),
        "decay times the weights": Mistake(
            {"lr * weight_decay": "lr * weight_decay * task_weights.sum()"}, "decay_once", "times"
        ),
        "weights relative to the first": Mistake(
            {"[:, None] *": "[:, None] / task_weights[0] *"},
            "weights_count weight_zero order_of_tasks",
            "alone, with weight 1",
        ),
        "theta itself moved": Mistake(
            {"theta = (1 - lr * weight_decay) * theta -": "theta *= 1 - lr * weight_decay\n        theta -="},
            "one_place",
            "changed its argument theta in place",
        ),
    },
    "expected_share": {
        "noise left misjudged": Mistake({" / (1 + beta1)": ""}, "bound simulation", "no task can have a greater share"),
        "first moment only": Mistake(
            {" / (snr_a + 1)": "", " / (snr_b + 1)": ""}, "no_momentum simulation bound", "root mean square"
        ),
        "ratio of standard deviations": Mistake(
            {
                "(snr_a + c) / (snr_a + 1)": "(snr_a**2 + c) / (snr_a**2 + 1)",
                "(snr_b + c) / (snr_b + 1)": "(snr_b**2 + c) / (snr_b**2 + 1)",
            },
            "simulation",
            "simulated parameters give",
        ),
        "perfect balance": Mistake(
            {"square_a / (square_a + square_b)": "0.5"}, "more_signal bound simulation", "above 1/2"
        ),
        "square in place of share": Mistake(
            {" / (square_a + square_b)": ""},
            "equal_tasks swapped no_momentum bound simulation",
            "tells the tasks apart",
        ),
        "both shares": Mistake(
            {"square_a / (": "square_a / (square_a + square_b), square_b / ("},
            "one_share",
            "returned shape [2]; it should be []",
        ),
    },
}
