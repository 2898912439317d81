"""Every formula that notebook 09 displays, checked by itself: what is erased, what passes, what is projected."""

from typing import Any

import pytest
import torch
from companion.baselines import make_baseline, not_run
from companion.networks.shared_bottom import SharedBottom
from companion.studies.composed.mechanism import draw_weights, fluctuation, mean_update, simulate
from companion.studies.composed.projection import project_conflicts
from companion.studies.composed.variants import make_variant
from companion.train.losses import squared_losses
from companion.train.problem import Problem
from companion.train.stacked import Batch, RunData, StackedModel
from torch import Tensor, nn

from mtlcore.adatask import AdaTaskAdagrad, AdaTaskAdam, AdaTaskRMSprop
from mtlcore.dominance import Dominance

RULES = [AdaTaskAdam, AdaTaskAdagrad, AdaTaskRMSprop]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def path(rule: type[AdaTaskAdam], grads: Tensor, weights: list[float] | None = None, **options: Any) -> Tensor:
    """Where AdaTask goes with these task gradients `[steps, T, n]`."""
    p = nn.Parameter(torch.zeros_like(grads[0, 0]))
    optimizer = rule([p], num_tasks=grads.shape[1], lr=0.1, task_weights=weights, **options)
    for row in grads:
        p.task_grad = row.clone()  # type: ignore[attr-defined]
        optimizer.step()
    return p.detach()


@pytest.mark.parametrize("rule", RULES)
def test_a_constant_weight_acts_on_eps_alone(rule: type[AdaTaskAdam]) -> None:
    """u[c g] with eps is u[g] with eps / c, to rounding; with an eps that counts, the two differ."""
    grads, c = normal(0, 30, 2, 5), torch.tensor([1.0, 1000.0], dtype=torch.float64)[:, None]
    one_task = grads[:, :1]
    torch.testing.assert_close(path(rule, 1000 * one_task, eps=0.5), path(rule, one_task, eps=0.5 / 1000))
    assert not torch.allclose(path(rule, 1000 * one_task, eps=0.5), path(rule, one_task, eps=0.5), rtol=0.01)
    torch.testing.assert_close(path(rule, c * grads, eps=0.0), path(rule, grads, eps=0.0), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_weights_on_updates_keep_their_level(rule: type[AdaTaskAdam]) -> None:
    first, second = normal(1, 30, 1, 5), normal(2, 30, 1, 5)
    both = torch.cat([first, second], dim=1)
    expected = 0.2 * path(rule, first) + 3.0 * path(rule, second)
    torch.testing.assert_close(path(rule, both, weights=[0.2, 3.0]), expected)


def test_what_passes_is_the_fluctuation_and_not_the_level() -> None:
    c = {
        "optimizers": ["Adagrad", "RMSprop", "Adam"], "variations": [0.0, 1.0, 2.0], "levels": [1.0, 1000.0],
        "signal": 0.3, "seed": 0, "steps": 700, "copies": 100,
    }  # fmt: skip
    table = fluctuation(c)
    wide = table.pivot(index=["optimizer", "kind", "variation"], columns="level", values="ratio")
    assert (wide[1.0] - wide[1000.0]).abs().max() < 0.002
    # Weights with v = 2 slow the mean update to 0.45 of what it is without: the guard is a seventh of that effect.
    assert (table["ratio"] - table["predicted"]).abs().max() < 0.08
    assert table.loc[table["variation"] == 0, "ratio"].to_numpy() == pytest.approx(1.0, abs=1e-6)
    assert set(table.loc[table["variation"] == 2, "predicted"]) == {5**-0.5}


@pytest.mark.parametrize("kind", ["gamma", "gate"])
def test_random_weights_have_the_mean_and_variation_that_they_should(kind: str) -> None:
    weights = draw_weights(kind, 2.0, (200_000,), torch.Generator().manual_seed(0))
    assert float(weights.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(weights.std() / weights.mean()) == pytest.approx(2.0, abs=0.06)
    if kind == "gate":  # open with probability q = 1 / (1 + v^2): the mean update falls to sqrt(q)
        assert float((weights > 0).double().mean()) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("name", ["Adagrad", "RMSprop", "Adam"])
def test_a_correlation_of_weight_and_gradient_passes(name: str) -> None:
    grads = 0.3 + normal(3, 600, 200)
    weights, ones = torch.where(grads > 0, 1.0, 0.2), torch.ones_like(grads)
    measured = float(simulate(name, weights, grads).mean() / simulate(name, ones, grads).mean())
    predicted = float(mean_update(weights, grads).mean() / mean_update(ones, grads).mean())
    assert predicted > 1.8  # far from the 0.87 of weights that do not depend on the gradient
    assert measured == pytest.approx(predicted, rel=0.05)


def two_heads() -> Problem:
    """A network whose two heads start alike: the tasks agree as their targets do."""
    network = SharedBottom(4, [6], 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network.heads[1].load_state_dict(network.heads[0].state_dict())
    data = RunData(torch.zeros(1, 1, 4), torch.zeros(1, 2, 1), torch.zeros(1, dtype=torch.int64))
    return Problem(StackedModel([network]), [0], ["regression"] * 2, squared_losses, data, data, data, 1)


def one_step(method: str, scale: float) -> float:
    """Size of the auxiliary task's first update over the main task's, the auxiliary loss being scaled."""
    problem = two_heads()
    x = normal(4, 1, 40, 4)
    y = torch.stack([x[..., 0] + 0.3 * x[..., 1], x[..., 0] - 0.3 * x[..., 1]])  # [T, R, B]
    weighting, optimizer = make_variant(method, problem, problem.scaled_losses([scale]))
    dominance = Dominance(optimizer)
    batch: Batch = (x, y)
    weighting.backward(batch)
    optimizer.step()
    main, auxiliary = torch.cat([dominance.au[p].flatten(1) for p in problem.shared], dim=1)
    live = (main > 1e-30) & (auxiliary > 1e-30)
    return float((auxiliary[live] / main[live]).sqrt().median())


@pytest.mark.parametrize(
    ("method", "power"), [("HydaLearn", 2), ("HydaLearn on updates", 1), ("HydaLearn in front", 0)]
)
def test_an_auxiliary_loss_scaled_by_s_counts_as_s_to_the_power_of_its_place(method: str, power: int) -> None:
    """A scale enters a gain once and a gradient once; the gain is a difference at a trial step, not its limit."""
    assert one_step(method, 3.0) / one_step(method, 1.0) == pytest.approx(3.0**power, rel=0.02)


def projected(grads: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The projections of task gradients `[T, n]`, split over two parameters, and whether there was a conflict."""
    parts = [nn.Parameter(torch.zeros(3, dtype=torch.float64)), nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))]
    parts[0].task_grad = grads[:, :3].clone()  # type: ignore[attr-defined]
    parts[1].task_grad = grads[:, 3:].reshape(-1, 2, 2).clone()  # type: ignore[attr-defined]
    found = project_conflicts(parts, torch.Generator().manual_seed(seed))
    return torch.cat([p.task_grad.flatten(1) for p in parts], dim=1), found  # type: ignore[attr-defined]


def conflicting(seed: int) -> Tensor:
    """Two gradients `[2, 7]` with an obtuse angle."""
    grads = normal(seed, 2, 7)
    grads[1] -= (grads[0] @ grads[1] + 1) / grads[0].square().sum() * grads[0]
    assert float(grads[0] @ grads[1]) == pytest.approx(-1)
    return grads


def test_two_gradients_in_conflict_are_projected_in_closed_form() -> None:
    a, b = grads = conflicting(6)
    new, found = projected(grads)
    torch.testing.assert_close(new, torch.stack([a + b / b.square().sum(), b + a / a.square().sum()]))
    assert bool(found)
    assert float(new[0] @ b) == pytest.approx(0, abs=1e-12)  # max(0, <g_i, g_j>)
    agreeing = torch.stack([a, -b])
    new, found = projected(agreeing)
    assert torch.equal(new, agreeing)
    assert not bool(found)


def test_a_projection_follows_its_own_scale_and_not_the_others() -> None:
    grads = conflicting(7)
    new, _ = projected(grads)
    scaled, _ = projected(grads * torch.tensor([[1.0], [50.0]], dtype=torch.float64))
    torch.testing.assert_close(scaled, new * torch.tensor([[1.0], [50.0]], dtype=torch.float64))


def test_many_tasks_are_projected_one_after_the_other() -> None:
    grads = normal(8, 4, 7)
    new, _ = projected(grads, seed=3)
    generator = torch.Generator().manual_seed(3)
    for i, row in enumerate(grads):
        for j in torch.randperm(4, generator=generator).tolist():
            inner = float(row @ grads[j])
            if j != i and inner < 0:
                row = row - inner / grads[j].square().sum() * grads[j]
        torch.testing.assert_close(new[i], row)


def test_a_zero_gradient_conflicts_with_nothing() -> None:
    grads = torch.stack([normal(9, 7), torch.zeros(7, dtype=torch.float64)])
    new, found = projected(grads)
    assert torch.equal(new, grads)
    assert not bool(found)


def test_every_run_is_projected_by_itself() -> None:
    runs = torch.stack([conflicting(10), torch.stack([normal(11, 7), normal(11, 7)])], dim=1)  # [T, R, 7]
    p = nn.Parameter(torch.zeros(2, 7, dtype=torch.float64))
    p.task_grad, p.task_runs = runs.clone(), 2  # type: ignore[attr-defined]
    found = project_conflicts([p], torch.Generator())
    assert found.tolist() == [True, False]
    for r in range(2):
        torch.testing.assert_close(p.task_grad[:, r], projected(runs[:, r])[0])  # type: ignore[attr-defined]


@pytest.mark.skipif(not_run("PCGrad") is not None, reason="TorchJD is not installed")
def test_the_sum_of_the_projections_is_torchjds() -> None:
    def gradients(method: str) -> list[Tensor]:
        problem = two_heads()
        x = normal(12, 1, 30, 4)
        y = torch.stack([x[..., 0], x[..., 1] - x[..., 0]])  # targets that contradict each other
        if method == "ours":
            weighting: Any = make_variant("PCGrad", problem, squared_losses)[0]
        else:
            weighting = make_baseline(
                "PCGrad", problem.model, squared_losses, problem.shared, kinds=problem.kinds, steps_per_epoch=1
            )
        weighting.backward((x, y))
        if method == "ours":
            assert bool(weighting.conflicts[0])
        return [p.grad for p in problem.shared if p.grad is not None]

    for ours, theirs in zip(gradients("ours"), gradients("TorchJD"), strict=True):
        torch.testing.assert_close(ours, theirs)
