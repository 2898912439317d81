"""The scale-gap study: its problems, what a program of many runs gives, and shares computed by hand."""

import math
from typing import Any

import pandas as pd
import pytest
import torch
from companion.networks.shared_bottom import SharedBottom
from companion.problems.scale_gap import Family, folds
from companion.studies.adatask_synthetic.study import train_cell
from companion.train.layer_shares import NUM_BINS, adam_share, by_prediction, histogram, share, summary
from companion.train.losses import loss_weights
from torch import Tensor

from mtlcore import reference

CELL: dict[str, Any] = {
    "noise": [0.3, 0.3], "own_part": 0.5, "rows": 0, "hidden": [12, 12], "optimizer": "Adam", "decay": 0.0,
    "method": "joint", "seeds": [3, 4], "spreads": [1.0], "rates": [0.01], "steps": 60, "batch_size": 16,
    "held_out": 100, "device": "cpu", "record": True,
}  # fmt: skip


def cell(**changes: Any) -> pd.Series:
    table = train_cell({**CELL, **changes})
    return table.set_index(["metric", "layer", "task", "spread", "rate", "seed"])["value"].sort_index()


@pytest.mark.parametrize(("own_part", "related"), [(0.0, (0.999, 1.001)), (0.5, (0.2, 0.95)), (1.0, (-0.6, 0.6))])
def test_targets_have_one_scale_and_are_as_related_as_asked(own_part: float, related: tuple[float, float]) -> None:
    family = Family([0.0, 1.0], own_part)
    correlations = []
    for seed in range(5):
        inputs, functions, labels = family.draw(seed, 4000)
        assert inputs.shape == (4000, 8)
        torch.testing.assert_close(functions.mean(1), torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)
        torch.testing.assert_close(functions.std(1), torch.ones(2, dtype=torch.float64), atol=1e-9, rtol=0)
        torch.testing.assert_close(labels[0], functions[0])
        assert (labels[1] - functions[1]).std().item() == pytest.approx(1.0, abs=0.05)
        correlations.append(torch.corrcoef(functions)[0, 1].item())
    assert related[0] < sum(correlations) / 5 < related[1]


def test_folds_are_disjoint_rows_of_each_seed_and_only_training_is_noisy() -> None:
    source = torch.tensor([1, 0, 1])
    train, validation, test = folds(Family([0.5, 0.5], 0.5), [7, 8], source, 30, 20)
    inputs, functions, labels = Family([0.5, 0.5], 0.5).draw(8, 70)
    x, y = train.batch(torch.arange(30).expand(3, -1))
    assert torch.equal(x[0], inputs[:30])
    assert torch.equal(y[:, 2], labels[:, :30])
    assert not torch.equal(x[1], x[0])
    for fold, rows in ((validation, slice(30, 50)), (test, slice(50, 70))):
        x, y = fold.batch(torch.arange(20).expand(3, -1))
        assert torch.equal(x[0], inputs[rows])
        assert torch.equal(y[:, 0], functions[:, rows])


def test_loss_weights_are_equal_ratios() -> None:
    assert loss_weights(2, 10.0).tolist() == [1, 10]
    assert loss_weights(4, 1000.0).tolist() == pytest.approx([1, 10, 100, 1000])


def test_a_run_in_a_crowd_is_the_run_alone() -> None:
    for method in ("joint", "AdaTask", "per-task RMS", "constant weights", "uncertainty weighting"):
        record = method != "uncertainty weighting"
        crowd = cell(method=method, spreads=[1.0, 10.0], rates=[0.003, 0.01], record=record)
        alone = cell(method=method, spreads=[10.0], rates=[0.01], seeds=[4], record=record)
        pd.testing.assert_series_equal(crowd[alone.index], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rows", "decay"), [(0, 0.0), (320, 0.3)])
def test_a_run_is_torchs_own_training_whose_rate_falls_to_zero(rows: int, decay: float) -> None:
    """One run of the program by hand: torch's AdamW with rate and decay in the optimizer, fresh or repeated rows."""
    source, size = torch.tensor([0]), rows or 60 * 16
    data, _, test = folds(Family([0.3, 0.3], 0.5), [4], source, size, 100)
    model = SharedBottom(8, [12, 12], 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=decay)
    order = torch.Generator().manual_seed(4)
    batches = [
        batch for _ in range(60 * 16 // size) for batch in torch.split(torch.randperm(size, generator=order), 16)
    ]
    for i, batch in enumerate(batches):
        x, y = data.batch(batch[None])
        optimizer.zero_grad()
        errors = (torch.stack(model(x[0])) - y[:, 0]).square().mean(-1)
        torch.autograd.backward(errors[0] + 10 * errors[1])
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - i / 60)
        optimizer.step()
    x, y = test.batch(torch.arange(100)[None])
    with torch.no_grad():
        expected = (torch.stack(model(x[0])) - y[:, 0]).square().mean(-1)
    found = cell(seeds=[4], spreads=[10.0], record=False, rows=rows, decay=decay)["test loss"]
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_the_null_level_is_of_one_task_alone_whose_halves_differ_by_chance() -> None:
    null = cell(method="first task against itself")
    assert "test loss" not in null.index.get_level_values("metric")
    assert null["last task, updates, mean"].to_numpy() == pytest.approx(0.5, abs=0.15)
    assert 0 < null["dominated, updates, mean"].xs(0, level="layer").min() < 0.5
    other_noise = cell(method="first task against itself", noise=[0.3, 2.0])
    pd.testing.assert_series_equal(other_noise, null)  # the other task's labels do not matter


def test_recording_changes_nothing_and_single_tasks_are_alone() -> None:
    recorded, plain = cell(), cell(record=False)
    pd.testing.assert_series_equal(recorded[plain.index], plain, rtol=1e-9)
    single = cell(method="single task", record=False)
    assert len(single) == 2 * 2 * 2  # folds, tasks, seeds
    other_noise = cell(method="single task", noise=[0.3, 2.0], record=False)
    first = single.xs(1, level="task")
    pd.testing.assert_series_equal(other_noise.xs(1, level="task"), first)  # the other task's labels do not matter


def test_a_scale_gap_dominates_joint_training_and_adatask_and_the_rms_control_erase_it() -> None:
    def dominated(method: str, spread: float, what: str = "updates") -> float:
        found = cell(method=method, spreads=[spread])
        assert found["dead parameters"].max() < 40
        return float(found.loc[f"dominated, {what}, end", 0].mean())

    assert dominated("joint", 100.0) > 0.9
    assert dominated("joint", 1.0) < 0.5
    assert dominated("constant weights", 100.0) < 0.5
    assert dominated("AdaTask", 100.0) < 0.1
    assert dominated("AdaTask", 100.0, "gradients") > 0.9
    for method in ("AdaTask", "per-task RMS"):  # up to epsilon, which does not scale
        losses = [cell(method=method, spreads=[spread], record=False).to_numpy() for spread in (1.0, 100.0)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3), method
    joint = [cell(spreads=[spread], record=False).to_numpy() for spread in (1.0, 100.0)]
    assert abs(joint[1] / joint[0] - 1).max() > 0.1


def test_summary_by_hand_and_dead_parameters_are_left_out() -> None:
    au = torch.tensor([[[9.5, 1.0, 0.0]], [[0.5, 3.0, 0.0]]])  # [T, R, n], the last parameter dead
    found = {name: value.item() for name, value in summary(share(au)).items()}
    assert found == pytest.approx({"dominated": 0.5, "least served": (0.05 + 0.25) / 2, "last task": (0.05 + 0.75) / 2})


def test_histogram_and_bins_by_hand() -> None:
    relative = torch.tensor([[0.0, 0.05, 0.09, 1.0, math.nan]])
    counts = histogram(relative)[:, 0]
    assert counts[[0, 1, NUM_BINS - 1]].tolist() == [0.25, 0.5, 0.25]
    means = by_prediction(torch.tensor([[0.2, 0.4, 0.9, 0.5, 0.5]]), relative)[:, 0]
    assert means[[0, 1, NUM_BINS - 1]].tolist() == pytest.approx([0.2, 0.65, 0.5])
    assert means[2].isnan()


def test_the_share_that_the_signal_to_noise_ratio_predicts_is_the_measured_one() -> None:
    """Streams of known mean and noise through AdaTask-Adam's equations, for two tasks and many parameters."""
    generator = torch.Generator().manual_seed(0)
    means, noise = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.1], [1.0]])  # nearly all signal against all noise
    theta, au = torch.zeros(400, dtype=torch.float64), [torch.zeros(400), torch.zeros(400)]
    state: dict[int, Any] = {}
    mean = square = torch.zeros(2, 400, dtype=torch.float64)
    for _ in range(1500):
        g = (means + noise * torch.randn(2, 400, generator=generator)).double()
        theta, delta = reference.adatask_adam(theta, list(g), state, lr=0.01)
        au = reference.accumulated_updates(au, delta, 0.99)
        mean, square = 0.99 * mean + 0.01 * g, 0.99 * square + 0.01 * g.square()
    measured: Tensor = torch.stack(reference.relative_updates(au)).mean(1)
    predicted = adam_share(mean, square, 0.99).mean(1)
    c = 0.1 / 1.9
    by_hand = torch.tensor([(1 + c * 0.01) / 1.01, c])
    torch.testing.assert_close(measured, (by_hand / by_hand.sum()).double(), atol=0.01, rtol=0)
    torch.testing.assert_close(predicted, (by_hand / by_hand.sum()).double(), atol=0.01, rtol=0)
    assert measured[0] < 1 / (1 + c) + 0.01  # the bound
