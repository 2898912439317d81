"""Many runs (seeds, settings) trained as one batched program.

Runs never meet: losses are `[R]`, the optimizers are elementwise, and the model is a stack of copies. So a run gives
the same numbers in a crowd as alone, and a run that diverges spoils no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from companion.train.stacked import Batch, LossesFn, RunData, StackedModel, evaluate
from mtlcore.task_gradients import zero_task_grad


class WeightedStep(Protocol):
    """What a weighting returns for a batch: losses and weights, `[T, R]`, on the device."""

    @property
    def losses(self) -> Tensor:
        """Losses of the batch."""
        ...

    @property
    def weights(self) -> Tensor:
        """Weights that made the gradient."""
        ...


class Weighting(Protocol):
    """Adds the weighted gradient of a batch to `p.grad`; `StaticWeights` and `HydaLearn` are weightings."""

    def backward(self, batch: Batch) -> WeightedStep:
        """Add to `p.grad` and say with which weights."""
        ...


@dataclass(frozen=True)
class StaticStep:
    """Losses and weights of one batch, `[T, R]`."""

    losses: Tensor
    weights: Tensor


class StaticWeights:
    """Constant task weights: one backward pass of the weighted sum of losses, as in ordinary joint training.

    Args:
        model: The (stacked) model.
        losses_fn: `losses_fn(model, batch)` gives T losses `[R]`.
        weights: `[T, R]`; equal weights are ones, a single task has zeros elsewhere.
    """

    def __init__(self, model: nn.Module, losses_fn: LossesFn, weights: Tensor) -> None:
        """Keep what `backward` needs."""
        self.model = model
        self.losses_fn = losses_fn
        self.weights = weights

    def backward(self, batch: Batch) -> StaticStep:
        """Add the gradient of the weighted sum of losses to `p.grad`."""
        losses = torch.stack(list(self.losses_fn(self.model, batch)))  # [T, R]
        torch.autograd.backward((self.weights * losses).sum())
        return StaticStep(losses.detach(), self.weights)


@dataclass(frozen=True)
class History:
    """What happened in training.

    Attributes:
        validation: Main task's validation loss after every epoch, `[E, R]`.
        weights: Task weights of every step, `[steps, T, R]`.
        best_epoch: Epoch, from 0, whose parameters the model now holds, `[R]`.
        failed: Runs whose loss was infinite or not a number at some time, `[R]`; they are to be counted, not dropped.
    """

    validation: Tensor
    weights: Tensor
    best_epoch: Tensor
    failed: Tensor


def _per_run(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))  # [R, 1, ...]


def step_per_run(optimizer: torch.optim.Optimizer, rates: Tensor) -> None:
    """Take one step in which every run has its own learning rate `rates [R]`.

    The optimizer's own `lr` should be 1: its step, which is proportional to `lr` in torch's optimizers (weight decay
    included), is then scaled per run.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    with torch.no_grad():
        for p, old in zip(parameters, before, strict=True):
            p.copy_(old + _per_run(rates, p) * (p - old))


def train_runs(
    model: StackedModel,
    weighting: Weighting,
    optimizer: torch.optim.Optimizer,
    losses_fn: LossesFn,
    train: RunData,
    validation: RunData,
    *,
    rates: Tensor,
    seeds: Sequence[int],
    epochs: int,
    batch_size: int,
) -> History:
    """Train all runs and leave each at its epoch of least validation loss on the main task.

    A progress bar appears on a terminal only.

    Args:
        model: R stacked models.
        weighting: Fills the gradients of a batch.
        optimizer: Over the model's parameters, with `lr=1`.
        losses_fn: The T losses of a batch; the first is the main task.
        train: Training fold; an incomplete last batch of an epoch is left out.
        validation: Fold that chooses the epoch.
        rates: Learning rate of each run, `[R]`.
        seeds: One integer per run that fixes its order of the data; equal seeds give equal batches.
        epochs: Passes over the data.
        batch_size: Examples per step.

    Raises:
        ValueError: The number of seeds differs from the number of runs, or the batch exceeds the training fold.
    """
    if len(seeds) != model.num_runs:
        raise ValueError(
            f"Parameter `seeds` should hold one integer per run, {model.num_runs}. Found {len(seeds)}. "
            "Pass the seed of every run; paired runs share theirs."
        )
    if not 1 <= batch_size <= train.num_rows:
        raise ValueError(
            f"Parameter `batch_size` should be between 1 and the number of training rows, {train.num_rows}. "
            f"Found `batch_size = {batch_size}`. Pass for example 256."
        )
    parameters = list(model.parameters())
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    least = torch.full_like(rates, torch.inf)
    best_epoch = torch.zeros_like(rates, dtype=torch.int64)
    best = [p.detach().clone() for p in parameters]
    failed = torch.zeros_like(rates, dtype=torch.bool)
    curve, weights = [], []
    for epoch in tqdm(range(epochs), desc="epochs", disable=None):
        order = torch.stack([torch.randperm(train.num_rows, generator=g) for g in generators]).to(rates.device)
        for rows in torch.split(order, batch_size, dim=1):  # [R, B]
            if rows.shape[1] < batch_size:
                break
            optimizer.zero_grad()
            zero_task_grad(parameters)
            step = weighting.backward(train.batch(rows))
            step_per_run(optimizer, rates)
            weights.append(step.weights)
            failed |= ~step.losses.isfinite().all(0)
        main = evaluate(model, losses_fn, validation)[0]  # [R]
        failed |= ~main.isfinite()
        improved = main < least  # False for NaN: a failed run stays at its last good epoch
        least = torch.where(improved, main, least)
        best_epoch = torch.where(improved, epoch, best_epoch)
        best = [torch.where(_per_run(improved, p), p.detach(), b) for p, b in zip(parameters, best, strict=True)]
        curve.append(main)
    with torch.no_grad():
        for p, b in zip(parameters, best, strict=True):
            p.copy_(b)
    return History(torch.stack(curve), torch.stack(weights), best_epoch, failed)
