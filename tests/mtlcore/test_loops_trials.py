"""Trials see exactly what the base pass saw, and leave nothing behind: HydaLearn against worlds that are built anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loops_blocks import REFUSED, RIGHT
from loops_worlds import (
    Options,
    Tasks,
    World,
    cases,
    check,
    check_refused,
    data,
    errors,
    optimizer_of,
    seeded,
    trunk_of,
)
from torch import Tensor

OPTIONS = st.builds(
    Options,
    main_task=st.integers(0, 1),
    gain=st.sampled_from(["exact", "first_order"]),
    trial_moves=st.sampled_from(["shared", "shared+head"]),
    trial_step=st.sampled_from(["float", "group rates", "optimizer"]),
    other_batch=st.booleans(),
    negative=st.sampled_from(["clamp", "keep"]),
    normalise=st.sampled_from(["one", "tasks", "main"]),
    scale_heads=st.booleans(),
)


def world_of(kinds: list[str], seed: int = 0, num_tasks: int = 2) -> World:
    seeded(seed)
    model = Tasks(trunk_of([(RIGHT | REFUSED)[kind]() for kind in kinds]), num_tasks)

    def losses_fn(model: Tasks, batch: tuple[Tensor, list[Tensor]]) -> list[Tensor]:
        x, y = batch
        return list(errors(model(x), y))

    shared = [p for p in model.trunk.parameters() if p.requires_grad]
    world = World(model, losses_fn, data(seed, num_tasks), shared, data(seed + 1000, num_tasks, rows=5))
    world.optimizer = optimizer_of(world)
    return world


@pytest.mark.parametrize("kind", RIGHT)
@cases(10)
@given(options=OPTIONS, seed=st.integers(0, 99))
def test_a_trial_sees_what_a_model_with_memory_held_before_the_pass(kind: str, options: Options, seed: int) -> None:
    step = check(lambda: world_of([kind], seed), options)
    assert max(map(abs, step.gains.tolist())) > 1e-6


@pytest.mark.parametrize("kind", REFUSED)
@cases(8)
@given(options=OPTIONS, seed=st.integers(0, 99))
def test_what_cannot_be_put_back_is_refused_where_something_is_tried(kind: str, options: Options, seed: int) -> None:
    if options.gain == "first_order" and not options.other_batch:
        check(lambda: world_of([kind], seed), options)
    else:
        check_refused(lambda: world_of([kind], seed), options, "Parameter `losses_fn` should")


@cases(60)
@given(
    kinds=st.lists(st.sampled_from(list(RIGHT)), min_size=2, max_size=4, unique=True),
    options=OPTIONS,
    seed=st.integers(0, 99),
    num_tasks=st.integers(2, 4),
)
def test_trials_are_right_with_several_such_layers(
    kinds: list[str], options: Options, seed: int, num_tasks: int
) -> None:
    check(lambda: world_of(kinds, seed, num_tasks), options)
