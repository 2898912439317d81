"""Numbers of the weight study by hand, and its figures drawn from them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.claims.register import load_claims
from companion.claims.statistics import Interval
from companion.problems.composed_batches import DOSES
from companion.studies.hydalearn_synthetic.figures import composition_bins, draw_composition, draw_jump
from companion.studies.hydalearn_synthetic.report import (
    best_off_epoch,
    drop_after,
    in_percent,
    off_curve,
    over_seeds,
    share_measures,
    variance_lost,
    verdict_row,
)


def batches(dose: str = "i.i.d.", seed: int = 0, slope: float = 2.0) -> pd.DataFrame:
    minor = np.array([0.0, 0.1, 0.2, 0.3])
    share = slope * minor + np.array([0.1, 0.0, 0.0, 0.1])
    table = pd.DataFrame({"minor share": minor, "share": share, "held-out share": 0.5 - minor})
    return table.assign(probe_dose=dose, seed=seed, step=5, batch=range(4))


def test_share_measures_by_hand() -> None:
    row = share_measures(batches()).iloc[0]
    share = np.array([0.1, 0.2, 0.4, 0.7])
    assert row["mean"] == pytest.approx(0.35, abs=1e-12)
    assert row["sd"] == pytest.approx(share.std(ddof=1), abs=1e-12)
    assert row["zero"] == 0
    covariance = ((share - 0.35) * np.array([-0.15, -0.05, 0.05, 0.15])).mean()
    assert row["R squared"] == pytest.approx(covariance**2 / (share.var() * 0.0125), abs=1e-12)
    assert row["held-out R squared"] == pytest.approx(1, abs=1e-12)
    assert row["match"] == pytest.approx(-(row["R squared"] ** 0.5), abs=1e-12)
    assert row["lag-1"] == pytest.approx(np.corrcoef([0.2, 0.4, 0.7], [0.1, 0.2, 0.4])[0, 1], abs=1e-12)


def test_the_order_of_rows_does_not_matter_but_that_of_batches_does() -> None:
    forward = share_measures(batches())
    pd.testing.assert_frame_equal(forward, share_measures(batches().iloc[::-1]))
    other = share_measures(batches().assign(batch=[0, 2, 1, 3]))
    assert abs(other["lag-1"][0] - forward["lag-1"][0]) > 0.1


def test_variance_lost_is_one_minus_the_ratio_of_variances() -> None:
    measures = pd.DataFrame(
        {"probe_dose": ["fixed", "i.i.d."] * 2, "seed": 0, "step": [1, 1, 2, 2], "sd": [1.0, 2.0, 3.0, 3.0]}
    )
    assert variance_lost(measures, "fixed", "i.i.d.")[0] == pytest.approx(1 - 5 / 6.5, abs=1e-12)


def test_the_drop_counts_from_the_jump_on() -> None:
    shares = pd.DataFrame(
        [
            {"seed": 0, "setting": setting, "epoch": epoch, "value": value}
            for setting, values in {"jump": [0.9, 0.1, 0.2], "control": [0.5, 0.4, 0.6]}.items()
            for epoch, value in enumerate(values)
        ]
    )
    assert drop_after(shares, 1)[0] == pytest.approx(0.35, abs=1e-12)


def off_runs() -> pd.DataFrame:
    rows = [
        {"off_epoch": off, "seed": seed, "metric": metric, "value": value**power * (1 + seed)}
        for off, value in {0: 0.5, 1: 2.0, 2: 1.0, 3: 0.9}.items()
        for seed in (0, 1, 2)
        for metric, power in {"validation loss": 1, "test loss": 1, "last validation loss": 2}.items()
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


def test_bins_hold_every_batch_once() -> None:
    bins = composition_bins(pd.concat(batches(seed=seed) for seed in range(3)), num_bins=4)
    assert bins["count"].tolist() == [9, 3]  # 0, 0.1 and 0.2 below a quarter, 0.3 above
    assert bins["median"].tolist() == pytest.approx([0.2, 0.7], abs=1e-12)


def test_figures_show_what_they_are_given() -> None:
    bins = composition_bins(pd.concat(batches(dose) for dose in DOSES))
    explained = {(dose, 5): 0.25 if dose != "fixed" else float("nan") for dose in DOSES}
    figure = draw_composition(bins, explained)
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts.count("R² 0.25") == 3
    assert texts.count("constant") == 1
    rows = bins[bins["probe_dose"] == DOSES[0]]
    assert np.ravel(figure.axes[0].lines[0].get_ydata()).tolist() == rows["median"].tolist()
    curve = pd.DataFrame(
        {"setting": ["control"] * 2 + ["jump"] * 2, "epoch": [0, 1] * 2, "mean": 0.3, "low": 0.2, "high": 0.4}
    )
    assert len(draw_jump(curve, 1).axes[0].lines) == 3
    plt.close("all")


def test_differences_in_words() -> None:
    row = {"reference": "single task", "mean": np.log(0.9), "low": np.log(0.8), "high": 0.0, "count": 6, "failed": 0}
    assert in_percent(pd.DataFrame([row])) == "  single task            -10.0 % [-20.0,  +0.0] at 6 seeds"
    assert in_percent(pd.DataFrame([{**row, "failed": 2}])).endswith("at 6 seeds, 2 left out")


def test_a_verdict_says_how_many_of_the_registered_comparisons_it_rests_on() -> None:
    claim = load_claims()["H1-swap"]
    row = verdict_row(claim, [Interval(-0.2, -0.3, -0.1, 20)])
    assert row["comparisons"] == f"1 of {claim.comparisons}"
    assert row["verdict"] == "holds"
    assert row["found, 95 % interval"] == "-0.200 [-0.300, -0.100]"
    both = verdict_row(claim, [Interval(-0.2, -0.3, -0.1, 20), Interval(0.0, -0.01, 0.01, 19)])
    assert (both["verdict"], both["seeds"]) == ("holds in part", 19)
