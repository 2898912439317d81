"""Tables of the tabular study on made-up runs: arithmetic by hand, failed pairs counted, claims' rows."""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from companion.claims.evidence import evidence_table, intervals_of
from companion.claims.findings import told
from companion.claims.register import load_claims
from companion.claims.statistics import Interval, estimate
from companion.studies.tabular.report import (
    LOSS,
    benefit,
    findings,
    found_in,
    in_words,
    levels,
    other_methods,
    paired,
    paired_differences,
    settings,
    verdict_table,
)
from companion.train.choice import Choice
from companion.train.method_comparison import Comparison

INITS = 2


def made_runs(values: Mapping[str, list[float]], metric: str = LOSS) -> pd.DataFrame:
    """Runs by method: a number per split and initialisation, initialisations of a split in a row."""
    rows = [(m, n // INITS, n % INITS, metric, v) for m, losses in values.items() for n, v in enumerate(losses)]
    return pd.DataFrame(rows, columns=["method", "seed", "initialisation", "metric", "value"])


OWN = [0.30, 0.32, 0.31, 0.29, 0.33, 0.30]
RUNS = made_runs({"HydaLearn": OWN, "static grid": [0.33] * 6, "DWA": [0.2, 0.3, np.nan, 0.3, 0.3, 0.3]})


def test_losses_are_compared_by_their_logs_over_splits_and_initialisations() -> None:
    table = paired_differences(RUNS, "method", "HydaLearn", ["static grid"], test_to_train=1 / 3)
    by_hand = estimate(np.log(np.array(OWN) / 0.33).reshape(3, INITS), test_to_train=1 / 3)
    row = table.iloc[0]
    assert {name: row[name] for name in vars(by_hand)} == pytest.approx(vars(by_hand))
    assert row["failed"] == 0


def test_other_measures_are_compared_as_they_are() -> None:
    runs = made_runs({"a": OWN, "b": [0.5] * 6}, "test AUC")
    found = paired(runs, "test AUC", "method", "a", "b")
    assert found.to_numpy().ravel().tolist() == pytest.approx([value - 0.5 for value in OWN])


def test_a_split_with_a_failed_run_is_left_out_and_counted() -> None:
    table = paired_differences(RUNS, "method", "HydaLearn", ["DWA"], test_to_train=0.0)
    assert (table.loc[0, "count"], table.loc[0, "failed"]) == (2, 1)
    assert in_words(table.iloc[0].to_dict()).endswith("%, 1 splits left out")
    means = levels(RUNS)
    assert means["failed"].to_dict() == {"HydaLearn": 0, "static grid": 0, "DWA": 1}
    assert means.loc["DWA", LOSS] == pytest.approx(0.28)


def test_a_method_on_fewer_initialisations_is_paired_where_both_ran() -> None:
    few = RUNS[(RUNS["method"] != "static grid") | (RUNS["initialisation"] == 0)]
    found = paired(few, LOSS, "method", "HydaLearn", "static grid")
    assert found.to_numpy().ravel().tolist() == pytest.approx(np.log(np.array(OWN[::2]) / 0.33).tolist())


def made_comparison(rival: float = 0.1) -> Comparison:
    """Two methods of which HydaLearn has a rival that half the bootstrap samples choose."""
    draws = np.array([0, 1] * 500)
    own = Choice({"rate": 0.01, "scale": 1.0}, (), ({"rate": 0.003, "scale": 1.0},), draws, 10)
    other = Choice({"rate": 0.01, "scale": 1.0}, (), (), np.zeros(1000, dtype=np.int64), 10)
    beside = made_runs({"HydaLearn": [value + rival for value in OWN]}).assign(rival=1)
    return Comparison(RUNS, RUNS, {"HydaLearn": own, "static grid": other}, beside)


def test_benefit_holds_the_tuning_and_shows_the_rival() -> None:
    found = made_comparison()
    row = benefit(found, "HydaLearn", ["static grid"], LOSS, 1 / 3).iloc[0]
    assert row["tuning"] > 0.5
    assert row["rival"] == pytest.approx(np.log((np.array(OWN) + 0.1) / 0.33).mean())
    alone = benefit(found, "static grid", ["HydaLearn"], LOSS, 1 / 3).iloc[0]
    assert np.isnan(alone["rival"])  # that of HydaLearn is not static grid's
    assert settings(found).loc["HydaLearn", "chosen again"] == "50 %"


def test_benefit_leaves_out_and_counts_what_failed_at_a_chosen_setting_or_a_rival() -> None:
    """By hand: without the rival's part, the two splits that are left give the interval of `paired_differences`."""
    found = made_comparison(rival=0.0)
    beside = found.rivals.assign(value=found.rivals["value"].where(found.rivals["seed"] != 1))
    failed = benefit(replace(found, rivals=beside), "HydaLearn", ["static grid"], LOSS, 1 / 3).iloc[0]
    left = paired_differences(RUNS[RUNS["seed"] != 1], "method", "HydaLearn", ["static grid"], test_to_train=1 / 3)
    assert (failed["count"], failed["failed"]) == (2, 1)
    assert [failed[end] for end in ("mean", "low", "high")] == pytest.approx(left.iloc[0][["mean", "low", "high"]])
    lost = RUNS.assign(value=RUNS["value"].where((RUNS["method"] != "static grid") | (RUNS["seed"] != 0)))
    both = benefit(replace(found, fresh=lost, rivals=found.rivals), "HydaLearn", ["static grid"], LOSS, 1 / 3).iloc[0]
    assert (both["count"], both["failed"]) == (2, 1)


def test_benefit_pairs_a_method_on_fewer_initialisations_where_both_ran() -> None:
    found = made_comparison()
    few = RUNS[(RUNS["method"] != "static grid") | (RUNS["initialisation"] == 0)]
    row = benefit(replace(found, fresh=few), "HydaLearn", ["static grid"], LOSS, 0.0).iloc[0]
    assert row["mean"] == pytest.approx(np.log(np.array(OWN[::2]) / 0.33).mean())


def test_other_methods_stand_beside_ours_and_beside_the_single_task_with_what_they_were_set_to() -> None:
    runs = made_runs({"HydaLearn": [0.30] * 6, "OL-AUX": [0.33] * 6, "single task": [0.30] * 6})
    setting = {"scale": 1.0, "rate": 0.01}
    own = {"HydaLearn": setting, "OL-AUX": {**setting, "weight_lr": 0.1}, "single task": setting}
    chosen = {name: Choice(values, (), (), np.zeros(1000, dtype=np.int64), 10) for name, values in own.items()}
    found = Comparison(runs, runs, chosen, pd.DataFrame())
    row = other_methods(found, benefit(found, "HydaLearn", ["OL-AUX"], LOSS, 1 / 3), 1 / 3).loc["OL-AUX"]
    assert (row["rate"], row["weight_lr"], row["chosen again"]) == (0.01, 0.1, "100 %")
    minus = "\N{MINUS SIGN}"
    assert row[f"HydaLearn {minus} it, %"] == f"{minus}9.09 [{minus}9.09, {minus}9.09]"
    assert row[f"it {minus} single task, %"] == "10.00 [10.00, 10.00]"


def test_words_give_losses_in_per_cent() -> None:
    row: dict[Hashable, Any] = {
        "first": "A",
        "reference": "B",
        "metric": LOSS,
        "mean": np.log(1.01),
        "low": -np.log(1.02),
        "high": 0.0,
    }
    assert in_words({**row, "failed": 0}) == "A \N{MINUS SIGN} B: 1.00 [\N{MINUS SIGN}1.96, 0.00] %"


def test_the_opening_and_the_verdicts_say_what_was_found() -> None:
    claims = load_claims("03")
    none, much = Interval(0.0, -0.002, 0.002, 10), Interval(0.5, 0.45, 0.55, 10)
    evidence = {
        f"{row}-credit": {"cards": found, "mortgages": found}
        for row, found in (
            ("H3-loss", none), ("H1-composition", much), ("H1-match", much), ("H1-swap", none), ("H2-drift", none),
        )
    }  # fmt: skip
    first, second, swapped, third = told(findings("credit"), claims, evidence)
    assert first.startswith("**HydaLearn does not beat the single task")
    assert "(cards) 0.0 % [\N{MINUS SIGN}0.2, 0.2], asked \N{MINUS SIGN}1.0" in first
    assert second.startswith("**The best weights of a mini-batch follow its composition.**")
    assert "50 % [45, 55], asked 10" in second
    assert "does not lower" in swapped
    assert "does not lose" in third
    table = verdict_table(claims, evidence_table(claims, evidence)).set_index("row")
    assert table.loc["H3-loss-credit", "asks"] == "lower by 1 %"
    assert table.loc["H3-loss-credit", "verdict"] == "does not hold"
    assert str(table.loc["H3-loss-credit", "power"]) == "1.00"
    assert list(table["kind"]) == ["primary"] * 4 + ["secondary"]


def test_comparisons_are_named_after_their_data() -> None:
    table = paired_differences(RUNS, "method", "HydaLearn", ["static grid"], test_to_train=1 / 3)
    assert found_in({"cards": table}) == {"cards: static grid": intervals_of(table)[0]}
