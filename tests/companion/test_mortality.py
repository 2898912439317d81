"""Notebook 04: its full profile runs what is registered, and MIMIC-III takes SUPPORT2's place by a parameter."""

import numpy as np
import pandas as pd
import pytest
from companion.claims.register import load_claims
from companion.data import TabularTask
from companion.problems import tables as folds
from companion.problems.tables import folds_of
from companion.runner.parameters import read_parameters
from companion.store import paths

PARAMETERS = read_parameters(paths.NOTEBOOKS / "04_mortality.ipynb")
CLAIMS = {name: claim for name, claim in load_claims().items() if claim.notebook == "04_mortality"}


def test_full_profile_runs_the_registered_seeds() -> None:
    for claim in CLAIMS.values():
        probed = claim.id.startswith(("H1-composition", "H1-match"))
        first, count = ("first_probe_seed", "num_probe_splits") if probed else ("first_seed", "num_splits")
        assert claim.fresh_seeds == range(PARAMETERS[first], PARAMETERS[first] + PARAMETERS[count])
        first = PARAMETERS["first_tuning_seed"]
        assert claim.tuning_seeds == range(first, first + PARAMETERS["num_tuning_splits"])


def test_full_profile_makes_the_registered_comparisons() -> None:
    constant = 3  # single task, equal weights, static grid
    both = len(PARAMETERS["designs"])
    numbers = {
        "H1-composition": both,
        "H1-match": both,
        "H1-swap": both,
        "H2-drift": both,
        "H3-loss": both * constant,
        "H3-auc": both * constant,
        "H3-scarce": len(PARAMETERS["label_counts"]) * constant,
        "H3-third": len(PARAMETERS["further"]) * constant,
        "H3-wide": constant,
        "H3-others": sum(map(len, PARAMETERS["others"].values())),
    }
    assert {name: claim.comparisons for name, claim in CLAIMS.items()} == {
        f"{name}-mortality": number for name, number in numbers.items()
    }


def made_stays() -> TabularTask:
    """Forty patients with two stays each, who all live or die as their number says."""
    patients = np.repeat(np.arange(40), 2)
    rng = np.random.default_rng(0)
    return TabularTask(
        name="MIMIC-III",
        inputs=pd.DataFrame({"patient": patients.astype(float), "b": rng.normal(size=80)}),
        targets={"death in hospital": (patients % 3 == 0).astype(float), "remaining stay": rng.normal(size=80)},
        groups=patients,
        checksum="",
        licence="",
        stand_in=False,
        kinds={"remaining stay": "regression"},
    )


def test_mimic_is_split_by_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(folder: object, auxiliaries: object) -> tuple[TabularTask, None]:
        asked.append((str(folder), auxiliaries))
        return made_stays(), None

    monkeypatch.setenv("MTLCORE_DATA", "somewhere")
    monkeypatch.setattr(folds, "load_mimic", load)
    found = folds_of({"dataset": "mimic", "auxiliaries": ["remaining stay"], "main_labels": 20}, [0, 1, 2])
    assert asked == [("somewhere/mimic3-benchmarks", ("remaining stay",))]
    assert found.kinds == ["classification", "regression"]
    known = ~np.isnan(found.train.targets[:, 0])
    assert known.sum(1).tolist() == [20, 20, 20]
    for train, test in zip(found.train.inputs[..., 0], found.test.inputs[..., 0], strict=True):
        assert not set(train) & set(test)  # patients
    assert not np.isnan(found.train.targets[:, 1]).any()


def test_without_the_files_one_sentence_says_where_they_are_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTLCORE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"mimic3-benchmarks.*physionet\.org"):
        folds_of({"dataset": "mimic"}, [0])


def test_options_of_another_data_set_are_refused() -> None:
    with pytest.raises(ValueError, match="horizon_days should come with a dataset that takes them"):
        folds_of({"dataset": "mimic", "horizon_days": 30}, [0])
