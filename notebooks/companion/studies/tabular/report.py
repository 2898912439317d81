"""Tables of the tabular study: levels, paired differences with corrected intervals, verdicts, all in words too.

All take tidy tables (`method`, `seed`, `metric`, `value`, ...) and give what one figure draws or one cell prints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from companion.claims import verdicts
from companion.claims.register import Claim
from companion.claims.statistics import Interval, paired_interval
from companion.train import method_comparison


@dataclass(frozen=True)
class Measure:
    """How a metric of the test fold is read: its unit, the better side and the decimals that are printed."""

    unit: str
    lower_is_better: bool
    decimals: int


MEASURES = {
    "test log loss": Measure("nats", True, 4),
    "test AUC": Measure("", False, 3),
    "test PR-AUC": Measure("", False, 3),
    "test calibration error": Measure("probability", True, 3),
}
MAIN_MEASURES = ("test log loss", "test AUC")
MINUS = "\N{MINUS SIGN}"


def levels(runs: pd.DataFrame, metrics: Sequence[str] = tuple(MEASURES)) -> pd.DataFrame:
    """Mean over splits of each metric, a row per method in the order of the runs, with the number of failed runs."""
    kept = runs[runs["metric"].isin(metrics)]
    means = kept.pivot_table(index="method", columns="metric", values="value", sort=False)
    means["failed"] = kept["value"].isna().groupby(kept["method"]).sum() / kept["metric"].nunique()
    return means[[*(metric for metric in metrics if metric in means), "failed"]]


def paired_differences(
    runs: pd.DataFrame,
    method: str,
    references: Sequence[str],
    *,
    test_to_train: float,
    confidence: float = 0.95,
    metrics: Sequence[str] = MAIN_MEASURES,
    column: str = "method",
) -> pd.DataFrame:
    """Compute the paired differences `method` minus each reference on the test folds.

    Args:
        runs: Tidy rows with seed, metric, value and `column`.
        method: The first-named level of `column`.
        references: Its levels to compare with.
        test_to_train: Rows of the test fold per row of the training fold, whether labelled or not, see
            `paired_interval`: what correlates the splits are the rows they share.
        confidence: Level of the intervals.
        metrics: Names of `MEASURES`.
        column: What tells runs apart: methods, origins of the weights, epochs of a switch.

    Returns:
        One row per metric and reference: the mean difference with its corrected interval (`low`, `high`) and the plain
        one (`plain low`, `plain high`), which takes the splits for independent, `count` of the pairs, `failed` pairs
        left out because a run of the two diverged, and the verdict.
    """
    rows = []
    for metric, reference in product(metrics, references):
        values = runs[runs["metric"] == metric].pivot(index="seed", columns=column, values="value")
        kept = values[[method, reference]].dropna()
        interval = paired_interval(kept[method], kept[reference], confidence=confidence, test_to_train=test_to_train)
        plain = paired_interval(kept[method], kept[reference], confidence=confidence)
        rows.append(
            {
                "metric": metric,
                "method": method,
                "reference": reference,
                **vars(interval),
                "plain low": plain.low,
                "plain high": plain.high,
                "failed": len(values) - len(kept),
                "verdict": interval.verdict(lower_is_better=MEASURES[metric].lower_is_better),
            }
        )
    return pd.DataFrame(rows)


def intervals(differences: pd.DataFrame, metric: str) -> list[Interval]:
    """The intervals of one metric of a table of differences, row by row."""
    return method_comparison.intervals(differences[differences["metric"] == metric])


def number(value: float, decimals: int) -> str:
    """A number as text with a minus sign, never minus zero."""
    return f"{value:z.{decimals}f}".replace("-", MINUS)


def in_words(row: pd.Series) -> str:
    """Say one row of `paired_differences` in words: the difference, its interval and what it supports.

    Example:
        >>> row = {"method": "A", "reference": "B", "metric": "test AUC", "mean": 0.01, "low": -0.02, "high": 0.04}
        >>> in_words(pd.Series({**row, "verdict": "undecided", "count": 10, "failed": 0}))
        'A − B, test AUC: 0.010 [−0.020, 0.040], undecided at 10 splits'
    """
    mean, low, high = (number(row[key], MEASURES[row["metric"]].decimals) for key in ("mean", "low", "high"))
    lost = f", {row['failed']} left out" if row["failed"] else ""
    pair = f"{row['method']} {MINUS} {row['reference']}"
    return f"{pair}, {row['metric']}: {mean} [{low}, {high}], {row['verdict']} at {row['count']} splits{lost}"


def verdict_row(claim: Claim, found: Sequence[Interval], decimals: int) -> dict[str, object]:
    """One row of the verdict table; of several comparisons the two with the least and the greatest mean.

    Args:
        claim: As registered.
        found: The intervals at hand: those of a fast run may be fewer than were registered.
        decimals: How exactly to print.
    """
    ends = [min(found, key=lambda one: one.mean), max(found, key=lambda one: one.mean)][: len(found)]
    texts = [f"{number(i.mean, decimals)} [{number(i.low, decimals)}, {number(i.high, decimals)}]" for i in ends]
    return verdicts.verdict_row(claim, found, " to ".join(texts), "splits")
