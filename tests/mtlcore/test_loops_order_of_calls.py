"""Calls in any order that a training loop may have: each gives the right step, or one sentence and no change at all."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import ADATASK, OPTIONS, RULES, TORCH, ByHand, Net, added, by_task, close, examples, snapshot, times, twin
from torch import Tensor, nn

from mtlcore import HydaLearn, clip_task_grad_norm_, combine, task_backward, zero_task_grad

EXAMPLES = examples(120)
NUMBERS = {"lr": 0.02, "weight_decay": 0.1}
WEIGHTS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=3, max_size=3)
T = 3


def adatask(model: Net, rule: str, **options: Any) -> Any:
    """An AdaTask optimizer of two groups; what is refused stands in the second."""
    groups = [{"params": [*model.heads, *model.trunk[:2]]}, {"params": model.trunk[2:], "lr": 0.02}]
    return ADATASK[rule](groups, num_tasks=T, **NUMBERS, **OPTIONS[rule], **options)


def penalty(params: Any) -> Any:
    return sum(p.square().sum() for p in params)


def new_gradients(params: Any) -> None:
    for p in params:
        p.grad = 2 * p.grad


CHANGES: dict[str, Callable[[Any], Any]] = {
    "clip_grad_norm_": lambda params: nn.utils.clip_grad_norm_(params, 1e-3),
    "clip_grad_norm_, foreach": lambda params: nn.utils.clip_grad_norm_(params, 1e-3, foreach=True),
    "clip_grad_norm_, not foreach": lambda params: nn.utils.clip_grad_norm_(params, 1e-3, foreach=False),
    "clip_grad_norm_ of the last": lambda params: nn.utils.clip_grad_norm_(params[-1:], 1e-3),
    "clip_grad_value_": lambda params: nn.utils.clip_grad_value_(params, 1e-3),
    "in place": lambda params: params[-1].grad.mul_(0.5),
    "another tensor": new_gradients,
    "a regulariser": lambda params: penalty(params).backward(),
    "a regulariser of the last": lambda params: penalty(params[-1:]).backward(),
    "a regulariser and its graph": lambda params: penalty(params).backward(create_graph=True),
}


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("rule", ADATASK)
def test_what_changes_the_gradients_of_tasks_is_told_by_a_step_by_task_and_others_go_on(rule: str, change: str) -> None:
    """By a second call of `task_backward`, `combine` and clipping too; heads take any change."""
    model = Net(T)
    optimizer = adatask(model, rule, task_weights="gradients")
    for seed in range(2):
        optimizer.zero_grad()
        task_backward(model.every(seed), model.trunk)
        optimizer.step()
    for weighted in (False, True):
        optimizer.zero_grad()
        task_backward(model.every(2), model.trunk)
        if weighted:
            combine(model.trunk, [1.0, 0.5, 2.0])
        CHANGES[change](model.trunk)
        before = snapshot(model, optimizer)
        calls: dict[str, Callable[[], Any]] = {
            "Clip with `clip_task_grad_norm_`": optimizer.step,
            "Call `combine` first": lambda: combine(model.trunk, [1.0, 1.0, 1.0]),
            "Clip by task first": lambda: clip_task_grad_norm_(model.trunk, 1.0),
        }
        if change not in ("another tensor", "a regulariser and its graph"):  # as after clearing: a gradient of no task
            calls["after the last micro-batch"] = lambda: task_backward(model.every(3), model.trunk)
        for remedy, call in calls.items():
            with pytest.raises(ValueError, match=rf"as the task gradients made it before [\s\S]*Found [\s\S]*{remedy}"):
                call()
            assert snapshot(model, optimizer) == before, remedy
    optimizer.zero_grad()
    task_backward(model.every(2), model.trunk)
    CHANGES[change](list(model.heads))
    optimizer.step()
    assert snapshot(model, optimizer) != before


@EXAMPLES
@given(
    rule=st.sampled_from(RULES),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    size=st.floats(1e3, 1e9),
    weights=st.none() | WEIGHTS.filter(any),
    max_norm=st.sampled_from([1e6, torch.inf]),
)
def test_a_small_change_is_told_and_a_measured_norm_is_none(
    rule: str, dtype: torch.dtype, size: float, weights: list[float] | None, max_norm: float
) -> None:
    """Told from 1000 times the rounding on: weight decay as a loss is often some 1e-4 of the gradient."""
    model = Net(T, dtype=dtype)
    optimizer = adatask(model, rule, task_weights="gradients")
    task_backward(model.every(0), model.trunk)
    if weights is not None:
        combine(model.trunk, weights)
    assert nn.utils.clip_grad_norm_(model.trunk, max_norm) < max_norm
    optimizer.step()
    nn.utils.clip_grad_norm_(model.trunk, max_norm)
    combine(model.trunk, weights)
    p = model.trunk[0]
    p.grad += p.task_grad.abs().sum(0).norm() * min(size * torch.finfo(dtype).eps, 1.0)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match="that was changed since"):
        optimizer.step()
    assert snapshot(model, optimizer) == before


@EXAMPLES
@given(
    rule=st.sampled_from(list(TORCH)),
    where=st.lists(st.sampled_from(["before", "after combine"]), min_size=1, max_size=3),
    of_last=st.booleans(),
    weights=st.none() | WEIGHTS,
    set_to_none=st.booleans(),
)
def test_a_regulariser_counts_before_the_backward_passes_and_after_the_weights(
    rule: str, where: list[str], of_last: bool, weights: list[float] | None, set_to_none: bool
) -> None:
    model = Net(T)
    exact: Net = twin(model)
    optimizer, by_hand = TORCH[rule](model.parameters(), **NUMBERS, **OPTIONS[rule]), ByHand(rule, **NUMBERS)
    chosen = slice(-1, None) if of_last else slice(None)
    for seed, place in enumerate(where):
        optimizer.zero_grad(set_to_none=set_to_none)
        if place == "before":
            penalty(model.trunk[chosen]).backward()
            if seed > 0 and not set_to_none:  # zeros and penalty went into one tensor: nobody can tell them apart
                before = snapshot(model, optimizer)
                with pytest.raises(ValueError, match="before more task gradients are added"):
                    task_backward(model.every(seed), model.trunk)
                assert snapshot(model, optimizer) == before
                return
        task_backward(model.every(seed), model.trunk)
        combine(model.trunk, weights)
        if place == "after combine":
            penalty(model.trunk[chosen]).backward()
        grads = by_task(exact.every(seed), [*exact.trunk, *exact.heads])
        rows = [row if weights is None else times(weights, row) for row in grads[: len(exact.trunk)]]
        for row, p in zip(rows[chosen], exact.trunk[chosen], strict=True):
            row.append(2 * p.detach())
        optimizer.step()
        by_hand.step([*exact.trunk, *exact.heads], [[added(row)] for row in [*rows, *grads[len(exact.trunk) :]]])
        for p, q in zip(model.parameters(), exact.parameters(), strict=True):
            close(p, q)


@EXAMPLES
@given(rule=st.sampled_from(RULES), of_last=st.booleans(), set_to_none=st.booleans(), steps=st.integers(0, 2))
def test_a_regulariser_before_the_backward_passes_is_told_by_a_step_by_task(
    rule: str, of_last: bool, set_to_none: bool, steps: int
) -> None:
    model = Net(T)
    optimizer = adatask(model, rule)
    for seed in range(steps + 1):
        optimizer.zero_grad(set_to_none=set_to_none)
        if seed == steps:
            penalty(model.trunk[-1:] if of_last else model.trunk).backward()
        penalty(model.heads).backward()
        before = snapshot(model, optimizer)
        if seed == steps > 0 and not set_to_none:  # zeros and penalty went into one tensor
            with pytest.raises(ValueError, match="before more task gradients are added"):
                task_backward(model.every(seed), model.trunk)
            assert snapshot(model, optimizer) == before
            return
        task_backward(model.every(seed), model.trunk)
        before = snapshot(model, optimizer)
        if seed < steps:
            optimizer.step()
    with pytest.raises(ValueError, match=r"another backward pass began\. Put a regulariser into a task's loss"):
        optimizer.step()
    assert snapshot(model, optimizer) == before


@EXAMPLES
@given(
    calls=st.permutations(["combine", "clip"]),
    first=st.sampled_from(["task_backward", "hydalearn", "both"]),
    weights=WEIGHTS,
    max_norm=st.sampled_from([0.01, 1.0, 10.0, 1e6]),
    regularised=st.booleans(),
)
def test_clipping_by_task_is_the_same_before_and_after_the_weights(
    calls: list[str], first: str, weights: list[float], max_norm: float, regularised: bool
) -> None:
    model = Net(T)
    exact: Net = twin(model)
    if regularised:
        penalty(model.trunk).backward()
    grads: list[list[Tensor | None]] = [[None] * T for _ in exact.trunk]
    for seed in range(2 if first == "both" else 1):
        if first == "hydalearn" or seed == 1:
            HydaLearn(model, lambda m, at: m.every(at), model.trunk, trial_step=0.05).backward(seed)
        else:
            task_backward(model.every(seed), model.trunk)
        for row, new in zip(grads, by_task(exact.every(seed), exact.trunk), strict=True):
            row[:] = [added(pair) for pair in zip(row, new, strict=True)]
    norms = [sum(float(g.square().sum()) for row in grads if (g := row[t]) is not None) ** 0.5 for t in range(T)]
    for call in calls:
        if call == "combine":
            combine(model.trunk, weights)
        else:
            found = clip_task_grad_norm_(model.trunk, max_norm)
            close(found, torch.tensor(norms, dtype=torch.float64))
    clipped = [times([min(1.0, max_norm / (norm + 1e-6)) for norm in norms], row) for row in grads]
    for p, q, row in zip(model.trunk, exact.trunk, clipped, strict=True):
        for found, expected in zip(p.task_grad, row, strict=True):
            close(found, torch.zeros_like(q) if expected is None else expected)
        close(p.grad, added([*times(weights, row), 2 * q.detach() if regularised else None]))


@pytest.mark.parametrize("rule", ADATASK)
def test_an_ordinary_backward_pass_with_adatask_is_told_once_and_is_the_ordinary_step(rule: str) -> None:
    model = Net(T)
    exact: Net = twin(model)
    optimizer, by_hand = adatask(model, rule), ByHand(rule, **NUMBERS)
    caught: list[warnings.WarningMessage] = []
    for seed in range(3):
        optimizer.zero_grad()
        torch.stack(model.every(seed)).sum().backward()  # type: ignore[no-untyped-call]
        with warnings.catch_warnings(record=True) as now:
            warnings.simplefilter("always")
            optimizer.step()
        caught += now
        grads = by_task(exact.every(seed), [*exact.trunk, *exact.heads])
        by_hand.step([*exact.trunk, *exact.heads], [[added(row)] for row in grads])
        for p, q in zip(model.parameters(), exact.parameters(), strict=True):
            close(p, q)
    assert [str(warning.message).partition("Call ")[2] for warning in caught] == [
        "task_backward(losses, shared) in place of loss.backward()."
    ]
    alone = ADATASK[rule](model.parameters(), num_tasks=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone.step()  # one task is the ordinary optimizer, as documented


def test_a_warning_points_to_the_users_line() -> None:
    """Python shows a warning once for each line that it points to, so one inside torch would hide the next."""
    model = Net(T)
    hydalearn = HydaLearn(model, lambda m, at: m.every(at), model.trunk, trial_step=1e-15)
    calls = {"task gradients": adatask(model, "adam").step, "exact gains": lambda: hydalearn.backward(0)}
    for words, call in calls.items():
        with pytest.warns(UserWarning, match=words) as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("cleared", ["nothing yet", "zero_grad", "zero_grad in place", "model.zero_grad", "by hand"])
@pytest.mark.parametrize("rule", ADATASK)
def test_a_step_without_gradients_is_told_once_and_does_nothing(rule: str, cleared: str) -> None:
    model = Net(T)
    optimizer = adatask(model, rule)
    if cleared != "nothing yet":
        task_backward(model.every(0), model.trunk)
        optimizer.step()
        for head in model.heads:  # the ordinary step of a head may go on by momentum
            head.grad = None
        if cleared == "by hand":
            for p in model.parameters():
                p.grad = None
        else:
            (model if cleared.startswith("model") else optimizer).zero_grad(set_to_none=not cleared.endswith("place"))
    before = [p.detach().clone() for p in model.parameters()]
    state = copy.deepcopy(optimizer.state_dict()["state"])
    with pytest.warns(UserWarning, match="has task gradients"):
        optimizer.step()
    optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    torch.testing.assert_close(optimizer.state_dict()["state"], state, rtol=0, atol=0)


@pytest.mark.parametrize("rule", ADATASK)
def test_weights_after_hydalearn_are_given_or_told(rule: str) -> None:
    model = Net(T)
    optimizer = adatask(model, rule, task_weights="gradients")
    HydaLearn(model, lambda m, at: m.every(at), model.trunk).backward(0)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match="Leave `combine` out"):
        combine(model.trunk)
    assert snapshot(model, optimizer) == before
    combine(model.trunk, [2.0, 0.0, 1.0])
    exact: Net = twin(model)
    for p, row in zip(model.trunk, by_task(exact.every(0), exact.trunk), strict=True):
        close(p.grad, added(times([2.0, 0.0, 1.0], row)))


def other_tasks(model: Net, optimizer: Any) -> None:
    optimizer.zero_grad()
    task_backward(model.every(9)[:2], model.trunk)


def recorded_weights(model: Net, optimizer: Any) -> None:
    combine(model.trunk, [1.0, 2.0, 3.0])
    optimizer.param_groups[1]["task_weights"] = None


def several_weights(model: Net, optimizer: Any) -> None:
    combine(model.trunk, [1.0, 2.0, 3.0])
    task_backward(model.every(9), model.trunk)
    optimizer.param_groups[1]["task_weights"] = "updates"


def ordinary_gradient(model: Net, optimizer: Any) -> None:
    del optimizer
    zero_task_grad(model.trunk[-1:])


def flag(name: str, value: Any) -> Callable[[Net, Any], None]:
    return lambda model, optimizer: optimizer.param_groups[1].update({name: value})


FAULTS: dict[str, tuple[Callable[[Net, Any], None], str]] = {
    "other tasks": (other_tasks, "as many losses"),
    "recorded weights": (recorded_weights, '"gradients"'),
    "several weights": (several_weights, "last micro-batch"),
    "an ordinary gradient": (ordinary_gradient, "new optimizer"),
    "weights of other tasks": (flag("task_weights", [1.0, 2.0]), "one weight per task"),
    "weights of runs": (flag("task_weights", torch.ones(T, 7)), "Pass"),
    "a word": (flag("task_weights", "both"), '"updates"'),
    "a negative weight": (flag("task_weights", [1.0, -1.0, 1.0]), "non-negative"),
    "both kernels": (lambda m, o: o.param_groups[1].update(fused=True, foreach=True), "one of them"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("rule", ADATASK)
def test_a_step_that_is_refused_in_its_last_group_leaves_every_bit(rule: str, fault: str) -> None:
    model = Net(T)
    optimizer = adatask(model, rule, task_weights="gradients")
    for seed in range(2):
        optimizer.zero_grad()
        task_backward(model.every(seed), model.trunk)
        optimizer.step()
    cause, remedy = FAULTS[fault]
    cause(model, optimizer)
    before = snapshot(model, optimizer)
    for closure in (None, lambda: torch.zeros(())):
        with pytest.raises(ValueError, match=rf"should [\s\S]*{remedy}"):
            optimizer.step(closure)
        assert snapshot(model, optimizer) == before
