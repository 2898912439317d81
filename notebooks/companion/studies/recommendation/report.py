"""Tables of the recommendation study: levels, differences with the parts of their variance, shares of the updates."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from companion.claims import verdicts
from companion.claims.register import Claim
from companion.claims.statistics import Estimate, Interval, TuningPart, estimate, paired_interval
from companion.data.interactions import Interactions, encode, interaction_splits
from companion.metrics.recommenders import auc
from companion.studies.recommendation.trivial import log_odds
from companion.train.method_comparison import Comparison

# Test rows per training row of every split (60 : 20 : 20): what splits share makes their differences alike.
TEST_TO_TRAIN = 1 / 3


def contrast(found: Comparison, metric: str, references: Sequence[str], first: str = "AdaTask") -> Estimate:
    """Interval of a method's measure minus the mean of some references', paired by split and initialisation.

    Args:
        found: Tuned and trained methods.
        metric: Which measure.
        references: Names; the single tasks are several.
        first: The method.
    """
    ours, others = found.retuned(first, metric), [found.retuned(name, metric) for name in references]
    apart = ours.drawn() - np.mean([other.drawn() for other in others], axis=0)  # of the bootstrap samples
    noise = ours.noise() + sum(other.noise() for other in others) / len(others) ** 2
    part = TuningPart(max(float(apart.var()) - noise, 0.0), ours.seeds)
    differences = ours.values[0] - np.mean([other.values[0] for other in others], axis=0)  # [S, I]
    return estimate(differences, test_to_train=TEST_TO_TRAIN, tuning=part)


def contrasts(found: Comparison, tasks: Sequence[str], names: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """AdaTask against each reference, in every task and their mean.

    Args:
        found: Tuned and trained methods.
        tasks: Names.
        names: Reference -> its methods; one per task where these are trained alone.

    Returns:
        One row per `reference` and `task`, "mean of tasks" for all: the fields of an estimate.
    """
    rows = []
    for reference, methods in names.items():
        rows.append({"reference": reference, "task": "mean of tasks", **vars(contrast(found, "AUC", methods))})
        for number, task in enumerate(tasks):
            own = [methods[number]] if len(methods) > 1 else methods
            rows.append({"reference": reference, "task": task, **vars(contrast(found, f"AUC, {task}", own))})
    return pd.DataFrame(rows)


def trivial(data: Interactions, kind: str, seeds: Sequence[int], rare: int) -> pd.DataFrame:
    """AUC and log loss on the test fold of predictions from rates of users and films, means over splits.

    Returns:
        Index: method; columns: pairs of measure ("AUC", "test loss") and task.
    """
    rows = []
    for split in interaction_splits(data, kind, seeds):
        _, (train, _, test) = encode(data, [split], rare)
        for number, task in enumerate(data.targets):
            labels = test.targets[0, number]
            for name, z in log_odds(train, test, number).items():
                loss = float(np.logaddexp(0, z).mean() - (labels * z).mean())
                rows += [(f"rates of {name}", "AUC", task, auc(labels[None], z[None])[0])]
                rows += [(f"rates of {name}", "test loss", task, loss)]
    table = pd.DataFrame(rows, columns=["method", "metric", "task", "value"])
    return table.pivot_table(index="method", columns=["metric", "task"], values="value")


def levels(fresh: pd.DataFrame, tasks: Sequence[str], alone: Sequence[str]) -> pd.DataFrame:
    """Means over all fresh runs of AUC and log loss, as `trivial`; the single tasks are one row."""
    named = [f"{metric}, {task}" for metric in ("AUC", "test loss", "user AUC") for task in tasks]
    rows = fresh[fresh["metric"].isin(named)].replace({"method": dict.fromkeys(alone, "single tasks")})
    rows[["metric", "task"]] = [name.split(", ") for name in rows["metric"]]
    return rows.pivot_table(index="method", columns=["metric", "task"], values="value", sort=False)


def rate_curves(found: Comparison, methods: Sequence[str]) -> pd.DataFrame:
    """Validation loss over the learning rate, in per cent above the method's least.

    Returns:
        One row per method and rate: `mean` over tuning seeds, and `low` and `high`, its 95 % interval, paired with the
        chosen rate.
    """
    rows = []
    for method in methods:
        here = found.tuned[(found.tuned["method"] == method) & (found.tuned["metric"] == "validation loss")]
        here = here[here["scale"] == found.chosen[method].setting["scale"]]
        losses = here.pivot(index="seed", columns="rate", values="value")
        logs = 100 * losses.transform(np.log)
        for rate in logs.columns:
            apart = paired_interval(logs[rate], logs[found.chosen[method].rate])
            rows.append({"label": method, "rate": rate, **vars(apart)})
    return pd.DataFrame(rows)


def shares(followed: pd.DataFrame, metric: str, method: str, scale: float = 1.0, layer: int = 0) -> pd.Series:
    """A measure of one method's tables and layers, by split."""
    rows = followed[(followed["method"] == method) & (followed["scale"] == scale) & (followed["layer"] == layer)]
    return rows[rows["metric"] == metric].set_index("seed")["value"].sort_index()


def level(values: pd.Series) -> Interval:
    """Plain interval of a mean over splits: shares have no test fold, so splits need no correction."""
    return paired_interval(values, np.zeros(len(values)))


def sentence(claim: Claim, found: Sequence[Interval], decimals: int) -> str:
    """Say what a claim's intervals support by its registered rule; fewer comparisons than registered are said so."""
    least, most, low, high = verdicts.ends(found, decimals)
    several = len(found) > 1
    spread = f"{least} to {most}" if several else least
    return verdicts.sentence(claim, found, f"Mean {spread}, interval{'s' * several} within [{low}, {high}]")
