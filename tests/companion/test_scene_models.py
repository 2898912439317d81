"""Networks of dense prediction: shapes, what is shared, and runs in a stack."""

import pytest
import torch
from companion.metrics.scenes import scene_losses
from companion.networks.scenes import LoopedModel, SceneModel, SegNet, UNet
from companion.train.stacked import StackedModel

from mtlcore.adatask import AdaTaskAdam
from mtlcore.dominance import Dominance
from mtlcore.task_gradients import task_backward


def unet(seed: int) -> UNet:
    generator = torch.Generator().manual_seed(seed)
    return UNet([4, 8, 8], num_classes=7, octaves=1, generator=generator, dtype=torch.float64)


def segnet(seed: int) -> SegNet:
    generator = torch.Generator().manual_seed(seed)
    return SegNet(7, (4, 8), (1, 2), generator=generator, dtype=torch.float64)


def scenes(runs: int, scenes: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    x = torch.rand(runs, scenes, 3, 8, 16, generator=generator, dtype=torch.float64)
    classes = torch.randint(-1, 7, (runs, scenes, 8, 16), generator=generator).double()
    return x, torch.stack([classes, x.mean(2)])


@pytest.mark.parametrize("make", [unet, segnet])
class TestModel:
    def test_outputs(self, make: type) -> None:
        scores, numbers = make(0)(scenes(1)[0][0])
        assert scores.shape == (2, 7, 8, 16)
        assert numbers.shape == (2, 8, 16)

    def test_every_shared_layer_has_a_weight_and_a_bias_that_both_tasks_reach(self, make: type) -> None:
        model: SceneModel = make(0)
        shared = model.shared_parameters()
        assert len(shared) == 2 * len(model.layer_names())
        assert [p.ndim for p in shared] == [4, 1] * len(model.layer_names())
        heads = set(model.heads.parameters())
        assert heads.isdisjoint(shared)
        assert heads | set(shared) == set(model.parameters())
        x, y = scenes(1)
        task_backward(scene_losses(torch.ones(2))(model, (x[0], y[:, 0])), shared)
        for p in shared:
            assert all(bool(row.abs().max() > 0) for row in p.task_grad)  # type: ignore[attr-defined]

    def test_the_generator_decides_the_weights(self, make: type) -> None:
        same, other = ([p.detach() for p in make(seed).parameters()] for seed in (0, 1))
        assert all(torch.equal(a, b) for a, b in zip(make(0).parameters(), same, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(make(0).parameters(), other, strict=True))

    def test_no_scene_depends_on_another(self, make: type) -> None:
        model, (x, _) = make(0), scenes(1, 3)
        together = model(x[0])
        for i in range(3):
            for both, alone in zip(together, model(x[0, i : i + 1]), strict=True):
                torch.testing.assert_close(both[i : i + 1], alone)

    def test_a_looped_stack_is_its_copies(self, make: type) -> None:
        models, (x, y) = [make(seed) for seed in range(3)], scenes(3)
        stack = LoopedModel(models)
        for stacked, outputs in zip(stack(x), zip(*(m(x[r]) for r, m in enumerate(models)), strict=True), strict=True):
            torch.testing.assert_close(stacked, torch.stack(outputs))
        losses = scene_losses(torch.ones(2, 3, dtype=torch.float64))(stack, (x, y))
        task_backward(losses, stack.shared_parameters())
        for run, model in enumerate(models):
            alone = scene_losses(torch.ones(2))(model, (x[run], y[:, run]))
            torch.testing.assert_close(torch.stack(list(losses))[:, run], torch.stack(list(alone)))
            task_backward(alone, model.shared_parameters())
            for stacked, single in zip(stack.shared_parameters(), model.shared_parameters(), strict=True):
                torch.testing.assert_close(stacked.task_grad[:, run], single.task_grad)  # type: ignore[attr-defined]


def test_vmap_and_the_loop_agree() -> None:
    models, (x, _) = [unet(seed) for seed in range(3)], scenes(3)
    for one, other in zip(StackedModel(models)(x), LoopedModel(models)(x), strict=True):
        torch.testing.assert_close(one, other)


def test_the_official_network_has_the_size_of_segnet() -> None:
    with torch.device("meta"):
        model = SegNet(7)
    assert len(model.encoder) == len(model.decoder) == 13
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(29.5e6, rel=0.01)


def test_dominance_sees_every_layer() -> None:
    stack, (x, y) = LoopedModel([unet(seed) for seed in range(2)]), scenes(2)
    optimizer = AdaTaskAdam(stack.parameters(), num_tasks=2, lr=1e-3)
    dominance = Dominance(optimizer)
    task_backward(scene_losses(torch.ones(2, 2, dtype=torch.float64))(stack, (x, y)), stack.shared_parameters())
    optimizer.step()
    layers = dominance.layers(stack.stack)
    assert len(layers) == len(unet(0).layer_names())
    for found in layers.values():
        # The first step of AdaTask-Adam is lr for every task that has a gradient at all.
        torch.testing.assert_close(found.relative, torch.full_like(found.relative, 0.5), atol=1e-3, rtol=0)


def test_learns_to_tell_classes_and_numbers() -> None:
    model = unet(0)
    x, _ = scenes(1, 4)
    bright = x[0].mean(1)
    y = torch.stack([(bright > 0.5).double(), bright])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses_fn = scene_losses(torch.ones(2))
    first = [loss.item() for loss in losses_fn(model, (x[0], y))]
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(losses_fn(model, (x[0], y)))
        optimizer.step()
    last = [loss.item() for loss in losses_fn(model, (x[0], y))]
    assert last[0] < 0.4 * first[0]
    assert last[1] < 0.4 * first[1]
