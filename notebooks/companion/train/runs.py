"""Many runs (seeds, settings) trained as one batched program.

Runs never meet: losses are `[R]`, the optimizers are elementwise, and the model is a stack of copies. So a run gives
the same numbers in a crowd as alone, and a run that diverges spoils no other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from companion.train.optimizers import per_run, step_per_run
from companion.train.problem import Problem
from companion.train.stacked import Batch, evaluate
from companion.train.weightings import WeightedStep, Weighting
from mtlcore.task_gradients import zero_task_grad


def train_step(weighting: Weighting, optimizer: torch.optim.Optimizer, batch: Batch, rates: Tensor) -> WeightedStep:
    """Forget the last gradients, fill those of a batch and take one step, with a learning rate per run."""
    optimizer.zero_grad()
    zero_task_grad([p for group in optimizer.param_groups for p in group["params"]])
    step = weighting.backward(batch)
    step_per_run(optimizer, rates)
    return step


def falling(steps: int) -> Callable[[int], float]:
    """A schedule that falls linearly from 1 to 0 over a training of so many steps."""
    return lambda step: 1 - step / steps


def train_epochs(
    weighting: Weighting,
    optimizer: torch.optim.Optimizer,
    epochs: Iterable[Iterable[Batch]],
    rates: Tensor,
    schedule: Callable[[int], float] = lambda step: 1.0,
) -> Iterator[list[WeightedStep]]:
    """Train on every batch of every epoch, and pause after each epoch.

    Args:
        weighting: Fills the gradients of a batch.
        optimizer: Over the model's parameters, with `lr=1`.
        epochs: Batches of each epoch, shuffled, listed or fresh.
        rates: Learning rate of each run, `[R]`.
        schedule: Gives the factor of all rates in a step, counted from 0.

    Yields:
        Losses and weights of an epoch's steps.
    """
    number = 0
    for batches in epochs:
        steps = []
        for batch in batches:
            optimizer.param_groups[0]["lr"] = schedule(number)
            steps.append(train_step(weighting, optimizer, batch, rates))
            number += 1
        yield steps


@dataclass(frozen=True)
class History:
    """What happened in training.

    Attributes:
        validation: The criterion of every epoch, `[E, R]`.
        weights: Task weights of every step, `[steps, T, R]`.
        best_epoch: Epoch, from 0, whose parameters the model now holds, `[R]`.
        best: Validation losses of all tasks in that epoch, `[T, R]`; NaN where no criterion was finite.
        failed: Runs whose loss was infinite or not a number at some time, `[R]`; they are to be counted, not dropped.
        last: Parameters after the last epoch, in the model's order.
    """

    validation: Tensor
    weights: Tensor
    best_epoch: Tensor
    best: Tensor
    failed: Tensor
    last: list[Tensor]


def train_runs(
    problem: Problem,
    weighting: Weighting,
    optimizer: torch.optim.Optimizer,
    *,
    rates: Tensor,
    epochs: int,
    schedule: Callable[[int], float] = lambda step: 1.0,
    criterion: Callable[[Tensor], Tensor] = lambda losses: losses[0],
) -> History:
    """Train all runs and leave each at its epoch of least criterion on the validation fold.

    Args:
        problem: Model and data.
        weighting: See `train_epochs`.
        optimizer: See there.
        rates: See there.
        epochs: Passes over the data.
        schedule: See there.
        criterion: From the validation losses `[T, R]` to what chooses the epoch, `[R]`: the main task's loss.
    """
    parameters = list(problem.model.parameters())
    least = torch.full_like(rates, torch.inf)
    best_epoch = torch.zeros_like(rates, dtype=torch.int64)
    best = torch.full_like(rates, torch.nan)
    kept = [p.detach().clone() for p in parameters]
    failed = torch.zeros_like(rates, dtype=torch.bool)
    curve, weights = [], []
    for epoch, steps in enumerate(train_epochs(weighting, optimizer, problem.epochs(epochs), rates, schedule)):
        weights += [step.weights for step in steps]
        for step in steps:
            failed |= ~step.losses.isfinite().all(0)
        losses = evaluate(problem.model, problem.losses_fn, problem.validation)  # [T, R]
        now = criterion(losses)
        failed |= ~now.isfinite()
        improved = now < least  # False for NaN: a failed run stays at its last good epoch
        least = torch.where(improved, now, least)
        best_epoch = torch.where(improved, epoch, best_epoch)
        best = torch.where(improved, losses, best)
        kept = [torch.where(per_run(improved, p), p.detach(), k) for p, k in zip(parameters, kept, strict=True)]
        curve.append(now)
    last = [p.detach().clone() for p in parameters]
    hold(problem.model, kept)
    return History(torch.stack(curve), torch.stack(weights), best_epoch, best, failed, last)


@torch.no_grad()
def hold(model: nn.Module, values: Sequence[Tensor]) -> None:
    """Let a model's parameters hold these values."""
    for p, value in zip(model.parameters(), values, strict=True):
        p.copy_(value)
