"""Training cells of the recommendation study: one method at every setting on every split, as a tidy table."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from companion.metrics.recommenders import auc, grouped_auc
from companion.problems.interactions import Network, folds, load, prepare
from companion.problems.run_seeds import named, run_seed
from companion.studies.recommendation.trivial import log_odds
from companion.train.all_tasks import make_method
from companion.train.losses import ScaledLosses, loss_weights
from companion.train.null_level import against_itself
from companion.train.problem import Problem
from companion.train.regularised import Dropout
from companion.train.runs import History, falling, train_runs
from companion.train.share_recorder import ShareRecorder
from companion.train.stacked import evaluate, predict

ALONE = " alone"  # behind the name of the task
# Two null levels of dominance, behind the name of a task: on parts of the batch, and on the same rows with labels drawn
# anew for each copy.
PARTS, DRAWN = " against itself", " drawn anew"
ORDINARY = ("equal weights", "static weights")  # the gradient of a weighted sum of the losses
KNOBS = ("rate", "scale", "dropout", "seed")  # of a run; runs of a program share their weight decay

Measures = dict[str, Tensor]  # metric -> `[R]`


@dataclass(frozen=True)
class Trained:
    """R runs, each left at its best epoch, and the recorder that followed their shares, if any."""

    problem: Problem
    history: History
    recorder: ShareRecorder | None


def tasks_of(c: Mapping[str, Any]) -> list[str]:
    """Names of the tasks that a configuration trains."""
    names = list(load(c["dataset"], c["users"]).targets)
    return [names[c["alone"]]] if "alone" in c else names


def drawn_anew(c: Mapping[str, Any], problem: Problem, task: str) -> Problem:
    """Replace the labels of all tasks by labels that one task's likely rates draw, for each task and run's split."""
    (split,) = c["seeds"]
    fold = folds(c["dataset"], c["users"], c["split"], (split,), c["rare"])[1][0]
    chance = torch.from_numpy(log_odds(fold, fold, tasks_of(c).index(task))["both"]).sigmoid()  # [N]
    generator = torch.Generator().manual_seed(split)
    labels = torch.rand((problem.num_tasks, len(chance)), generator=generator) < chance
    targets = labels[None].to(problem.train.targets)
    return replace(problem, train=replace(problem.train, targets=targets))


def train(
    c: Mapping[str, Any], runs: pd.DataFrame, decay: float, follow: Callable[..., ShareRecorder] | None = None
) -> Trained:
    """Train runs of one split as one program; the learning rate falls linearly to 0.

    Args:
        c: As of `train_grid`.
        runs: One row per run, columns `KNOBS`.
        decay: Decoupled weight decay, AdamW's.
        follow: Makes a recorder of who moves which table and layer.
    """
    problem, method = prepare(c, runs["seed"].tolist()), c["method"]
    if method.endswith(DRAWN):
        problem = drawn_anew(c, problem, method.removesuffix(DRAWN))
    num_tasks, steps = problem.num_tasks, problem.steps_per_epoch * c["epochs"]
    losses_fn = problem.losses_fn
    if method.endswith(PARTS):
        losses_fn = against_itself(losses_fn, tasks_of(c).index(method.removesuffix(PARTS)), num_tasks)
    if num_tasks > 1:
        weights = torch.stack([loss_weights(num_tasks, scale) for scale in runs["scale"]], dim=1)  # [T, R]
        losses_fn = ScaledLosses(losses_fn, weights.to(problem.train.source.device))
    ordinary = method in ORDINARY or method.endswith((ALONE, PARTS, DRAWN))
    weighting, optimizer = make_method(
        "equal weights" if ordinary else method, "Adam", problem.model, losses_fn, problem.shared,
        kinds=problem.kinds, steps_per_epoch=problem.steps_per_epoch, apart=follow is not None, decay=decay,
    )  # fmt: skip
    if runs["dropout"].any():
        weighting = Dropout(weighting, problem.model, problem.seeds, problem.per_run(runs["dropout"].tolist()))
    assert isinstance(problem.model.stack, Network)
    layers = list(problem.model.stack.shared_layers().values())
    recorder = follow(optimizer, layers) if follow else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(c["seeds"][0])  # PCGrad projects in random order
        history = train_runs(
            problem, weighting, optimizer, rates=problem.per_run(runs["rate"].tolist()), epochs=c["epochs"],
            schedule=falling(steps), criterion=lambda losses: losses.log().mean(0),
        )  # fmt: skip
    return Trained(problem, history, recorder)


def _validated(c: Mapping[str, Any], trained: Trained) -> Measures:
    """Measures of the validation fold, which may choose; the loss is the tasks' geometric mean."""
    logits = predict(trained.problem.model, trained.problem.validation).cpu().numpy()  # [T, R, N]
    targets = trained.problem.validation.targets[0].cpu().numpy()  # [T, N]
    areas = torch.stack([torch.from_numpy(auc([y] * len(z), z)) for y, z in zip(targets, logits, strict=True)])
    loss, epoch = trained.history.best.log().mean(0).exp(), trained.history.best_epoch + 1.0
    return {"validation loss": loss.cpu(), "validation AUC": areas.mean(0), "best epoch": epoch.cpu()}


def _tested(c: Mapping[str, Any], trained: Trained) -> Measures:
    """Measures of the test fold by task, and over the tasks."""
    problem, names = trained.problem, tasks_of(c)
    (split,) = c["seeds"]
    users = folds(c["dataset"], c["users"], c["split"], (split,), c["rare"])[1][2].users  # [1, N]
    losses = evaluate(problem.model, problem.losses_fn, problem.test).cpu()
    logits = predict(problem.model, problem.test).cpu().numpy()  # [T, R, N]
    measures: Measures = {}
    for name, loss, z, y in zip(names, losses, logits, problem.test.targets[0].cpu().numpy(), strict=True):
        labels = [y] * len(z)
        by_user = grouped_auc(labels, z, users.repeat(len(z), axis=0))
        measures |= {
            f"test loss, {name}": loss,
            f"AUC, {name}": torch.from_numpy(auc(labels, z)),
            f"user AUC, {name}": torch.from_numpy(by_user.mean),
        }
    for metric in ("AUC", "user AUC"):
        measures[metric] = torch.stack([measures[f"{metric}, {name}"] for name in names]).mean(0)
    return {**measures, "test loss": losses.log().mean(0).exp()}


def programs(c: Mapping[str, Any]) -> list[tuple[dict[str, Any], float, pd.DataFrame]]:
    """The programs of a cell: for every split and weight decay the configuration, the decay and the runs."""
    if c["method"].endswith(ALONE):
        c = {**c, "alone": tasks_of(c).index(c["method"].removesuffix(ALONE))}
    found = []
    for split, decay in product(c["seeds"], c["decays"]):
        seeds = [run_seed(split, i) for i in range(c["inits"])]
        runs = pd.DataFrame(product(c["rates"], c["scales"], c["dropouts"], seeds), columns=KNOBS)
        parts = [runs[first : first + c["at_once"]] for first in range(0, len(runs), c["at_once"])]
        found += [({**c, "seeds": [split]}, decay, part) for part in parts]
    return found


def table_of(runs: pd.DataFrame, decay: float, measures: Measures, failed: Tensor) -> pd.DataFrame:
    """Tidy rows of measures, NaN for runs that failed."""
    labels = named(runs.assign(decay=decay))
    kept = {metric: values.masked_fill(failed.cpu(), torch.nan).numpy() for metric, values in measures.items()}
    return pd.concat([labels.assign(metric=metric, value=values) for metric, values in kept.items()])


def _grid(c: Mapping[str, Any], *, tested: bool) -> pd.DataFrame:
    begin, tables = time.perf_counter(), []
    for here, decay, runs in programs(c):
        trained = train(here, runs, decay)
        measures = _validated(here, trained) | (_tested(here, trained) if tested else {})
        tables.append(table_of(runs, decay, measures, trained.history.failed))
    count = sum(len(runs) for *_, runs in programs(c))
    return pd.concat(tables, ignore_index=True).assign(seconds=(time.perf_counter() - begin) / count)


def train_grid(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train one method at every setting on every seed, in float64, and measure it.

    Within a seed every method has the same split, initial weights, batches and dropped units; the learning rate falls
    linearly to 0, and the epoch with the least mean log validation loss over tasks counts.

    Args:
        configuration: See `problems.interactions.prepare` for the data and the model; `epochs`. `seeds` are splits,
            each with `inits` initialisations, and `rates`, `scales` (the weight of the last task's loss, the first's
            being 1, in equal ratios), `decays` and `dropouts` are lists too: every combination is a run, and `at_once`
            runs of a split and decay train as one program. `method` is "equal weights" or "static weights" (the
            weighted sum of losses), a task's name and "alone", "AdaTask" or a baseline of `companion.baselines`.

    Returns:
        Tidy rows by knob, seed, initialisation and metric, NaN for a run that failed, with the seconds of a run. Losses
        are unweighted cross-entropies in nats; over tasks their geometric mean.
    """
    return _grid(configuration, tested=True)


def tune_grid(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train as `train_grid` does, once per split and without a look at the test fold: for choosing settings."""
    return _grid({**configuration, "inits": 1}, tested=False).drop(columns="initialisation")
