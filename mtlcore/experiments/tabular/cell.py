"""Cells of the tabular study: some methods on some splits of one data set, as a tidy table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mtlcore.data import TABULAR_TASKS, fold_arrays, splits
from mtlcore.devices import resolve_device
from mtlcore.experiments.tabular.study import Setting, Training, train_settings

STATIC = {"single task": 0.0, "equal weights": 1.0}
METRICS = ["validation loss", "log loss", "AUC", "mean auxiliary weight"]


def compare(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train the single task, equal weights and HydaLearn at one learning rate on paired splits.

    Args:
        configuration: `dataset`, `device`, `seeds` (one per split), `hidden`, `epochs`, `batch_size`, `rate`.

    Returns:
        One row per method, seed and metric, with the seconds of the run.
    """
    task = TABULAR_TASKS[configuration["dataset"]]()
    seeds, rate = configuration["seeds"], configuration["rate"]
    train, validation, test = fold_arrays(task, splits(task, seeds))
    device = resolve_device(configuration["device"])
    training = Training(configuration["hidden"], configuration["epochs"], configuration["batch_size"], device)
    static = [Setting(method, rate, weight) for method, weight in STATIC.items()]
    programs = [
        train_settings(settings, seeds, train, validation, training, test)
        for settings in (static, [Setting("HydaLearn", rate)])
    ]
    runs = pd.concat([program.table for program in programs], ignore_index=True)
    runs["mean auxiliary weight"] = np.concatenate([program.auxiliary_weights.mean(0) for program in programs])
    return runs.melt(["method", "seed", "seconds"], METRICS, var_name="metric", value_name="value")
