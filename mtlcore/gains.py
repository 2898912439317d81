r"""Main-task gains: by how much a trial step along each task's gradient lowers the main task's loss.

.. math::
    \delta_t = L_M(\theta) - L_M(\theta'_t) \;\text{(exact)}, \qquad
    \delta_t = \langle \nabla L_M, \theta - \theta'_t \rangle \;\text{(first order)}, \qquad
    \theta'_t = \theta - a \nabla L_t \;\text{(trial rule "sgd")}
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mtlcore.batch_gradients import Gradients
from mtlcore.lookahead import Lookahead, Moved, RandomState
from mtlcore.trial_steps import learning_rates, optimizer_trial


class GainMeter:
    """Measures the main-task gains of one mini-batch; the options are those of :class:`mtlcore.hydalearn.HydaLearn`."""

    def __init__(
        self, lookahead: Lookahead, main_task: int, trial_step: float | Optimizer, trial_moves: str, trial_rule: str
    ) -> None:
        self._lookahead, self._main_task, self._trial_step = lookahead, main_task, trial_step
        self._moves_heads, self._own_step = trial_moves == "shared+head", trial_rule == "optimizer"

    @torch.no_grad()
    def exact(
        self, losses: Tensor, gradients: Gradients, batch: Any, gain_batch: Any, random: RandomState, drawn: bool
    ) -> Tensor:
        """Returns the gains [T] or [T, R] as the main loss before minus after each trial step."""

        def trial(rows: int | slice) -> Moved:
            return self._trial(gradients, rows)

        if gain_batch is None:
            before = losses[self._main_task]
        else:
            batch = gain_batch
            with random.replayed():
                before = self._lookahead.loss(gain_batch, self._main_task, {})
        after = self._lookahead.losses(batch, self._main_task, trial, len(losses), random, drawn)
        return before - after

    @torch.no_grad()
    def first_order(self, losses: Tensor, gradients: Gradients, gain_batch: Any, random: RandomState) -> Tensor:
        """Returns the gains [T] or [T, R] as products of the main gradient with the trial steps."""
        if gain_batch is None:
            main = gradients.row(self._main_task, self._moves_heads)
        else:
            main = self._main_gradient(gradients.stacked(self._moves_heads), gain_batch, random)
        num_runs = losses.shape[1] if losses.ndim == 2 else 1
        gains = losses.new_zeros((len(losses), num_runs))
        for t in range(len(losses)):
            grads = gradients.row(t, self._moves_heads)
            moved = optimizer_trial(self._trial_step, grads, t, gradients.shared) if self._own_step else None  # type: ignore[arg-type]
            rates = learning_rates(self._trial_step)
            for p, grad in grads.items():  # in their order: that of a set would round differently in every program run
                if p in main:
                    step, rate = (grad, rates[p]) if moved is None else (p - moved[p], 1.0)
                    gains[t] += torch.linalg.vecdot(main[p].reshape(num_runs, -1), step.reshape(num_runs, -1)) * rate
        return gains.reshape(losses.shape)

    def _trial(self, gradients: Gradients, rows: int | slice) -> Moved:
        """Returns the trial values of one task [*shape] or, for the trial rule "sgd", of all tasks [T, *shape]."""
        if isinstance(rows, slice):
            grads = gradients.stacked(self._moves_heads)
        else:
            grads = gradients.row(rows, self._moves_heads)
            if self._own_step:
                return optimizer_trial(self._trial_step, grads, rows, gradients.shared)  # type: ignore[arg-type]
        rates = learning_rates(self._trial_step)
        return {p: _stepped(p, grad, rates[p]) for p, grad in grads.items()}

    def _main_gradient(
        self, parameters: dict[Tensor, Tensor], gain_batch: Any, random: RandomState
    ) -> dict[Tensor, Tensor]:
        """Returns the gradient [*shape] of the main loss on ``gain_batch`` for each parameter that it reaches."""
        leaves = {p: p.detach().requires_grad_() for p in parameters}
        with random.replayed(), torch.enable_grad():
            loss = self._lookahead.loss(gain_batch, self._main_task, leaves)
            grads = torch.autograd.grad(loss.sum(), list(leaves.values()), allow_unused=True)
        return {p: grad for p, grad in zip(leaves, grads, strict=True) if grad is not None}


def _stepped(p: Tensor, grads: Tensor, rate: float | Tensor) -> Tensor:
    """Returns p - rate * grads, of the shape of ``grads``, in one pass over the memory."""
    return torch.addcmul(p, grads, rate, value=-1) if isinstance(rate, Tensor) else torch.add(p, grads, alpha=-rate)
