"""The state of the AdaTask optimizers: per parameter [T, *p.shape], for torch's kernels in lists, one set per task."""

from collections.abc import Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mtlcore._sharded import like, local

Columns = dict[str, list[Tensor]]
"""The state of several parameters for one task: name -> [*p.shape] of each, "step" -> [] of each; and under "counts"
the tensors that these counts lie in, fewer where they lie side by side, so that one addition counts them all."""

Kernel = dict[str, bool | None]
"""The flags ``foreach`` and ``fused`` for torch's functions."""


def picked(columns: Columns, places: Sequence[int]) -> Columns:
    """Returns the state of some of the parameters."""
    some = {name: [values[i] for i in places] for name, values in columns.items() if name != "counts"}
    return {**some, "counts": some["step"]}


def joined(columns: Columns, others: Columns) -> Columns:
    """Returns the state of all parameters of both."""
    return {name: values + others[name] for name, values in columns.items()}


def memory(p: Tensor, leading: tuple[int, ...]) -> Tensor:
    """Returns new memory [*leading, *p.shape], in the order of ``p`` for each task."""
    strides = (p.numel(),) * len(leading) + torch.empty_like(p).stride()
    return p.new_empty_strided((*leading, *p.shape), strides)


class OptimizerByTask(Optimizer):
    """An optimizer with state per task, of parameters with ``p.task_grad``, or in one, of all others."""

    def initial_state(self, group: dict[str, Any]) -> dict[str, float]:
        """Returns the names of a parameter's state beside ``step``, with the value that each begins at."""
        raise NotImplementedError

    def columns(
        self, params: Sequence[Tensor], group: dict[str, Any], leading: tuple[int, ...], kernel: Kernel
    ) -> list[Columns]:
        """Returns the state [*leading, *p.shape] of parameters, made where it is not there yet, for each task.

        Without ``leading`` it is in one. The lists are the same ones as long as parameters and state are the same.
        """
        initial = self.initial_state(group)
        names = ("step", *initial)
        # As in torch: kernels that read the count on the device find it there, the others on the host.
        on_device = bool(kernel["fused"] or group.get("capturable", False))
        states: list[dict[str, Tensor]] = [self.state[p] for p in params]
        known: dict[Any, tuple[list[Any], list[Columns]]] = self.__dict__.setdefault("_columns", {})
        key = id(params[0]), leading, on_device, names
        before = known.get(key)
        held = [*params, *[state.get(name) for state in states for name in names]]
        if before is None or len(before[0]) != len(held) or not all(map(is_, before[0], held)):
            for p, state in zip(params, states, strict=True):
                self._prepare(p, state, initial, leading, kernel, p.device if on_device else torch.device("cpu"))
            counts = _side_by_side(states)
            held = [*params, *[state[name] for state in states for name in names]]
            all_tasks = {name: [local(state[name]) for state in states] for name in names} | {"counts": counts}
            columns = [all_tasks]
            if leading:
                columns = [{name: [x[t] for x in xs] for name, xs in all_tasks.items()} for t in range(*leading)]
            known[key] = before = held, columns
        return before[1]

    def _prepare(
        self,
        p: Tensor,
        state: dict[str, Tensor],
        initial: dict[str, float],
        leading: tuple[int, ...],
        kernel: Kernel,
        device: torch.device,
    ) -> None:
        """Makes what is missing of a state, and brings its count to the device where it is read."""
        for name, value in initial.items():
            if name not in state:  # also a buffer asked for later, as momentum raised from 0 by a scheduler
                state[name] = self._new_state(p, leading)
                local(state[name]).fill_(value)
        if "step" not in state:
            # torch's own optimizers count in the default dtype; per task it is float32, whatever the default
            double = torch.get_default_dtype() == torch.float64 and not leading and not kernel["fused"]
            state["step"] = torch.zeros(leading, dtype=torch.float64 if double else torch.float32, device=device)
        if state["step"].device != device:  # as a checkpoint or another kernel left it
            state["step"] = state["step"].to(device)

    def _new_state(self, p: Tensor, leading: tuple[int, ...]) -> Tensor:
        """Returns memory [*leading, *p.shape], in the order of ``p`` for each task."""
        return like(p, memory(local(p), leading))


def _side_by_side(states: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    """Puts the counts of states into one memory for each dtype and device; returns these as [P] or [T, P]."""
    alike: dict[Any, list[dict[str, Tensor]]] = {}
    for state in states:
        alike.setdefault((state["step"].dtype, state["step"].device), []).append(state)
    counts = []
    for some in alike.values():
        steps = torch.stack([state["step"] for state in some])
        counts.append(steps.movedim(0, -1))
        for state, step in zip(some, steps.unbind(), strict=True):
            state["step"] = step
    return counts
