"""Which losses a backward pass by task takes: all tasks or some, for one run or as many as are declared; no others."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import ADATASK, OPTIONS, RULES, ByHand, Net, added, by_task, close, examples, snapshot, times, twin
from torch import Tensor, nn

from mtlcore import AdaTaskAdam, HydaLearn, combine, task_backward, zero_task_grad


@st.composite
def labelled(draw: st.DrawFn) -> tuple[int, list[list[bool]]]:
    """Draws T, and for each of some batches the tasks that it has labels of: at least one."""
    num_tasks = draw(st.integers(1, 4))
    flags = st.lists(st.booleans(), min_size=num_tasks, max_size=num_tasks).filter(any)
    return num_tasks, draw(st.lists(flags, min_size=1, max_size=5))


@examples(120)
@given(case=labelled(), rule=st.sampled_from(RULES), hydalearn=st.booleans())
def test_a_task_that_a_batch_does_not_have_keeps_its_moments_and_its_count(
    case: tuple[int, list[list[bool]]], rule: str, hydalearn: bool
) -> None:
    num_tasks, batches = case
    model = Net(num_tasks)
    exact: Net = twin(model)
    numbers = {"lr": 0.02, "weight_decay": 0.1}
    mode = "gradients" if hydalearn else None
    optimizer = ADATASK[rule](model.parameters(), num_tasks=num_tasks, task_weights=mode, **numbers, **OPTIONS[rule])
    by_hand, of_heads = ByHand(rule, **numbers), ByHand(rule, **numbers)
    for seed, present in enumerate(batches):
        optimizer.zero_grad()
        before = {p: {name: value.clone() for name, value in optimizer.state[p].items()} for p in model.trunk}
        weights = [1.0] * num_tasks
        if hydalearn and present[0]:

            def losses_fn(model: Net, at: int, present: Sequence[bool] = present) -> Any:
                return model.losses(at, present)

            step = HydaLearn(model, losses_fn, model.trunk, trial_step=0.05, scale_heads=False).backward(seed)
            weights = step.weights.tolist()
            for t, there in enumerate(present):
                assert step.losses[t].isnan() != there
                assert there or weights[t] == float(step.gains[t]) == 0
        else:
            task_backward(model.losses(seed, present), model.trunk)
        grads = by_task(exact.losses(seed, present), [*exact.trunk, *exact.heads])
        shared, heads = grads[: len(exact.trunk)], [[added(row)] for row in grads[len(exact.trunk) :]]
        optimizer.step()
        by_hand.step(exact.trunk, [times(weights, row) for row in shared])
        of_heads.step(list(exact.heads), heads)
        for p, q in zip(model.parameters(), exact.parameters(), strict=True):
            close(p, q)
        for i, p in enumerate(model.trunk):
            for t in range(num_tasks):
                known = by_hand.state.get((i, t), {"t": 0})["t"]
                counts = optimizer.state[p].get("step")
                assert (0 if counts is None else int(counts[t])) == known
                if not present[t] and before[p]:
                    assert all(torch.equal(optimizer.state[p][name][t], old[t]) for name, old in before[p].items())


class Runs(nn.Module):
    """R runs of one model: parameters [R, *shape], each of which one run's loss depends on alone."""

    def __init__(self, runs: int, num_tasks: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(runs)
        self.runs, self.num_tasks = runs, num_tasks
        shapes = [(runs, 3), (runs, 2, 2), (runs,)]
        self.trunk = nn.ParameterList(
            [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]
        )

    def losses(self, seed: int, present: Sequence[bool], run: int | None = None) -> list[Tensor | None]:
        """Returns losses [R] of all runs, or [] of one."""
        generator = torch.Generator().manual_seed(seed)
        chosen = slice(None) if run is None else slice(run, run + 1)
        losses: list[Tensor | None] = []
        for there in present:
            total = torch.zeros((), dtype=torch.float64)
            for p in self.trunk:
                a, b = torch.randn(2, *p.shape, generator=generator, dtype=torch.float64)
                total = total + (a * p + b).sin()[chosen].flatten(1 if p.ndim > 1 else 0).reshape(
                    self.runs if run is None else 1, -1
                ).sum(1)
            loss = (total - 1).square()
            losses.append((loss if run is None else loss.sum()) if there else None)
        return losses


@examples(60)
@given(runs=st.integers(1, 4), case=labelled(), rule=st.sampled_from(RULES), weighted=st.booleans())
def test_declared_runs_are_trained_as_each_alone(
    runs: int, case: tuple[int, list[list[bool]]], rule: str, weighted: bool
) -> None:
    num_tasks, batches = case
    model = Runs(runs, num_tasks)
    exact: Runs = twin(model)
    for p in model.trunk:
        p.task_runs = runs
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(num_tasks, runs, generator=generator, dtype=torch.float64) if weighted else None
    optimizer = ADATASK[rule](
        model.parameters(), num_tasks=num_tasks, task_weights="gradients", lr=0.02, weight_decay=0, **OPTIONS[rule]
    )
    by_hand = ByHand(rule, lr=0.02)
    for seed, present in enumerate(batches):
        optimizer.zero_grad()
        task_backward(model.losses(seed, present), model.trunk)
        grads: list[list[Tensor | None]] = [[None] * num_tasks for _ in model.trunk]
        for r in range(runs):
            of_run = by_task(exact.losses(seed, present, r), list(exact.trunk))
            for row, new in zip(grads, of_run, strict=True):
                new = new if weights is None else times(weights[:, r].tolist(), new)
                row[:] = [added(pair) for pair in zip(row, new, strict=True)]
        combine(model.trunk, weights)
        for p, row in zip(model.trunk, grads, strict=True):
            close(p.grad, added(row))
        optimizer.step()
        by_hand.step(list(exact.trunk), grads)
        for p, q in zip(model.trunk, exact.trunk, strict=True):
            close(p, q)


def rows_of(batch: int) -> Callable[[Net], Any]:
    """Unreduced losses of a batch."""
    return lambda model: [loss * torch.arange(1.0, batch + 1).double() for loss in model.every(0)]


REFUSED: dict[str, tuple[Callable[[Net], Any], str]] = {
    "a dictionary": (lambda m: dict(zip("ab", m.every(0), strict=True)), "list(losses.values())"),
    "a dictionary of one": (lambda m: {"a": m.every(0)[0]}, "list(losses.values())"),
    "losses and logs": (lambda m: (m.every(0), {"loss": 1.0}), "without logs or outputs beside them"),
    "a loss and logs": (lambda m: [m.every(0)[0], {"loss": 1.0}], "without logs or outputs beside them"),
    "losses and outputs": (lambda m: (m.every(0), torch.ones(3)), "without logs or outputs beside them"),
    "losses in a dictionary, in a list": (lambda m: [{"a": m.every(0)[0]}], "without logs or outputs beside them"),
    "numbers": (lambda m: [float(loss.detach()) for loss in m.every(0)], "one scalar tensor per task"),
    "one scalar": (lambda m: sum(m.every(0)), "[loss_a, loss_b]"),
    "no loss": (lambda m: [], "one scalar tensor per task"),
    "no task": (lambda m: [None, None], "leave out the step"),
    "a detached loss": (lambda m: [m.every(0)[0], m.every(0)[1].detach()], "None for a task that this"),
    "a mixture": (lambda m: [m.every(0)[0], m.every(0)[1].expand(3)], ".mean()"),
    "unreduced of 1": (rows_of(1), ".mean()"),
    "unreduced of 2": (rows_of(2), ".mean()"),
    "unreduced of 3": (rows_of(3), ".mean()"),
    "unreduced of 5": (rows_of(5), ".mean()"),
    "unreduced, stacked": (lambda m: torch.stack(rows_of(3)(m)), ".mean()"),
    "a matrix": (lambda m: [loss.expand(2, 3) for loss in m.every(0)], ".mean()"),
}


@pytest.mark.parametrize("earlier", ["nothing", "task gradients", "a gradient", "a step"])
@pytest.mark.parametrize("case", REFUSED)
def test_other_losses_are_refused_with_the_remedy_and_before_anything_changes(case: str, earlier: str) -> None:
    losses_of, remedy = REFUSED[case]
    model = Net(2)
    optimizer = AdaTaskAdam(model.parameters(), num_tasks=2)
    if earlier != "nothing":
        task_backward(model.every(1), model.trunk)
    if earlier == "a gradient":
        zero_task_grad(model.trunk)
    if earlier == "a step":
        optimizer.step()
    before = snapshot(model, optimizer)
    calls: list[Callable[[], Any]] = [
        lambda: task_backward(losses_of(model), model.trunk),
        lambda: HydaLearn(model, lambda m, _: losses_of(m), model.trunk).backward(0),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"should [\s\S]*Found [\s\S]*" + re.escape(remedy)):
            call()
        assert snapshot(model, optimizer) == before


@examples(40)
@given(declared=st.none() | st.integers(1, 4), found=st.none() | st.integers(1, 4), tasks=st.integers(1, 3))
def test_runs_are_declared_and_not_guessed_from_sizes_that_happen_to_fit(
    declared: int | None, found: int | None, tasks: int
) -> None:
    size = declared or found or 3
    p: Any = nn.Parameter(torch.ones(size, 2, dtype=torch.float64))
    if declared is not None:
        p.task_runs = declared
    loss = p.square().sum() if found is None else p.square().sum(1).repeat(4)[:found]
    losses = [(k + 1) * loss for k in range(tasks)]
    if declared == found:
        task_backward(losses, [p])
        close(p.task_grad, torch.stack([2.0 * (k + 1) * p.detach() for k in range(tasks)]))
    else:
        with pytest.raises(ValueError, match=r"Reduce each loss, .* `p\.task_runs = R`"):
            task_backward(losses, [p])
        assert p.grad is None
        assert not hasattr(p, "task_grad")


def test_the_main_task_has_to_be_there_where_gains_are_measured() -> None:
    model = Net(2)
    before = snapshot(model)
    hydalearn = HydaLearn(model, lambda m, seed: m.losses(seed, (seed > 0, True)), model.trunk)
    with pytest.raises(ValueError, match=r"Found None\. Pass a `gain_batch` that has its labels"):
        hydalearn.backward(0)
    assert snapshot(model) == before
    step = hydalearn.backward(0, gain_batch=1)
    assert step.gains[0] == 0 != step.gains[1]
