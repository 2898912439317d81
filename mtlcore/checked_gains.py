"""Main-task gains, with checks that trials measure them, and what takes their place where they do not."""

from typing import Any

import torch
from torch import Tensor

from mtlcore._passes import Graph
from mtlcore._sharded import over_processes
from mtlcore._telling import tell
from mtlcore.batch_gradients import Gradients
from mtlcore.gains import GainMeter, resolution
from mtlcore.trials import Replay

CHECK_EVERY = 100  # calls; how often a trial of nothing and one of half a step check that trials measure gains
HALF = 1e-4  # a machine epsilon above this is that of bfloat16 or float16
SMOOTH = 0.05  # the part of a gain that half a step may miss


class CheckedGains:
    """Gains of :class:`mtlcore.gains.GainMeter`, first-order ones where rounding hides the exact ones.

    Both functions take the losses [T] or [T, R] and return them, of several processes their means, with the gains.
    """

    def __init__(self, meter: GainMeter, main_task: int) -> None:
        self._meter, self._main_task = meter, main_task
        self._told = self._warned = False
        self._calls, self._eps = 0, 0.0  # and the coarsest rounding that the last check saw
        self._graph: tuple[Any, float] = (), 0.0  # the operations of the last graph, and the coarsest rounding there
        self._found: list[Tensor | None] = [None] * 3  # what the last calls noticed, on the host soon

    def first_order(
        self, values: Tensor, gradients: Gradients, batch: Any, gain_batch: Any, replay: Replay | None
    ) -> tuple[Tensor, Tensor]:
        """Returns first-order gains."""
        if replay is not None:
            self._check(values, gradients, batch, gain_batch, replay)
        gains = self._meter.first_order(values, gradients, gain_batch, replay)
        return over_processes(values, gradients.first), gains

    def exact(
        self, values: Tensor, gradients: Gradients, batch: Any, gain_batch: Any, replay: Replay | None
    ) -> tuple[Tensor, Tensor]:
        """Returns exact gains; where rounding hides them, the first-order ones, or with a ``gain_batch`` zeros."""
        assert replay is not None
        checked = self._check(values, gradients, batch, gain_batch, replay)
        eps = self._rounding(gradients.graph)
        if eps > HALF:
            self._tell("in bfloat16 or float16 the rounding of the losses hides them")
            gains = self._meter.first_order(values, gradients, gain_batch, replay)
            return over_processes(values, gradients.first), gains
        values, exact, before = self._meter.exact(values, gradients, batch, gain_batch, replay)
        lost = exact.abs().amax(0) < resolution(before, eps)  # [] or [R]; not where a gain is NaN
        if self._watch(0, lost) and not checked:
            return values, exact
        first = torch.zeros_like(exact)
        if gain_batch is None:
            first = self._meter.first_order(values, gradients, None, None)
        if checked and gain_batch is None and eps > torch.finfo(torch.float64).eps:
            # What a smooth loss leaves of the gain beyond first order falls to a quarter with half the step.
            gain, linear = exact[self._main_task], first[self._main_task]
            rest = before - self._meter.halved(gradients, batch, replay) - linear / 2
            self._watch(2, (rest - (gain - linear) / 4).abs() > SMOOTH * linear.abs() + resolution(before, eps))
        return values, torch.where(lost, first, exact)

    def _check(self, values: Tensor, gradients: Gradients, batch: Any, gain_batch: Any, replay: Replay) -> bool:
        """Each hundredth time tries nothing, which should give the main loss again; returns whether it did."""
        self._calls += 1
        if (self._calls - 1) % CHECK_EVERY:
            return False
        again, self._eps = self._meter.repeated(gradients, batch if gain_batch is None else gain_batch, replay)
        if gain_batch is None:
            before = over_processes(values[self._main_task], gradients.first)
        else:
            before, _ = self._meter.repeated(gradients, gain_batch, replay)
        self._watch(1, (again - before).abs() > resolution(before, self._rounding(gradients.graph)))
        return True

    def _rounding(self, graph: Graph) -> float:
        """Returns the coarsest rounding of a graph and of what the last check saw; it is read anew for a new graph."""
        if self._graph[0] != graph.operations:
            self._graph = graph.operations, graph.eps
        return max(self._graph[1], self._eps)

    def _watch(self, what: int, found: Tensor) -> bool:
        """Tells what was found: at once on the host, one call later elsewhere, so that nothing waits.

        Returns:
            Whether it was surely not found.
        """
        if found.is_meta:
            return False
        now = found.any()
        if found.device.type == "cpu":
            if not bool(now):
                return True
        else:
            seen, self._found[what] = self._found[what], now.to("cpu", non_blocking=True)
            if seen is None or not bool(seen):
                return False
        if what == 0:
            self._tell("they were below the rounding of the main loss in at least one batch")
        elif what == 1:
            raise ValueError(
                "Parameter `losses_fn` should give the same main loss when it is called again with the same random "
                "numbers, buffers and batch. Found another one. Keep what it changes in buffers or attributes of the "
                'model, and draw from global generators; or use gain = "first_order".'
            )
        elif not self._warned:
            self._warned = True
            tell(
                "HydaLearn's exact gains are not those of a smooth loss: half of the main task's trial step does not "
                "gain what it should. Either rounding hides them (half precision inside a compiled or custom function, "
                "large losses that nearly cancel), or the trial step is too long for the curvature. Pass "
                'gain="first_order", another trial_step, or float64.',
            )
        return False

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            tell(
                f"HydaLearn's exact gains could not be measured: {why}. First-order gains took their place (with a "
                'gain_batch in float32: the main task alone). Pass gain="first_order", a larger trial_step, or float32 '
                "or float64 parameters without autocast.",
            )
