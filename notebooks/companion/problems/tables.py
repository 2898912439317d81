"""Tables of real data as problems, their folds prepared once: every method reads the same arrays."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from companion.data import (
    TABULAR_TASKS,
    Fold,
    TabularTask,
    fold_arrays,
    hide_main_labels,
    load_fannie_mae,
    load_freddie_mac,
    load_mimic,
    splits,
)
from companion.data.fannie_mae import SOURCE as FANNIE_MAE
from companion.data.freddie_mac import SOURCE as FREDDIE_MAC
from companion.data.mimic import REMAINING, SOURCE
from companion.data.time_splits import time_splits
from companion.networks.shared_bottom import SharedBottom, task_losses
from companion.problems.run_seeds import split_of
from companion.train.devices import resolve_device
from companion.train.problem import WITHHELD, Problem, withholds
from companion.train.stacked import RunData, StackedModel

MIMIC_FOLDER = "mimic3-benchmarks"  # what the benchmark's scripts call it
# What a loader takes.
OPTIONS = {
    "credit_cards": {"auxiliaries"},
    "nafld": {"auxiliaries"},
    "rhc": {"auxiliaries"},
    "mortality": {"horizon_days", "auxiliaries"},
    "mimic": {"auxiliaries"},
    "freddie_mac": {"files"},
    "fannie_mae": {"files"},
}
PROTOCOLS = ("repeated", "time")
# Shares of mortgages for validation and test by time: the windows after the boundary hold fewer rows and fewer defaults
# than that before it, whose rows are more than are trained on here.
TIME_SHARES = {"validation": 0.2, "test": 0.3}
# Of a configuration, what decides its folds beside the seeds; those that it lacks are None.
DECIDES = (
    "dataset",
    "protocol",
    "periods",
    "main_labels",
    "train_rows",
    "validation_rows",
    "horizon_days",
    "auxiliaries",
    "files",
)


@dataclass(frozen=True)
class Folds:
    """Folds of S splits, one per seed in their order.

    Attributes:
        task: Where they come from.
        train: Training fold, at most `train_rows` rows of it.
        validation: Rows with a main label only: the main task's loss there chooses epochs and knobs.
        test: Test fold.
        test_to_train: Rows of the test fold per row of the training fold as drawn, before any rows or labels are left
            out: what `paired_interval` corrects for is how much of the data the splits share, so this errs on the
            side of longer intervals where fewer rows are trained on.
    """

    task: TabularTask
    train: Fold
    validation: Fold
    test: Fold
    test_to_train: float

    @property
    def kinds(self) -> list[str]:
        """Kind of every task, the main task first."""
        return list(self.task.kinds.values())


def folds_of(configuration: Mapping[str, Any], seeds: Sequence[int]) -> Folds:
    """Prepare the folds that a configuration asks for; the last few are kept in memory.

    Args:
        configuration: `dataset`, a name of `TABULAR_TASKS`, and where they are wanted:

            - `protocol`: "repeated" (default; stratified, or by whole groups where the data have groups) or "time",
              with `periods`, the first period of the validation and of the test window;
            - `main_labels`: how many main labels a training fold keeps, see `hide_main_labels`;
            - `train_rows` and `validation_rows`: how many rows of these folds are used, drawn by the split's seed;
            - `auxiliaries` of the data sets that have a choice (`OPTIONS`; "mimic" reads
              `MTLCORE_DATA/mimic3-benchmarks`), and `horizon_days` of the mortality data;
            - `files` of the datasets "freddie_mac" (origination, performance) and "fannie_mae" (one), their names in
              the folder `MTLCORE_DATA`.
        seeds: One per split.
    """
    values = (configuration.get(name) for name in DECIDES)
    return _folds(tuple(tuple(v) if isinstance(v, list | tuple) else v for v in values), tuple(seeds))


@lru_cache(maxsize=4)
def _folds(decides: tuple[Any, ...], seeds: tuple[int, ...]) -> Folds:
    chosen = dict(zip(DECIDES, decides, strict=True))
    task = _task(chosen)
    protocol = chosen["protocol"] or "repeated"
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"Parameter `protocol` should be one of {', '.join(PROTOCOLS)}. Found {protocol!r}. Pass one of them."
        )
    if protocol == "time":
        validation_from, test_from = chosen["periods"]
        drawn = time_splits(task, seeds, validation_from=validation_from, test_from=test_from, **TIME_SHARES)
    else:
        drawn = splits(task, seeds)
    train, validation, test = fold_arrays(task, drawn)
    ratio = test.inputs.shape[1] / train.inputs.shape[1]
    if chosen["main_labels"] is not None:
        train, validation = hide_main_labels(task, train, validation, chosen["main_labels"], seeds)
        validation = _labelled(validation)
    if chosen["train_rows"] is not None:
        train = _subsample(train, "train", chosen["train_rows"], seeds)
    if chosen["validation_rows"] is not None:
        validation = _subsample(validation, "validation", chosen["validation_rows"], seeds)
    return Folds(task, train, validation, test, ratio)


def _task(chosen: Mapping[str, Any]) -> TabularTask:
    options = {name: chosen[name] for name in ("horizon_days", "auxiliaries", "files") if chosen[name] is not None}
    dataset = chosen["dataset"]
    if refused := sorted({*options} - OPTIONS.get(dataset, set())):
        raise ValueError(
            f"Parameters {' and '.join(refused)} should come with a dataset that takes them. "
            f"Found {dataset!r}. Leave them out."
        )
    if dataset == "mimic":  # its stays are split anew, by patient, like all other data
        return load_mimic(_official(MIMIC_FOLDER, SOURCE), options.get("auxiliaries", (REMAINING,)))[0]
    if dataset in ("freddie_mac", "fannie_mae"):
        load, source = (load_freddie_mac, FREDDIE_MAC) if dataset == "freddie_mac" else (load_fannie_mae, FANNIE_MAE)
        task = load(*(_official(name, source) for name in options["files"]))
        return replace(task, inputs=task.inputs.dropna(axis="columns", how="all"))  # what a quarter's file leaves empty
    return TABULAR_TASKS[dataset](**options)


def _official(name: str, source: str) -> Path:
    """Where a file or folder of a user's own lies."""
    folder = os.environ.get("MTLCORE_DATA")
    if not folder:
        raise FileNotFoundError(
            f"`{name}` should lie in the folder named by the environment variable MTLCORE_DATA. "
            f"Found the variable unset. Get it from {source} and set the variable."
        )
    return Path(folder) / name


def _take(fold: Fold, rows: Sequence[np.ndarray]) -> Fold:
    """Return the rows `[S][n]` of each split."""
    return replace(
        fold,
        inputs=np.stack([x[r] for x, r in zip(fold.inputs, rows, strict=True)]),
        targets=np.stack([y[:, r] for y, r in zip(fold.targets, rows, strict=True)]),
    )


def _labelled(fold: Fold) -> Fold:
    """Return the rows that have a main label, equally many in every split."""
    return _take(fold, [np.flatnonzero(~np.isnan(main)) for main in fold.targets[:, 0]])


def _subsample(fold: Fold, name: str, count: int, seeds: Sequence[int]) -> Fold:
    rows = fold.inputs.shape[1]
    if not 1 <= count <= rows:
        raise ValueError(
            f"Parameter `{name}_rows` should be between 1 and the rows of the {name} fold, {rows}. "
            f"Found `{name}_rows = {count}`. Pass None for all of them."
        )
    return _take(fold, [np.sort(np.random.default_rng([seed, 7]).permutation(rows)[:count]) for seed in seeds])


def withhold(fold: Fold, share: float, seeds: Sequence[int]) -> tuple[Fold, Fold]:
    """Part a training fold into rows that are trained on and rows that are kept from training, by the split's seed."""
    rows = fold.inputs.shape[1]
    kept = round(rows * share)
    orders = [np.random.default_rng([seed, 8]).permutation(rows) for seed in seeds]
    return _take(fold, [np.sort(o[kept:]) for o in orders]), _take(fold, [np.sort(o[:kept]) for o in orders])


def prepare(c: Mapping[str, Any], seeds: Sequence[int]) -> Problem:
    """Prepare the tables of a configuration for runs with these seeds, which may repeat.

    A seed names initial weights and an order of batches, and by `split_of` it names its split, so that runs 7 and
    10,007 differ in their initialisation and share one copy of the data.

    Args:
        c: As `folds_of`, and `hidden`, `batch_size`, `device`; `dtype` "float32" for a network that would take long in
            float64; where it `withholds`, a fifth of the training rows is kept from training; with
            `dropouts` the network can drop units. The splits of its `seeds` are prepared together.
        seeds: One per run, each of them among `c["seeds"]`.
    """
    device, dtype = resolve_device(c["device"]), getattr(torch, c.get("dtype", "float64"))
    names = list(dict.fromkeys(split_of(seed) for seed in c["seeds"]))
    folds = folds_of(c, names)
    train, withheld = folds.train, None
    if withholds(c):
        train, withheld = withhold(train, WITHHELD, names)
    source = torch.tensor([names.index(split_of(seed)) for seed in seeds], device=device)

    def on_device(fold: Fold) -> RunData:
        inputs, targets = (torch.from_numpy(a).to(device, dtype) for a in (fold.inputs, fold.targets))
        return RunData(inputs, targets, source)

    shape = (train.inputs.shape[-1], c["hidden"], len(folds.kinds))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    models = [SharedBottom(*shape, generator=g, dtype=torch.float64, masked="dropouts" in c) for g in generators]
    return Problem(
        StackedModel(models).to(device, dtype),
        list(seeds),
        folds.kinds,
        task_losses(folds.kinds),
        on_device(train),
        on_device(folds.validation),
        on_device(folds.test),
        c["batch_size"],
        None if withheld is None else on_device(withheld),
    )
