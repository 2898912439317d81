"""What a notebook says of its data, as a cell: so that who lacks the data reads it beside the published runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from companion.metrics.per_run import auc_per_run, log_loss_per_run
from companion.problems.tables import folds_of


@dataclass(frozen=True)
class Facts:
    """Of a configuration's data and folds.

    Attributes:
        name: Of the data.
        licence: Their terms, in words.
        checksum: sha256 of their file.
        stand_in: Whether they only stand for the data of a paper.
        rows: How many examples there are.
        inputs: How many numbers a network reads of each, missing values and levels of a category told apart.
        means: Task name -> mean of its labels, the main task first.
        folds: Rows trained on, for validation, for test.
        positives: Main positives in a test fold, mean over splits.
        test_share: Share of main positives in a test fold.
        no_model: Test log loss of the training fold's share of positives, mean over splits.
        test_to_train: For intervals over splits that share rows; see `paired_interval`.
    """

    name: str
    licence: str
    checksum: str
    stand_in: bool
    rows: int
    inputs: int
    means: dict[str, float]
    folds: tuple[int, int, int]
    positives: float
    test_share: float
    no_model: float
    test_to_train: float

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, the main task first."""
        return list(self.means)


def boosting(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train gradient boosting on the main task of each split of `configuration["seeds"]`: another family, for scale.

    Returns:
        Tidy rows by seed and metric, test AUC and test log loss.
    """
    folds = folds_of(configuration, configuration["seeds"])
    rows = []
    for number, seed in enumerate(configuration["seeds"]):
        (x, y), (test_x, test_y) = ((f.inputs[number], f.targets[number, 0]) for f in (folds.train, folds.test))
        model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.08, max_leaf_nodes=15, random_state=0)
        logits = model.fit(x, y).decision_function(test_x)[None]
        for metric, measure in (("test AUC", auc_per_run), ("test log loss", log_loss_per_run)):
            rows.append({"seed": seed, "metric": metric, "value": float(measure(test_y[None], logits)[0])})
    return pd.DataFrame(rows)


def describe(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Describe the folds of `configuration["seeds"]`: tidy rows, each with a number (`value`) or words (`said`)."""
    folds = folds_of(configuration, configuration["seeds"])
    task, labels = folds.task, folds.test.targets[:, 0]  # [splits, rows]
    share = folds.train.targets[:, 0].mean(1, keepdims=True)  # [splits, 1]
    words = {"name": task.name, "licence": task.licence, "checksum": task.checksum}
    numbers = {
        "stand in": task.stand_in,
        "rows": len(task.inputs),
        "inputs": folds.train.inputs.shape[2],
        **{f"fold {i}": f.inputs.shape[1] for i, f in enumerate((folds.train, folds.validation, folds.test))},
        "positives": labels.sum(1).mean(),
        "test share": labels.mean(),
        "no model": log_loss_per_run(labels, np.broadcast_to(np.log(share / (1 - share)), labels.shape)).mean(),
        "test to train": folds.test_to_train,
    }
    return pd.DataFrame(
        [
            *({"metric": name, "said": said, "value": float("nan")} for name, said in words.items()),
            *({"metric": name, "said": "", "value": float(value)} for name, value in numbers.items()),
            *({"metric": "mean", "said": name, "value": np.nanmean(v)} for name, v in task.targets.items()),
        ]
    )


def facts_of(described: pd.DataFrame) -> Facts:
    """Read what `describe` gave."""
    means = described[described["metric"] == "mean"]
    other = described[described["metric"] != "mean"].set_index("metric")
    number, said = other["value"], other["said"]
    return Facts(
        name=said["name"],
        licence=said["licence"],
        checksum=said["checksum"],
        stand_in=bool(number["stand in"]),
        rows=int(number["rows"]),
        inputs=int(number["inputs"]),
        means=dict(zip(means["said"], means["value"], strict=True)),
        folds=(int(number["fold 0"]), int(number["fold 1"]), int(number["fold 2"])),
        positives=float(number["positives"]),
        test_share=float(number["test share"]),
        no_model=float(number["no model"]),
        test_to_train=float(number["test to train"]),
    )
