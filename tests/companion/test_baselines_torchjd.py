"""TorchJD's aggregators as weightings: the same gradient, run by run, and a sentence where one cannot run."""

import importlib.util
import math
import sys
from functools import partial
from typing import Any

import pytest
import torch
from companion.baselines import AGGREGATORS, TorchJDWeighting, aggregators, make_aggregator, make_baseline, not_run
from companion.networks.shared_bottom import SharedBottom
from companion.train.stacked import StackedModel
from torch import Tensor, nn
from torchjd import aggregation

from mtlcore.task_gradients import zero_task_grad

INSTALLED = [
    pytest.param(name, marks=pytest.mark.skipif(not_run(name) is not None, reason=str(not_run(name))))
    for name in AGGREGATORS
]


def losses_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Mean squared errors of two tasks in conflict, each [] or [R]."""
    x, y = batch
    return [s * (out - y_t).square().mean(-1) for s, out, y_t in zip((1, 3), model(x), y, strict=True)]


def made_model(seed: int) -> SharedBottom:
    return SharedBottom(4, [5], 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made_batch(step: int, runs: list[int]) -> tuple[Tensor, Tensor]:
    generators = [torch.Generator().manual_seed(100 * r + step) for r in runs]
    x = torch.stack([torch.randn(12, 4, generator=g, dtype=torch.float64) for g in generators])  # [R, B, F]
    return x, torch.stack([x[..., 0], x[..., 1] - x[..., 0]])


def shared_of(model: nn.Module) -> list[Tensor]:
    return [p for name, p in model.named_parameters() if "trunk" in name]


def jacobian_of(losses: list[Tensor], shared: list[Tensor]) -> Tensor:
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP")  # called itself below
@pytest.mark.parametrize("name", INSTALLED)
def test_gives_the_aggregator_s_own_gradient(name: str) -> None:
    model, aggregator = made_model(0), make_aggregator(name, 2)
    shared = shared_of(model)
    weighting = make_baseline(name, model, losses_fn, shared, kinds=["regression"] * 2, steps_per_epoch=1)
    for step in range(3):
        x, y = made_batch(step, [0])
        jacobian = jacobian_of(losses_fn(model, (x[0], y[:, 0])), shared)
        expected = aggregator(jacobian)
        model.zero_grad()
        zero_task_grad(shared)
        found = weighting.backward((x[0], y[:, 0]))
        gradient = torch.cat([p.grad.flatten() for p in shared])  # type: ignore[union-attr]
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-7)
        torch.testing.assert_close(found.weights @ jacobian, expected, rtol=0, atol=1e-7)
        assert shared[0].task_weights is found.weights  # type: ignore[attr-defined]
        assert gradient.abs().max() > 1e-3


def test_pcgrad_by_hand() -> None:
    x = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    head = nn.Parameter(torch.ones((), dtype=torch.float64))
    model = nn.ParameterList([x, head])
    g = torch.tensor([[2.0, 0], [-1, 1]], dtype=torch.float64)
    weighting = TorchJDWeighting(
        model, lambda model, _: [g[0] @ model[0], g[1] @ model[0] + 5 * model[1]], [x], aggregation.PCGrad
    )
    step = weighting.backward(None)
    # g0.g1 = -2, |g0|^2 = 4, |g1|^2 = 2: g0 + g1 = (1, 1) from the first and g1 + g0 / 2 = (0, 1) from the second
    assert step.weights.tolist() == [1.5, 2.0]
    assert x.grad is not None
    assert head.grad is not None
    assert x.grad.tolist() == [1.0, 2.0]
    assert head.grad.item() == 5.0  # its own task's, not scaled


def trained(name: str, runs: list[int]) -> tuple[nn.Module, Tensor]:
    model = StackedModel([made_model(r) for r in runs])
    make = partial(make_aggregator, name, 2)
    weighting = TorchJDWeighting(model, losses_fn, shared_of(model), make)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    weights = []
    for step in range(3):
        optimizer.zero_grad()
        zero_task_grad(model.parameters())
        weights.append(weighting.backward(made_batch(step, runs)).weights)
        optimizer.step()
    return model, torch.stack(weights)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_run_in_a_crowd_equals_the_run_alone(name: str) -> None:
    together, weights = trained(name, [0, 1])
    assert weights.shape == (3, 2, 2)
    for r in range(2):
        alone, weights_alone = trained(name, [r])
        torch.testing.assert_close(weights[..., r], weights_alone[..., 0], rtol=0, atol=1e-6)
        for p, q in zip(together.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p[r], q[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_broken_run_gets_nan_weights_and_stops_no_other(name: str) -> None:
    model = StackedModel([made_model(r) for r in (0, 1)])
    weighting = TorchJDWeighting(model, losses_fn, shared_of(model), partial(make_aggregator, name, 2))
    x, y = made_batch(0, [0, 1])
    y[1, 0] = math.inf
    step = weighting.backward((x, y))
    assert step.weights.isnan().tolist() == [[True, False], [True, False]]
    for p in shared_of(model):
        assert p.grad is not None
        assert p.grad[0].isnan().any()
        assert p.grad[1].isfinite().all()


@pytest.mark.parametrize("name", ["CAGrad", "Nash-MTL"])
def test_a_missing_solver_is_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda _: None)
    reason = not_run(name)
    assert reason is not None
    assert reason.startswith("not run: ")
    assert "cvxpy" in reason
    assert not_run("MGDA") is None


def test_missing_torchjd_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name="torchjd")

    monkeypatch.setattr("companion.baselines.aggregators.import_module", absent)
    expected = "not run: MGDA is TorchJD's, and torchjd is not installed. Install it with: pip install torchjd"
    assert not_run("MGDA") == expected


def test_refuses_an_aggregator_without_weights_and_unknown_names() -> None:
    model = made_model(0)
    with pytest.raises(ValueError, match=r"aggregator that weights the tasks. Found ConFIG"):
        TorchJDWeighting(model, losses_fn, shared_of(model), aggregation.ConFIG)
    with pytest.raises(ValueError, match=r"`name` should be one of 'PCGrad'"):
        make_aggregator("PC-Grad", 2)
    with pytest.raises(ValueError, match=r"`num_tasks` should be an integer"):
        make_aggregator("PCGrad", 0)


def test_the_module_imports_without_torchjd(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchjd"]:
        monkeypatch.setitem(sys.modules, name, None)  # an import of it now raises
    spec = importlib.util.spec_from_file_location("fresh", aggregators.__file__)
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert "torchjd.aggregation is not installed" in fresh.not_run("MGDA")
