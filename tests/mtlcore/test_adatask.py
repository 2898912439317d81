"""AdaTask's arithmetic: torch's optimizer for one task, the float64 reference for more, and what the paper claims."""

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
from mtlcore._adatask_checks import fit_fused
from mtlcore.adatask import AdaTaskAdagrad, AdaTaskAdam, AdaTaskAdamW, AdaTaskRMSprop
from mtlcore.task_gradients import combine

NoSynchronisation = Callable[[], AbstractContextManager[None]]  # of conftest.py

TORCH = {
    AdaTaskAdam: torch.optim.Adam,
    AdaTaskAdamW: torch.optim.AdamW,
    AdaTaskAdagrad: torch.optim.Adagrad,
    AdaTaskRMSprop: torch.optim.RMSprop,
}
REFERENCE: dict[type, Callable[..., Any]] = {
    AdaTaskAdam: reference.adatask_adam,
    AdaTaskAdamW: reference.adatask_adam,
    AdaTaskAdagrad: reference.adatask_adagrad,
    AdaTaskRMSprop: reference.adatask_rmsprop,
}
OPTIONS: dict[type, list[dict[str, Any]]] = {
    AdaTaskAdam: [{}, {"amsgrad": True, "betas": (0.8, 0.95), "eps": 1e-3}],
    AdaTaskAdamW: [{}, {"amsgrad": True, "betas": (0.0, 0.9)}],
    AdaTaskAdagrad: [{}, {"lr_decay": 0.3, "initial_accumulator_value": 0.2, "eps": 1e-3}],
    AdaTaskRMSprop: [{}, {"centered": True, "alpha": 0.9}, {"momentum": 0.7}, {"centered": True, "momentum": 0.7}],
}
CASES = [(kind, options) for kind, table in OPTIONS.items() for options in table]
SHAPES = [(5, 3), (7,), (), (2, 3, 4, 4)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def skip_without_kernel(kind: Any, flags: dict[str, Any], device: torch.device) -> None:
    if "fused" in flags and not fit_fused([torch.zeros(1, device=device)], kind.fused_op):
        pytest.skip(f"torch has no fused kernel of {kind.__name__} on {device.type}")


def parameter(value: Tensor) -> Any:
    """A parameter, typed so that the task attributes can be set by hand."""
    return nn.Parameter(value)


def parameters(seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return [parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]


def gradients(seed: int, num_tasks: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Task gradients [T, *shape] whose tasks differ in scale by 10."""
    generator = torch.Generator().manual_seed(seed)
    scale = 10.0 ** torch.arange(num_tasks, dtype=dtype)
    return [
        torch.randn(num_tasks, *shape, generator=generator, dtype=dtype) * scale.reshape(-1, *(1,) * len(shape))
        for shape in SHAPES
    ]


def train(optimizer: torch.optim.Optimizer, params: list[Any], num_tasks: int, steps: int = 4) -> None:
    """Takes steps with task gradients that depend on the step and the parameter's place only."""
    for s in range(steps):
        for p, g in zip(params, gradients(100 + s, num_tasks, params[0].dtype), strict=True):
            p.task_grad = g.to(p.device)
        optimizer.step()


@pytest.mark.parametrize("flags", [{"foreach": True}, {"foreach": False}, {"fused": True}, {"fused": False}], ids=str)
@pytest.mark.parametrize(("kind", "options"), CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_one_task_is_torchs_optimizer_to_the_bit(
    kind: type, options: dict[str, Any], flags: dict[str, Any], device: torch.device,
    no_synchronisation: NoSynchronisation,
) -> None:  # fmt: skip
    skip_without_kernel(kind, flags, device)
    for weight_decay, maximize in product([0.0, 0.1], [False, True]):
        both = {"weight_decay": weight_decay, "maximize": maximize, **options, **flags}
        ours = [parameter(p.detach().to(device)) for p in parameters(dtype=torch.float32)]
        theirs = [parameter(p.detach().clone()) for p in ours]
        adatask, joint = kind(ours, num_tasks=1, **both), TORCH[kind](theirs, **both)
        for s in range(4):
            for p, q, g in zip(ours, theirs, gradients(s, 1, torch.float32), strict=True):
                p.task_grad, q.grad = g.to(device), g[0].to(device)
            with no_synchronisation():
                adatask.step()
            joint.step()
        for p, q in zip(ours, theirs, strict=True):
            assert torch.equal(p, q)
            assert adatask.state[p].keys() == joint.state[q].keys()
            for name, value in joint.state[q].items():
                assert torch.equal(adatask.state[p][name][0], value)
                assert adatask.state[p][name].device == value.device


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 4])
@pytest.mark.parametrize(("kind", "options"), CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_equals_the_reference(kind: type, options: dict[str, Any], num_tasks: int) -> None:
    weightings = [None, [0.5, 2.0, 0.0, 1.5][:num_tasks], torch.tensor([0.3, 1.0, 2.5, 0.0][:num_tasks]).double()]
    for weight_decay, maximize, weights in product([0.0, 0.3], [False, True], weightings):
        both = {"lr": 0.05, "weight_decay": weight_decay, "maximize": maximize}
        params = parameters()
        train(kind(params, num_tasks=num_tasks, task_weights=weights, **both, **options), params, num_tasks)
        exact = {**both, **options, "w": weights}
        if "betas" in exact:
            exact["beta1"], exact["beta2"] = exact.pop("betas")
        if kind is AdaTaskAdamW:
            exact["decoupled"] = True
        for i, (p, theta) in enumerate(zip(params, parameters(), strict=True)):
            state: dict[int, Any] = {}
            value = theta.detach()
            for s in range(4):
                value, _ = REFERENCE[kind](value, list(gradients(100 + s, num_tasks)[i]), state, **exact)
            torch.testing.assert_close(p.detach(), value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("flags", [{}, {"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("kind", list(TORCH))
def test_every_kernel_on_every_device_is_near_float64(
    kind: type, flags: dict[str, Any], device: torch.device, no_synchronisation: NoSynchronisation
) -> None:
    skip_without_kernel(kind, flags, device)
    for weights in ([0.5, 1.5], torch.tensor([0.5, 1.5])):
        exact = parameters()
        train(kind(exact, num_tasks=2, lr=0.01, weight_decay=0.1, task_weights=weights), exact, 2)
        params = [parameter(p.detach().to(device, torch.float32)) for p in parameters()]
        weights = weights.to(device) if isinstance(weights, Tensor) else weights
        optimizer = kind(params, num_tasks=2, lr=0.01, weight_decay=0.1, task_weights=weights, **flags)
        for s in range(4):
            for p, g in zip(params, gradients(100 + s, 2), strict=True):
                p.task_grad = g.to(device, torch.float32)
            with no_synchronisation():
                optimizer.step()
        for p, q in zip(params, exact, strict=True):
            torch.testing.assert_close(p.detach().cpu().double(), q.detach(), rtol=0, atol=3e-6)  # steps are about 0.04


@pytest.mark.parametrize("kind", list(TORCH))
def test_a_tensor_as_learning_rate_and_weights_is_used_as_a_float_is(kind: type) -> None:
    results = []
    for lr, weights in product([0.03, torch.tensor(0.03, dtype=torch.float64)], [[0.5, 2.0], torch.tensor([0.5, 2.0])]):
        params = parameters()
        train(kind(params, num_tasks=2, lr=lr, weight_decay=0.1, task_weights=weights), params, 2)
        results.append(torch.cat([p.detach().flatten() for p in params]))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=1e-13)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(4)), kind=st.sampled_from(list(TORCH)), seed=st.integers(0, 1000))
def test_the_order_of_tasks_does_not_matter(order: list[int], kind: type, seed: int) -> None:
    weights, (g,) = torch.tensor([0.5, 1.0, 2.0, 0.1]), gradients(seed, 4)[:1]
    results = []
    for permutation in (list(range(4)), order):
        p = parameters(seed)[0]
        optimizer = kind([p], num_tasks=4, lr=0.1, weight_decay=0.2, task_weights=weights[permutation].tolist())
        for _ in range(3):
            p.task_grad = g[permutation]
            optimizer.step()
        results.append(p.detach())
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-13)


def quadratic_losses(p: Tensor, factor: float) -> list[Tensor]:
    return [factor * (p - 1).square().sum(), (p + 2).square().sum()]


def test_a_constant_factor_on_a_loss_is_erased_by_adatask_and_passed_by_joint_adam() -> None:
    moved = {}
    for kind, factor in product(("adatask", "joint"), (1.0, 1000.0)):
        p = parameter(torch.zeros(3, dtype=torch.float64))
        optimizer = AdaTaskAdam([p], num_tasks=2, eps=1e-12) if kind == "adatask" else torch.optim.Adam([p], eps=1e-12)
        for _ in range(50):
            p.task_grad = torch.stack([torch.autograd.grad(loss, p)[0] for loss in quadratic_losses(p, factor)])
            combine([p])
            optimizer.step()
        moved[kind, factor] = p.detach().clone()
    assert (moved["adatask", 1000.0] - moved["adatask", 1.0]).abs().max() < 2e-7
    assert (moved["joint", 1000.0] - moved["joint", 1.0]).abs().min() > 0.05


@settings(max_examples=15, deadline=None)
@given(kind=st.sampled_from(list(TORCH)), factor=st.floats(0.0, 8.0), as_tensor=st.booleans())
def test_weights_multiply_the_update(kind: type, factor: float, as_tensor: bool) -> None:
    moved = []
    for weight in (1.0, factor):
        (p,) = parameters()[:1]
        before, weights = p.detach().clone(), [weight, weight]
        optimizer = kind(
            [p],
            num_tasks=2,
            weight_decay=0.0,
            task_weights=torch.tensor(weights, dtype=p.dtype) if as_tensor else weights,
        )
        p.task_grad = gradients(7, 2)[0]
        optimizer.step()
        moved.append(p.detach() - before)
    torch.testing.assert_close(moved[1], factor * moved[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", list(TORCH))
def test_weights_per_run_equal_separate_runs(kind: type) -> None:
    weights = torch.tensor([[1.0, 0.2, 0.0], [0.5, 3.0, 1.0]]).double()  # [T, R]
    start, g = torch.randn(3, 4, 2).double(), torch.randn(5, 2, 3, 4, 2).double()  # [R, ...], [steps, T, R, ...]
    stacked = parameter(start.clone())
    together = kind([stacked], num_tasks=2, lr=0.1, weight_decay=0.1, task_weights=weights)
    for step in g:
        stacked.task_grad = step
        together.step()
    for r in range(3):
        p = parameter(start[r].clone())
        alone = kind([p], num_tasks=2, lr=0.1, weight_decay=0.1, task_weights=weights[:, r].tolist())
        for step in g:
            p.task_grad = step[:, r].contiguous()
            alone.step()
        torch.testing.assert_close(stacked[r].detach(), p.detach(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", list(TORCH))
def test_a_task_that_did_not_reach_a_parameter_is_skipped_altogether(kind: type) -> None:
    (p,), g = parameters()[:1], [gradients(s, 2)[0] for s in range(3)]
    optimizer = kind([p], num_tasks=2, lr=0.1, weight_decay=0.0)
    p.task_grad = g[0]
    optimizer.step()
    kept = {name: value[1].clone() for name, value in optimizer.state[p].items()}
    p.task_grad, p.task_reached = g[1] * torch.tensor([1.0, 0.0]).reshape(2, 1, 1), (True, False)
    optimizer.step()
    for name, value in kept.items():
        assert torch.equal(optimizer.state[p][name][1], value)
    p.task_grad, p.task_reached = g[2], None
    optimizer.step()
    assert optimizer.state[p]["step"].tolist() == [3.0, 2.0]

    state: dict[int, Any] = {}
    value = parameters()[0].detach()
    for step in ([g[0][0], g[0][1]], [g[1][0], None], [g[2][0], g[2][1]]):
        value, _ = REFERENCE[kind](value, step, state, lr=0.1)
    torch.testing.assert_close(p.detach(), value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", list(TORCH))
def test_a_reached_task_with_zero_gradient_is_not_skipped(kind: type) -> None:
    (p,) = parameters()[:1]
    optimizer = kind([p], num_tasks=2)
    p.task_grad = gradients(0, 2)[0].abs()
    optimizer.step()
    before = p.detach().clone()
    p.task_grad = torch.zeros_like(p.task_grad)
    optimizer.step()
    assert optimizer.state[p]["step"].tolist() == [2.0, 2.0]
    if kind in (AdaTaskAdam, AdaTaskAdamW):  # momentum goes on, as in torch
        assert (before - p.detach()).min() > 1e-4


def test_decoupled_decay_counts_once_whatever_the_weights_and_only_where_a_task_reached() -> None:
    for weights in (None, [0.0, 0.0], [3.0, 5.0], torch.tensor([0.0, 7.0])):
        reached, unreached = parameter(torch.ones(2)), parameter(torch.ones(2))
        optimizer = AdaTaskAdamW([reached, unreached], num_tasks=2, lr=0.1, weight_decay=0.5, task_weights=weights)
        for p in (reached, unreached):
            p.task_grad = torch.zeros(2, 2)
        reached.task_reached, unreached.task_reached = (False, True), (False, False)
        optimizer.step()
        torch.testing.assert_close(reached.detach(), torch.full((2,), 0.95), rtol=0, atol=1e-7)
        assert torch.equal(unreached, torch.ones(2))
        assert unreached not in optimizer.state


def test_coupled_decay_uses_the_parameter_at_the_start_of_the_step() -> None:
    p = parameter(torch.tensor([8.0], dtype=torch.float64))
    p.task_grad = torch.zeros(2, 1, dtype=torch.float64)
    AdaTaskAdagrad([p], num_tasks=2, lr=1.0, weight_decay=0.5, eps=0.0, initial_accumulator_value=5.0).step()
    # each task's gradient is 0.5 * 8 / 2 = 2 and its update 2 / sqrt(5 + 4)
    torch.testing.assert_close(p.detach(), torch.tensor([8 - 4 / 3], dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", list(TORCH))
def test_heads_get_torchs_ordinary_step_beside_shared_parameters(kind: type) -> None:
    shared, head, frozen = (parameter(torch.randn(4, 3)) for _ in range(3))
    twin, start, idle = parameter(head.detach().clone()), shared.detach().clone(), frozen.detach().clone()
    flags = {"foreach": True} if kind is AdaTaskRMSprop else {"fused": True}
    ours, theirs = kind([shared, head, frozen], num_tasks=2, **flags), TORCH[kind]([twin], **flags)
    for _ in range(3):
        shared.task_grad, shared.grad = torch.ones(2, 4, 3), torch.full((4, 3), torch.nan)  # its p.grad is ignored
        head.grad = torch.randn(4, 3)
        twin.grad = head.grad.clone()
        ours.step()
        theirs.step()
    assert torch.equal(head, twin)
    assert torch.equal(frozen, idle)
    assert (shared.detach() - start).abs().min() > 1e-4
    assert shared.isfinite().all()
    assert ours.state[head]["step"].shape == ()
    assert ours.state[shared]["step"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("flags", [{"fused": True}, {"foreach": True}], ids=str)
def test_memory_order_of_gradient_and_parameter_may_differ(flags: dict[str, Any]) -> None:
    start, g = torch.randn(2, 3, 4, 4), torch.randn(2, 2, 3, 4, 4)
    plain = parameter(start.clone())
    channels_last = parameter(start.clone().to(memory_format=torch.channels_last))
    assert plain.stride() != channels_last.stride()
    for p in (plain, channels_last):
        p.task_grad = g
        AdaTaskAdam([p], num_tasks=2, lr=0.1, **flags).step()
    torch.testing.assert_close(channels_last, plain, rtol=0, atol=1e-6)


def test_a_parameter_with_holes_in_its_memory_is_updated_by_default_and_refused_by_fused() -> None:
    base = torch.zeros(4, 6)
    p: Any = base[:, ::2].requires_grad_()
    p.task_grad = torch.ones(2, 4, 3)
    with pytest.raises(ValueError, match=r"Parameter `fused` should be True only where .* strides \(6, 2\)"):
        AdaTaskAdam([p], num_tasks=2, fused=True)
    AdaTaskAdam([p], num_tasks=2, lr=0.5).step()
    torch.testing.assert_close(p.detach(), torch.full((4, 3), -1.0), rtol=0, atol=1e-6)
    assert torch.equal(base[:, 1::2], torch.zeros(4, 3))


def test_kernels_are_fused_where_torch_has_them_and_the_users_where_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, object]] = []
    for name in ("adam", "adagrad", "rmsprop"):
        monkeypatch.setattr(
            f"mtlcore.adatask.{name}", lambda *_, foreach, fused=None, **__: seen.append((foreach, fused))
        )
    for name in ("_fused_adam_", "_fused_adamw_"):
        monkeypatch.setattr(torch, name, lambda *_, **__: seen.append((False, True)))
    for kind, flags in product(TORCH, [{}, {"foreach": False}, {"foreach": True}, {"fused": False}]):
        p = parameter(torch.zeros(2))
        p.task_grad = torch.zeros(1, 2)
        kind([p], num_tasks=1, **flags).step()
    fused_where_possible = [(False, True), (False, None), (True, None), (None, False)]
    torch_chooses = [(None, None), (False, None), (True, None), (None, None)]  # RMSprop has no fused kernel
    assert seen == 3 * fused_where_possible + torch_chooses


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", list(TORCH))
def test_a_whole_step_runs_on_the_meta_device(kind: type, dtype: torch.dtype) -> None:
    for weights in (None, [1.0, 2.0], torch.empty(2, device="meta"), torch.empty(2, 4, device="meta")):
        shared, head = (parameter(torch.empty(4, 3, device="meta", dtype=dtype)) for _ in range(2))
        optimizer = kind([shared, head], num_tasks=2, weight_decay=0.1, task_weights=weights)
        for _ in range(2):
            optimizer.zero_grad()
            shared.task_grad = torch.empty(2, 4, 3, device="meta", dtype=dtype)
            shared.task_reached = (True, False)
            head.grad = torch.empty(4, 3, device="meta", dtype=dtype)
            optimizer.step()
        assert optimizer.state[shared]["step"].tolist() == [2.0, 0.0]


def test_state_has_the_documented_shapes_and_types() -> None:
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        for kind in TORCH:
            p = parameter(torch.zeros(3, 2))
            p.task_grad = torch.ones(2, 3, 2)
            optimizer = kind([p], num_tasks=2)
            optimizer.step()
            assert optimizer.state[p]["step"].dtype == torch.float32
            assert all(v.shape == ((2,) if k == "step" else (2, 3, 2)) for k, v in optimizer.state[p].items())
    finally:
        torch.set_default_dtype(default)


@pytest.mark.parametrize("kind", list(TORCH))
def test_parameters_that_step_together_keep_their_own_counts(kind: type) -> None:
    """One optimizer of three parameters against three optimizers of one, whichever of them has gradients."""
    generator = torch.Generator().manual_seed(0)
    together, apart = parameters(), parameters()
    joint, single = kind(together, num_tasks=2), [kind([p], num_tasks=2) for p in apart]
    for step, members in enumerate(((0, 1, 2), (0, 1, 2), (1,), (0, 2), (0, 1, 2), (2, 1), (0, 1, 2), (0, 1, 2))):
        for optimizer in (joint, *single):
            optimizer.zero_grad()
        for i in members:
            grads = torch.randn((2, *SHAPES[i]), generator=generator, dtype=torch.float64)
            for p in (together[i], apart[i]):
                p.task_grad = grads.clone()
                p.task_reached = (True, (step + i) % 3 > 0)
        if step == 4:
            joint.load_state_dict(joint.state_dict())
        if step == 6:
            joint.state[together[0]]["step"] = joint.state[together[0]]["step"].clone()
        for optimizer in (joint, *(single[i] for i in members)):
            optimizer.step()
        for p, q, optimizer in zip(together, apart, single, strict=True):
            assert torch.equal(p, q)
            assert {name: value.tolist() for name, value in joint.state[p].items()} == {
                name: value.tolist() for name, value in optimizer.state[q].items()
            }
