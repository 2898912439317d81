"""Exercise 2 of notebook 05: AdaTask-Adam, one optimizer per task in all but name."""

from typing import Any

import torch
from torch import Tensor

from companion.coursework.checking import Answer, Draw, Exercise, count, show

ARGUMENTS = ("theta", "gradients", "lr", "beta1", "beta2", "eps")
exercise = Exercise(2, "adatask_adam", ARGUMENTS, lambda theta, *_: tuple(theta.shape))
SETTINGS = (0.1, 0.8, 0.9, 1e-10)  # lr, beta1, beta2, eps


def by_torch(theta: Tensor, gradients: Tensor, optimizer: type[torch.optim.Optimizer], **settings: Any) -> Tensor:
    """Where an optimizer of torch leads from theta [n] with gradients [S, n]: the path [S, n]."""
    p = torch.nn.Parameter(theta.clone())
    steps, path = optimizer([p], **settings), []
    for gradient in gradients:
        p.grad = gradient.clone()
        steps.step()
        path.append(p.detach().clone())
    return torch.stack(path)


@exercise.property
def one_place(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns theta after all steps, [n], and leaves its arguments as they are."""
    answer(draw.numbers(2), draw.numbers(2, size, 2), *SETTINGS)
    return None


@exercise.property
def one_task_is_adam(answer: Answer, draw: Draw, size: int) -> str | None:
    """With one task it is torch.optim.Adam."""
    theta, gradients, eps = draw.numbers(1), draw.numbers(size, 1, 1), draw.choice((1e-8, 0.1))
    path = by_torch(theta, gradients[:, 0], torch.optim.Adam, lr=0.1, betas=(0.8, 0.9), eps=eps)
    answer(theta, gradients, 0.1, 0.8, 0.9, eps)
    return answer.should_be(path[-1], f"where torch.optim.Adam is after {count(size, 'step')}.")


@exercise.property
def tasks_do_not_meet(answer: Answer, draw: Draw, size: int) -> str | None:
    """The tasks' moves add up: together they move theta by the sum of what each does alone."""
    theta, gradients = draw.numbers(1), draw.numbers(2, size + 1, 1)
    alone = [answer(theta, gradients[:, [k]], *SETTINGS) - theta for k in range(size + 1)]
    answer(theta, gradients, *SETTINGS)
    moves = torch.cat(alone)
    return answer.should_be(theta + moves.sum(0, keepdim=True), f"alone the tasks move theta by {show(moves)}.")


@exercise.property
def erased_weight(answer: Answer, draw: Draw, size: int) -> str | None:
    """A constant weight on one task's loss, here 1000, changes nothing."""
    theta, gradients = draw.numbers(1), draw.numbers(size, 2, 1)
    before = answer(theta, gradients, *SETTINGS)
    gradients[:, 1] *= 1000
    answer(theta, gradients, *SETTINGS)
    return answer.should_be(before, "where it ended before task 1's loss was multiplied by 1000.", tolerance=1e-6)


@exercise.property
def summed(answer: Answer, draw: Draw, size: int) -> str | None:
    """Updates are summed, not averaged: the first step of T tasks that agree is T times the learning rate."""
    theta, gradients = draw.numbers(1), draw.positive(1, size, 1)
    answer(theta, gradients, *SETTINGS)
    return answer.should_be(theta - 0.1 * size, f"{count(size, 'task')}, each moving by 0.1.", tolerance=1e-6)


@exercise.property
def silent_task(answer: Answer, draw: Draw, size: int) -> str | None:
    """A task whose gradient is always 0 does not move theta, and spoils nothing."""
    theta, gradients = draw.numbers(1), draw.numbers(size, 1, 1)
    before = answer(theta, gradients, *SETTINGS)
    answer(theta, torch.cat([gradients, torch.zeros(size, 1, 1)], 1), *SETTINGS)
    return answer.should_be(before, "where it ended without the silent task.")


@exercise.property
def order_of_tasks(answer: Answer, draw: Draw, size: int) -> str | None:
    """The order of the tasks does not matter."""
    theta, gradients, order = draw.numbers(1), draw.numbers(2, size, 1), draw.order(size)
    before = answer(theta, gradients, *SETTINGS)
    answer(theta, gradients[:, order], *SETTINGS)
    return answer.should_be(before, f"where it ended with the tasks in another order, {show(gradients)}.")
