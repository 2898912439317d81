"""Cells of the studies in which all tasks count, AdaTask's: runs at a spread of the loss weights and a rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from companion.baselines import trained_parameters
from companion.train.losses import loss_weights
from companion.train.optimizers import make_optimizer
from companion.train.stacked import LossesFn
from companion.train.weightings import Weighting, make_weighting

Configuration = Mapping[str, Any]
WITH_DECAY = {"Adam": "AdamW"}  # the optimizers whose weight decay is tuned


@dataclass(frozen=True)
class Run:
    """One run of a program.

    Attributes:
        spread: Weight of the last task's loss, the first's being 1.
        rate: Learning rate.
        seed: Of data, initial weights and batches.
        alone: The task that it trains alone, if any.
    """

    spread: float
    rate: float
    seed: int
    alone: int | None = None


def runs_of(c: Configuration, num_tasks: int) -> list[Run]:
    """The runs of a cell: every seed at each pair of `c["spreads"]` and `c["rates"]`, for "single task" every task."""
    alone = range(num_tasks) if c["method"] == "single task" else [None]
    settings = zip(c["spreads"], c["rates"], strict=True)
    return [Run(spread, rate, seed, task) for task, (spread, rate), seed in product(alone, settings, c["seeds"])]


def loss_scales(runs: Sequence[Run], num_tasks: int) -> Tensor:
    """Factors of the losses, `[T, R]` in float64: the weights of joint training, or the task that is trained alone."""
    alone = torch.eye(num_tasks, dtype=torch.float64)
    scales = [loss_weights(num_tasks, run.spread) if run.alone is None else alone[run.alone] for run in runs]
    return torch.stack(scales, dim=1)


def make_method(
    method: str, optimizer: str, model: nn.Module, losses_fn: LossesFn, shared: Sequence[nn.Parameter], *,
    kinds: Sequence[str], steps_per_epoch: int, apart: bool, decay: float = 0.0,
) -> tuple[Weighting, Optimizer]:  # fmt: skip
    """Build what fills the gradients, see `make_weighting`, and the named optimizer, for AdaTask in its form.

    Weight decay makes AdamW of Adam: apart from the gradients, so that no task's accumulator sees it.
    """
    weighting = make_weighting(
        method, model, losses_fn, shared, kinds=kinds, steps_per_epoch=steps_per_epoch, apart=apart
    )
    num_tasks = len(kinds) if method == "AdaTask" else None
    parameters = trained_parameters(model, weighting)
    if decay:
        return weighting, make_optimizer(WITH_DECAY[optimizer], parameters, num_tasks, weight_decay=decay)
    return weighting, make_optimizer(optimizer, parameters, num_tasks)


def tidy(runs: Sequence[Run], measures: Mapping[tuple[Any, ...], Tensor], columns: Sequence[str]) -> pd.DataFrame:
    """Tidy rows of measures `[R]`, whose keys hold the values of `columns`.

    A run of a task alone has the rows of its task only, whose number, from 1, is first in their keys.
    """
    return pd.DataFrame(
        [
            (run.spread, run.rate, run.seed, *key, value)
            for key, values in measures.items()
            for run, value in zip(runs, values.double().tolist(), strict=True)
            if run.alone is None or run.alone + 1 == key[0]
        ],
        columns=["spread", "rate", "seed", *columns, "value"],
    )
