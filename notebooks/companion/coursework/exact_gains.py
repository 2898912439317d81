"""Exercise 3 of notebook 01: main-task gains by look-ahead, with the model left as it was."""

import torch
from torch import Tensor, nn

from companion.coursework.checking import Answer, Draw, Exercise, close, count, show

exercise = Exercise(
    3, "exact_gains", ("model", "losses_of", "main_task", "trial_step"), lambda _, bowls, *rest: (len(bowls.centres),)
)


class Place(nn.Module):
    """A model that is nothing but its shared parameters, a vector [2] and a number."""

    def __init__(self, at: Tensor) -> None:
        super().__init__()
        self.vector, self.number = nn.Parameter(at[:2].clone()), nn.Parameter(at[2].clone())

    def values(self) -> Tensor:
        """All parameters as one vector [3]."""
        return torch.cat([self.vector, self.number[None]])

    def __str__(self) -> str:
        return f"parameters {show(self.values())}"


class Bowls:
    """Losses of a place, one quadratic bowl per task: half the curvatures [T, 3] times the squared distances."""

    def __init__(self, centres: Tensor, curvatures: Tensor) -> None:
        self.centres, self.curvatures = centres, curvatures

    def __call__(self, model: Place) -> list[Tensor]:
        """The losses of the tasks at a place, T scalars."""
        return list(self.heights(model.values()).unbind())

    def heights(self, values: Tensor) -> Tensor:
        """The losses [T] at parameters [3]."""
        return (self.curvatures * (values - self.centres).square()).sum(-1) / 2

    def __str__(self) -> str:
        return f"bowls with centres {show(self.centres)} and curvatures {show(self.curvatures)}"


def bowls(draw: Draw, size: int) -> tuple[Place, Bowls]:
    """A place and `size` tasks."""
    return Place(draw.numbers(3)), Bowls(3 * draw.numbers(size, 3), draw.positive(size, 3))


@exercise.property
def one_exact_gain_per_task(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns one gain per task."""
    answer(*bowls(draw, size), draw.index(size), 0.1)
    return None


@exercise.property
def parameters_untouched(answer: Answer, draw: Draw, size: int) -> str | None:
    """The parameters come out as they went in, to the last bit."""
    model, losses_of = bowls(draw, size)
    before = model.values().detach()
    answer(model, losses_of, draw.index(size), 0.1)
    moved = (model.values().detach() - before).abs().max().item()
    if moved == 0:
        return None
    hint = " A step that is taken back by adding it again rounds: copy the old values back." if moved < 1e-12 else ""
    return (
        f"After exact_gains with {count(size, 'task')} the parameters {show(before)} have moved by {moved:.2g}.{hint}"
    )


@exercise.property
def gradients_untouched(answer: Answer, draw: Draw, size: int) -> str | None:
    """Nothing is left in p.grad."""
    model, losses_of = bowls(draw, size)
    answer(model, losses_of, draw.index(size), 0.1)
    left = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if not left:
        return None
    name, grad = next(iter(left.items()))
    return (
        f"After exact_gains with {count(size, 'task')}, {name}.grad is {show(grad)}, where it was None. "
        "torch.autograd.grad returns gradients and leaves p.grad alone."
    )


@exercise.property
def same_start(answer: Answer, draw: Draw, size: int) -> str | None:
    """A task that is there twice has the same gain twice: every trial starts at the same place."""
    model, losses_of = bowls(draw, size)
    twice = [*range(size), 0]
    found = answer(model, Bowls(losses_of.centres[twice], losses_of.curvatures[twice]), draw.index(size), 0.1)
    return answer.should_be(torch.cat([found[:-1], found[:1]]), "the last task is the first one again.")


@exercise.property
def tangent(answer: Answer, draw: Draw, size: int) -> str | None:
    """For a very small step the gains are the first-order ones: the step times the product with the main gradient."""
    model, losses_of = bowls(draw, size)
    main_task, step = draw.index(size), 1e-6
    gradients = losses_of.curvatures * (model.values().detach() - losses_of.centres)  # [T, 3]
    first_order = gradients @ gradients[main_task]  # of a step of length 1
    if close(answer(model, losses_of, main_task, step) / step, first_order, tolerance=1e-3):
        return None
    return answer.should_be(step * first_order, "the first-order gains.")


@exercise.property
def overshoot(answer: Answer, draw: Draw, size: int) -> str | None:
    """In a round bowl of curvature h the main task's step 1/h gains its whole loss, and its step 2/h nothing."""
    model, losses_of = bowls(draw, size)
    main_task, h = draw.index(size), draw.choice((0.5, 1.0, 2.0))
    losses_of.curvatures[main_task] = h
    whole = losses_of.heights(model.values().detach())[main_task]
    for step, gain, where in ((1 / h, whole, "the bottom"), (2 / h, torch.zeros(()), "the other side, equally high")):
        wanted = answer(model, losses_of, main_task, step).clone()
        wanted[main_task] = gain
        if problem := answer.should_be(wanted, f"that step of task {main_task} leads to {where}."):
            return problem
    return None


@exercise.property
def permuted_exact_gains(answer: Answer, draw: Draw, size: int) -> str | None:
    """Tasks in another order have the same gains in that order."""
    (model, losses_of), main_task, order = bowls(draw, size), draw.index(size), draw.order(size)
    before = answer(model, losses_of, main_task, 0.1)
    other = Bowls(losses_of.centres[order], losses_of.curvatures[order])
    answer(model, other, int((order == main_task).nonzero()), 0.1)
    return answer.should_be(before[order], f"with task {main_task} as the main one the gains were {show(before)}.")
