"""The holders of credit cards: labels, leaks, and what the end of August knows."""

import io

import numpy as np
import pandas as pd
import pytest
from companion.data import TabularTask, credit_cards, load_credit_cards
from companion.data.files import bundled_file
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OrdinalEncoder


@pytest.fixture(scope="module")
def accounts() -> TabularTask:
    return load_credit_cards(("late in September", "nothing paid in September"))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    content = bundled_file(credit_cards.FILE, credit_cards.SHA256)
    return pd.read_csv(io.BytesIO(content), compression="gzip")


def test_counts(accounts: TabularTask) -> None:
    assert accounts.inputs.shape == (30_000, 19)
    assert {name: int(labels.sum()) for name, labels in accounts.targets.items()} == {
        "default": 6636,
        "late in September": 6818,
        "nothing paid in September": 5249,
    }
    assert list(load_credit_cards().targets) == ["default", "late in September"]
    assert accounts.inputs["EDUCATION"].value_counts()["EDUCATION_2"] == 14_030
    assert accounts.stand_in


def test_inputs_end_in_august(accounts: TabularTask, table: pd.DataFrame) -> None:
    months = {"PAY_3", "PAY_4", "PAY_5", "PAY_6", *(f"{kind}_AMT{k}" for kind in ("BILL", "PAY") for k in range(2, 7))}
    assert {*accounts.inputs} == {*months, "LIMIT_BAL", "SEX", "AGE", "EDUCATION", "MARRIAGE"}
    # Why the state called August's is none of them: it knows September's payment, as July's knows August's.
    for state, payment, bill in ((2, 1, 2), (3, 2, 3)):
        duly = table[table[f"PAY_{state}"] == -1]
        assert (duly[f"PAY_AMT{payment}"] >= duly[f"BILL_AMT{bill}"]).mean() > 0.97


def test_no_auxiliary_tells_the_default(accounts: TabularTask) -> None:
    default = accounts.targets["default"]
    for name in ("late in September", "nothing paid in September"):
        assert 0.1 < default[accounts.targets[name] == 0].mean() < default[accounts.targets[name] == 1].mean() < 0.55
    assert accounts.revealing == frozenset()


def test_boosting_learns_each_task_and_finds_no_leak(accounts: TabularTask) -> None:
    inputs = OrdinalEncoder().fit_transform(accounts.inputs)
    train, test = np.arange(0, 30_000, 2), np.arange(1, 30_000, 2)
    expected = {"default": 0.73, "late in September": 0.82, "nothing paid in September": 0.92}
    for name, labels in accounts.targets.items():
        model = HistGradientBoostingClassifier(max_iter=40, random_state=0).fit(inputs[train], labels[train])
        auc = roc_auc_score(labels[test], model.predict_proba(inputs[test])[:, 1])
        assert auc == pytest.approx(expected[name], abs=0.015), name


def test_missing_columns_and_unknown_auxiliaries() -> None:
    with pytest.raises(ValueError, match=r"Found no BILL_AMT1, EDUCATION_0, .*PAY_0, .*Get it from the UCI"):
        credit_cards.credit_cards_task(pd.DataFrame({"AGE": [50]}), ())
    with pytest.raises(ValueError, match=r"`auxiliaries` should hold .* Found prepaid. Pass for example"):
        load_credit_cards(["prepaid"])


def test_another_file_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credit_cards, "SHA256", "0" * 64)
    monkeypatch.setattr(pd, "read_csv", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(ValueError, match=r"`uci_credit_card.csv.gz` should have sha256 0{64}. Found de30cf.*checkout"):
        load_credit_cards()
