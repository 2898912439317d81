"""Task gradients live as long as the ``p.grad`` that was made of them: random programs against a ledger of numbers.

A program is what a training loop does in any order: batches, each ordinary way to clear gradients, micro-batches,
weights, clipping, gradients of no task, steps. The ledger says what `p.grad` is made of, or that a call is refused.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from loops import ADATASK, OPTIONS, RULES, TORCH, ByHand, Net, added, by_task, close, examples, kernel, snapshot, twin
from torch import Tensor

from mtlcore import HydaLearn, clip_task_grad_norm_, combine, task_backward, zero_task_grad

T = 2
Operation = tuple[Any, ...]
WEIGHTS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=T, max_size=T)
PRESENT = st.sampled_from([(True, True), (True, False), (False, True)])
WHICH = st.sampled_from(["all", "first", "last"])


def programs(step: str) -> st.SearchStrategy[list[Operation]]:
    """Programs of ordinary steps, each with some parts left out, and of operations at any place."""
    callers = st.sampled_from(["optimizer", "model", "by hand"])
    clear = st.tuples(st.just("clear"), callers, st.booleans(), st.just("all"))
    clear_one = st.tuples(st.just("clear"), st.just("by hand"), st.booleans(), WHICH)
    other = st.tuples(st.just("other"), WHICH)
    backward = st.tuples(st.just("backward"), PRESENT)
    weighed = st.tuples(st.just("weighed"), st.sampled_from([(True, True), (True, False)]))
    forget = st.tuples(st.just("forget"), st.booleans(), WHICH)
    clip = st.tuples(st.just("clip"), st.sampled_from([0.1, 1.0, 100.0]))
    combine = st.tuples(st.just("combine"), st.none() | WEIGHTS)

    def some(*parts: st.SearchStrategy[Operation], least: int = 0, most: int = 1) -> st.SearchStrategy[list[Operation]]:
        return st.lists(st.one_of(parts), min_size=least, max_size=most)

    ordinary = st.tuples(
        some(clear, least=1),
        some(other),
        some(backward, backward, weighed, least=1, most=2),
        some(clip, combine, combine, forget, most=2),
        st.just([(step,)]),
    )
    anything = some(clear, clear_one, other, backward, weighed, forget, clip, combine, most=3)
    phrases = st.lists(st.one_of(ordinary, ordinary, anything.map(lambda them: (them,))), min_size=1, max_size=4)
    return phrases.map(lambda them: [operation for phrase in them for part in phrase for operation in part])


@dataclass
class Ledger:
    """What ``p.grad`` of one shared parameter is made of: ``others`` + the sum of ``parts``."""

    others: Tensor | None = None
    tasks: list[Tensor | None] | None = None  # unweighted gradients; None where there are none, or they were cleared
    parts: list[Tensor | None] = field(default_factory=lambda: [None] * T)
    changed: bool = False  # whether something else went into p.grad since
    cleared: bool = False  # whether p.grad was cleared since it held gradients of tasks
    mixed: bool = False  # and something else put into it, which may look like a change: right, or told
    weights: Sequence[float] | None = None
    weighed_by: str = ""
    several: bool = False  # whether micro-batches had different weights

    @property
    def grad(self) -> Tensor | None:
        return added([self.others, *self.parts])

    def clear(self, to_none: bool) -> None:
        grad = self.grad
        cleared = self.cleared or self.tasks is not None
        self.__init__(None if to_none or grad is None else torch.zeros_like(grad), cleared=cleared)  # type: ignore[misc]

    def forget(self) -> None:
        self.__init__(self.grad)  # type: ignore[misc]

    def add(self, grads: Sequence[Tensor | None], weights: Sequence[float] | None, weighed_by: str) -> None:
        if all(g is None for g in grads):
            return
        self.cleared = self.mixed = False
        if self.tasks is not None:
            self.several = self.several or weights is not None or self.weights is not None
        self.tasks = [added([a, g]) for a, g in zip(self.tasks or [None] * T, grads, strict=True)]
        new = [added([g], None if weights is None else [weights[t]]) for t, g in enumerate(grads)]
        self.parts = [added([a, g]) for a, g in zip(self.parts, new, strict=True)]
        if weighed_by:
            self.weights, self.weighed_by = weights, weighed_by


class Loop:
    """A model that is trained by a program, its twin in float64, and a ledger of each shared parameter."""

    def __init__(self, rule: str, kind: Any, **options: Any) -> None:
        self.model = Net(T)
        self.twin: Net = twin(self.model)
        numbers = {"lr": 0.01, "weight_decay": 0.1}
        self.optimizer = kind(self.model.parameters(), **numbers, **OPTIONS[rule], **options)
        self.by_hand, self.of_heads = ByHand(rule, **numbers), ByHand(rule, **numbers)
        self.mode: str | None = options.get("task_weights")
        self.ledgers = [Ledger() for _ in self.model.trunk]
        self.heads: list[Tensor | None] = [None] * T
        self.began: set[int] = set()  # the parameters that have moments per task
        self.told = False

    @property
    def kept(self) -> list[Ledger]:
        return [ledger for ledger in self.ledgers if ledger.tasks is not None]

    @property
    def changed(self) -> bool:
        return any(ledger.changed for ledger in self.ledgers)

    def chosen(self, which: str) -> list[int]:
        return {"all": list(range(len(self.ledgers))), "first": [0], "last": [len(self.ledgers) - 1]}[which]

    def run(self, program: Sequence[Operation]) -> None:
        for at, (name, *arguments) in enumerate(program):
            getattr(self, name)(at, *arguments)
            self.check(f"{at}: {name} {arguments}")

    def check(self, where: str) -> None:
        for i, (p, ledger) in enumerate(zip(self.model.trunk, self.ledgers, strict=True)):
            close(p.grad, ledger.grad, f"{where}: p.grad {i}")
            if ledger.tasks is not None and not ledger.changed:
                assert (p.task_reached or (True,) * T) == tuple(g is not None for g in ledger.tasks), where
                for row, g in zip(p.task_grad, ledger.tasks, strict=True):
                    close(row, torch.zeros_like(row) if g is None else g, f"{where}: p.task_grad {i}")
        for p, grad in zip(self.model.heads, self.heads, strict=True):
            close(p.grad, grad, f"{where}: p.grad of a head")
        for p, exact in zip(self.model.parameters(), self.twin.parameters(), strict=True):
            close(p, exact, f"{where}: p")

    def made(self, call: Callable[[], Any], refused: bool) -> bool:
        """Makes a call, which should be refused in a sentence and change nothing, or not; says whether it was made."""
        allowed = refused or any(ledger.mixed for ledger in self.ledgers)
        before = snapshot(self.model, self.optimizer, of_tasks=False)  # those of tasks are compared with the ledger
        message = None
        try:
            call()
        except ValueError as error:
            message = str(error)
        if message is None:
            assert not refused
            return True
        assert allowed, message
        assert re.search(r"should [\s\S]*Found", message)
        assert snapshot(self.model, self.optimizer, of_tasks=False) == before
        return False

    def backward(self, at: int, present: Sequence[bool]) -> None:
        if self.made(lambda: task_backward(self.model.losses(at, present), self.model.trunk), self.changed):
            self.add(at, present)

    def weighed(self, at: int, present: Sequence[bool]) -> None:
        """HydaLearn's backward pass."""
        weights: list[float] = []

        def losses_fn(model: Net, at: int) -> Any:
            return model.losses(at, present)

        hydalearn = HydaLearn(self.model, losses_fn, self.model.trunk, trial_step=0.05, scale_heads=False)
        if self.made(lambda: weights.extend(hydalearn.backward(at).weights.tolist()), self.changed):
            self.add(at, present, weights)

    def add(self, at: int, present: Sequence[bool], weights: Sequence[float] | None = None) -> None:
        grads = by_task(self.twin.losses(at, present), [*self.twin.trunk, *self.twin.heads])
        for ledger, of_param in zip(self.ledgers, grads, strict=False):
            ledger.add(of_param, weights, "" if weights is None else "HydaLearn")
        self.heads = [added([a, *of_head]) for a, of_head in zip(self.heads, grads[-T:], strict=True)]

    def other(self, at: int, which: str) -> None:
        """A gradient of no task, such as a regulariser's, another one each time."""
        sum((at + 1) * self.model.trunk[i].square().sum() for i in self.chosen(which)).backward()
        for i in self.chosen(which):
            ledger = self.ledgers[i]
            ledger.others = added([ledger.others, 2 * (at + 1) * self.twin.trunk[i].detach()])
            ledger.changed, ledger.mixed = ledger.tasks is not None, ledger.cleared

    def clear(self, at: int, whose: str, to_none: bool, which: str) -> None:
        del at
        if whose == "by hand":
            for p in [self.model.trunk[i] for i in self.chosen(which)]:
                if to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.zero_()
        else:
            (self.optimizer if whose == "optimizer" else self.model).zero_grad(set_to_none=to_none)
            self.heads = [None if to_none or g is None else torch.zeros_like(g) for g in self.heads]
        for i in self.chosen(which):
            self.ledgers[i].clear(to_none)

    def forget(self, at: int, keep_memory: bool, which: str) -> None:
        del at
        zero_task_grad([self.model.trunk[i] for i in self.chosen(which)], keep_memory)
        for i in self.chosen(which):
            self.ledgers[i].forget()

    def combine(self, at: int, weights: list[float] | None) -> None:
        del at
        dropped = weights is None and any(ledger.weighed_by == "HydaLearn" for ledger in self.kept)
        if self.made(lambda: combine(self.model.trunk, weights), self.changed or not self.kept or dropped):
            for ledger in self.kept:
                factors = None if weights is None else [[w] for w in weights]
                rows = enumerate(ledger.tasks or ())
                ledger.parts = [added([g], None if factors is None else factors[t]) for t, g in rows]
                ledger.weights, ledger.weighed_by, ledger.several = weights, "combine", False

    def clip(self, at: int, max_norm: float) -> None:
        del at
        if self.made(lambda: clip_task_grad_norm_(self.model.trunk, max_norm), self.changed or not self.kept):
            for t in range(T):
                rows = [ledger.tasks for ledger in self.kept if ledger.tasks is not None]
                norm = sum(float(g.square().sum()) for row in rows if (g := row[t]) is not None) ** 0.5
                for row in [*rows, *(ledger.parts for ledger in self.kept)]:
                    row[t] = added([row[t]], [min(1.0, max_norm / (norm + 1e-6))])

    def step(self, at: int) -> None:
        """One of torch's optimizers."""
        del at
        self.optimizer.step()
        grads = [[ledger.grad] for ledger in self.ledgers]
        self.by_hand.step([*self.twin.trunk, *self.twin.heads], [*grads, *([g] for g in self.heads)])

    def task_step(self, at: int) -> None:
        """One of an AdaTask optimizer."""
        del at
        kept, ordinary = self.kept, [i for i, ledger in enumerate(self.ledgers) if ledger.tasks is None]
        if any((g := self.ledgers[i].grad) is not None and (g.any() or i not in self.began) for i in ordinary):
            return  # the ordinary step of a shared parameter, after which it has no moments per task
        refused = self.changed or any(ledger.others is not None and bool(ledger.others.any()) for ledger in kept)
        refused = refused or (self.mode is None and any(ledger.weights is not None for ledger in kept))
        refused = refused or (self.mode == "updates" and any(ledger.several for ledger in kept))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = self.made(self.optimizer.step, refused)
        assert len(caught) == int(made and not kept and not self.told)
        self.told = self.told or bool(caught)
        if made:
            for i, ledger in enumerate(self.ledgers):
                if ledger.tasks is not None:
                    alone: list[list[Tensor | None]] = [[None] * T for _ in self.ledgers]
                    alone[i] = ledger.parts if self.mode == "gradients" else ledger.tasks
                    self.by_hand.step(self.twin.trunk, alone, ledger.weights if self.mode == "updates" else None)
                    self.began.add(i)
            self.of_heads.step(list(self.twin.heads), [[g] for g in self.heads])


BOTH = ("backward", (True, True))
REGULARISED: list[Operation] = [BOTH, ("step",), ("clear", "model", True, "all"), ("other", "all"), BOTH, ("step",)]
IN_PLACE = ("clear", "optimizer", False, "all")
ONE_TASK: list[Operation] = [BOTH, ("step",), IN_PLACE, ("backward", (False, True)), ("step",)]
NOTHING_LEFT: list[Operation] = [BOTH, ("clear", "model", True, "all"), ("combine", None), ("clip", 1.0), ("step",)]
REFUSED: list[Operation] = [("weighed", (True, True)), ("task_step",), ("clear", "model", True, "all"), ("task_step",)]


@examples(250)
@example(program=REGULARISED, rule="sgd", fused=False)
@example(program=ONE_TASK, rule="sgd", fused=False)
@example(program=NOTHING_LEFT, rule="sgd", fused=False)
@given(program=programs("step"), rule=st.sampled_from(list(TORCH)), fused=st.booleans())
def test_any_loop_of_torchs_optimizers_steps_by_what_its_gradients_are_made_of(
    program: list[Operation], rule: str, fused: bool
) -> None:
    fused = fused and rule != "sgd"  # torch's fails where a parameter has its first gradient later than another
    Loop(rule, TORCH[rule], **kernel(rule, {"fused": fused})).run(program)


@examples(250)
@example(program=[("task_step",) if step == ("step",) else step for step in ONE_TASK], rule="adam", mode=None)
@example(program=REFUSED, rule="adam", mode=None)
@given(
    program=programs("task_step"),
    rule=st.sampled_from(RULES),
    mode=st.sampled_from([None, "gradients", "updates"]),
)
def test_any_loop_of_adatask_steps_by_the_gradients_since_they_were_cleared(
    program: list[Operation], rule: str, mode: str | None
) -> None:
    Loop(rule, ADATASK[rule], num_tasks=T, task_weights=mode).run(program)
