"""The order in memory of every gradient that is made, kept or tried, and the steps that are taken from them.

torch's fused kernels pair the numbers of a parameter, its gradient and its moments by their place in memory. So a
gradient in another order makes a step that is wrong without a word.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import ADATASK, OPTIONS, TORCH, ByHand, added, by_task, close, examples, kernel, twin
from torch import Tensor, nn

from mtlcore import HydaLearn, clip_task_grad_norm_, combine, task_backward
from mtlcore.task_gradients import contributions

FLAGS = st.sampled_from([{"fused": True}, {"fused": False, "foreach": True}, {"fused": False, "foreach": False}, {}])
T = 2


class Permuted(nn.Module):
    """A linear map [6] -> [4] by weights [2, 3, 4], whose numbers lie in memory in any order of the axes."""

    def __init__(self, order: Sequence[int], holes: bool = False) -> None:
        super().__init__()
        places = [order.index(axis) for axis in range(3)]
        shape = [(2, 3, 4)[axis] for axis in order]
        numbers = torch.randn(*shape, 2, dtype=torch.float64)[..., 0] if holes else torch.randn(*shape).double()
        self.weight = nn.Parameter(numbers.permute(places))
        assert self.weight.shape == (2, 3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bij,ijk->bk", x.reshape(-1, 2, 3), self.weight)


class Reshaped(nn.Module):
    """A module of images or volumes, in ``memory_format``, of an input [B, 6]."""

    def __init__(self, inner: nn.Module, shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
        super().__init__()
        self.inner, self.shape, self.memory_format = inner.to(memory_format=memory_format), shape, memory_format  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        n = torch.Size(self.shape).numel()
        image = x.repeat(1, -(-n // x.shape[1]))[:, :n].reshape(-1, *self.shape)
        features: Tensor = self.inner(image.to(memory_format=self.memory_format)).flatten(1)
        return features


def transposed(n_in: int, n_out: int) -> nn.Linear:
    linear = nn.Linear(n_in, n_out, dtype=torch.float64)
    linear.weight = nn.Parameter(torch.randn(n_in, n_out, dtype=torch.float64).div(n_in**0.5).t())
    return linear


def images(inner: nn.Module, *shape: int) -> Reshaped:
    return Reshaped(inner.double(), shape, torch.channels_last)


def volumes(inner: nn.Module, *shape: int) -> Reshaped:
    return Reshaped(inner.double(), shape, torch.channels_last_3d)


BRANCHES: dict[str, Callable[[], nn.Module]] = {
    "contiguous": lambda: nn.Linear(6, 3, dtype=torch.float64),
    "contiguous and large": lambda: nn.Sequential(nn.Linear(6, 184), nn.Tanh(), nn.Linear(184, 184)).double(),
    "transposed": lambda: transposed(6, 3),
    "transposed and large": lambda: nn.Sequential(nn.Linear(6, 184).double(), nn.Tanh(), transposed(184, 184)),
    "convolution": lambda: images(nn.Conv2d(3, 4, 2), 3, 3, 3),
    "pointwise convolution": lambda: images(nn.Conv2d(3, 4, 1), 3, 2, 2),
    "depthwise convolution": lambda: images(nn.Conv2d(4, 4, 2, groups=4, bias=False), 4, 3, 3),
    "transposed convolution": lambda: images(nn.ConvTranspose2d(3, 2, 2), 3, 2, 2),
    "large convolution": lambda: images(nn.Conv2d(64, 128, 2), 64, 2, 2),
    "normalised convolution": lambda: images(
        nn.Sequential(nn.Conv2d(2, 4, 2, bias=False), nn.GroupNorm(2, 4)), 2, 3, 3
    ),
    "volume": lambda: volumes(nn.Conv3d(2, 3, 2), 2, 2, 3, 3),
    "permuted 0": lambda: Permuted((2, 0, 1)),
    "permuted 1": lambda: Permuted((1, 2, 0)),
    "permuted 2": lambda: Permuted((2, 1, 0)),
    "with holes": lambda: Permuted((0, 2, 1), holes=True),
}
MAKERS = st.lists(st.sampled_from(list(BRANCHES)), min_size=1, max_size=4, unique=True)


class Model(nn.Module):
    """Branches side by side, and T heads of a weight that lies transposed; the second task misses the last branch."""

    def __init__(self, branches: Sequence[str]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.ModuleList([BRANCHES[name]() for name in branches])
        sizes = [branch(torch.zeros(1, 6, dtype=torch.float64)).shape[1] for branch in self.trunk]
        self.heads = nn.ModuleList([transposed(sum(sizes[: len(sizes) - t] or sizes), 2) for t in range(T)])

    def losses(self, seed: int) -> list[Tensor]:
        x = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        features = torch.cat([branch(x).tanh() for branch in self.trunk], 1)
        outputs = [head(features[:, : head.in_features]) for head in self.heads]
        return [(y - x[:, 2 * t : 2 * t + 2]).square().mean() * 3.0**t for t, y in enumerate(outputs)]


def order_of(x: Tensor) -> tuple[int, ...]:
    """The strides of all axes that hold more than one number."""
    return tuple(stride for n, stride in zip(x.shape, x.stride(), strict=True) if n > 1)


def in_order_of(p: Tensor, grad: Tensor) -> bool:
    """Whether the numbers of ``grad`` lie in memory as those of ``p`` do, but for holes."""
    return grad.shape == p.shape and order_of(grad) == order_of(torch.empty_like(p))


class Loop:
    """A model that is trained, and its oracle: gradients of T tasks, their parts of p.grad, one gradient of a head."""

    def __init__(self, branches: Sequence[str]) -> None:
        self.model = Model(branches)
        oracle: Model = twin(self.model)
        self.exact_losses = oracle.losses
        self.shared: list[Any] = list(self.model.trunk.parameters())
        self.heads = list(self.model.heads.parameters())
        self.exact = [*oracle.trunk.parameters(), *oracle.heads.parameters()]
        self.orders = [{order_of(p), order_of(torch.empty_like(p))} for p in self.model.parameters()]
        self.start()

    def start(self) -> None:
        self.of_tasks: list[list[Tensor | None]] = [[None] * T for _ in self.shared]
        self.parts: list[list[Tensor | None]] = [[None] * T for _ in self.shared]
        self.of_heads: list[list[Tensor | None]] = [[None] for _ in self.heads]

    def _watched(self, model: Model, seed: int) -> list[Tensor]:
        """The losses, after a look at the order of what is tried."""
        assert all(order_of(p) in orders for p, orders in zip(model.parameters(), self.orders, strict=True))
        return model.losses(seed)

    def task_backward(self, seed: int) -> None:
        task_backward(self.model.losses(seed), self.shared)
        self._add(seed, [1.0] * T)

    def hydalearn_backward(self, optimizer: torch.optim.Optimizer, by_hand: ByHand, seed: int) -> None:
        """Compares the gains with those of the optimizer's steps by hand, and adds the gradients."""
        options: dict[str, Any] = {"trial_step": optimizer, "trial_rule": "optimizer", "trial_moves": "shared+head"}
        step = HydaLearn(self.model, self._watched, self.shared, **options).backward(seed)
        grads, start = by_task(self.exact_losses(seed), self.exact), [p.detach().clone() for p in self.exact]
        for t, gain in enumerate(step.gains):
            before = self.exact_losses(seed)[0]
            copy.deepcopy(by_hand).step(self.exact, [[of_param[t]] for of_param in grads])
            close(gain, before - self.exact_losses(seed)[0], "gain")
            for p, value in zip(self.exact, start, strict=True):
                p.data = value.clone()
        self._add(seed, step.weights.tolist())

    def _add(self, seed: int, weights: Sequence[float]) -> None:
        grads = by_task(self.exact_losses(seed), self.exact)
        for mine, parts, of_param in zip(self.of_tasks, self.parts, grads, strict=False):
            for t in [t for t, grad in enumerate(of_param) if grad is not None]:
                mine[t] = added([mine[t], of_param[t]])
                parts[t] = added([parts[t], of_param[t]], [1.0, weights[t]])
        for head, of_param in zip(self.of_heads, grads[len(self.shared) :], strict=True):
            head[0] = added([head[0], added(of_param, weights)])

    def clip(self, max_norm: float = 0.5) -> None:
        clip_task_grad_norm_(self.shared, max_norm)
        for t in range(T):
            norm = sum(float(g.square().sum()) for row in self.of_tasks if (g := row[t]) is not None) ** 0.5
            for row in [*self.of_tasks, *self.parts]:
                row[t] = added([row[t]], [min(1.0, max_norm / (norm + 1e-6))])

    def combine(self, weights: Sequence[float] | None) -> None:
        combine(self.shared, weights)
        for mine, parts in zip(self.of_tasks, self.parts, strict=True):
            parts[:] = [added([g], None if weights is None else [weights[t]]) for t, g in enumerate(mine)]

    def check(self) -> None:
        for p in self.model.parameters():
            held = [*getattr(p, "task_grad", ()), *([] if p.grad is None else [p.grad])]
            assert all(in_order_of(p, grad) for grad in held), f"{[g.stride() for g in held]} for {p.stride()}"
        for p, mine, parts in zip(self.shared, self.of_tasks, self.parts, strict=True):
            for row, exact in zip(p.task_grad, mine, strict=True):
                close(row, torch.zeros_like(row) if exact is None else exact)
            close(p.grad, added(parts))
        for p, (exact,) in zip(self.heads, self.of_heads, strict=True):
            close(p.grad, exact)

    def check_step(self) -> None:
        for p, exact in zip([*self.shared, *self.heads], self.exact, strict=True):
            close(p, exact)


WEIGHTS = st.lists(st.sampled_from([0.0, 0.3, 1.0, 2.5]), min_size=T, max_size=T)
FOR_TORCH = ("backward", "hydalearn", "clip", "combine")


@examples(120)
@given(
    branches=MAKERS,
    rule=st.sampled_from(list(TORCH)),
    flags=FLAGS,
    programme=st.lists(st.lists(st.sampled_from(FOR_TORCH), max_size=3), min_size=2, max_size=3),
    weights=WEIGHTS,
)
def test_gradients_lie_as_their_parameters_do_and_torchs_step_is_the_one_of_float64(
    branches: list[str], rule: str, flags: dict[str, bool], programme: list[list[str]], weights: list[float]
) -> None:
    flags = {} if flags.get("fused") and "with holes" in branches else flags  # torch's fused do not know them
    loop = Loop(branches)
    options = {"lr": 0.01, "weight_decay": 0.1}
    optimizer = TORCH[rule](loop.model.parameters(), **options, **OPTIONS[rule], **kernel(rule, flags))
    by_hand = ByHand(rule, **options)
    for seed, parts in enumerate(programme):
        optimizer.zero_grad()
        loop.start()
        first = "hydalearn" if seed == 1 else "backward"
        for place, part in enumerate([first, *parts]):
            if part == "hydalearn":
                loop.hydalearn_backward(optimizer, by_hand, 10 * seed + place)
            elif part == "backward":
                loop.task_backward(10 * seed + place)
            elif part == "clip":
                loop.clip()
            else:
                loop.combine(weights)
            loop.check()
        optimizer.step()
        by_hand.step(loop.exact, [[added(row)] for row in [*loop.parts, *loop.of_heads]])
        loop.check_step()


@examples(150)
@given(
    branches=MAKERS,
    rule=st.sampled_from(list(ADATASK)),
    flags=FLAGS,
    clips=st.lists(st.booleans(), min_size=2, max_size=3),
    micro_batches=st.integers(1, 2),
    weights=st.none() | WEIGHTS | WEIGHTS.map(torch.tensor),
)
def test_moments_lie_as_their_parameters_do_and_a_step_by_task_is_the_one_of_float64(
    branches: list[str],
    rule: str,
    flags: dict[str, bool],
    clips: list[bool],
    micro_batches: int,
    weights: list[float] | Tensor | None,
) -> None:
    flags = {} if flags.get("fused") and "with holes" in branches else flags  # refused
    loop = Loop(branches)
    options = {"lr": 0.01, "weight_decay": 0.1}
    optimizer = ADATASK[rule](
        loop.model.parameters(), num_tasks=T, task_weights=weights, **options, **OPTIONS[rule], **kernel(rule, flags)
    )
    shared, heads = ByHand(rule, **options), ByHand(rule, **options)
    numbers = None if weights is None else [float(w) for w in weights]
    for seed, clip in enumerate(clips):
        optimizer.zero_grad(set_to_none=seed != 1)
        loop.start()
        for k in range(micro_batches):
            loop.task_backward(10 * seed + k)
        if clip:
            loop.clip()
        loop.check()
        optimizer.step()
        shared.step(loop.exact[: len(loop.shared)], loop.of_tasks, numbers)
        heads.step(loop.exact[len(loop.shared) :], loop.of_heads)
        loop.check_step()
        for p in loop.shared:
            moments = [value for name, value in optimizer.state[p].items() if name != "step"]
            assert all(in_order_of(p, row) for moment in moments for row in moment)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_tasks_part_of_the_gradient_lies_as_its_parameter_does(branch: str) -> None:
    loop = Loop([branch])
    loop.task_backward(0)
    for weights in (None, [0.3, 2.0], [0.0, 1.0]):
        loop.combine(weights)
        for p, parts in zip(loop.shared, loop.parts, strict=True):
            for row, exact in zip(contributions(p), parts, strict=True):
                close(row, torch.zeros_like(row) if exact is None else exact)
                assert in_order_of(p, row)
