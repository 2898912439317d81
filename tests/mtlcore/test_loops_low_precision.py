"""AdaTask in half precision: each step adds once to a parameter, and one task alone is torch's optimizer to the bit."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import ADATASK, OPTIONS, RULES, TORCH, ByHand, examples, kernel
from torch import Tensor, nn

HALVES = st.sampled_from([torch.bfloat16, torch.float16])
FLAGS = st.sampled_from([{}, {"foreach": True}, {"foreach": False}, {"fused": True}, {"fused": False}])
FIRST = {"adam": 1.0, "adamw": 1.0, "adagrad": 1.0, "rmsprop": 0.1**-0.5}  # length of a first step, in lr


def parameter(values: Tensor, dtype: torch.dtype) -> Any:
    return nn.Parameter(values.to(dtype))


@examples(250)
@given(
    dtype=HALVES,
    rule=st.sampled_from(RULES),
    flags=FLAGS,
    num_tasks=st.integers(2, 8),
    ulps=st.floats(0.6, 3.0),
    weights=st.sampled_from([None, "list", "tensor"]),
    seed=st.integers(0, 1000),
)
def test_a_step_rounds_the_sum_of_the_updates_once(
    dtype: torch.dtype,
    rule: str,
    flags: dict[str, bool],
    num_tasks: int,
    ulps: float,
    weights: str | None,
    seed: int,
) -> None:
    """All tasks pull one way by ``ulps`` spacings of the numbers together: added one by one, most of it is lost."""
    generator = torch.Generator().manual_seed(seed)
    start = (1.0 + 0.9 * torch.rand(64, generator=generator)).to(dtype)  # between 1 and 2, where the spacing is eps
    spacing = torch.finfo(dtype).eps
    p, beside = parameter(start.clone(), dtype), parameter(start, torch.float32)
    factors = [1.0] * num_tasks if weights is None else [2.0 * (t + 1) / (num_tasks + 1) for t in range(num_tasks)]
    lr = ulps * spacing / FIRST[rule] / num_tasks  # the factors sum to T
    task_weights = {None: None, "list": factors, "tensor": torch.tensor(factors, dtype=torch.float64)}[weights]
    tasks = {"num_tasks": num_tasks, "task_weights": task_weights}
    optimizer = ADATASK[rule]([p, beside], lr=lr, weight_decay=0, **tasks, **OPTIONS[rule], **kernel(rule, flags))
    signs = torch.where(torch.rand(64, generator=generator) < 0.5, -1.0, 1.0)
    p.task_grad = (signs * (0.5 + torch.rand(num_tasks, 64, generator=generator))).to(dtype)
    beside.task_grad = p.task_grad.float()
    exact = start.double()
    ByHand(rule, lr=lr).step([exact], [list(p.task_grad.double())], factors)  # moves it in float64
    optimizer.step()
    error = (p.detach().double() - exact).abs().max().item()
    assert error <= (0.5 + 0.02 * num_tasks * ulps) * spacing
    torch.testing.assert_close(beside.detach().double(), exact, rtol=1e-6, atol=0)


@examples(80)
@given(rule=st.sampled_from(RULES), flags=FLAGS, num_tasks=st.integers(2, 8), seed=st.integers(0, 1000))
def test_over_many_steps_the_movement_kept_is_that_of_one_addition(
    rule: str, flags: dict[str, bool], num_tasks: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    start = 1.0 + 0.9 * torch.rand(256, generator=generator)
    p, once = parameter(start, torch.bfloat16), start.bfloat16()
    exact = once.double()
    lr = 0.8 * torch.finfo(torch.bfloat16).eps / num_tasks
    optimizer = ADATASK[rule]([p], num_tasks=num_tasks, lr=lr, weight_decay=0, **OPTIONS[rule], **kernel(rule, flags))
    by_hand = ByHand(rule, lr=lr)
    gradient = (0.5 + torch.rand(num_tasks, 256, generator=generator)).bfloat16()
    for _ in range(12):
        p.task_grad = gradient.clone()
        optimizer.step()
        before = exact.clone()
        by_hand.step([exact], [list(gradient.double())])
        once += (exact - before).bfloat16()
    expected, found = (start.bfloat16() - once).double().mean(), (start.bfloat16() - p.detach()).double().mean()
    assert expected > torch.finfo(torch.bfloat16).eps
    assert abs(found / expected - 1) < 0.1


@examples(250)
@given(
    dtype=HALVES,
    rule=st.sampled_from(RULES),
    flags=FLAGS,
    weight_decay=st.sampled_from([0.0, 0.1]),
    maximize=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_one_task_is_torchs_optimizer_to_the_bit(
    dtype: torch.dtype, rule: str, flags: dict[str, bool], weight_decay: float, maximize: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(5, 3), (7,), ()]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = [[parameter(value, dtype) for value in start] for _ in range(2)]
    both = {"lr": 0.03, "weight_decay": weight_decay, "maximize": maximize, **OPTIONS[rule], **kernel(rule, flags)}
    adatask, joint = ADATASK[rule](ours, num_tasks=1, **both), TORCH[rule](theirs, **both)
    if not flags and adatask.fused_op is not None:  # AdaTask's own choice of kernels is to fuse
        joint.param_groups[0]["fused"] = True
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.task_grad = torch.randn(1, *p.shape, generator=generator).to(dtype)
            q.grad = p.task_grad[0].clone()
        adatask.step()
        joint.step()
        for p, q in zip(ours, theirs, strict=True):
            assert torch.equal(p, q)
            assert all(torch.equal(adatask.state[p][name][0], value) for name, value in joint.state[q].items())
