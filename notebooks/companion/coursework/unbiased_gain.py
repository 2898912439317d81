"""Exercise 5 of notebook 01: a gain that the noise of the mini-batch does not flatter (our design)."""

import itertools

import torch

from companion.coursework.checking import Answer, Draw, Exercise, close, show

exercise = Exercise(5, "unbiased_gain", ("main_gradients", "task_gradients", "trial_step"), lambda *_: ())


@exercise.property
def one_number(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns one number and leaves the gradients as they are."""
    answer(draw.numbers(size + 1, 1), draw.numbers(size + 1, 1), 0.5)
    return None


@exercise.property
def no_noise(answer: Answer, draw: Draw, size: int) -> str | None:
    """Where all examples are alike, it is the ordinary first-order gain."""
    main, task, step = draw.numbers(2), draw.numbers(2), draw.choice((0.1, 0.5))
    answer(main.repeat(size + 1, 1), task.repeat(size + 1, 1), step)
    return answer.should_be(step * main @ task, f"{step} times the product of {show(main)} and {show(task)}.")


@exercise.property
def right_on_average(answer: Answer, draw: Draw, size: int) -> str | None:
    """Averaged over all mini-batches that three examples can give, it is the gain of the three examples' mean."""
    if size > 2:  # 27 mini-batches of 3 examples; a larger one tells nothing new
        return None
    main, task, step = draw.numbers(3, 1), draw.numbers(3, 1), draw.choice((0.1, 0.5))
    batches = [list(batch) for batch in itertools.product(range(3), repeat=size + 1)]  # drawn with replacement
    mean = torch.stack([answer(main[batch], task[batch], step) for batch in batches]).mean()
    wanted = step * (main.mean(0) @ task.mean(0))
    if close(mean, wanted):
        return None
    return (
        f"Three examples with main gradients {show(main)} and task gradients {show(task)}, step {step}: over the "
        f"{len(batches)} mini-batches of {size + 1} it is {show(mean.item())} on average; it should be "
        f"{show(wanted.item())}, the gain of the mean gradients."
    )


@exercise.property
def contradiction(answer: Answer, draw: Draw, size: int) -> str | None:
    """Two examples that contradict each other give even the main task a negative gain."""
    gradient = draw.numbers(size)
    pair = torch.stack([gradient, -gradient])
    answer(pair, pair, 0.5)
    return answer.should_be(-0.5 * gradient.square().sum(), "each example says that the other's step does harm.")


@exercise.property
def order_of_examples(answer: Answer, draw: Draw, size: int) -> str | None:
    """The order of the examples does not matter."""
    main, task, order = draw.numbers(size + 1, 1), draw.numbers(size + 1, 1), draw.order(size + 1)
    before = answer(main, task, 0.5)
    answer(main[order], task[order], 0.5)
    return answer.should_be(before, f"the same examples in the order {show(main)}, {show(task)}.")
