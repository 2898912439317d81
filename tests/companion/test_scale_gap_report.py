"""The synthetic study of AdaTask: choices, intervals, tables and figures on made-up runs with known answers."""

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.claims.register import load_claims
from companion.claims.statistics import Interval
from companion.plots.style import colour
from companion.store.results import Results
from companion.studies.adatask_synthetic import figures, report
from companion.studies.adatask_synthetic.comparison import MAIN, MEAN, Candidate, Compared, Plan, Tuned, log_losses
from companion.studies.adatask_synthetic.study import NULLS
from companion.train.layer_shares import NUM_BINS
from companion.train.spread_comparison import at, layer_measures, sentence

Setting = tuple[str, float, float, float]  # method, decay, spread, rate
PROBLEM = "made up"


def losses_table(losses: Mapping[Setting, list[list[float]]], metric: str) -> pd.DataFrame:
    """Tidy rows of losses [seed][task]."""
    return pd.DataFrame(
        {
            "problem": PROBLEM, "optimizer": MAIN, "method": method, "decay": decay, "spread": spread, "rate": rate,
            "seed": seed, "task": task + 1, "layer": 0, "metric": metric, "value": value,
        }
        for (method, decay, spread, rate), seeds in losses.items()
        for seed, tasks in enumerate(seeds)
        for task, value in enumerate(tasks)
    )  # fmt: skip


@pytest.fixture
def plan() -> Plan:
    how = {"noise": [0.3, 0.3], "own_part": 0.5, "rows": 0, "spreads": [1.0, 3.0, 10.0], "decays": [0.0, 0.1]}
    problems = {PROBLEM: {**how, "rates": {MAIN: [-2, -1, 0]}}}
    return Plan(Results("06_adatask_synthetic", "fast"), {}, problems, [], [0, 1], [0, 1])


def compared(plan: Plan) -> Compared:
    """Runs in which joint training is best at the largest rate, with decay, and AdaTask in the middle, without."""
    tuning: dict[Setting, list[list[float]]] = {}
    for (method, spread), decay, rate in product(
        [("joint", 1.0), ("joint", 3.0), ("joint", 10.0), ("AdaTask", 1.0), ("single task", 1.0)],
        [0.0, 0.1],
        [0.25, 0.5, 1.0],
    ):
        loss = {"joint": 2.0 - rate - decay + spread, "AdaTask": 2 + abs(rate - 0.6) + decay, "single task": 4 + rate}
        tuning[method, decay, spread, rate] = [[loss[method]] * 2] * 2
    tuning["AdaTask", 0.0, 1.0, 1.0] = [[0.01, 0.01], [math.nan, 0.01]]  # a failed run rules it out
    fresh: dict[Setting, list[list[float]]] = {
        ("joint", 0.1, 1.0, 1.0): [[1.0, 2.0], [4.0, 1.0]],
        ("AdaTask", 0.0, 1.0, 0.5): [[2.0, 2.0], [2.0, 2.0]],
        ("AdaTask", 0.0, 1.0, 0.25): [[4.0, 4.0], [4.0, 4.0]],
        ("single task", 0.0, 1.0, 0.25): [[1.0, 1.0], [1.0, 1.0]],
    }
    tuned = Tuned(plan, log_losses(losses_table(tuning, "validation loss"), "validation loss"))
    return Compared(tuned, log_losses(losses_table(fresh, "test loss"), "test loss"))


def test_settings_are_chosen_by_the_mean_log_loss_of_what_a_method_may_take(plan: Plan) -> None:
    tuned = compared(plan).tuned
    methods = plan.candidates(PROBLEM, MAIN)
    assert tuned.choice(PROBLEM, MAIN, methods["equal weights"]).setting == {"decay": 0.1, "spread": 1.0, "rate": 1.0}
    assert tuned.choice(PROBLEM, MAIN, methods["tuned static"]).setting["spread"] == 1.0
    assert tuned.choice(PROBLEM, MAIN, methods["AdaTask"]).setting == {"decay": 0.0, "spread": 1.0, "rate": 0.5}
    assert tuned.plain(PROBLEM, MAIN, "joint", 3.0) == 1.0
    assert tuned.beside(PROBLEM, MAIN, methods["AdaTask"])["rate"] == 0.25  # at the other neighbour a run failed
    assert tuned.losses[MEAN].isna().sum() == 1


def test_differences_are_of_log_losses_by_hand(plan: Plan) -> None:
    found = compared(plan)
    first = found.difference(PROBLEM, MAIN, "AdaTask", "equal weights", 1)
    assert (first.mean, first.count, first.tuning) == pytest.approx((0.0, 2, 0.0))  # ln 2 and -ln 2
    mean = found.difference(PROBLEM, MAIN, "AdaTask", "equal weights")
    assert mean.mean == pytest.approx((math.log(2) / 2 + 0.0) / 2)
    beside = found.difference(PROBLEM, MAIN, "AdaTask", "equal weights", beside=True)
    assert beside.mean == pytest.approx(mean.mean + math.log(2))
    single = found.difference(PROBLEM, MAIN, "AdaTask", "single tasks")
    assert (single.low, single.mean, single.high) == pytest.approx([math.log(2)] * 3)


def test_a_plan_trains_what_it_compares(plan: Plan, tmp_path: Path) -> None:
    """The study's own training, small: every number that the notebook asks for is there."""
    base = {"hidden": [4, 4], "steps": 20, "batch_size": 8, "held_out": 20, "device": "cpu"}
    small = Plan(plan.results, base, plan.problems, ["DWA"], [0, 1], [2, 3])
    tuned = small.tune()
    found = tuned.train()
    shares = layer_measures(pd.concat([tuned.follow(PROBLEM, MAIN, [2, 3], [1.0, 3.0]),
                                       planted := tuned.follow_gap(PROBLEM, MAIN, 10.0, [2, 3])]))  # fmt: skip
    dominance = report.dominance_evidence(shares, [PROBLEM], [MAIN], [1.0, 3.0], 10.0)
    losses = report.loss_evidence(found, [PROBLEM], PROBLEM, PROBLEM)
    sweep = tuned.sweep(PROBLEM, [2, 3])
    gap = report.gap_evidence(tuned, sweep, log_losses(planted, "test loss"), PROBLEM, 10.0)
    assert {*dominance, *losses, "A4-dominated"} == set(load_claims("06"))
    assert [len(dominance[name]) for name in ("A1-equal", "A1-layers", "A3-noise")] == [1, 2, 2]
    assert gap[MAIN].count == 2
    table = report.sweep_table(found, {PROBLEM: sweep})
    assert table.groupby("method")["tuned"].sum().to_dict() == {"AdaTask": 1, "joint": 3}


def shares_table(values: Mapping[tuple[str, int], list[float]]) -> pd.DataFrame:
    """Shares [seed] of dominated parameters by method and layer, at 1:1."""
    names = {"problem": PROBLEM, "optimizer": MAIN, "spread": 1.0, "task": 0, "metric": "dominated, updates, mean"}
    rows = [
        {**names, "method": method, "layer": layer, "seed": seed, "value": value}
        for (method, layer), seeds in values.items()
        for seed, value in enumerate(seeds)
    ]
    return layer_measures(pd.DataFrame(rows))


def test_dominance_counts_above_the_mean_of_both_tasks_against_themselves() -> None:
    first, second = NULLS
    values = {("joint", 0): [0.5, 0.7], ("joint", 1): [0.4, 0.4], (first, 0): [0.1, 0.2], (second, 0): [0.3, 0.2]}
    shares = shares_table(values | {(first, 1): [0.0, 0.0], (second, 1): [0.2, 0.4]})
    found = report.excess(shares, PROBLEM, MAIN, 1.0)
    assert found[0].tolist() == pytest.approx([0.3, 0.5])
    assert found[1].tolist() == pytest.approx([0.3, 0.2])
    table = report.dominance_table(shares, [PROBLEM], [1.0]).set_index("label")
    assert table["layer"].tolist() == [1, 1]
    assert table.loc[report.NULL, "mean"] == pytest.approx(0.15)
    assert table["low"].min() >= 0


def test_the_prediction_weighs_seeds_by_their_parameters_in_the_bin() -> None:
    base = {"problem": "p", "optimizer": "Adam", "method": "AdaTask", "spread": 1.0, "task": 0, "layer": 2}
    names = ("predicted rAU, bin {}", "rAU where predicted in bin {}")
    values = {name.format(b): [0.1, 0.1, 0.1] for name in names for b in range(NUM_BINS)}
    values |= {"predicted rAU, bin 3": [0.1, 0.3, 0.0], "rAU where predicted in bin 3": [0.2, 0.6, math.nan]}
    shares = layer_measures(
        pd.DataFrame(
            {**base, "seed": s, "metric": m, "value": v} for m, row in values.items() for s, v in enumerate(row)
        )
    )
    found = report.prediction(at(shares, "p", "Adam", ("AdaTask", 1.0))).iloc[3]
    assert found.to_dict() == pytest.approx(
        {"layer": 2, "predicted": 3.5 / NUM_BINS, "share": 0.4 / 3, "measured": 0.5}
    )


def test_rates_and_spreads_are_chosen_by_the_mean_log_loss_and_a_failed_run_rules_out(plan: Plan) -> None:
    tuning = losses_table(
        {
            ("joint", 0.0, 1.0, 0.1): [[1.0, 1.0], [1.0, 1.0]],
            ("joint", 0.0, 1.0, 0.2): [[0.1, 2.0], [1.0, 1.0]],  # the better mean of logs, not the better mean
            ("joint", 0.0, 1.0, 0.4): [[0.01, 0.01], [math.inf, 0.01]],
            ("joint", 0.0, 3.0, 0.1): [[0.5, 0.5], [0.5, 0.5]],
        },
        "validation loss",
    )
    tuned = Tuned(plan, log_losses(tuning, "validation loss"))
    assert {spread: tuned.plain(PROBLEM, MAIN, "joint", spread) for spread in (1.0, 3.0)} == {1.0: 0.2, 3.0: 0.1}
    assert tuned.choice(PROBLEM, MAIN, Candidate("joint", [1.0], [0.0])).edges == ()
    chosen = tuned.losses.xs(("joint", 0.0, 1.0, 0.2), level=("method", "decay", "spread", "rate"))
    assert chosen[MEAN].mean() == pytest.approx(math.log(0.2) / 4)
    static = tuned.choice(PROBLEM, MAIN, Candidate("joint", [1.0, 3.0], [0.0]))
    assert static.setting == {"decay": 0.0, "spread": 3.0, "rate": 0.1}


def test_sentences_follow_the_register_and_say_what_is_missing() -> None:
    claim = load_claims()["A1-dominated"]
    above, below = Interval(0.4, 0.3, 0.5, 20), Interval(0.1, 0.0, 0.2, 20)
    assert "0.40 [0.30" in sentence(claim, [above])
    assert sentence(claim, [above] * 3).startswith("A1-dominated: holds. Means 0.40 to 0.40, intervals within [0.30")
    assert sentence(claim, [above, below, above]).startswith("A1-dominated: does not hold. Means 0.10 to 0.40")
    assert sentence(claim, [below]).startswith("A1-dominated: does not hold (1 of 3 comparisons here)")


OPTIMIZERS = ["Adagrad", "RMSprop", "Adam"]


def interval_rows(**columns: list[Any]) -> pd.DataFrame:
    """Every combination of the columns, with a mean of its own and limits 0.05 beside it."""
    rows = [dict(zip(columns, values, strict=True)) for values in product(*columns.values())]
    means = np.linspace(0.1, 0.9, len(rows))
    return pd.DataFrame(rows).assign(mean=means, low=means - 0.05, high=means + 0.05)


def test_every_reference_is_drawn_beside_its_name_and_the_rate_beside_is_open() -> None:
    table = interval_rows(reference=["single tasks", "equal weights"], problem=["one", "other"], beside=[False, True])
    fig = figures.draw_regimes(table, 0.05)
    names = [text.get_text() for text in fig.axes[0].get_yticklabels()]
    rows = table[table["problem"] == "other"].set_index(["reference", "beside"])["mean"]
    dots = [line for line in fig.axes[1].lines if line.get_marker() == "o"]
    assert len(dots) == 4
    for line in dots:
        x, y = (np.ravel(values).item() for values in line.get_data())
        row = rows[names[round(y)], line.get_markerfacecolor() == "white"]
        assert x == pytest.approx(100 * math.expm1(row))
    plt.close(fig)


def test_causes_are_full_by_updates_and_open_by_gradients() -> None:
    labels = ["joint 1:10", "AdaTask 1:10"]
    fig = figures.draw_causes(interval_rows(optimizer=OPTIMIZERS, label=labels, what=["updates", "gradients"]), labels)
    full = [line for line in fig.axes[0].lines if line.get_marker() == "o" and np.size(line.get_xdata())]
    assert [line.get_markerfacecolor() == "white" for line in full] == [False, True, False, True]
    assert full[2].get_color() == colour("AdaTask")
    plt.close(fig)


def test_what_is_above_the_null_level_is_filled() -> None:
    table = interval_rows(problem=["one", "other"], spread=[1.0, 3.0], label=["joint", report.NULL], layer=[1, 2])
    fig = figures.draw_excess(table)
    assert [ax.get_title() for ax in fig.axes] == ["one", "other", "", ""]
    filled: Any = fig.axes[2].collections[-1].get_paths()[0].vertices
    means = table.query("problem == 'one' and spread == 3")["mean"]
    assert set(np.round(filled[:, 1], 9)) == set(np.round(means, 9))
    plt.close(fig)


def test_the_sweep_marks_the_tuned_rates_and_the_bounds_are_adams() -> None:
    rows = interval_rows(problem=["one", "other"], method=["joint", "AdaTask"], spread=[1.0, 10.0], rate=[0.25, 0.5])
    fig = figures.draw_sweep(rows.assign(tuned=rows["rate"] == 0.5))
    means = rows.query("problem == 'other' and method == 'joint' and rate == 0.5")["mean"]
    marked = [line for line in fig.axes[1].lines if line.get_marker() == "o"]
    assert np.allclose(np.ravel(marked[0].get_ydata()), means)
    plt.close(fig)
    spans = interval_rows(label=["joint 1:1", "AdaTask"], layer=[1, 2])
    fig = figures.draw_balance(spans, pd.DataFrame({"predicted": [0.4], "measured": [0.5], "share": [0.1]}))
    bounds = [float(np.ravel(line.get_ydata())[0]) for line in fig.axes[0].lines if line.get_linestyle() == ":"]
    assert bounds == pytest.approx(figures.ADAM_BOUND)
    c = 0.1 / 1.9
    assert bounds == pytest.approx([c / (1 + c), 1 / (1 + c)])
    plt.close(fig)
