"""Exercise 4 of notebook 05: weights that count, and weight decay that is counted once (our design)."""

import torch

from companion.coursework.adatask_adam import SETTINGS, by_torch
from companion.coursework.checking import Answer, Draw, Exercise, count, show

ARGUMENTS = ("theta", "gradients", "task_weights", "lr", "beta1", "beta2", "eps", "weight_decay")
exercise = Exercise(4, "adatask_adamw", ARGUMENTS, lambda theta, *_: tuple(theta.shape))


@exercise.property
def one_place(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns theta after all steps, [n], and leaves its arguments as they are."""
    answer(draw.numbers(2), draw.numbers(2, size, 2), draw.positive(size), *SETTINGS, 0.5)
    return None


@exercise.property
def one_task_is_adamw(answer: Answer, draw: Draw, size: int) -> str | None:
    """With one task of weight 1 it is torch.optim.AdamW."""
    theta, gradients = draw.numbers(1), draw.numbers(size, 1, 1)
    settings = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-10, "weight_decay": 0.5}
    path = by_torch(theta, gradients[:, 0], torch.optim.AdamW, **settings)
    answer(theta, gradients, torch.ones(1), *SETTINGS, 0.5)
    return answer.should_be(path[-1], f"where torch.optim.AdamW is after {count(size, 'step')}.")


@exercise.property
def decay_once(answer: Answer, draw: Draw, size: int) -> str | None:
    """Without gradients theta shrinks by the factor 1 - lr * weight_decay per step, however many tasks there are."""
    theta, steps, decay = draw.numbers(1), 1 + draw.index(3), draw.choice((0.5, 1.0))
    answer(theta, torch.zeros(steps, size, 1), draw.positive(size), *SETTINGS, decay)
    factor = (1 - 0.1 * decay) ** steps
    return answer.should_be(theta * factor, f"{show(theta)} times {show(factor)}, for {count(steps, 'step')}.")


@exercise.property
def weights_count(answer: Answer, draw: Draw, size: int) -> str | None:
    """Without decay, theta moves by the weighted sum of what each task does alone with weight 1."""
    theta, gradients, task_weights = draw.numbers(1), draw.numbers(2, size, 1), draw.positive(size)
    alone = [answer(theta, gradients[:, [k]], torch.ones(1), *SETTINGS, 0.0) - theta for k in range(size)]
    moves = torch.cat(alone)  # [T]
    answer(theta, gradients, task_weights, *SETTINGS, 0.0)
    wanted = theta + (task_weights * moves).sum(0, keepdim=True)
    return answer.should_be(wanted, f"alone, with weight 1, the tasks move theta by {show(moves)}.")


@exercise.property
def erased_loss_weight(answer: Answer, draw: Draw, size: int) -> str | None:
    """A constant weight on one task's loss, here 1000, still changes nothing."""
    theta, gradients, task_weights = draw.numbers(1), draw.numbers(size, 2, 1), draw.positive(2)
    before = answer(theta, gradients, task_weights, *SETTINGS, 0.5)
    gradients[:, 1] *= 1000
    answer(theta, gradients, task_weights, *SETTINGS, 0.5)
    return answer.should_be(before, "where it ended before task 1's loss was multiplied by 1000.", tolerance=1e-6)


@exercise.property
def weight_zero(answer: Answer, draw: Draw, size: int) -> str | None:
    """A task of weight 0 is as good as absent."""
    theta, gradients, task_weights = draw.numbers(1), draw.numbers(2, size + 1, 1), draw.positive(size + 1)
    before = answer(theta, gradients[:, 1:], task_weights[1:], *SETTINGS, 0.5)
    task_weights[0] = 0
    answer(theta, gradients, task_weights, *SETTINGS, 0.5)
    return answer.should_be(before, "where it ends without task 0.")


@exercise.property
def order_of_tasks(answer: Answer, draw: Draw, size: int) -> str | None:
    """The order of the tasks, with their weights, does not matter."""
    theta, gradients, task_weights = draw.numbers(1), draw.numbers(2, size, 1), draw.positive(size)
    before, order = answer(theta, gradients, task_weights, *SETTINGS, 0.5), draw.order(size)
    answer(theta, gradients[:, order], task_weights[order], *SETTINGS, 0.5)
    return answer.should_be(before, f"where it ended with the weights in the order {show(task_weights)}.")
