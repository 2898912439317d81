"""Interventions, probe and curves of the tabular study on made-up data: their identities."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from companion.data import TABULAR_TASKS, TabularTask
from companion.problems import tables as folds
from companion.problems.tables import prepare
from companion.store.results import Results
from companion.studies.tabular.controls import swap, switch_off
from companion.studies.tabular.probe import probe
from companion.studies.tabular.questions import Design, followed, swapped, switched_off
from companion.studies.tabular.shares import (
    after_burn_in,
    explained,
    follow,
    probed_batches,
    share_intervals,
    share_measures,
)
from companion.studies.tabular.study import train_grid, tune_grid
from companion.train.method_comparison import compare

from mtlcore.hydalearn import HydaLearn

BASE: dict[str, Any] = {
    "dataset": "made up",
    "device": "cpu",
    "hidden": [8],
    "epochs": 3,
    "batch_size": 50,
    "method": "HydaLearn",
    "rates": [0.01],
    "scales": [2.0],
    "seeds": [5, 6, 7],
}


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A data set whose auxiliary label agrees with the main one in nearly all rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    main = x[:, 0] + rng.normal(size=500) > 0.5
    auxiliary = np.where(rng.random(500) < 0.97, main, ~main)
    task = TabularTask(
        name="made up",
        inputs=pd.DataFrame(x, columns=list("abcd")),
        targets={"main": main.astype(float), "auxiliary": auxiliary.astype(float)},
        groups=None,
        checksum="",
        licence="none",
        stand_in=True,
    )
    monkeypatch.setitem(TABULAR_TASKS, "made up", lambda: task)
    yield
    folds._folds.cache_clear()


def values(table: pd.DataFrame, metric: str, **where: object) -> list[float]:
    rows = table[table["metric"] == metric]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.sort_values("seed")["value"].to_list()


def test_replayed_weights_give_the_same_run_and_swapped_ones_another() -> None:
    table = swap(BASE)
    own, replayed, swapped, averaged = (
        np.array(values(table, "test log loss", weights=name)) for name in ("own", "replayed", "swapped", "averaged")
    )
    assert np.abs(own - replayed).max() < 1e-10
    assert np.abs(own - swapped).max() > 1e-5
    assert np.abs(averaged - swapped).min() > 1e-5
    assert own.tolist() == pytest.approx(values(train_grid(BASE), "test log loss"), abs=1e-10)


def test_never_off_is_a_static_weight_and_off_from_the_start_is_the_single_task() -> None:
    off = switch_off({**BASE, "off_epochs": [0, 1, 3]})
    static = train_grid({**BASE, "method": "static grid"})
    single = train_grid({**BASE, "method": "single task"})
    assert values(off, "test log loss", off_epoch=3) == pytest.approx(values(static, "test log loss"), abs=1e-10)
    assert values(off, "test log loss", off_epoch=0) == pytest.approx(values(single, "test log loss"), abs=1e-10)
    assert np.abs(np.subtract(values(off, "test log loss", off_epoch=1), values(static, "test log loss"))).max() > 1e-5
    best, last = (np.array(values(off, f"{which}validation loss")) for which in ("", "last "))
    assert (best <= last + 1e-12).all()
    short = train_grid({**BASE, "method": "static grid", "epochs": 1})  # its only epoch is its last and its best
    one = switch_off({**BASE, "epochs": 1, "off_epochs": [1]})
    assert values(one, "last test log loss") == pytest.approx(values(short, "test log loss"), abs=1e-10)


def test_probed_shares_are_hydalearns() -> None:
    configuration = {**BASE, "checkpoints": [0, 30], "probe_batches": 6}
    batches = probed_batches(probe(configuration))
    assert len(batches) == 2 * 3 * 6
    # The same at step 0, where the model has its initial weights, from HydaLearn itself.
    problem = prepare(BASE, BASE["seeds"])
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(problem.train.num_rows, (6, 1, 50), generator=generator)[0].expand(3, -1)
    batch = problem.train.batch(rows)
    step = HydaLearn(problem.model, problem.scaled_losses([2.0] * 3), problem.shared).backward(batch)
    first = batches[(batches["step"] == 0) & (batches["batch"] == 0)].sort_values("seed")
    assert first["share"].to_list() == pytest.approx(step.weights[1].tolist(), abs=1e-10)
    assert first["main labels"].to_list() == pytest.approx(batch[1][0].mean(-1).tolist(), abs=1e-12)
    # A population has one share per split and step, whatever the batch.
    assert batches.groupby(["seed", "step"])["population share"].nunique().to_list() == [1] * 6
    assert batches["share"].nunique() > 6


def test_the_population_share_is_that_of_a_batch_of_everything() -> None:
    batches = probed_batches(probe({**BASE, "checkpoints": [0], "probe_batches": 2}))
    problem = prepare(BASE, BASE["seeds"])
    x, y = (
        torch.cat(parts, dim=dim)
        for parts, dim in zip(
            zip(*(fold.batch(fold.chunks()[0]) for fold in (problem.validation, problem.test)), strict=True), (1, 2),
            strict=True,
        )
    )  # fmt: skip
    hydalearn = HydaLearn(problem.model, problem.scaled_losses([2.0] * 3), problem.shared, gain="first_order")
    expected = hydalearn.backward((x, y)).weights[1].tolist()
    first = batches[batches["batch"] == 0].sort_values("seed")
    assert first["population share"].to_list() == pytest.approx(expected, abs=1e-10)


def test_explained_variance_is_on_batches_not_fitted_to() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((200, 2))
    assert explained(labels, labels[:, 0] * labels[:, 1]) == pytest.approx(1, abs=1e-9)
    assert explained(labels, rng.normal(size=200)) < 0.05
    assert np.isnan(explained(labels, np.ones(200)))


def test_share_measures_by_hand() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"main labels": rng.random(50), "auxiliary labels": rng.random(50)})
    frame = frame.assign(share=[0.0, 0.4] * 25)
    frame["large-sample share"], frame["population share"] = [0.1, 0.5] * 25, 0.3
    batches = pd.concat([frame.assign(seed=seed, step=10, batch=range(50)) for seed in (1, 2)])
    measures = share_measures(batches)
    assert measures["mean"].tolist() == pytest.approx([0.2, 0.2])
    assert measures["zero"].tolist() == [0.5, 0.5]
    assert measures["match"].tolist() == pytest.approx([1, 1])
    assert (measures["best R squared"] < 0.2).all()


def test_followed_shares_are_measured_by_step_split_and_initialisation() -> None:
    table = follow({**BASE, "inits": 2, "seeds": [5, 6], "checkpoints": [0, 20, 30], "probe_batches": 12})
    match = table[table["metric"] == "match"]
    assert match.groupby("step").size().to_dict() == {0: 4, 20: 4, 30: 4}
    late = match[match["step"] > 0].groupby(["seed", "initialisation"])["value"].mean()
    assert after_burn_in(table, "match", 20).ravel().tolist() == pytest.approx(late.tolist())
    intervals = share_intervals(table).set_index(["step", "measure"])
    assert intervals.loc[(20, "match"), "mean"] == pytest.approx(match[match["step"] == 20]["value"].mean())


def test_the_questions_take_their_settings_from_the_comparison() -> None:
    base = {k: v for k, v in BASE.items() if k not in ("method", "rates", "scales", "seeds")} | {"inits": 2}
    results, seeds, tuning_seeds = Results("90_toy", "fast"), [5, 6], [7, 8]
    found = compare(
        results, base, ["equal weights", "static grid", "HydaLearn"], rates=[0.003, 0.01], scales=[1.0],
        tuning_seeds=tuning_seeds, seeds=seeds, tune=tune_grid, train=train_grid,
        regularisers={"decays": [0.0, 1.0], "dropouts": [0.0, 0.3]},
    )  # fmt: skip
    design = Design(base, seeds, tuning_seeds, found, 1 / 3)
    assert swapped(results, design)["reference"].tolist() == ["swapped", "averaged"]  # and what is replayed came out
    curve = switched_off(results, design, [0, 1, 2, 3])
    assert curve["off_epoch"].tolist() == [0, 1, 2]
    assert curve.loc[curve["chosen"], "off_epoch"].isin([1, 2]).tolist() == [True]
    assert set(curve["count"]) == {2}
    own = found.chosen["HydaLearn"].setting
    assert design.chosen("HydaLearn")["decays"] == [own["decay"]]
    assert len(followed(results, design, design.seeds, [0, 5], 6)["step"].unique()) == 2
