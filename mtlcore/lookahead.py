"""The main task's loss at trial parameters: exact, without a copy of the model and without a trace in it.

``torch.func.functional_call`` runs the user's own ``losses_fn`` while trial parameters stand in for the model's.
Buffers (BatchNorm statistics) are copies, and each trial starts from the random state of the base pass, so that
dropout uses the same mask. State that a module keeps outside parameters, buffers and torch's generators is out of
reach.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

LossesFn = Callable[[Any, Any], Sequence[Tensor] | Tensor]
Moved = dict[Tensor, Tensor]  # parameter -> its trial value

METHODS = ("auto", "vmap", "loop")

# Below, what counts is the number of operations, which vmap lowers; above, the memory that it reads and writes.
_LARGE = 2**18


class RandomState:
    """The state of torch's generators that a model on ``device`` draws from: the CPU's and the device's own."""

    def __init__(self, device: torch.device) -> None:
        hosted = device.type in ("cpu", "meta")  # these have no generator of their own
        self._modules = [torch] if hosted else [torch, torch.get_device_module(device)]
        self._states = self._read()

    def _read(self) -> list[Tensor]:
        return [module.get_rng_state() for module in self._modules]

    def moved_on(self) -> bool:
        """Says whether random numbers were drawn since; generators keep their state on the host, so nothing waits."""
        return not all(torch.equal(a, b) for a, b in zip(self._states, self._read(), strict=True))

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, torch draws what it drew from this state; afterwards its generators are as they were before."""
        current = self._read()
        self._write(self._states)
        try:
            yield
        finally:
            self._write(current)

    def _write(self, states: list[Tensor]) -> None:
        for module, state in zip(self._modules, states, strict=True):
            module.set_rng_state(state)


class _LossModule(nn.Module):
    """``losses_fn`` as a module around the model, so that ``functional_call`` reaches whatever part of it is used."""

    def __init__(self, model: nn.Module, losses_fn: LossesFn) -> None:
        super().__init__()
        self.model, self.losses_fn = model, losses_fn

    def forward(self, batch: Any, task: int) -> Tensor:
        return self.losses_fn(self.model, batch)[task]


class Lookahead:
    """Evaluates one task's loss at parameters other than the model's.

    Args:
        model: Any module.
        losses_fn: ``losses_fn(model, batch)`` returns the T losses, each [] or, for R runs, [R].
        method: "vmap" (all trials at once, fastest for small dense models), "loop" (one at a time, faster for
            convolutions and large models, and with one trial's parameters in memory instead of T), or "auto" (default;
            our design, by measurement): the loop for convolutions, from 2**18 parameters on (all runs together), while
            the model draws random numbers (a batched operator need not draw what the plain one drew) and where an
            operator has no batching rule; else vmap.
    """

    def __init__(self, model: nn.Module, losses_fn: LossesFn, method: str = "auto") -> None:
        self._module = _LossModule(model, losses_fn)
        self._name_of = {p: f"model.{name}" for name, p in model.named_parameters()}
        self._tried = False  # "auto" finds out at its first trial whether all operators have batching rules
        convolves = any(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules())
        large = sum(p.numel() for p in model.parameters()) >= _LARGE
        self.method = "loop" if method == "auto" and (convolves or large) else method

    def loss(self, batch: Any, task: int, moved: Moved) -> Tensor:
        """Returns the loss of ``task``, [] or [R], where ``moved`` [*shape] replaces the parameters that it names.

        It carries a graph to those trial values that require grad, and to none of the model's parameters.
        """
        return self._call(batch, task, moved, {name: b.clone() for name, b in self._module.named_buffers()})

    def losses(
        self,
        batch: Any,
        task: int,
        trial: Callable[[int | slice], Moved],
        num_trials: int,
        random: RandomState,
        drawn: bool,
    ) -> Tensor:
        """Returns the losses of ``task`` at all trials, [T] or [T, R].

        Args:
            batch: What ``losses_fn`` takes.
            task: The task whose loss is wanted.
            trial: The trial values: ``trial(t)`` [*shape] of one trial, ``trial(slice(None))`` [T, *shape] of all.
            num_trials: Their number T.
            random: The state that each trial starts from.
            drawn: Whether the base pass drew random numbers.
        """
        if self.method == "vmap" or (self.method == "auto" and not drawn):
            try:
                with random.replayed():
                    return self._batched(batch, task, trial(slice(None)), num_trials)
            except (RuntimeError, ValueError, UserWarning):
                if self.method == "vmap":
                    raise
                self.method = "loop"
        rows = []
        for t in range(num_trials):
            with random.replayed():
                rows.append(self.loss(batch, task, trial(t)).detach())
        return torch.stack(rows)

    def _batched(self, batch: Any, task: int, moved: Moved, num_trials: int) -> Tensor:
        buffers = {name: b.expand(num_trials, *b.shape).clone() for name, b in self._module.named_buffers()}
        keys = list(moved)

        def one(values: list[Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return self._call(batch, task, dict(zip(keys, values, strict=True)), buffers)

        with warnings.catch_warnings():
            if self.method == "auto" and not self._tried:
                # torch warns, once, of an operator that it would loop over for want of a batching rule
                warnings.simplefilter("error", UserWarning)
            losses: Tensor = torch.vmap(one, randomness="same")([moved[p] for p in keys], buffers)
        self._tried = True
        return losses.detach()

    def _call(self, batch: Any, task: int, moved: Moved, buffers: dict[str, Tensor]) -> Tensor:
        values = {name: moved[p] if p in moved else p.detach() for p, name in self._name_of.items()}
        loss: Tensor = functional_call(self._module, {**values, **buffers}, (batch, task))
        return loss
