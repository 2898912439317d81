"""Tables of the recommendation study: measures by task, paired differences with corrected intervals, verdicts."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from companion.claims import verdicts
from companion.claims.register import Claim
from companion.claims.statistics import Interval, paired_interval
from companion.train import spread_comparison
from companion.train.layer_shares import NUM_BINS
from companion.train.method_comparison import intervals as intervals
from companion.train.spread_comparison import GROUP, MEAN, Contrast, label, log_losses

# Test rows per training row of every split (60 : 20 : 20): what splits share makes their differences alike.
TEST_TO_TRAIN = 1 / 3


def by_task(final: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A measure of the test fold: index group and seed, one column per task and `MEAN`; NaN where a run failed."""
    rows = final[final["metric"] == metric]
    index = [*GROUP, "seed"]
    wide = rows.pivot(index=index, columns="task", values="value")
    wide[MEAN] = rows.groupby(index)["value"].agg(lambda values: values.mean(skipna=False))
    return wide


def difference(first: pd.Series, second: pd.Series) -> Interval:
    """Corrected interval of `first - second` over the splits; both are numbers by seed."""
    return paired_interval(first, second, test_to_train=TEST_TO_TRAIN)


def level(values: pd.Series) -> Interval:
    """Corrected interval of the mean of numbers by seed."""
    return paired_interval(values, np.zeros(len(values)), test_to_train=TEST_TO_TRAIN)


def compare(values: pd.DataFrame, contrasts: Mapping[str, Sequence[Contrast]]) -> pd.DataFrame:
    """Compute the paired differences of a measure.

    Args:
        values: Of `by_task`.
        contrasts: Name -> its comparisons.

    Returns:
        One row per comparison: name, the contrast's fields, labels, mean, low, high, count, and `plain low` and
        `plain high` of the interval that takes the splits for independent.
    """
    plain = spread_comparison.compare(values, contrasts)
    limits = {f"plain {name}": plain[name] for name in ("low", "high")}
    return spread_comparison.compare(values, contrasts, TEST_TO_TRAIN).assign(**limits)


def rate_curves(tuning: pd.DataFrame, best: pd.DataFrame, problem: str) -> pd.DataFrame:
    """Validation losses over the learning rate, relative to the tuned single tasks of the same split.

    Args:
        tuning: Tidy rows of the tuning runs.
        best: Of `best_rates`.
        problem: Which.

    Returns:
        One row per optimizer, label and rate: `mean` over tuning splits of the mean log loss over tasks minus the
        single tasks', its range `low`, `high`, and whether it is the `chosen` one.
    """
    logs = log_losses(tuning, "validation loss")[MEAN].rename("loss").reset_index()
    logs = logs[logs["problem"] == problem].merge(best.rename(columns={"rate": "own rate"})[[*GROUP, "own rate"]])
    logs["chosen"] = logs["rate"] == logs["own rate"]
    single = logs[(logs["method"] == "single task") & logs["chosen"]][["optimizer", "seed", "loss"]]
    logs = logs.merge(single.rename(columns={"loss": "single"}), on=["optimizer", "seed"])
    logs["relative"] = logs["loss"] - logs["single"]
    logs["label"] = [label(setting) for setting in zip(logs["method"], logs["spread"], strict=True)]
    by_rate = logs.groupby(["optimizer", "label", "spread", "rate", "chosen"], sort=False)["relative"]
    found = by_rate.agg(
        mean=lambda values: values.mean(skipna=False), low="min", high="max", failed=lambda values: values.isna().sum()
    )
    return found.reset_index()


def shares_by_bin(shares: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Distribution over parameters of the last task's rAU at the end of training.

    Args:
        shares: Rows of `layer_measures` of one setting, one per seed.
        names: Of the layers, from number 1.

    Returns:
        One row per layer and bin: the mean `share` of the layer's live parameters in it.
    """
    return pd.DataFrame(
        {"layer": name, "bin": b, "share": shares[f"rAU, bin {b}"][number].mean()}
        for number, name in enumerate(names, start=1)
        for b in range(NUM_BINS)
    )


def sentence(claim: Claim, found: Sequence[Interval], decimals: int) -> str:
    """Say what a claim's intervals support by its registered rule; fewer comparisons than registered are said so."""
    least, most, low, high = verdicts.ends(found, decimals)
    several = len(found) > 1
    spread = f"{least} to {most}" if several else least
    return verdicts.sentence(claim, found, f"Mean {spread}, interval{'s' * several} within [{low}, {high}]")
