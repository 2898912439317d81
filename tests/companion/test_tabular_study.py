"""The tabular study on small real and made-up data: folds, pairing, measures, losses with missing labels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from companion.baselines import BATCHED
from companion.data import TABULAR_TASKS, TabularTask
from companion.networks.shared_bottom import SharedBottom, binary_losses, task_losses
from companion.problems import tables as folds
from companion.problems.tables import folds_of, prepare, withhold
from companion.store.results import Results
from companion.studies.tabular.facts import describe, facts_of
from companion.studies.tabular.measures import calibration_bins, calibration_error, fold_measures
from companion.studies.tabular.study import train_grid, tune_grid, tune_listed
from companion.train.main_task import configured
from companion.train.method_comparison import compare
from companion.train.weightings import STATIC
from sklearn.metrics import average_precision_score, roc_auc_score

BASE: dict[str, Any] = {
    "dataset": "made up",
    "device": "cpu",
    "hidden": [8],
    "epochs": 3,
    "batch_size": 30,
    "method": "HydaLearn",
    "rates": [0.01],
    "scales": [1.0],
    "seeds": [5, 6],
}


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A data set whose main task is the sign of the first input, and whose auxiliary target is that input."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    auxiliary = x[:, 0] + 0.1 * rng.normal(size=500)
    auxiliary[::5] = np.nan
    task = TabularTask(
        name="made up",
        inputs=pd.DataFrame(x, columns=list("abcd")),
        targets={"main": (x[:, 0] > 0).astype(float), "auxiliary": auxiliary},
        groups=None,
        checksum="",
        licence="none",
        stand_in=True,
        kinds={"auxiliary": "regression"},
        periods=np.arange(500) // 50,
    )
    monkeypatch.setitem(TABULAR_TASKS, "made up", lambda: task)
    yield
    folds._folds.cache_clear()


def values(table: pd.DataFrame, metric: str, **where: object) -> list[float]:
    rows = table[table["metric"] == metric]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.sort_values("seed")["value"].to_list()


def test_losses_are_means_over_available_labels() -> None:
    model = SharedBottom(3, [4], 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.tensor([[1, 0, 1, 1, 0, 0], [0.5, -2.0, 1.5, 3.0, 0.0, 1.0]], dtype=torch.float64)
    losses_fn = task_losses(["classification", "regression"])
    full = losses_fn(model, (x, y))
    assert full[0].item() == pytest.approx(binary_losses(model, (x, y))[0].item(), abs=1e-12)
    assert full[1].item() == pytest.approx((model(x)[1] - y[1]).square().mean().item(), abs=1e-12)
    hidden = y.clone()
    hidden[0, 2:] = torch.nan
    hidden[1] = torch.nan
    some, none = losses_fn(model, (x, hidden))
    assert some.item() == pytest.approx(binary_losses(model, (x[:2], y[:, :2]))[0].item(), abs=1e-12)
    assert none.item() == 0
    (some + none).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    moved = [any(bool(p.grad.any()) for p in head.parameters() if p.grad is not None) for head in model.heads]
    assert moved == [True, False]
    with pytest.raises(ValueError, match=r"Found 'ranking'"):
        task_losses(["ranking"])


def test_folds_are_prepared_once_and_as_asked() -> None:
    plain = folds_of(BASE, [5, 6])
    assert folds_of({**BASE, "method": "DWA"}, [5, 6]) is plain
    few = folds_of({**BASE, "train_rows": 100}, [5, 6])
    assert few.train.inputs.shape == (2, 100, 4)
    assert np.array_equal(few.test.inputs, plain.test.inputs)
    assert folds_of({**BASE, "validation_rows": 30}, [5, 6]).validation.inputs.shape == (2, 30, 4)
    scarce = folds_of({**BASE, "main_labels": 60}, [5, 6])
    assert (~np.isnan(scarce.train.targets[:, 0])).sum(1).tolist() == [60, 60]
    assert scarce.validation.targets.shape[2] == 20  # in proportion, and no row without a main label
    assert not np.isnan(scarce.validation.targets[:, 0]).any()
    late = folds_of({**BASE, "protocol": "time", "periods": [5, 8]}, [5, 6])
    assert late.train.inputs.shape[1] < plain.train.inputs.shape[1] / 2
    with pytest.raises(ValueError, match=r"Found 'random'"):
        folds_of({**BASE, "protocol": "random"}, [5])
    with pytest.raises(ValueError, match=r"Found `train_rows = 301`"):
        folds_of({**BASE, "train_rows": 301}, [5])
    with pytest.raises(ValueError, match=r"rows of the validation fold, 100. Found `validation_rows = 101`"):
        folds_of({**BASE, "validation_rows": 101}, [5])
    with pytest.raises(ValueError, match=r"Found 'made up'"):
        folds_of({**BASE, "horizon_days": 7}, [5])


def test_initialisations_of_a_split_share_its_one_copy_of_the_data() -> None:
    seeds = [5, 10_005, 6]
    problem = prepare({**BASE, "seeds": seeds}, [*seeds, 10_005])
    assert problem.train.source.tolist() == [0, 0, 1, 0]
    folds = folds_of(BASE, [5, 6])
    assert np.array_equal(problem.train.inputs.numpy(), folds.train.inputs)
    first, second, _, again = problem.model.stack.get_parameter("trunk.0.weight")
    assert not torch.equal(first, second)
    assert torch.equal(second, again)
    order = next(next(problem.epochs(1)))[0]
    assert not torch.equal(order[0], order[1])
    several = train_grid({**BASE, "inits": 3})
    assert several.groupby("metric").size().unique().tolist() == [6]
    first = several[several["initialisation"] == 0]
    assert values(first, "test log loss") == pytest.approx(values(train_grid(BASE), "test log loss"), abs=1e-10)
    second = several[(several["initialisation"] == 1) & (several["seed"] == 6)]
    alone = train_grid({**BASE, "seeds": [10_006]})
    assert values(second, "test log loss") == pytest.approx(values(alone, "test log loss"), abs=1e-10)


def test_regularised_runs_have_their_knobs_as_columns_and_none_is_no_change() -> None:
    static = {**BASE, "method": "static grid"}
    table = train_grid({**static, "decays": [0.0, 30.0], "dropouts": [0.0, 0.5]})
    plain = values(train_grid(static), "test log loss")
    assert values(table, "test log loss", decay=0.0, dropout=0.0) == pytest.approx(plain, abs=1e-12)
    others = [values(table, "test log loss", decay=d, dropout=p)[0] for d, p in ((0.0, 0.5), (30.0, 0.0), (30.0, 0.5))]
    assert len({round(value, 6) for value in [*others, plain[0]]}) == 4
    assert train_grid({**static, "dtype": "float32"})["value"].to_numpy() == pytest.approx(
        train_grid(static)["value"].to_numpy(), abs=1e-3
    )


def test_withheld_rows_are_not_trained_on() -> None:
    train = folds_of(BASE, [5, 6]).train
    used, withheld = withhold(train, 0.2, [5, 6])
    assert (used.inputs.shape[1], withheld.inputs.shape[1]) == (240, 60)
    for split in range(2):
        both = np.concatenate([used.inputs[split], withheld.inputs[split]])
        assert np.array_equal(np.sort(both, axis=0), np.sort(train.inputs[split], axis=0))
    problem = prepare({**BASE, "gain_data": "held out"}, [5, 6])
    assert problem.withheld is not None
    assert problem.train.num_rows == 240


def test_measures_by_hand() -> None:
    labels = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    logits = np.log(np.array([0.1, 0.3, 0.3, 0.5, 0.8, 0.9]) / (1 - np.array([0.1, 0.3, 0.3, 0.5, 0.8, 0.9])))
    predicted, observed = calibration_bins(labels, logits, 3)
    assert predicted.tolist() == pytest.approx([0.2, 0.4, 0.85])
    assert observed.tolist() == pytest.approx([0.0, 0.5, 1.0])
    labels, logits = np.tile(labels, 10), np.tile(logits, 10)
    found = fold_measures(np.stack([labels, labels]), np.stack([logits, np.full(60, np.nan)]))
    assert found["test PR-AUC"][0] == pytest.approx(average_precision_score(labels, logits))
    assert found["test AUC"][0] == pytest.approx(roc_auc_score(labels, logits))
    assert all(np.isnan(numbers[1]) for numbers in found.values())


def test_facts_count_the_inputs_that_the_network_reads() -> None:
    cards = {**BASE, "dataset": "credit_cards", "seeds": [5]}
    weights = prepare(cards, [5]).model.stack.get_parameter("trunk.0.weight")  # [R, H, inputs]
    found = facts_of(describe(cards))
    assert found.inputs == weights.shape[2] > folds_of(cards, [5]).task.inputs.shape[1]


def test_calibration_error_sees_what_auc_does_not() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 1, size=20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-logits))).astype(float)
    assert calibration_error(labels, logits) < 0.02
    assert calibration_error(labels, logits + 1) > 0.1


@pytest.mark.parametrize("method", [*STATIC, *BATCHED, "PCD", "PCGrad", "HydaLearn"])
def test_every_method_learns_a_learnable_task(method: str) -> None:
    table = train_grid({**BASE, "method": method, "rates": [0.03], "epochs": 6})
    assert values(table, "failed") == [0.0, 0.0]
    assert min(values(table, "test AUC")) > 0.9
    assert min(values(table, "test PR-AUC")) > 0.9


def test_a_run_in_a_crowd_equals_the_run_alone_and_tuning_sees_no_test_fold() -> None:
    static = {**BASE, "method": "static grid"}
    crowd = train_grid({**static, "rates": [0.01, 0.03], "scales": [1.0, 3.0]})
    alone = train_grid({**static, "rates": [0.03], "seeds": [6]})
    tuned = tune_grid({**static, "rates": [0.03]})
    for metric in ("validation loss", "test log loss", "test AUC"):
        row = crowd[(crowd["rate"] == 0.03) & (crowd["scale"] == 1.0) & (crowd["seed"] == 6)]
        assert values(row, metric) == pytest.approx(values(alone, metric), abs=1e-10)
    assert len(set(np.round(values(crowd, "test log loss"), 8))) == 8  # every setting and seed is another run
    assert values(tuned, "validation loss")[1] == pytest.approx(values(alone, "validation loss")[0], abs=1e-10)
    assert not tuned["metric"].str.startswith("test").any()


def test_a_diverged_run_is_a_missing_number_not_a_good_one() -> None:
    table = train_grid({**BASE, "rates": [1e200], "seeds": [5]})
    assert values(table, "failed") == [1.0]
    assert np.isnan(values(table, "test log loss") + values(table, "test AUC")).all()


def test_gains_on_other_data_train_another_run() -> None:
    same, other, held_out = (
        values(train_grid({**BASE, "gain_data": data}), "test log loss") for data in ("same", "other", "held out")
    )
    assert values(train_grid(BASE), "test log loss") == same
    assert np.abs(np.subtract(same, other)).min() > 1e-6
    assert np.abs(np.subtract(held_out, other)).min() > 1e-6
    with pytest.raises(ValueError, match=r"Found 'elsewhere'"):
        train_grid({**BASE, "gain_data": "elsewhere"})


def test_comparison_takes_the_studys_cells() -> None:
    found = compare(
        Results("90_toy", "fast"), {k: v for k, v in BASE.items() if k not in ("method", "rates", "scales", "seeds")},
        ["single task", "equal weights"], rates=[0.003, 0.03], scales=[1.0], tuning_seeds=[9], seeds=[5, 6],
        tune=tune_grid, train=train_grid,
    )  # fmt: skip
    assert not found.tuned["metric"].str.startswith("test").any()
    assert found.chosen["single task"].rate == 0.03
    assert len(set(values(found.fresh, "test log loss"))) == 4


def test_regularisers_are_tuned_at_the_best_rate_and_the_rivals_are_trained() -> None:
    base = {k: v for k, v in BASE.items() if k not in ("method", "rates", "scales", "seeds")}
    found = compare(
        Results("90_toy", "fast"), {**base, "inits": 2}, ["static grid"], rates=[0.01, 0.03], scales=[1.0, 3.0],
        tuning_seeds=[7, 8, 9], seeds=[5, 6], tune=tune_grid, train=train_grid, rivals=1,
        regularisers={"decays": [0.0, 1.0], "dropouts": [0.0, 0.5]},
    )  # fmt: skip
    choice = found.chosen["static grid"]
    assert set(choice.setting) == {"scale", "rate", "decay", "dropout"}
    settings = found.tuned[["scale", "rate", "decay", "dropout"]].drop_duplicates()
    assert len(settings) == 4 + 3
    regularised = settings[(settings["decay"] > 0) | (settings["dropout"] > 0)]
    plain = found.tuned[(found.tuned["decay"] == 0) & (found.tuned["dropout"] == 0)]
    losses = plain[plain["metric"] == "validation loss"].groupby(["scale", "rate"])["value"].mean()
    assert regularised[["scale", "rate"]].drop_duplicates().to_numpy().tolist() == [[*losses.sort_values().index[0]]]
    assert found.retuned("static grid", "test log loss").values.shape == (1 + len(choice.rivals), 2, 2)


def test_static_weights_are_those_of_the_configuration() -> None:
    problem = prepare(BASE, [5, 6])
    batch = problem.train.batch(torch.arange(30).expand(2, -1))
    for method, weight in (("single task", 0.0), ("static grid", 1.0)):
        step = configured(problem, problem.scaled_losses([1.0, 2.0]), {**BASE, "method": method}).backward(batch)
        assert step.weights.tolist() == [[1.0, 1.0], [weight, weight]]


def test_listed_settings_train_as_in_a_grid() -> None:
    listed = tune_listed(
        {**BASE, "rates": [0.01, 0.03], "scales": [3.0, 1.0], "decays": [0.0, 0.3], "dropouts": [0.0, 0.0]}
    )
    grid = tune_grid({**BASE, "rates": [0.03], "scales": [1.0], "decays": [0.3], "dropouts": [0.0]})
    assert listed.groupby(["rate", "scale", "decay", "dropout"]).ngroups == 2
    assert values(listed, "validation loss", rate=0.03) == pytest.approx(values(grid, "validation loss"), rel=1e-9)
    with pytest.raises(ValueError, match="shorter"):
        tune_listed({**BASE, "rates": [0.01, 0.03]})
