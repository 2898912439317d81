r"""Main-task gains: by how much a trial step along each task's gradient lowers the main task's loss.

.. math::
    \delta_t = L_M(\theta) - L_M(\theta'_t) \;\text{(exact)}, \qquad
    \delta_t = \langle \nabla L_M, \theta - \theta'_t \rangle \;\text{(first order)}, \qquad
    \theta'_t = \theta - a \nabla L_t \;\text{(trial rule "sgd")}
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtlcore._checks import check_losses
from mtlcore._passes import Graph, backward_passes
from mtlcore._sharded import check_sharded, local, over_parts, over_processes
from mtlcore._touched import Moved, at, numbers, product, settled, with_numbers
from mtlcore.batch_gradients import Gradients
from mtlcore.trial_steps import learning_rates, optimizer_trial
from mtlcore.trials import LossesFn, Replay, own_containers

# An exact gain counts where the largest of its batch is at least this many times the rounding of the main loss, so that
# the weights are good to about 1 %; our design.
RESOLVED = 100


class GainMeter:
    """Measures the main-task gains of one mini-batch; the options are those of :class:`mtlcore.hydalearn.HydaLearn`."""

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        main_task: int,
        trial_step: float | Optimizer,
        trial_moves: str,
        trial_rule: str,
    ) -> None:
        self._model, self._losses_fn, self._main_task, self._trial_step = model, losses_fn, main_task, trial_step
        self._moves_heads, self._own_step = trial_moves == "shared+head", trial_rule == "optimizer"

    def exact(
        self, losses: Tensor, gradients: Gradients, batch: Any, gain_batch: Any, replay: Replay
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the losses, the gains as the main loss before minus after each trial step, and that loss before.

        Losses and gains are [T] or [T, R]; of several processes all are the means of theirs.
        """
        if gain_batch is None:
            before = losses[self._main_task]
        else:
            batch = gain_batch
            with replay.again(()):
                before = self._main_loss(batch).detach()
        gains = torch.stack([before - self._after(gradients, t, batch, replay, before) for t in range(len(losses))])
        if local(gradients.first) is gradients.first:
            return losses, gains, before
        joined = over_processes(torch.stack([*losses, *gains, before]), gradients.first)  # in one message
        return joined[: len(losses)], joined[len(losses) : -1], joined[-1]

    def _after(self, gradients: Gradients, task: int, batch: Any, replay: Replay, before: Tensor) -> Tensor:
        """Returns the main loss after a task's trial step, whose trial values live no longer than that."""
        moved = self._trial(gradients, task)
        if not moved:  # a task that this batch does not have, or that reaches nothing
            return before
        with replay.again(moved):
            return self._main_loss(batch).detach()

    def repeated(self, gradients: Gradients, batch: Any, replay: Replay) -> tuple[Tensor, float]:
        """Returns the main loss of a trial of nothing, [] or [R], and the rounding of half precision on the way, or 0.

        Of several processes it is the mean of their losses. The graph does not show what a custom function or a
        reentrant checkpoint computes inside.
        """
        with replay.again(()), _HalfPrecision() as precision:  # type: ignore[no-untyped-call]
            loss = self._main_loss(batch).detach()
        return over_processes(loss, gradients.first), precision.eps

    def halved(self, gradients: Gradients, batch: Any, replay: Replay) -> Tensor:
        """Returns the main loss after half of the main task's trial step, as `repeated`."""
        with torch.no_grad():
            moved = [
                (p, with_numbers(value, torch.lerp(at(p, value), numbers(value), 0.5)))
                for p, value in self._trial(gradients, self._main_task)
            ]
        with replay.again(moved):
            return over_processes(self._main_loss(batch).detach(), gradients.first)

    @torch.no_grad()
    def first_order(self, losses: Tensor, gradients: Gradients, gain_batch: Any, replay: Replay | None) -> Tensor:
        """Returns the gains [T] or [T, R] as products of the main gradient with the trial steps."""
        main = None if gain_batch is None else self._main_gradient(gradients, gain_batch, replay)
        gains = torch.zeros_like(losses)
        if self._own_step:
            mine = main if main is not None else gradients.row(self._main_task, self._moves_heads)
            for t in range(len(losses)):
                for p, value in self._trial(gradients, t):
                    if p in mine:
                        gains[t] += product(mine[p], local(p).detach() - value, losses.shape[1:])
            return over_parts(gains, gradients.first)
        rates = learning_rates(self._trial_step)
        for rows in gradients.reached_tables:
            gains += rows.products(self._main_task if main is None else main, [rates[p] for p in rows.params])
        if self._moves_heads:
            for p, grads_of_p in gradients.head_parameters.items():
                mine_p = grads_of_p[self._main_task] if main is None else main.get(p)
                for t, grad in enumerate(grads_of_p):
                    if grad is not None and mine_p is not None:
                        gains[t] += product(mine_p, grad, losses.shape[1:]) * rates[p]
        return over_parts(gains, gradients.first)

    def _main_loss(self, batch: Any) -> Tensor:
        loss = self._losses_fn(self._model, own_containers(batch))[self._main_task]
        if loss is None:
            raise ValueError(
                "The main task should have a loss in the batch that gains are measured on. Found None. Pass a "
                "`gain_batch` that has its labels."
            )
        return loss

    @torch.no_grad()
    def _trial(self, gradients: Gradients, task: int) -> Moved:
        """Returns the trial values [*shape] of the parameters that a task's trial step moves."""
        grads = gradients.row(task, self._moves_heads)
        if self._own_step:
            return optimizer_trial(self._trial_step, grads, task, gradients.reached) if grads else ()  # type: ignore[arg-type]
        return stepped(grads, learning_rates(self._trial_step))

    def _main_gradient(self, gradients: Gradients, gain_batch: Any, replay: Replay | None) -> dict[Tensor, Tensor]:
        """Returns the gradient [*shape] of the main loss on ``gain_batch`` for each parameter that it reaches."""
        found: dict[Tensor, Tensor] = {}

        def take(_: int, grads: Sequence[Tensor | None]) -> None:
            found.update({p: settled(grad) for p, grad in zip(leaves, grads, strict=True) if grad is not None})

        assert replay is not None
        with replay.again(()), torch.enable_grad():
            losses = check_losses([self._main_loss(gain_batch)])
            more = Graph(losses).leaves
            check_sharded(more)
            leaves = list(dict.fromkeys([*gradients.reached, *gradients.heads, *more]))
            backward_passes(losses, leaves, take)
        return found


class _HalfPrecision(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the coarsest machine epsilon of what operations return in half precision."""

    eps = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dtype.itemsize < 4:
                self.eps = max(self.eps, torch.finfo(leaf.dtype).eps)
        return result


def resolution(loss: Tensor, eps: float) -> Tensor:
    """Returns the difference of losses below which rounding counts, [] or [R]."""
    return loss.abs() * (RESOLVED * eps)


def stepped(grads: Mapping[Tensor, Tensor], rates: Mapping[Tensor, float | Tensor]) -> Moved:
    """Returns p - rate * grad in one pass over the memory; of a sparse gradient, at the touched rows only."""
    moved: list[tuple[Tensor, Tensor]] = []
    alike: dict[float, list[tuple[Tensor, Tensor]]] = {}  # parameters and gradients that one operation takes
    for p, grad in grads.items():
        rate = rates[p]
        if isinstance(rate, Tensor):
            moved.append((p, with_numbers(grad, torch.addcmul(at(p, grad), numbers(grad), rate, value=-1))))
        else:
            alike.setdefault(rate, []).append((p, grad))
    for rate, pairs in alike.items():
        now, move = [at(p, grad) for p, grad in pairs], [numbers(grad) for _, grad in pairs]
        each = zip(pairs, torch._foreach_add(now, move, alpha=-rate), strict=True)
        moved += [(p, with_numbers(grad, values)) for (p, grad), values in each]
    return moved
