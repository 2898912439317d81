"""What the tests of training loops share: small problems, and float64 oracles that use nothing of the package.

The oracles are autograd, one task at a time, and the optimizers' equations written out, one line each.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import Phase, settings
from torch import Tensor, nn

from mtlcore import AdaTaskAdagrad, AdaTaskAdam, AdaTaskAdamW, AdaTaskRMSprop

ADATASK: dict[str, Any] = {
    "adam": AdaTaskAdam,
    "adamw": AdaTaskAdamW,
    "adagrad": AdaTaskAdagrad,
    "rmsprop": AdaTaskRMSprop,
}
RULES = list(ADATASK)
TORCH: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}
EPS = 1e-4  # large enough that a rounding error of a gradient stays one of the step
OPTIONS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9},
    "adam": {"betas": (0.8, 0.95), "eps": EPS},
    "adamw": {"betas": (0.8, 0.95), "eps": EPS},
    "adagrad": {"eps": EPS},
    "rmsprop": {"alpha": 0.9, "momentum": 0.5, "eps": EPS},
}


def examples(number: int) -> settings:
    """Draws so many cases, the same ones each time, and says what is wrong with the smallest that fails."""
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    return settings(max_examples=number, derandomize=True, deadline=None, report_multiple_bugs=False, phases=phases)


def kernel(rule: str, flags: dict[str, bool]) -> dict[str, bool]:
    """Returns the flags that an optimizer takes: torch has no fused RMSprop."""
    return {name: value for name, value in flags.items() if name != "fused" or rule != "rmsprop"}


class ByHand:
    """Optimizers in float64: of one gradient per parameter torch's, of several AdaTask's.

    Args:
        rule: A key of ``OPTIONS``, whose numbers it uses.
        lr: Learning rate.
        weight_decay: Decoupled for "adamw"; of T gradients each gets its share 1/T otherwise.
    """

    def __init__(self, rule: str, lr: float = 0.05, weight_decay: float = 0.0) -> None:
        self.rule, self.lr, self.weight_decay = rule, lr, weight_decay
        self.state: dict[tuple[int, int], dict[str, Any]] = {}  # (parameter, task) -> its moments

    def step(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Sequence[Tensor | None]],
        weights: Sequence[float] | None = None,
    ) -> list[dict[int, Tensor]]:
        """Moves the parameters in place by ``grads[i][k]`` and returns each task's update of each parameter."""
        updates: list[dict[int, Tensor]] = []
        for i, (p, of_tasks) in enumerate(zip(params, grads, strict=True)):
            theta = p.detach().double()
            share = 0.0 if self.rule == "adamw" else self.weight_decay / len(of_tasks)
            now = {}
            for k, g in enumerate(of_tasks):
                w = 1.0 if weights is None else weights[k]
                if g is not None:
                    g = torch.where(g.isfinite(), g, 0.0) if w == 0 else g
                    now[k] = -self.lr * w * self._direction(g + share * theta, self.state.setdefault((i, k), {}))
            if now:
                kept = 1 - self.lr * self.weight_decay if self.rule == "adamw" else 1.0
                p.data = kept * theta + sum(now.values())
            updates.append(now)
        return updates

    def _direction(self, g: Tensor, state: dict[str, Any]) -> Tensor:
        o, t = OPTIONS[self.rule], state.get("t", 0) + 1
        state["t"] = t
        if self.rule == "sgd":
            state["b"] = o["momentum"] * state["b"] + g if t > 1 else g
            direction: Tensor = state["b"]
        elif self.rule in ("adam", "adamw"):
            one, two = o["betas"]
            state["m"] = one * state.get("m", 0) + (1 - one) * g
            state["v"] = two * state.get("v", 0) + (1 - two) * g**2
            direction = state["m"] / (1 - one**t) / ((state["v"] / (1 - two**t)) ** 0.5 + EPS)
        elif self.rule == "adagrad":
            state["s"] = state.get("s", 0) + g**2
            direction = g / (state["s"] ** 0.5 + EPS)
        else:
            state["v"] = o["alpha"] * state.get("v", 0) + (1 - o["alpha"]) * g**2
            state["b"] = o["momentum"] * state.get("b", 0) + g / (state["v"] ** 0.5 + EPS)
            direction = state["b"]
        return direction


def by_task(losses: Sequence[Tensor | None], params: Sequence[Tensor]) -> list[list[Tensor | None]]:
    """Returns ``grads[i][t]`` by autograd, task after task; None where a loss is absent or misses a parameter."""
    rows: list[list[Tensor | None]] = []
    for loss in losses:
        if loss is None:
            rows.append([None] * len(params))
        else:
            rows.append(list(torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)))
    return [list(of_param) for of_param in zip(*rows, strict=True)]


def added(grads: Sequence[Tensor | None], weights: Sequence[float] | None = None) -> Tensor | None:
    """Returns sum_t w_t g_t of the tasks that are there and weigh more than nothing; None where no task is there."""
    present = [(1.0 if weights is None else weights[t], g) for t, g in enumerate(grads) if g is not None]
    if not present:
        return None
    return sum((w * g for w, g in present if w != 0), torch.zeros_like(present[0][1]))


class Net(nn.Module):
    """T tasks over shared parameters of several kinds, one of which only the first task reaches, and T heads.

    Args:
        num_tasks: T.
        seed: Of the initial values.
        dtype: Of all parameters.
    """

    def __init__(self, num_tasks: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def new(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        self.num_tasks = num_tasks
        self.shared = nn.ParameterList([nn.Parameter(new(3)), nn.Parameter(new(2, 3).t()), nn.Parameter(new(2, 2))])
        self.only_first = nn.Parameter(new(2))
        self.heads = nn.ParameterList([nn.Parameter(new(3)) for _ in range(num_tasks)])

    @property
    def trunk(self) -> list[Any]:
        """The shared parameters, in a fixed order; the last is the first task's alone."""
        return [*self.shared, self.only_first]

    def losses(self, seed: int, present: Sequence[bool] | None = None, scale: float = 1.0) -> list[Tensor | None]:
        """Returns T losses of a batch that ``seed`` makes, None of those that are not ``present``; all positive."""
        generator = torch.Generator().manual_seed(1000 + seed)
        losses: list[Tensor | None] = []
        for t, head in enumerate(self.heads):
            total = torch.zeros((), dtype=head.dtype)
            for p in [*self.shared, head, *([self.only_first] if t == 0 else [])]:
                a, b = torch.randn(2, *p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
                total = total + (a * p + b).sin().sum()
            there = present is None or present[t]
            losses.append((total - 1).square() * scale * 3.0**t if there else None)
        return losses

    def every(self, seed: int, scale: float = 1.0) -> list[Tensor]:
        """Returns the losses of a batch that has all tasks."""
        return [loss for loss in self.losses(seed, None, scale) if loss is not None]


def twin(model: nn.Module) -> Any:
    """Returns a copy in float64 and plain memory order, for an oracle."""
    copied = copy.deepcopy(model).double()
    for p in copied.parameters():
        p.data = p.data.clone(memory_format=torch.contiguous_format)
        p.grad = None
    return copied


def times(weights: Sequence[float], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Returns w_t g_t of each task; a task of weight 0 gives zeros, whatever its gradient holds."""
    return [None if g is None else added([g], [w]) for w, g in zip(weights, grads, strict=True)]


def close(found: Tensor | None, expected: Tensor | None, what: object = "") -> None:
    """Asserts that two tensors agree to the rounding of float64, or that there is none of both."""
    assert (found is None) == (expected is None), what
    if found is not None and expected is not None:
        torch.testing.assert_close(
            found.detach().double(), expected.detach(), rtol=1e-9, atol=1e-11, msg=lambda m: f"{what}: {m}"
        )


def snapshot(
    model: nn.Module, optimizer: torch.optim.Optimizer | None = None, of_tasks: bool = True
) -> list[tuple[object, ...]]:
    """Returns all that a refused call has to leave as it is: parameters, gradients (of tasks too), state; as bytes."""
    kept: list[tuple[object, ...]] = []
    for p in model.parameters():
        cleared = p.grad is None or not p.grad.any()  # what is left of task gradients then means nothing
        names = () if cleared or not of_tasks else ("task_grad", "task_weights", "task_reached")
        state = {} if optimizer is None else dict(optimizer.state.get(p, {}))
        held = (p, p.grad, *(getattr(p, name, None) for name in names), *sorted(state), *map(state.get, sorted(state)))
        kept.append(tuple(map(_bytes, held)))
    return kept


def _bytes(value: object) -> object:
    if not isinstance(value, Tensor):
        return value
    return tuple(value.shape), value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
