"""Cells of the recommendation study: what is paired, what a constant weight does, whose shares are followed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from companion.claims.register import load_claims
from companion.claims.statistics import paired_interval
from companion.networks.shared_bottom import binary_losses
from companion.problems.interactions import build, layer_names, load
from companion.store.results import Results
from companion.studies.recommendation import comparison, report
from companion.studies.recommendation.comparison import Plan, train_final, tune
from companion.studies.recommendation.shares import LayerShares
from companion.studies.recommendation.study import train_cell
from companion.train.spread_comparison import MEAN, Contrast
from companion.train.stacked import StackedModel

from mtlcore.task_gradients import combine, task_backward

SMALL: dict[str, Any] = {
    "dataset": "movielens", "users": 12, "split": "random", "rare": 5, "network": "shared bottom", "width": 3,
    "hidden": [6, 5], "optimizer": "Adam", "seeds": [0, 1], "epochs": 2, "batch_size": 64, "spreads": [1.0, 10.0],
    "rates": [0.02, 0.02], "at_once": 8, "device": "cpu", "record": False, "test": True,
}  # fmt: skip


def cell(method: str, **changes: Any) -> pd.DataFrame:
    return train_cell({**SMALL, "method": method, **changes})


def values(table: pd.DataFrame, metric: str, spread: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    rows = table[(table["metric"] == metric) & (table["spread"] == spread)]
    return rows.sort_values(["seed", "task"])["value"].to_numpy()


def test_following_dominance_changes_no_result() -> None:
    followed, plain = cell("joint", record=True), cell("joint")
    for metric in ("validation loss", "test loss", "AUC"):
        assert values(followed, metric, 10.0) == pytest.approx(values(plain, metric, 10.0), abs=1e-9)


def test_runs_are_the_same_in_any_company() -> None:
    together, apart = cell("AdaTask"), cell("AdaTask", at_once=1)
    assert values(together, "test loss", 1.0) == pytest.approx(values(apart, "test loss", 1.0), abs=1e-9)


def test_adatask_and_the_control_erase_a_constant_weight_and_joint_training_does_not() -> None:
    for method, erases in (("AdaTask", True), ("per-task RMS", True), ("joint", False)):
        table = cell(method)
        moved = np.abs(values(table, "validation loss", 10.0) - values(table, "validation loss", 1.0)).max()
        assert (moved < 1e-3) == erases, (method, moved)
        assert (moved > 0.01) == (not erases), (method, moved)


def test_single_tasks_are_trained_alone() -> None:
    one = {"spreads": [1.0], "rates": [0.02], "seeds": [0]}
    alone, joint = (values(cell(method, **one), "validation loss", 1.0) for method in ("single task", "joint"))
    assert len(alone) == len(joint) == 3
    assert np.abs(alone - joint).min() > 1e-3


def test_cell_names_what_it_measured_and_leaves_the_test_fold_alone_while_tuning() -> None:
    tuning = cell("joint", test=False)
    assert set(tuning["metric"]) == {"validation loss"}
    final = cell("joint")
    assert set(final["metric"]) == {
        "validation loss", "test loss", "AUC", "user AUC", "users with both classes",
    }  # fmt: skip
    assert final["seed"].unique().tolist() == [0, 1]
    assert (
        (final.loc[final["metric"] == "AUC", "value"] > 0.3) & (final.loc[final["metric"] == "AUC", "value"] < 1)
    ).all()


def test_every_network_and_optimizer_trains() -> None:
    for network, split, optimizer in (("MMoE", "time", "Adagrad"), ("shared bottom", "time", "RMSprop")):
        table = cell("AdaTask", network=network, split=split, optimizer=optimizer, record=True, epochs=3)
        assert np.isfinite(table.loc[table["task"] > 0, "value"]).all()
        layers = layer_names(network, ["user", "film", "genres", "decade"], [6, 5])
        assert sorted(table.loc[table["task"] == 0, "layer"].unique()) == list(range(len(layers) + 1))


def test_shares_agree_with_dominance_and_sum_to_one() -> None:
    sizes = {"user": 5, "film": 7}
    model = StackedModel([build("shared bottom", sizes, 2, [4], 2, seed) for seed in (0, 1)])
    layers = model.stack.shared_layers()  # type: ignore[operator]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    recorder = LayerShares(optimizer, list(layers.values()), steps=40)
    generator = torch.Generator().manual_seed(0)
    shared = [p for layer in layers.values() for p in layer]
    for _ in range(40):
        ids = torch.stack([torch.randint(0, n - 1, (2, 16), generator=generator) for n in sizes.values()], dim=-1)
        labels = torch.randint(0, 2, (2, 2, 16), generator=generator).double()
        optimizer.zero_grad()
        for p in shared:
            p.task_grad = None
        task_backward(binary_losses(model, (ids, labels)), shared)
        combine(shared)
        optimizer.step()
    found = recorder.measures()
    (film,) = layers["film"]
    relative = recorder.dominance.relative[film].nan_to_num()  # [T, R, 7, 2], the last film is never drawn
    assert found[2, "dead parameters"].tolist() == [2, 2]
    assert found[2, "parameters"].tolist() == [14, 14]
    live = relative[:, :, :6].mean((-2, -1))
    for task in (1, 2):
        assert torch.allclose(found[2, f"task {task}, updates, end"], live[task - 1])
    assert torch.allclose(found[0, "task 1, updates, mean"] + found[0, "task 2, updates, mean"], torch.ones(2).double())
    assert torch.equal(found[2, "dominated, updates, part 10"], found[2, "dominated, updates, end"])
    assert sum(metric.startswith("task 1, updates, part") for _, metric in found) == 10 * 4  # three layers and all


def test_a_training_too_short_to_be_followed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 20 for dominance over time. Found `steps = \d`"):
        cell("joint", record=True, batch_size=500)


def test_users_are_drawn_alike_and_unknown_data_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("movielens", 12)
    assert len(np.unique(data.users)) == 12
    assert set(np.unique(data.users)) < set(np.unique(load("movielens", 20).users))
    assert all(len(v) == len(data.times) for v in [*data.ids.values(), *data.targets.values()])
    with pytest.raises(ValueError, match=r"one of movielens, tiktok, wechat. Found `dataset = 'netflix'`"):
        load("netflix", 0)
    monkeypatch.delenv("MTLCORE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"`final_track2_train.txt` should lie in"):
        load("tiktok", 0)


def fake(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Losses that are least at a rate of 2; measured at the test fold too."""
    metrics = ["validation loss", *(["AUC"] if configuration["test"] else [])]
    joint = configuration["method"] == "joint"
    settings = zip(configuration["spreads"], configuration["rates"], strict=True)
    return pd.DataFrame(
        (spread, rate, seed, task, 0, metric, np.exp(abs(rate - 2) + 0.1 * spread * joint))
        for spread, rate in settings for seed in configuration["seeds"] for task in (1, 2) for metric in metrics
    ).set_axis(["spread", "rate", "seed", "task", "layer", "metric", "value"], axis=1)  # fmt: skip


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(comparison, "train_cell", fake)
    return Plan(
        base={"dataset": "none"},
        problems={
            "a": {"split": "random", "optimizers": ["Adagrad", "Adam"]},
            "b": {"split": "time", "optimizers": ["Adam"]},
        },
        gap=10.0, spreads=[1.0, 10.0, 100.0], static=[0.5, 1.0], weightings=["GradNorm"],
        rates={"Adagrad": [1.0, 2.0, 4.0], "Adam": [1.0, 2.0, 4.0]}, seeds=[0, 1, 2], tuning_seeds=[9],
    )  # fmt: skip


def test_plan_tunes_each_method_and_runs_it_fresh_at_its_own_rate(plan: Plan) -> None:
    results = Results("90_toy", "fast")
    tuned = tune(results, plan)
    assert set(tuned.runs["seed"]) == {9}
    assert (tuned.best["rate"] == 2.0).all()
    assert tuned.static == ("joint", 0.5)
    assert set(tuned.best.loc[tuned.best["method"] == "AdaTask", "spread"]) == {1.0}
    final = train_final(results, plan, tuned)
    assert set(final["seed"]) == {0, 1, 2}
    assert (final["rate"] == 2.0).all()
    ran = {key: set(rows["spread"]) for key, rows in final.groupby(["problem", "optimizer", "method"])}
    assert ran["a", "Adam", "joint"] == {0.5, 1.0, 10.0, 100.0}
    assert ran["a", "Adam", "AdaTask"] == ran["a", "Adam", "GradNorm"] == {1.0, 10.0, 100.0}
    assert ran["a", "Adagrad", "joint"] == ran["b", "Adam", "joint"] == {1.0, 10.0}
    assert ("a", "Adagrad", "per-task RMS") not in ran
    assert ("b", "Adam", "GradNorm") not in ran
    followed = {(r.method, r.spread) for r in final[final["record"]].itertuples()}
    assert followed == {("joint", 1.0), ("joint", 10.0), ("AdaTask", 10.0), ("per-task RMS", 10.0)}


def test_curves_are_relative_to_the_tuned_single_tasks(plan: Plan) -> None:
    tuned = tune(Results("90_toy", "fast"), plan)
    curves = report.rate_curves(tuned.runs, tuned.best, "a").set_index(["optimizer", "label", "rate"])
    assert curves.loc[("Adam", "single task", 2.0), "mean"] == pytest.approx(0.0)
    assert curves.loc[("Adam", "joint 1:10", 2.0), "mean"] == pytest.approx(1.0)
    assert curves.loc[("Adam", "joint 1:10", 4.0), "mean"] == pytest.approx(3.0)
    assert curves.loc[("Adam", "AdaTask", 1.0), "mean"] == pytest.approx(1.0)
    assert curves["chosen"].groupby(["optimizer", "label"]).sum().loc[("Adam", "AdaTask")] == 1


def test_differences_are_paired_and_corrected_for_shared_rows() -> None:
    rng = np.random.default_rng(0)
    rows = [
        ("a", "Adam", method, 1.0, seed, task, 0, "AUC", 0.7 + seed / 100 + gain + rng.normal(0, 1e-3))
        for method, gain in (("AdaTask", 0.01), ("joint", 0.0)) for seed in range(6) for task in (1, 2)
    ]  # fmt: skip
    columns = ["problem", "optimizer", "method", "spread", "seed", "task", "layer", "metric", "value"]
    auc = report.by_task(pd.DataFrame(rows, columns=columns), "AUC")
    table = report.compare(auc, {"x": [Contrast("a", "Adam", ("AdaTask", 1.0), ("joint", 1.0))]})
    row = table.iloc[0]
    means = auc[MEAN].unstack("method")
    expected = paired_interval(means["AdaTask"], means["joint"], test_to_train=1 / 3)
    assert row["mean"] == pytest.approx(0.01, abs=2e-3)
    assert [row["low"], row["high"]] == pytest.approx([expected.low, expected.high])
    wider = (row["high"] - row["low"]) / (row["plain high"] - row["plain low"])
    assert wider == pytest.approx((1 / 6 + 1 / 3) ** 0.5 / (1 / 6) ** 0.5)


def test_sentence_says_when_comparisons_are_missing() -> None:
    claim = load_claims()["A4-recommendation-balanced"]
    interval = paired_interval([0.71, 0.72, 0.73], [0.70, 0.711, 0.719])
    text = report.sentence(claim, [interval], 3)
    assert text.startswith("A4-recommendation-balanced: holds (1 of 3 comparisons here). Mean 0.010, interval ")
    assert text.endswith("asked at least 0.005")
