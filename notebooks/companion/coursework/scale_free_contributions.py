"""Exercise 4 of notebook 01: a HydaLearn that does not mind the scale of an auxiliary loss (our design)."""

import torch

from companion.coursework.checking import SCALES, Answer, Draw, Exercise, show

exercise = Exercise(
    4, "scale_free_contributions", ("gradients", "main_task"), lambda gradients, _: tuple(gradients.shape)
)


@exercise.property
def one_contribution_per_task(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns one contribution per task, of the gradients' shape, and leaves the gradients as they are."""
    answer(draw.numbers(size, 2), draw.index(size))
    return None


@exercise.property
def main_contribution(answer: Answer, draw: Draw, size: int) -> str | None:
    """The main task contributes its own gradient."""
    gradients, main_task = draw.numbers(size, 2), draw.index(size)
    wanted = answer(gradients, main_task).clone()
    wanted[main_task] = gradients[main_task]
    return answer.should_be(wanted, f"row {main_task} is the main gradient, with weight 1.")


@exercise.property
def scaled_away(answer: Answer, draw: Draw, size: int) -> str | None:
    """An auxiliary loss times s contributes what it did before (HydaLearn's would contribute s squared as much)."""
    gradients, main_task, s = draw.numbers(size + 1, 2), draw.index(size + 1), draw.choice(SCALES)
    before = answer(gradients, main_task)
    task = (main_task + 1) % (size + 1)
    gradients[task] *= s
    answer(gradients, main_task)
    return answer.should_be(before, f"the contributions before task {task} was multiplied by {s:g}.")


@exercise.property
def common_scale(answer: Answer, draw: Draw, size: int) -> str | None:
    """All losses times s contribute s times as much, as ordinary gradients do."""
    gradients, main_task, s = draw.numbers(size, 2), draw.index(size), draw.choice(SCALES)
    before = answer(gradients, main_task)
    answer(s * gradients, main_task)
    return answer.should_be(s * before, f"{s:g} times what {show(gradients)} gave.")


@exercise.property
def conflict_contributes_nothing(answer: Answer, draw: Draw, size: int) -> str | None:
    """A task in conflict with the main one, or without any gradient, contributes nothing."""
    gradients, main_task = draw.numbers(size + 1, 2), draw.index(size + 1)
    task = (main_task + 1) % (size + 1)
    gradients[task] = draw.choice((-1.0, 0.0)) * gradients[main_task] * draw.positive(2)
    wanted = answer(gradients, main_task).clone()
    wanted[task] = 0
    return answer.should_be(wanted, f"task {task} has no positive product with the main gradient.")


@exercise.property
def equal_lengths(answer: Answer, draw: Draw, size: int) -> str | None:
    """Where all gradients are equally long, it is HydaLearn with main weight 1: cosine times gradient, if positive."""
    components = draw.positive(3)
    signs = 2.0 * torch.stack([draw.positive(3) > 1 for _ in range(size + 1)]) - 1
    gradients = torch.stack([components[draw.order(3)] for _ in range(size + 1)]) * signs
    main_task = draw.index(size + 1)
    cosine = gradients @ gradients[main_task] / gradients[main_task].square().sum()  # [T]
    answer(gradients, main_task)
    return answer.should_be(cosine.clamp(min=0)[:, None] * gradients, f"the cosines are {show(cosine)}.")


@exercise.property
def permuted_contributions(answer: Answer, draw: Draw, size: int) -> str | None:
    """Tasks in another order contribute the same in that order."""
    gradients, main_task, order = draw.numbers(size, 2), draw.index(size), draw.order(size)
    before = answer(gradients, main_task)
    answer(gradients[order], int((order == main_task).nonzero()))
    return answer.should_be(before[order], f"with task {main_task} as the main one it was {show(before)}.")
