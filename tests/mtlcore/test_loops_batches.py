"""Batches of every kind, and what losses do with them: take them apart, change them in place, mix them at random."""

import random
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops_blocks import RIGHT
from loops_worlds import (
    Options,
    Tasks,
    World,
    cases,
    check,
    check_refused,
    data,
    errors,
    generators,
    optimizer_of,
    seeded,
    trunk_of,
)
from torch import Tensor
from torch.utils.data import DataLoader

from mtlcore import HydaLearn

GAINS = st.sampled_from(["exact", "first_order"])
OPTIONS = st.builds(
    Options,
    main_task=st.integers(0, 1),
    gain=GAINS,
    trial_moves=st.sampled_from(["shared", "shared+head"]),
    trial_step=st.sampled_from(["float", "group rates", "optimizer"]),
    other_batch=st.booleans(),
)
TASKS = 2
Pair = namedtuple("Pair", ["x", "y"])
Taken = tuple[Tensor, list[Tensor]]


@dataclass
class Fields:
    fields: Any
    name: str = "a batch"


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x: Tensor, y: list[Tensor]) -> None:
        self.x, self.y = x, y


@dataclass(frozen=True)
class Kind:
    """A kind of batch.

    Attributes:
        pack: Makes one of inputs and targets.
        take: Takes these out of it, so that it holds less afterwards where its kind allows that.
    """

    pack: Callable[[Tensor, list[Tensor]], Any]
    take: Callable[[Any], Taken]


def keyed(x: Tensor, y: list[Tensor]) -> dict[str, Any]:
    return {"x": x, "y0": y[0], "y1": y[1], "name": "a batch", "mask": None}


def popped(batch: Any) -> Taken:
    return batch.pop("x"), [batch.pop("y0"), batch.pop("y1")]


def popped_y(y: list[Tensor]) -> list[Tensor]:
    return [y.pop(0), y.pop(0)]


def attribute(batch: Any) -> Taken:
    x = batch.x
    del batch.x
    return x, popped_y(batch.y)


KINDS: dict[str, Kind] = {
    "tuple": Kind(lambda x, y: (x, y), lambda b: (b[0], b[1])),
    "list": Kind(lambda x, y: [x, *y], lambda b: (b.pop(0), popped_y(b))),
    "list in a tuple": Kind(lambda x, y: (x, list(y)), lambda b: (b[0], popped_y(b[1]))),
    "dict": Kind(keyed, popped),
    "dict in dicts": Kind(lambda x, y: {"a": {"b": keyed(x, y)}}, lambda b: popped(b["a"].pop("b"))),
    "OrderedDict": Kind(lambda x, y: OrderedDict(keyed(x, y)), popped),
    "defaultdict": Kind(lambda x, y: defaultdict(list, keyed(x, y)), popped),
    "UserDict": Kind(lambda x, y: UserDict(keyed(x, y)), popped),
    "list in a UserDict": Kind(lambda x, y: UserDict(x=x, y=list(y)), lambda b: (b["x"], popped_y(b["y"]))),
    "deque": Kind(lambda x, y: deque([x, *y]), lambda b: (b.popleft(), [b.popleft(), b.popleft()])),
    "namedtuple": Kind(lambda x, y: Pair(x, list(y)), lambda b: (b.x, popped_y(b.y))),
    "dataclass": Kind(lambda x, y: Fields(keyed(x, y)), lambda b: popped(b.fields)),
    "namespace": Kind(lambda x, y: SimpleNamespace(x=x, y=list(y)), attribute),
    "list of batches": Kind(lambda x, y: [Fields(keyed(x, y))], lambda b: popped(b.pop().fields)),
    "numpy arrays": Kind(
        lambda x, y: {"x": x.numpy(), "y": [t.numpy() for t in y]},
        lambda b: (torch.from_numpy(b.pop("x")), [torch.from_numpy(t) for t in popped_y(b["y"])]),
    ),
}


def world_of(kind: Kind, seed: int, change: Callable[[Tensor, list[Tensor]], Taken] = lambda x, y: (x, y)) -> World:
    seeded(seed)
    model = Tasks(trunk_of([RIGHT["BatchNorm"](), RIGHT["torch noise"]()]), TASKS)

    def losses_fn(model: Tasks, batch: Any) -> list[Tensor]:
        x, y = change(*kind.take(batch))
        return list(errors(model(x), y))

    batches = [kind.pack(*data(s, TASKS, rows)) for s, rows in ((seed, 8), (seed + 1000, 5))]
    world = World(model, losses_fn, batches[0], list(model.trunk.parameters()), batches[1])
    world.optimizer = optimizer_of(world)
    return world


@pytest.mark.parametrize("kind", KINDS)
@cases(6)
@given(options=OPTIONS, seed=st.integers(0, 99))
def test_each_pass_may_take_a_batch_apart(kind: str, options: Options, seed: int) -> None:
    made: list[World] = []

    def build() -> World:
        made.append(world_of(KINDS[kind], seed))
        return made[-1]

    check(build, options)
    for batch, rows, s in ((made[-1].batch, 8, seed), (made[-1].gain_batch, 5, seed + 1000)):
        x, y = KINDS[kind].take(batch)  # the caller's own still holds everything
        expected_x, expected_y = data(s, TASKS, rows)
        assert torch.equal(x, expected_x)
        assert all(torch.equal(a, b) for a, b in zip(y, expected_y, strict=True))


def multiplied(x: Tensor, y: list[Tensor]) -> Taken:
    return x.mul_(1.5), y


def part_set(x: Tensor, y: list[Tensor]) -> Taken:
    x[1:3] = 0
    return x, y


def target_changed(x: Tensor, y: list[Tensor]) -> Taken:
    y[1].view(-1)[:2] += 1
    return x, y


def changed_behind(x: Tensor, y: list[Tensor]) -> Taken:
    x.data.mul_(1.5)
    return x, y


def changed_by_numpy(x: Tensor, y: list[Tensor]) -> Taken:
    x.numpy()[:] *= 1.5
    return x, y


CHANGES = {
    "multiplied": (multiplied, "Found a tensor of its batch"),
    "part set": (part_set, "Found a tensor of its batch"),
    "target changed": (target_changed, "Found a tensor of its batch"),
    "changed behind autograd": (changed_behind, "should give the same main loss"),
    "changed by numpy": (changed_by_numpy, "should give the same main loss"),
}


@pytest.mark.parametrize("change", CHANGES)
@cases(16)
@given(kind=st.sampled_from([k for k in KINDS if k != "numpy arrays"]), options=OPTIONS, seed=st.integers(0, 99))
def test_a_batch_changed_in_place_is_refused_where_something_is_tried(
    change: str, kind: str, options: Options, seed: int
) -> None:
    changed, message = CHANGES[change]
    if options.gain == "first_order" and not options.other_batch:  # it is read once
        check(lambda: world_of(KINDS[kind], seed, changed), options)
    else:
        check_refused(lambda: world_of(KINDS[kind], seed, changed), options, message)


@cases(10)
@given(options=OPTIONS, seed=st.integers(0, 99))
def test_arrays_changed_in_place_are_each_passs_own(options: Options, seed: int) -> None:
    check(lambda: world_of(KINDS["numpy arrays"], seed, changed_by_numpy), options)


ITERATORS: dict[str, Callable[[Iterator[Any]], Any]] = {
    "itself": lambda i: i,
    "in a tuple": lambda i: (i, 1),
    "in a dict": lambda i: {"x": i},
    "in a namedtuple": lambda i: Pair(i, 1),
    "in a dataclass": lambda i: Fields(i),
    "in a list of dataclasses": lambda i: [Fields({"x": [i]})],
    "in a UserDict": lambda i: UserDict(x=i),
    "of a loader": lambda i: iter(DataLoader(list(i))),  # type: ignore[arg-type]
    "mapped": lambda i: map(len, i),
}


@pytest.mark.parametrize("place", ITERATORS)
@pytest.mark.parametrize("gain", ["exact", "first_order"])
def test_a_batch_that_can_be_read_once_is_refused_before_the_first_pass(place: str, gain: str) -> None:
    seeded(0)
    model = Tasks(trunk_of([RIGHT["BatchNorm"]()]), TASKS)

    def losses_fn(model: Tasks, batch: Any) -> list[Tensor]:
        raise AssertionError("called")

    hydalearn = HydaLearn(model, losses_fn, model.trunk.parameters(), gain=gain)
    before = generators()
    with pytest.raises(ValueError, match=r"Found an iterator.*next\(iterator\)"):
        hydalearn.backward(ITERATORS[place](iter([torch.ones(2, 4)])))
    assert generators()[0] == before[0] or place == "of a loader"  # which draws a seed itself


@pytest.mark.parametrize("which", ["batch", "gain_batch"])
@cases(8)
@given(options=OPTIONS, seed=st.integers(0, 99))
def test_data_with_a_graph_is_refused_where_something_is_tried(which: str, options: Options, seed: int) -> None:
    def build() -> World:
        world = world_of(KINDS["tuple"], seed)
        model = world.model
        x, y = getattr(world, which)
        setattr(world, which, (model.trunk[0](x), y))  # [B, 6] in place of [B, 4]
        world.losses_fn = lambda m, b: losses_of(m, *b)
        return world

    def losses_of(model: Any, x: Tensor, y: list[Tensor]) -> list[Tensor]:
        z = x if x.shape[1] == 6 else model.trunk[0](x)
        z = model.trunk[1:](z)
        return [
            loss + 0.1 * model.trunk[0].weight.square().sum()
            for loss in errors([head(z)[:, 0] for head in model.heads], y)
        ]

    if options.other_batch or (which == "batch" and options.gain == "exact"):
        check_refused(build, options, "A batch should hold data only")
    else:
        check(build, options)


def mixed(kind: str, when: Callable[[Tensor], bool], x: Tensor, y: list[Tensor]) -> Taken:
    if not when(x):
        return x, y
    if kind == "torch":
        order, share = torch.randperm(len(x)), float(torch.rand(()))
    elif kind == "numpy":
        order, share = torch.from_numpy(np.random.permutation(len(x))), float(np.random.beta(2, 2))
    else:
        order, share = torch.tensor(random.sample(range(len(x)), len(x))), random.betavariate(2, 2)
    return share * x + (1 - share) * x[order], [share * t + (1 - share) * t[order] for t in y]


DRAWN: dict[str, Callable[[Tensor], bool]] = {
    "always": lambda x: True,
    "on the batch": lambda x: len(x) == 8,
    "on the gain batch": lambda x: len(x) == 5,
}


@pytest.mark.parametrize("kind", ["torch", "numpy", "python"])
@pytest.mark.parametrize("when", DRAWN)
@cases(8)
@given(options=OPTIONS, seed=st.integers(0, 99))
def test_every_pass_mixes_examples_alike(kind: str, when: str, options: Options, seed: int) -> None:
    check(lambda: world_of(KINDS["tuple"], seed, partial(mixed, kind, DRAWN[when])), options)
