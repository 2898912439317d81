"""Tables of the tabular study on made-up runs: arithmetic by hand, failed pairs counted, claims' rows."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from companion.claims.register import load_claims
from companion.claims.statistics import Interval, paired_interval
from companion.studies.tabular.report import (
    in_words,
    intervals,
    levels,
    number,
    paired_differences,
    verdict_row,
)
from companion.studies.tabular.summaries import calibration_means, label_benefit, share_histogram


def made_runs(values: Mapping[str, list[float]], metric: str = "test log loss") -> pd.DataFrame:
    rows = [(m, s, metric, v) for m, losses in values.items() for s, v in enumerate(losses)]
    return pd.DataFrame(rows, columns=["method", "seed", "metric", "value"])


RUNS = made_runs({"HydaLearn": [0.30, 0.32, 0.31], "static grid": [0.33, 0.33, 0.33], "DWA": [0.2, 0.3, np.nan]})


def test_differences_are_paired_and_corrected() -> None:
    table = paired_differences(RUNS, "HydaLearn", ["static grid"], test_to_train=1 / 3, metrics=["test log loss"])
    row = table.iloc[0]
    by_hand = paired_interval([0.30, 0.32, 0.31], [0.33] * 3, test_to_train=1 / 3)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((-0.02, by_hand.low, by_hand.high), abs=1e-12)
    # 1/3 + 1/3 in place of 1/3: longer by the square root of two.
    plain = row["plain high"] - row["plain low"]
    assert row["high"] - row["low"] == pytest.approx(2**0.5 * plain, rel=1e-12)
    assert row["failed"] == 0
    assert intervals(table, "test log loss") == [by_hand]


def test_failed_pairs_are_counted_not_dropped_silently() -> None:
    table = paired_differences(RUNS, "HydaLearn", ["DWA"], test_to_train=0.0, metrics=["test log loss"])
    assert (table.loc[0, "count"], table.loc[0, "failed"]) == (2, 1)
    assert in_words(table.iloc[0]).endswith("at 2 splits, 1 left out")
    means = levels(RUNS)
    assert means["failed"].to_dict() == {"HydaLearn": 0, "static grid": 0, "DWA": 1}
    assert means.loc["DWA", "test log loss"] == pytest.approx(0.25)
    assert list(means.index) == ["HydaLearn", "static grid", "DWA"]


@pytest.mark.parametrize(("metric", "verdict"), [("test log loss", "better"), ("test AUC", "worse")])
def test_which_side_is_better_depends_on_the_metric(metric: str, verdict: str) -> None:
    runs = made_runs({"a": [0.1, 0.11, 0.1, 0.11], "b": [0.2, 0.2, 0.2, 0.2]}, metric)
    assert paired_differences(runs, "a", ["b"], test_to_train=0.0, metrics=[metric]).loc[0, "verdict"] == verdict


def test_benefit_is_positive_where_a_method_is_better() -> None:
    loss = made_runs({"single task": [0.5, 0.5, 0.5], "HydaLearn": [0.4, 0.41, 0.39]})
    auc = made_runs({"single task": [0.7, 0.7, 0.7], "HydaLearn": [0.8, 0.81, 0.79]}, "test AUC")
    few = pd.concat([loss, auc])
    table = label_benefit({100: few, 5000: few}, ["HydaLearn", "OL-AUX"], "single task", test_to_train=1 / 3)
    assert len(table) == 4  # two metrics at two counts; OL-AUX has no runs
    assert table["mean"].to_numpy() == pytest.approx([0.1] * 4, abs=1e-12)
    assert (table["low"] < table["mean"]).all()
    assert (table["mean"] < table["high"]).all()
    assert sorted(set(table["labels"])) == [100, 5000]


def test_share_histogram_counts_every_batch_once() -> None:
    shares = pd.DataFrame(
        {"seed": [0] * 4 + [1] * 4, "step": 25, "share": [0, 0, 0.1, 1.0, 0, 0.1, 0.1, 0.9]}, dtype=float
    )
    table = share_histogram(shares, num_bins=2)
    assert table["mean"].to_numpy() == pytest.approx([3 / 8, 3 / 8, 2 / 8])
    assert table["left"].to_list() == [0.0, 0.0, 0.5]
    assert table["right"].to_list() == [0.0, 0.5, 1.0]
    assert table["mean"].sum() == pytest.approx(1)


def test_calibration_means_average_over_splits() -> None:
    rows = [
        ("HydaLearn", seed, b, metric, value + 0.02 * seed * (metric == "observed"))
        for seed in (0, 1)
        for b, place in ((1, 0.1), (2, 0.6))
        for metric, value in (("predicted", place), ("observed", place), ("rows", 50.0))
    ]
    table = calibration_means(
        pd.DataFrame(rows, columns=["method", "seed", "bin", "metric", "value"]), test_to_train=0.0
    )
    assert table["observed"].to_numpy() == pytest.approx([0.11, 0.61])
    assert table["predicted"].to_numpy() == pytest.approx([0.1, 0.6])
    assert table["rows"].to_list() == [50.0, 50.0]
    assert (table["low"] >= 0).all()
    assert (table["low"] < table["observed"]).all()


def test_verdict_rows_say_the_extreme_comparisons() -> None:
    claim = next(c for c in load_claims().values() if c.direction == "lower" and c.comparisons > 1)
    low, high = -2 * claim.smallest, 2 * claim.smallest
    found = [Interval(low, 1.5 * low, 0.75 * low, 10), Interval(high, high, high, 9)]
    row = verdict_row(claim, found, 3)
    assert row["verdict"] == "holds in part"
    assert row["splits"] == 9
    assert row["comparisons"] == f"2 of {claim.comparisons}"
    first, last = str(row["found, 95 % interval"]).split(" to ")
    assert first.startswith(number(low, 3))
    assert last.startswith(number(high, 3))
