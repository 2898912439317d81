"""Worlds that can be built anew, and what a trial step gains in one by taking it: the oracle of HydaLearn's trials.

The oracle uses nothing of the package. Its trial is a new world, equal to the bit, whose parameters are moved by hand,
and in which the losses are computed again: so nothing can be seen twice, and nothing can be left behind.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, settings
from loops import examples
from torch import Tensor, nn

from mtlcore import HydaLearn, HydaLearnStep

SEED = 7
RATE = 0.02


def cases(number: int) -> settings:
    """Draws so many cases, the same ones each time; the first that fails is small, and no smaller one is looked for."""
    return settings(examples(number), phases=(Phase.explicit, Phase.generate))


@dataclass
class World:
    """All that one pass touches.

    Attributes:
        model: The model; its parameters come first among ``params``.
        losses_fn: As HydaLearn takes it; it closes over nothing that another world holds.
        batch: The mini-batch.
        shared: The shared parameters.
        gain_batch: Other data to measure gains on, if there are any.
        outside: Trainable leaves that the model does not hold.
        optimizer: Of all parameters, for trial rules that need one.
        seen: What each call of the losses saw of torch's modes, one entry per call.
    """

    model: Any
    losses_fn: Callable[[Any, Any], Any]
    batch: Any
    shared: list[Any]
    gain_batch: Any = None
    outside: list[Any] = field(default_factory=list)
    optimizer: torch.optim.Optimizer | None = None
    seen: list[tuple[object, ...]] = field(default_factory=list)

    @property
    def heads(self) -> list[Any]:
        """All trainable parameters that are not shared."""
        shared = set(self.shared)
        return [p for p in [*self.model.parameters(), *self.outside] if p.requires_grad and p not in shared]

    @property
    def params(self) -> list[Any]:
        """The shared parameters, then the heads."""
        return [*self.shared, *self.heads]

    def losses(self, batch: Any) -> list[Tensor | None]:
        """Computes the losses of a batch."""
        return list(self.losses_fn(self.model, batch))

    def watch(self) -> None:
        """Makes the losses write down in which modes they are computed."""
        inner = self.losses_fn

        def watched(model: Any, batch: Any) -> Any:
            flags = tuple(p.requires_grad for p in [*model.parameters(), *self.outside])
            modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
            self.seen.append((*modes, flags, tuple(m.training for m in model.modules())))
            return inner(model, batch)

        self.losses_fn = watched


@dataclass(frozen=True)
class Options:
    """How gains are measured; the names are HydaLearn's."""

    main_task: int = 0
    gain: str = "exact"
    trial_moves: str = "shared"
    trial_step: str = "float"  # or "group rates", "optimizer"
    other_batch: bool = False
    negative: str = "clamp"
    normalise: str = "one"
    scale_heads: bool = True

    @property
    def moves_heads(self) -> bool:
        """Whether a trial step moves heads."""
        return self.trial_moves == "shared+head"

    def arguments(self, world: World) -> dict[str, Any]:
        """Returns HydaLearn's options beside model, losses and shared parameters."""
        names = ("main_task", "gain", "trial_moves", "negative", "normalise", "scale_heads")
        rule = "optimizer" if self.trial_step == "optimizer" else "sgd"
        step = RATE if self.trial_step == "float" else world.optimizer
        return {name: getattr(self, name) for name in names} | {"trial_rule": rule, "trial_step": step}


@dataclass(frozen=True)
class Outcome:
    """What one call of HydaLearn should give and leave."""

    losses: list[float]
    gains: list[float]
    weights: list[float]
    task_grads: list[list[Tensor | None]]  # of each parameter, T
    grads: list[Tensor | None]  # of each parameter
    left: object


Around = Callable[[], AbstractContextManager[object]]


def seeded(seed: int) -> None:
    """Sets the generators of torch, Python and numpy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def outcome(build: Callable[[], World], options: Options, around: Around = nullcontext) -> Outcome:
    """Returns what should come out, by a new world for each gradient and each trial."""
    first = build()
    seeded(SEED)
    with around():
        losses = first.losses(first.batch)
        for loss, more in pairwise([*[x for x in losses if x is not None], None]):
            assert loss is not None
            loss.backward(retain_graph=more is not None)  # type: ignore[no-untyped-call]
        left = observed(first.model), generators()
    grads: list[list[Tensor | None]] = [
        _gradients(build, t, False, around) if loss is not None else [None] * len(first.params)
        for t, loss in enumerate(losses)
    ]
    values = [float("nan") if loss is None else loss.item() for loss in losses]
    gains = _gains(build, options, values, grads, around)
    weights = _weights(gains, options)
    of_params = [list(of_param) for of_param in zip(*grads, strict=True)]
    of_heads = weights if options.scale_heads else [1.0] * len(losses)
    sums = [_sum(g, weights if i < len(first.shared) else of_heads) for i, g in enumerate(of_params)]
    return Outcome(values, gains, weights, of_params, sums, left)


def _gradients(build: Callable[[], World], task: int, on_gain_batch: bool, around: Around) -> list[Tensor | None]:
    world = build()
    seeded(SEED)
    with around():
        loss = world.losses(world.gain_batch if on_gain_batch else world.batch)[task]
        assert loss is not None
        loss.backward()  # type: ignore[no-untyped-call]
    return [p.grad for p in world.params]


def _gains(
    build: Callable[[], World], options: Options, losses: list[float], grads: list[list[Tensor | None]], around: Around
) -> list[float]:
    main = options.main_task
    mine = _gradients(build, main, True, around) if options.other_batch else grads[main]
    before = losses[main]
    if options.other_batch:
        before = _main_loss(build(), options, around)
    gains = []
    for row in grads:
        world = build()
        start = [p.detach().clone() for p in world.params]
        _move(world, row, options)
        if options.gain == "exact":
            gains.append(before - _main_loss(world, options, around))
        else:
            parts = zip(world.params, start, mine, strict=True)
            gains.append(sum((g * (s - p.detach())).sum().item() for p, s, g in parts if g is not None))
    return gains


def _main_loss(world: World, options: Options, around: Around) -> float:
    seeded(SEED)
    with around():
        loss = world.losses(world.gain_batch if options.other_batch else world.batch)[options.main_task]
    assert loss is not None
    return loss.item()


@torch.no_grad()
def _move(world: World, grads: list[Tensor | None], options: Options) -> None:
    """Takes the trial step for good."""
    moving = len(world.params if options.moves_heads else world.shared)
    pairs = [(p, g) for p, g in zip(world.params[:moving], grads, strict=False) if g is not None]
    if options.trial_step == "optimizer":
        assert world.optimizer is not None
        for p, g in pairs:
            p.grad = g.clone()
        world.optimizer.step()
    else:
        rates = dict.fromkeys(world.params, RATE)
        if options.trial_step == "group rates":
            assert world.optimizer is not None
            rates = {p: group["lr"] for group in world.optimizer.param_groups for p in group["params"]}
        for p, g in pairs:
            p -= rates[p] * g


def _weights(gains: list[float], options: Options) -> list[float]:
    total = len(gains) if options.normalise == "tasks" else 1.0
    kept = [max(g, 0.0) for g in gains] if options.negative == "clamp" else gains
    scale = kept[options.main_task] if options.normalise == "main" else sum(abs(g) for g in kept)
    if max(gains) <= 0 or scale <= 0:
        return [total * (t == options.main_task) for t in range(len(gains))]
    return [total * g / scale for g in kept]


def _sum(grads: Sequence[Tensor | None], weights: Sequence[float]) -> Tensor | None:
    present = [w * g for w, g in zip(weights, grads, strict=True) if g is not None]
    return sum(present[1:], present[0]) if present else None


def generators() -> tuple[object, ...]:
    """Returns the states of the global generators."""
    name, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), name, np.asarray(keys).tobytes(), *rest


def observed(value: Any) -> Any:
    """Returns all that a model holds as plain values that `==` compares: numbers to the bit, kinds, flags."""
    return _plain(value, {})


def _plain(value: Any, known: dict[int, tuple[int, Any]]) -> Any:
    if value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype | torch.device):
        return value
    if id(value) in known:
        return "again", known[id(value)][0]
    known[id(value)] = len(known), value  # held, so that no other value gets its address
    if isinstance(value, Tensor):
        numbers = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        attributes = {k: v for k, v in vars(value).items() if not k.startswith(("task_", "_dynamo"))}
        graph = (value.requires_grad, value.grad_fn is None)
        return type(value).__name__, value.dtype, tuple(value.shape), graph, numbers, _plain(attributes, known)
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, Mapping):
        # Hooks have numbers from one counter for all models, so only names count.
        return type(value).__name__, [(k if isinstance(k, str) else "", _plain(v, known)) for k, v in value.items()]
    if isinstance(value, set | frozenset):
        return type(value).__name__, sorted(map(str, value))
    if isinstance(value, Sequence) or hasattr(value, "popleft"):
        return type(value).__name__, [_plain(v, known) for v in value]
    if isinstance(value, nn.Module) or type(value).__module__ in ("types", "loops_blocks"):
        return type(value).__name__, _plain(vars(value), known)
    return type(value).__name__


def trunk_of(blocks: Sequence[nn.Module]) -> nn.Sequential:
    """Returns a trunk [B, 4] -> [B, 6] with memory of every kind that the blocks [B, 6] -> [B, 6] have."""
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), *blocks, nn.Linear(6, 6)).double()


class Tasks(nn.Module):
    """A trunk and a head per task."""

    def __init__(self, trunk: nn.Module, num_tasks: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(num_tasks)).double()

    def forward(self, x: Tensor) -> list[Tensor]:
        z = self.trunk(x)
        return [head(z)[:, 0] for head in self.heads]


def errors(outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yields one loss per task."""
    for k, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        yield (output - target).square().mean() * (1 + k / 2)


def data(seed: int, num_tasks: int, rows: int = 8) -> tuple[Tensor, list[Tensor]]:
    """Returns inputs [B, 4] and a target [B] per task."""
    x, *y = torch.randn(num_tasks + 1, rows, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, [x[:, :2].sum(1) + target[:, 0] for target in y]


def optimizer_of(world: World, kind: Callable[..., torch.optim.Optimizer] = torch.optim.Adam) -> torch.optim.Optimizer:
    """Returns an optimizer with two groups and state from two steps that were taken before, to the bit the same."""
    first, *rest = world.params
    groups = [{"params": [first], "lr": 3 * RATE}, {"params": rest}]
    optimizer = kind(groups, lr=RATE)
    generator = torch.Generator().manual_seed(11)
    for _ in range(2):
        for p in world.params:
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def close(found: Tensor, expected: Any, what: str, rtol: float = 1e-7) -> None:
    """Asserts that numbers agree, by default to the rounding of float64."""
    expected = torch.as_tensor(expected, dtype=found.dtype)
    torch.testing.assert_close(
        found.detach(), expected, rtol=rtol, atol=1e-11, equal_nan=True, msg=lambda m: f"{what}: {m}"
    )


def check_refused(build: Callable[[], World], options: Options, match: str, around: Around = nullcontext) -> None:
    """Asserts that a call of HydaLearn is refused before any gradient comes and any parameter moves."""
    first = build()
    seeded(SEED)
    before_pass = generators()
    with around():
        first.losses(first.batch)
    after_pass = generators()
    world = build()
    hydalearn = HydaLearn(world.model, world.losses_fn, world.shared, **options.arguments(world))
    before = {p: (p.data_ptr(), p.detach().clone()) for p in world.params}
    seeded(SEED)
    with around(), pytest.raises(ValueError, match=match):
        hydalearn.backward(world.batch, world.gain_batch if options.other_batch else None)
    assert all(p.grad is None and not hasattr(p, "task_grad") for p in [*world.params, *world.model.parameters()])
    assert all(p.data_ptr() == pointer and torch.equal(p, value) for p, (pointer, value) in before.items())
    assert generators() in (before_pass, after_pass)


def check(
    build: Callable[[], World], options: Options, around: Around = nullcontext, tolerance: float = 1e-7
) -> HydaLearnStep:
    """Asserts that one call of HydaLearn gives what the oracle gives, and leaves what ordinary passes leave."""
    expected = outcome(build, options, around)
    world = build()
    world.watch()
    params = list(world.model.parameters())
    before = {p: (p.data_ptr(), p.detach().clone()) for p in world.params}
    hydalearn = HydaLearn(world.model, world.losses_fn, world.shared, **options.arguments(world))
    seeded(SEED)
    with around():
        try:
            step = hydalearn.backward(world.batch, world.gain_batch if options.other_batch else None)
        except ValueError as error:
            raise AssertionError(f"refused: {error}") from error
    left = observed(world.model), generators()
    close(step.losses, expected.losses, "losses")
    close(step.gains, expected.gains, "gains", tolerance)
    close(step.weights, expected.weights, "weights", tolerance)
    for i, (p, of_tasks, grad) in enumerate(zip(world.params, expected.task_grads, expected.grads, strict=True)):
        assert (p.grad is None) == (grad is None)
        if grad is not None:
            close(p.grad, grad, "p.grad", tolerance)
        if grad is not None and i < len(world.shared):
            rows = torch.stack([torch.zeros_like(grad) if g is None else g for g in of_tasks])
            close(p.task_grad, rows, "p.task_grad")
    assert left == expected.left
    assert all(a is b for a, b in zip(world.model.parameters(), params, strict=True))
    assert all(p.grad is None for p in params if p not in before)
    assert all(p.data_ptr() == pointer and torch.equal(p, value) for p, (pointer, value) in before.items())
    assert len(set(world.seen)) == 1
    return step
