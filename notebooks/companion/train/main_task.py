"""Cells of the studies with a main task, HydaLearn's: a configuration in, a tidy table of batched runs out.

A configuration says everything that decides a table: names -> numbers, text or lists of them, as `results` wants it.
All methods of a seed share its data, initial weights and batches.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from companion.baselines import trained_parameters
from companion.train.optimizers import make_optimizer
from companion.train.problem import Problem
from companion.train.regularised import DecayedAdam, Dropout
from companion.train.runs import History, train_runs, train_step
from companion.train.stacked import Batch, LossesFn
from companion.train.weightings import GainElsewhere, Weighting, make_weighting
from mtlcore.hydalearn import HydaLearn

Configuration = Mapping[str, Any]
Prepare = Callable[[Configuration, Sequence[int]], Problem]
Measure = Callable[[Problem], Mapping[str, NDArray[np.float64]]]  # of the trained runs on the test fold, `[R]` each
OPTIONS = ("gain", "trial_step", "trial_moves", "negative", "normalise", "scale_heads")  # HydaLearn's, as named there
# A run's knob -> the list of its values in a configuration; the last three are OL-AUX's, GradNorm's and PCD's own.
OWN_KNOBS = {"weight_lr": "weight_lrs", "alpha": "alphas", "tau": "taus"}
KNOBS = {"rate": "rates", "scale": "scales", "decay": "decays", "dropout": "dropouts", **OWN_KNOBS}
side_by_side = partial(zip, strict=True)  # a shortlist of settings: the first value of each knob, the second of each


def configured(problem: Problem, losses_fn: LossesFn, c: Configuration) -> Weighting:
    """Build the weighting that a configuration names.

    Args:
        problem: Model and data.
        losses_fn: The losses, scaled or not.
        c: `method`; HydaLearn's `OPTIONS` where they depart from its defaults, and `gain_data`, "same" (default, the
            mini-batch itself), "other" (another training batch) or "held out"; a baseline's `OWN_KNOBS`, as in `train`.
    """
    method = c["method"]
    options: dict[str, Any] = {name: c[name] for name in OPTIONS if name in c} if method == "HydaLearn" else {}
    options |= {knob: _per_run(problem, c[name]) for knob, name in OWN_KNOBS.items() if name in c}
    if method == "SLGrad":
        options["draw"] = _gain_batches(problem)
    weighting = make_weighting(
        method, problem.model, losses_fn, problem.shared, kinds=problem.kinds,
        steps_per_epoch=problem.steps_per_epoch, **options,
    )  # fmt: skip
    gain_data = c.get("gain_data", "same")
    if gain_data not in ("same", "other", "held out"):
        raise ValueError(
            f"Parameter `gain_data` should be 'same', 'other' or 'held out'. Found {gain_data!r}. Pass one of them."
        )
    if gain_data == "same" or not isinstance(weighting, HydaLearn):
        return weighting
    return GainElsewhere(weighting, _gain_batches(problem))


def _gain_batches(problem: Problem) -> Callable[[], Batch]:
    """Random batches of the rows that are withheld, or else of those that are trained on."""
    data = problem.train if problem.withheld is None else problem.withheld
    generator = torch.Generator().manual_seed(0)  # the same row numbers for every run keep them paired

    def draw() -> Batch:
        rows = torch.randint(data.num_rows, (1, problem.batch_size), generator=generator).to(data.source.device)
        return data.batch(rows.expand(problem.model.num_runs, -1))

    return draw


def _per_run(problem: Problem, values: Sequence[float]) -> Tensor:
    return problem.per_run(values).expand(len(problem.seeds))


def train(problem: Problem, weighting: Weighting, c: Configuration, rates: Sequence[float]) -> History:
    """Train for `c["epochs"]` epochs; the one of least validation loss is kept.

    Args:
        problem: Model and data.
        weighting: See `runs.train_epochs`.
        c: `epochs`; `optimizer`, "Adam" (default) or "SGD"; where runs are regularised `decays`, decoupled weight
            decay, and `dropouts`, shares of units, each a list of one value for all runs or of one per run.
        rates: Learning rate of each run.
    """
    parameters = trained_parameters(problem.model, weighting)
    optimizer = make_optimizer(c.get("optimizer", "Adam"), parameters)
    if "decays" in c:
        optimizer = DecayedAdam(parameters, _per_run(problem, c["decays"]))
    if "dropouts" in c:
        weighting = Dropout(weighting, problem.model, problem.seeds, _per_run(problem, c["dropouts"]))
    return train_runs(problem, weighting, optimizer, rates=problem.per_run(rates), epochs=c["epochs"])


def outcome(
    problem: Problem, history: History, labels: Mapping[str, Sequence[Any]], begin: float, measure: Measure | None
) -> pd.DataFrame:
    """Tidy table of trained runs, NaN for a run that failed.

    Args:
        problem: After training.
        history: Of that training.
        labels: Further columns, R values each.
        begin: When the program began; its seconds are shared equally by its runs.
        measure: Gives the measures of the test fold; None leaves it alone.

    Returns:
        Rows by seed, label and metric: the main task's validation loss, the measures of the test fold, the best epoch
        (from 1), and whether the run failed.
    """
    failed = history.failed.cpu().numpy()
    measures = {"validation loss": history.best[0].cpu().numpy(), **(measure(problem) if measure else {})}
    measures = {name: np.where(failed, np.nan, values) for name, values in measures.items()}
    measures |= {"best epoch": history.best_epoch.cpu().numpy() + 1.0, "failed": failed.astype(float)}
    seconds = (time.perf_counter() - begin) / len(problem.seeds)
    runs = pd.DataFrame({"seed": problem.seeds, **labels, "seconds": seconds, **measures})
    return runs.melt(["seed", *labels, "seconds"], list(measures), var_name="metric", value_name="value")


def grid(
    c: Configuration,
    prepare: Prepare,
    measure: Measure | None,
    make: Callable[[Problem, LossesFn, Configuration], Weighting] = configured,
    settings: Callable[..., Iterable[tuple[float, ...]]] = product,
) -> pd.DataFrame:
    """Train one method at every setting and seed.

    Args:
        c: What `prepare`, `make` and `train` read; `rates`, `scales`, `seeds` and whatever else it holds of `KNOBS` are
            lists.
        prepare: Makes the problem.
        measure: See `outcome`.
        make: Builds the weighting.
        settings: Of the knobs' lists: `product`, every combination, or `side_by_side`.

    Returns:
        Tidy rows by seed, knob and metric, with the seconds of a run.
    """
    begin = time.perf_counter()
    names = {knob: name for knob, name in KNOBS.items() if name in c}
    runs = [(*setting, seed) for setting in settings(*(c[name] for name in names.values())) for seed in c["seeds"]]
    *values, seeds = zip(*runs, strict=True)
    knobs = dict(zip(names, values, strict=True))  # knob -> [R]
    each = {**c, **{names[knob]: column for knob, column in knobs.items()}}
    problem = prepare(c, seeds)
    history = train(problem, make(problem, problem.scaled_losses(knobs["scale"]), each), each, knobs["rate"])
    return outcome(problem, history, knobs, begin, measure)


def at_one_setting(c: Configuration, prepare: Prepare) -> tuple[Problem, LossesFn, list[float]]:
    """The problem, scaled losses and learning rates of a configuration with one rate and one scale: a run per seed."""
    (rate,), (scale,), num_runs = c["rates"], c["scales"], len(c["seeds"])
    problem = prepare(c, c["seeds"])
    return problem, problem.scaled_losses([scale] * num_runs), [rate] * num_runs


def train_to(
    checkpoints: Sequence[int], problem: Problem, rates: Sequence[float], batches: Iterator[Batch]
) -> Iterator[int]:
    """Train with equal weights and Adam, and pause at every checkpoint, which is a number of steps."""
    weighting = configured(problem, problem.losses_fn, {"method": "equal weights"})
    optimizer = make_optimizer("Adam", problem.model.parameters())
    steps = 0
    for checkpoint in checkpoints:
        for batch in islice(batches, checkpoint - steps):
            train_step(weighting, optimizer, batch, problem.per_run(rates))
        steps = checkpoint
        yield checkpoint


def by_seed(values: Tensor, seeds: Sequence[int], index: str) -> pd.DataFrame:
    """Tidy rows of `values [M, R]` by seed and `index`, the number of a row from 0."""
    table = pd.DataFrame(values.cpu().numpy(), columns=list(seeds)).rename_axis(index).reset_index()
    return table.melt(index, var_name="seed", value_name="value").astype({"seed": "int64"})
