"""The oracle itself, against numbers worked out by hand and against torch."""

from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from mtlcore import reference


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_two_tasks_of_adam_by_hand() -> None:
    state: dict[int, Any] = {}
    theta, delta = reference.adatask_adam(
        number(1.0), [number(3.0), number(-0.5)], state, lr=0.1, beta1=0.5, beta2=0.75, eps=1.0
    )
    # step 1: m_hat is g and v_hat is g^2, so the updates are -0.1 * 3 / (3 + 1) and 0.1 * 0.5 / (0.5 + 1)
    assert [d.item() for d in delta] == pytest.approx([-0.075, 0.1 / 3], abs=1e-15)
    assert theta.item() == pytest.approx(1 - 0.075 + 0.1 / 3, abs=1e-15)
    theta, delta = reference.adatask_adam(theta, [number(1.0), None], state, lr=0.1, beta1=0.5, beta2=0.75, eps=1.0)
    # step 2 of task 0: m = 0.5 * 1.5 + 0.5 = 1.25 over 1 - 0.25; v = 0.75 * 2.25 + 0.25 = 1.9375 over 1 - 0.5625
    assert delta[0].item() == pytest.approx(-0.1 * (1.25 / 0.75) / (sqrt(1.9375 / 0.4375) + 1), abs=1e-15)
    assert delta[1].item() == 0
    assert (state[0][0], state[1][0]) == (2, 1)


def test_two_tasks_of_adagrad_by_hand() -> None:
    state: dict[int, Any] = {}
    g = [number(3.0), number(4.0)]
    _, delta = reference.adatask_adagrad(number(0.0), g, state, lr=0.1, lr_decay=1.0, eps=1.0, w=[1.0, 2.0])
    assert [d.item() for d in delta] == pytest.approx([-0.1 * 3 / 4, -0.1 * 2 * 4 / 5], abs=1e-15)
    _, delta = reference.adatask_adagrad(number(0.0), g[::-1], state, lr=0.1, lr_decay=1.0, eps=1.0, maximize=True)
    # both sums are 9 + 16 = 25, and the learning rate is halved at the second step
    assert [d.item() for d in delta] == pytest.approx([0.05 * 4 / 6, 0.05 * 3 / 6], abs=1e-15)


def test_centered_rmsprop_with_momentum_and_decay_by_hand() -> None:
    state: dict[int, Any] = {}
    options: dict[str, Any] = {
        "lr": 0.1,
        "alpha": 0.5,
        "eps": 1.0,
        "momentum": 0.5,
        "centered": True,
        "weight_decay": 2.0,
    }
    theta, delta = reference.adatask_rmsprop(number(3.0), [number(1.0), number(-3.0)], state, **options)
    # gradients with the share 2 * 3 / 2: 4 and 0; square average 8, average 2, variance 8 - 4
    assert [d.item() for d in delta] == pytest.approx([-0.1 * 4 / 3, 0.0], abs=1e-15)
    _, delta = reference.adatask_rmsprop(theta, [-theta, -theta], state, **options)
    assert delta[0].item() == pytest.approx(-0.1 * 0.5 * 4 / 3, abs=1e-15)  # no gradient is left: momentum only


@pytest.mark.parametrize("weights", [None, [0.5, 2.0]])
def test_joint_adams_parts_sum_to_torchs_adam(weights: list[float] | None) -> None:
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer, theta = torch.optim.Adam([p], lr=0.1), p.detach().clone()
    state: dict[str, Any] = {}
    for s in range(4):
        g = list(torch.randn(2, 3, generator=torch.Generator().manual_seed(s)).double())
        p.grad = sum((w * g_k for w, g_k in zip(weights or [1.0, 1.0], g, strict=True)), torch.zeros(3).double())
        optimizer.step()
        theta, _ = reference.joint_adam(theta, g, state, lr=0.1, w=weights)
        torch.testing.assert_close(p.detach(), theta, rtol=0, atol=1e-14)


def test_accumulated_and_relative_updates_by_hand() -> None:
    au = reference.accumulated_updates([0.0, 0.0], [number(-2.0), number(1.0)], rho=0.75)
    assert [a.item() for a in au] == [1.0, 0.25]
    au = reference.accumulated_updates(au, [number(0.0), number(3.0)], rho=0.75)
    assert [a.item() for a in au] == [0.75, 2.4375]
    assert [r.item() for r in reference.relative_updates(au)] == pytest.approx([0.75 / 3.1875, 2.4375 / 3.1875])
    assert reference.relative_updates([number(0.0), number(0.0)])[0].isnan()
