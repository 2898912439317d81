"""Tables of the tabular study: levels, paired differences with their intervals, settings, in words too.

All take tidy tables (`method`, `seed`, which is a split, `initialisation`, `metric`, `value`, ...) and give what one
figure draws or one cell prints. Losses are compared by their logs, so that data sets of any level can share a figure.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from companion.claims.evidence import intervals_of, rulings
from companion.claims.findings import PER_CENT, PER_CENT_OF_LOSS, Finding
from companion.claims.register import Claim
from companion.claims.statistics import Interval, estimate, power
from companion.claims.verdicts import MINUS
from companion.train.method_comparison import Comparison, tuned_differences

LOSS, AUC = "test log loss", "test AUC"
METRICS = (LOSS, AUC, "test PR-AUC", "test calibration error")
LIMITS = ("mean", "low", "high")


def levels(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean of each metric over splits and initialisations, a row per method, with the number of failed runs."""
    kept = runs[runs["metric"].isin(METRICS)]
    means = kept.pivot_table(index="method", columns="metric", values="value", sort=False)
    means["failed"] = kept["value"].isna().groupby(kept["method"]).sum() / kept["metric"].nunique()
    return means[[*(metric for metric in METRICS if metric in means), "failed"]]


def paired(runs: pd.DataFrame, metric: str, column: str, first: object, second: object) -> pd.DataFrame:
    """Differences of one metric by split and initialisation, `[S, I]`, NaN for a failed run; of losses, of their logs.

    Only initialisations that both have are there: costly methods may have run on fewer.
    """
    rows = runs[(runs["metric"] == metric) & runs[column].isin([first, second])]
    values = rows.pivot(index=["seed", "initialisation"], columns=column, values="value")
    values = values[rows.groupby(["seed", "initialisation"]).size() == 2]
    if metric.endswith("loss"):
        values = values.map(np.log)
    return (values[first] - values[second]).unstack("initialisation")


def paired_differences(
    runs: pd.DataFrame,
    column: str,
    first: object,
    references: Sequence[object],
    *,
    test_to_train: float,
    metric: str = LOSS,
) -> pd.DataFrame:
    """Compute the paired differences `first` minus each reference on the test folds, see `paired`.

    Args:
        runs: Tidy rows.
        column: What tells runs apart: methods, origins of the weights, epochs of a switch.
        first: The first-named of its values.
        references: Its values to compare with.
        test_to_train: Rows of the test fold per row of the training fold, whether labelled or not: what correlates the
            splits are the rows that they share.
        metric: Which number.

    Returns:
        One row per reference: `first`, `reference`, `metric`, the fields of an `Estimate`, and `failed`: the splits
        left out because a run of the two diverged.
    """
    rows = []
    for reference in references:
        differences = paired(runs, metric, column, first, reference)
        kept = differences.dropna()
        found = estimate(kept.to_numpy(), test_to_train=test_to_train)
        named = {"metric": metric, "first": first, "reference": reference}
        rows.append({**named, **vars(found), "failed": len(differences) - len(kept)})
    return pd.DataFrame(rows)


def benefit(
    found: Comparison, first: str, references: Sequence[str], metric: str, test_to_train: float
) -> pd.DataFrame:
    """Differences of a comparison with their tuning's part: `method_comparison.tuned_differences` on test folds."""
    return tuned_differences(found, first, references, 0.95, metric, test_to_train)


def settings(found: Comparison) -> pd.DataFrame:
    """What tuning chose, a row per method: its knobs, and how often bootstrap samples of the tuning splits agree."""
    rows = [
        {"method": name, **choice.setting, "chosen again": f"{100 * (choice.draws == 0).mean():.0f} %"}
        for name, choice in found.chosen.items()
    ]
    return pd.DataFrame(rows).set_index("method")


def number(value: float, decimals: int) -> str:
    """A number as text with a minus sign, never minus zero."""
    return f"{value:z.{decimals}f}".replace("-", MINUS)


def in_words(row: Mapping[Hashable, Any]) -> str:
    """Say one row of `paired_differences` in words: the difference and its interval.

    Example:
        >>> row = {"first": "A", "reference": "B", "metric": "test AUC", "mean": 0.01, "low": -0.02, "high": 0.04}
        >>> in_words({**row, "count": 10, "failed": 0})
        'A − B: 0.0100 [−0.0200, 0.0400]'
    """
    return f"{row['first']} {MINUS} {row['reference']}: {_difference(row)}"


def _difference(row: Mapping[Hashable, Any]) -> str:
    loss = str(row["metric"]).endswith("loss")
    mean, low, high = (number(100 * np.expm1(row[key]) if loss else row[key], 2 if loss else 4) for key in LIMITS)
    lost = f", {row['failed']} splits left out" if row["failed"] else ""
    return f"{mean} [{low}, {high}]{' %' if loss else ''}{lost}"


def other_methods(found: Comparison, ours: pd.DataFrame, test_to_train: float) -> pd.DataFrame:
    """The `settings` of other methods and how their losses compare, a row per method.

    Args:
        found: Of them, HydaLearn and the single task.
        ours: HydaLearn minus each, of `benefit`.
        test_to_train: As for `paired_differences`.
    """
    names = list(ours["reference"])
    theirs = pd.concat(benefit(found, name, ["single task"], LOSS, test_to_train) for name in names)
    words = {
        f"{title}, %": [_difference(row).replace(" %", "") for row in table.to_dict("records")]
        for title, table in ((f"HydaLearn {MINUS} it", ours), (f"it {MINUS} single task", theirs))
    }
    return settings(found).loc[names].assign(**words)


def verdict_table(claims: Mapping[str, Claim], table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a notebook with what was found, primary first; losses in per cent.

    Args:
        claims: The register.
        table: Of `claims.evidence.evidence_table`.

    Returns:
        Columns: row, kind, found (the least and greatest mean, and the widest limits), asks, power (the least of the
        comparisons') and verdict.
    """
    verdicts, rows = rulings(claims, table), []
    for name, found in table.groupby("claim", sort=False):
        claim = claims[str(name)]
        loss = "log of the test loss" in claim.measure.lower()
        decimals = 2 if loss or claim.smallest >= 0.1 else 4
        least, most, low, high = (
            number(100 * np.expm1(value) if loss else value, decimals)
            for value in (found["mean"].min(), found["mean"].max(), found["low"].min(), found["high"].max())
        )
        powers = [power(interval, claim.smallest, claim.confidence) for interval in intervals_of(found)]
        rows.append(
            {
                "row": name,
                "kind": claim.kind,
                "comparisons": len(found),
                "means": f"{least} to {most}{' %' * loss}",
                "within": f"[{low}, {high}]",
                "asks": f"{claim.direction} by {100 * claim.smallest if loss else claim.smallest:g}{' %' * loss}",
                "power": f"{min(powers):.2f}",
                "verdict": verdicts[str(name)],
            }
        )
    return pd.DataFrame(rows).sort_values("kind", key=lambda kind: kind != "primary", kind="stable")


def found_in(tables: Mapping[str, pd.DataFrame]) -> dict[str, Interval]:
    """The intervals of tables of differences by name, such as "UCI credit cards: single task"."""
    return {
        f"{name}: {row['reference']}": interval
        for name, table in tables.items()
        for row, interval in zip(table.to_dict("records"), intervals_of(table), strict=True)
    }


def findings(domain: str) -> list[Finding]:
    """What a notebook opens with.

    Args:
        domain: What the rows' names end in.
    """
    return [
        Finding(yes, no, measure, {f"{row}-{domain}": ("", unit)})
        for row, unit, yes, no, measure in (
            (
                "H3-loss",
                PER_CENT_OF_LOSS,
                "HydaLearn beats the single task, equal weights and tuned constant weights",
                "HydaLearn does not beat the single task, equal weights and tuned constant weights alike",
                "Test loss, HydaLearn minus one of them",
            ),
            (
                "H1-composition",
                PER_CENT,
                "The best weights of a mini-batch follow its composition",
                "The best weights of a mini-batch do not follow its composition",
                "Variance of the best weight that the batch's composition explains",
            ),
            (
                "H1-swap",
                PER_CENT_OF_LOSS,
                "HydaLearn's match to the batch lowers the loss",
                "HydaLearn's match to the batch does not lower the loss",
                "Test loss with its own weights minus that with another split's of the same step",
            ),
            (
                "H2-drift",
                PER_CENT_OF_LOSS,
                "The auxiliary task loses its relevance during training",
                "The auxiliary task does not lose its relevance during training",
                "Test loss after the last epoch, auxiliary task switched off in time minus always on",
            ),
        )
    ]
