"""Gains below the rounding of the losses: never turned into weights in silence, but told once, by a documented rule."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops_blocks import RIGHT
from loops_worlds import RATE, Options, Tasks, World, cases, check, data, errors, optimizer_of, seeded, trunk_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from mtlcore import HydaLearn, HydaLearnStep

LOST = "could not be measured"
ROUGH = "not those of a smooth loss"
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Problem:
    """A small network whose losses are computed in one precision; the same numbers in each.

    Attributes:
        seed: Of parameters and data.
        num_tasks: T.
        depth: Hidden layers.
        rows: Examples.
        offset: Of the targets.
        factor: That all losses are multiplied by.
        spread: Factor between one task's loss and the next's.
        kind: Of the losses.
    """

    seed: int
    num_tasks: int = 2
    depth: int = 2
    rows: int = 16
    offset: float = 0.0
    factor: float = 1.0
    spread: float = 1.0
    kind: str = "squares"

    def model(self, dtype: torch.dtype) -> Any:
        """Returns the model; numbers are rounded to ``dtype``."""
        seeded(self.seed)
        layers: list[nn.Module] = []
        for _ in range(self.depth):
            layers += [nn.Linear(8, 8), nn.Tanh() if self.seed % 2 else nn.ReLU()]
        model = nn.Module()
        model.trunk = nn.Sequential(*layers)
        model.heads = nn.ModuleList(nn.Linear(8, 3) for _ in range(self.num_tasks))
        return model.to(dtype)

    def batch(self, dtype: torch.dtype, more: int = 0) -> Batch:
        """Returns inputs [B, 8] and targets [T, B, 3]."""
        generator = torch.Generator().manual_seed(self.seed + more)
        x = torch.randn(self.rows, 8, generator=generator)
        y = torch.randn(self.num_tasks, self.rows, 3, generator=generator) + x[:, :3] + self.offset
        return x.to(dtype), y.to(dtype)

    def losses(self, model: Any, batch: Batch) -> list[Tensor]:
        """Returns T losses in the precision of the outputs."""
        x, y = batch
        z = model.trunk(x)
        losses = []
        for t, (head, target) in enumerate(zip(model.heads, y, strict=True)):
            output = head(z)
            if self.kind == "squares":
                loss = (output - target).square().mean()
            elif self.kind == "sum of absolute":
                loss = (output - target).abs().sum()
            else:
                loss = cross_entropy(output, target.argmax(1))
            losses.append(loss * (self.factor * self.spread**t))
        return losses


PROBLEMS = st.builds(
    Problem,
    seed=st.integers(0, 999),
    num_tasks=st.integers(2, 4),
    depth=st.integers(1, 4),
    rows=st.sampled_from([1, 4, 32, 256]),
    offset=st.floats(-30, 30),
    factor=st.floats(-6, 6).map(lambda e: 10.0**e),
    spread=st.floats(-1, 1).map(lambda e: 10.0**e),
    kind=st.sampled_from(["squares", "sum of absolute", "classes"]),
)
STEPS = st.floats(-12, -1).map(lambda e: 10.0**e)


def limit_of(problem: Problem, model: Any, batch: Batch, step: float) -> Tensor:
    """The weights [T] in float64: of real trials where float64 resolves these, else of their limit."""
    model.zero_grad()
    shared = list(model.trunk.parameters())
    losses = problem.losses(model, batch)
    grads = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    products = [[(a * b).sum() for a, b in zip(grads[0], g, strict=True)] for g in grads]
    linear = torch.stack([torch.stack(parts).sum() for parts in products]) * step
    gains = []
    for g in grads:
        with torch.no_grad():
            for p, d in zip(shared, g, strict=True):
                p -= step * d
            gains.append(losses[0].detach() - problem.losses(model, batch)[0])
            for p, d in zip(shared, g, strict=True):
                p += step * d
    exact = torch.stack(gains)
    kept = (exact if exact.abs().max() > 1e-11 * losses[0].abs() else linear).clamp(min=0)
    alone = torch.eye(len(kept), dtype=kept.dtype)[0]
    return kept / kept.sum() if kept.sum() > 0 else alone


def told(call: Callable[[], HydaLearnStep]) -> tuple[HydaLearnStep, list[str]]:
    """Returns what a call finds, and the warnings that it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step = call()
    return step, [str(warning.message) for warning in caught]


def twin(problem: Problem) -> Any:
    """The float32 model's numbers in float64."""
    return problem.model(torch.float32).double()


@cases(150)
@given(problem=PROBLEMS, step=STEPS)
def test_weights_in_float32_are_those_of_float64_or_first_order_and_told(problem: Problem, step: float) -> None:
    model, batch = problem.model(torch.float32), problem.batch(torch.float32)
    exact = HydaLearn(model, problem.losses, model.trunk, trial_step=step)
    found, warned = told(lambda: exact.backward(batch))
    if not warned:
        x, y = batch
        expected = limit_of(problem, twin(problem), (x.double(), y.double()), step)
        torch.testing.assert_close(found.weights.double(), expected, rtol=0, atol=0.02)
    elif LOST in warned[0]:
        other = problem.model(torch.float32)
        first = HydaLearn(other, problem.losses, other.trunk, trial_step=step, gain="first_order").backward(batch)
        torch.testing.assert_close(found, first, rtol=0, atol=0)
    else:
        assert ROUGH in warned[0]
    assert len(warned) == len({message[:60] for message in warned})


@cases(60)
@given(problem=PROBLEMS, step=STEPS)
def test_with_another_batch_gains_lost_in_rounding_leave_the_main_task_alone(problem: Problem, step: float) -> None:
    model, batch = problem.model(torch.float32), problem.batch(torch.float32)
    hydalearn = HydaLearn(model, problem.losses, model.trunk, trial_step=step)
    found, warned = told(lambda: hydalearn.backward(batch, problem.batch(torch.float32, 1)))
    if any(LOST in message for message in warned):
        assert found.weights.tolist() == [1.0] + [0.0] * (problem.num_tasks - 1)
        assert found.gains.tolist() == [0.0] * problem.num_tasks
    else:
        eps = torch.finfo(torch.float32).eps
        other = problem.model(torch.float32)
        loss = problem.losses(other, problem.batch(torch.float32, 1))[0].detach()
        assert found.gains.abs().max() >= 100 * eps * loss.abs() * 0.999


@cases(40)
@given(problem=PROBLEMS, half=st.sampled_from([torch.bfloat16, torch.float16]), step=STEPS, other=st.booleans())
def test_half_precision_parameters_have_first_order_gains_and_it_is_told(
    problem: Problem, half: torch.dtype, step: float, other: bool
) -> None:
    results = {}
    for gain in ("exact", "first_order"):
        model = problem.model(half)
        gain_batch = problem.batch(half, 1) if other else None
        hydalearn = HydaLearn(model, problem.losses, model.trunk, trial_step=step, gain=gain)
        results[gain], warned = told(lambda h=hydalearn, b=gain_batch: h.backward(problem.batch(half), b))  # type: ignore[misc]
        assert [LOST in m and "bfloat16 or float16" in m for m in warned] == [True] * (gain == "exact")
    torch.testing.assert_close(results["exact"], results["first_order"], rtol=0, atol=0, equal_nan=True)


class InHalf(torch.autograd.Function):
    """A user's function that computes in half precision where nobody sees it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return (x.bfloat16() @ w.bfloat16()).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad


def autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16)


class Hidden(nn.Module):
    """A layer [B, 8] -> [B, 8] of float32 in and out that goes through half precision inside."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.linear, self.how = nn.Linear(8, 8), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "nothing":
            return self.linear(x)  # type: ignore[no-any-return]
        if self.how == "autocast":
            with autocast():
                return self.linear(x).float()  # type: ignore[no-any-return]
        if self.how == "cast":
            return self.linear(x).bfloat16().float()  # type: ignore[no-any-return]
        if self.how == "cast to float16":
            return self.linear(x).to(torch.float16).float()  # type: ignore[no-any-return]
        if self.how == "copied":
            return torch.empty(x.shape, dtype=torch.bfloat16).copy_(self.linear(x)).float()
        if self.how == "softmax":
            return 8 * torch.softmax(self.linear(x), 1, dtype=torch.bfloat16).float()
        if self.how == "custom function":
            z: Tensor = InHalf.apply(x, self.linear.weight.T)  # type: ignore[no-untyped-call]
            return z + self.linear.bias
        reentrant = self.how == "reentrant checkpoint"
        inner: Tensor = checkpoint(self.inner, x, use_reentrant=reentrant)
        return inner

    def inner(self, x: Tensor) -> Tensor:
        with autocast():
            return self.linear(x).float()  # type: ignore[no-any-return]


HIDDEN = [
    *("autocast", "cast", "cast to float16", "copied", "softmax", "checkpoint"),  # the graph shows it
    *("custom function", "reentrant checkpoint"),  # only the pass itself does
]


def model_with(problem: Problem, how: str) -> Any:
    model = problem.model(torch.float32)
    model.trunk.insert(2, Hidden(how))
    return model


@pytest.mark.parametrize("how", HIDDEN)
@cases(12)
@given(problem=PROBLEMS.filter(lambda p: p.depth > 1 and p.rows > 1), step=STEPS)
def test_half_precision_anywhere_on_the_way_is_told(how: str, problem: Problem, step: float) -> None:
    found = {}
    for gain in ("exact", "first_order"):
        model = model_with(problem, how)
        hydalearn = HydaLearn(model, problem.losses, model.trunk, trial_step=step, gain=gain)
        found[gain], warned = told(lambda h=hydalearn: h.backward(problem.batch(torch.float32)))  # type: ignore[misc]
        assert ["bfloat16 or float16" in message for message in warned] == [True] * (gain == "exact")
    torch.testing.assert_close(found["exact"], found["first_order"], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("cached", [True, False])
@cases(15)
@given(problem=PROBLEMS, step=STEPS, other=st.booleans())
def test_autocast_around_the_call_or_the_losses_gives_first_order_gains(
    outside: bool, cached: bool, problem: Problem, step: float, other: bool
) -> None:
    def mode() -> AbstractContextManager[Any]:
        return torch.autocast("cpu", torch.bfloat16, cache_enabled=cached)

    def losses_fn(model: Any, batch: Batch) -> list[Tensor]:
        with nullcontext() if outside else mode():
            return problem.losses(model, batch)

    batches = problem.batch(torch.float32), problem.batch(torch.float32, 1) if other else None
    found, grads = {}, {}
    for gain in ("exact", "first_order"):
        model = problem.model(torch.float32)
        hydalearn = HydaLearn(model, losses_fn, model.trunk, trial_step=step, gain=gain)
        with mode() if outside else nullcontext():
            found[gain], warned = told(lambda h=hydalearn: h.backward(*batches))  # type: ignore[misc]
            again = losses_fn(model, batches[0])[0].detach()  # whatever is cached still fits the parameters
        torch.testing.assert_close(again, found[gain].losses[0], rtol=0, atol=0)
        assert [LOST in m and "bfloat16 or float16" in m for m in warned] == [True] * (gain == "exact")
        grads[gain] = [p.grad for p in model.parameters()]
    torch.testing.assert_close(found["exact"], found["first_order"], rtol=0, atol=0)
    torch.testing.assert_close(grads["exact"], grads["first_order"], rtol=0, atol=0)


@cases(10)
@given(problem=PROBLEMS, step=STEPS)
def test_autocast_that_begins_between_two_checks_is_noticed(problem: Problem, step: float) -> None:
    model = problem.model(torch.float32)
    hydalearn = HydaLearn(model, problem.losses, model.trunk, trial_step=step)
    for _ in range(2):
        _, warned = told(lambda: hydalearn.backward(problem.batch(torch.float32)))
        assert not any("bfloat16 or float16" in message for message in warned)
    hydalearn._gains._told = False  # rounding may have been told of
    with autocast():
        _, warned = told(lambda: hydalearn.backward(problem.batch(torch.float32)))
    assert ["bfloat16 or float16" in message for message in warned] == [True]


@cases(30)
@given(problem=PROBLEMS, step=STEPS, part=st.sampled_from(["losses", "heads"]))
def test_the_lowest_precision_on_the_way_counts(problem: Problem, step: float, part: str) -> None:
    """Losses in float64 of outputs in float32, as with targets that come from numpy; or only the heads are float32."""

    def losses_fn(model: Any, batch: Batch) -> list[Tensor]:
        trunk = model.trunk if part == "losses" else lambda x: model.trunk(x.double()).float()
        heads = [lambda z, h=h: h(z).double() for h in model.heads]
        return problem.losses(SimpleNamespace(trunk=trunk, heads=heads), batch)

    model = problem.model(torch.float32)
    if part == "heads":
        model.trunk.double()
    x, y = problem.batch(torch.float32)
    hydalearn = HydaLearn(model, losses_fn, model.trunk, trial_step=step)
    found, warned = told(lambda: hydalearn.backward((x, y.double())))
    if not warned:
        expected = limit_of(problem, twin(problem), (x.double(), y.double()), step)
        torch.testing.assert_close(found.weights.double(), expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_told_once(dtype: torch.dtype) -> None:
    problem = Problem(1)
    model = problem.model(dtype)
    hydalearn = HydaLearn(model, problem.losses, model.trunk, trial_step=1e-10)
    messages = [told(lambda k=k: hydalearn.backward(problem.batch(dtype, k)))[1] for k in range(4)]  # type: ignore[misc]
    assert [len(m) for m in messages] == [1, 0, 0, 0]
    other = HydaLearn(model, problem.losses, model.trunk, trial_step=1e-10)
    assert len(told(lambda: other.backward(problem.batch(dtype)))[1]) == 1


@pytest.mark.parametrize("kind", RIGHT)
def test_float64_has_no_false_alarm(kind: str) -> None:
    """On a grid of steps, with warnings as errors; and the gains are those of trials."""

    def build(rate: float) -> World:
        seeded(4)
        model = Tasks(trunk_of([RIGHT[kind]()]), 2)
        shared = [p for p in model.trunk.parameters() if p.requires_grad]
        world = World(model, lambda m, b: list(errors(m(b[0]), b[1])), data(4, 2), shared)
        world.optimizer = optimizer_of(world)
        for group in world.optimizer.param_groups:
            group["lr"] *= rate / RATE
        return world

    for rate in (1e-1, 1e-3, 1e-5, 1e-7):
        check(lambda rate=rate: build(rate), Options(trial_step="group rates"), tolerance=1e-12 / rate)  # type: ignore[misc]


@cases(60)
@given(
    problem=PROBLEMS.filter(lambda p: p.rows > 1 and p.seed % 2 and p.kind != "sum of absolute"),
    step=st.sampled_from([1e-3, 3e-3]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_an_ordinary_step_gives_no_warning(problem: Problem, step: float, dtype: torch.dtype) -> None:
    fixed = Problem(problem.seed, problem.num_tasks, problem.depth, problem.rows, kind=problem.kind)
    model = fixed.model(dtype)
    hydalearn = HydaLearn(model, fixed.losses, model.trunk, trial_step=step * 10)
    assert [told(lambda k=k: hydalearn.backward(fixed.batch(dtype, k)))[1] for k in range(3)] == [[]] * 3  # type: ignore[misc]
