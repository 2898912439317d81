"""AdaTask as a citizen of torch.optim: groups, schedulers, closures, checkpoints, gradient scaling, refusals."""

import copy
import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlcore.adatask import AdaTaskAdagrad, AdaTaskAdam, AdaTaskAdamW, AdaTaskRMSprop
from mtlcore.task_gradients import task_backward

KINDS = [AdaTaskAdam, AdaTaskAdamW, AdaTaskAdagrad, AdaTaskRMSprop]


def parameter(value: Tensor) -> Any:
    """A parameter, typed so that the task attributes can be set by hand."""
    return nn.Parameter(value)


def network() -> tuple[nn.Module, Callable[[], list[Tensor]], list[Any]]:
    """A trunk with two heads, its losses, and the trunk's parameters."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"trunk": nn.Linear(4, 6), "a": nn.Linear(6, 1), "b": nn.Linear(6, 1)})
    x = torch.randn(16, 4)

    def losses() -> list[Tensor]:
        hidden = model["trunk"](x).tanh()
        return [(model["a"](hidden) - 1).square().mean(), 50 * (model["b"](hidden) + 1).square().mean()]

    return model, losses, list(model["trunk"].parameters())


def train(optimizer: torch.optim.Optimizer, losses: Callable[[], list[Tensor]], shared: list[Any], steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        task_backward(losses(), shared)
        optimizer.step()


def values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize(
    "options", [{}, {"foreach": True, "weight_decay": 0.1}, {"task_weights": torch.ones(2)}], ids=str
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_through_torch_save_goes_on_bit_equal(kind: type, options: dict[str, Any]) -> None:
    if kind is AdaTaskRMSprop:
        options = {**options, "momentum": 0.5, "centered": True}
    model, losses, shared = network()
    optimizer = kind(model.parameters(), num_tasks=2, lr=0.01, **options)
    train(optimizer, losses, shared, 3)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(optimizer, losses, shared, 3)

    again, again_losses, again_shared = network()
    file.seek(0)
    saved = torch.load(file)
    again.load_state_dict(saved["model"])
    resumed = kind(again.parameters(), num_tasks=2, lr=0.5)
    resumed.load_state_dict(saved["optimizer"])
    train(resumed, again_losses, again_shared, 3)
    for p, q in zip(values(model), values(again), strict=True):
        assert torch.equal(p, q)


def test_loading_casts_floating_state_to_the_parameter_but_not_the_count() -> None:
    p, q = parameter(torch.zeros(3, dtype=torch.float64)), parameter(torch.zeros(3, dtype=torch.bfloat16))
    p.task_grad = torch.ones(2, 3, dtype=torch.float64)
    saved, loaded = AdaTaskAdam([p], num_tasks=2), AdaTaskAdam([q], num_tasks=2)
    saved.step()
    loaded.load_state_dict(saved.state_dict())
    assert {k: v.dtype for k, v in loaded.state[q].items()} == {
        "step": torch.float32,
        "exp_avg": torch.bfloat16,
        "exp_avg_sq": torch.bfloat16,
    }


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copied_or_pickled_optimizer_goes_on_bit_equal(duplicate: Callable[[Any], Any]) -> None:
    p = parameter(torch.ones(3))
    optimizer = AdaTaskAdam([p], num_tasks=2, lr=0.1)
    p.task_grad = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 9.0]])
    optimizer.step()
    q, twin = duplicate((p, optimizer))
    for each, step in ((p, optimizer.step), (q, twin.step)):
        each.task_grad = torch.tensor([[2.0, 2.0, 1.0], [1.0, 1.5, 9.0]])
        step()
    assert q is not p
    assert torch.equal(p, q)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_have_their_own_hyper_parameters(kind: type) -> None:
    settings: list[dict[str, Any]] = [{"lr": 0.1}, {"lr": 0.02, "eps": 0.1, "task_weights": [0.5, 2.0]}]
    if kind in (AdaTaskAdam, AdaTaskAdamW):
        settings[1]["betas"] = (0.5, 0.7)
    together = [parameter(torch.ones(3)) for _ in settings]
    alone = [parameter(torch.ones(3)) for _ in settings]
    optimizers = [kind([{"params": p, **s} for p, s in zip(together, settings, strict=True)], num_tasks=2)]
    optimizers += [kind([p], num_tasks=2, **s) for p, s in zip(alone, settings, strict=True)]
    for s in range(3):
        for p in together + alone:
            p.task_grad = torch.tensor([[1.0, -2.0, 3.0], [0.1, 0.2, s]])
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(together[0], alone[0])
    assert torch.equal(together[1], alone[1])
    assert (together[0] - together[1]).abs().min() > 1e-3


def test_a_group_added_later_trains_with_defaults_and_named_parameters_are_taken() -> None:
    model, losses, shared = network()
    assert isinstance(model, nn.ModuleDict)
    optimizer = AdaTaskAdam(model["trunk"].named_parameters(), num_tasks=2, lr=0.01)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    before = values(model)
    train(optimizer, losses, shared, 1)
    optimizer.add_param_group({"params": (p for p in model["a"].named_parameters()), "lr": 0.3})
    assert optimizer.param_groups[1]["num_tasks"] == 2
    train(optimizer, losses, shared, 1)
    moved = [(p - q).abs().max().item() for p, q in zip(values(model), before, strict=True)]
    assert moved[0] > 0.005
    assert moved[2] == pytest.approx(0.3, rel=1e-3)  # Adam's first step is its learning rate
    assert moved[4] == 0


def test_schedulers_set_learning_rates_and_cycle_betas() -> None:
    p = parameter(torch.zeros(1))
    optimizer = AdaTaskAdam([p], num_tasks=2, lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    moved = []
    for _ in range(2):
        before = p.item()
        p.task_grad = torch.ones(2, 1)
        optimizer.step()
        scheduler.step()
        moved.append(before - p.item())
    assert moved == pytest.approx([1.0, 0.1], rel=1e-5)

    ours, theirs = parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    pair: list[tuple[Any, torch.optim.Optimizer]] = [
        (ours, AdaTaskAdam([ours], num_tasks=1, fused=True)),
        (theirs, torch.optim.Adam([theirs], fused=True)),
    ]
    schedulers = [torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=6) for _, o in pair]
    for s in range(5):
        for (q, optimizer_), one_cycle in zip(pair, schedulers, strict=True):
            q.grad = torch.tensor([1.0 + s, -0.5])
            q.task_grad = q.grad[None]
            optimizer_.step()
            one_cycle.step()
    assert pair[0][1].param_groups[0]["betas"] == pair[1][1].param_groups[0]["betas"] != (0.9, 0.999)
    assert torch.equal(ours, theirs)


def test_momentum_raised_from_zero_starts_its_buffer() -> None:
    p = parameter(torch.zeros(1))
    optimizer = AdaTaskRMSprop([p], num_tasks=2)
    p.task_grad = torch.ones(2, 1)
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.9
    optimizer.step()
    assert optimizer.state[p]["momentum_buffer"].shape == (2, 1)
    assert (optimizer.state[p]["momentum_buffer"] > 1).all()


def test_a_closure_runs_once_with_gradients_and_its_result_is_returned() -> None:
    model, losses, shared = network()
    optimizer = AdaTaskAdamW(model.parameters(), num_tasks=2)
    before, calls = values(model), []

    def closure() -> Tensor:
        optimizer.zero_grad()
        current = losses()
        task_backward(current, shared)
        calls.append(current)
        return current[0] + current[1]

    with torch.no_grad():
        total = optimizer.step(closure)
    assert len(calls) == 1
    assert total.item() == pytest.approx(sum(loss.item() for loss in calls[0]))
    assert all(not torch.equal(p, q) for p, q in zip(values(model), before, strict=True))


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_clears_ordinary_and_task_gradients(set_to_none: bool) -> None:
    p = parameter(torch.ones(2))
    names = ("task_grad", "task_reached", "task_weights", "task_record")
    task_backward([p.sum(), p.sum()], [p])
    assert hasattr(p, "task_grad")
    AdaTaskAdam([p], num_tasks=2).zero_grad(set_to_none=set_to_none)
    assert set_to_none is not any(hasattr(p, name) for name in names)
    assert p.grad is None if set_to_none else torch.equal(p.grad, torch.zeros(2))
    task_backward([2 * p.sum(), 3 * p.sum()], [p])
    assert p.task_grad.tolist() == [[2.0, 2.0], [3.0, 3.0]]
    assert p.grad.tolist() == [5.0, 5.0]


def test_without_any_gradient_a_step_does_nothing() -> None:
    p = parameter(torch.ones(2))
    p.task_grad = None
    optimizer = AdaTaskAdamW([p], num_tasks=2, weight_decay=0.5)
    with pytest.warns(UserWarning, match="No parameter of AdaTaskAdamW has task gradients"):
        optimizer.step()
    optimizer.step()  # it says so once
    assert torch.equal(p, torch.ones(2))
    assert p not in optimizer.state


def test_maximize_ascends() -> None:
    p = parameter(torch.zeros(1))
    p.task_grad = torch.tensor([[3.0], [5.0]])
    AdaTaskAdam([p], num_tasks=2, lr=0.1, maximize=True).step()
    assert p.item() == pytest.approx(0.2, rel=1e-5)


def test_a_gradient_scaler_divides_task_gradients_and_ordinary_ones() -> None:
    for bad, expected in ((False, 0.9), (True, 1.0)):
        p, head = parameter(torch.ones(1)), parameter(torch.ones(1))
        optimizer = AdaTaskAdam([p, head], num_tasks=1, lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        scaler.scale(head.square().sum()).backward()
        p.task_grad = torch.tensor([[2048.0]])
        if bad:
            head.grad.fill_(torch.inf)
        scaler.step(optimizer)
        scaler.update()
        assert p.item() == pytest.approx(expected, rel=1e-5)
        assert head.item() == pytest.approx(expected, rel=1e-5)
        assert scaler.get_scale() == (512.0 if bad else 1024.0)
        assert p.task_grad.item() == (2048.0 if bad else 2.0)


# ------------------------------------------------------------------------------------------------ what is refused


BAD_OPTIONS: list[tuple[type, dict[str, Any], str]] = [
    (AdaTaskAdam, {"num_tasks": 0}, "Parameter `num_tasks` should be a positive integer. Found `num_tasks = 0`."),
    (AdaTaskAdam, {"num_tasks": 2.0}, "Parameter `num_tasks` should be a positive integer. Found `num_tasks = 2.0`."),
    (AdaTaskAdam, {"num_tasks": True}, "Parameter `num_tasks` should be a positive integer. Found `num_tasks = True`."),
    (
        AdaTaskAdam,
        {"lr": -1},
        "Parameter `lr` should be non-negative. Found `lr = -1`. Pass lr >= 0, for example 1e-3.",
    ),
    (AdaTaskAdam, {"lr": float("nan")}, "Parameter `lr` should be non-negative. Found `lr = nan`."),
    (AdaTaskAdam, {"lr": torch.tensor(-1.0)}, "Parameter `lr` should be non-negative."),
    (AdaTaskAdam, {"lr": torch.ones(2)}, "Parameter `lr` should be one number. Found `lr` of shape (2,)."),
    (AdaTaskAdam, {"lr": torch.tensor(0.1), "foreach": True}, "Parameter `lr` should be a float with foreach=True"),
    (
        AdaTaskAdam,
        {"betas": (0.9, 1.0)},
        "Parameter `betas` should be two floats in [0, 1). Found `betas = (0.9, 1.0)`.",
    ),
    (AdaTaskAdam, {"betas": (-0.1, 0.9)}, "Parameter `betas` should be two floats in [0, 1)."),
    (AdaTaskAdam, {"betas": (0.9,)}, "Parameter `betas` should be two floats in [0, 1)."),
    (AdaTaskAdamW, {"eps": -1e-8}, "Parameter `eps` should be non-negative. Found `eps = -1e-08`."),
    (AdaTaskAdamW, {"weight_decay": -0.1}, "Parameter `weight_decay` should be non-negative."),
    (AdaTaskAdagrad, {"lr_decay": -0.1}, "Parameter `lr_decay` should be non-negative."),
    (
        AdaTaskAdagrad,
        {"initial_accumulator_value": -1},
        "Parameter `initial_accumulator_value` should be non-negative.",
    ),
    (AdaTaskRMSprop, {"alpha": -0.1}, "Parameter `alpha` should be non-negative."),
    (AdaTaskRMSprop, {"momentum": -0.1}, "Parameter `momentum` should be non-negative."),
    (AdaTaskRMSprop, {"fused": True}, "Parameter `fused` should be True only where torch has such a kernel"),
    (AdaTaskAdam, {"fused": True, "foreach": True}, "Parameters `fused` and `foreach` should not both be True."),
    (AdaTaskAdam, {"task_weights": [1.0]}, "Parameter `task_weights` should hold 2 finite, non-negative numbers"),
    (AdaTaskAdam, {"task_weights": [1.0, -1.0]}, "Found `task_weights = [1.0, -1.0]`."),
    (AdaTaskAdam, {"task_weights": [1.0, float("inf")]}, "Found `task_weights = [1.0, inf]`."),
    (AdaTaskAdam, {"task_weights": 2.0}, "Found `task_weights = 2.0`."),
    (AdaTaskAdam, {"task_weights": "ab"}, "Found `task_weights = 'ab'`."),
    (AdaTaskAdam, {"task_weights": torch.ones(3)}, "Found a tensor of shape (3,)."),
    (AdaTaskAdam, {"task_weights": torch.ones(2, 1, 1)}, "Found a tensor of shape (2, 1, 1)."),
]


@pytest.mark.parametrize(
    ("kind", "options", "message"), BAD_OPTIONS, ids=lambda x: str(x) if isinstance(x, dict) else ""
)
def test_bad_options_are_refused_at_construction_and_in_a_group(
    kind: type, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        kind([nn.Parameter(torch.zeros(2))], **{"num_tasks": 2, **options})
    optimizer = kind([nn.Parameter(torch.zeros(2))], num_tasks=2)
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], **options})
    assert len(optimizer.param_groups) == 1


def test_bad_parameters_are_refused() -> None:
    p = nn.Parameter(torch.zeros(2))
    for params in ([p, p], [{"params": [p]}, {"params": [nn.Parameter(torch.zeros(1)), p]}]):
        with pytest.raises(ValueError, match="Parameter `params` should name each parameter once, over all groups"):
            AdaTaskAdam(params, num_tasks=2)
    for bad in (torch.zeros(2, dtype=torch.complex64), torch.zeros(2, 2).to_sparse()):
        with pytest.raises(ValueError, match="Parameter `params` should hold real, dense parameters"):
            AdaTaskAdam([bad.requires_grad_()], num_tasks=2)
    with pytest.raises(ValueError, match="empty parameter list"):
        AdaTaskAdam([], num_tasks=2)
    with pytest.raises(TypeError, match="ordered collections"):
        AdaTaskAdam([{"params": {p}}], num_tasks=2)
    with pytest.raises(TypeError, match="can only optimize Tensors"):
        AdaTaskAdam([{"params": ["weight"]}], num_tasks=2)
    with pytest.raises(ValueError, match="on meta"):
        AdaTaskAdam([nn.Parameter(torch.zeros(2, device="meta"))], num_tasks=2, fused=True)


def break_task_grad(value: Tensor) -> Callable[[Any, Any], None]:
    def breaker(p: Any, optimizer: Any) -> None:
        p.task_grad = value

    return breaker


def break_reached(p: Any, optimizer: Any) -> None:
    p.task_reached = (True,)


def break_kind(p: Any, optimizer: Any) -> None:
    p.task_grad, p.grad = None, torch.ones(3)


def break_ordinary(p: Any, optimizer: Any) -> None:
    p.task_grad, p.grad = None, torch.eye(3).to_sparse()[0]


def break_group(**options: Any) -> Callable[[Any, Any], None]:
    def breaker(p: Any, optimizer: Any) -> None:
        optimizer.param_groups[-1].update(options)

    return breaker


@pytest.mark.parametrize(
    ("breaker", "message"),
    [
        (break_task_grad(torch.ones(3, 3)), "should have shape (2, 3) for `num_tasks = 2`"),
        (break_task_grad(torch.ones(2, 4)), "Found shape (2, 4)"),
        (break_task_grad(torch.ones(2, 3).double()), "Found shape (2, 3), torch.float64"),
        (break_task_grad(torch.ones(2, 3, dtype=torch.complex64)), "A gradient should be real and dense."),
        (break_task_grad(torch.ones(2, 3).to_sparse()), "A gradient should be real and dense."),
        (break_ordinary, "A gradient should be real and dense."),
        (break_reached, "A `task_reached` should hold 2 booleans, one per task. Found 1."),
        (break_kind, "Found a state for `step` of shape (2,) where () is needed"),
        (break_group(task_weights=[1.0, -1.0]), "Found `task_weights = [1.0, -1.0]`."),
        (break_group(task_weights=torch.ones(3)), "Found a tensor of shape (3,)."),
        (break_group(task_weights=torch.ones(2, 4)), "Found weights of shape (2, 4) and a parameter of shape (3,)."),
        (break_group(fused=True, foreach=True), "should not both be True"),
    ],
)
def test_a_step_that_cannot_be_taken_as_a_whole_changes_nothing(
    breaker: Callable[[Any, Any], None], message: str
) -> None:
    fine, bad = parameter(torch.ones(3)), parameter(torch.ones(3))
    optimizer = AdaTaskAdam([{"params": [fine]}, {"params": [bad]}], num_tasks=2)
    for p in (fine, bad):
        p.task_grad = torch.ones(2, 3)
    optimizer.step()
    state, before = copy.deepcopy(optimizer.state_dict()["state"]), (fine.detach().clone(), bad.detach().clone())
    breaker(bad, optimizer)
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.step()
    assert torch.equal(fine, before[0])
    assert torch.equal(bad, before[1])
    for i, entry in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, state[i][name]) for name, value in entry.items())


def test_an_ordinary_state_does_not_take_task_gradients() -> None:
    p = parameter(torch.ones(3))
    optimizer = AdaTaskAdam([p], num_tasks=2)
    p.grad = torch.ones(3)
    with pytest.warns(UserWarning, match="this step is the ordinary one"):
        optimizer.step()
    p.task_grad = torch.ones(2, 3)
    with pytest.raises(ValueError, match=re.escape("of shape () where (2,) is needed")):
        optimizer.step()


def checkpoint(kind: type, shape: tuple[int, ...] = (3,), **options: Any) -> dict[str, Any]:
    p = parameter(torch.ones(shape))
    optimizer = kind([p], **options)
    p.grad = torch.ones(shape)
    if "num_tasks" in options:
        p.task_grad = torch.ones(options["num_tasks"], *shape)
    optimizer.step()
    state: dict[str, Any] = optimizer.state_dict()
    return state


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        (checkpoint(AdaTaskAdam, num_tasks=3), "should be for 2 tasks. Found `num_tasks = 3`."),
        (checkpoint(torch.optim.Adam), "should be a checkpoint of AdaTaskAdam. Found one without `num_tasks`."),
        (checkpoint(AdaTaskAdamW, num_tasks=2), "Found one with `decoupled_weight_decay = True`."),
        (checkpoint(AdaTaskRMSprop, num_tasks=2), "Found one without `amsgrad`."),
        (checkpoint(AdaTaskAdagrad, num_tasks=2), "Found one without `amsgrad`."),
        (checkpoint(AdaTaskAdam, (4,), num_tasks=2), "should fit a parameter of shape (3,). Found `exp_avg` of shape"),
    ],
)
def test_a_foreign_checkpoint_is_refused_before_anything_changes(state_dict: dict[str, Any], message: str) -> None:
    p = parameter(torch.ones(3))
    optimizer = AdaTaskAdam([p], num_tasks=2, lr=0.25)
    p.task_grad = torch.ones(2, 3)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.load_state_dict(state_dict)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert all(torch.equal(after["state"][0][name], value) for name, value in before["state"][0].items())


def test_a_checkpoint_from_before_a_scheduler_is_loaded() -> None:
    p = parameter(torch.ones(3))
    saved = checkpoint(AdaTaskAdam, num_tasks=2)
    optimizer = AdaTaskAdam([p], num_tasks=2)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6)
    optimizer.load_state_dict(saved)
    assert optimizer.state[p]["step"].tolist() == [1.0, 1.0]
