"""Weights and AdaTask together: in front of the accumulators or on the updates, by hand the same; weight 0 is left out.

The weights come from `combine`, from HydaLearn or from the optimizer's group, and change from step to step. A task of
weight 0 may hold NaN or infinities. Dominance says of each step what the oracle says.
"""

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import ADATASK, EPS, OPTIONS, RULES, TORCH, ByHand, Net, added, by_task, close, examples, kernel, times, twin
from torch import Tensor, nn

from mtlcore import Dominance, HydaLearn, clip_task_grad_norm_, combine, task_backward

EXAMPLES = examples(120)
BAD = st.sampled_from([None, torch.nan, torch.inf, -torch.inf])
RHO = 0.7  # of Dominance


@st.composite
def weights_of_steps(draw: st.DrawFn) -> list[list[float]]:
    """Draws T weights of some steps; the first task's are never 0, the others' often."""
    num_tasks = draw(st.integers(2, 4))
    others = st.lists(st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.0]), min_size=num_tasks - 1, max_size=num_tasks - 1)
    return draw(st.lists(others.map(lambda rest: [0.5, *rest]), min_size=1, max_size=4))


def spoiled(losses: Sequence[Tensor], weights: Sequence[float], bad: float | None) -> list[Tensor]:
    """Returns losses of which those of weight 0 are spoiled."""
    return [loss * bad if bad is not None and w == 0 else loss for loss, w in zip(losses, weights, strict=True)]


@EXAMPLES
@given(
    per_step=weights_of_steps(),
    rule=st.sampled_from(RULES),
    source=st.sampled_from(["combine", "combine a tensor", "hydalearn", "list", "tensor"]),
    mode=st.sampled_from(["gradients", "updates"]),
    bad=BAD,
    flags=st.sampled_from([{}, {"foreach": True}, {"foreach": False}]),
)
def test_weights_in_front_or_on_updates_are_those_by_hand_and_a_task_of_weight_zero_is_left_out(
    per_step: list[list[float]], rule: str, source: str, mode: str, bad: float | None, flags: dict[str, bool]
) -> None:
    num_tasks = len(per_step[0])
    model = Net(num_tasks)
    exact: Net = twin(model)
    numbers = {"lr": 0.02, "weight_decay": 0.1}
    optimizer = ADATASK[rule](
        model.parameters(), num_tasks=num_tasks, task_weights=mode, **numbers, **OPTIONS[rule], **flags
    )
    by_hand, of_heads, dominance = ByHand(rule, **numbers), ByHand(rule, **numbers), Dominance(optimizer, decay=RHO)
    au = [[torch.zeros_like(p) for _ in range(num_tasks)] for p in exact.trunk]
    for seed, weights in enumerate(per_step):
        optimizer.zero_grad()
        losses, scale_heads = spoiled(model.every(seed), weights, bad), False
        if source == "hydalearn":
            spoil, scale_heads = list(weights), True

            def losses_fn(model: Net, at: int, spoil: Sequence[float] = spoil) -> list[Tensor]:
                return spoiled(model.every(at), spoil, bad)

            hydalearn = HydaLearn(model, losses_fn, model.trunk, trial_step=0.05, normalise="tasks")
            weights = hydalearn.backward(seed).weights.tolist()
            assert all(w == 0 for w, before in zip(weights, spoil, strict=True) if bad is not None and before == 0)
        else:
            task_backward(losses, model.trunk)
            if source.startswith("combine"):
                combine(model.trunk, torch.tensor(weights) if "tensor" in source else weights)
            else:
                mode = "updates"
                optimizer.param_groups[0]["task_weights"] = weights if source == "list" else torch.tensor(weights)
        heads: list[list[Tensor | None]] = []
        spoil = spoil if source == "hydalearn" else weights
        grads = by_task(spoiled(exact.every(seed), spoil, bad), [*exact.trunk, *exact.heads])
        for head, row, w in zip(model.heads, grads[len(exact.trunk) :], spoil, strict=True):
            heads.append([added(times(weights, row) if scale_heads else row)])
            if bad is not None and w == 0 and not scale_heads:  # its own head is spoiled; that is for the user to see
                head.grad, heads[-1] = None, [None]
        shared = grads[: len(exact.trunk)]
        optimizer.step()
        if mode == "gradients":
            updates = by_hand.step(exact.trunk, [times(weights, row) for row in shared])
        else:
            updates = by_hand.step(exact.trunk, shared, weights)
        of_heads.step(list(exact.heads), heads)
        for i, (p, now) in enumerate(zip(model.trunk, updates, strict=True)):
            for t in range(num_tasks):
                au[i][t] = RHO * au[i][t] + (1 - RHO) * now.get(t, torch.zeros_like(au[i][t])) ** 2
                close(dominance.au[p][t].sqrt(), au[i][t].sqrt(), f"AU of task {t}")
        for p, q in zip(model.parameters(), exact.parameters(), strict=True):
            close(p, q)
        for p in model.trunk:
            assert all(value.isfinite().all() for value in optimizer.state[p].values())


def parts_of_update(rule: str, parts: Sequence[Tensor], state: dict[str, Any], lr: float) -> list[Tensor]:
    """Each task's part of an ordinary optimizer's update: linear in the gradients, over the denominator of the sum."""
    o, t, whole = OPTIONS[rule], state.get("t", 0) + 1, sum(parts, torch.zeros_like(parts[0]))
    linear = state.get("linear", [torch.zeros_like(g) for g in parts])
    if rule == "sgd":
        linear = [o["momentum"] * b + g for b, g in zip(linear, parts, strict=True)]
        directions = linear
    elif rule in ("adam", "adamw"):
        one, two = o["betas"]
        linear = [one * m + (1 - one) * g for m, g in zip(linear, parts, strict=True)]
        state["v"] = two * state.get("v", 0) + (1 - two) * whole**2
        below = (state["v"] / (1 - two**t)) ** 0.5 + EPS
        directions = [m / (1 - one**t) / below for m in linear]
    elif rule == "adagrad":
        state["v"] = state.get("v", 0) + whole**2
        directions = [g / (state["v"] ** 0.5 + EPS) for g in parts]
    else:
        state["v"] = o["alpha"] * state.get("v", 0) + (1 - o["alpha"]) * whole**2
        below = state["v"] ** 0.5 + EPS
        linear = [o["momentum"] * b + g / below for b, g in zip(linear, parts, strict=True)]
        directions = linear
    state.update(t=t, linear=linear)
    return [-lr * direction for direction in directions]


@EXAMPLES
@given(
    per_step=weights_of_steps(),
    rule=st.sampled_from(list(TORCH)),
    source=st.sampled_from(["combine", "combine a tensor", "hydalearn"]),
    bad=BAD,
    fused=st.booleans(),
    micro_batches=st.integers(1, 2),
)
def test_under_torchs_optimizers_a_task_of_weight_zero_is_left_out_and_dominance_sums_up(
    per_step: list[list[float]], rule: str, source: str, bad: float | None, fused: bool, micro_batches: int
) -> None:
    num_tasks = len(per_step[0])
    model = Net(num_tasks)
    exact: Net = twin(model)
    optimizer = TORCH[rule](model.trunk, lr=0.02, weight_decay=0, **OPTIONS[rule], **kernel(rule, {"fused": fused}))
    dominance, states = Dominance(optimizer, decay=RHO), [{} for _ in exact.trunk]  # type: ignore[var-annotated]
    au = [[torch.zeros_like(p) for _ in range(num_tasks)] for p in exact.trunk]
    for seed, spoil in enumerate(per_step):
        optimizer.zero_grad()
        parts: list[list[Tensor | None]] = [[None] * num_tasks for _ in exact.trunk]
        for k in range(micro_batches):
            at, weights = 10 * seed + k, spoil

            def losses_fn(model: Net, at: int, spoil: Sequence[float] = spoil) -> list[Tensor]:
                return spoiled(model.every(at), spoil, bad)

            if source == "hydalearn":
                hydalearn = HydaLearn(model, losses_fn, model.trunk, trial_step=0.05)
                weights = hydalearn.backward(at).weights.tolist()
            else:
                task_backward(losses_fn(model, at), model.trunk)
            for mine, row in zip(parts, by_task(losses_fn(exact, at), exact.trunk), strict=True):
                mine[:] = [added(pair) for pair in zip(mine, times(weights, row), strict=True)]
        if source != "hydalearn":
            combine(model.trunk, torch.tensor(spoil) if "tensor" in source else spoil)
        optimizer.step()
        for i, (p, q, row) in enumerate(zip(model.trunk, exact.trunk, parts, strict=True)):
            rows = [torch.zeros_like(q) if g is None else g.detach() for g in row]
            updates = parts_of_update(rule, rows, states[i], 0.02)
            q.data = q.detach() + sum(updates)
            close(p, q)
            for t, update in enumerate(updates):
                au[i][t] = RHO * au[i][t] + (1 - RHO) * update**2
                close(dominance.au[p][t].sqrt(), au[i][t].sqrt(), f"AU of task {t}")


@examples(60)
@given(
    table=st.lists(st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=3, max_size=3), min_size=2, max_size=3),
    rule=st.sampled_from(RULES),
    source=st.sampled_from(["combine, gradients", "combine, updates", "tensor"]),
    bad=st.sampled_from([torch.nan, torch.inf]),
)
def test_a_task_of_weight_zero_in_some_runs_is_left_out_of_those(
    table: list[list[float]], rule: str, source: str, bad: float
) -> None:
    num_tasks, runs, weights = len(table), 3, torch.tensor(table, dtype=torch.float64)
    p: Any = nn.Parameter(torch.linspace(-1, 1, runs * 4, dtype=torch.float64).reshape(runs, 2, 2))
    p.task_runs = runs
    exact = [p.detach()[r].clone().requires_grad_() for r in range(runs)]
    mode = source.removeprefix("combine, ")
    tasks = {"num_tasks": num_tasks, "task_weights": weights if source == "tensor" else mode}
    optimizer = ADATASK[rule]([p], lr=0.05, weight_decay=0.1, **tasks, **OPTIONS[rule])
    oracles = [ByHand(rule, lr=0.05, weight_decay=0.1) for _ in range(runs)]
    for step in range(3):
        optimizer.zero_grad()
        spoil = torch.where((weights == 0) & (step == 1), bad, 1.0)  # [T, R]
        task_backward([((t + 1) * p - step).sin().sum((1, 2)) * spoil[t] for t in range(num_tasks)], [p])
        if source != "tensor":
            combine([p], weights)
        optimizer.step()
        for r, (q, oracle) in enumerate(zip(exact, oracles, strict=True)):
            losses = [((t + 1) * q - step).sin().sum() * spoil[t, r] for t in range(num_tasks)]
            grads, of_run = by_task(losses, [q]), weights[:, r].tolist()
            if mode == "gradients":
                oracle.step([q], [times(of_run, grads[0])])
            else:
                oracle.step([q], grads, of_run)
            close(p[r], q, f"run {r}")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("first", ["hydalearn", "combine"])
def test_a_norm_that_is_not_finite_spoils_no_other_task_and_nothing_where_its_weight_is_zero(
    first: str, micro_batches: int, bad: float
) -> None:
    model, weights = Net(2), [1.0, 0.0]
    exact: Net = twin(model)
    grads: list[Tensor | None] = [None] * len(exact.trunk)
    for seed in range(micro_batches):
        if first == "hydalearn":
            hydalearn = HydaLearn(model, lambda m, at: spoiled(m.every(at), weights, bad), model.trunk)
            assert hydalearn.backward(seed).weights.tolist() == weights
        else:
            task_backward(spoiled(model.every(seed), weights, bad), model.trunk)
            combine(model.trunk, weights)
        new = by_task(exact.every(seed), exact.trunk)
        grads = [added([g, row[0]]) for g, row in zip(grads, new, strict=True)]
    clip_task_grad_norm_(model.trunk, 0.5)
    norm = sum(float(g.square().sum()) for g in grads if g is not None) ** 0.5
    for p, g in zip(model.trunk, grads, strict=True):
        close(p.grad, added([g], [0.5 / (norm + 1e-6)]))


@examples(60)
@given(
    dtypes=st.permutations([torch.bfloat16, torch.float16, torch.float32, torch.float64]),
    weights=st.lists(st.floats(0.0, 3.0), min_size=2, max_size=2),
    as_tensor=st.booleans(),
)
def test_weights_are_as_exact_as_each_parameter(
    dtypes: list[torch.dtype], weights: list[float], as_tensor: bool
) -> None:
    """Whatever the precision of the others: weights in half precision would be off by some thousandths."""
    params: list[Any] = [nn.Parameter(torch.tensor([1.0, -0.5, 2.0], dtype=dtype)) for dtype in dtypes]
    factors = (1.25, -0.75)  # exact in each precision, and so are the gradients
    losses = [sum(((c * p.double()).square() / 2).sum() for p in params) for c in factors]
    task_backward(losses, params)
    combine(params, torch.tensor(weights, dtype=torch.float64) if as_tensor else weights)
    for p in params:
        exact = sum(w * c**2 * p.detach().double() for w, c in zip(weights, factors, strict=True))
        tolerance = 4 * torch.finfo(p.dtype).eps * (abs(weights[0]) + abs(weights[1])) * 2 + torch.finfo(p.dtype).tiny
        assert (p.grad.double() - exact).abs().max() <= tolerance


@pytest.fixture
def frozen_memory() -> Iterator[None]:
    """What there is already is left out of collections, which then take no time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen_memory")
@pytest.mark.parametrize("rule", [*ADATASK, "sgd"])
def test_trial_steps_of_an_optimizer_leave_no_tensor_behind(rule: str) -> None:
    model = Net(2)
    tasks = {"num_tasks": 2, "task_weights": "gradients"} if rule in ADATASK else {}
    optimizer = (TORCH | ADATASK)[rule](model.parameters(), **tasks)
    hydalearn = HydaLearn(model, lambda m, at: m.every(at), model.trunk, trial_step=optimizer, trial_rule="optimizer")
    alive = []
    for seed in range(5):
        optimizer.zero_grad()
        hydalearn.backward(seed)
        optimizer.step()
        gc.collect()
        alive.append(sum(issubclass(type(x), Tensor) for x in gc.get_objects()))
    assert alive[-1] == alive[1] > 0
