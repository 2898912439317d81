"""What a step needs: the formulas of notebook 10 against hooks, torch's counter of operations, and steps by hand."""

import copy

import pytest
import torch
from companion.baselines import AGGREGATORS, not_run
from companion.studies.cost.counts import Cost, cost, count, products, small_problem
from companion.studies.cost.steps import METHODS, Workload, training_step
from companion.train.losses import squared_losses
from companion.train.stacked import StackedModel

OWN = [method for method in METHODS if method not in AGGREGATORS]
WIDTHS, BATCH = (5, 7, 3), 6


def skip_what_cannot_run(method: str) -> None:
    if method in AGGREGATORS and (reason := not_run(method)):
        pytest.skip(reason)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_tasks", [2, 3])
def test_every_count_is_the_formula(method: str, num_tasks: int) -> None:
    skip_what_cannot_run(method)
    *passes, operations = count(method, num_tasks, WIDTHS, BATCH)
    formula = cost(method, num_tasks)
    assert passes == [formula.forwards, formula.gradients, formula.numbers]
    rest = operations - products(method, num_tasks, WIDTHS, BATCH)
    assert rest == 0 if method in OWN else 0 <= rest < 1000  # what a solver does with T x T numbers


@pytest.mark.parametrize("method", OWN)
def test_one_task(method: str) -> None:
    *passes, operations = count(method, 1, WIDTHS, BATCH)
    formula = cost(method, 1)
    assert [*passes, operations] == [
        formula.forwards, formula.gradients, formula.numbers, products(method, 1, WIDTHS, BATCH)
    ]  # fmt: skip


def test_operations_by_hand() -> None:
    """F = 2 * 6 * (5 * 7 + 7 * 3) = 672, of which the first layer 420; a head 2 * 6 * 3 = 36; two tasks."""
    plain = (672 + 2 * 36) + (2 * 672 - 420) + 4 * 36
    assert products("equal weights", 2, WIDTHS, BATCH) == plain == 1812
    assert products("AdaTask-Adam", 2, WIDTHS, BATCH) == plain + (2 * 672 - 420)
    assert products("HydaLearn", 2, WIDTHS, BATCH) == plain + (2 * 672 - 420) + 2 * (672 + 2 * 36)
    assert products("PCGrad", 2, WIDTHS, BATCH) == plain + (2 * 672 - 420) + 8 * (6 * 7 + 8 * 3)


def test_training_every_task_alone_is_so_many_steps_of_one_task() -> None:
    one = cost("equal weights", 1)
    assert cost("single tasks", 3) == Cost(3 * one.forwards, 3 * one.gradients, 3 * one.numbers, 3 * one.moved)


def test_an_accumulator_per_task_is_adam_and_a_sum_at_one_task() -> None:
    one, adam = cost("AdaTask-Adam", 1), cost("equal weights", 1)
    assert (one.forwards, one.gradients) == (adam.forwards, adam.gradients)
    assert (one.numbers, one.moved) == (adam.numbers + 1, adam.moved + 2)


def test_keeping_the_gradients_apart_is_the_same_step() -> None:
    problem = small_problem(3, WIDTHS, BATCH)
    twin = copy.deepcopy(problem.model)
    other = Workload(twin, twin.shared_parameters(), squared_losses, problem.batch, problem.kinds)  # type: ignore[operator]
    for each, method in ((problem, "equal weights"), (other, "T backward passes")):
        step = training_step(method, each)
        step()
        step()
    for p, q in zip(problem.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["equal weights", "HydaLearn", "AdaTask-Adam", "cosine gate"])
def test_a_run_in_a_crowd_takes_the_step_that_it_takes_alone(method: str) -> None:
    alone = small_problem(2, WIDTHS, BATCH)
    stack = StackedModel([alone.model] * 3)
    x, y = alone.batch
    batch = x.expand(3, -1, -1).contiguous(), y[:, None].expand(-1, 3, -1).contiguous()
    shared = stack.stack.shared_parameters()  # type: ignore[operator]
    crowd = Workload(stack, shared, squared_losses, batch, alone.kinds)
    for problem in (crowd, alone):
        step = training_step(method, problem)
        step()
        step()
    for p, q in zip(alone.shared, shared, strict=True):
        for run in q:
            torch.testing.assert_close(run, p, rtol=0, atol=1e-9)


def test_unknown_methods_are_named() -> None:
    with pytest.raises(ValueError, match=r"Parameter `method` should be one of .*Found 'Adam'"):
        training_step("Adam", small_problem(2, WIDTHS, BATCH))
