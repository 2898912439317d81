"""The parts together: HydaLearn before AdaTask, weights on updates, changing weights under Dominance, scaled losses."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mtlcore import (
    AdaTaskAdagrad,
    AdaTaskAdam,
    AdaTaskAdamW,
    AdaTaskRMSprop,
    Dominance,
    HydaLearn,
    task_backward,
    unscale_task_grad_,
    zero_task_grad,
)

ADATASK = [AdaTaskAdam, AdaTaskAdamW, AdaTaskAdagrad, AdaTaskRMSprop]


class Network(nn.Module):
    """A shared layer and two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(3, 4, dtype=torch.float64)
        self.heads = nn.Linear(4, 2, dtype=torch.float64)

    def losses(self, x: Tensor, scale: float = 1.0) -> list[Tensor]:
        a, b = self.heads(self.trunk(x).tanh()).unbind(-1)
        return [(a - x[:, 0]).square().mean(), scale * (b - x[:, 1] * x[:, 2]).square().mean()]


def batch(seed: int) -> Tensor:
    return torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def hydalearn_of(model: Network, **options: object) -> HydaLearn:
    return HydaLearn(model, lambda m, x: m.losses(x), model.trunk.parameters(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ADATASK)
def test_weights_in_front_of_adatask_and_on_its_updates(rule: type[AdaTaskAdam]) -> None:
    """Each mode is what one writes by hand: weighted gradients, or weights of updates; a level in front is erased."""
    models = in_front, front_by_hand, on_updates, updates_by_hand = [Network() for _ in range(4)]
    modes = ("gradients", None, "updates", None)
    optimizers = [
        rule(m.parameters(), num_tasks=2, lr=0.01, task_weights=mode) for m, mode in zip(models, modes, strict=True)
    ]
    for seed in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        for model in (in_front, on_updates):
            weights = hydalearn_of(model, scale_heads=False, trial_step=0.05).backward(batch(seed)).weights
        weights = hydalearn_of(copy.deepcopy(front_by_hand), trial_step=0.05).backward(batch(seed)).weights
        losses = front_by_hand.losses(batch(seed))
        task_backward(losses, front_by_hand.trunk.parameters())
        for p in front_by_hand.trunk.parameters():
            p.task_grad = p.task_grad * weights.reshape(-1, *[1] * p.ndim)  # type: ignore[attr-defined]
        weights = hydalearn_of(copy.deepcopy(updates_by_hand), trial_step=0.05).backward(batch(seed)).weights
        task_backward(updates_by_hand.losses(batch(seed)), updates_by_hand.trunk.parameters())
        optimizers[3].param_groups[0]["task_weights"] = weights.tolist()
        for optimizer in optimizers:
            optimizer.step()
    assert (weights - weights.flip(0)).abs().max() > 0.05
    torch.testing.assert_close(in_front.trunk.weight, front_by_hand.trunk.weight, rtol=1e-12, atol=0)
    torch.testing.assert_close(on_updates.trunk.weight, updates_by_hand.trunk.weight, rtol=1e-12, atol=0)
    assert (on_updates.trunk.weight - in_front.trunk.weight).abs().max() > 1e-4


@pytest.mark.parametrize("rule", ADATASK)
def test_weights_without_a_place_are_refused(rule: type[AdaTaskAdam]) -> None:
    model = Network()
    optimizer = rule(model.parameters(), num_tasks=2)
    hydalearn_of(model).backward(batch(0))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="should say where the weights of HydaLearn count"):
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("rule", ADATASK)
def test_the_trial_step_of_an_adatask_optimizer_is_one_tasks_own(rule: type[AdaTaskAdam]) -> None:
    model = Network()
    optimizer = rule(model.parameters(), num_tasks=2, lr=0.01, task_weights=[5.0, 0.2])
    hydalearn = hydalearn_of(model, trial_step=optimizer, trial_rule="optimizer")
    for seed in range(3):
        optimizer.zero_grad()
        before = model.losses(batch(seed))[0]
        expected = []
        for t in range(2):
            moved = copy.deepcopy(model)
            alone = rule(moved.parameters(), num_tasks=2, lr=0.01)
            alone.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            alone.param_groups[0]["task_weights"] = [float(t == k) for k in range(2)]
            task_backward(moved.losses(batch(seed)), moved.trunk.parameters())
            moved.heads.zero_grad()
            alone.step()
            expected.append(before - moved.losses(batch(seed))[0])
        gains = hydalearn.backward(batch(seed)).gains
        torch.testing.assert_close(gains, torch.stack(expected).detach(), rtol=1e-9, atol=1e-13)
        optimizer.step()


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad])
def test_dominance_accounts_for_the_weights_of_every_accumulated_call(rule: type[torch.optim.Optimizer]) -> None:
    """Two mini-batches with other weights make one gradient: the tasks' updates still sum to the real one."""
    model = Network()
    optimizer = rule(model.parameters(), lr=0.01)  # type: ignore[call-arg]
    dominance = Dominance(optimizer, decay=0.0)  # AU is then the square of the last update
    hydalearn = hydalearn_of(model, trial_step=0.05, negative="keep")
    p = model.trunk.weight
    for seed in range(4):
        optimizer.zero_grad()
        zero_task_grad(model.trunk.parameters())
        weights = [hydalearn.backward(batch(2 * seed + k)).weights for k in range(2)]
        assert (weights[0] - weights[1]).abs().max() > 1e-3
        before = p.detach().clone()
        optimizer.step()
        first, second = dominance.au[p].sqrt()
        moved = (p.detach() - before).abs()
        # each update is known up to its sign: the real one is their sum or their difference
        error = torch.minimum((moved - (first + second)).abs(), (moved - (first - second).abs()).abs())
        assert error.max() < 1e-12
        assert moved.min() > 1e-9


@pytest.mark.parametrize("bad_task", [None, 0, 1])
@pytest.mark.parametrize("rule", ADATASK)
def test_one_gradient_scale_serves_all_tasks_and_an_inf_skips_the_step(
    rule: type[AdaTaskAdam], bad_task: int | None
) -> None:
    plain, scaled = Network(), Network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    optimizers = [rule(model.parameters(), num_tasks=2, lr=0.01) for model in (plain, scaled)]
    start = copy.deepcopy(scaled.state_dict())
    task_backward(plain.losses(batch(0)), plain.trunk.parameters())
    optimizers[0].step()
    losses = scaled.losses(batch(0))
    if bad_task is not None:
        losses[bad_task] = losses[bad_task] * float("inf")
    task_backward([scaler.scale(loss) for loss in losses], scaled.trunk.parameters())
    unscale_task_grad_(scaler, scaled.trunk.parameters())
    scaler.step(optimizers[1])
    scaler.update()
    expected = plain.state_dict() if bad_task is None else start
    for name, value in scaled.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=0)
    assert (scaler.get_scale() < 2.0**12) == (bad_task is not None)


@pytest.mark.parametrize("rule", ADATASK)
def test_a_whole_adatask_training_step_on_meta(rule: type[AdaTaskAdam]) -> None:
    model = Network().to("meta")
    optimizer = rule(model.parameters(), num_tasks=2, lr=0.01)
    dominance = Dominance(optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        task_backward(model.losses(batch(0).to("meta")), model.trunk.parameters())
        optimizer.step()
    assert dominance.relative[model.trunk.weight].is_meta


def test_a_constant_loss_scale_is_erased_by_adatask() -> None:
    ends = []
    for scale in (1.0, 1000.0):
        model = Network()
        optimizer = AdaTaskAdam(model.parameters(), num_tasks=2, lr=0.01, eps=1e-16)
        for seed in range(50):
            optimizer.zero_grad()
            task_backward(model.losses(batch(seed), scale), model.trunk.parameters())
            model.heads.zero_grad()  # the heads' ordinary Adam mixes the losses of a joint head
            optimizer.step()
        ends.append(model.trunk.weight.detach().clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=2e-7)
    assert (ends[0] - Network().trunk.weight).abs().max() > 0.05
