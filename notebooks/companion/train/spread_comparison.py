"""Tables of AdaTask's studies: tuned learning rates, effects on the losses, paired intervals and verdicts.

A method at one spread of the loss weights is a setting, such as ("joint", 10.0).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from companion.claims import verdicts
from companion.claims.register import Claim
from companion.claims.statistics import Interval, paired_interval

GROUP = ["problem", "optimizer", "method", "spread"]
MEAN = 0  # in place of a task's number: the mean over tasks

Setting = tuple[str, float]


class Contrast(NamedTuple):
    """One comparison: `first` minus `second` on one problem with one optimizer, in one task or the mean of all."""

    problem: str
    optimizer: str
    first: Setting
    second: Setting
    task: int = MEAN


def log_losses(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Logarithms of the tasks' losses and, as task 0, their mean; NaN where a loss of the run is not finite.

    Args:
        table: Cells of `study.train_cell`.
        metric: "validation loss" or "test loss".

    Returns:
        One row per group, rate and seed, one column per task of the problem with the most tasks.
    """
    rows = table[table["metric"] == metric]
    rows = rows.assign(log=np.log(rows["value"].where(np.isfinite(rows["value"]))))
    index = [*GROUP, "rate", "seed"]
    wide = rows.pivot(index=index, columns="task", values="log")
    wide[MEAN] = rows.groupby(index)["log"].agg(lambda logs: logs.mean(skipna=False))
    return wide


def best_rates(tuning: pd.DataFrame) -> pd.DataFrame:
    """Choose the learning rate of each method at each spread by the mean log validation loss; a failed run rules out.

    Returns:
        One row per group: `rate`, `loss` (its mean over tasks and tuning seeds) and `edge`, whether the rate lies at an
        edge of its grid.
    """
    means = log_losses(tuning, "validation loss")[MEAN].groupby([*GROUP, "rate"]).agg(lambda v: v.mean(skipna=False))
    best = means.loc[means.groupby(GROUP).idxmin()].rename("loss").reset_index("rate")
    grid = means.reset_index("rate").groupby(GROUP)["rate"].agg(["min", "max"]).loc[best.index]
    best["edge"] = (best["rate"] == grid["min"]) | (best["rate"] == grid["max"])
    return best.reset_index()


def best_static(best: pd.DataFrame, problem: str, optimizer: str, spreads: Sequence[float]) -> Setting:
    """Choose among the joint trainings of a problem the spread of the loss weights with the best validation loss."""
    rows = best[(best["problem"] == problem) & (best["optimizer"] == optimizer) & (best["method"] == "joint")]
    rows = rows[rows["spread"].isin(spreads)].sort_values("loss")  # one whose runs failed comes last
    return "joint", float(rows["spread"].iloc[0])


def layer_measures(final: pd.DataFrame) -> pd.DataFrame:
    """All measures of dominance: index group and seed, columns metric and layer, 0 being the whole trunk."""
    rows = final[final["task"] == 0]
    return rows.pivot(index=[*GROUP, "seed"], columns=["metric", "layer"], values="value")


def at(values: Any, problem: str, optimizer: str, setting: Setting) -> pd.DataFrame:
    """The rows of one setting, by seed, of `effects` or of one metric of `layer_measures`."""
    found = pd.DataFrame(values.xs((problem, optimizer, *setting), level=tuple(GROUP)))
    return found.sort_index()


def compare(
    values: pd.DataFrame, contrasts: Mapping[str, Sequence[Contrast]], test_to_train: float = 0.0
) -> pd.DataFrame:
    """Compute paired 95 % t-intervals of differences between log losses, effects or other measures by setting.

    Args:
        values: Index group and seed, one column per task and `MEAN`.
        contrasts: Claim or name -> its comparisons.
        test_to_train: For seeds that are splits of one data set, see `paired_interval`.

    Returns:
        One row per comparison: the name, the contrast's fields, mean, low, high and count.
    """
    rows = []
    for name, several in contrasts.items():
        for c in several:
            first, second = (at(values, c.problem, c.optimizer, setting)[c.task] for setting in (c.first, c.second))
            interval = paired_interval(first, second, test_to_train=test_to_train)
            labels = {"first": label(c.first), "second": label(c.second)}
            rows.append({"name": name, **c._asdict(), **labels, **vars(interval)})
    return pd.DataFrame(rows)


def label(setting: Setting) -> str:
    """Name a setting: methods that erase the loss weights go without them.

    Example:
        >>> label(("joint", 10.0)), label(("AdaTask", 10.0))
        ('joint 1:10', 'AdaTask')
    """
    method, spread = setting
    return f"joint 1:{spread:g}" if method == "joint" else method


def sentence(claim: Claim, intervals: Sequence[Interval]) -> str:
    """Say what a claim's intervals support by its registered rule; fewer comparisons than registered are said so."""
    least, most, low, high = verdicts.ends(intervals, 2)
    return verdicts.sentence(claim, intervals, f"Means {least} to {most}, intervals within [{low}, {high}]")
