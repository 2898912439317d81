"""Training cells of the scene study, on a generated CityScapes and on small Earth scenes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cityscapes_layout import SHAPE, SIZES, write_layout
from companion.metrics.scenes import scene_losses
from companion.networks.scenes import LoopedModel
from companion.problems.scenes import load_folds, turned
from companion.studies.scenes.colours import colours
from companion.studies.scenes.predictions import as_picture, median_tile, predict
from companion.studies.scenes.protocol import KNOWN_ROWS, PUBLISHED, known_rows
from companion.studies.scenes.study import BestEpoch, halved_losses, make_model, train, train_cell
from companion.train.all_tasks import Run

from mtlcore.task_gradients import task_backward

SMALL: dict[str, Any] = {
    "dataset": "cityscapes", "sizes": list(SIZES.values()), "shape": list(SHAPE), "augment": True, "channels": [4, 8],
    "octaves": 1, "depths": [], "dtype": "float64", "optimizer": "Adam", "epochs": 3, "batch_size": 2, "halve_every": 2,
    "last": 1, "device": "cpu", "spreads": [1.0], "rates": [0.01], "seeds": [0, 1], "record": False,
}  # fmt: skip


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generated set where the official one would lie."""
    write_layout(tmp_path / "cityscapes")
    monkeypatch.setenv("MTLCORE_DATA", str(tmp_path))


def value(table: pd.DataFrame, **where: object) -> float:
    for name, wanted in where.items():
        table = table[table[name] == wanted]
    assert len(table) == 1, table
    return float(table["value"].iloc[0])


@pytest.mark.usefixtures("official")
class TestOfficialLayoutEndToEnd:
    @pytest.mark.parametrize("method", ["first task alone", "joint", "AdaTask", "per-task RMS", "DWA"])
    def test_every_method_trains_and_is_measured_on_the_test_scenes(self, method: str) -> None:
        table = train_cell({**SMALL, "method": method})
        assert set(table["fold"]) == {"test"}
        assert set(table["metric"]) == {
            "mIoU", "pixel accuracy", "absolute error", "relative error", "cross-entropy"
        }  # fmt: skip
        assert np.isfinite(table["value"]).all()
        assert set(table["seed"]) == {0, 1}
        first, second = (table[table["seed"] == seed]["value"].to_numpy() for seed in (0, 1))
        assert (np.abs(first - second) > 1e-6).any()

    def test_the_published_protocol_runs_as_a_preset(self) -> None:
        smaller = {"sizes": SMALL["sizes"], "shape": SMALL["shape"], "channels": [4, 4], "depths": [1, 1]}
        shorter = {"epochs": 2, "last": 2, "batch_size": 1, "seeds": [0], "device": "cpu"}
        setting = {"spreads": [1.0], "rates": [PUBLISHED["rate"]], "record": True, "method": "AdaTask"}
        table = train_cell({**PUBLISHED, **smaller, **shorter, **setting})
        assert np.isfinite(value(table, fold="test", metric="mIoU"))
        assert value(table, metric="dominated, updates", epoch=2, layer=4) < 0.5

    def test_measures_are_means_over_the_last_epochs(self) -> None:
        def miou(epochs: int, last: int) -> float:
            c = {**SMALL, "method": "joint", "epochs": epochs, "last": last, "seeds": [0]}
            return value(train_cell(c), metric="absolute error")

        # The learning rate is halved by the epoch, whatever their number, so shorter trainings begin alike.
        assert miou(3, 2) == pytest.approx((miou(2, 1) + miou(3, 1)) / 2, abs=1e-9)
        assert abs(miou(2, 1) - miou(3, 1)) > 1e-5

    def test_more_training_helps(self) -> None:
        c = {**SMALL, "method": "joint", "seeds": [0], "augment": False, "halve_every": 0, "channels": [8, 8]}
        few, many = (train_cell({**c, "epochs": epochs}) for epochs in (1, 60))
        assert value(many, metric="cross-entropy") < 0.7 * value(few, metric="cross-entropy")
        assert value(many, metric="absolute error") < 0.8 * value(few, metric="absolute error")


@pytest.mark.usefixtures("official")
def test_a_run_in_a_crowd_is_the_run_alone() -> None:
    c = {**SMALL, "method": "AdaTask", "spreads": [1.0, 3.0], "rates": [0.01, 0.002]}
    crowd = train_cell(c)
    alone = train_cell({**c, "spreads": [3.0], "rates": [0.002], "seeds": [1]})
    names = ["spread", "rate", "seed", "fold", "epoch", "layer", "metric"]
    both = alone.merge(crowd, on=names, suffixes=(" alone", " crowd"))
    assert len(both) == len(alone)
    np.testing.assert_allclose(both["value alone"], both["value crowd"], rtol=1e-6)


@pytest.mark.usefixtures("official")
def test_constant_weights_are_erased_by_adatask_and_not_by_joint_training() -> None:
    def errors(method: str) -> np.ndarray[Any, Any]:
        table = train_cell({**SMALL, "method": method, "spreads": [1.0, 1000.0], "rates": [0.01, 0.01], "seeds": [0]})
        return table.pivot(index="metric", columns="spread", values="value").to_numpy()

    adatask, joint = errors("AdaTask"), errors("joint")
    assert np.abs(adatask[:, 0] - adatask[:, 1]).max() < 1e-3
    assert np.abs(joint[:, 0] - joint[:, 1]).max() > 0.01


@pytest.mark.usefixtures("official")
def test_the_first_task_alone_ignores_the_second() -> None:
    trained = train({**SMALL, "epochs": 1}, "first task alone", [Run(1.0, 0.01, 0)], record=False)
    before = make_model(SMALL, 0)
    after = dict(trained.model.stack.named_parameters())
    moved = {name: not torch.equal(after[name][0], p) for name, p in before.named_parameters()}
    assert moved["heads.0.weight"]
    assert moved["encoder.0.convolution.weight"]
    assert not moved["heads.1.weight"]


@pytest.mark.usefixtures("official")
def test_recording_changes_nothing_and_shows_dominance_by_layer_and_epoch() -> None:
    c = {**SMALL, "method": "joint", "epochs": 5, "spreads": [100.0], "seeds": [0]}
    plain, recorded = train_cell(c), train_cell({**c, "record": True})
    held_out = recorded[recorded["fold"] == "test"]
    np.testing.assert_allclose(held_out["value"], plain["value"], rtol=1e-6)
    course = recorded[recorded["metric"] == "dominated, updates"]
    assert sorted(course["epoch"].unique()) == [1, 2, 3, 4, 5]
    assert sorted(course["layer"].unique()) == [1, 2, 3]
    assert (course["value"] > 0.5).all()  # of weight 100
    assert value(recorded, metric="dominated, updates, end", layer=0) > 0.8


@pytest.mark.usefixtures("official")
def test_the_halves_of_a_batch_make_the_loss_of_the_whole() -> None:
    seeds, source = [0], torch.zeros(1, dtype=torch.int64)
    folds = load_folds(SMALL, seeds, source, torch.device("cpu"), torch.float64)
    x, y = folds.train.batch(torch.arange(4)[None])
    y = torch.where(y.isnan(), 0.1, y).clamp(min=0)  # all known: then the mean of the halves' losses is the whole's
    model, (x, y) = make_model(SMALL, 0), (x[0], y[:, 0])
    whole = scene_losses(torch.ones(2))(model, (x, y))
    for task in (0, 1):
        halves = halved_losses(task)(model, (x, y))
        assert (halves[0].item() + halves[1].item()) / 2 == pytest.approx(whole[task].item(), rel=1e-9)
        assert abs(halves[0].item() - halves[1].item()) > 1e-6
        task_backward(halves, model.shared_parameters())
        for p in model.shared_parameters():
            del p.task_grad  # type: ignore[attr-defined]


@pytest.mark.usefixtures("official")
def test_two_halves_of_one_task_dominate_by_chance_only() -> None:
    c = {**SMALL, "method": "first task twice", "epochs": 8, "record": True, "seeds": [0]}
    table = train_cell(c)
    assert set(table["fold"]) == {"training"}
    assert value(table, metric="last task, updates, end", layer=0) == pytest.approx(0.5, abs=0.15)


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`dataset` should be one of 'earth', 'cityscapes'. Found `dataset = 'mars'`"):
        train_cell({**SMALL, "dataset": "mars", "method": "joint"})


EARTH: dict[str, Any] = {
    **SMALL, "dataset": "earth", "pool": 8, "side": 16, "epochs": 4, "batch_size": 40, "halve_every": 0, "seeds": [0],
}  # fmt: skip


def test_earth_scenes_are_measured_at_the_best_epoch_on_the_validation_fold() -> None:
    table = train_cell({**EARTH, "method": "joint", "rates": [0.05]})
    assert set(table["fold"]) == {"validation", "test"}
    curve = table[(table["fold"] == "validation") & (table["epoch"] > 0)]
    logs = np.log(curve.pivot(index="epoch", columns="metric", values="value")).mean(axis=1)
    assert value(table, metric="best epoch") == logs.idxmin()
    for metric in ("cross-entropy", "absolute error"):
        kept = value(table, metric=metric, fold="validation", epoch=0)
        assert kept == pytest.approx(value(table, metric=metric, fold="validation", epoch=logs.idxmin()), abs=1e-12)


def test_each_run_keeps_its_own_best_epoch_by_the_losses_that_count() -> None:
    model = LoopedModel([make_model(EARTH, seed) for seed in (0, 1, 2)])
    best = BestEpoch(model, torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]))
    losses = [
        [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]],
        [[1.0, 3.0, 1.0], [1.0, 3.0, 9.0]],
        [[1.5, 1.0, 3.0], [1.5, 1.0, 0.1]],
    ]
    bias = dict(model.stack.named_parameters())["heads.0.bias"]
    for epoch, seen in enumerate(losses, start=1):
        with torch.no_grad():
            bias.fill_(epoch)
        best.look(epoch, torch.tensor(seen))
    best.look(4, torch.full((2, 3), torch.nan))
    best.restore()
    assert best.epoch.tolist() == [2, 3, 2]
    assert bias[:, 0].tolist() == [2, 3, 2]


def test_tiles_are_turned_with_their_targets_in_all_eight_ways() -> None:
    x = torch.arange(9.0).view(1, 1, 1, 3, 3).repeat(1, 200, 3, 1, 1)  # [R, B, 3, H, H]
    y = x[None, :, :, 0].repeat(2, 1, 1, 1, 1)
    seen, targets = turned((x, y), [torch.Generator().manual_seed(0)])
    assert torch.equal(seen[:, :, 0], targets[0])
    assert torch.equal(targets[0], targets[1])
    assert len({tuple(tile.flatten().tolist()) for tile in seen[0, :, 0]}) == 8


def test_a_pixel_by_itself_is_better_than_a_constant() -> None:
    table = colours({"pool": 8, "side": 16, "seeds": [0]})
    for metric in ("cross-entropy", "absolute error"):
        own, constant = (value(table, method=method, metric=metric) for method in ("colours", "constant"))
        assert own < 0.6 * constant
        with_latitude = value(table, method="colours and latitude", metric=metric)
        assert with_latitude < 1.05 * own
        assert with_latitude != own


def test_the_tile_of_median_loss_is_looked_at() -> None:
    losses = [torch.tensor([1.0, 9.0, 3.0, 2.0, 5.0]).view(1, 5, 1, 1), torch.zeros(1, 5, 1, 1) + 1.0]
    assert median_tile(losses) == 2
    c = {**EARTH, "epochs": 1, "method": "single tasks", "rates": [0.01, 0.02]}
    picture = as_picture(predict(c), c)
    assert picture.image.shape == (3, 16, 16)
    assert 0 <= picture.image.min() < picture.image.max() <= 1
    assert picture.truth["class"].shape == picture.predicted["number"].shape == (16, 16)
    assert set(np.unique(picture.predicted["class"])) <= set(range(8))


def test_the_papers_rows_are_marked_second_hand() -> None:
    assert list(KNOWN_ROWS) == ["equal weights", "GradNorm", "AdaTask"]
    table = known_rows()
    row = table[table["method"] == "AdaTask"].iloc[0]
    assert (row["absolute error"], row["relative error"], row["mIoU"], row["pixel accuracy"]) == (
        0.0128, 36.85, 75.02, 93.40
    )  # fmt: skip
    assert set(table["source"]) == {"Yang et al. 2023, second hand"}
    assert PUBLISHED["rate"] == 1e-4
    assert (PUBLISHED["epochs"], PUBLISHED["halve_every"], PUBLISHED["batch_size"], PUBLISHED["last"]) == (
        200,
        100,
        8,
        10,
    )
    assert PUBLISHED["seeds"] == [0, 1, 2]
