"""HydaLearn against a deep-copy implementation, closed forms and its own mathematics."""

import copy
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from mtlcore import HydaLearn, HydaLearnStep, combine, gain_weights, task_backward, zero_task_grad
from mtlcore.reference import hydalearn_gain, hydalearn_weights
from mtlcore.task_gradients import contributions

Batch = tuple[Tensor, Tensor]


class LastOfLSTM(nn.Module):
    """A recurrent trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.lstm(x[:, None].expand(-1, 3, -1))[0]
        return output[:, -1]


class Point(nn.Module):
    """One parameter vector."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)


def trunk(kind: str) -> nn.Module:
    kinds: dict[str, Callable[[], nn.Module]] = {
        "dense": lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()),
        "dropout": lambda: nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 8)),
        "batchnorm": lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 8)),
        "convolution": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 8, 3), nn.BatchNorm1d(8), nn.AdaptiveAvgPool1d(1), nn.Flatten()
        ),
        "lstm": LastOfLSTM,
    }
    return kinds[kind]()


class Model(nn.Module):
    """A shared trunk and one linear head per task."""

    def __init__(self, trunk: nn.Module, num_tasks: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(num_tasks))

    @property
    def weight(self) -> nn.Parameter:
        return next(self.trunk.parameters())


def make(kind: str = "dense", num_tasks: int = 2, dtype: torch.dtype = torch.float64) -> Model:
    torch.manual_seed(0)
    return Model(trunk(kind), num_tasks).to(dtype)


def task_grad(p: Tensor) -> Tensor:
    grad: Tensor = p.task_grad  # type: ignore[attr-defined]
    return grad


def losses_fn(model: Model, batch: Batch) -> list[Tensor]:
    x, y = batch
    z = model.trunk(x)
    return [(k + 1) * (head(z)[:, 0] - y**k).square().mean() for k, head in enumerate(list(model.heads), start=1)]


def batch_of(seed: int, rows: int = 16, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, 5, generator=generator, dtype=torch.float64).to(dtype),
        torch.randn(rows, generator=generator, dtype=torch.float64).to(dtype),
    )


def hydalearn_of(model: Model, **options: object) -> HydaLearn:
    return HydaLearn(model, losses_fn, model.trunk.parameters(), **options)  # type: ignore[arg-type]


def clear(model: nn.Module) -> None:
    model.zero_grad()
    zero_task_grad(model.parameters())


def deep_copy_gains(model: Model, batch: Batch, gain_batch: Batch | None, step: float, heads: bool) -> Tensor:
    """The straightforward way: one copy of the whole model per task, one SGD step on it, the main loss again."""
    random = torch.get_rng_state()
    base = copy.deepcopy(model)
    losses = losses_fn(base, batch)
    after = torch.get_rng_state()
    before = losses[0]
    if gain_batch is not None:
        torch.set_rng_state(random)
        before = losses_fn(copy.deepcopy(model), gain_batch)[0]
    gains = []
    for loss in losses:
        moved = copy.deepcopy(model)
        grads = torch.autograd.grad(loss, list(base.parameters()), retain_graph=True, allow_unused=True)
        with torch.no_grad():
            for (name, p), grad in zip(moved.named_parameters(), grads, strict=True):
                if grad is not None and (heads or name.startswith("trunk")):
                    p.sub_(step * grad)
            torch.set_rng_state(random)
            gains.append(before - losses_fn(moved, gain_batch or batch)[0])
    torch.set_rng_state(after)
    return torch.stack(gains).detach()


# -- gains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "dropout", "batchnorm", "convolution", "lstm"])
@pytest.mark.parametrize("trial_moves", ["shared", "shared+head"])
@pytest.mark.parametrize("other_batch", [False, True])
def test_exact_gains_are_those_of_deep_copies(kind: str, trial_moves: str, other_batch: bool) -> None:
    model, gain_batch = make(kind, num_tasks=3), batch_of(2, rows=12) if other_batch else None
    torch.manual_seed(5)
    expected = deep_copy_gains(model, batch_of(1), gain_batch, 0.05, trial_moves == "shared+head")
    torch.manual_seed(5)
    hydalearn = hydalearn_of(model, trial_step=0.05, trial_moves=trial_moves)
    step = hydalearn.backward(batch_of(1), gain_batch)
    torch.testing.assert_close(step.gains, expected, rtol=1e-10, atol=1e-12)
    assert expected.abs().min() > 1e-5
    assert len(set(expected.tolist())) == 3


@pytest.mark.parametrize("kind", ["dense", "dropout", "batchnorm", "convolution", "lstm"])
@pytest.mark.parametrize("trial_moves", ["shared", "shared+head"])
@pytest.mark.parametrize("other_batch", [False, True])
def test_first_order_gains_are_the_limit_of_small_steps(kind: str, trial_moves: str, other_batch: bool) -> None:
    """The error of the first-order gain falls as the square of the step: a tenth of the step, a hundredth."""
    errors = []
    for step in (1e-3, 1e-4):
        results = {}
        for gain in ("exact", "first_order"):
            torch.manual_seed(5)
            hydalearn = hydalearn_of(make(kind), trial_step=step, gain=gain, trial_moves=trial_moves)
            results[gain] = hydalearn.backward(batch_of(1), batch_of(2) if other_batch else None).gains
        errors.append((results["exact"] - results["first_order"]).abs())
        torch.testing.assert_close(results["exact"], results["first_order"], rtol=0.2, atol=2e-7)
    torch.testing.assert_close(errors[1] / errors[0], torch.full((2,), 0.01, dtype=torch.float64), rtol=0.1, atol=0)


def quadratic(num_tasks: int) -> tuple[Point, Callable[[Point, None], list[Tensor]], list[Tensor], list[Tensor]]:
    """L_t = (theta - c_t)' H_t (theta - c_t) / 2: gains and gradients in closed form."""
    generator = torch.Generator().manual_seed(3)
    roots = torch.randn(num_tasks, 4, 4, generator=generator, dtype=torch.float64)
    centres = list(torch.randn(num_tasks, 4, generator=generator, dtype=torch.float64))
    curvatures = [root @ root.T + torch.eye(4, dtype=torch.float64) for root in roots]
    model = Point(torch.zeros(4, dtype=torch.float64))

    def losses(model: Point, batch: None) -> list[Tensor]:
        return [0.5 * (model.theta - c) @ h @ (model.theta - c) for c, h in zip(centres, curvatures, strict=True)]

    return model, losses, centres, curvatures


@pytest.mark.parametrize("num_tasks", [1, 2, 5])
def test_gains_of_a_quadratic_in_closed_form(num_tasks: int) -> None:
    model, losses, centres, curvatures = quadratic(num_tasks)
    grads = [-h @ c for c, h in zip(centres, curvatures, strict=True)]
    a = 0.02
    exact = torch.stack([a * grads[0] @ g - a**2 / 2 * g @ curvatures[0] @ g for g in grads])
    step = HydaLearn(model, losses, model.parameters(), trial_step=a).backward(None)
    torch.testing.assert_close(step.gains, exact, rtol=1e-10, atol=0)
    first = HydaLearn(model, losses, model.parameters(), trial_step=a, gain="first_order").backward(None)
    torch.testing.assert_close(first.gains, torch.stack([a * grads[0] @ g for g in grads]), rtol=1e-10, atol=0)


def test_against_the_reference(
    device: torch.device, no_synchronisation: Callable[[], AbstractContextManager[None]]
) -> None:
    """On every device, in its own precision, against float64 on the CPU, equation by equation."""
    model, losses, centres, curvatures = quadratic(3)

    def main_loss(theta: Tensor) -> Tensor:
        return 0.5 * (theta - centres[0]) @ curvatures[0] @ (theta - centres[0])

    theta = torch.zeros(4, dtype=torch.float64)
    gains = [hydalearn_gain(main_loss, theta, -h @ c, 0.02) for c, h in zip(centres, curvatures, strict=True)]
    expected = torch.tensor(hydalearn_weights([float(g) for g in gains], main_task=0))

    dtype = torch.float32 if device.type == "mps" else torch.float64
    model = model.to(device, dtype)
    centres[:] = [c.to(device, dtype) for c in centres]
    curvatures[:] = [h.to(device, dtype) for h in curvatures]
    with no_synchronisation():
        step = HydaLearn(model, losses, model.parameters(), trial_step=0.02).backward(None)
    torch.testing.assert_close(step.weights.cpu().double(), expected, rtol=1e-4, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad])
@pytest.mark.parametrize("trial_moves", ["shared", "shared+head"])
def test_the_optimizers_own_step_as_trial(rule: type[torch.optim.Optimizer], trial_moves: str) -> None:
    model = make()
    optimizer = rule(model.parameters(), lr=0.02)  # type: ignore[call-arg]
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    hydalearn = hydalearn_of(model, trial_step=optimizer, trial_rule="optimizer", trial_moves=trial_moves)
    for seed in range(3):
        clear(model)
        expected = []
        state = copy.deepcopy(optimizer.state_dict())
        for t in range(2):
            moved = copy.deepcopy(model)
            other = rule(moved.parameters(), lr=1.0)  # type: ignore[call-arg]
            other.load_state_dict(copy.deepcopy(state))
            torch.autograd.backward(losses_fn(moved, batch_of(seed))[t])
            for name, p in moved.named_parameters():
                if trial_moves == "shared" and not name.startswith("trunk"):
                    p.grad = None
            other.step()
            expected.append(losses_fn(model, batch_of(seed))[0] - losses_fn(moved, batch_of(seed))[0])
        step = hydalearn.backward(batch_of(seed))
        torch.testing.assert_close(step.gains, torch.stack(expected).detach(), rtol=1e-9, atol=1e-12)
        assert str(state) == str(optimizer.state_dict())
        optimizer.step()
        scheduler.step()


def test_an_optimizer_as_trial_step_gives_its_current_rate_group_by_group() -> None:
    model = make()
    shared = list(model.trunk.parameters())
    first, rest = shared[:2], shared[2:]
    optimizer = torch.optim.Adam([{"params": first, "lr": 0.5}, {"params": rest, "lr": 0.1}])
    hydalearn = hydalearn_of(model, trial_step=optimizer, gain="first_order")

    def expected(rates: tuple[float, float]) -> Tensor:
        grads = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses_fn(model, batch_of(1))]
        scales = [rates[0]] * 2 + [rates[1]] * 2
        return torch.stack(
            [
                sum((s * (m * g).sum() for s, m, g in zip(scales, grads[0], grad, strict=True)), torch.zeros(()))
                for grad in grads
            ]
        )

    torch.testing.assert_close(hydalearn.backward(batch_of(1)).gains, expected((0.5, 0.1)))
    optimizer.param_groups[0]["lr"] = 0.01
    torch.testing.assert_close(hydalearn.backward(batch_of(1)).gains, expected((0.01, 0.1)))


# -- weights ---------------------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("gains", "options", "weights"),
    [
        ([3.0, 1.0], {}, [0.75, 0.25]),
        ([3.0, 1.0], {"normalise": "tasks"}, [1.5, 0.5]),
        ([3.0, 1.0], {"normalise": "main"}, [1.0, 1 / 3]),
        ([3.0, -1.0], {}, [1.0, 0.0]),
        ([3.0, -1.0], {"negative": "keep"}, [0.75, -0.25]),
        ([3.0, -1.0], {"negative": "keep", "normalise": "tasks"}, [1.5, -0.5]),
        ([3.0, -1.0], {"negative": "keep", "normalise": "main"}, [1.0, -1 / 3]),
        ([0.0, 1.0], {}, [0.0, 1.0]),
        ([0.0, 1.0], {"normalise": "main"}, [1.0, 0.0]),
        ([-1.0, 1.0], {"normalise": "main", "negative": "keep"}, [1.0, 0.0]),
        ([0.0, 0.0], {}, [1.0, 0.0]),
        ([-1.0, -2.0], {}, [1.0, 0.0]),
        ([-1.0, -2.0], {"negative": "keep"}, [1.0, 0.0]),
        ([-1.0, -2.0], {"normalise": "tasks"}, [2.0, 0.0]),
        ([1.0, NAN], {}, [1.0, 0.0]),
        ([NAN, 1.0], {}, [0.0, 1.0]),
        ([NAN, NAN], {}, [1.0, 0.0]),
        ([INF, 1.0], {}, [0.0, 1.0]),
        ([1e308, 1e308], {}, [0.5, 0.5]),
    ],
)
def test_weights_of_gains(gains: list[float], options: dict[str, str], weights: list[float]) -> None:
    found = gain_weights(torch.tensor(gains, dtype=torch.float64), main_task=0, **options)
    torch.testing.assert_close(found, torch.tensor(weights, dtype=torch.float64), rtol=1e-12, atol=0)
    assert hydalearn_weights(gains, 0, **options) == pytest.approx(weights, rel=1e-12)


def test_weights_per_run_do_not_mix() -> None:
    gains = torch.tensor([[3.0, -1.0, NAN], [1.0, -2.0, 2.0]])  # [T, R]
    expected = torch.tensor([[0.75, 1.0, 0.0], [0.25, 0.0, 1.0]])
    torch.testing.assert_close(gain_weights(gains, main_task=0), expected)


def test_permuting_the_tasks_permutes_gains_and_weights() -> None:
    order = [2, 0, 1]
    step = hydalearn_of(make(num_tasks=3), main_task=0).backward(batch_of(1))
    model = make(num_tasks=3)

    def permuted(model: Model, batch: Batch) -> list[Tensor]:
        losses = losses_fn(model, batch)
        return [losses[i] for i in order]

    other = HydaLearn(model, permuted, model.trunk.parameters(), main_task=1).backward(batch_of(1))
    torch.testing.assert_close(other.gains, step.gains[order], rtol=1e-9, atol=0)
    torch.testing.assert_close(other.weights, step.weights[order], rtol=1e-9, atol=0)
    # and swapping main and auxiliary is something else
    swapped = hydalearn_of(make(num_tasks=3), main_task=1).backward(batch_of(1))
    assert (swapped.gains - step.gains).abs().max() > 1e-4


def test_the_ratio_is_that_of_gradient_norms_times_the_cosine() -> None:
    model = make()
    step = hydalearn_of(model, gain="first_order", negative="keep", normalise="main").backward(batch_of(1))
    main, aux = (torch.cat([task_grad(p)[t].flatten() for p in model.trunk.parameters()]) for t in range(2))
    cosine = torch.cosine_similarity(main, aux, dim=0)
    torch.testing.assert_close(step.weights[1], aux.norm() / main.norm() * cosine, rtol=1e-9, atol=0)


def test_an_auxiliary_scaled_by_s_contributes_s_squared() -> None:
    """Gain and gradient both carry the scale: HydaLearn is not scale-invariant."""

    def contribution(scale: float) -> tuple[Tensor, Tensor]:
        model = make()

        def scaled(model: Model, batch: Batch) -> list[Tensor]:
            main, aux = losses_fn(model, batch)
            return [main, scale * aux]

        hydalearn = HydaLearn(model, scaled, model.trunk.parameters(), gain="first_order", normalise="main",
                              negative="keep")  # fmt: skip
        step = hydalearn.backward(batch_of(1))
        return step.weights[1], contributions(model.weight)[1]

    (weight, part), (weight_3, part_3) = contribution(1.0), contribution(3.0)
    torch.testing.assert_close(weight_3, 3 * weight)
    torch.testing.assert_close(part_3, 9 * part)


# -- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale_heads", [True, False])
def test_gradients_are_those_of_the_weighted_loss(scale_heads: bool) -> None:
    model, same = make(num_tasks=3), make(num_tasks=3)
    step = hydalearn_of(model, trial_step=0.05, scale_heads=scale_heads, normalise="tasks").backward(batch_of(1))
    losses = losses_fn(same, batch_of(1))
    torch.testing.assert_close(step.losses, torch.stack(losses).detach())
    torch.autograd.backward(torch.stack(losses) @ step.weights)
    for (name, p), q in zip(model.named_parameters(), same.parameters(), strict=True):
        expected = q.grad
        if name.startswith("heads") and not scale_heads:
            loss = losses_fn(same, batch_of(1))[int(name.split(".")[1])]
            (expected,) = torch.autograd.grad(loss, q)
        torch.testing.assert_close(p.grad, expected, rtol=1e-9, atol=1e-12)
    weight = model.weight
    for t, loss in enumerate(losses_fn(same, batch_of(1))):
        (grad,) = torch.autograd.grad(loss, same.weight, retain_graph=True)
        torch.testing.assert_close(task_grad(weight)[t], grad)


def test_calls_accumulate_and_each_has_its_own_weights() -> None:
    model = make()
    hydalearn = hydalearn_of(model, trial_step=0.05)
    alone = []
    for seed in (1, 2, 3):
        step = hydalearn.backward(batch_of(seed))
        alone.append((step, {n: p.grad.clone() for n, p in model.named_parameters()},  # type: ignore[union-attr]
                      task_grad(model.weight).clone()))  # fmt: skip
        clear(model)
    for seed, (step, _, _) in zip((1, 2, 3), alone, strict=True):
        again = hydalearn.backward(batch_of(seed))
        torch.testing.assert_close(again.gains, step.gains)
        torch.testing.assert_close(again.weights, step.weights)
    assert (alone[0][0].weights - alone[1][0].weights).abs().max() > 1e-3
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, sum(grads[name] for _, grads, _ in alone))
    weight = model.weight
    torch.testing.assert_close(task_grad(weight), sum(raw for _, _, raw in alone))
    torch.testing.assert_close(contributions(weight).sum(0), weight.grad)


def test_a_bad_auxiliary_spoils_nothing_and_a_bad_main_task_is_not_hidden() -> None:
    for gain in ("exact", "first_order"):
        for bad in (0, 1):
            model = make()

            def spoilt(model: Model, batch: Batch, bad: int = bad) -> list[Tensor]:
                losses = losses_fn(model, batch)
                losses[bad] = losses[bad] * NAN
                return losses

            step = HydaLearn(model, spoilt, model.trunk.parameters(), gain=gain).backward(batch_of(1))
            finite = all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.trunk.parameters())
            assert finite == (bad == 1)
            assert step.weights.tolist() == [1.0, 0.0]


def test_no_gain_no_auxiliary() -> None:
    """At the main task's minimum every trial step loses: the main task trains alone, on a gradient of zero."""
    model = Point(torch.zeros(4, dtype=torch.float64))

    def losses(model: Point, batch: None) -> list[Tensor]:
        return [model.theta.square().sum(), (model.theta - 1).square().sum()]

    for gain in ("exact", "first_order"):
        clear(model)
        step = HydaLearn(model, losses, model.parameters(), gain=gain).backward(None)
        assert (step.gains <= 0).all()
        assert step.weights.tolist() == [1.0, 0.0]
        assert model.theta.grad.abs().max() == 0  # type: ignore[union-attr]


def test_unreached_and_frozen_parameters() -> None:
    model = make()
    frozen = list(model.trunk.parameters())[1].requires_grad_(False)
    extra = nn.Linear(1, 1).double()
    model.heads.append(extra)

    def losses(model: Model, batch: Batch) -> list[Tensor]:
        x, y = batch
        z = model.trunk(x)
        main, aux = ((head(z)[:, 0] - y).square().mean() for head in list(model.heads)[:2])
        return [main, aux + model.heads[2](aux.reshape(1)).square().sum()]

    shared = [*model.trunk.parameters(), extra.weight]
    HydaLearn(model, losses, shared).backward(batch_of(1))
    assert extra.weight.task_reached == (False, True)  # type: ignore[attr-defined]
    assert task_grad(extra.weight)[0].abs().max() == 0
    assert task_grad(extra.weight)[1].abs().max() > 0
    assert frozen.grad is None
    assert getattr(frozen, "task_grad", None) is None


# -- no trace, memory ----------------------------------------------------------------------


@pytest.mark.parametrize("gain", ["exact", "first_order"])
@pytest.mark.parametrize("kind", ["dropout", "batchnorm", "convolution"])
def test_trial_steps_leave_no_trace(kind: str, gain: str) -> None:
    """Parameters, buffers and random state are those after one ordinary forward pass."""
    model, ordinary = make(kind), make(kind)
    torch.manual_seed(7)
    losses_fn(ordinary, batch_of(1))
    random = torch.get_rng_state()
    torch.manual_seed(7)
    hydalearn_of(model, gain=gain).backward(batch_of(1), batch_of(2))
    assert torch.equal(random, torch.get_rng_state())
    for (name, value), other in zip(model.state_dict().items(), ordinary.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    start = make(kind).state_dict()
    assert kind == "dropout" or any(not torch.equal(v, start[k]) for k, v in model.state_dict().items())
    assert model.trunk.training


@pytest.mark.parametrize("gain", ["exact", "first_order"])
def test_a_rate_that_is_a_tensor(gain: str) -> None:
    model, same = make(), make()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.05, dtype=torch.float64))
    step = hydalearn_of(model, trial_step=optimizer, gain=gain).backward(batch_of(1))
    expected = hydalearn_of(same, trial_step=0.05, gain=gain).backward(batch_of(1))
    torch.testing.assert_close(step.gains, expected.gains, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gain", ["exact", "first_order"])
def test_kept_memory_changes_no_step(gain: str) -> None:
    one, two = make(), make()
    for seed in range(3):
        steps = []
        for model, keep in ((one, False), (two, True)):
            model.zero_grad()
            zero_task_grad(model.trunk.parameters(), keep_memory=keep)
            steps.append(hydalearn_of(model, gain=gain).backward(batch_of(seed)))
        assert torch.equal(steps[0].weights, steps[1].weights)
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad)  # type: ignore[arg-type]


def test_losses_that_read_values() -> None:
    model = make()

    def reads(model: Model, batch: Batch) -> list[Tensor]:
        main, aux = losses_fn(model, batch)
        return [main * (2.0 if main.item() > 0 else 1.0), aux]

    step = HydaLearn(model, reads, model.trunk.parameters()).backward(batch_of(1))
    plain = hydalearn_of(make()).backward(batch_of(1))
    torch.testing.assert_close(step.gains[0], 4 * plain.gains[0], rtol=0.05, atol=0)  # loss and gradient doubled


def test_copies_of_shared_parameters_alive() -> None:
    """At a trial's forward pass: the parameter, T task gradients, and the trial value."""
    model = Point(torch.ones(1237))
    alive = []

    def sizes() -> Iterator[int]:
        seen = set()
        for item in gc.get_objects():
            # other tests leave sparse tensors behind, which have no storage
            if issubclass(type(item), Tensor) and item.layout is torch.strided:
                storage = item.untyped_storage()
                if storage.data_ptr() not in seen and storage.nbytes() % (4 * 1237) == 0:
                    seen.add(storage.data_ptr())
                    yield storage.nbytes() // (4 * 1237)

    def losses(model: Point, batch: None) -> list[Tensor]:
        alive.append(sum(sizes()))
        total = model.theta.sum()
        return [total, 2 * total, 3 * total]

    HydaLearn(model, losses, model.parameters()).backward(None)
    # at the first call a trial of nothing too, and one of half a step
    assert alive == [1] + [1 + 3] + [1 + 3 + 1] * 3 + [1 + 3 + 1]


# -- many runs, precision, devices -----------------------------------------------------------------------------------


class ManyLinear(nn.Module):
    """R linear trunks and heads as one module: parameters [R, ...], losses [R]."""

    def __init__(self, runs: list[Model]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([run.weight.detach() for run in runs]))
        heads = [torch.cat([h.get_parameter("weight") for h in run.heads]).detach() for run in runs]
        self.heads = nn.Parameter(torch.stack(heads))
        for p in self.parameters():
            p.task_runs = len(runs)  # type: ignore[attr-defined]

    def losses(self, batch: Batch) -> list[Tensor]:
        x, y = batch
        z = (x @ self.weight.transpose(-1, -2)).tanh() @ self.heads.transpose(-1, -2)  # [R, B, T]
        return [(z[..., k] - y**k).square().mean(-1) for k in range(2)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gain": "first_order"},
        {"negative": "keep", "normalise": "tasks"},
        {"trial_moves": "shared+head"},
    ],
)
def test_many_runs_equal_each_run_alone(options: dict[str, str]) -> None:
    runs = []
    for seed in range(4):
        torch.manual_seed(seed)
        runs.append(Model(nn.Linear(5, 8), num_tasks=2).double())

    def step_of(models: list[Model]) -> tuple[ManyLinear, HydaLearnStep]:
        model = ManyLinear(models)
        hydalearn = HydaLearn(model, lambda m, b: m.losses(b), [model.weight], trial_step=0.05, **options)  # type: ignore[arg-type]
        return model, hydalearn.backward(batch_of(1), batch_of(2))

    together, step = step_of(runs)
    assert step.gains.shape == (2, 4)
    for r, run in enumerate(runs):
        alone, single = step_of([run])
        for many, one in zip(step, single, strict=True):
            torch.testing.assert_close(many[:, r], one[:, 0], rtol=1e-10, atol=1e-12)
        for p, q in zip(together.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p.grad[r], q.grad[0], rtol=1e-10, atol=1e-12)  # type: ignore[index]


def test_bf16_autocast() -> None:
    model = make(dtype=torch.float32)
    exact = hydalearn_of(model, gain="first_order").backward(batch_of(1, dtype=torch.float32))
    clear(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = hydalearn_of(model, gain="first_order").backward(batch_of(1, dtype=torch.float32))
    torch.testing.assert_close(step.weights, exact.weights, rtol=0, atol=0.1)
    assert not torch.equal(step.weights, exact.weights)
    assert model.weight.grad is not None
    assert model.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", ["dense", "dropout", "batchnorm", "convolution"])
@pytest.mark.parametrize("options", [{}, {"gain": "first_order"}, {"trial_rule": "optimizer"}])
def test_a_whole_training_step_on_meta(kind: str, options: dict[str, str]) -> None:
    """Any host synchronisation would raise there."""
    model = make(kind, dtype=torch.float32).to("meta")
    x, y = (tensor.to("meta") for tensor in batch_of(1, dtype=torch.float32))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    hydalearn = hydalearn_of(model, trial_step=optimizer, **options)
    for _ in range(2):
        optimizer.zero_grad()
        zero_task_grad(model.trunk.parameters())
        step = hydalearn.backward((x, y), (x, y))
        optimizer.step()
    assert step.weights.is_meta
    assert step.weights.shape == (2,)


def test_training_with_it_is_training_with_combined_gradients() -> None:
    """HydaLearn.backward + optimizer.step equals task_backward, combine with its weights, and step."""
    one, two = make(), make()
    first, second = (torch.optim.Adam(m.parameters(), lr=0.01) for m in (one, two))
    hydalearn = hydalearn_of(one, trial_step=first, scale_heads=False)
    for seed in range(5):
        first.zero_grad()
        second.zero_grad()
        zero_task_grad(one.trunk.parameters())
        zero_task_grad(two.trunk.parameters())
        weights = hydalearn.backward(batch_of(seed)).weights
        task_backward(losses_fn(two, batch_of(seed)), two.trunk.parameters())
        combine(two.trunk.parameters(), weights)
        first.step()
        second.step()
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"main_task": -1}, "`main_task = -1`"),
        ({"main_task": "a"}, "`main_task = 'a'`"),
        ({"trial_step": 0.0}, "`trial_step = 0.0`"),
        ({"trial_step": float("inf")}, "`trial_step = inf`"),
        ({"trial_step": "1e-3"}, "`trial_step = '1e-3'`"),
        ({"gain": "second_order"}, "`gain = 'second_order'`"),
        ({"trial_moves": "head"}, "`trial_moves = 'head'`"),
        ({"trial_rule": "adam"}, "`trial_rule = 'adam'`"),
        ({"trial_rule": "optimizer"}, "should be an optimizer with"),
        ({"negative": "drop"}, "`negative = 'drop'`"),
        ({"normalise": "sum"}, "`normalise = 'sum'`"),
        ({"trial_step": torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)}, "Found 4 of 4 missing"),
        ({"trial_step": torch.optim.LBFGS([torch.zeros(1, requires_grad=True)])}, "Found LBFGS"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        hydalearn_of(make(), **options)


def test_a_main_task_that_does_not_exist_is_refused_before_any_gradient() -> None:
    model = make()
    with pytest.raises(ValueError, match="`main_task = 2` and 2 losses"):
        hydalearn_of(model, main_task=2).backward(batch_of(1))
    assert all(p.grad is None for p in model.parameters())


def test_strange_and_frozen_shared_parameters_are_refused() -> None:
    model = make()
    with pytest.raises(ValueError, match="Found 2 that are not"):
        HydaLearn(model, losses_fn, nn.Linear(1, 1).parameters())
    model.trunk.requires_grad_(False)
    with pytest.raises(ValueError, match="only frozen ones"):
        hydalearn_of(model)
