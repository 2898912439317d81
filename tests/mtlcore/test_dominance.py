"""Dominance: the tasks' updates are the real ones, sum to the whole, and make the AU and rAU worked out by hand."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtlcore import reference
from mtlcore.adatask import AdaTaskAdagrad, AdaTaskAdam, AdaTaskAdamW, AdaTaskRMSprop
from mtlcore.dominance import Dominance
from mtlcore.task_gradients import combine, zero_task_grad

JOINT: list[tuple[Any, dict[str, Any]]] = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"amsgrad": True, "betas": (0.0, 0.9), "eps": 1e-3}),
    (torch.optim.AdamW, {"amsgrad": True, "weight_decay": 0.0}),
    (torch.optim.Adagrad, {}),
    (torch.optim.Adagrad, {"lr_decay": 0.2, "initial_accumulator_value": 0.5}),
    (torch.optim.RMSprop, {}),
    (torch.optim.RMSprop, {"centered": True, "alpha": 0.8}),
    (torch.optim.RMSprop, {"momentum": 0.9}),
    (torch.optim.RMSprop, {"centered": True, "momentum": 0.9}),
]
PER_TASK: list[tuple[Any, dict[str, Any]]] = [
    (AdaTaskAdam, {}),
    (AdaTaskAdam, {"amsgrad": True, "betas": (0.0, 0.9), "weight_decay": 0.3}),
    (AdaTaskAdamW, {"weight_decay": 0.0}),
    (AdaTaskAdagrad, {}),
    (AdaTaskAdagrad, {"lr_decay": 0.2, "initial_accumulator_value": 0.5, "weight_decay": 0.3}),
    (AdaTaskRMSprop, {}),
    (AdaTaskRMSprop, {"centered": True, "alpha": 0.8, "weight_decay": 0.3}),
    (AdaTaskRMSprop, {"momentum": 0.9, "weight_decay": 0.3}),
    (AdaTaskRMSprop, {"centered": True, "momentum": 0.9}),
]


def name(case: object) -> str:
    """The identifier of a test case: an optimizer's class name, or its options."""
    return str(getattr(case, "__name__", case))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def parameter(value: Tensor) -> Any:
    """A parameter, typed so that the task attributes can be set by hand."""
    return nn.Parameter(value)


def gradient(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Recorder(Dominance):
    """Keeps the signed updates of the last step beside their average of squares."""

    def __init__(self, optimizer: torch.optim.Optimizer, decay: float = 0.99) -> None:
        super().__init__(optimizer, decay)
        self.updates: dict[Tensor, Tensor] = {}

    def _of_joint(self, p: Any, *rest: Any) -> Tensor:
        self.updates[p] = super()._of_joint(p, *rest)
        return self.updates[p]

    def _of_adatask(self, p: Any, *rest: Any) -> Tensor:
        self.updates[p] = super()._of_adatask(p, *rest)
        return self.updates[p]


@pytest.mark.parametrize("flags", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize(("kind", "options"), JOINT, ids=name)
def test_updates_under_torchs_optimizers_sum_to_the_real_change(
    kind: Any, options: dict[str, Any], flags: dict[str, bool]
) -> None:
    if kind is torch.optim.RMSprop and "fused" in flags:
        pytest.skip("torch's RMSprop has no fused kernel")
    for maximize, weights in product([False, True], [None, [0.5, 3.0, 0.0], gradient(0, 3).abs()]):
        p = parameter(gradient(1, 4, 3))
        optimizer = kind([p], lr=0.05, maximize=maximize, **options, **flags)
        dominance = Recorder(optimizer)
        for s in range(5):
            p.task_grad, before = gradient(10 + s, 3, 4, 3), p.detach().clone()
            combine([p], weights)
            optimizer.step()
            torch.testing.assert_close(dominance.updates[p].sum(0), p.detach() - before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("flags", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize(("kind", "options"), PER_TASK, ids=name)
def test_updates_under_adatask_sum_to_the_real_change(
    kind: Any, options: dict[str, Any], flags: dict[str, bool]
) -> None:
    if kind is AdaTaskRMSprop and "fused" in flags:
        pytest.skip("torch's RMSprop has no fused kernel")
    for maximize, weights in product([False, True], [None, [0.5, 3.0, 0.0], gradient(0, 3).abs()]):
        p = parameter(gradient(1, 4, 3))
        optimizer = kind([p], num_tasks=3, lr=0.05, maximize=maximize, task_weights=weights, **options, **flags)
        dominance = Recorder(optimizer)
        for s in range(5):
            p.task_grad, before = gradient(10 + s, 3, 4, 3), p.detach().clone()
            p.task_reached = (True, s != 2, s > 0)
            optimizer.step()
            torch.testing.assert_close(dominance.updates[p].sum(0), p.detach() - before, rtol=0, atol=1e-12)
            for t, reached in enumerate(p.task_reached):
                assert dominance.updates[p][t].any() == reached or weights is not None


@pytest.mark.parametrize("decoupled", [False, True])
def test_weight_decay_is_no_tasks_under_torchs_optimizers(decoupled: bool) -> None:
    kind = torch.optim.AdamW if decoupled else torch.optim.SGD
    p = parameter(gradient(1, 5))
    optimizer = kind([p], lr=0.1, weight_decay=0.4)
    dominance = Recorder(optimizer)
    p.task_grad, before = gradient(2, 2, 5), p.detach().clone()
    combine([p])
    optimizer.step()
    decay = -0.1 * 0.4 * before
    torch.testing.assert_close(dominance.updates[p].sum(0) + decay, p.detach() - before, rtol=0, atol=1e-12)
    assert decay.abs().min() > 1e-4


def test_adam_splits_as_the_reference_does() -> None:
    p, weights = parameter(gradient(1, 6)), [0.5, 2.0]
    optimizer = torch.optim.Adam([p], lr=0.1)
    state: dict[str, Any] = {}
    dominance = Dominance(optimizer, decay=0.75)
    theta, au = p.detach().clone(), [torch.zeros(6).double()] * 2
    for s in range(5):
        p.task_grad = gradient(10 + s, 2, 6)
        combine([p], weights)
        optimizer.step()
        theta, delta = reference.joint_adam(theta, list(p.task_grad), state, lr=0.1, w=weights)
        au = reference.accumulated_updates(au, delta, rho=0.75)
    torch.testing.assert_close(dominance.au[p], torch.stack(au), rtol=1e-12, atol=0)
    expected = torch.stack(reference.relative_updates(au))
    torch.testing.assert_close(dominance.relative[p], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", [AdaTaskAdam, AdaTaskAdamW, AdaTaskAdagrad, AdaTaskRMSprop])
def test_adatask_accumulates_as_the_reference_does(kind: Any) -> None:
    step = {
        AdaTaskAdam: reference.adatask_adam,
        AdaTaskAdamW: reference.adatask_adam,
        AdaTaskAdagrad: reference.adatask_adagrad,
        AdaTaskRMSprop: reference.adatask_rmsprop,
    }[kind]
    p, weights = parameter(gradient(1, 6)), torch.tensor([0.5, 2.0]).double()
    optimizer = kind([p], num_tasks=2, lr=0.1, weight_decay=0.0, task_weights=weights)
    state: dict[int, Any] = {}
    dominance = Dominance(optimizer, decay=0.75)
    theta, au = p.detach().clone(), [torch.zeros(6).double()] * 2
    for s in range(5):
        p.task_grad = gradient(10 + s, 2, 6)
        optimizer.step()
        theta, delta = step(theta, list(p.task_grad), state, lr=0.1, w=list(weights))  # type: ignore[operator]
        au = reference.accumulated_updates(au, delta, rho=0.75)
    torch.testing.assert_close(dominance.au[p], torch.stack(au), rtol=1e-11, atol=0)


def test_two_tasks_by_hand() -> None:
    # One parameter, two steps of RMSprop with alpha 1/2, eps 0, lr 1; AU with decay 1/2.
    p = parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.RMSprop([p], lr=1.0, alpha=0.5, eps=0.0)
    dominance = Dominance(optimizer, decay=0.5)

    p.task_grad = torch.tensor([[3.0], [1.0]], dtype=torch.float64)
    combine([p])
    optimizer.step()
    # the gradient is 4 and v = 16 / 2 = 8: updates -3 / sqrt(8), -1 / sqrt(8); squares 9/8, 1/8; AU is half of them
    assert dominance.au[p].flatten().tolist() == pytest.approx([9 / 16, 1 / 16], abs=1e-15)
    assert dominance.relative[p].flatten().tolist() == pytest.approx([0.9, 0.1], abs=1e-15)

    p.task_grad = torch.tensor([[0.0], [4.0]], dtype=torch.float64)
    combine([p], weights=[1.0, 0.5])
    optimizer.step()
    # the gradient is 2 and v = (8 + 4) / 2 = 6: updates 0, -2 / sqrt(6); AU = [9/16, 1/16] / 2 + [0, 4/6] / 2
    assert dominance.au[p].flatten().tolist() == pytest.approx([27 / 96, 35 / 96], abs=1e-15)
    assert dominance.relative[p].flatten().tolist() == pytest.approx([27 / 62, 35 / 62], abs=1e-15)


@settings(max_examples=15, deadline=None)
@given(case=st.sampled_from(JOINT), share=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
def test_shares_of_one_gradient_are_shares_of_the_update(case: Any, share: float, seed: int) -> None:
    kind, options = case
    p = parameter(gradient(seed, 5))
    optimizer = kind([p], lr=0.05, **options)
    dominance = Recorder(optimizer)
    shares = torch.tensor([share, 1 - share], dtype=torch.float64).reshape(2, 1)
    for s in range(3):
        p.task_grad = shares * gradient(seed + s + 1, 5)
        combine([p])
        optimizer.step()
    update = dominance.updates[p]
    torch.testing.assert_close(update, shares * update.sum(0), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("kind", "options"), JOINT + PER_TASK, ids=name)
def test_identical_tasks_share_equally(kind: Any, options: dict[str, Any]) -> None:
    p = parameter(gradient(1, 5))
    optimizer = kind([p], **(options if kind.__module__.startswith("torch") else {**options, "num_tasks": 2}))
    dominance = Dominance(optimizer)
    for s in range(3):
        p.task_grad = gradient(s, 1, 5).repeat(2, 1)
        combine([p])
        optimizer.step()
    torch.testing.assert_close(dominance.relative[p], torch.full((2, 5), 0.5).double(), rtol=0, atol=1e-15)


def test_weights_are_those_that_made_the_gradient() -> None:
    p = parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([p], lr=1.0)
    dominance = Recorder(optimizer)
    p.task_grad = torch.tensor([[2.0], [torch.nan]], dtype=torch.float64)
    combine([p], [0.5, 0.0])  # a task of weight 0 is left out, whatever its gradient
    optimizer.step()
    assert dominance.updates[p].tolist() == [[-1.0], [0.0]]


def test_momentum_of_an_unreached_task_goes_on_under_joint_optimizers_only() -> None:
    for adatask in (False, True):
        p = parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = AdaTaskAdam([p], num_tasks=2) if adatask else torch.optim.Adam([p])
        dominance = Recorder(optimizer)
        for reached in ((True, True), (True, False)):
            p.task_grad = torch.tensor([[1.0], [2.0 * reached[1]]], dtype=torch.float64)
            p.task_reached = reached
            combine([p])
            optimizer.step()
        assert (dominance.updates[p][1].item() == 0) is adatask
        assert dominance.updates[p][0].item() < -1e-4


def test_parameters_without_a_task_gradient_or_without_a_step_are_not_recorded() -> None:
    shared, head, idle = (parameter(torch.ones(2)) for _ in range(3))
    optimizer = torch.optim.Adam([shared, head, idle])
    dominance = Dominance(optimizer)
    shared.task_grad = idle.task_grad = torch.ones(2, 2)
    combine([shared])
    head.grad = torch.ones(2)
    optimizer.step()
    assert list(dominance.au) == list(dominance.relative) == [shared]
    assert len(dominance.relative) == 1
    zero_task_grad([shared])
    before = dominance.au[shared].clone()
    optimizer.step()
    assert torch.equal(dominance.au[shared], before)


def test_layers_count_the_dead_and_the_dominated() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    weight, bias, head, _ = parameters = list[Any](model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    dominance = Dominance(optimizer, decay=0.0)
    weight.task_grad = torch.tensor([[[3.0, 0.0], [1.0, 4.0]], [[1.0, 0.0], [1.0, 0.0]]])  # AU 9:1, 0:0, 1:1, 16:0
    bias.task_grad = torch.tensor([[1.0, 0.0], [2.0, 0.0]])  # AU 1:4, 0:0
    combine([weight, bias])
    head.grad = torch.ones(1, 2)
    optimizer.step()
    layers = dominance.layers(model, threshold=0.85)
    assert list(layers) == ["0"]
    layer = layers["0"]
    torch.testing.assert_close(layer.relative, torch.tensor([2.6 / 4, 1.4 / 4]))
    assert layer.dominated.item() == 0.5
    assert (layer.dead.item(), layer.total) == (2, 6)
    assert dominance.relative[weight][:, 0, 1].isnan().all()
    assert dominance.layers(model, threshold=0.95)["0"].dominated.item() == 0.25


def test_a_layer_without_a_live_parameter_has_no_mean() -> None:
    model = nn.Linear(2, 1, bias=False)
    weight: Any = model.weight
    optimizer = torch.optim.SGD([weight])
    dominance = Dominance(optimizer)
    weight.task_grad = torch.zeros(2, 1, 2)
    combine([weight])
    optimizer.step()
    layer = dominance.layers(model)[""]
    assert layer.relative.isnan().all()
    assert layer.dominated.isnan()
    assert (layer.dead.item(), layer.total) == (2, 2)


def test_many_runs_are_summarised_run_by_run() -> None:
    model = nn.Linear(2, 3)
    alone = []
    g = torch.rand(4, 2, 3, 2)  # [R, T, ...]
    g[1, :, 0] = 0
    for r in range(4):
        weight: Any = model.weight
        optimizer = torch.optim.SGD([weight], lr=0.1)
        dominance = Dominance(optimizer)
        weight.task_grad = g[r]
        combine([weight])
        optimizer.step()
        alone.append(dominance.layers(model, threshold=0.7)[""])
    stacked: Any = nn.Parameter(torch.zeros(4, 3, 2))
    model.weight = stacked
    optimizer = torch.optim.SGD([stacked], lr=0.1)
    dominance = Dominance(optimizer)
    stacked.task_grad, stacked.task_runs = g.transpose(0, 1).contiguous(), 4
    combine([stacked])
    optimizer.step()
    zero_task_grad([stacked])
    together = dominance.layers(model, threshold=0.7)[""]
    assert together.relative.shape == (2, 4)
    torch.testing.assert_close(together.relative, torch.stack([layer.relative for layer in alone], dim=1))
    torch.testing.assert_close(together.dominated, torch.stack([layer.dominated for layer in alone]))
    assert together.dead.tolist() == [0, 2, 0, 0]
    assert together.total == 6


@pytest.mark.parametrize(("kind", "options"), [*JOINT, (AdaTaskAdam, {"num_tasks": 2})], ids=name)
def test_a_resumed_run_continues(kind: Any, options: dict[str, Any]) -> None:
    results = []
    for interrupted in (False, True):
        p = parameter(gradient(0, 3))
        optimizer = kind([p], lr=0.1, **options)
        dominance = Dominance(optimizer, decay=0.5)
        for s in range(6):
            if s == 3 and interrupted:
                file = io.BytesIO()
                torch.save((optimizer.state_dict(), dominance.state_dict()), file)
                file.seek(0)
                saved = torch.load(file)
                dominance.detach()
                optimizer = kind([p], lr=0.1, **options)
                optimizer.load_state_dict(saved[0])
                dominance = Dominance(optimizer)
                dominance.load_state_dict(saved[1])
            p.task_grad = gradient(s, 2, 3)
            combine([p], [0.5, 2.0])
            optimizer.step()
        results.append(dominance.au[p])
    assert torch.equal(results[0], results[1])


def test_a_detached_recorder_keeps_what_it_has() -> None:
    p = parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=0.1)
    dominance = Dominance(optimizer)
    p.task_grad = torch.ones(2, 2)
    combine([p])
    optimizer.step()
    kept = dominance.au[p].clone()
    dominance.detach()
    optimizer.step()
    assert torch.equal(dominance.au[p], kept)


def test_a_step_that_a_gradient_scaler_skips_in_the_kernel_is_not_counted() -> None:
    p = parameter(torch.ones(2))
    optimizer = torch.optim.Adam([p], lr=0.1, fused=True)
    dominance = Dominance(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for value in (1.0, torch.inf, 2.0):
        scaler.scale(p.sum()).backward()
        p.grad, p.task_grad = torch.full((2,), value), torch.full((2, 2), value / 2)
        scaler.step(optimizer)
        scaler.update()
        assert dominance.au[p].isfinite().all()
        assert (dominance.au[p] > 1e-6).all()
    assert optimizer.state[p]["step"].item() == 2


@pytest.mark.parametrize("kind", [torch.optim.Adam, AdaTaskAdam, AdaTaskRMSprop])
def test_low_precision_parameters_are_averaged_in_float32(kind: Any) -> None:
    p = parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = kind([p], lr=0.1) if kind is torch.optim.Adam else kind([p], num_tasks=2, lr=0.1)
    dominance = Dominance(optimizer)
    p.task_grad = torch.tensor([[1.0], [3.0]], dtype=torch.bfloat16).expand(2, 3).contiguous()
    combine([p])
    optimizer.step()
    assert dominance.au[p].dtype == torch.float32
    expected = 0.5 if kind is not torch.optim.Adam else 0.1
    torch.testing.assert_close(dominance.relative[p][0], torch.full((3,), expected), rtol=0.02, atol=0)


@pytest.mark.parametrize(("kind", "options"), JOINT + PER_TASK, ids=name)
def test_it_runs_on_the_meta_device(kind: Any, options: dict[str, Any]) -> None:
    model = nn.Linear(3, 4, device="meta")
    parameters: list[Any] = list(model.parameters())
    adatask = {"num_tasks": 2, "task_weights": [1.0, 2.0]}
    per_task = not kind.__module__.startswith("torch")
    optimizer = kind(parameters, **options, **(adatask if per_task else {"foreach": True}))
    dominance = Dominance(optimizer)
    for _ in range(2):
        for p in parameters:
            p.task_grad = torch.empty(2, *p.shape, device="meta")
            p.task_reached = (True, False)
        combine(parameters, torch.empty(2, device="meta"))
        optimizer.step()
    assert dominance.layers(model)[""].relative.shape == (2,)


def test_what_is_refused() -> None:
    p, q = parameter(torch.ones(3)), parameter(torch.ones(4))
    with pytest.raises(ValueError, match=r"Parameter `optimizer` should be .*SGD, Adam.* Found NAdam\."):
        Dominance(torch.optim.NAdam([p]))
    with pytest.raises(ValueError, match=r"Parameter `decay` should be in \[0, 1\)\. Found `decay = 1`\."):
        Dominance(torch.optim.SGD([p]), decay=1)
    p.task_grad = torch.ones(2, 3)
    optimizer = AdaTaskAdam([p], num_tasks=2)
    dominance = Dominance(optimizer)
    optimizer.step()
    other = Dominance(torch.optim.SGD([q]))
    with pytest.raises(ValueError, match=r"of the same parameters\. Found `au` of shape \(2, 3\) at position 0\."):
        other.load_state_dict(dominance.state_dict())
    assert not other.au


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop, AdaTaskAdam, AdaTaskAdagrad, AdaTaskRMSprop])
def test_every_device_is_near_float64_and_nothing_is_read_back(
    kind: Any, device: torch.device, no_synchronisation: Callable[[], AbstractContextManager[None]]
) -> None:
    options = {} if kind.__module__.startswith("torch") else {"num_tasks": 2, "task_weights": [0.5, 2.0]}
    recorded = []
    for where, dtype in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
        p = parameter(torch.ones(3, 4, device=where, dtype=dtype))
        optimizer = kind([p], lr=0.1, **options)
        dominance = Dominance(optimizer, decay=0.5)
        weights = torch.tensor([0.5, 2.0], device=where)
        for s in range(3):
            p.task_grad = gradient(s, 2, 3, 4).to(where, dtype)
            combine([p], weights)
            with no_synchronisation():
                optimizer.step()
        recorded.append(dominance.au[p].cpu().double())
    torch.testing.assert_close(recorded[1], recorded[0], rtol=2e-4, atol=1e-9)
