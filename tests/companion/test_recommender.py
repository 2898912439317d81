"""Recommendation networks, stacked and alone, and AUC by hand."""

import numpy as np
import pytest
import torch
from companion.metrics.recommenders import auc, grouped_auc
from companion.networks.recommenders import EmbeddedBottom, MMoE
from companion.networks.shared_bottom import binary_losses
from companion.train.stacked import StackedModel
from sklearn.metrics import roc_auc_score
from torch import nn

from mtlcore.adatask import AdaTaskAdam
from mtlcore.task_gradients import task_backward, task_grad_of, zero_task_grad

SIZES = {"user": 6, "film": 9, "genre": 3}


def row_of(p: torch.Tensor) -> torch.Tensor:
    """Task gradients of a parameter, `[T, *shape]`."""
    found = task_grad_of(p)
    assert found is not None
    return found


def build(kind: str, seed: int) -> EmbeddedBottom | MMoE:
    generator = torch.Generator().manual_seed(seed)
    if kind == "MMoE":
        return MMoE(SIZES, 4, experts=3, hidden=5, num_tasks=2, generator=generator, dtype=torch.float64)
    return EmbeddedBottom(SIZES, 4, [5, 5], num_tasks=2, generator=generator, dtype=torch.float64)


def batch(runs: int, rows: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(0, size, (runs, rows), generator=generator) for size in SIZES.values()]
    labels = torch.randint(0, 2, (2, runs, rows), generator=generator).double()
    return torch.stack(ids, dim=-1), labels


@pytest.mark.parametrize("kind", ["shared bottom", "MMoE"])
def test_stacked_runs_have_the_task_gradients_of_each_run_alone(kind: str) -> None:
    models = [build(kind, seed) for seed in range(3)]
    stacked = StackedModel(models)
    ids, labels = batch(3)
    assert isinstance(stacked.stack, EmbeddedBottom | MMoE)
    task_backward(binary_losses(stacked, (ids, labels)), stacked.stack.shared_parameters())
    for run, model in enumerate(models):
        task_backward(binary_losses(model, (ids[run], labels[:, run])), model.shared_parameters())
        for p, q in zip(stacked.stack.shared_parameters(), model.shared_parameters(), strict=True):
            assert torch.allclose(row_of(p)[:, run], row_of(q), rtol=0, atol=1e-14)
        grads = [
            (p.grad[run], q.grad)
            for p, q in zip(stacked.parameters(), model.parameters(), strict=True)
            if p.grad is not None and q.grad is not None
        ]
        assert len(grads) == 11  # of shared parameters the tasks' sum
        assert all(torch.allclose(p, q, rtol=0, atol=1e-14) for p, q in grads)


@pytest.mark.parametrize("kind", ["shared bottom", "MMoE"])
def test_layers_hold_every_shared_parameter_once(kind: str) -> None:
    model = build(kind, 0)
    names = list(model.shared_layers())
    assert names[:3] == list(SIZES)
    shared = model.shared_parameters()
    assert len({id(p) for p in shared}) == len(shared) == 3 + (2 if kind == "MMoE" else 4)
    assert names[3:] == (["experts"] if kind == "MMoE" else ["layer 1", "layer 2"])


def test_rows_that_no_example_names_have_no_gradient() -> None:
    model = build("shared bottom", 0)
    ids, labels = batch(1)
    ids[..., 1] %= 4
    task_backward(binary_losses(model, (ids[0], labels[:, 0])), model.shared_parameters())
    (film,) = model.shared_layers()["film"]
    assert row_of(film)[:, 4:].abs().max() == 0
    assert row_of(film)[:, :4].abs().amin(dim=(0, 2)).min() > 1e-9


def test_mixture_of_experts_by_hand() -> None:
    model = MMoE({"user": 1}, 1, experts=2, hidden=1, num_tasks=2, dtype=torch.float64)
    with torch.no_grad():
        for name, values in {
            "embeddings.tables.user.weight": 2.0,
            "experts.bias": 1.0,
            "gates.0.weight": 0.0,
            "heads.0.weight": 1.0,
            "heads.1.weight": 2.0,
            "heads.0.bias": 0.5,
            "heads.1.bias": 0.5,
        }.items():
            model.get_parameter(name).fill_(values)
        model.get_parameter("experts.weight").copy_(torch.tensor([[1.0], [-3.0]]))
        model.get_parameter("gates.1.weight").copy_(torch.tensor([[np.log(3) / 2], [0.0]]))
    # Experts say relu(2 + 1) = 3 and relu(-6 + 1) = 0; gates give the first 1/2 and, by log 3, 3/4 of the weight.
    first, second = model(torch.tensor([[0]]))
    assert first.item() == pytest.approx(0.5 * 3 + 0.5)
    assert second.item() == pytest.approx(2 * 0.75 * 3 + 0.5)


def test_equal_generators_draw_equal_models() -> None:
    for kind in ("shared bottom", "MMoE"):
        pairs = zip(build(kind, 1).parameters(), build(kind, 1).parameters(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs)
        others = zip(build(kind, 1).parameters(), build(kind, 2).parameters(), strict=True)
        assert not any(torch.equal(p, q) for p, q in others)


def test_an_optimizer_for_dense_gradients_refuses_sparse_ones() -> None:
    table = nn.Embedding(50, 3, sparse=True)
    out = table(torch.tensor([3, 3, 7]))
    task_backward([out.sum(), out.square().sum()], table.parameters())
    for _ in ("task gradients", "ordinary ones"):
        with pytest.raises(ValueError, match=r"should be real and dense. Found one of .* torch.sparse_coo"):
            AdaTaskAdam(table.parameters(), num_tasks=2, lr=0.1).step()
        zero_task_grad(table.parameters())


def test_auc_by_hand() -> None:
    # Positives 0.9, 0.4, 0.4; negatives 0.6, 0.4: of 6 pairs 0.9 wins 2, each 0.4 loses to 0.6 and ties with 0.4.
    assert auc([[1, 1, 1, 0, 0]], [[0.9, 0.4, 0.4, 0.6, 0.4]])[0] == pytest.approx((2 + 0.5 + 0.5) / 6)


def test_auc_averaged_over_users_by_hand() -> None:
    labels = [[1, 0, 1, 0, 1, 1, 0, 1], [1, 0, 1, 0, 1, 1, 0, 1]]
    scores = [[0.2, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.1], [0.0] * 8]
    users = [[7, 7, 4, 4, 4, 9, 2, 9], [7, 7, 4, 4, 4, 9, 2, 9]]
    # User 7: 1 of 1 pairs; user 4: 1 of 2; users 9 and 2 have one class. All scores equal: 1/2.
    found = grouped_auc(labels, scores, users)
    assert found.mean.tolist() == pytest.approx([0.75, 0.5])
    assert found.groups.tolist() == [2, 2]


def test_auc_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, users = rng.integers(0, 2, (5, 400)), rng.integers(0, 30, (5, 400))
    scores = rng.integers(0, 40, (5, 400)) / 7  # many ties
    expected = [roc_auc_score(y, z) for y, z in zip(labels, scores, strict=True)]
    assert auc(labels, scores) == pytest.approx(expected, abs=1e-12)
    found = grouped_auc(labels, scores, users)
    for run in range(5):
        each = [
            roc_auc_score(labels[run][mine], scores[run][mine])
            for mine in (users[run] == user for user in np.unique(users[run]))
            if len(np.unique(labels[run][mine])) == 2
        ]
        assert found.mean[run] == pytest.approx(np.mean(each), abs=1e-12)
        assert found.groups[run] == len(each)


def test_runs_without_an_auc_are_nan() -> None:
    labels = [[1, 1, 1], [0, 1, 0], [0, 1, 0]]
    scores = [[0.1, 0.2, 0.3], [0.1, np.nan, 0.2], [0.1, 0.2, 0.3]]
    assert np.isnan(auc(labels, scores)).tolist() == [True, True, False]
    found = grouped_auc(labels, scores, [[1, 2, 3]] * 3)
    assert np.isnan(found.mean).all()
    assert found.groups.tolist() == [0, 0, 0]
