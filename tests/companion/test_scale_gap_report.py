"""The scale-gap study's tables and figures on made-up runs with known answers."""

import math
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.claims.register import load_claims
from companion.claims.statistics import Interval
from companion.plots.style import colour
from companion.studies.adatask_synthetic.figures import ADAM_BOUND, draw_causes, draw_quantiles, draw_step_size
from companion.train import spread_comparison as report
from companion.train.layer_shares import NUM_BINS, QUANTILES

Losses = dict[tuple[str, float, float], list[list[float]]]  # method, spread, rate -> [seed][task]


def losses_table(losses: Losses, metric: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "problem": "two tasks", "optimizer": "Adam", "method": method, "spread": spread, "rate": rate, "seed": seed,
            "task": task + 1, "layer": 0, "metric": metric, "value": value,
        }
        for (method, spread, rate), seeds in losses.items()
        for seed, tasks in enumerate(seeds)
        for task, value in enumerate(tasks)
    )  # fmt: skip


def test_the_rate_is_chosen_by_the_mean_log_loss_and_a_failed_run_rules_out() -> None:
    tuning = losses_table(
        {
            ("joint", 1.0, 0.1): [[1.0, 1.0], [1.0, 1.0]],
            ("joint", 1.0, 0.2): [[0.1, 2.0], [1.0, 1.0]],  # the better mean of logs, not the better mean
            ("joint", 1.0, 0.4): [[0.01, 0.01], [math.inf, 0.01]],
            ("joint", 3.0, 0.1): [[0.5, 0.5], [0.5, 0.5]],
            ("joint", 3.0, 0.2): [[0.6, 0.6], [0.6, 0.6]],
            ("joint", 10.0, 0.1): [[0.1, 0.1], [0.1, 0.1]],
            ("AdaTask", 1.0, 0.1): [[0.1, 0.1], [0.1, math.nan]],
            ("AdaTask", 1.0, 0.2): [[0.2, 0.2], [0.2, 0.2]],
        },
        "validation loss",
    )
    best = report.best_rates(tuning).set_index(["method", "spread"])
    assert best["rate"].to_dict() == {
        ("AdaTask", 1.0): 0.2,
        ("joint", 1.0): 0.2,
        ("joint", 3.0): 0.1,
        ("joint", 10.0): 0.1,
    }
    assert best["edge"].to_dict() == {
        ("AdaTask", 1.0): True,
        ("joint", 1.0): False,
        ("joint", 3.0): True,
        ("joint", 10.0): True,
    }
    assert best.loc[("joint", 1.0), "loss"] == pytest.approx(math.log(0.2) / 4)
    assert report.best_static(best.reset_index(), "two tasks", "Adam", [1.0, 3.0]) == ("joint", 3.0)


def test_effects_are_logs_over_the_single_task_of_the_same_seed() -> None:
    final = losses_table(
        {
            ("single task", 1.0, 0.3): [[1.0, 2.0], [4.0, 1.0]],
            ("joint", 10.0, 0.1): [[2.0, 2.0], [4.0, 2.0]],
            ("AdaTask", 10.0, 0.2): [[1.0, 1.0], [2.0, 2.0]],
        },
        "test loss",
    )
    effects = report.effects(final) / math.log(2)
    joint, ada = (report.at(effects, "two tasks", "Adam", (method, 10.0)) for method in ("joint", "AdaTask"))
    assert joint[[1, 2, report.MEAN]].to_numpy() == pytest.approx(np.array([[1, 0, 0.5], [0, 1, 0.5]]))
    assert ada[[1, 2, report.MEAN]].to_numpy() == pytest.approx(np.array([[0, -1, -0.5], [-1, 1, 0]]))
    contrast = report.Contrast("two tasks", "Adam", ("AdaTask", 10.0), ("joint", 10.0), 1)
    row = report.compare(effects, {"name": [contrast]}).iloc[0]
    assert row[["mean", "low", "high", "count"]].tolist() == pytest.approx([-1, -1, -1, 2])  # both seeds differ by -1
    assert row[["first", "second"]].tolist() == ["AdaTask", "joint 1:10"]


def test_the_prediction_weighs_seeds_by_their_parameters_in_the_bin() -> None:
    base = {"problem": "p", "optimizer": "Adam", "method": "AdaTask", "spread": 1.0, "task": 0, "layer": 2}
    names = ("predicted rAU, bin {}", "rAU where predicted in bin {}")
    values = {name.format(b): [0.1, 0.1, 0.1] for name in names for b in range(NUM_BINS)}
    values |= {"predicted rAU, bin 3": [0.1, 0.3, 0.0], "rAU where predicted in bin 3": [0.2, 0.6, math.nan]}
    shares = report.layer_measures(
        pd.DataFrame(
            {**base, "seed": s, "metric": m, "value": v} for m, row in values.items() for s, v in enumerate(row)
        )
    )
    found = report.prediction(report.at(shares, "p", "Adam", ("AdaTask", 1.0))).iloc[3]
    assert found.to_dict() == pytest.approx(
        {"layer": 2, "predicted": 3.5 / NUM_BINS, "share": 0.4 / 3, "measured": 0.5}
    )


def test_sentences_follow_the_register_and_say_what_is_missing() -> None:
    claim = load_claims()["A1-dominated"]
    above, below = Interval(0.4, 0.3, 0.5, 20), Interval(0.1, 0.0, 0.2, 20)
    assert report.sentence(claim, [above] * 3).startswith(
        "A1-dominated: holds. Means 0.40 to 0.40, intervals within [0.30"
    )
    assert report.sentence(claim, [above, below, above]).startswith("A1-dominated: holds in part. Means 0.10 to 0.40")
    assert report.sentence(claim, [below]).startswith("A1-dominated: does not hold (1 of 3 comparisons here)")


OPTIMIZERS = ["Adagrad", "RMSprop", "Adam"]


def interval_rows(**columns: list[Any]) -> pd.DataFrame:
    """Every combination of the columns, with a mean of its own and limits 0.05 beside it."""
    rows = [dict(zip(columns, values, strict=True)) for values in product(*columns.values())]
    means = np.linspace(0.1, 0.9, len(rows))
    return pd.DataFrame(rows).assign(mean=means, low=means - 0.05, high=means + 0.05)


def test_every_optimizer_is_drawn_under_its_own_name() -> None:
    """The order of rows must not matter: names once stood beside another optimizer's interval."""
    equal = interval_rows(optimizer=sorted(OPTIMIZERS), rate=[0.1, 0.2]).assign(position=0.0)
    tuned = interval_rows(optimizer=OPTIMIZERS)
    fig = draw_step_size(equal, tuned)
    right = fig.axes[1]
    names = [text.get_text() for text in right.get_xticklabels()]
    for line in right.lines[0:9:3]:  # a mean, then the two caps of its whisker
        place = int(np.ravel(line.get_xdata())[0])
        row = tuned.set_index("optimizer").loc[names[place]]
        assert np.ravel(line.get_ydata())[0] == row["mean"]
        assert line.get_color() == colour(names[place])
    plt.close(fig)


def test_causes_are_full_by_updates_and_open_by_gradients() -> None:
    labels = ["joint 1:10", "AdaTask"]
    fig = draw_causes(interval_rows(optimizer=OPTIMIZERS, label=labels, what=["updates", "gradients"]), labels)
    full = [line for line in fig.axes[0].lines if line.get_marker() == "o" and np.size(line.get_xdata())]
    assert [line.get_markerfacecolor() == "white" for line in full] == [False, True, False, True]
    plt.close(fig)


def test_only_adams_quantiles_have_bounds() -> None:
    quantiles = interval_rows(optimizer=OPTIMIZERS, label=["AdaTask"], layer=[1, 2], quantile=list(QUANTILES))
    fig = draw_quantiles(quantiles.assign(value=quantiles["mean"]))
    bounds = [line.get_ydata()[0] for line in fig.axes[2].lines if line.get_linestyle() == ":"]  # type: ignore[index]
    assert bounds == pytest.approx(ADAM_BOUND)
    assert not [line for line in fig.axes[0].lines if line.get_linestyle() == ":"]
    plt.close(fig)
