"""Parameters that come and go, and trainable leaves outside the model: read anew at each call, or told."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops_worlds import RATE, Options, Tasks, World, cases, check, data, errors, optimizer_of, seeded, trunk_of
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtlcore import HydaLearn, task_backward

OPTIONS = st.builds(
    Options,
    main_task=st.integers(0, 1),
    gain=st.sampled_from(["exact", "first_order"]),
    trial_moves=st.sampled_from(["shared", "shared+head"]),
    trial_step=st.sampled_from(["float", "group rates", "optimizer"]),
    other_batch=st.booleans(),
    scale_heads=st.booleans(),
)
TASKS = 2
Loss = Callable[[list[Any], list[Tensor], Tensor], list[Tensor]]


def variances(outside: list[Any], losses: list[Tensor], features: Tensor) -> list[Tensor]:
    """Uncertainty weighting: exp(-s) L + s with a log-variance per task."""
    del features
    return [(-s).exp() * loss + s for s, loss in zip(outside, losses, strict=True)]


def heads(outside: list[Any], losses: list[Tensor], features: Tensor) -> list[Tensor]:
    """A head of each task that the model does not hold."""
    return [loss + (features @ w).square().mean() for w, loss in zip(outside, losses, strict=True)]


def one_for_all(outside: list[Any], losses: list[Tensor], features: Tensor) -> list[Tensor]:
    """A temperature that every loss is divided by."""
    del features
    return [loss / (1 + outside[0].square()) for loss in losses]


def hidden(outside: list[Any], losses: list[Tensor], features: Tensor) -> list[Tensor]:
    """Heads outside, whose loss is computed under a checkpoint."""

    def extra(features: Tensor, w: Tensor) -> Tensor:
        return (features @ w).square().mean()

    return [loss + checkpoint(extra, features, w, use_reentrant=False) for w, loss in zip(outside, losses, strict=True)]


OUTSIDE: dict[str, tuple[Loss, tuple[int, ...], int]] = {
    "log-variances": (variances, (), TASKS),
    "heads": (heads, (6,), TASKS),
    "a temperature": (one_for_all, (), 1),
    "checkpointed heads": (hidden, (6,), TASKS),
}


def world_of(seed: int, outside: str | None = None) -> World:
    seeded(seed)
    model = Tasks(trunk_of([nn.Linear(6, 6)]), TASKS)
    loss, shape, count = OUTSIDE[outside] if outside else (None, (), 0)
    leaves = [nn.Parameter(0.5 * torch.randn(shape, dtype=torch.float64)) for _ in range(count)]

    def losses_fn(model: Tasks, batch: tuple[Tensor, list[Tensor]]) -> list[Tensor]:
        z = model.trunk(batch[0])
        losses = list(errors([head(z)[:, 0] for head in model.heads], batch[1]))
        return losses if loss is None else loss(leaves, losses, z)

    shared = list(model.trunk.parameters())
    world = World(model, losses_fn, data(seed, TASKS), shared, data(seed + 1000, TASKS, 5), outside=leaves)
    world.optimizer = optimizer_of(world)
    return world


@pytest.mark.parametrize("outside", OUTSIDE)
@cases(15)
@given(options=OPTIONS, seed=st.integers(0, 99))
def test_leaves_outside_the_model_get_their_weighted_gradient(outside: str, options: Options, seed: int) -> None:
    check(partial(world_of, seed, outside), options)


@pytest.mark.parametrize("outside", OUTSIDE)
def test_task_backward_gives_leaves_outside_the_sum(outside: str) -> None:
    world, alone = world_of(3, outside), world_of(3, outside)
    task_backward(world.losses(world.batch), world.model.trunk)
    sum(x for x in alone.losses(alone.batch) if x is not None).backward()  # type: ignore[union-attr]
    assert len(world.params) == len(alone.params) > 10
    for p, q in zip(world.params, alone.params, strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-13)


def linear() -> nn.Module:
    return nn.Linear(6, 6).double()


CHANGES: dict[str, Callable[[nn.Sequential], object]] = {
    "frozen": lambda trunk: trunk[0].requires_grad_(False),
    "one frozen": lambda trunk: trunk[2].weight.requires_grad_(False),
    "unfrozen": lambda trunk: trunk.requires_grad_(True),
    "replaced": lambda trunk: trunk.__setitem__(2, linear()),
    "added": lambda trunk: trunk.append(linear()),
    "inserted": lambda trunk: trunk.insert(3, linear()),
    "removed": lambda trunk: trunk.__delitem__(2),
    "weight replaced": lambda trunk: setattr(trunk[2], "weight", nn.Parameter(torch.eye(6).double())),
    "copied": lambda trunk: trunk.__setitem__(2, copy.deepcopy(trunk[2])),
}


@cases(40)
@given(
    changes=st.lists(st.sampled_from(list(CHANGES)), min_size=1, max_size=3),
    options=OPTIONS,
    began_frozen=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_module_given_as_shared_is_read_at_each_call(
    changes: list[str], options: Options, began_frozen: bool, seed: int
) -> None:
    """One HydaLearn, made before all the changes, against one that is made after each of them."""

    def build(count: int) -> World:
        world = world_of(seed)
        trunk = world.model.trunk
        trunk[2].requires_grad_(not began_frozen)
        for change in changes[:count]:
            seeded(seed + 1)
            if len(trunk) > 3:
                CHANGES[change](trunk)
        world.shared = [p for p in trunk.parameters() if p.requires_grad]
        return world

    fixed = Options(options.main_task, options.gain, options.trial_moves, "float", options.other_batch)
    lasting = world_of(seed)
    lasting.model.trunk[2].requires_grad_(not began_frozen)
    hydalearn = HydaLearn(lasting.model, lasting.losses_fn, lasting.model.trunk, **fixed.arguments(lasting))
    for count in range(len(changes) + 1):
        if count:
            seeded(seed + 1)
            if len(lasting.model.trunk) > 3:
                CHANGES[changes[count - 1]](lasting.model.trunk)
        expected = check(partial(build, count), fixed)
        lasting.model.zero_grad()
        found = hydalearn.backward(lasting.batch, lasting.gain_batch if fixed.other_batch else None)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
        now = [p for p in lasting.model.trunk.parameters() if p.requires_grad]
        assert [id(p) for p in hydalearn.shared] == [id(p) for p in now]
        assert all(p.task_grad.shape == (TASKS, *p.shape) for p in now)
        assert all(p.grad is None for p in lasting.model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("gain", ["exact", "first_order"])
@pytest.mark.parametrize("change", ["replaced", "weight replaced", "copied"])
def test_a_listed_parameter_that_was_replaced_is_an_error_that_names_the_remedy(gain: str, change: str) -> None:
    world = world_of(0)
    hydalearn = HydaLearn(world.model, world.losses_fn, world.shared, gain=gain)
    hydalearn.backward(world.batch)
    world.model.zero_grad()
    CHANGES[change](world.model.trunk)
    with pytest.raises(ValueError, match=r"no longer there.*pass the module that holds them as `shared`"):
        hydalearn.backward(world.batch)
    assert all(p.grad is None for p in world.model.parameters())


@pytest.mark.parametrize("change", ["frozen", "one frozen", "unfrozen"])
def test_a_list_is_read_for_what_is_trainable_now(change: str) -> None:
    world = world_of(0)
    world.model.trunk[2].requires_grad_(change != "unfrozen")
    hydalearn = HydaLearn(world.model, world.losses_fn, world.shared, trial_step=RATE)
    hydalearn.backward(world.batch)
    world.model.zero_grad()
    CHANGES[change](world.model.trunk)
    hydalearn.backward(world.batch)
    assert [p.grad is not None for p in world.shared] == [p.requires_grad for p in world.shared]
    assert [hasattr(p, "task_grad") and p.grad is not None for p in world.shared] == [
        p.requires_grad for p in world.shared
    ]


def test_nothing_left_to_train_is_an_error() -> None:
    world = world_of(0)
    hydalearn = HydaLearn(world.model, world.losses_fn, world.model.trunk)
    world.model.trunk.requires_grad_(False)
    with pytest.raises(ValueError, match="Found only frozen ones"):
        hydalearn.backward(world.batch)


@pytest.mark.parametrize("rule", ["sgd", "optimizer"])
def test_a_parameter_that_the_optimizer_of_the_trials_lacks_is_told(rule: str) -> None:
    """A layer that was added, but not to the optimizer, would move neither in a trial nor in training."""
    world = world_of(0)
    optimizer = torch.optim.SGD(world.params, lr=RATE)
    hydalearn = HydaLearn(world.model, world.losses_fn, world.model.trunk, trial_step=optimizer, trial_rule=rule)
    hydalearn.backward(world.batch)
    world.model.zero_grad()
    world.model.trunk.append(linear())
    with pytest.raises(ValueError, match=r"shape \(6, 6\) missing, added or unfrozen since"):
        hydalearn.backward(world.batch)
    optimizer.add_param_group({"params": list(world.model.trunk[-1].parameters())})
    assert hydalearn.backward(world.batch).gains.abs().max() > 0
