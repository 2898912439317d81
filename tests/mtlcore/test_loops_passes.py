"""Trials under any of torch's modes, with losses that differentiate, between a user's own graphs, and cut short."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops_blocks import RIGHT, normed
from loops_worlds import (
    SEED,
    Options,
    Tasks,
    World,
    cases,
    check,
    data,
    errors,
    generators,
    observed,
    optimizer_of,
    outcome,
    seeded,
    trunk_of,
)
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrize

from mtlcore import HydaLearn
from mtlcore.trials import _generators

OPTIONS = st.builds(
    Options,
    main_task=st.integers(0, 1),
    gain=st.sampled_from(["exact", "first_order"]),
    trial_moves=st.sampled_from(["shared", "shared+head"]),
    trial_step=st.sampled_from(["float", "group rates", "optimizer"]),
    other_batch=st.booleans(),
)
TASKS = 2
LossesFn = Callable[[Any, Any], list[Tensor | None]]
STILL = [  # of which a second pass leaves the graph of a first one intact
    *("plain", "attributes bound anew", "buffer bound anew", "kept output", "torch noise", "tied weights"),
    *("checkpoint", "reentrant checkpoint", "parameter of its own kind", "vmap", "functional call", "Jacobian"),
    *("old weight norm", "weight norm", "orthogonal"),
]
DERIVED = ["plain", "weight norm", "orthogonal", "torch noise"]
MEMORY = [kind for kind in RIGHT if "checkpoint" not in kind]  # a reentrant one is differentiated once only


def ordinary(model: Any, batch: Any) -> list[Tensor | None]:
    return list(errors(model(batch[0]), batch[1]))


def world_of(kinds: list[str], seed: int, losses_fn: LossesFn = ordinary) -> World:
    seeded(seed)
    model = Tasks(trunk_of([RIGHT[kind]() for kind in kinds]), TASKS)
    batches = data(seed, TASKS), data(seed + 1000, TASKS, rows=5)
    shared = [p for p in model.trunk.parameters() if p.requires_grad]
    world = World(model, losses_fn, batches[0], shared, batches[1])
    world.optimizer = optimizer_of(world)
    return world


# -- losses that differentiate, or leave a task out ------------------------------------------------------------------


def forces(model: Any, x: Tensor, y: list[Tensor]) -> list[Tensor | None]:
    energy = model(x)[0]
    (slope,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
    return [(energy - y[0]).square().mean(), (slope.sum(1) - y[1]).square().mean()]


def residuals(model: Any, x: Tensor, y: list[Tensor]) -> list[Tensor | None]:
    u = model(x)[0]
    (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), x, create_graph=True)
    return [(second[:, 0] + u - y[0]).square().mean() + 0.1 * x.square().mean(), u.square().mean()]


def penalty(model: Any, x: Tensor, y: list[Tensor]) -> list[Tensor | None]:
    losses = list(errors(model(x), y))
    slopes = torch.autograd.grad(losses[0], list(model.heads.parameters()), create_graph=True, allow_unused=True)
    return [losses[0] + sum(g.square().sum() for g in slopes if g is not None), losses[1]]


def per_example(model: Any, x: Tensor, y: list[Tensor]) -> list[Tensor | None]:
    def slope(row: Tensor) -> Tensor:
        return grad(lambda r: model(r[None])[0].sum())(row)  # type: ignore[no-any-return]

    return [(vmap(slope)(x).sum(1) - y[0]).square().mean(), (model(x)[1] - y[1]).square().mean()]


def functional(model: Any, x: Tensor, y: list[Tensor]) -> list[Tensor | None]:
    moved = {name: p - 0.01 * p.sin() for name, p in model.named_parameters()}
    return [*errors(functional_call(model, moved, (x,)), y)]


def first_absent(model: Any, x: Tensor, y: list[Tensor]) -> list[Tensor | None]:
    losses = list(errors(model(x), y))
    return [losses[0], None] if len(x) == 8 else [losses[0], losses[1]]


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "flag set in place": lambda x: x.requires_grad_(),
    "a copy": lambda x: x.clone().requires_grad_(),
    "detached": lambda x: x.detach().requires_grad_(),
    "computed": lambda x: x.requires_grad_() * 1.0,
}
DIFFERENTIATING = {"forces": forces, "residuals": residuals, "penalty": penalty}


@pytest.mark.parametrize("losses", DIFFERENTIATING)
@cases(15)
@given(options=OPTIONS, inputs=st.sampled_from(list(INPUTS)), kind=st.sampled_from(MEMORY), seed=st.integers(0, 99))
def test_losses_may_differentiate(losses: str, inputs: str, kind: str, options: Options, seed: int) -> None:
    def losses_fn(model: Any, batch: Any) -> list[Tensor | None]:
        return DIFFERENTIATING[losses](model, INPUTS[inputs](batch[0]), batch[1])

    check(lambda: world_of([kind], seed, losses_fn), options)


@pytest.mark.parametrize("losses", [per_example, functional, first_absent])
@cases(12)
@given(options=OPTIONS, seed=st.integers(0, 99))
def test_losses_may_use_torch_func_or_leave_a_task_out(
    losses: Callable[..., list[Tensor | None]], options: Options, seed: int
) -> None:
    if losses is first_absent:
        options = Options(0, options.gain, options.trial_moves, options.trial_step, options.other_batch)
    check(lambda: world_of(["plain"], seed, lambda model, batch: losses(model, *batch)), options)


# -- modes -----------------------------------------------------------------------------------------------------------


@contextmanager
def anomalies() -> Iterator[None]:
    torch.autograd.set_detect_anomaly(True)
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(False)


AROUND: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast without cache": lambda: torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
    "anomalies": anomalies,
    "gradients switched on": torch.enable_grad,
    "saved on the CPU": save_on_cpu,
    "saved tensors packed": lambda: saved_tensors_hooks(lambda x: x * 1, lambda x: x),
    "a device's context": lambda: torch.device("cpu"),
    "derived weights cached": parametrize.cached,
}


@pytest.mark.parametrize("around", AROUND)
@cases(12)
@given(options=OPTIONS, kind=st.sampled_from(DERIVED), seed=st.integers(0, 99))
def test_a_trial_is_in_the_same_modes(around: str, options: Options, kind: str, seed: int) -> None:
    check(lambda: world_of([kind], seed), options, AROUND[around])


def test_weights_derived_once_are_derived_again_in_a_trial_and_afterwards() -> None:
    layer: Any = normed("weight norm").double()
    x = torch.randn(3, 6, dtype=torch.float64)
    hydalearn = HydaLearn(layer, lambda m, x: list(m(x).square().mean(0)[:2]), layer.parameters(), trial_step=0.02)
    alone = hydalearn.backward(x)
    with parametrize.cached():
        weight = layer[0].weight
        cached = hydalearn.backward(x)
        torch.testing.assert_close(layer[0].weight, weight, rtol=0, atol=0)
    torch.testing.assert_close(cached, alone, rtol=1e-12, atol=0)


# -- a pass that fails -----------------------------------------------------------------------------------------------


class Stopped(BaseException):
    """Like an interruption from the keyboard."""


@cases(60)
@given(
    options=OPTIONS.filter(lambda o: o.gain == "exact" or o.other_batch),
    kind=st.sampled_from(list(RIGHT)),
    seed=st.integers(0, 99),
    call=st.integers(2, 5),
    late=st.booleans(),
)
def test_a_trial_that_fails_leaves_nothing_behind(
    options: Options, kind: str, seed: int, call: int, late: bool
) -> None:
    expected = outcome(lambda: world_of([kind], seed), options)
    world, calls = world_of([kind], seed), 0

    def losses_fn(model: Any, batch: Any) -> list[Tensor | None]:
        nonlocal calls
        calls += 1
        if calls == call and not late:
            raise Stopped
        losses = ordinary(model, batch)
        if calls == call:
            raise Stopped
        return losses

    before = {p: (p.data_ptr(), p.detach().clone()) for p in world.params}
    hydalearn = HydaLearn(world.model, losses_fn, world.shared, **options.arguments(world))
    seeded(SEED)
    try:
        hydalearn.backward(world.batch, world.gain_batch if options.other_batch else None)
    except Stopped:
        assert all(p.grad is None and not hasattr(p, "task_grad") for p in world.model.parameters())
    else:
        assert calls < call  # there were fewer
    assert (observed(world.model), generators()) == expected.left
    assert all(p.data_ptr() == pointer and torch.equal(p, value) for p, (pointer, value) in before.items())


# -- a user's own graphs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
@cases(30)
@given(options=OPTIONS, kind=st.sampled_from(STILL), seed=st.integers(0, 99))
def test_graphs_from_before_go_on_afterwards(first: bool, options: Options, kind: str, seed: int) -> None:
    """A regulariser and an output of an earlier pass, differentiated after HydaLearn, or before and after it."""

    def graph_of(world: World) -> Tensor:
        seeded(SEED + 1)
        penalty: Tensor = sum(p.square().sum() for p in world.params) + ordinary(world.model, world.batch)[0]
        return penalty

    alone = world_of([kind], seed)
    graph_of(alone).backward()  # type: ignore[no-untyped-call]
    world = world_of([kind], seed)
    graph = graph_of(world)
    if first:
        graph.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    hydalearn = HydaLearn(world.model, world.losses_fn, world.shared, **options.arguments(world))
    hydalearn.backward(world.batch, world.gain_batch if options.other_batch else None)
    before = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in world.params]
    graph.backward()  # type: ignore[no-untyped-call]
    for p, q, earlier in zip(world.params, alone.params, before, strict=True):
        torch.testing.assert_close(p.grad - earlier, q.grad, rtol=1e-9, atol=1e-12)


def test_no_mode_but_gradients_switched_off_is_refused() -> None:
    world = world_of(["plain"], 0)
    hydalearn = HydaLearn(world.model, world.losses_fn, world.shared)
    for off in (torch.no_grad, torch.inference_mode):
        with off(), pytest.raises(ValueError, match=r"without a graph.*outside torch\.no_grad"):
            hydalearn.backward(world.batch)
    assert hydalearn.backward(world.batch).gains.abs().max() > 0


@given(draws=st.lists(st.sampled_from(("random", "gauss", "getrandbits", "seed", "save", "load", "nothing"))))
def test_pythons_state_is_read_again_whatever_changed_it(draws: list[str]) -> None:
    """Every second normal number comes from what the first left, without a change of the generator's own numbers."""
    read, _ = _generators(torch.device("cpu"))[1]
    saved = random.getstate()
    for draw in draws:
        if draw == "save":
            saved = random.getstate()
        elif draw == "load":
            random.setstate(saved)
        elif draw != "nothing":
            getattr(random, draw)(*{"gauss": (0, 1), "getrandbits": (7,), "seed": (7,)}.get(draw, ()))
        assert read() == random.getstate()


@given(draws=st.lists(st.sampled_from(("randn", "rand", "permutation", "seed", "save", "load", "nothing"))))
def test_numpys_state_is_read_again_whatever_changed_it(draws: list[str]) -> None:
    """Every second normal number comes from what the first left, without a change of the generator's own numbers."""
    read, _ = _generators(torch.device("cpu"))[-1]
    saved = np.random.get_state()
    for draw in draws:
        if draw == "save":
            saved = np.random.get_state()
        elif draw == "load":
            np.random.set_state(saved)
        elif draw != "nothing":
            getattr(np.random, draw)(*[7] * (draw in ("permutation", "seed")))
        state: Any = np.random.get_state()
        name, keys, *rest = state
        assert read() == (name, keys.tobytes(), *rest)
