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

from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlcore._checks import Shared, check_losses, check_main_task, check_option, check_shared
from mtlcore._eager import eager
from mtlcore._sharded import as_sharded, local
from mtlcore.batch_gradients import Gradients, check_members, unfrozen
from mtlcore.checked_gains import CheckedGains
from mtlcore.gains import GainMeter
from mtlcore.trial_steps import check_trial_optimizer, unwrapped
from mtlcore.trials import LossesFn, Replay, own_containers


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
    zero (first order).

    **Rounding** (our design). An exact gain is a small difference of two losses. Where the largest gain of a batch is
    below 100 times the rounding of the main loss, all gains of that batch are the first-order ones, which equal them up
    to O(a); with a ``gain_batch`` they count as none, so the main task trains alone. Where parameters, losses or, under
    autocast, products are in bfloat16 or float16, no exact gain is measured at all. A warning says so, once.

    **Trials** repeat the pass before on the same path with other numbers in the parameters: same random numbers,
    buffers, batch, grad mode and precision. Afterwards parameters, buffers and attributes of modules are what they
    were, to the bit (:mod:`mtlcore.trials`). At the first call and each 100th, a trial of nothing has to give the loss
    of the pass before, else it is an error; and in float32 one of half the step has to gain what it should, else there
    is a warning. Out of sight are heads outside the model inside a reentrant checkpoint (pass ``use_reentrant=False``),
    and some losses that are small differences of large numbers.

    **With AdaTask**: ``task_weights="gradients"`` or ``"updates"`` of its optimizers says where these weights count.

    Args:
        model: Any module; on several processes under torch's ``fully_shard``, not DistributedDataParallel.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs), or None for a task
            that this batch does not have. It runs once per call as in ordinary training, and then once per trial.
        shared: The shared parameters, or a module that holds them, which is read anew at each call. All other leaves of
            the losses' graph count as heads, in the model or not.
        main_task: Index of the task whose loss the gains are measured on. Default 0.
        trial_step: Size a of the trial step, or an optimizer: its current learning rate, group by group. Default 1e-3.
        gain: "exact" (default) or "first_order" (no trial forward pass).
        trial_moves: "shared" (default) or "shared+head": the trial also moves the task's head. As the head of an
            auxiliary task does not enter the main loss, this raises the main task's own gain only.
        trial_rule: "sgd" (default) or "optimizer": the own step of the optimizer given as ``trial_step``; not where
            gradients are sparse.
        negative: "clamp" (default) sets negative gains to 0, "keep" keeps them.
        normalise: "one" (default): weights sum to 1; "tasks": to T; "main": the main task's weight is 1 (where its
            own gain is not positive, it trains alone). With kept negative gains, the absolute weights sum to 1 or T.
        scale_heads: Whether a task's weight also scales the gradient of its head. Default True.

    Raises:
        ValueError: If an option or parameter does not fit.

    Example:
        >>> _ = torch.manual_seed(0)
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
        shared: Shared,
        main_task: int = 0,
        trial_step: float | Optimizer = 1e-3,
        gain: str = "exact",
        trial_moves: str = "shared",
        trial_rule: str = "sgd",
        negative: str = "clamp",
        normalise: str = "one",
        scale_heads: bool = True,
    ) -> None:
        check_option("gain", gain, ("exact", "first_order"))
        check_option("trial_moves", trial_moves, ("shared", "shared+head"))
        check_option("trial_rule", trial_rule, ("sgd", "optimizer"))
        check_option("negative", negative, ("clamp", "keep"))
        check_option("normalise", normalise, ("one", "tasks", "main"))
        check_main_task(main_task)
        if any(isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules()):
            raise ValueError(
                "Parameter `model` should not be wrapped. Found DistributedDataParallel, which averages one backward "
                "pass per step. Use torch.distributed.fsdp.fully_shard(model) in its place."
            )
        self._shared = shared if isinstance(shared, nn.Module) else check_shared(shared)
        check_members(model, self.shared)
        if isinstance(trial_step, Optimizer):
            trial_step = unwrapped(trial_step)
            moved = self.shared if trial_moves == "shared" else [p for p in model.parameters() if p.requires_grad]
            check_trial_optimizer(trial_step, moved)
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
        self._gains = CheckedGains(
            GainMeter(model, losses_fn, main_task, trial_step, trial_moves, trial_rule), main_task
        )

    @property
    def shared(self) -> list[Tensor]:
        """The shared parameters that are trainable now."""
        shared = self._shared  # a list was checked before, but may be sharded since
        return unfrozen(check_shared(shared) if isinstance(shared, nn.Module) else as_sharded(shared))

    @eager
    def backward(self, batch: Any, gain_batch: Any = None, scaler: torch.amp.GradScaler | None = None) -> HydaLearnStep:
        """Adds raw task gradients to ``p.task_grad`` of shared parameters and weighted gradients to ``p.grad`` of all.

        Like ``loss.backward()`` repeated calls accumulate; gains and weights are those of this call's gradients only.

        Args:
            batch: What ``losses_fn`` takes, readable more than once. The one ordinary forward pass is on it.
            gain_batch: The data that the gain is measured on: None for the same mini-batch (default), or another
                training or validation batch.
            scaler: The gradient scaler that takes the step, if any: ``p.grad`` then has its scale, for it to divide by;
                losses, gains and ``p.task_grad`` have not. ``losses_fn`` returns unscaled losses.

        Returns:
            The losses, gains and weights of this call; NaN, 0 and 0 of a task that the batch does not have.

        Raises:
            ValueError: Before any gradient is added, if ``losses_fn`` returns something else than T losses with a
                graph, the main task is not among them, or a trial could not see what this pass saw.
        """
        shared = self.shared
        trying = self.gain == "exact" or gain_batch is not None
        replay = Replay(self.model, batch, gain_batch, shared[0].device) if trying else None
        losses = check_losses(self.losses_fn(self.model, own_containers(batch)))
        check_main_task(self.main_task, len(losses))
        main_loss = losses[self.main_task]
        if main_loss is None and gain_batch is None:
            raise ValueError(
                "The main task should have a loss in the batch that gains are measured on. Found None. Pass a "
                "`gain_batch` that has its labels."
            )
        if replay is not None:
            replay.check_unchanged()
        scale = scaler.scale(local(shared[0]).new_ones(())) if scaler is not None and scaler.is_enabled() else None
        gradients = Gradients.of(losses, shared, self.model, scale)
        self._check_members(gradients)
        present = next(loss.detach() for loss in losses if loss is not None)
        each = [torch.full_like(present, torch.nan) if loss is None else loss.detach() for loss in losses]
        values = torch.stack(each)  # [T] or [T, R]
        measured = self._gains.exact if self.gain == "exact" else self._gains.first_order
        values, gains = measured(values, gradients, batch, gain_batch, replay)
        weights = gain_weights(gains, self.main_task, self.negative, self.normalise)
        gradients.add_to_parameters(weights, self.scale_heads, "HydaLearn")
        return HydaLearnStep(values, gains, weights)

    def _check_members(self, gradients: Gradients) -> None:
        """Raises ValueError where a shared parameter that no task reaches was replaced by another."""
        each = (pair for rows in gradients.tables for pair in zip(rows.params, rows.reached, strict=True))
        unreached = [p for p, flags in each if True not in flags]
        if unreached:
            members = set(as_sharded(self.model.parameters()))
            gone = sum(p not in members for p in unreached)
            if gone:
                raise ValueError(
                    f"Parameter `shared` should hold parameters of the model. Found {gone} that are no longer there. "
                    "Construct HydaLearn again after replacing layers, or pass the module that holds them as `shared`."
                )


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
    gains = gains.nan_to_num(0.0, 0.0, 0.0)
    clamped = negative == "clamp"
    if clamped:
        gains = gains.clamp(min=0)
    largest = gains.amax(0)  # [] or [R]
    positive = largest > 0
    gains = gains / (largest if clamped else gains.abs().amax(0))  # at most 1, so that no sum overflows
    if normalise == "main":
        scale = gains[main_task]
        positive = positive & (scale > 0)
    else:
        scale = (gains if clamped else gains.abs()).sum(0)
    alone = torch.zeros_like(gains)
    alone.select(0, main_task).fill_(1)
    weights = torch.where(positive, gains / scale, alone)
    return weights * len(gains) if normalise == "tasks" else weights
