"""The test fold decides nothing, and methods of one seed differ by nothing but the method."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from companion.metrics.scenes import LOSSES
from companion.problems import synthetic as designs
from companion.problems import tables
from companion.problems.synthetic_tasks import Drawn
from companion.problems.tables import Folds, folds_of
from companion.store.results import Results
from companion.studies.adatask_synthetic.comparison import Plan
from companion.studies.hydalearn_synthetic import study as synthetic
from companion.studies.scenes import report as scenes
from companion.studies.tabular import study as tabular
from companion.train import main_task
from companion.train.choice import choose
from companion.train.main_task import Configuration

TABULAR: dict[str, Any] = {
    "dataset": "mortality",
    "horizon_days": 30,
    "auxiliaries": ["physiology score"],
    "main_labels": 200,
    "device": "cpu",
    "hidden": [8],
    "epochs": 3,
    "batch_size": 500,
    "rates": [0.01],
    "scales": [1.0],
    "seeds": [5, 6],
}
SYNTHETIC: dict[str, Any] = {
    "design": "composition",
    "dose": "homogeneous",
    "rows": [120, 60, 200],
    "noise": 1.0,
    "hidden": [8],
    "epochs": 3,
    "num_batches": 6,
    "batch_size": 20,
    "device": "cpu",
    "rates": [0.01],
    "scales": [3.0],
    "seeds": [1, 2],
}
METHODS = ("single task", "equal weights", "cosine gate", "HydaLearn")


def tuning_runs(validation: dict[str, Any], test: dict[str, Any]) -> pd.DataFrame:
    """Tuning runs at three rates: the first is best on the validation fold, the last on the test fold."""
    rows = [
        {
            **fold, "problem": "p", "optimizer": "Adam", "method": "joint", "spread": 1.0, "scale": 1.0, "rate": rate,
            "seed": seed, "task": 1, "layer": 0, "epoch": 0, "value": value + 0.01 * seed,
        }
        for fold, losses in ((validation, [1.0, 2.0, 3.0]), (test, [3.0, 2.0, 1.0]))
        for rate, value in zip([0.1, 0.2, 0.3], losses, strict=True)
        for seed in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_settings_are_chosen_by_the_validation_loss() -> None:
    """HydaLearn's studies and the recommendation study tune with cells that measure the test loss too."""
    assert choose(tuning_runs({"metric": "validation loss"}, {"metric": "test loss"}), "joint").rate == 0.1


def test_rates_are_chosen_by_the_validation_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise AdaTask's synthetic study."""
    runs = tuning_runs({"metric": "validation loss"}, {"metric": "test loss"}).assign(decay=0.0)
    monkeypatch.setattr(Plan, "train", lambda *_: runs)
    how = {"decays": [0.0], "spreads": [1.0], "rates": {"Adam": [0]}}
    tuned = Plan(Results("06_adatask_synthetic", "fast"), {}, {"p": how}, [], [], []).tune()
    assert tuned.plain("p", "Adam", "joint") == 0.1


def test_rates_of_scenes_are_chosen_on_the_validation_fold() -> None:
    found = [
        tuning_runs({"metric": metric, "fold": "validation"}, {"metric": metric, "fold": "test"}) for metric in LOSSES
    ]
    assert [choice.rate for choice in scenes.choose_rates(pd.concat(found)).values()] == [0.1]


def with_another_test_fold(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the study's test labels are others: the main task's are flipped, and so is the order of rows."""
    if study == "tabular":

        def folds(configuration: Configuration, seeds: list[int]) -> Folds:
            found = folds_of(configuration, seeds)
            targets = found.test.targets.copy()
            targets[:, 0] = 1 - targets[:, 0, ::-1]
            return replace(found, test=replace(found.test, targets=targets))

        monkeypatch.setattr(tables, "folds_of", folds)
    else:
        original: Callable[..., Drawn] = designs.DESIGNS["composition"]

        def problem(*arguments: Any) -> Drawn:
            found = original(*arguments)
            return replace(found, targets={**found.targets, "test": -found.targets["test"][..., ::-1].copy()})

        monkeypatch.setitem(designs.DESIGNS, "composition", problem)


@pytest.mark.parametrize("method", ["single task", "HydaLearn"])
@pytest.mark.parametrize("study", ["tabular", "synthetic"])
def test_the_test_fold_decides_nothing(study: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, base = (tabular, TABULAR) if study == "tabular" else (synthetic, SYNTHETIC)
    configuration = {**base, "method": method, "rates": [0.003, 0.03]}
    tables = [module.train_grid(configuration)]
    with_another_test_fold(study, monkeypatch)
    tables.append(module.train_grid(configuration))
    changed = []
    for metric in sorted(set(tables[0]["metric"])):
        one, other = (table.loc[table["metric"] == metric, "value"].to_numpy() for table in tables)
        if np.abs(one - other).max() > 1e-3:
            changed.append(metric)
        else:
            assert np.array_equal(one, other), metric
    assert changed
    assert all(metric.startswith("test") for metric in changed), changed


@pytest.mark.parametrize("study", ["tabular", "synthetic"])
def test_methods_of_a_seed_start_alike_on_the_same_rows(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, base = (tabular, TABULAR) if study == "tabular" else (synthetic, SYNTHETIC)
    started: list[list[torch.Tensor]] = []

    def train(setup: Any, *_: Any) -> None:
        folds = [value for fold in (setup.train, setup.validation, setup.test) for value in vars(fold).values()]
        started.append([*(p.detach().clone() for p in setup.model.parameters()), torch.tensor(setup.seeds), *folds])
        raise InterruptedError

    monkeypatch.setattr(main_task, "train", train)
    for method in METHODS:
        with pytest.raises(InterruptedError):
            module.train_grid({**base, "method": method, "rates": [0.003, 0.03]})
    first = started[0]
    assert not torch.equal(first[0][0], first[0][1])  # another seed is another start
    for other in started[1:]:
        for a, b in zip(first, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
