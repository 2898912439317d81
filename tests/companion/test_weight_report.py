"""Numbers of the weight study by hand, and its figures drawn from them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.studies.hydalearn_synthetic.figures import draw_best_weights, draw_sweep
from companion.studies.hydalearn_synthetic.report import (
    after_burn_in,
    best_off_epoch,
    by_step,
    drop_at_end,
    gain_over_constant,
    in_percent,
    off_curve,
    over_seeds,
    sweep_curves,
)


def probed() -> pd.DataFrame:
    """Two seeds, steps 50 (burn-in), 100 and 200; seed and step are in every value."""
    gains = {"best": 0.5, "best constant": 0.4, "main task": 0.3, "HydaLearn x 1": 0.35, "HydaLearn x 3": 0.33}
    rows = [
        (dose, seed, step, weights, metric, value + 0.01 * seed + step / 1e4)
        for dose in ("one cluster, large", "one cluster", "ordinary")
        for seed in (0, 1)
        for step in (50, 100, 200)
        for weights, gain in gains.items()
        for metric, value in {"gain": gain, "R squared": 0.2, "match": 0.1}.items()
    ]
    return pd.DataFrame(rows, columns=["batches", "seed", "step", "weights", "metric", "value"])


def test_the_burn_in_does_not_count() -> None:
    ordinary = probed().query("batches == 'ordinary'")
    assert after_burn_in(ordinary, "best", "gain").tolist() == pytest.approx([0.515, 0.525], abs=1e-12)
    assert gain_over_constant(ordinary).tolist() == pytest.approx([0.515 / 0.415 - 1, 0.525 / 0.425 - 1], abs=1e-12)


def test_extra_gains_are_paired_with_the_main_task_alone() -> None:
    steps = by_step(probed(), 0.95).query("batches == 'ordinary' and step == 100")
    found = {(row["weights"], row["metric"]): row for row in steps.to_dict("records")}
    extra = found["best", "extra gain"]
    assert [extra["mean"], extra["low"], extra["high"]] == pytest.approx([0.2] * 3, abs=1e-9)
    assert found["best", "gain"]["mean"] == pytest.approx(0.515, abs=1e-12)
    assert found["main task", "extra gain"]["mean"] == pytest.approx(0, abs=1e-12)


def test_the_drop_is_that_of_the_last_epoch() -> None:
    shares = pd.DataFrame(
        [
            {"seed": 0, "setting": setting, "epoch": epoch, "value": value}
            for setting, values in {"jump": [0.9, 0.1, 0.2], "control": [0.5, 0.4, 0.6]}.items()
            for epoch, value in enumerate(values)
        ]
    )
    assert drop_at_end(shares)[0] == pytest.approx(0.4, abs=1e-12)


def off_runs() -> pd.DataFrame:
    rows = [
        {"off_epoch": off, "seed": seed, "metric": metric, "value": value**power * (1 + seed)}
        for off, value in {0: 0.5, 1: 2.0, 2: 1.0, 3: 0.9}.items()
        for seed in (0, 1, 2)
        for metric, power in {"test loss": 1, "last test loss": 2, "last validation loss": 2}.items()
    ]
    return pd.DataFrame(rows)


def test_neither_never_nor_always_is_an_epoch_to_switch_off() -> None:
    assert best_off_epoch(off_runs(), always=3) == 2
    curve = off_curve(off_runs(), always=3, confidence=0.95).pivot(index="off_epoch", columns="kept", values="mean")
    assert list(curve.index) == [0, 1, 2]
    assert curve["best epoch"][1] == pytest.approx(np.log(2.0 / 0.9), abs=1e-12)
    assert curve["last epoch"][1] == pytest.approx(2 * np.log(2.0 / 0.9), abs=1e-12)


def test_an_interval_over_seeds_is_the_t_interval_of_one_sample() -> None:
    found = over_seeds(pd.Series([1.0, 2.0, 3.0]), 0.95)
    half = 4.302652730 / 3**0.5
    assert [found.mean, found.low, found.high] == pytest.approx([2, 2 - half, 2 + half], abs=1e-8)


def swept() -> pd.DataFrame:
    """A static grid whose loss is 1.1, 1.2, ... of HydaLearn's on the same seed; one setting has a failed run."""
    runs = [
        {
            "seed": seed,
            "metric": "test loss",
            "rate": rate,
            "scale": scale,
            "value": (1 + seed) * (1 + 10 * rate + scale),
        }
        for seed in (0, 1, 2)
        for rate in (0.01, 0.02)
        for scale in (0.0, 0.1)
    ]
    table = pd.DataFrame(runs)
    table.loc[(table["rate"] == 0.02) & (table["scale"] == 0.1) & (table["seed"] == 1), "value"] = np.nan
    fresh = [
        {"seed": seed, "metric": "test loss", "method": method, "value": (1.0 + seed) * factor}
        for seed in (0, 1, 2, 3)
        for method, factor in {"HydaLearn": 1.0, "static grid": 7.0}.items()
    ]
    return sweep_curves(table, pd.DataFrame(fresh), 0.95)


def test_a_sweep_is_paired_with_hydalearn_and_leaves_failed_settings_out() -> None:
    curves = swept()
    assert list(zip(curves["rate"], curves["scale"], strict=True)) == [(0.01, 0.0), (0.01, 0.1), (0.02, 0.0)]
    assert np.exp(curves["mean"]).tolist() == pytest.approx([1.1, 1.2, 1.2], abs=1e-12)


def test_figures_show_what_they_are_given() -> None:
    steps = by_step(probed(), 0.95)
    figure = draw_best_weights(steps, "HydaLearn x 3")
    (extra,) = (line for line in figure.axes[2].lines if np.allclose(line.get_ydata(), 0.2))
    assert np.ravel(extra.get_xdata()).tolist() == [50, 100, 200]
    sweep = draw_sweep(swept().assign(panel="composition, Adam").query("scale == 0.1"), 0.05)
    (best,) = (line for line in sweep.axes[0].lines if line.get_marker() == "o")
    assert np.ravel(best.get_ydata()).tolist() == pytest.approx([20.0], abs=1e-9)
    plt.close("all")


def test_differences_in_words() -> None:
    row = {"reference": "single task", "mean": np.log(0.9), "low": np.log(0.8), "high": 0.0, "count": 6, "failed": 0}
    assert in_percent(pd.DataFrame([row])) == "  single task            -10.0 % [-20.0,  +0.0] at 6 seeds"
    assert in_percent(pd.DataFrame([{**row, "failed": 2}])).endswith("at 6 seeds, 2 left out")
