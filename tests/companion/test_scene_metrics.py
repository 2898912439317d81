"""Losses and measures of dense prediction against numbers computed by hand."""

import math

import pytest
import torch
from companion.metrics.scenes import SceneScores, delta_m_by_task, delta_m_flat, pixel_losses, scene_losses
from torch import Tensor, nn


def scores_for(predicted: Tensor, num_classes: int = 3) -> Tensor:
    """Scores whose largest is at the predicted class: 2 there, 0 elsewhere; `[..., H, W]` to `[..., C, H, W]`."""
    return 2.0 * torch.nn.functional.one_hot(predicted, num_classes).movedim(-1, -3).double()


def scene(
    truth: list[int], predicted: list[int], wanted: list[float], numbers: list[float]
) -> tuple[list[Tensor], Tensor]:
    """One run and one scene of one row: outputs and targets."""
    outputs = [
        scores_for(torch.tensor(predicted).view(1, 1, 1, -1)),
        torch.tensor(numbers, dtype=torch.float64).view(1, 1, 1, -1),
    ]
    targets = torch.stack([torch.tensor(truth).double(), torch.tensor(wanted, dtype=torch.float64)]).view(
        2, 1, 1, 1, -1
    )
    return outputs, targets


NAN = math.nan
FIRST = scene([0, 0, 0, 1], [0, 0, 1, 1], [1.0, 2.0, NAN, 0.0], [1.5, 1.0, 7.0, 0.25])
SECOND = scene([0, 1, -1, -1], [1, 1, 0, 0], [4.0, NAN, NAN, NAN], [5.0, 7.0, 7.0, 7.0])


def measured(*batches: tuple[list[Tensor], Tensor]) -> dict[str, float]:
    scores = SceneScores(3)
    for outputs, targets in batches:
        scores.update(outputs, targets)
    return {name: float(values[0]) for name, values in scores.measures().items()}


def test_measures_by_hand() -> None:
    found = measured(FIRST, SECOND)
    # Known pixels: truth 0 0 0 1 | 0 1, predicted 0 0 1 1 | 1 1. Class 0: 2 hits of 4 in the union; class 1: 2 of 4;
    # class 2 is nowhere and does not count.
    assert found["mIoU"] == pytest.approx((2 / 4 + 2 / 4) / 2, abs=1e-12)
    assert found["pixel accuracy"] == pytest.approx(4 / 6, abs=1e-12)
    # Errors 0.5, 1, 0.25 and 1; the truth 0 has no relative error: 0.5/1, 1/2 and 1/4.
    assert found["absolute error"] == pytest.approx(2.75 / 4, abs=1e-12)
    assert found["relative error"] == pytest.approx((0.5 + 0.5 + 0.25) / 3, abs=1e-12)
    hit, miss = -math.log(math.e**2 / (math.e**2 + 2)), -math.log(1 / (math.e**2 + 2))
    assert found["cross-entropy"] == pytest.approx((4 * hit + 2 * miss) / 6, abs=1e-12)


def test_a_mean_of_batches_would_be_another_number() -> None:
    whole = measured(FIRST, SECOND)
    by_batch = [measured(FIRST), measured(SECOND)]
    # FIRST: IoU 2/3 and 1/2; SECOND: 0/1 and 1/2.
    assert sum(b["mIoU"] for b in by_batch) / 2 == pytest.approx((2 / 3 + 1 / 2 + 0 + 1 / 2) / 4, abs=1e-12)
    for name, difference in [("mIoU", 0.08), ("pixel accuracy", 0.04), ("absolute error", 0.1)]:
        assert abs(sum(b[name] for b in by_batch) / 2 - whole[name]) > difference


def test_batches_do_not_matter() -> None:
    outputs = [torch.cat(pair, dim=1) for pair in zip(FIRST[0], SECOND[0], strict=True)]
    together = measured((outputs, torch.cat([FIRST[1], SECOND[1]], dim=2)))
    assert together == pytest.approx(measured(FIRST, SECOND), abs=1e-12)
    assert together == pytest.approx(measured(SECOND, FIRST), abs=1e-12)


def test_runs_are_kept_apart_and_a_failed_one_is_not_a_number() -> None:
    scores = SceneScores(3)
    outputs = [torch.cat(pair) for pair in zip(FIRST[0], SECOND[0], FIRST[0], strict=True)]
    outputs[1][2, 0, 0, 0] = torch.inf
    scores.update(outputs, torch.cat([FIRST[1], SECOND[1], FIRST[1]], dim=1))
    found = scores.measures()
    for run, alone in enumerate([measured(FIRST), measured(SECOND)]):
        assert {name: float(values[run]) for name, values in found.items()} == pytest.approx(alone, abs=1e-12)
    assert all(bool(values[2].isnan()) for values in found.values())


class Fixed(nn.Module):
    """A model whose outputs are its parameters."""

    def __init__(self, outputs: list[Tensor]) -> None:
        super().__init__()
        self.outputs = nn.ParameterList(outputs)

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.outputs)


def test_losses_are_means_over_known_pixels_times_weights() -> None:
    outputs = [torch.cat(pair) for pair in zip(FIRST[0], SECOND[0], strict=True)]  # two runs
    targets = torch.cat([FIRST[1], SECOND[1]], dim=1)
    weights = torch.tensor([[1.0, 10.0], [3.0, 0.5]], dtype=torch.float64)
    entropy, error = scene_losses(weights)(Fixed(outputs), (torch.zeros(2), targets))
    hit, miss = -math.log(math.e**2 / (math.e**2 + 2)), -math.log(1 / (math.e**2 + 2))
    torch.testing.assert_close(
        entropy.detach(), torch.tensor([(3 * hit + miss) / 4, 10 * (hit + miss) / 2], dtype=torch.float64)
    )
    torch.testing.assert_close(error.detach(), torch.tensor([3 * 1.75 / 3, 0.5 * 1.0], dtype=torch.float64))


def test_unknown_pixels_give_no_gradient_and_no_nan() -> None:
    model = Fixed(FIRST[0])
    torch.autograd.backward([loss.sum() for loss in scene_losses(torch.ones(2, 1))(model, (torch.zeros(1), FIRST[1]))])
    score_grad, number_grad = (p.grad for p in model.outputs)
    assert score_grad is not None
    assert number_grad is not None
    assert bool(score_grad.isfinite().all())
    assert number_grad.flatten().tolist() == pytest.approx([1 / 3, -1 / 3, 0, 1 / 3])
    known = FIRST[1][0].squeeze() >= 0
    assert bool((score_grad.abs().sum(2).squeeze()[known] > 0).all())
    outputs, targets = SECOND
    model = Fixed(outputs)
    torch.autograd.backward([loss.sum() for loss in scene_losses(torch.ones(2, 1))(model, (torch.zeros(1), targets))])
    assert model.outputs[0].grad is not None
    assert model.outputs[0].grad[..., 2:].abs().max() == 0


def test_a_batch_without_a_known_pixel_has_loss_zero() -> None:
    outputs, targets = FIRST
    unknown = torch.stack([torch.full_like(targets[0], -1), torch.full_like(targets[1], torch.nan)])
    losses = scene_losses(torch.ones(2, 1))(Fixed(outputs), (torch.zeros(1), unknown))
    assert [loss.item() for loss in losses] == [0, 0]


def test_one_run_without_a_stack() -> None:
    outputs, targets = FIRST
    losses, known = pixel_losses([o[0] for o in outputs], targets[:, 0])
    assert [tuple(loss.shape) for loss in losses] == [(1, 1, 4)] * 2
    assert known[1].flatten().tolist() == [True, True, False, True]


SINGLE = {"mIoU": 0.5, "pixel accuracy": 0.8, "absolute error": 0.1, "relative error": 0.4}
METHOD = {"mIoU": 0.55, "pixel accuracy": 0.76, "absolute error": 0.08, "relative error": 0.5}


def test_delta_m_in_both_conventions() -> None:
    # Relative losses: mIoU -10 %, accuracy +5 %, absolute error -20 %, relative error +25 %: mean 0 %.
    assert delta_m_flat(METHOD, SINGLE) == pytest.approx(0.0, abs=1e-12)
    assert delta_m_by_task(METHOD, SINGLE) == pytest.approx(0.0, abs=1e-12)
    without = {name: value for name, value in METHOD.items() if name != "relative error"}
    assert delta_m_flat(without, SINGLE) == pytest.approx((-0.10 + 0.05 - 0.20) / 3, abs=1e-12)  # better: negative
    assert delta_m_by_task(without, SINGLE) == pytest.approx(((0.10 - 0.05) / 2 + 0.20) / 2, abs=1e-12)  # positive


def test_the_conventions_can_disagree_about_who_is_better() -> None:
    # A loss of 6 % in both of the first task's measures, a gain of 9 % in the only one of the second's.
    single = {name: value for name, value in SINGLE.items() if name != "relative error"}
    method = {"mIoU": 0.47, "pixel accuracy": 0.752, "absolute error": 0.091}
    assert delta_m_flat(method, single) == pytest.approx((0.06 + 0.06 - 0.09) / 3, abs=1e-12)  # worse
    assert delta_m_by_task(method, single) == pytest.approx((-0.06 + 0.09) / 2, abs=1e-12)  # better


def test_delta_m_of_the_single_task_itself_is_zero() -> None:
    assert delta_m_flat(SINGLE, SINGLE) == 0
    assert delta_m_by_task(SINGLE, SINGLE) == 0
