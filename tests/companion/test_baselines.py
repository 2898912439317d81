"""The project's own baselines: cases by hand, their formulas in a slow twin, TorchJD's, many runs, bad input."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from companion.baselines import (
    BATCHED,
    DWA,
    CosineGate,
    GradNorm,
    OLAux,
    PerTaskRMS,
    SLGrad,
    Step,
    UncertaintyWeighting,
    make_baseline,
    trained_parameters,
)
from companion.networks.shared_bottom import SharedBottom, binary_losses, task_losses
from companion.train.problem import Problem
from companion.train.runs import train_runs
from companion.train.stacked import RunData, StackedModel
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torchjd import scalarization

from mtlcore.adatask import AdaTaskAdam
from mtlcore.dominance import Dominance
from mtlcore.task_gradients import zero_task_grad

KINDS = ["regression", "classification", "regression"]


class Toy(nn.Module):
    """Shared x = (0, 0) and heads h_t = 1: task t's loss is g_t . x + h_t l_t for given g_t and l_t."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.heads = nn.ParameterList([nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(2)])


def toy_losses(model: Toy, batch: Sequence[tuple[Sequence[float], float]]) -> list[Tensor]:
    return [
        torch.tensor(g, dtype=torch.float64) @ model.x + head * value
        for (g, value), head in zip(batch, model.heads, strict=True)
    ]


def toy_step(weighting: Any, model: Toy, *tasks: tuple[Sequence[float], float]) -> Step:
    """One call from fresh gradients; each task is (gradient of x, loss)."""
    model.zero_grad()
    zero_task_grad([model.x])
    step: Step = weighting.backward(tasks)
    assert step.losses.tolist() == [value for _, value in tasks]
    return step


def close(found: Tensor | None, expected: float | Sequence[Any] | Tensor, atol: float = 1e-12) -> None:
    assert found is not None
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float64), rtol=0, atol=atol)


# ------------------------------------------------------------------------------------------------------ cases by hand


def test_cosine_gate_by_hand() -> None:
    model = Toy()
    gate = CosineGate(model, toy_losses, [model.x])
    # norms 2 and 5, inner product 2 * 3 = 6: cosine 6 / 10
    close(toy_step(gate, model, ([2, 0], 1), ([3, 4], 7)).weights, [1, 0.6])
    close(model.x.grad, [2 + 0.6 * 3, 0.6 * 4])
    close(model.x.task_grad, [[2, 0], [3, 4]])  # type: ignore[attr-defined]
    close(model.x.task_weights, [1, 0.6])  # type: ignore[attr-defined]
    close(model.heads[1].grad, 7)  # its own, not scaled
    close(toy_step(gate, model, ([2, 0], 1), ([-3, 4], 7)).weights, [1, 0])  # cosine -0.6
    close(model.x.grad, [2, 0])
    open_or_shut = CosineGate(model, toy_losses, [model.x], gate="unweighted")
    close(toy_step(open_or_shut, model, ([2, 0], 1), ([3, 4], 7)).weights, [1, 1])
    close(model.x.grad, [5, 4])
    close(toy_step(open_or_shut, model, ([2, 0], 1), ([-3, 4], 7)).weights, [1, 0])
    second = CosineGate(model, toy_losses, [model.x], main_task=1)
    close(toy_step(second, model, ([2, 0], 1), ([3, 4], 7)).weights, [0.6, 1])


@pytest.mark.parametrize("gate", ["weighted", "unweighted"])
@pytest.mark.parametrize("auxiliary", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_cosine_gate_is_closed_for_no_direction(gate: str, auxiliary: list[float]) -> None:
    model = Toy()
    with torch.no_grad():
        model.x.fill_(1.0)
    model.zero_grad()
    CosineGate(model, toy_losses, [model.x], gate=gate).backward([([2, 0], 1), (auxiliary, 7)])
    close(model.x.grad, [2, 0])


def test_olaux_by_hand() -> None:
    model = Toy()
    olaux = OLAux(model, toy_losses, [model.x], weight_lr=0.1, every=2)
    close(toy_step(olaux, model, ([2, 0], 1), ([3, 4], 7)).weights, [1, 1])  # inner product 6
    close(toy_step(olaux, model, ([1, 1], 1), ([-1, 0], 7)).weights, [1, 1])  # inner product -1
    close(model.x.grad, [0, 1])
    close(toy_step(olaux, model, ([1, 1], 1), ([2, 2], 7)).weights, [1, 1.5])  # 1 + 0.1 (6 - 1); inner product 4
    close(model.x.grad, [1 + 1.5 * 2, 1 + 1.5 * 2])
    close(model.heads[1].grad, 7)
    close(toy_step(olaux, model, ([1, 0], 1), ([-40, 0], 7)).weights, [1, 1.5])  # inner product -40
    close(toy_step(olaux, model, ([1, 0], 1), ([1, 0], 7)).weights, [1, -2.1])  # 1.5 + 0.1 (4 - 40)


def test_gradnorm_by_hand() -> None:
    model = Toy()
    gradnorm = GradNorm(model, toy_losses, [model.x], alpha=2.0, weight_lr=0.1)
    # Step 1: norms 1 and 5 at weights 1, so G = (1, 5), mean 3; losses are the first ones, so both rates are 1 and
    # both targets 3: dL/dw = (-1 * 1, +1 * 5). Adam's first step is 0.1 against the sign: w = (1.1, 0.9), sum 2.
    close(toy_step(gradnorm, model, ([1, 0], 2.0), ([3, 4], 8.0)).weights, [1, 1])
    # Step 2: G = (1.1 * 1, 0.9 * 5) = (1.1, 4.5), mean 2.8. Losses (1, 6): progress (1/2, 3/4), mean 5/8, rates
    # (4/5, 6/5); targets 2.8 (0.64, 1.44) = (1.792, 4.032): dL/dw = (-1, +5) again.
    close(toy_step(gradnorm, model, ([1, 0], 1.0), ([3, 4], 6.0)).weights, [1.1, 0.9], atol=1e-8)
    close(model.x.grad, [1.1 + 0.9 * 3, 0.9 * 4], atol=1e-7)
    close(model.heads[1].grad, 0.9 * 6, atol=1e-7)  # weighted, as the loss is
    # Two equal gradients leave Adam's bias-corrected moments at (g, g^2): a step of 0.1 more.
    close(toy_step(gradnorm, model, ([1, 0], 1.0), ([3, 4], 6.0)).weights, [1.2, 0.8], atol=1e-7)


def test_gradnorm_weights_stay_positive_and_sum_to_the_number_of_tasks() -> None:
    model = Toy()
    gradnorm = GradNorm(model, toy_losses, [model.x], weight_lr=0.5)
    for step in range(6):
        weights = toy_step(gradnorm, model, ([1, 0], 1.0), ([30, 40], 1.0)).weights
        close(weights.sum(), 2.0)
        assert weights.min() >= 0, step
    assert weights[0] > 1.5


def test_per_task_rms_by_hand() -> None:
    model = Toy()
    rms = PerTaskRMS(model, toy_losses, [model.x], beta=0.5, eps=0.25)
    # D = 2 numbers. Mean squares 8/2 = 4 and 32/2 = 16; v = (2, 8), corrected by 1 - 1/2: (4, 16), roots 2 and 4.
    weights = toy_step(rms, model, ([2, 2], 1), ([4, -4], 7)).weights
    close(weights, [1 / 2.25, 1 / 4.25])
    close(model.x.grad, [2 / 2.25 + 4 / 4.25, 2 / 2.25 - 4 / 4.25])
    close(model.heads[1].grad, 7)
    # Mean squares 1 and 0: v = (2/2 + 1/2, 8/2) = (1.5, 4), corrected by 1 - 1/4: (2, 16/3).
    close(
        toy_step(rms, model, ([1, 1], 1), ([0, 0], 7)).weights,
        [1 / (math.sqrt(2) + 0.25), 1 / (math.sqrt(16 / 3) + 0.25)],
    )


def test_uncertainty_weighting_by_hand() -> None:
    model = Toy()
    uncertainty = UncertaintyWeighting(model, toy_losses, ["regression", "classification"])
    assert trained_parameters(model, uncertainty)[-1] is uncertainty.log_variances
    optimizer = torch.optim.SGD(uncertainty.parameters(), lr=0.1)
    close(toy_step(uncertainty, model, ([1, 0], 3.0), ([0, 1], 2.0)).weights, [0.5, 1])
    close(model.x.grad, [0.5, 1])
    close(model.heads[0].grad, 1.5)  # 0.5 * 3
    # d/ds of 0.5 e^-s 3 + s/2 is -1.5 + 0.5, and of e^-s 2 + s/2 it is -2 + 0.5
    close(uncertainty.log_variances.grad, [-1.0, -1.5])
    optimizer.step()
    close(uncertainty.log_variances.detach(), [0.1, 0.15])
    expected = [0.5 * math.exp(-0.1), math.exp(-0.15)]
    close(toy_step(uncertainty, model, ([1, 0], 3.0), ([0, 1], 2.0)).weights, expected)


def test_dwa_by_hand() -> None:
    model = Toy()
    dwa = DWA(model, toy_losses, steps_per_epoch=2)
    epochs = [[(4.0, 1.0), (2.0, 3.0)], [(1.0, 2.0), (2.0, 2.0)], [(1.0, 1.0), (3.0, 1.0)], [(9.0, 9.0)]]
    ones = [1.0, 1.0]
    # Averages: (3, 2), (1.5, 2), (2, 1). Rates: epoch 3 (0.5, 1), epoch 4 (4/3, 0.5); weights 2 softmax(rates / 2).
    a, b = math.exp(0.25), math.exp(0.5)
    c, d = math.exp(2 / 3), math.exp(0.25)
    third, fourth = [2 * a / (a + b), 2 * b / (a + b)], [2 * c / (c + d), 2 * d / (c + d)]
    expected = [ones, ones, ones, ones, third, third, fourth]
    losses = [pair for epoch in epochs for pair in epoch]
    for (first, second), weights in zip(losses, expected, strict=True):
        close(toy_step(dwa, model, ([1, 0], first), ([0, 1], second)).weights, weights)
    close(model.x.grad, fourth)
    close(model.heads[0].grad, fourth[0] * 9)


# ------------------------------------------------------------------------------- formulas, one line each, in float64


class Twin:
    """What each paper says, for one run, from losses [T] and task gradients [T, D], slowly; returns the weights [T]."""

    def __init__(self) -> None:
        self.step, self.state = 0, dict[str, Any]()

    def gate(self, L: Tensor, g: Tensor) -> list[float]:
        return [1.0] + [max(0.0, float(torch.cosine_similarity(g[0], g_i, dim=0, eps=0))) for g_i in g[1:]]

    def open_or_shut(self, L: Tensor, g: Tensor) -> list[float]:
        return [1.0] + [float(torch.sign(g[0] @ g_i) + 1) / 2 for g_i in g[1:]]

    def olaux(self, L: Tensor, g: Tensor) -> list[float]:
        past = self.state.setdefault("inner", [])
        whole = len(past) // 3 * 3  # N = 3
        w = [1.0] + [1.0 + 0.02 * sum(inner[i] for inner in past[:whole]) for i in range(1, len(g))]
        past.append([float(g[0] @ g_i) for g_i in g])
        return w

    def gradnorm(self, L: Tensor, g: Tensor) -> list[float]:
        first = self.state.setdefault("first", L)
        w = self.state.setdefault("w", torch.ones(len(L), dtype=torch.float64))
        trained = w.clone().requires_grad_()
        G = torch.stack([(w_t * g_t).norm() for w_t, g_t in zip(trained, g, strict=True)])
        r = (L / first) / (L / first).mean()
        target = (G.mean() * r**1.5).detach()
        (G - target).abs().sum().backward()
        self.step += 1
        grad = trained.grad
        m = self.state["m"] = 0.9 * self.state.get("m", 0) + 0.1 * grad
        v = self.state["v"] = 0.999 * self.state.get("v", 0) + 0.001 * grad**2
        m_hat, v_hat = m / (1 - 0.9**self.step), v / (1 - 0.999**self.step)
        moved = w - 0.025 * m_hat / (v_hat.sqrt() + 1e-8)
        self.state["w"] = moved * len(L) / moved.sum()
        return list(w)

    def rms(self, L: Tensor, g: Tensor) -> list[float]:
        self.step += 1
        v = self.state["v"] = 0.9 * self.state.get("v", 0) + 0.1 * (g**2).mean(1)
        return list(1 / ((v / (1 - 0.9**self.step)).sqrt() + 1e-8))

    def uncertainty(self, L: Tensor, g: Tensor) -> list[float]:
        sigma = self.state.setdefault("sigma", torch.ones(len(L), dtype=torch.float64))
        scale = torch.tensor([2.0, 1.0, 2.0], dtype=torch.float64)
        log_variance = (sigma**2).log().requires_grad_()
        trained = (log_variance / 2).exp()  # sigma
        (L / (scale * trained**2) + trained.log()).sum().backward()
        moved = log_variance.detach() - 0.05 * log_variance.grad
        self.state["sigma"] = (moved / 2).exp()
        return list(1 / (scale * sigma**2))

    def dwa(self, L: Tensor, g: Tensor) -> list[float]:
        past = self.state.setdefault("losses", [])
        e = len(past) // 2  # two steps make an epoch
        past.append(L)
        if e < 2:
            return [1.0] * len(L)
        rate = sum(past[2 * e - 2 : 2 * e]) / sum(past[2 * e - 4 : 2 * e - 2])
        return [len(L) * math.exp(x / 2) / sum(math.exp(y / 2) for y in rate) for x in rate]


Make = Callable[[nn.Module, list[Tensor], int | None], Any]
METHODS: dict[str, tuple[Make, bool]] = {  # how it is made, and whether weights scale the heads
    "gate": (lambda m, p, R: CosineGate(m, stacked_losses, p), False),
    "open_or_shut": (lambda m, p, R: CosineGate(m, stacked_losses, p, gate="unweighted"), False),
    "olaux": (lambda m, p, R: OLAux(m, stacked_losses, p, weight_lr=0.02, every=3), False),
    "gradnorm": (lambda m, p, R: GradNorm(m, stacked_losses, p), True),
    "rms": (lambda m, p, R: PerTaskRMS(m, stacked_losses, p, beta=0.9), False),
    "uncertainty": (lambda m, p, R: UncertaintyWeighting(m, stacked_losses, KINDS, R), True),
    "dwa": (lambda m, p, R: DWA(m, stacked_losses, 2), True),
}


def stacked_losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Mean squared errors of three tasks at scales 1, 3 and 0.3, each [] or [R]."""
    x, y = batch
    return [s * (out - y_t).square().mean(-1) for s, out, y_t in zip((1, 3, 0.3), model(x), y, strict=True)]


def made_model(seed: int) -> SharedBottom:
    return SharedBottom(5, [6, 4], 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made_batch(step: int, runs: list[int]) -> tuple[Tensor, Tensor]:
    """Inputs [R, 16, 5] and targets [3, R, 16]; a run's own data, whoever is beside it."""
    pairs = []
    for r in runs:
        g = torch.Generator().manual_seed(100 * r + step)
        x = torch.randn(16, 5, generator=g, dtype=torch.float64)
        y = torch.stack([x[:, 0], x[:, 0] + x[:, 1], -x[:, 0] + x[:, 2]])
        pairs.append((x, y + 0.3 * torch.randn(3, 16, generator=g, dtype=torch.float64)))
    return torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs], dim=1)


def shared_of(model: nn.Module) -> list[Tensor]:
    return [p for name, p in model.named_parameters() if "trunk" in name]


@pytest.mark.parametrize("name", METHODS)
def test_equals_its_formula(name: str) -> None:
    model, twin = made_model(0), Twin()
    make, scales_heads = METHODS[name]
    weighting = make(model, shared_of(model), None)
    optimizer = torch.optim.SGD(trained_parameters(model, weighting), lr=0.05)
    seen = []
    for step in range(8):
        x, y = made_batch(step, [0])
        batch = (x[0], y[:, 0])
        losses = stacked_losses(model, batch)
        grads = [torch.autograd.grad(loss, shared_of(model), retain_graph=True) for loss in losses]
        g = torch.stack([torch.cat([row.flatten() for row in rows]) for rows in grads])  # [T, D]
        expected = torch.tensor(getattr(twin, name)(torch.stack(losses).detach(), g), dtype=torch.float64)
        heads = [p for p in model.parameters() if p not in set(shared_of(model))]
        head_weights = expected if scales_heads else torch.ones_like(expected)
        head_grads = torch.autograd.grad((head_weights * torch.stack(losses)).sum(), heads)

        optimizer.zero_grad()
        zero_task_grad(shared_of(model))
        found = weighting.backward(batch)
        close(found.weights, expected, atol=1e-10)
        close(found.losses, torch.stack(losses).detach())
        close(torch.cat([p.grad.flatten() for p in shared_of(model)]), expected @ g, atol=1e-10)  # type: ignore[union-attr]
        for p, head_grad in zip(heads, head_grads, strict=True):
            close(p.grad, head_grad, atol=1e-10)
        seen.append(found.weights)
        optimizer.step()
    assert (torch.stack(seen).std(0) > 1e-3).any()  # the weights move, so equality says something


# ------------------------------------------------------------------------------------------------------ many runs


def trained(name: str, runs: list[int], steps: int = 8) -> tuple[nn.Module, Tensor]:
    """Parameters and weights [steps, T, R] after some steps of Adam."""
    model = StackedModel([made_model(r) for r in runs])
    if name == "slgrad":
        weighting: Any = SLGrad(model, stacked_losses, shared_of(model), lambda: made_batch(99, runs))
    else:
        weighting = METHODS[name][0](model, shared_of(model), len(runs))
    optimizer = torch.optim.Adam(trained_parameters(model, weighting), lr=0.02)
    weights = []
    for step in range(steps):
        optimizer.zero_grad()
        zero_task_grad(model.parameters())
        weights.append(weighting.backward(made_batch(step, runs)).weights)
        optimizer.step()
    return model, torch.stack(weights).detach()


@pytest.mark.parametrize("name", [*METHODS, "slgrad"])
def test_a_run_in_a_crowd_equals_the_run_alone(name: str) -> None:
    together, weights = trained(name, [0, 1, 2])
    assert weights.shape == (8, 3, 3)
    assert (weights[:, :, 0] - weights[:, :, 1]).abs().max() > 1e-3
    for r in range(3):
        alone, weights_alone = trained(name, [r])
        close(weights[..., r], weights_alone[..., 0], atol=1e-10)
        for p, q in zip(together.parameters(), alone.parameters(), strict=True):
            close(p[r].detach(), q[0].detach(), atol=1e-10)


@pytest.mark.parametrize("name", [*METHODS, "slgrad"])
def test_a_broken_run_spoils_no_other(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, _ = trained(name, [0, 1, 2])
    honest = made_batch

    def broken(step: int, runs: list[int]) -> tuple[Tensor, Tensor]:
        x, y = honest(step, runs)
        y[0, 1] = math.nan  # the main task of run 1
        return x, y

    monkeypatch.setitem(globals(), "made_batch", broken)
    spoilt, _ = trained(name, [0, 1, 2])
    for p, q in zip(sound.parameters(), spoilt.parameters(), strict=True):
        close(p[[0, 2]].detach(), q[[0, 2]].detach())
    assert any(q[1].isnan().any() for q in spoilt.parameters())


@pytest.mark.parametrize("name", BATCHED)
def test_training_never_waits_for_the_device(name: str) -> None:
    """Tensors on `meta` have no values: a branch on one, or a copy to the host, would raise."""
    with torch.device("meta"):
        model = StackedModel([SharedBottom(6, [8], 2) for _ in range(3)])
        data = RunData(torch.empty(2, 50, 6), torch.empty(2, 2, 50), torch.empty(3, dtype=torch.long))
        draw = {"draw": lambda: data.batch(torch.zeros(3, 8, dtype=torch.long))} if name == "SLGrad" else {}
        weighting = make_baseline(
            name, model, binary_losses, shared_of(model), kinds=["classification"] * 2, steps_per_epoch=3, **draw
        )
        problem = Problem(model, [0, 1, 2], ["classification"] * 2, binary_losses, data, data, data, 16)
        optimizer = torch.optim.Adam(trained_parameters(model, weighting), lr=1.0)
        history = train_runs(problem, weighting, optimizer, rates=torch.empty(3), epochs=3)
    assert history.weights.shape == (9, 2, 3)


def test_a_knob_per_run_is_that_of_the_run() -> None:
    for make in (
        lambda m, values: OLAux(m, stacked_losses, shared_of(m), weight_lr=values, every=1),
        lambda m, values: GradNorm(m, stacked_losses, shared_of(m), alpha=values),
    ):
        together = make(StackedModel([made_model(r) for r in (0, 1)]), torch.tensor([0.1, 0.5], dtype=torch.float64))
        weights = [together.backward(made_batch(step, [0, 1])).weights for step in range(3)]
        for r, value in enumerate((0.1, 0.5)):
            alone = make(StackedModel([made_model(r)]), value)
            expected = [alone.backward(made_batch(step, [r])).weights for step in range(3)]
            close(torch.stack(weights)[..., r], torch.stack(expected)[..., 0])


# -------------------------------------------------------------------------------------------------- weights of rows


def test_slgrad_equals_its_rule_with_the_gradient_of_every_row() -> None:
    model, names = made_model(0), [name for name, _ in made_model(0).named_parameters()]
    x, y = made_batch(1, [0])
    x, y = x[0], y[:, 0].clone()
    y[2, :5] = math.nan  # rows without a label of the last task
    losses_fn = task_losses(["regression"] * 3)
    shared = shared_of(model)
    validation = (made_batch(2, [0])[0][0], made_batch(2, [0])[1][:, 0])
    step = SLGrad(model, losses_fn, shared, lambda: validation).backward((x, y))

    direction = torch.cat([g.flatten() for g in torch.autograd.grad(losses_fn(model, validation)[0], shared)])
    values = {name: p.detach() for name, p in model.named_parameters()}

    def row_loss(parameters: dict[str, Tensor], x_i: Tensor, y_i: Tensor, task: int) -> Tensor:
        outputs = functional_call(model, parameters, (x_i[None],))
        return torch.where(y_i.isnan(), 0.0, (outputs[task][0] - y_i.nan_to_num()) ** 2)

    rows = [
        vmap(torch.func.grad(row_loss), (None, 0, 0, None))(values, x, y[t], t) for t in range(3)
    ]  # [B, *shape] each
    of_shared = [torch.cat([g[name].flatten(1) for name in names if "trunk" in name], 1) for g in rows]  # [B, D]
    gains = torch.stack([g @ direction for g in of_shared]).clamp(min=0)  # [T, B]
    weights = gains / gains.sum()
    close(step.weights, weights.sum(1))
    assert (gains == 0).any()
    for name, p in model.named_parameters():
        close(p.grad, sum(torch.einsum("b,b...->...", w, g[name]) for w, g in zip(weights, rows, strict=True)))


def test_slgrad_trains_the_main_task_where_no_row_helps() -> None:
    model = made_model(0)
    x, y = made_batch(1, [0])
    batch = (x[0], y[:, 0])
    zero = SLGrad(model, stacked_losses, shared_of(model), lambda: (x[0], torch.stack(list(model(x[0]))).detach()))
    model.zero_grad()
    close(zero.backward(batch).weights, [1, 0, 0])  # the validation gradient is 0
    expected = torch.autograd.grad(stacked_losses(model, batch)[0], shared_of(model))
    for p, gradient in zip(shared_of(model), expected, strict=True):
        close(p.grad, gradient)


# ------------------------------------------------------------------------------------------------------- TorchJD's


def test_dwa_equals_torchjd() -> None:
    model, theirs = made_model(0), scalarization.DWA(temperature=1.5)
    ours = DWA(model, stacked_losses, steps_per_epoch=3, temperature=1.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(12):
        x, y = made_batch(step, [0])
        expected = torch.autograd.grad(
            theirs(torch.stack(stacked_losses(model, (x[0], y[:, 0])))), [*model.parameters()]
        )
        optimizer.zero_grad()
        weights = ours.backward((x[0], y[:, 0])).weights
        for p, grad in zip(model.parameters(), expected, strict=True):
            close(p.grad, grad)
        optimizer.step()
        if step % 3 == 2:
            theirs.step()
    assert weights.std() > 1e-3


def test_uncertainty_weighting_equals_torchjd() -> None:
    model, theirs = made_model(0), scalarization.UW(3).double()
    ours = UncertaintyWeighting(model, stacked_losses, ["regression"] * 3)
    optimizer = torch.optim.Adam(trained_parameters(model, ours), lr=0.05)
    their_optimizer = torch.optim.Adam(theirs.parameters(), lr=0.05)
    for step in range(6):
        x, y = made_batch(step, [0])
        batch = (x[0], y[:, 0])
        loss = theirs(torch.stack(stacked_losses(model, batch)))
        expected = torch.autograd.grad(loss, [theirs.log_var, *model.parameters()])
        optimizer.zero_grad()
        ours.backward(batch)
        for p, grad in zip([ours.log_variances, *model.parameters()], expected, strict=True):
            close(p.grad, grad)
        theirs.log_var.grad = expected[0]
        optimizer.step()
        their_optimizer.step()
        close(ours.log_variances.detach(), theirs.log_var.detach())
    assert ours.log_variances.abs().max() > 0.1


# ----------------------------------------------------------------------------------------- beside the other methods


@pytest.mark.parametrize("name", ["uncertainty", "dwa"])
@pytest.mark.parametrize("runs", [None, [0, 1]])
def test_task_gradients_on_request_change_nothing_else(name: str, runs: list[int] | None) -> None:
    model = made_model(0) if runs is None else StackedModel([made_model(r) for r in runs])
    x, y = made_batch(0, [0] if runs is None else runs)
    batch = (x[0], y[:, 0]) if runs is None else (x, y)
    grads = []
    for shared in (None, shared_of(model)):
        model.zero_grad()
        if name == "dwa":
            weighting: Any = DWA(model, stacked_losses, 1, shared=shared)
        else:
            weighting = UncertaintyWeighting(
                model, stacked_losses, KINDS, None if runs is None else len(runs), shared=shared
            )
        weighting.backward(batch)
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        close(a, b)
    assert shared_of(model)[0].task_grad.shape == (3, *shared_of(model)[0].shape)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["gate", "olaux", "gradnorm", "rms"])
def test_accumulates_like_backward(name: str) -> None:
    """Two mini-batches before one optimizer step: gradients add up, and so do the tasks' parts of them."""
    model = StackedModel([made_model(r) for r in (0, 1)])
    weighting, parts = METHODS[name][0](model, shared_of(model), 2), []
    for accumulate in (False, True):
        if accumulate:
            weighting = METHODS[name][0](model, shared_of(model), 2)
        for step in range(2):
            if not accumulate or step == 0:
                model.zero_grad()
                zero_task_grad(model.parameters())
            weighting.backward(made_batch(step, [0, 1]))
            parts.append([p.grad.clone() for p in model.parameters()])  # type: ignore[union-attr]
    first, second, _, both = parts
    for a, b, c in zip(first, second, both, strict=True):
        close(c, a + b)


def test_dominance_reads_the_weights_that_a_baseline_leaves() -> None:
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dominance = Dominance(optimizer, decay=0.5)
    CosineGate(model, toy_losses, [model.x]).backward([([2, 1], 1.0), ([-1, 2.5], 1.0)])
    optimizer.step()
    w = 0.5 / (math.sqrt(5) * math.sqrt(7.25))
    # AU = (1 - 0.5) (0.1 w_t g_t)^2
    close(dominance.au[model.x], [[0.5 * 0.2**2, 0.5 * 0.1**2], [0.5 * (0.1 * w) ** 2, 0.5 * (0.25 * w) ** 2]])


def test_adatask_takes_the_task_gradients_that_a_baseline_leaves() -> None:
    model = Toy()
    optimizer = AdaTaskAdam(model.parameters(), lr=0.1, num_tasks=2, task_weights="gradients")
    GradNorm(model, toy_losses, [model.x]).backward([([2, 1], 1.0), ([5, -3], 1.0)])
    optimizer.step()
    close(model.x.detach(), [-0.2, 0.0], atol=1e-7)  # each task's first step is 0.1 against its sign


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m, p: CosineGate(m, toy_losses, p, gate="soft"), r"Parameter `gate` should be one of 'weighted'"),
        (lambda m, p: CosineGate(m, toy_losses, p, main_task=-1), r"`main_task` .* Found `main_task = -1`"),
        (lambda m, p: CosineGate(m, toy_losses, [nn.Parameter(torch.ones(1))]), r"`shared` .* Found 1 that are not"),
        (lambda m, p: CosineGate(m, toy_losses, [p[0].requires_grad_(False)]), r"Found only frozen ones"),
        (
            lambda m, p: OLAux(m, toy_losses, p, weight_lr=0.0),
            r"`weight_lr` should be positive .* Found `weight_lr = 0",
        ),
        (lambda m, p: OLAux(m, toy_losses, p, every=0), r"`every` should be an integer, 1 or more"),
        (lambda m, p: GradNorm(m, toy_losses, p, alpha=-1), r"`alpha` should be 0 or more .* Found `alpha = -1`"),
        (lambda m, p: GradNorm(m, toy_losses, p, weight_lr=math.nan), r"`weight_lr` should be positive"),
        (lambda m, p: GradNorm(m, toy_losses, p, layer=[m.heads[0]]), r"`layer` .* Found 1 that are not"),
        (lambda m, p: PerTaskRMS(m, toy_losses, p, beta=1.0), r"`beta` should be from 0 to below 1"),
        (lambda m, p: PerTaskRMS(m, toy_losses, p, eps=-1.0), r"`eps` should be positive"),
        (lambda m, p: UncertaintyWeighting(m, toy_losses, ["ranking"] * 2), r"`kinds` should be one of 'regression'"),
        (lambda m, p: DWA(m, toy_losses, 0), r"`steps_per_epoch` should be an integer"),
        (lambda m, p: DWA(m, toy_losses, 1, temperature=0.0), r"`temperature` should be positive"),
        (
            lambda m, p: make_baseline("magic", m, toy_losses, p, kinds=["regression"] * 2, steps_per_epoch=1),
            r"`name` should be one of 'uncertainty weighting'",
        ),
    ],
)
def test_refuses(make: Callable[[Toy, list[Tensor]], Any], message: str) -> None:
    model = Toy()
    with pytest.raises(ValueError, match=message):
        make(model, [model.x])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: CosineGate(m, toy_losses, [m.x], main_task=2), r"Found `main_task = 2` and 2 losses. Pass 0 to 1"),
        (lambda m: UncertaintyWeighting(m, toy_losses, ["regression"] * 3), r"Found \[3\] of them and losses \[2\]"),
        (lambda m: UncertaintyWeighting(m, toy_losses, ["regression"] * 2, 4), r"Found \[2, 4\] of them and losses"),
    ],
)
def test_refuses_losses_before_anything_changes(make: Callable[[Toy], Any], message: str) -> None:
    model = Toy()
    with pytest.raises(ValueError, match=message):
        make(model).backward([([1, 0], 1.0), ([0, 1], 1.0)])
    assert all(p.grad is None for p in model.parameters())
    assert not hasattr(model.x, "task_grad")
