"""Exercise 1 of notebook 05: AU and rAU from the updates that every task has made."""

import torch

from companion.coursework.checking import SCALES, Answer, Draw, Exercise, count, show

exercise = Exercise(1, "relative_updates", ("updates", "rho"), lambda updates, _: tuple(updates.shape[1:]))
MEMORIES = (0.5, 0.9)  # rho


@exercise.property
def one_share_each(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns one share per task and parameter, [T, n], and leaves the updates as they are."""
    answer(draw.numbers(2, size, 2), 0.5)
    return None


@exercise.property
def shares_sum_to_one(answer: Answer, draw: Draw, size: int) -> str | None:
    """The tasks' shares of a parameter are not negative and sum to 1."""
    found = answer(draw.numbers(2, size, 2), draw.choice(MEMORIES))
    if bool((found >= 0).all()) and bool(((found.sum(0) - 1).abs() < 1e-6).all()):
        return None
    return f"{answer.call} returned {show(found)}; over the tasks that sums to {show(found.sum(0))}."


@exercise.property
def direction_does_not_count(answer: Answer, draw: Draw, size: int) -> str | None:
    """Up or down does not matter: updates that cancel over time are updates all the same."""
    updates, rho = draw.numbers(size, 2, 1), draw.choice(MEMORIES)
    before = answer(updates.abs(), rho)
    answer(updates, rho)
    return answer.should_be(before, "the shares when all these updates are positive.")


@exercise.property
def squares(answer: Answer, draw: Draw, size: int) -> str | None:
    """A task whose updates are s times another's has s squared times its share."""
    s, rho = draw.choice(SCALES), draw.choice(MEMORIES)
    first = draw.numbers(size, 1, 1)
    answer(torch.cat([first, s * first], 1), rho)
    wanted = torch.tensor([[1.0], [s**2]]) / (1 + s**2)
    return answer.should_be(wanted, f"task 1 moves {s:g} times as far as task 0.")


@exercise.property
def forgetting(answer: Answer, draw: Draw, size: int) -> str | None:
    """An update that lies k steps further back counts rho to the power k as much."""
    updates, rho = torch.zeros(size + 1, 2, 1), draw.choice(MEMORIES)
    updates[0, 0], updates[size, 1] = 1.0, 1.0  # task 0 in the first step, task 1 in the last
    answer(updates, rho)
    wanted = torch.tensor([[rho**size], [1.0]]) / (1 + rho**size)
    return answer.should_be(wanted, f"task 0 moved it {count(size, 'step')} before task 1, by as much.")


@exercise.property
def nobody_moved_it(answer: Answer, draw: Draw, size: int) -> str | None:
    """A parameter that no task has moved has no shares: they are NaN, not 0 or 1/2."""
    updates = draw.numbers(size, 2, 2)
    updates[:, :, 1] = 0
    wanted = answer(updates, 0.5).clone()
    wanted[:, 1] = float("nan")
    return answer.should_be(wanted, "all updates of parameter 1 are 0.")


@exercise.property
def permuted_shares(answer: Answer, draw: Draw, size: int) -> str | None:
    """Tasks in another order have the same shares in that order."""
    updates, order = draw.numbers(2, size, 1), draw.order(size)
    before = answer(updates, 0.5)
    answer(updates[:, order], 0.5)
    return answer.should_be(before[order], f"in the order before, they were {show(before)}.")
