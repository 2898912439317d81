"""Weight decay is AdamW's per run, and dropout draws each run's masks by its seed, for every method and trial alike."""

from collections.abc import Callable

import pytest
import torch
from companion.networks.shared_bottom import Masked, SharedBottom, binary_losses
from companion.train.optimizers import step_per_run
from companion.train.regularised import DecayedAdam, Dropout
from companion.train.stacked import Batch, StackedModel, predict
from companion.train.weightings import StaticWeights, Weighting
from test_runs import made_data
from torch import Tensor

from mtlcore.hydalearn import HydaLearn

SHARES = torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64)
SEEDS = [3, 4, 4]


def made_stack(seeds: list[int]) -> StackedModel:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return StackedModel([SharedBottom(6, [8, 8], 2, generator=g, dtype=torch.float64, masked=True) for g in generators])


def made_batch(runs: int) -> Batch:
    return made_data(40, 0, [0] * runs).batch(torch.arange(40).expand(runs, -1))


def static(model: StackedModel) -> Weighting:
    return StaticWeights(model, binary_losses, torch.ones(2, model.num_runs, dtype=torch.float64))


def hydalearn(model: StackedModel) -> Weighting:
    return HydaLearn(model, binary_losses, list(model.stack.shared_parameters()))  # type: ignore[operator]


def test_decay_per_run_is_adamws() -> None:
    rates, decays = [0.01, 0.03], [0.5, 2.0]
    start = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stacked = torch.nn.Parameter(start.clone())
    alone = [torch.nn.Parameter(row.clone()) for row in start]
    ours = DecayedAdam([stacked], torch.tensor(decays, dtype=torch.float64))
    torchs = [torch.optim.AdamW([p], lr=r, weight_decay=d) for p, r, d in zip(alone, rates, decays, strict=True)]
    for step in range(4):
        stacked.grad = torch.full_like(start, step - 1.5) * start
        step_per_run(ours, torch.tensor(rates, dtype=torch.float64))
        for run, (p, optimizer) in enumerate(zip(alone, torchs, strict=True)):
            p.grad = stacked.grad[run].clone()
            optimizer.step()
    torch.testing.assert_close(stacked.detach(), torch.stack([p.detach() for p in alone]), rtol=0, atol=1e-12)


def test_masks_drop_the_share_keep_the_mean_and_leave_evaluation_alone() -> None:
    model, seen = made_stack(SEEDS), []

    class Watched:
        def backward(self, batch: Batch) -> object:
            seen.append([layer.mask.clone() for layer in model.modules() if isinstance(layer, Masked)])
            return static(model).backward(batch)

    before = predict(model, made_data(40, 0, [0] * 3))
    dropout = Dropout(Watched(), model, SEEDS, SHARES)  # type: ignore[arg-type]
    for _ in range(20):
        dropout.backward(made_batch(3))
    masks = torch.stack([torch.stack(layers) for layers in seen])  # [steps, layers, R, B, H]
    assert (masks[:, :, 0] == 1).all()
    assert set(masks[:, :, 1].flatten().tolist()) == {0, 2}
    assert masks[:, :, 1].mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(masks[:, :, 1], masks[:, :, 2])  # of one seed
    assert not torch.equal(masks[0, :, 1], masks[1, :, 1])
    assert not torch.equal(masks[:, 0, 1], masks[:, 1, 1])
    torch.testing.assert_close(predict(model, made_data(40, 0, [0] * 3)), before, rtol=0, atol=0)


@pytest.mark.parametrize("make", [static, hydalearn])
def test_a_run_under_dropout_is_the_same_alone_and_in_a_crowd(make: Callable[[StackedModel], Weighting]) -> None:
    def gradients(runs: list[int]) -> list[Tensor]:
        seeds = [SEEDS[r] for r in runs]
        model = made_stack(seeds)
        step = Dropout(make(model), model, seeds, SHARES[runs]).backward(made_batch(len(runs)))
        return [step.weights[:, -1], *(p.grad[-1] for p in model.parameters() if p.grad is not None)]

    for together, alone in zip(gradients([0, 1]), gradients([1]), strict=True):
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_hydalearns_trials_see_the_masks_of_their_step() -> None:
    """Its exact gains are those of a model that holds the same masks for good, by hand."""
    model = made_stack(SEEDS)
    batch = made_batch(3)
    weights = Dropout(hydalearn(model), model, SEEDS, SHARES).backward(batch).weights
    fixed = made_stack(SEEDS)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    for layer in (m for m in fixed.modules() if isinstance(m, Masked)):
        drawn = torch.stack([torch.rand(40, 8, generator=g) for g in generators])
        layer.mask = ((drawn < 1 - SHARES[:, None, None]) / (1 - SHARES[:, None, None])).double()
    shared = list(fixed.stack.shared_parameters())  # type: ignore[operator]
    losses = binary_losses(fixed, batch)
    gains: list[Tensor] = []
    for gradients in [torch.autograd.grad(loss.sum(), shared, retain_graph=True) for loss in losses]:
        with torch.no_grad():
            for p, g in zip(shared, gradients, strict=True):
                p -= 0.001 * g
            gains.append((losses[0] - binary_losses(fixed, batch)[0]).clamp(min=0))
            for p, g in zip(shared, gradients, strict=True):
                p += 0.001 * g
    expected = torch.stack(gains) / torch.stack(gains).sum(0)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-8)
