"""Exercise 1 of notebook 01: HydaLearn's weights from given gains."""

import torch

from companion.coursework.checking import Answer, Draw, Exercise, show

exercise = Exercise(1, "weights_from_gains", ("gains", "main_task"), lambda gains, _: tuple(gains.shape))


@exercise.property
def one_weight_per_task(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns one weight per task and leaves the gains as they are."""
    answer(draw.numbers(size), draw.index(size))
    return None


@exercise.property
def they_sum_to_one(answer: Answer, draw: Draw, size: int) -> str | None:
    """Weights are not negative and sum to 1, whatever the gains."""
    found = answer(draw.numbers(size), draw.index(size))
    if bool((found >= 0).all()) and abs(float(found.sum()) - 1) < 1e-6:
        return None
    return f"{answer.call} returned {show(found)}, with the sum {show(float(found.sum()))}."


@exercise.property
def ratio_of_gains(answer: Answer, draw: Draw, size: int) -> str | None:
    """Weights of tasks that help are in the ratio of their gains."""
    gains = draw.positive(size)
    found = answer(gains, draw.index(size))
    return answer.should_be(found[0] / gains[0] * gains, "the ratios of the gains, measured from the first task.")


@exercise.property
def no_help_no_weight(answer: Answer, draw: Draw, size: int) -> str | None:
    """A task whose gain is not positive gets weight 0 while another one helps."""
    gains = draw.numbers(size + 1) * (draw.positive(size + 1) > 0.5)  # some are 0
    gains[draw.index(size + 1)] = 1.0
    found = answer(gains, draw.index(size + 1))
    return answer.should_be(found.where(gains > 0, torch.zeros(())), "no weight for a gain of 0 or less.")


@exercise.property
def main_task_alone(answer: Answer, draw: Draw, size: int) -> str | None:
    """Where no gain is positive, the main task gets weight 1 and every other 0."""
    gains, main_task = -draw.positive(size) * draw.index(2), draw.index(size)  # half of the time all are 0
    answer(gains, main_task)
    return answer.should_be(torch.eye(size)[main_task], f"task {main_task} is the main one and no gain is positive.")


@exercise.property
def other_units(answer: Answer, draw: Draw, size: int) -> str | None:
    """Gains in other units, all times the same positive number, give the same weights."""
    gains, main_task, unit = draw.numbers(size), draw.index(size), draw.choice((1e-12, 1e-3, 1e12))
    before = answer(gains, main_task)
    answer(gains * unit, main_task)
    return answer.should_be(before, f"the weights of gains {1 / unit:g} times as large.")


@exercise.property
def permuted_weights(answer: Answer, draw: Draw, size: int) -> str | None:
    """Tasks in another order get the same weights in that order."""
    gains, main_task, order = draw.numbers(size), draw.index(size), draw.order(size)
    before = answer(gains, main_task)
    answer(gains[order], int((order == main_task).nonzero()))
    return answer.should_be(before[order], f"the weights of the gains {show(gains)} in the other order.")
