r"""HydaLearn: task weights from the main task's gain, set anew at every mini-batch.

For every task t a trial step along its gradient alone is made from the current parameters :math:`\theta`; its gain is
by how much that lowers the loss of the main task M, and the weights follow the gains:

.. math::
    \delta_t = L_M(\theta) - L_M(\theta - a \nabla L_t), \qquad \frac{w_i}{w_j} = \frac{\delta_i}{\delta_j}, \qquad
    \delta_t = a \langle \nabla L_M, \nabla L_t \rangle + O(a^2)

Source: the ratio rule is that of Verboven et al., arXiv 2008.11643, doi 10.1007/s10489-022-03695-x, as independent
readers report it. The full text was not at hand and the authors' repository holds no HydaLearn: which data,
parameters and step the gain is measured with, what becomes of negative gains, and the normalisation are **our
design**, one option each.
"""

from collections.abc import Iterable
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlcore._checks import check_losses, check_main_task, check_option
from mtlcore.batch_gradients import Gradients, split_parameters
from mtlcore.gains import GainMeter
from mtlcore.lookahead import METHODS, Lookahead, LossesFn, RandomState
from mtlcore.trial_steps import check_trial_optimizer


class HydaLearnStep(NamedTuple):
    """What one call of :meth:`HydaLearn.backward` found: each [T], or [T, R] for R runs, on the device."""

    losses: Tensor
    gains: Tensor
    weights: Tensor


class HydaLearn:
    r"""Fills gradients with HydaLearn's weights, for any optimizer of ``torch.optim``.

    Where every gain of a mini-batch is zero or negative, the main task trains alone. A non-finite gain counts as
    zero, and a task of weight zero is left out altogether, so that a NaN in an auxiliary task spoils nothing; one in
    the main task is not hidden. A zero main gradient leaves the gains to the trial steps' curvature (exact) or all at
    zero (first order). In float32 the exact gain is a small difference of losses: with steps below about 1e-4, prefer
    float64 or first order. Autocast in bfloat16 needs nothing; a gradient scaler is not supported here, for losses
    multiplied by its scale would lengthen the trial steps.

    Args:
        model: Any module.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs). It runs once per
            call as in ordinary training, and then once per trial with other parameters in ``model``, so it should not
            keep results.
        shared: The shared parameters. All other trainable parameters of the model count as heads.
        main_task: Index of the task whose loss the gains are measured on. Default 0.
        trial_step: Size a of the trial step, or an optimizer: its current learning rate, group by group. Default 1e-3.
        gain: "exact" (default) or "first_order" (no trial forward pass).
        trial_moves: "shared" (default) or "shared+head": the trial also moves the task's head. As the head of an
            auxiliary task does not enter the main loss, this raises the main task's own gain only.
        trial_rule: "sgd" (default) or "optimizer": the own step of the optimizer given as ``trial_step``.
        negative: "clamp" (default) sets negative gains to 0, "keep" keeps them.
        normalise: "one" (default): weights sum to 1; "tasks": to T; "main": the main task's weight is 1 (where its
            own gain is not positive, it trains alone). With kept negative gains, the absolute weights sum to 1 or T.
        scale_heads: Whether a task's weight also scales the gradient of its head. Default True.
        lookahead: "auto" (default), "vmap" or "loop": see :class:`mtlcore.lookahead.Lookahead`.

    Raises:
        ValueError: If an option or parameter does not fit.

    Example:
        >>> trunk, head_a, head_b = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
        >>> model = torch.nn.ModuleList([trunk, head_a, head_b])
        >>> def losses_fn(model, batch):
        ...     z = model[0](batch).relu()
        ...     return [model[1](z).square().mean(), (model[2](z) - 1).square().mean()]
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        >>> hydalearn = HydaLearn(model, losses_fn, trunk.parameters(), trial_step=optimizer)
        >>> step = hydalearn.backward(torch.ones(4, 2))
        >>> optimizer.step()
        >>> step.weights.shape, bool((step.weights >= 0).all())
        (torch.Size([2]), True)
    """

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        shared: Iterable[Tensor],
        main_task: int = 0,
        trial_step: float | Optimizer = 1e-3,
        gain: str = "exact",
        trial_moves: str = "shared",
        trial_rule: str = "sgd",
        negative: str = "clamp",
        normalise: str = "one",
        scale_heads: bool = True,
        lookahead: str = "auto",
    ) -> None:
        check_option("gain", gain, ("exact", "first_order"))
        check_option("trial_moves", trial_moves, ("shared", "shared+head"))
        check_option("trial_rule", trial_rule, ("sgd", "optimizer"))
        check_option("negative", negative, ("clamp", "keep"))
        check_option("normalise", normalise, ("one", "tasks", "main"))
        check_option("lookahead", lookahead, METHODS)
        check_main_task(main_task)
        self.shared, self.heads = split_parameters(model, shared)
        if isinstance(trial_step, Optimizer):
            check_trial_optimizer(trial_step, self.shared if trial_moves == "shared" else [*self.shared, *self.heads])
        elif trial_rule == "optimizer":
            raise ValueError(
                f'Parameter `trial_step` should be an optimizer with `trial_rule = "optimizer"`. Found {trial_step!r}. '
                "Pass the optimizer that trains the model."
            )
        elif not (isinstance(trial_step, int | float) and isfinite(trial_step) and trial_step > 0):
            raise ValueError(
                f"Parameter `trial_step` should be positive and finite. Found `trial_step = {trial_step!r}`. Pass, "
                "for example, 1e-3."
            )
        self.model, self.losses_fn, self.main_task, self.gain = model, losses_fn, main_task, gain
        self.negative, self.normalise, self.scale_heads = negative, normalise, scale_heads
        self._meter = GainMeter(
            Lookahead(model, losses_fn, "loop" if trial_rule == "optimizer" else lookahead),
            main_task,
            trial_step,
            trial_moves,
            trial_rule,
        )

    def backward(self, batch: Any, gain_batch: Any = None) -> HydaLearnStep:
        """Adds raw task gradients to ``p.task_grad`` of shared parameters and weighted gradients to ``p.grad`` of all.

        Like ``loss.backward()`` repeated calls accumulate; gains and weights are those of this call's gradients only.

        Args:
            batch: What ``losses_fn`` takes. The one ordinary forward pass is on it.
            gain_batch: The data that the gain is measured on: None for the same mini-batch (default), or another
                training or validation batch.

        Returns:
            The losses, gains and weights of this call.

        Raises:
            ValueError: If ``losses_fn`` returns something else than T losses with a graph, or the main task is not
                among them.
        """
        random = RandomState(self.shared[0].device)
        losses = check_losses(self.losses_fn(self.model, batch))
        drawn = random.moved_on()
        check_main_task(self.main_task, len(losses))
        gradients = Gradients.of(losses, self.shared, self.heads)
        values = torch.stack([loss.detach() for loss in losses])  # [T] or [T, R]
        if self.gain == "exact":
            gains = self._meter.exact(values, gradients, batch, gain_batch, random, drawn)
        else:
            gains = self._meter.first_order(values, gradients, gain_batch, random)
        weights = gain_weights(gains, self.main_task, self.negative, self.normalise)
        gradients.add_to_parameters(weights, self.scale_heads)
        return HydaLearnStep(values, gains, weights)


def gain_weights(gains: Tensor, main_task: int, negative: str = "clamp", normalise: str = "one") -> Tensor:
    r"""Returns HydaLearn's weights, :math:`w_i / w_j = \delta_i / \delta_j`, of gains [T] or [T, R].

    Args:
        gains: Main-task gains; a non-finite one counts as zero.
        main_task: Index of the main task, which trains alone where no gain is positive.
        negative: "clamp" or "keep".
        normalise: "one", "tasks" or "main": see :class:`HydaLearn`.

    Example:
        >>> gain_weights(torch.tensor([0.3, 0.1, -0.2]), main_task=0)
        tensor([0.7500, 0.2500, 0.0000])
    """
    gains = gains.masked_fill(~gains.isfinite(), 0)
    positive = (gains > 0).any(0)  # [] or [R]
    if negative == "clamp":
        gains = gains.clamp(min=0)
    gains = gains / gains.abs().amax(0)  # at most 1, so that no sum overflows
    if normalise == "main":
        scale = gains[main_task]
        positive = positive & (scale > 0)
    else:
        scale = gains.abs().sum(0)
    alone = torch.zeros_like(gains)
    alone[main_task] = 1
    weights = torch.where(positive, gains / scale, alone)
    return weights * len(gains) if normalise == "tasks" else weights
