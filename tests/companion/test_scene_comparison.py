"""What a comparison of scenes trains, and which runs its intervals rest on; its runs are made up."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from companion.studies.scenes.comparison import ADATASK, NULL, SECOND, Comparison, joint

BEST = 0.01  # the rate at which every method has its least validation loss
MADE_UP = {"mIoU": 0.5, "pixel accuracy": 0.8, "cross-entropy": 1.0, "absolute error": 0.5, "relative error": 0.4}
RMS = ("Adam", "per-task RMS", 1.0)
SHARES = {"joint": 0.6, "AdaTask": 0.1, "second task twice": 0.2}


class Trainer:
    """Stands for `train_cell`: AdaTask's cross-entropy is 1 + seed / 10, all others' 1."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, configurations: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        self.asked += map(dict, configurations)
        return pd.DataFrame([row for c in configurations for row in self.rows(c)])

    def rows(self, c: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = []
        for (weight, rate), seed in product(zip(c["spreads"], c["rates"], strict=True), c["seeds"]):
            run = {name: c[name] for name in ("optimizer", "method")} | {"spread": weight, "rate": rate, "seed": seed}
            own = MADE_UP | ({"cross-entropy": 1 + seed / 10} if c["method"] == "AdaTask" else {})
            missed = abs(np.log(rate / BEST)) + abs(weight - 1)
            kinds = {"test": own, "validation": dict.fromkeys(("cross-entropy", "absolute error"), 1 + missed)}
            if c["record"]:
                names = ("dominated, updates, mean", SECOND)
                kinds["training"] = dict.fromkeys(names, SHARES[c["method"]])
            found += [
                {**run, "fold": fold, "epoch": 0, "layer": layer, "metric": metric, "value": value}
                for fold, values in kinds.items()
                for metric, value in values.items()
                for layer in (range(3) if fold == "training" else [0])
            ]
        return found


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


@pytest.fixture
def compared(trainer: Trainer) -> Comparison:
    return Comparison(
        trainer, {"epochs": 30}, methods=["per-task RMS"], static_weights=[0.5, 1.0], gap=10.0, rates=[BEST / 2, BEST],
        tuning_seeds=[1000, 1001], tuning_epochs=8, seeds=[0, 1, 2, 3], few=2, overlap=0.2,
    )  # fmt: skip


def test_all_are_tuned_alike_and_further_references_have_fewer_seeds(compared: Comparison, trainer: Trainer) -> None:
    tuned = [c for c in trainer.asked if c["epochs"] == 8]
    assert len(tuned) == 2 + 1 + 1 + 3  # single tasks, AdaTask, per-task RMS, and three weights
    assert all(c["seeds"] == [1000, 1001] and c["rates"] == [BEST / 2, BEST] and not c["record"] for c in tuned)
    assert (set(compared.rate.values()), compared.static) == ({BEST}, 1.0)
    final = {(c["method"], c["spreads"][0]): c for c in trainer.asked if c["epochs"] == 30}
    assert {key for key, c in final.items() if c["seeds"] == [0, 1]} == {RMS[1:], ("joint", 10.0)}
    assert {key for key, c in final.items() if c["seeds"] == [0, 1, 2, 3]} == {
        ("first task alone", 1.0), ("second task alone", 1.0), ADATASK[1:], ("joint", 1.0), NULL[1:],
    }  # fmt: skip
    assert {key for key, c in final.items() if c["record"]} == {("joint", 1.0), ("joint", 10.0), ADATASK[1:], NULL[1:]}


def test_an_interval_is_of_the_seeds_that_both_have(compared: Comparison) -> None:
    """AdaTask's log loss is log(1 + seed / 10), that of the others 0."""
    for setting, seeds in ((joint(1.0), range(4)), (RMS, range(2)), (joint(10.0), range(2))):
        found = compared.gain(setting, "cross-entropy")
        assert found.count == len(seeds)
        assert found.mean == pytest.approx(np.mean([np.log(1 + seed / 10) for seed in seeds]))
    assert compared.over_singles().count == 4


def test_shares_of_dominance(compared: Comparison) -> None:
    assert compared.share(joint(1.0)).tolist() == [0.6] * 4
    assert compared.share(NULL, [1, 2]).tolist() == pytest.approx([0.2] * 4)
    assert compared.dominated == "cross-entropy"  # the second task has 0.6 of AU


def test_where_a_protocol_fixes_the_rate_nothing_is_tuned(trainer: Trainer) -> None:
    fixed = Comparison(trainer, {"epochs": 5}, rates=[0.1], tuning_seeds=[], seeds=[0, 1, 2], overlap=0.0)
    assert [(c["method"], c["rates"], c["epochs"]) for c in trainer.asked] == [
        (method, [0.1], 5) for method in ("first task alone", "second task alone", "AdaTask", "joint")
    ]
    assert fixed.gain(joint(1.0), "cross-entropy").mean == pytest.approx(np.mean(np.log([1.0, 1.1, 1.2])))
