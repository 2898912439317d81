"""A gradient scaler in every documented order of calls: the steps are those of the run without one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import (
    ADATASK,
    OPTIONS,
    RULES,
    TORCH,
    ByHand,
    Net,
    added,
    by_task,
    close,
    examples,
    kernel,
    snapshot,
    times,
    twin,
)
from torch import Tensor, nn

from mtlcore import Dominance, HydaLearn, clip_task_grad_norm_, combine, task_backward, unscale_task_grad_

EXAMPLES = examples(120)
NUMBERS = {"lr": 0.02, "weight_decay": 0.1}
T = 2


@dataclass(frozen=True)
class Step:
    """What one step of a loop does: its micro-batches, the order of the scaler's calls, and a task that overflows."""

    micro_batches: int
    order: str
    bad_task: int | None


def steps(*orders: str, bad: bool = True) -> st.SearchStrategy[list[Step]]:
    bad_tasks = st.sampled_from([None, None, 0, 1] if bad else [None])
    return st.lists(st.builds(Step, st.integers(1, 3), st.sampled_from(orders), bad_tasks), min_size=1, max_size=4)


@st.composite
def scalers(draw: st.DrawFn) -> torch.amp.GradScaler:
    """Scalers whose scale grows at once, later or never, shrinks by a half or a quarter; and switched-off ones."""
    return torch.amp.GradScaler(
        "cpu",
        init_scale=2.0 ** draw(st.integers(-2, 16)),
        growth_factor=4.0,
        backoff_factor=draw(st.sampled_from([0.5, 0.25])),
        growth_interval=draw(st.integers(1, 3)),
        enabled=draw(st.sampled_from([True, True, True, False])),
    )


def losses_of(model: Net, seed: int, bad_task: int | None) -> list[Tensor]:
    losses = model.every(seed)
    if bad_task is not None:
        losses[bad_task] = losses[bad_task] * torch.inf
    return losses


class Run:
    """A loop with a scaler, and by hand without: gradients of the tasks, and of the heads, over micro-batches."""

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        self.model = Net(T)
        self.exact: Net = twin(self.model)
        self.scaler = scaler
        self.params = [*self.exact.trunk, *self.exact.heads]

    def backward(self, seed: int, step: Step) -> list[list[Tensor | None]]:
        """Scales and adds the gradients of all micro-batches; returns each task's by hand, [[]] of each head."""
        grads: list[list[Tensor | None]] = [[None] * T for _ in self.params]
        for k in range(step.micro_batches):
            bad = step.bad_task if k == step.micro_batches - 1 else None
            losses = losses_of(self.model, 10 * seed + k, bad)
            task_backward([self.scaler.scale(loss) for loss in losses], self.model.trunk)
            new = by_task(losses_of(self.exact, 10 * seed + k, bad), self.params)
            grads = [[added(pair) for pair in zip(*rows, strict=True)] for rows in zip(grads, new, strict=True)]
        return grads

    def finish(self, optimizer: Any) -> float:
        """Takes the scaler's step; returns the scale before."""
        scale: float = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        return scale

    def skips(self, step: Step) -> bool:
        return step.bad_task is not None and self.scaler.is_enabled()

    def check(self) -> None:
        for p, q in zip(self.model.parameters(), self.exact.parameters(), strict=True):
            close(p, q)


def factors_of(grads: Sequence[Sequence[Tensor | None]], max_norm: float) -> list[float]:
    """Returns by what clipping by task multiplies each task's gradient."""
    norms = [sum(float(g.square().sum()) for row in grads if (g := row[t]) is not None) ** 0.5 for t in range(T)]
    return [min(1.0, max_norm / (norm + 1e-6)) for norm in norms]


PAIRS = ("optimizer task", "task optimizer", "task clip")
TRIPLES = ("optimizer task clip", "task optimizer clip", "task clip optimizer")


@EXAMPLES
@given(
    scaler=scalers(),
    programme=steps("", "task", *PAIRS, *TRIPLES),
    rule=st.sampled_from(RULES),
    weights=st.sampled_from([None, [0.5, 2.0], torch.tensor([2.0, 0.5])]),
    fused=st.booleans(),
    set_to_none=st.booleans(),
)
def test_adatask_in_any_order_of_the_scalers_calls_is_adatask_without_one(
    scaler: torch.amp.GradScaler,
    programme: list[Step],
    rule: str,
    weights: Any,
    fused: bool,
    set_to_none: bool,
) -> None:
    """An overflow in one task skips the whole step and shrinks the scale; the next one goes on as if nothing was."""
    run = Run(scaler)
    tasks = {"num_tasks": T, "task_weights": weights, **kernel(rule, {"fused": fused})}
    optimizer = ADATASK[rule](run.model.parameters(), **tasks, **NUMBERS, **OPTIONS[rule])
    dominance, au = Dominance(optimizer, decay=0.5), [[torch.zeros_like(p)] * T for p in run.exact.trunk]
    by_hand, of_heads = ByHand(rule, **NUMBERS), ByHand(rule, **NUMBERS)
    shared = len(run.exact.trunk)
    for seed, step in enumerate(programme):
        if step.bad_task is not None and not scaler.is_enabled():
            continue  # as without a scaler, nothing holds an overflow up
        optimizer.zero_grad(set_to_none=set_to_none)
        grads = run.backward(seed, step)
        for call in step.order.split():
            if call == "optimizer":
                scaler.unscale_(optimizer)
            elif call == "task":
                unscale_task_grad_(scaler, run.model.trunk)
            else:
                clip_task_grad_norm_(run.model.trunk, 0.5)
                factors = factors_of(grads[:shared], 0.5)
                grads[:shared] = [times(factors, row) for row in grads[:shared]]
        before, grown = snapshot(run.model, optimizer), scaler._get_growth_tracker() if scaler.is_enabled() else 0
        scale = run.finish(optimizer)
        if run.skips(step):
            assert [row[0] for row in snapshot(run.model, optimizer)] == [row[0] for row in before]
            assert scaler.get_scale() == scale * scaler.get_backoff_factor()
        else:
            numbers = None if weights is None else [float(w) for w in weights]
            updates = by_hand.step(run.exact.trunk, grads[:shared], numbers)
            for i, now in enumerate(updates):
                au[i] = [0.5 * (old + now[t] ** 2 if t in now else old) for t, old in enumerate(au[i])]
            of_heads.step(list(run.exact.heads), [[added(row)] for row in grads[shared:]])
            grows = scaler.is_enabled() and grown + 1 == scaler.get_growth_interval()
            assert scaler.get_scale() == scale * (4 if grows else 1)
        run.check()
        for p, row in zip(run.model.trunk, au, strict=True):
            for t, expected in enumerate(row):
                close(dominance.au[p][t].sqrt() if p in dominance.au else torch.zeros_like(p), expected.sqrt(), "AU")


FOR_TORCH = (
    "",
    "combine",
    "combine optimizer",
    "combine optimizer clip",
    "optimizer clip",
    "task combine",
    "task optimizer combine",
    "optimizer task combine clip",
    "task by_task combine",
    "combine task by_task optimizer",
    "optimizer task by_task clip",
)


@EXAMPLES
@given(
    scaler=scalers(),
    programme=steps(*FOR_TORCH),
    rule=st.sampled_from(list(TORCH)),
    weights=st.sampled_from([None, [0.5, 2.0], [1.0, 0.0], torch.tensor([0.0, 3.0])]),
    fused=st.booleans(),
    set_to_none=st.booleans(),
)
def test_combined_gradients_in_any_order_of_the_scalers_calls_are_those_without_one(
    scaler: torch.amp.GradScaler,
    programme: list[Step],
    rule: str,
    weights: Any,
    fused: bool,
    set_to_none: bool,
) -> None:
    """The scaler sees p.grad alone: an overflow in a task of weight 0 is left out, and the step is taken."""
    run = Run(scaler)
    flags = kernel(rule, {"fused": fused and rule != "sgd"})  # that one's buffer is unset after a skipped step
    optimizer = TORCH[rule](run.model.parameters(), **NUMBERS, **OPTIONS[rule], **flags)
    by_hand, shared = ByHand(rule, **NUMBERS), len(run.exact.trunk)
    for seed, step in enumerate(programme):
        combines = "combine" in step.order
        numbers = [1.0] * T if weights is None or not combines else [float(w) for w in weights]
        if step.bad_task is not None and not scaler.is_enabled():
            continue
        optimizer.zero_grad(set_to_none=set_to_none)
        grads = run.backward(seed, step)
        factors = factors_of(grads[:shared], 0.5) if "by_task" in step.order else [1.0] * T
        numbers = [w * c for w, c in zip(numbers, factors, strict=True)]
        sums = [added(times(numbers, row)) for row in grads[:shared]] + [added(row) for row in grads[shared:]]
        finite = step.bad_task is None or (combines and weights is not None and weights[step.bad_task] == 0)
        finite = finite and all(g is None or bool(g.isfinite().all()) for g in sums)  # a head overflows with its task
        for call in step.order.split():
            if call == "optimizer":
                scaler.unscale_(optimizer)
            elif call == "task":
                unscale_task_grad_(scaler, run.model.trunk)
            elif call == "by_task":
                clip_task_grad_norm_(run.model.trunk, 0.5)
            elif call == "combine":
                combine(run.model.trunk, weights)
        if "clip" in step.order.split():
            norm = sum(float(g.square().sum()) for g in sums if g is not None) ** 0.5
            nn.utils.clip_grad_norm_(run.model.parameters(), 0.5)
            sums = [added([g], [min(1.0, 0.5 / (norm + 1e-6))]) for g in sums]
        run.finish(optimizer)
        if finite:
            by_hand.step(run.params, [[g] for g in sums])
        run.check()


@EXAMPLES
@given(
    scaler=scalers(),
    programme=steps("", "optimizer", "clip", bad=False),
    bad=st.sampled_from([None, None, 1]),
    rule=st.sampled_from(list(TORCH)),
    adatask=st.sampled_from([None, "gradients", "updates"]),
    set_to_none=st.booleans(),
    options=st.fixed_dictionaries({"gain": st.sampled_from(["exact", "first_order"]), "scale_heads": st.booleans()}),
)
def test_hydalearn_with_a_scaler_is_hydalearn_without_one(
    scaler: torch.amp.GradScaler,
    programme: list[Step],
    bad: int | None,
    rule: str,
    adatask: str | None,
    set_to_none: bool,
    options: dict[str, Any],
) -> None:
    """Losses, gains, weights and task gradients have no scale; an auxiliary task that overflows is left out."""
    run = Run(scaler)
    rule = "adam" if adatask and rule == "sgd" else rule
    if adatask is None:
        optimizer = TORCH[rule](run.model.parameters(), **NUMBERS, **OPTIONS[rule])
    else:
        tasks = {"num_tasks": T, "task_weights": adatask}
        optimizer = ADATASK[rule](run.model.parameters(), **tasks, **NUMBERS, **OPTIONS[rule])
    by_hand, of_heads, shared = ByHand(rule, **NUMBERS), ByHand(rule, **NUMBERS), len(run.exact.trunk)

    def losses_fn(model: Net, at: int) -> list[Tensor]:
        return losses_of(model, at, bad)

    plain: Net = twin(run.model)
    hydalearn = HydaLearn(run.model, losses_fn, run.model.trunk, trial_step=0.05, **options)
    unscaled = HydaLearn(plain, losses_fn, plain.trunk, trial_step=0.05, **options)
    for seed, step in enumerate(programme):
        micro_batches = 1 if adatask == "updates" else step.micro_batches
        optimizer.zero_grad(set_to_none=set_to_none)
        parts: list[list[Tensor | None]] = [[None] * T for _ in run.params]
        raw = [list(row) for row in parts]
        weights = [1.0] * T
        for k in range(micro_batches):
            plain.load_state_dict(run.exact.state_dict())
            found, expected = hydalearn.backward(10 * seed + k, scaler=scaler), unscaled.backward(10 * seed + k)
            for name, value in expected._asdict().items():
                torch.testing.assert_close(getattr(found, name), value, rtol=1e-9, atol=1e-12, equal_nan=True)
            weights = found.weights.tolist()
            assert bad is None or weights[bad] == 0
            new = by_task(losses_fn(run.exact, 10 * seed + k), run.params)
            for i, row in enumerate(new):
                scaled = times(weights if i < shared or options["scale_heads"] else [1.0] * T, row)
                parts[i] = [added(pair) for pair in zip(parts[i], scaled, strict=True)]
                raw[i] = [added(pair) for pair in zip(raw[i], row, strict=True)]
        if step.order == "clip" and bad is None:
            clip_task_grad_norm_(run.model.trunk, 0.5)
            factors = factors_of(raw[:shared], 0.5)
            parts[:shared], raw[:shared] = ([times(factors, row) for row in table[:shared]] for table in (parts, raw))
        if step.order == "optimizer":
            scaler.unscale_(optimizer)
        run.finish(optimizer)
        of_shared, head_sums = parts[:shared], [[added(row)] for row in parts[shared:]]
        if bad is not None and not options["scale_heads"]:
            if scaler.is_enabled():  # the auxiliary head itself overflows, so the scaler skips the step
                run.check()
                continue
            return
        if adatask is None:
            by_hand.step(run.params, [*([added(row)] for row in of_shared), *head_sums])
        else:
            on_updates = adatask == "updates"
            by_hand.step(run.exact.trunk, raw[:shared] if on_updates else of_shared, weights if on_updates else None)
            of_heads.step(list(run.exact.heads), head_sums)
        run.check()
