"""A study on small made-up splits: pairing, choice of settings and the report's arithmetic."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Annotation

from mtlcore.data import Fold
from mtlcore.experiments.tabular.figures import draw_differences, draw_weights
from mtlcore.experiments.tabular.report import compare, sentence, weight_curve
from mtlcore.experiments.tabular.study import Setting, Training, choose, cost_per_step, train_settings

TRAINING = Training(hidden=[8], epochs=4, batch_size=32, device=torch.device("cpu"))


def made_fold(rows: int, seed: int) -> Fold:
    """Two splits whose main task is the sign of the first input and whose auxiliary task is nearly the same."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, rows, 5))
    main, auxiliary = x[..., 0] > 0, x[..., 0] + 0.1 * x[..., 1] > 0
    return Fold(x, np.stack([main, auxiliary], axis=1).astype(float))


def test_a_learnable_task_is_learned_and_settings_are_paired() -> None:
    folds = made_fold(400, 0), made_fold(100, 1), made_fold(100, 2)
    static = [
        Setting("single task", 0.03, 0.0),
        Setting("equal weights", 0.03, 1.0),
        Setting("single again", 0.03, 0.0),
    ]
    trained = train_settings(static, [5, 6], folds[0], folds[1], TRAINING, folds[2])
    table = trained.table.set_index(["method", "seed"])
    assert table["AUC"].min() > 0.95
    assert not table["failed"].any()
    assert trained.auxiliary_weights.shape == (4 * 12, 6)
    # The same initial weights and batches: equal settings give equal numbers, other settings others.
    single, equal, again = (table.xs(s.method)["log loss"].to_list() for s in static)
    assert single == again
    assert not set(single) & set(equal)


def test_hydalearn_sets_its_own_weights() -> None:
    trained = train_settings([Setting("HydaLearn", 0.03)], [5, 6], made_fold(400, 0), made_fold(100, 1), TRAINING)
    assert "AUC" not in trained.table  # no test fold was given
    assert 0 <= trained.auxiliary_weights.min() < trained.auxiliary_weights.max() < 1
    assert trained.auxiliary_weights.std() > 0.05


def test_static_and_hydalearn_do_not_mix() -> None:
    with pytest.raises(ValueError, match=r"Found 2 runs of 4 with static"):
        train_settings(
            [Setting("a", 0.1, 1.0), Setting("b", 0.1)], [0, 1], made_fold(50, 0), made_fold(50, 1), TRAINING
        )


def tuning_table(losses: dict[tuple[float | None, float], list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"auxiliary weight": weight, "rate": rate, "validation loss": loss}
            for (weight, rate), both in losses.items()
            for loss in both
        ]
    )


def test_choice_is_by_mean_validation_loss_and_warns_at_edges() -> None:
    tuned = tuning_table(
        {
            (0.0, 0.01): [3, 3], (0.0, 0.1): [2, 2.2], (0.0, 1.0): [1, 9],
            (1.0, 0.01): [1, 1], (1.0, 0.1): [2, 2], (1.0, 1.0): [0, np.nan],
            (None, 0.01): [5, 5], (None, 0.1): [4, 4], (None, 1.0): [6, 6],
        }
    )  # fmt: skip
    assert choose(tuned, "single task", [0.0]) == (Setting("single task", 0.1, 0.0), [])
    assert choose(tuned, "HydaLearn", None) == (Setting("HydaLearn", 0.1, None), [])
    chosen, edges = choose(tuned, "equal weights", [1.0])  # a failed run rules out rate 1
    assert chosen == Setting("equal weights", 0.01, 1.0)
    assert edges == ["equal weights: the best rate, 0.01, lies at an edge of its grid: widen it."]
    assert choose(tuned, "grid", [0.0, 1.0])[1][0].startswith("grid: the best auxiliary weight, 1, lies at an edge")


def test_comparison_is_paired_and_knows_which_way_is_better() -> None:
    noise, gap = np.array([5.0, 7.0, 1.0, 3.0]), np.array([0.9, 1.1, 1.0, 1.0])
    table = pd.DataFrame(
        {
            "seed": [0, 1, 2, 3, 3, 2, 1, 0],
            "method": ["a"] * 4 + ["b"] * 4,
            "log loss": [*noise, *(noise[::-1] + gap)],
            "AUC": [*noise, *(noise[::-1] + gap)],
        }
    )
    found = compare(table, [("a", "b")], test_to_train=1 / 3)
    assert found["mean"].tolist() == pytest.approx([-1, -1])
    assert found["verdict"].tolist() == ["better", "worse"]
    width = (found["high"] - found["low"]) / (found["plain high"] - found["plain low"])
    assert width.tolist() == pytest.approx([(1 + 4 / 3) ** 0.5] * 2)
    assert sentence(found.iloc[0]).replace("\N{MINUS SIGN}", "-").startswith("a - b, log loss: -1.0000 [")


def test_weight_curve_by_hand() -> None:
    weights = np.array([[0.0, 0.2], [0.4, 0.2], [0.5, 0.5], [0.5, 0.5]])  # two epochs of two steps, two splits
    curve = weight_curve(weights, 2)
    assert curve["mean"].tolist() == pytest.approx([0.2, 0.5])
    assert curve["share zero"].tolist() == [0.25, 0.0]
    assert curve["low"].tolist() == pytest.approx([0.2, 0.5])  # both splits have the same mean


def test_cost_counts_gradients_and_products() -> None:
    cost = cost_per_step([Setting("equal", 1, 1.0), Setting("HydaLearn", 1)], made_fold(50, 0), TRAINING)
    assert cost["gradients"].tolist() == [1, 2]
    forward = 2 * 32 * (5 * 8 + 2 * 8)  # two operations per weight and example
    backward = 2 * 32 * (5 * 8 + 2 * (2 * 8))  # gradients of all weights, and of the hidden layer from both heads
    assert cost["Mflop"][0] == pytest.approx((forward + backward) / 1e6)
    assert cost["Mflop"][1] > 2 * cost["Mflop"][0]


def test_forest_has_the_intervals_and_names_the_better_side() -> None:
    rows = {"measure": ["log loss", "AUC"], "method": ["HydaLearn"] * 2, "comparison": ["HydaLearn - single task"] * 2}
    numbers = {
        "mean": [-1.0, 0.1],
        "low": [-3.0, 0.0],
        "high": [1.0, 0.2],
        "plain low": [-2.0, 0.05],
        "plain high": [0.0, 0.15],
    }
    fig = draw_differences(pd.DataFrame({**rows, **numbers}), "title")
    loss, auc = fig.axes
    assert [np.ravel(line.get_xdata()).tolist() for line in loss.lines[:3]] == [[-2.0, 0.0], [-3.0, 1.0], [-1.0]]
    assert loss.get_xlabel().index("better") < loss.get_xlabel().index("worse")
    assert auc.get_xlabel().index("worse") < auc.get_xlabel().index("better")
    plt.close(fig)


def test_labels_of_near_levels_do_not_overlap_and_equal_levels_share_one() -> None:
    curve = weight_curve(np.array([[0.1, 0.2], [0.3, 0.2]]), 1)
    near = draw_weights(curve, {"equal weights": 1.0, "static grid": 0.25}, "title")
    heights = sorted(text.xy[1] for text in near.axes[0].texts if isinstance(text, Annotation))
    assert min(np.diff(heights)) > 0.06 * near.axes[0].get_ylim()[1]  # 0.20 for both the mean and w = 0.25
    same = draw_weights(curve, {"equal weights": 1.0, "static grid": 1.0}, "title")
    assert [text.get_text() for text in same.axes[0].texts] == [
        "HydaLearn, 0.20",
        "equal weights and\nstatic grid, 0.50",
    ]
    plt.close("all")
