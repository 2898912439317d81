"""Trials: the losses at other parameters, with everything else as the pass before saw it, and nothing left behind.

A trial runs the user's own ``losses_fn`` on the user's own model: the trial values stand in for the numbers of the
parameters, which stay the same objects. So whatever holds them (wrappers, closures, a compiled graph, tied or derived
weights) sees the trial, on the very path of the pass before: same grad mode, precision and kernels.

What that pass may have changed is put back for each trial and made as before afterwards: torch's, Python's and numpy's
random generators, buffers, and what modules of the model keep as attributes. Each pass gets containers of its own, so
it may take things out of the batch. What cannot be put back is refused: a parameter or a tensor of the batch that the
pass changes in place, a batch that can be read only once, or that brings a graph from outside. For what nobody thought
of there is :meth:`mtlcore.hydalearn.HydaLearn.backward`'s trial of nothing.
"""

import copy
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import string_at
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mtlcore._sharded import reshard
from mtlcore._touched import Moved, held, put

LossesFn = Callable[[Any, Any], Sequence[Tensor | None] | Tensor]
_MODULE = frozenset(vars(nn.Module())) - {"training"}  # what torch's own code keeps in every module
_READ_ONLY = (Tensor, str, int, float, type(None))  # of a batch


class Replay:
    """What a forward pass of ``model`` on ``batch`` may change, as it is when this is created.

    Args:
        model: The model.
        batch: What the pass reads.
        gain_batch: What trials read in its place, if anything; generators are then put back even where the pass drew
            nothing.
        device: Whose random generator the model may draw from.

    Raises:
        ValueError: If the batch can be read only once, or brings a graph.
    """

    def __init__(self, model: nn.Module, batch: Any, gain_batch: Any, device: torch.device) -> None:
        self._model = model
        tensors = [*_tensors(batch), *_tensors(gain_batch)]
        if any(tensor.grad_fn is not None for tensor in tensors):
            raise ValueError(
                "A batch should hold data only, for a trial computes everything else again with other parameters. "
                'Found a tensor with a graph. Compute it inside `losses_fn`, or use gain = "first_order".'
            )
        self._versions = [(x, x._version, "a tensor of its batch") for x in tensors]
        modules = list(model.modules())
        params = [p for module in modules for p in module._parameters.values() if p is not None]
        self._versions += [(p, p._version, "a parameter") for p in params]
        self._generators = [_Generator(*pair) for pair in _generators(device)]
        self._draws = gain_batch is not None
        self._modules = [module for module in modules if _keeps_something(module)]
        self._state = _ModuleState(self._modules, clones=True)

    def check_unchanged(self) -> None:
        """Raises ValueError where the pass since changed in place what a trial reads again."""
        for tensor, version, what in self._versions:
            if tensor._version != version:
                raise ValueError(
                    "Parameter `losses_fn` should leave the batch and parameters as they are, for each trial reads "
                    f"them again. Found {what}, of shape {tuple(tensor.shape)}, changed in place. Work on a copy, "
                    "such as x = x.clone(), and keep what a forward pass moves in buffers."
                )

    @contextmanager
    def again(self, moved: Moved) -> Iterator[None]:
        """Inside, all is as it was when this was created, but for ``moved``; afterwards as before the context."""
        now = _ModuleState(self._modules, clones=False)
        drawn = [g for g in self._generators if self._draws or g.moved_on()]
        states = [g.read() for g in drawn]
        before = held(moved)
        try:
            reshard(self._model)  # gathered parameters would hide what is moved
            self._state.install(fresh=True)
            for g in drawn:
                g.write(g.state)
            _forget_derived()
            put(moved)
            yield
        finally:
            reshard(self._model)
            put(before)
            _forget_derived()
            for g, state in zip(drawn, states, strict=True):
                g.write(state)
            now.install(fresh=False)


def _forget_derived() -> None:
    """Empties torch's caches of what was derived from a parameter, which find it by the object, not by its numbers."""
    torch.clear_autocast_cache()
    if parametrize._cache_enabled:
        parametrize._cache.clear()


class _Generator:
    """A random generator with its state at some moment."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.read, self.write, self.state = read, write, read()
        self._moved: bool | None = None

    def moved_on(self) -> bool:
        """Says whether it drew numbers between its creation and the first call of this."""
        if self._moved is None:
            now = self.read()
            self._moved = not (torch.equal(self.state, now) if isinstance(now, Tensor) else self.state == now)
        return self._moved


def _generators(device: torch.device) -> list[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """Returns how to read and write the state of each generator; torch's keep it on the host, so nothing waits."""
    pythons = random.getstate.__self__  # type: ignore[attr-defined]

    def pythons_state() -> Any:
        return _read_once(random, (_memory(pythons), pythons.gauss_next), random.getstate)

    pairs: list[tuple[Callable[[], Any], Callable[[Any], None]]] = [
        (torch.get_rng_state, torch.set_rng_state),
        (pythons_state, random.setstate),
    ]
    if device.type not in ("cpu", "meta"):  # these have no generator of their own
        module = torch.get_device_module(device)
        pairs.append((module.get_rng_state, module.set_rng_state))
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpys = numpy.random.mtrand._rand

        def read() -> Any:
            name, keys, *rest = numpys.get_state()
            return name, keys.tobytes(), *rest

        def numpys_state() -> Any:
            return _read_once(numpy, (_memory(numpys), _memory(numpys._bit_generator)), read)

        def write(state: Any) -> None:
            name, keys, *rest = state
            numpys.set_state((name, numpy.frombuffer(keys, dtype=numpy.uint32), *rest))

        pairs.append((numpys_state, write))
    return pairs


_states: dict[Any, tuple[Any, Any]] = {}  # the memory of a module's generator when it was last read, and its state


def _read_once(module: Any, memory: Any, read: Callable[[], Any]) -> Any:
    """Returns the state of a generator in that memory, read anew where it changed: to read takes 20 times longer."""
    if module not in _states or _states[module][0] != memory:
        _states[module] = memory, read()
    return _states[module][1]


def _memory(thing: Any) -> bytes:
    """Returns the memory of an object of CPython but for its head, the count of its references."""
    head = object.__basicsize__
    return string_at(id(thing) + head, type(thing).__basicsize__ - head)


def _keeps_something(module: nn.Module) -> bool:
    """Says whether a module may keep what a forward pass changes: torch's own layers have nothing but buffers."""
    values = vars(module)
    own = not type(module).__module__.startswith("torch.nn.modules")
    return bool(own or values["_buffers"] or values["_forward_pre_hooks"] or values["_forward_hooks"])


class _ModuleState:
    """Attributes and buffers of modules, by reference; the numbers of tensors as copies on request."""

    def __init__(self, modules: Sequence[nn.Module], clones: bool) -> None:
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._contents: list[tuple[Any, Any]] = []
        self._numbers: list[tuple[Tensor, Tensor]] = []
        self._generators: list[_Generator] = []
        for module in modules:
            values = vars(module)
            buffers = values["_buffers"]
            self._contents.append((buffers, dict(buffers)))
            for value in buffers.values():
                self._add(value, clones)
            own = {name: value for name, value in values.items() if name not in _MODULE}
            self._attributes.append((values, own))
            for value in own.values():
                self._add(value, clones)

    def _add(self, value: Any, clones: bool) -> None:
        if isinstance(value, Tensor):
            if not value.requires_grad:
                self._numbers.append((value, value.detach().clone() if clones else value.data))
        elif isinstance(value, list | dict | set | deque):
            self._contents.append((value, copy.copy(value)))
            for item in value.values() if isinstance(value, dict) else value:
                if not isinstance(item, str | int | float | bool | None):
                    self._add(item, clones)
        elif isinstance(value, torch.Generator):
            self._generators.append(_Generator(value.get_state, value.set_state))  # type: ignore[arg-type]

    def install(self, fresh: bool) -> None:
        """Puts this state back; with ``fresh`` tensors get copies of the numbers, which then may change."""
        for values, own in self._attributes:
            for name in [name for name in values if name not in own and name not in _MODULE]:
                del values[name]
            values.update(own)
        for container, content in self._contents:
            container.clear()
            container.extend(content) if isinstance(container, list | deque) else container.update(content)
        for tensor, numbers in self._numbers:
            tensor.data = numbers.clone() if fresh else numbers
        for generator in self._generators:
            generator.write(generator.state)


def own_containers(batch: Any) -> Any:
    """Returns ``batch`` in containers of its own, however deep, with the same tensors.

    Raises:
        ValueError: For an iterator, which each trial could not read again.
    """
    if isinstance(batch, _READ_ONLY) or callable(batch):
        return batch
    if isinstance(batch, Iterator):
        raise ValueError(
            f"A batch should be something that each trial can read again. Found an iterator, {type(batch).__name__}. "
            "Pass next(iterator)."
        )
    if isinstance(batch, tuple):
        items = [own_containers(item) for item in batch]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
    own = copy.copy(batch)
    if isinstance(own, list | deque):
        for i, item in enumerate(batch):
            own[i] = own_containers(item)
    elif isinstance(own, dict):
        for key, item in batch.items():
            own[key] = own_containers(item)
    elif hasattr(own, "__dict__"):
        for name, item in list(vars(own).items()):
            vars(own)[name] = own_containers(item)
    return own


def _tensors(batch: Any) -> list[Tensor]:
    """Returns the tensors of a batch, in its containers and in the attributes of its objects."""
    if isinstance(batch, Tensor):
        return [] if batch.is_inference() else [batch]
    if isinstance(batch, Mapping):
        items = list(batch.values())
    elif isinstance(batch, list | tuple | set | deque):
        items = list(batch)
    else:
        items = [] if callable(batch) else list(getattr(batch, "__dict__", {}).values())
    return [tensor for item in items for tensor in _tensors(item)]
