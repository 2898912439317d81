"""torch.compile around a model, the losses, or a whole training function: the uncompiled numbers, in float64."""

import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._functorch.config
import torch._inductor.config
from loops_blocks import RIGHT
from loops_worlds import RATE, Tasks, data, errors, generators, observed, seeded, trunk_of
from torch import Tensor, nn

from mtlcore import (
    AdaTaskAdam,
    AdaTaskRMSprop,
    Dominance,
    HydaLearn,
    clip_task_grad_norm_,
    combine,
    task_backward,
    unscale_task_grad_,
    zero_task_grad,
)

# What torch itself says of torch, when it compiles for the first time and when it reads the arguments of a function.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
T = 2
MEMORY = {  # layers that a compiled forward pass goes through, in one graph or several
    "plain": ("plain",),
    "buffers": ("BatchNorm", "buffer moved in place"),
    "attributes": ("attributes bound anew", "list"),
    "noise": ("torch noise", "numpy noise", "python noise"),
}
Batch = tuple[Tensor, list[Tensor]]


def backend(name: str, *cases: Any) -> Any:
    """Marks cases of one of torch.compile's backends."""
    absent = name == "inductor" and not (shutil.which("g++") or shutil.which("clang++"))
    return pytest.param(name, *cases, marks=pytest.mark.skipif(absent, reason="no C++ compiler"))


@pytest.fixture(autouse=True)
def compiler() -> Iterator[None]:
    """Begins without compiled code; compiles in this process, and plain C++, which is quick to build."""
    torch._dynamo.reset()
    with torch._inductor.config.patch({"compile_threads": 1, "cpp.vec_isa_ok": False}):
        yield
    torch._dynamo.reset()


def model_of(kind: str = "plain") -> Tasks:
    seeded(0)
    return Tasks(trunk_of([RIGHT[block]() for block in MEMORY[kind]]), T)


def losses_fn(model: Any, batch: Batch) -> list[Tensor]:
    return list(errors(model(batch[0]), batch[1]))


def compiled(what: str, model: Any, name: str) -> tuple[Any, Callable[[Any, Batch], list[Tensor]]]:
    """Returns the model and the losses, one of which is compiled."""
    if what == "model":
        return torch.compile(model, backend=name), losses_fn
    if what == "model in place":
        model.compile(backend=name)
    elif what == "trunk":
        model.trunk = torch.compile(model.trunk, backend=name)
    elif what == "losses":
        return model, torch.compile(losses_fn, backend=name)
    return model, losses_fn


def compare(model: nn.Module, other: nn.Module, exact: bool) -> None:
    """Asserts that two models hold the same parameters and gradients, and remember the same."""
    rtol, atol = (0.0, 0.0) if exact else (1e-10, 1e-13)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=rtol, atol=atol)
        assert (p.grad is None) == (q.grad is None)
        torch.testing.assert_close(p.grad, q.grad, rtol=rtol, atol=atol)
        torch.testing.assert_close(getattr(p, "task_grad", None), getattr(q, "task_grad", None), rtol=rtol, atol=atol)
    for b, c in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(b, c, rtol=rtol, atol=atol)


CALLS: list[tuple[dict[str, Any], bool]] = [  # options, and whether gains are measured on another batch
    ({}, False),
    ({}, True),
    ({"trial_moves": "shared+head"}, False),
    ({"gain": "first_order"}, False),
    ({"gain": "first_order"}, True),
]


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("what", ["model", "model in place", "trunk", "losses"])
def test_hydalearn_is_that_of_the_uncompiled_model(what: str, memory: str) -> None:
    model, plain = model_of(memory), model_of(memory)
    wrapped, losses = compiled(what, model, "eager")
    for k, (options, other) in enumerate(CALLS):
        hydalearn = HydaLearn(wrapped, losses, list(model.trunk.parameters()), trial_step=RATE, **options)
        expected = HydaLearn(plain, losses_fn, plain.trunk, trial_step=RATE, **options)
        states = []
        for of in (hydalearn, expected):
            seeded(k)
            of.model.zero_grad()
            states.append((of.backward(data(k, T), data(k + 9, T, 5) if other else None), generators()))
        torch.testing.assert_close(states[0][0], states[1][0], rtol=0, atol=0)
        assert states[0][1] == states[1][1]
        compare(model, plain, exact=True)
    if what == "losses":
        assert observed(model) == observed(plain)


@pytest.mark.parametrize(
    ("name", "what"), [("aot_eager", "model"), ("aot_eager", "losses"), backend("inductor", "model")]
)
def test_hydalearn_is_right_on_a_traced_graph(name: str, what: str) -> None:
    model, plain = model_of("buffers"), model_of("buffers")
    wrapped, losses = compiled(what, model, name)
    for k in range(2):
        step = HydaLearn(wrapped, losses, model.trunk, trial_step=RATE).backward(data(k, T))
        expected = HydaLearn(plain, losses_fn, plain.trunk, trial_step=RATE).backward(data(k, T))
        torch.testing.assert_close(step, expected, rtol=1e-9, atol=1e-13)
        compare(model, plain, exact=False)


@pytest.mark.parametrize(("name", "what"), [("eager", "model"), ("aot_eager", "losses"), backend("inductor", "losses")])
def test_task_backward_is_right_on_a_compiled_graph(name: str, what: str) -> None:
    model, plain = model_of("buffers"), model_of("buffers")
    wrapped, losses = compiled(what, model, name)
    for k in range(2):
        task_backward(losses(wrapped, data(k, T)), model.trunk)
        task_backward(losses_fn(plain, data(k, T)), plain.trunk)
        compare(model, plain, exact=name == "eager")


# -- a whole training function ---------------------------------------------------------------------------------------

Step = Callable[[Batch], Any]


def adatask(model: Tasks) -> Step:
    optimizer = AdaTaskAdam(model.parameters(), num_tasks=T, lr=RATE)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        task_backward(losses_fn(model, batch), model.trunk.parameters())
        optimizer.step()

    return step


def adatask_with_dominance(model: Tasks) -> Step:
    optimizer = AdaTaskRMSprop(model.parameters(), num_tasks=T, lr=RATE)
    dominance = Dominance(optimizer)

    def step(batch: Batch) -> list[Tensor]:
        optimizer.zero_grad(set_to_none=False)
        task_backward(losses_fn(model, batch), model.trunk.parameters())
        clip_task_grad_norm_(model.trunk.parameters(), 0.1)
        optimizer.step()
        return [dominance.au[p] for p in model.trunk.parameters()]

    return step


def joint(model: Tasks) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    dominance = Dominance(optimizer)

    def step(batch: Batch) -> list[Tensor]:
        model.zero_grad()
        task_backward(losses_fn(model, batch), model.trunk)
        combine(model.trunk, [0.25, 2.0])
        optimizer.step()
        return [dominance.au[p] for p in model.trunk.parameters()]

    return step


def scaled(model: Tasks) -> Step:
    optimizer = AdaTaskAdam(model.parameters(), num_tasks=T, lr=RATE)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        task_backward([scaler.scale(loss) for loss in losses_fn(model, batch)], model.trunk)
        unscale_task_grad_(scaler, model.trunk)
        clip_task_grad_norm_(model.trunk, 0.1)
        scaler.step(optimizer)
        scaler.update()

    return step


def hydalearn(model: Tasks) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)  # compiled Adam is another, by 1e-7
    method = HydaLearn(model, losses_fn, model.trunk, trial_step=optimizer, trial_rule="optimizer")

    def step(batch: Batch) -> Any:
        optimizer.zero_grad()
        found = method.backward(batch)
        optimizer.step()
        return found

    return step


def hydalearn_with_adatask(model: Tasks) -> Step:
    optimizer = AdaTaskAdam(model.parameters(), num_tasks=T, lr=RATE, task_weights="updates")
    method = HydaLearn(model, losses_fn, model.trunk, trial_step=RATE)

    def step(batch: Batch) -> Any:
        zero_task_grad(model.trunk)
        optimizer.zero_grad()
        found = method.backward(batch)
        optimizer.step()
        return found.weights

    return step


LOOPS = {
    "AdaTask": adatask,
    "AdaTask with Dominance": adatask_with_dominance,
    "combine": joint,
    "a scaler": scaled,
    "HydaLearn": hydalearn,
    "HydaLearn with AdaTask": hydalearn_with_adatask,
}


@pytest.mark.parametrize(
    ("name", "loop"), [*(("eager", loop) for loop in LOOPS), ("aot_eager", "AdaTask"), ("aot_eager", "HydaLearn")]
)
def test_a_compiled_training_function_trains_as_the_plain_one(name: str, loop: str) -> None:
    with torch._functorch.config.patch(donated_buffer=False):
        model, plain = model_of("buffers"), model_of("buffers")
        step, expected = torch.compile(LOOPS[loop](model), backend=name), LOOPS[loop](plain)
        start = [p.detach().clone() for p in model.parameters()]
        for k in range(3):
            torch.testing.assert_close(step(data(k, T)), expected(data(k, T)), rtol=1e-9, atol=1e-13)
            compare(model, plain, exact=False)
    assert all(not torch.equal(p, q) for p, q in zip(model.parameters(), start, strict=True))


@pytest.mark.parametrize("call", ["task_backward", "HydaLearn"])
def test_buffers_that_torch_compile_gave_away_are_told_with_the_remedy(call: str) -> None:
    """An ordinary step before lets torch.compile give its buffers away after one backward pass."""
    for donated in (True, False):
        with torch._functorch.config.patch(donated_buffer=donated):
            torch._dynamo.reset()
            model, plain = model_of(), model_of()
            losses = torch.compile(losses_fn, backend="aot_eager")
            torch.stack(losses(model, data(0, T))).sum().backward()  # type: ignore[no-untyped-call]
            model.zero_grad()

            def run(model: Tasks, losses: Any) -> None:
                if call == "task_backward":
                    task_backward(losses(model, data(1, T)), model.trunk)
                else:
                    HydaLearn(model, losses, model.trunk).backward(data(1, T))

            if donated:
                with pytest.raises(RuntimeError, match=r"Set torch\._functorch\.config\.donated_buffer = False"):
                    run(model, losses)
                assert all(p.grad is None and not hasattr(p, "task_grad") for p in model.parameters())
            else:
                run(model, losses)
                run(plain, losses_fn)
                compare(model, plain, exact=False)


@pytest.mark.parametrize("name", ["eager", "aot_eager"])
def test_autocast_inside_a_compiled_function_is_told(name: str) -> None:
    model = model_of().float()

    def forward(model: Tasks, x: Tensor) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return [output.float() for output in model(x)]

    inner = torch.compile(forward, backend=name)

    def losses(model: Tasks, batch: Batch) -> list[Tensor]:
        return list(errors(inner(model, batch[0].float()), [y.float() for y in batch[1]]))

    found = {}
    for gain in ("exact", "first_order"):
        hydalearn = HydaLearn(model, losses, model.trunk, trial_step=RATE, gain=gain)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found[gain] = hydalearn.backward(data(0, T))
        messages = [str(w.message) for w in caught if "HydaLearn" in str(w.message)]
        assert ["bfloat16 or float16" in message for message in messages] == [True] * (gain == "exact")
        model.zero_grad()
    torch.testing.assert_close(found["exact"], found["first_order"], rtol=0, atol=0)
