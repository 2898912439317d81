"""Exercise 2 of notebook 01: main-task gains to first order, over several parameters."""

import torch
from torch import Tensor

from companion.coursework.checking import SCALES, Answer, Draw, Exercise, show

exercise = Exercise(
    2, "first_order_gains", ("gradients", "main_task", "trial_step"), lambda gradients, *_: (len(gradients),)
)


def two_parameters(draw: Draw, size: int) -> list[list[Tensor]]:
    """Gradients of `size` tasks with respect to a shared matrix [2, 1] and a shared vector [2]."""
    return [[draw.numbers(2, 1), draw.numbers(2)] for _ in range(size)]


@exercise.property
def one_gain_per_task(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns one gain per task and leaves the gradients as they are."""
    answer(two_parameters(draw, size), draw.index(size), 0.5)
    return None


@exercise.property
def own_gain(answer: Answer, draw: Draw, size: int) -> str | None:
    """The main task's own gain is the trial step times the squared length of its gradient."""
    gradients, main_task, step = two_parameters(draw, size), draw.index(size), draw.choice((0.1, 0.5, 2.0))
    found = answer(gradients, main_task, step)
    length = sum(float(g.square().sum()) for g in gradients[main_task])
    wanted = found.clone()
    wanted[main_task] = step * length
    return answer.should_be(wanted, f"the squared length over both parameters is {show(length)}, the step {step}.")


@exercise.property
def right_angle(answer: Answer, draw: Draw, size: int) -> str | None:
    """A gradient at right angles to the main one has gain 0, the opposite one minus the main task's gain."""
    matrix, vector = draw.numbers(2, 1), draw.numbers(2)
    other = [matrix * vector.square().sum(), -vector * matrix.square().sum()]  # the two products cancel
    gradients = [[matrix, vector], other, [-matrix, -vector]]
    found = answer(gradients, 0, 0.5)
    return answer.should_be(torch.stack([found[0], torch.zeros(()), -found[0]]), "task 0 is the main one.")


@exercise.property
def scaled_loss(answer: Answer, draw: Draw, size: int) -> str | None:
    """An auxiliary loss times s has s times its gain, and no other gain changes."""
    gradients, main_task, s = two_parameters(draw, size + 1), draw.index(size + 1), draw.choice((-2.0, *SCALES))
    before = answer(gradients, main_task, 0.5)
    task = (main_task + 1) % (size + 1)
    gradients[task] = [s * g for g in gradients[task]]
    answer(gradients, main_task, 0.5)
    factor = torch.ones(size + 1)
    factor[task] = s
    return answer.should_be(before * factor, f"before task {task} was multiplied by {s:g}, it was {show(before)}.")


@exercise.property
def longer_step(answer: Answer, draw: Draw, size: int) -> str | None:
    """Twice the trial step, twice the gains."""
    gradients, main_task = two_parameters(draw, size), draw.index(size)
    before = answer(gradients, main_task, 0.1)
    answer(gradients, main_task, 0.2)
    return answer.should_be(2 * before, f"with half the step it was {show(before)}.")


@exercise.property
def one_long_vector(answer: Answer, draw: Draw, size: int) -> str | None:
    """The gradients of all parameters count as one long vector, however it is cut into tensors."""
    gradients, main_task = two_parameters(draw, size), draw.index(size)
    joined = answer([[torch.cat([g.flatten() for g in task])] for task in gradients], main_task, 0.5)
    answer(gradients, main_task, 0.5)
    return answer.should_be(joined, "the gains when both parameters are written as one vector.")


@exercise.property
def permuted_gains(answer: Answer, draw: Draw, size: int) -> str | None:
    """Tasks in another order have the same gains in that order."""
    gradients, main_task, order = two_parameters(draw, size), draw.index(size), draw.order(size)
    before = answer(gradients, main_task, 0.5)
    answer([gradients[i] for i in order.tolist()], int((order == main_task).nonzero()), 0.5)
    return answer.should_be(before[order], f"with task {main_task} as the main one the gains were {show(before)}.")
