"""Exercise 3 of notebook 05: which part of ordinary Adam's update belongs to which task."""

import torch

from companion.coursework.adatask_adam import SETTINGS, by_torch
from companion.coursework.checking import SCALES, Answer, Draw, Exercise, count, show

ARGUMENTS = ("gradients", "lr", "beta1", "beta2", "eps")
exercise = Exercise(3, "joint_adam_parts", ARGUMENTS, lambda gradients, *_: tuple(gradients.shape))


@exercise.property
def one_part_each(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns one part per step, task and parameter, [S, T, n], and leaves the gradients as they are."""
    answer(draw.numbers(2, size, 2), *SETTINGS)
    return None


@exercise.property
def parts_make_the_whole(answer: Answer, draw: Draw, size: int) -> str | None:
    """In every step the parts sum to the step of torch.optim.Adam with the summed gradients."""
    gradients, eps = draw.numbers(size, 2, 1), draw.choice((1e-8, 0.1))
    path = by_torch(torch.zeros(1), gradients.sum(1), torch.optim.Adam, lr=0.1, betas=(0.8, 0.9), eps=eps)
    steps = path.diff(dim=0, prepend=torch.zeros(1, 1))  # [S, n]
    found = answer(gradients, 0.1, 0.8, 0.9, eps).sum(1)
    answer.returned = found
    problem = answer.should_be(steps, "the steps of torch.optim.Adam with the summed gradients.")
    return problem and problem.replace(" returned ", " returned parts with the sums ")


@exercise.property
def no_gradient_no_part(answer: Answer, draw: Draw, size: int) -> str | None:
    """A task that never had a gradient has no part."""
    gradients = draw.numbers(size, 2, 1)
    gradients[:, 1] = 0
    wanted = answer(gradients, *SETTINGS).clone()
    wanted[:, 1] = 0
    return answer.should_be(wanted, "task 1 had no gradient.")


@exercise.property
def parts_are_as_the_gradients(answer: Answer, draw: Draw, size: int) -> str | None:
    """A task whose gradients are always s times another's has s times its part."""
    first, s = draw.numbers(size, 1, 1), draw.choice(SCALES)
    found = answer(torch.cat([first, s * first], 1), *SETTINGS)
    wanted = torch.cat([found[:, :1], s * found[:, :1]], 1)
    return answer.should_be(wanted, f"task 1's gradients are {s:g} times task 0's; both are divided by the same root.")


@exercise.property
def momentum_has_an_owner(answer: Answer, draw: Draw, size: int) -> str | None:
    """A gradient of k steps ago still moves the parameter, for its own task, beta1 to the power k as much."""
    gradients = torch.zeros(size + 1, 2, 1)
    gradients[0, 0], gradients[size, 1] = draw.numbers(1), draw.numbers(1)
    found = answer(gradients, *SETTINGS)
    wanted = found.clone()
    wanted[size, 0] = found[size, 1] * 0.8**size * gradients[0, 0] / gradients[size, 1]
    return answer.should_be(
        wanted, f"task 0 had its gradient {count(size, 'step')} before the last, task 1 in the last."
    )


@exercise.property
def permuted_parts(answer: Answer, draw: Draw, size: int) -> str | None:
    """Tasks in another order have the same parts in that order."""
    gradients, order = draw.numbers(2, size, 1), draw.order(size)
    before = answer(gradients, *SETTINGS)
    answer(gradients[:, order], *SETTINGS)
    return answer.should_be(before[:, order], f"in the order before, they were {show(before)}.")
