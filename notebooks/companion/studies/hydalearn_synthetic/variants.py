"""Variants of HydaLearn that are no options of its own: heads that start equal, weights smoothed over steps."""

import pandas as pd
import torch
from torch import Tensor

from companion.problems.synthetic import prepare
from companion.studies.hydalearn_synthetic.study import measure
from companion.train.main_task import Configuration, configured, grid
from companion.train.problem import Problem
from companion.train.stacked import Batch, LossesFn, StackedModel
from companion.train.weightings import StaticStep, StaticWeights, Weighting
from mtlcore.hydalearn import HydaLearn
from mtlcore.task_gradients import zero_task_grad


class Smoothed:
    """Trains with a decaying average of HydaLearn's weights: the level stays, the match to the batch fades.

    Args:
        hydalearn: Finds the weights.
        model: The stacked model.
        losses_fn: `losses_fn(model, batch)` gives T losses `[R]`.
        decay: Of the average, from 0 (HydaLearn itself) to below 1.
    """

    def __init__(self, hydalearn: HydaLearn, model: StackedModel, losses_fn: LossesFn, decay: float) -> None:
        self._hydalearn, self._model, self._losses_fn, self._decay = hydalearn, model, losses_fn, decay
        self._mean: Tensor | None = None

    def backward(self, batch: Batch) -> StaticStep:
        """Add the gradient of the sum of losses with the averaged weights."""
        weights = self._hydalearn.backward(batch).weights  # [T, R]
        self._mean = weights if self._mean is None else weights.lerp(self._mean, self._decay)
        self._model.zero_grad()
        zero_task_grad(self._model.parameters())
        return StaticWeights(self._model, self._losses_fn, self._mean).backward(batch)


def train_variant(configuration: Configuration) -> pd.DataFrame:
    """Train as `study.train_grid` does, with one of the variants.

    Args:
        configuration: As there, with method "HydaLearn"; `equal_heads` makes the heads of all tasks start as the main
            task's, `smoothing` is the decay of `Smoothed`.

    Returns:
        Tidy rows by seed, rate, scale and metric.
    """

    def variant(problem: Problem, losses_fn: LossesFn, c: Configuration) -> Weighting:
        if c.get("equal_heads", False):
            _start_equal(problem.model)
        weighting = configured(problem, losses_fn, c)
        if "smoothing" not in c:
            return weighting
        assert isinstance(weighting, HydaLearn)
        return Smoothed(weighting, problem.model, losses_fn, c["smoothing"])

    return grid(configuration, prepare, measure, variant)


@torch.no_grad()
def _start_equal(model: StackedModel) -> None:
    first, *others = model.stack.get_submodule("heads").children()
    for head in others:
        head.load_state_dict(first.state_dict())
