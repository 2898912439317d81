"""Layers [B, 6] -> [B, 6] that remember, draw or derive something, as people write them; each reads what it moves."""

import copy
import random
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

WIDTH = 6


class Remembers(nn.Module):
    """Reads and changes one attribute of any kind."""

    def __init__(self, state: Any, use: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.state, self.use = nn.Linear(WIDTH, WIDTH), state, use

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.use(self.state, torch.tanh(self.linear(x)))
        return z


def appended(state: Any, x: Tensor) -> Any:
    state.append(x.detach().mean(0) + 1)
    return x * (len(state) + sum(state))


def kept_apart(state: Any, x: Tensor) -> Any:
    state["calls"] = state.get("calls", 0) + 1
    earlier = state.get("mean", torch.zeros(()))
    state["mean"] = x.detach().mean(0)
    return x * state["calls"] + earlier


def nested(state: Any, x: Tensor) -> Any:
    inner = state["inner"]
    inner["calls"] += 1
    inner["means"].append(x.detach().mean(0))
    return x * inner["calls"] + sum(inner["means"])


def counted(state: Any, x: Tensor) -> Any:
    state.calls += 1
    state.scale = 0.7 * state.scale
    return x * state.scale + state.calls


def first_moved(state: Any, x: Tensor) -> Any:
    state[0].lerp_(x.detach().mean(0) + 1, 0.4)
    return x * state[0]


def array_moved(state: Any, x: Tensor) -> Tensor:
    state += 1.0
    return x * torch.from_numpy(state.copy())


def all_seen(state: Any, x: Tensor) -> Any:
    state.add(len(state))
    return x * len(state)


def drawn_by_torch(state: Any, x: Tensor) -> Tensor:
    return x + torch.randn(x.shape, generator=state, dtype=x.dtype)


def drawn_by_numpy(state: Any, x: Tensor) -> Tensor:
    return x + torch.from_numpy(state.normal(size=x.shape))


def drawn_by_python(state: Any, x: Tensor) -> Any:
    return x * state.uniform(0.5, 2)


class Attribute(nn.Module):
    """Binds its own attributes anew: a number, a plain tensor, a flag, one that comes into being late."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.tau, self.calls, self.centre = nn.Linear(WIDTH, WIDTH), 2.0, 0, torch.zeros(WIDTH).double()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.tau *= 0.8
        z: Tensor = self.linear(x) / self.tau - self.centre + self.calls
        self.centre = 0.5 * self.centre + x.detach().mean(0)
        self.late = 2 * getattr(self, "late", 0.5)
        return z * float(self.late)


class Running(nn.Module):
    """Running statistics that are read after they moved; in place, or bound anew."""

    mean: Tensor

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("unused", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            self.mean.lerp_(x.detach().mean(0), 0.3)
        else:
            self.mean = torch.lerp(self.mean, x.detach().mean(0), 0.3)
        return x - 2 * self.mean


class ReadsBatchNorm(nn.Module):
    """Batch normalisation whose running statistics are read in the same pass."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH, momentum=0.5)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.norm(x)
        assert self.norm.running_mean is not None
        assert self.norm.num_batches_tracked is not None
        return z + self.norm.running_mean + self.norm.num_batches_tracked


class Teacher(nn.Module):
    """A mean teacher, BYOL's or MoCo's: frozen parameters that follow the student's in each pass."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.student, self.how = nn.Linear(WIDTH, WIDTH), how
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.teacher.weight.add_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        for p, q in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            if self.how == "no_grad":
                with torch.no_grad():
                    p.lerp_(q + 0.1, 0.3)
            elif self.how == "data":
                p.data.lerp_(q.data + 0.1, 0.3)
            else:
                p.data = p.data * 0.7 + (q.data + 0.1) * 0.3
        student, teacher = self.student(x), self.teacher(x)
        return torch.add(student, teacher)


class Queue(nn.Module):
    """A queue of keys with its pointer, as in MoCo."""

    keys: Tensor
    pointer: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.linspace(-1, 1, 5 * WIDTH).reshape(5, WIDTH))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.keys[self.pointer % 5] = x.detach().mean(0)
        self.pointer += 1
        return x + torch.softmax(x @ self.keys.T, 1) @ self.keys


class Keeps(nn.Linear):
    """Keeps what it computed, graph and all."""

    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = super().forward(x)
        self.all_kept = {"output": self.kept, "inputs": [x]}
        return self.kept


class Noise(nn.Module):
    """Noise of numpy's global generator, a factor of Python's, dropout of torch's."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "numpy":
            return x + torch.from_numpy(np.random.standard_normal(x.shape))
        if self.kind == "python":
            return x * random.uniform(0.5, 2)
        return torch.dropout(x, 0.4, train=True)


class Tied(nn.Module):
    """One weight in three places, once transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.two(torch.tanh(self.one(x)))) @ self.one.weight.T


class Tagged(nn.Parameter):
    """A parameter of a kind of its own."""

    gain: float


class OfItsOwnKind(nn.Module):
    """Reads the kind and the attributes of its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Tagged(torch.eye(WIDTH))
        self.weight.gain = 1.5
        self.frozen = Tagged(torch.full((WIDTH,), 0.5), requires_grad=False)
        self.frozen.gain = 0.5

    def forward(self, x: Tensor) -> Tensor:
        assert type(self.weight) is type(self.frozen) is Tagged
        z: Tensor = x @ self.weight * self.weight.gain + self.frozen * self.frozen.gain
        return z


class Checkpointed(nn.Module):
    """Computes an inner layer twice, with the same dropout."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = checkpoint(self.inner, x, use_reentrant=self.reentrant)
        return z


class Functional(nn.Module):
    """torch.func: one example at a time, a functional call, a Jacobian."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(WIDTH, WIDTH), kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "vmap":
            one_by_one: Tensor = torch.func.vmap(lambda row: torch.tanh(self.linear(row)))(x)
            return one_by_one
        if self.kind == "functional call":
            parameters = {name: p * 1.5 for name, p in self.linear.named_parameters()}
            called: Tensor = torch.func.functional_call(self.linear, parameters, (x,))
            return called
        slopes: Tensor = torch.func.vmap(torch.func.jacrev(lambda row: torch.tanh(self.linear(row)).square()))(x)
        return slopes.sum(1)


class Hooked(nn.Module):
    """Hooks on one of torch's own layers, which count there, change what comes out, and keep it."""

    def __init__(self, before: bool) -> None:
        super().__init__()
        linear: Any = nn.Linear(WIDTH, WIDTH)
        self.linear, linear.calls = linear, 0
        if before:
            self.linear.register_forward_pre_hook(Hooked.count_input)
        else:
            self.linear.register_forward_hook(Hooked.count_output)

    @staticmethod
    def count_input(layer: Any, inputs: tuple[Tensor]) -> Tensor:
        layer.calls, layer.kept = layer.calls + 1, inputs[0]
        return inputs[0] * int(layer.calls)

    @staticmethod
    def count_output(layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        del inputs
        layer.calls, layer.kept = layer.calls + 1, output
        return output * int(layer.calls)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.linear(x)
        return z


def normed(kind: str) -> nn.Module:
    """A linear layer whose weight is derived, in torch's old and new way."""
    linear = nn.Linear(WIDTH, WIDTH)
    if kind == "old weight norm":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that there is a new way
            torch.nn.utils.weight_norm(linear)
    elif kind == "old spectral norm":
        torch.nn.utils.spectral_norm(linear)
    elif kind == "weight norm":
        parametrizations.weight_norm(linear)
    elif kind == "spectral norm":
        parametrizations.spectral_norm(linear)
    else:
        parametrizations.orthogonal(linear)
    return nn.Sequential(linear, nn.Tanh())


def ones() -> Tensor:
    return torch.ones(WIDTH, dtype=torch.float64)


RIGHT: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()),
    "attributes bound anew": Attribute,
    "buffer moved in place": lambda: Running(in_place=True),
    "buffer bound anew": lambda: Running(in_place=False),
    "BatchNorm": ReadsBatchNorm,
    "queue of keys": Queue,
    "list": lambda: Remembers([ones()], appended),
    "deque": lambda: Remembers(deque([ones()], maxlen=2), appended),
    "dict": lambda: Remembers({}, kept_apart),
    "OrderedDict": lambda: Remembers(OrderedDict(), kept_apart),
    "defaultdict": lambda: Remembers(defaultdict(int), kept_apart),
    "Counter": lambda: Remembers(Counter(), kept_apart),
    "set": lambda: Remembers(set(), all_seen),
    "containers in a dict": lambda: Remembers({"inner": {"calls": 0, "means": []}}, nested),
    "list of tensors": lambda: Remembers([ones()], first_moved),
    "tensor attribute": lambda: Remembers(ones()[None], first_moved),
    "torch generator": lambda: Remembers(torch.Generator().manual_seed(3), drawn_by_torch),
    "kept output": Keeps,
    "hook after": lambda: Hooked(before=False),
    "hook before": lambda: Hooked(before=True),
    **{f"{kind} noise": partial(Noise, kind) for kind in ("torch", "numpy", "python")},
    "tied weights": Tied,
    "parameter of its own kind": OfItsOwnKind,
    "reentrant checkpoint": lambda: Checkpointed(reentrant=True),
    "checkpoint": lambda: Checkpointed(reentrant=False),
    **{kind: partial(Functional, kind) for kind in ("vmap", "functional call", "Jacobian")},
    **{
        kind: partial(normed, kind)
        for kind in ("old weight norm", "old spectral norm", "weight norm", "spectral norm", "orthogonal")
    },
}
"""What every trial sees as the pass before saw it."""

REFUSED: dict[str, Callable[[], nn.Module]] = {
    "teacher moved in place": lambda: Teacher("no_grad"),
    "teacher's data moved": lambda: Teacher("data"),
    "teacher's data bound anew": lambda: Teacher("bound"),
    "object": lambda: Remembers(SimpleNamespace(calls=0, scale=1.0), counted),
    "numpy array": lambda: Remembers(np.ones(WIDTH), array_moved),
    "numpy generator": lambda: Remembers(np.random.default_rng(3), drawn_by_numpy),
    "Python generator": lambda: Remembers(random.Random(3), drawn_by_python),
}
"""What no trial can be given again."""
