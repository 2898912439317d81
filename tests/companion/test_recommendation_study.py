"""Cells of the recommendation study: what is paired, what a constant weight does, whose shares are followed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from companion.claims.register import load_claims
from companion.claims.statistics import estimate, paired_interval
from companion.data.interactions import Encoded
from companion.networks.shared_bottom import binary_losses
from companion.problems.interactions import build, folds, layer_names, load, prepare
from companion.store.results import Results
from companion.studies.recommendation import comparison, report
from companion.studies.recommendation.comparison import Plan
from companion.studies.recommendation.shares import LayerShares, follow_grid
from companion.studies.recommendation.sparse import sparse_grid
from companion.studies.recommendation.study import drawn_anew, train_grid, tune_grid
from companion.studies.recommendation.trivial import log_odds
from companion.train.choice import Choice
from companion.train.method_comparison import Comparison
from companion.train.stacked import StackedModel

from mtlcore.task_gradients import combine, task_backward

SMALL: dict[str, Any] = {
    "dataset": "movielens", "users": 12, "split": "random", "rare": 5, "network": "MMoE", "width": 3, "experts": 2,
    "hidden": [4], "seeds": [0, 1], "inits": 2, "epochs": 2, "batch_size": 64, "rates": [0.02], "scales": [1.0, 10.0],
    "decays": [0.1], "dropouts": [0.0], "at_once": 8, "device": "cpu",
}  # fmt: skip
TASKS = ["dislike", "favourite", "like"]


def cell(method: str, **changes: Any) -> pd.DataFrame:
    return train_grid({**SMALL, "method": method, **changes})


def values(table: pd.DataFrame, metric: str, scale: float = 1.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    rows = table[(table["metric"] == metric) & (table["scale"] == scale)]
    return rows.sort_values(["rate", "seed", "initialisation"])["value"].to_numpy()


def test_runs_are_the_same_in_any_company_with_dropout_too() -> None:
    together = cell("AdaTask", dropouts=[0.0, 0.2])
    apart = cell("AdaTask", dropouts=[0.2], seeds=[1], at_once=1)
    there = together[(together["dropout"] == 0.2) & (together["seed"] == 1)]
    assert values(there, "test loss") == pytest.approx(values(apart, "test loss"), abs=1e-9)
    assert np.abs(values(there, "test loss") - values(together[together["dropout"] == 0], "test loss")[2:]).min() > 1e-6


def test_adatask_and_the_control_erase_a_constant_weight_and_joint_training_does_not() -> None:
    for method, erases in (("AdaTask", True), ("per-task RMS", True), ("static weights", False)):
        table = cell(method)
        moved = np.abs(values(table, "validation loss", 10.0) - values(table, "validation loss", 1.0)).max()
        assert (moved < 1e-3) == erases, (method, moved)


def test_a_single_task_is_trained_and_measured_alone() -> None:
    alone = cell("like alone", scales=[1.0])
    assert {"AUC, like", "test loss, like"} <= set(alone["metric"])
    assert not {"AUC, dislike", "AUC, favourite"} & set(alone["metric"])
    assert values(alone, "AUC") == pytest.approx(values(alone, "AUC, like"))
    joint = cell("equal weights", scales=[1.0])
    assert np.abs(values(alone, "AUC, like") - values(joint, "AUC, like")).min() > 1e-4
    assert values(joint, "AUC") == pytest.approx(np.mean([values(joint, f"AUC, {task}") for task in TASKS], axis=0))


def test_tuning_leaves_the_test_fold_alone_and_trains_a_split_once() -> None:
    tuning = tune_grid({**SMALL, "method": "equal weights"})
    assert set(tuning["metric"]) == {"validation loss", "validation AUC", "best epoch"}
    assert len(tuning[tuning["metric"] == "best epoch"]) == 2 * 2  # splits, scales
    final = cell("equal weights")
    assert set(zip(final["seed"], final["initialisation"], strict=True)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    first = final[final["initialisation"] == 0]
    assert values(first, "validation loss") == pytest.approx(
        tuning[(tuning["metric"] == "validation loss") & (tuning["scale"] == 1)].sort_values("seed")["value"].to_numpy()
    )


def test_weight_decay_shrinks_what_no_gradient_holds() -> None:
    strong, none = (values(cell("equal weights", decays=[d]), "validation loss") for d in (3.0, 0.0))
    assert np.abs(strong - none).min() > 1e-4


def test_following_dominance_changes_no_result_and_shares_sum_to_one() -> None:
    c = {**SMALL, "method": "equal weights", "scales": [1.0], "inits": 1, "epochs": 3}
    found = follow_grid(c)
    shares = found[found["metric"].isin([f"task {t}, updates" for t in (1, 2, 3)])]
    assert shares.groupby(["seed", "layer"])["value"].sum().to_numpy() == pytest.approx(1.0)
    assert sorted(found["layer"].unique()) == list(range(1 + len(layer_names(c, list(load("movielens", 12).ids)))))
    for method in ("like against itself", "like drawn anew"):
        assert follow_grid({**c, "method": method})["value"].notna().all()


def test_shares_agree_with_dominance() -> None:
    sizes = {"user": 5, "film": 7}
    model = StackedModel([build({**SMALL, "width": 2}, sizes, 2, seed) for seed in (0, 1)])
    layers = model.stack.shared_layers()  # type: ignore[operator]
    recorder = LayerShares(optimizer := torch.optim.Adam(model.parameters(), lr=0.1), list(layers.values()))
    generator = torch.Generator().manual_seed(0)
    shared = [p for layer in layers.values() for p in layer]
    for _ in range(20):
        ids = torch.stack([torch.randint(0, n - 1, (2, 16), generator=generator) for n in sizes.values()], dim=-1)
        labels = torch.randint(0, 2, (2, 2, 16), generator=generator).double()
        optimizer.zero_grad()
        for p in shared:
            p.task_grad = None
        task_backward(binary_losses(model, (ids, labels)), shared)
        combine(shared)
        optimizer.step()
    relative = recorder.dominance.relative[layers["film"][0]]  # [T, R, 7, 2], the last film is never drawn
    assert relative[:, :, 6].isnan().all()
    for task in (1, 2):
        assert torch.allclose(recorder.now()[2, f"task {task}, updates"], relative[task - 1, :, :6].mean((-2, -1)))


def test_labels_that_are_drawn_anew_are_alike_by_user_and_differ_by_chance() -> None:
    c = {**SMALL, "seeds": [0]}
    problem = prepare(c, [0])
    drawn = drawn_anew(c, problem, "like").train.targets[0]  # [T, N]
    real = problem.train.targets[0, 2]
    assert drawn.mean(1).numpy() == pytest.approx(float(real.mean()), abs=0.05)
    assert (drawn[0] != drawn[1]).double().mean() > 0.2


def test_sparse_tables_train_with_both_methods() -> None:
    c = {**SMALL, "inits": 1, "test": True, "rates": [0.005, 0.02]}
    tables = {method: sparse_grid({**c, "method": method}) for method in ("joint", "AdaTask")}
    for table in tables.values():
        assert set(table["metric"]) == {"validation loss", "AUC"}
        assert len(table) == 2 * 2 * 2
        assert table["value"].between(0.3, 0.9).all()
    assert np.abs(tables["joint"]["value"] - tables["AdaTask"]["value"]).min() > 1e-5


def test_the_shared_bottom_and_the_time_based_split_train_too() -> None:
    table = cell("AdaTask", network="shared bottom", hidden=[6, 5], split="time")
    assert np.isfinite(table["value"]).all()


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


def test_trivial_log_odds_by_hand() -> None:
    ids = np.array([[[0, 0], [0, 1], [1, 1], [1, 1]]])
    fold = Encoded(ids=ids, targets=np.array([[[1.0, 1.0, 0.0, 0.0]]]), users=ids[..., 0])
    found = log_odds(fold, fold, 0)
    rates = np.array([(2 + 2.5) / 7, (0 + 2.5) / 7])  # of the users: five rows of the average rate, 1/2, besides
    assert found["user"] == pytest.approx(np.log(rates / (1 - rates))[[0, 0, 1, 1]])
    assert found["both"] == pytest.approx(found["user"] + found["film"])  # the average's log odds are 0


def fake(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Losses that are least at a rate of 2, a decay of 0.1 and no dropout; AUC is the negative loss."""
    c, rows = configuration, []
    inits = c["inits"] if c.get("final") else 1
    for rate in c["rates"]:
        for scale in c["scales"]:
            for decay in c["decays"]:
                for dropout in c["dropouts"]:
                    loss = np.exp(abs(rate - 2) + abs(scale - 0.5) + abs(decay - 0.1) + dropout)
                    knobs = {"rate": rate, "scale": scale, "decay": decay, "dropout": dropout}
                    rows += [
                        {**knobs, "seed": seed, "initialisation": i, "metric": metric, "value": sign * loss}
                        for seed in c["seeds"] for i in range(inits)
                        for metric, sign in (("validation loss", 1), ("AUC", -1))
                    ]  # fmt: skip
    return pd.DataFrame(rows)


def fake_final(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """The fresh runs of `fake`."""
    return fake({**configuration, "final": True})


def test_each_method_is_tuned_and_runs_fresh_at_its_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "tune_grid", fake)
    monkeypatch.setattr(comparison, "train_grid", fake_final)
    plan = Plan(
        base={"inits": 2}, tasks=["a"], rates=[1.0, 2.0, 4.0], scales=[0.25, 0.5, 2.0], decays=[0.0, 0.1, 1.0],
        dropouts=[0.0, 0.2], others=["PCGrad"], few=[9], tuning_seeds=[9, 10], seeds=[0, 1],
    )  # fmt: skip
    found, strengths, screened = comparison.compare_all(Results("90_toy", "fast"), plan)
    assert list(found.chosen) == ["a alone", "equal weights", "AdaTask", "static weights", "PCGrad"]
    assert all(strength == {"decay": 0.1, "dropout": 0.0} for strength in strengths.values())
    assert {choice.rate for choice in found.chosen.values()} == {2.0}
    assert found.chosen["static weights"].setting["scale"] == 0.5
    assert set(found.fresh["seed"]) == {0, 1}
    assert set(screened["seed"]) == {9}
    assert found.chosen["AdaTask"].seeds == 2
    assert found.chosen["PCGrad"].seeds == 1
    assert found.retuned("AdaTask", "AUC").values.shape == (1, 2, 2)


def test_contrast_is_the_estimate_of_paired_differences_to_the_mean_of_references() -> None:
    rng = np.random.default_rng(0)
    numbers = {name: rng.normal(size=(4, 3)) for name in ("AdaTask", "a alone", "b alone")}
    fresh = pd.DataFrame(
        {"method": name, "metric": "AUC", "seed": s, "initialisation": i, "value": table[s, i]}
        for name, table in numbers.items() for s in range(4) for i in range(3)
    )  # fmt: skip
    choice = Choice({"rate": 1.0}, (), (), np.zeros(50, dtype=np.int64), 10)
    found = Comparison(fresh, fresh, dict.fromkeys(numbers, choice), pd.DataFrame())
    expected = estimate(
        numbers["AdaTask"] - (numbers["a alone"] + numbers["b alone"]) / 2, test_to_train=report.TEST_TO_TRAIN
    )
    got = report.contrast(found, "AUC", ["a alone", "b alone"])
    assert [got.mean, got.low, got.high] == pytest.approx([expected.mean, expected.low, expected.high])
    assert got.tuning == pytest.approx(0)


def test_trivial_predictions_rank_better_than_chance_on_real_ratings() -> None:
    table = report.trivial(load("movielens", 60), "random", [0], 5)["AUC"]
    assert (table.loc["rates of both"] > 0.55).all()
    assert len(folds("movielens", 12, "random", (0,), 5)[0]) == 4


def test_sentence_says_when_comparisons_are_missing() -> None:
    claim = load_claims()["A4-recommendation-average"]
    interval = paired_interval([0.71, 0.72, 0.73], [0.70, 0.711, 0.719])
    text = report.sentence(claim, [interval], 3)
    assert text.startswith("A4-recommendation-average: holds (1 of 3 comparisons here). Mean 0.010, interval ")
    assert text.endswith("asked at least 0.005")
