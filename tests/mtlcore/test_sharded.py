"""Under torch's fully_shard several processes take the steps that one process takes on the joined batch."""

import copy
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._composable.replicate_with_fsdp import replicate
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.multiprocessing.spawn import spawn
from torch.optim import SGD, Adam, Optimizer

from mtlcore import (
    AdaTaskAdagrad,
    AdaTaskAdam,
    AdaTaskAdamW,
    AdaTaskRMSprop,
    Dominance,
    HydaLearn,
    clip_task_grad_norm_,
    combine,
    task_backward,
    unscale_task_grad_,
    zero_task_grad,
)

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "lo0" if platform.system() == "Darwin" else "lo"  # no other network is needed
STEPS, EXAMPLES, FEATURES, TASKS = 3, 12, 5, 2
Batch = tuple[Tensor, Tensor, float]
Result = dict[str, Any]
Options = dict[str, Any]

ADATASK: dict[str, Callable[..., Optimizer]] = {
    "adam": partial(AdaTaskAdam, num_tasks=TASKS, lr=0.02),
    "adamw": partial(AdaTaskAdamW, num_tasks=TASKS, lr=0.02, weight_decay=0.1, amsgrad=True),
    "adagrad": partial(AdaTaskAdagrad, num_tasks=TASKS, lr=0.02, weight_decay=0.1),
    "rmsprop": partial(AdaTaskRMSprop, num_tasks=TASKS, lr=0.02, momentum=0.5, centered=True),
}
JOINT = partial(Adam, lr=0.02)


@dataclass(frozen=True)
class Case:
    """One way to train."""

    optimizer: Callable[..., Optimizer] = JOINT
    hydalearn: Options | None = None
    own_step: bool = False  # HydaLearn's trial step is the optimizer's
    gain_batch: bool = False
    weights: tuple[float, ...] | None = None  # for `combine`
    max_norm: float | None = None  # for `clip_task_grad_norm_`
    clips: bool = False  # with torch's function, afterwards
    scaler: bool = False
    micro_batches: int = 1
    clear: Options = field(default_factory=dict)  # how gradients are cleared
    sizes: tuple[int, ...] | None = None  # parts of the batch, if they are not alike


CASES: dict[str, Case] = {
    **{name: Case(optimizer) for name, optimizer in ADATASK.items()},
    "task weights": Case(partial(ADATASK["adam"], task_weights=torch.tensor([1.0, 0.5]))),
    "zeros": Case(ADATASK["adam"], clear={"set_to_none": False}),
    "zeros, joint": Case(partial(SGD, lr=0.01, foreach=True), weights=(1.0, 0.3), clear={"set_to_none": False}),
    "micro-batches": Case(ADATASK["adam"], micro_batches=2),
    "unequal parts": Case(ADATASK["adam"], sizes=(3, 9)),
    "combine": Case(weights=(1.0, 0.1)),
    "combine, clipped": Case(weights=(1.0, 0.1), clips=True),
    "clip": Case(ADATASK["adam"], max_norm=0.5),
    "clip, combine": Case(max_norm=0.5, weights=(1.0, 0.1)),
    "scaler": Case(ADATASK["adam"], scaler=True, max_norm=2.0),
    "exact": Case(hydalearn={}),
    "first order": Case(hydalearn={"gain": "first_order"}),
    "exact, heads move": Case(hydalearn={"trial_moves": "shared+head"}),
    "first order, heads move": Case(
        hydalearn={"gain": "first_order", "trial_moves": "shared+head", "scale_heads": False}
    ),
    "exact, own step": Case(hydalearn={"trial_rule": "optimizer"}, own_step=True),
    "exact, AdaTask's step": Case(
        partial(ADATASK["adam"], task_weights="updates"), {"trial_rule": "optimizer"}, own_step=True
    ),
    "first order, own step": Case(hydalearn={"gain": "first_order", "trial_rule": "optimizer"}, own_step=True),
    "exact, gain batch": Case(hydalearn={"negative": "keep"}, gain_batch=True),
    "first order, gain batch": Case(hydalearn={"gain": "first_order", "negative": "keep"}, gain_batch=True),
    "exact, micro-batches": Case(partial(ADATASK["adam"], task_weights="gradients"), hydalearn={}, micro_batches=2),
    "exact, scaler": Case(hydalearn={}, scaler=True),
    "exact, unequal parts": Case(hydalearn={}, sizes=(3, 9)),
}
FEW = ("adam", "clip, combine", "zeros, joint", "exact", "first order, gain batch", "exact, heads move")
COMBINATIONS = [  # how the model is divided, among how many processes
    *(("resharded", 2, case) for case in CASES),
    *(("kept gathered", 2, case) for case in CASES if CASES[case].hydalearn is not None or case in FEW),
    *((way, 2, case) for way in ("one shard", "replicate") for case in FEW),
    *((way, 3, case) for way in ("resharded", "kept gathered") for case in FEW),
]


class Toy(nn.Module):
    """A trunk, a shared parameter that task 1 alone reaches, and heads, whose bias is less than there are processes."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh())
        self.extra = nn.Parameter(torch.ones(FEATURES))
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(TASKS))

    def forward(self, x: Tensor) -> list[Tensor]:
        h = self.trunk(x)
        outputs = [head(h) for head in self.heads]
        return [outputs[0], outputs[1] + (x @ self.extra)[:, None]]


def shared_of(model: Any) -> list[Any]:
    return [*model.trunk.parameters(), model.extra]


def losses_fn(model: nn.Module, batch: Batch) -> list[Tensor]:
    x, targets, share = batch
    return [(o.squeeze(-1) - y).square().mean() * share for o, y in zip(model(x), targets, strict=True)]


def batch_of(step: int, sizes: tuple[int, ...] | None, together: bool) -> Batch:
    """This process's examples of a batch, or all of them."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(EXAMPLES, FEATURES, generator=generator)
    y = torch.stack([x.sum(1), 3 * x[:, 0]]) + torch.randn(TASKS, EXAMPLES, generator=generator)
    if not together:
        return x, y, 1.0
    processes = dist.get_world_size()
    sizes = sizes or (EXAMPLES // processes,) * processes
    begin = sum(sizes[: dist.get_rank()])
    rows = slice(begin, begin + sizes[dist.get_rank()])
    # a process's loss counts as its share of the examples, where torch takes the mean over processes
    return x[rows], y[:, rows], processes * sizes[dist.get_rank()] / EXAMPLES


def all_processes() -> DeviceMesh:
    """A mesh of them on the CPU; without one, torch takes the machine's GPUs."""
    return init_device_mesh("cpu", (dist.get_world_size(),))


def build(way: str | None, **options: Any) -> Toy:
    torch.manual_seed(0)
    model = Toy()
    if way == "replicate":
        replicate(model.trunk)
        replicate(model)
    elif way is not None:
        if way == "one shard":
            options["mesh"] = init_device_mesh("cpu", (dist.get_world_size(), 1), mesh_dim_names=("copies", "shards"))
        options.setdefault("mesh", all_processes())
        for module in (model.trunk[0], model):
            fully_shard(module, reshard_after_forward=way != "kept gathered", **options)
    return model


def whole(x: Any) -> Tensor:
    x = x.detach()
    return x.full_tensor() if isinstance(x, DTensor) else x.clone()


def train(name: str, way: str | None) -> Result:
    """Train from one beginning, in all processes or in this one alone."""
    case, model = CASES[name], build(way)
    shared = shared_of(model)
    optimizer = case.optimizer(model.parameters())
    dominance = Dominance(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=case.scaler)
    hydalearn = None
    if case.hydalearn is not None:
        trial_step = optimizer if case.own_step else 0.05
        hydalearn = HydaLearn(model, losses_fn, shared, trial_step=trial_step, **case.hydalearn)
    found = []
    for step in range(STEPS):
        optimizer.zero_grad(**case.clear)
        for micro in range(case.micro_batches):
            batch = batch_of(10 * step + micro, case.sizes, way is not None)
            if hydalearn is None:
                task_backward([scaler.scale(loss) for loss in losses_fn(model, batch)], shared)
            else:
                other = batch_of(1000 + step, case.sizes, way is not None) if case.gain_batch else None
                found.append(torch.stack(hydalearn.backward(batch, other, scaler)))
        if hydalearn is None:
            unscale_task_grad_(scaler, shared)
        if case.max_norm is not None:
            found.append(clip_task_grad_norm_(shared, case.max_norm))
        if case.weights is not None:
            combine(shared, case.weights)
        if case.clips:
            found.append(whole(nn.utils.clip_grad_norm_(model.parameters(), 0.5)))
        scaler.step(optimizer)
        scaler.update()
    return {
        "parameters": [whole(p) for p in model.parameters()],
        "task gradients": [whole(p.task_grad) for p in shared],
        "gradients": [whole(p.grad) for p in model.parameters()],
        "reached": [p.task_reached for p in shared],
        "au": [whole(dominance.au[p]) for p in shared],
        "relative": [whole(dominance.relative[p]) for p in shared],
        "layers": [tuple(map(torch.as_tensor, layer)) for layer in dominance.layers(model).values()],
        "found": found,  # losses, gains and weights [3, T] of each step, or norms [T]
    }


def refusals() -> dict[str, str]:
    """What every process says, before anything changes."""
    said: dict[str, str] = {}

    def refused(name: str, attempt: Callable[[], Any], model: Toy, error: type[Exception] = ValueError) -> None:
        before = [(whole(p), p.grad) for p in model.parameters()]
        with pytest.raises(error) as caught:
            attempt()
        said[name] = str(caught.value)
        for p, (numbers, grad) in zip(model.parameters(), before, strict=True):
            assert p.grad is grad
            assert torch.equal(whole(p), numbers)

    model = build("resharded")
    shared, batch = shared_of(model), batch_of(0, None, True)
    refused("missing", lambda: task_backward([losses_fn(model, batch)[0], None], shared), model)
    task = HydaLearn(model, lambda m, b: [losses_fn(m, b)[0], None], shared)
    refused("missing, HydaLearn", lambda: task.backward(batch), model)
    model.set_requires_gradient_sync(False)  # type: ignore[operator]
    refused("put off", lambda: task_backward(losses_fn(model, batch), shared), model)
    model.set_requires_gradient_sync(True)  # type: ignore[operator]
    lone = nn.Parameter(torch.ones(FEATURES))
    refused("plain", lambda: task_backward([*losses_fn(model, batch)], [*shared, lone]), model)
    weighed = HydaLearn(model, lambda m, b: [losses_fn(m, b)[0] * lone.sum(), losses_fn(m, b)[1]], shared)
    refused("plain, outside", lambda: weighed.backward(batch), model)
    other: Any = nn.Parameter(distribute_tensor(torch.ones(4), all_processes(), [Replicate()]))
    refused("stranger", lambda: task_backward([other.sum().to_local(), other.sum().to_local()], [other]), model)
    shared[0].task_runs = 8
    refused("runs", lambda: task_backward(losses_fn(model, batch), shared), model)
    del shared[0].task_runs

    changes: dict[str, Callable[[], Any]] = {
        "clipped": lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.1),
        "halved": lambda: torch._foreach_mul_([p.grad for p in model.parameters() if p.grad is not None], 0.5),
        "another pass": lambda: torch.stack(losses_fn(model, batch)).sum().backward(),  # type: ignore[no-untyped-call]
    }
    for name, change in changes.items():
        optimizer = AdaTaskAdam(model.parameters(), num_tasks=TASKS)
        optimizer.zero_grad()
        task_backward(losses_fn(model, batch), shared)
        change()
        refused(name, lambda: optimizer.step(), model)  # noqa: B023
    optimizer.zero_grad()
    task_backward(losses_fn(model, batch), shared)
    nn.utils.clip_grad_norm_(model.parameters(), 1e9)  # a measurement
    weights = torch.ones(TASKS, shared[0].shape[0])
    refused("weights of runs", lambda: combine(shared[:1], weights), model)
    optimizer.step()
    alone = build(None)
    theirs = AdaTaskAdam(alone.parameters(), num_tasks=TASKS)
    task_backward(losses_fn(alone, batch), shared_of(alone))
    theirs.step()
    refused("whole state", lambda: optimizer.load_state_dict(theirs.state_dict()), model)

    ddp = nn.parallel.DistributedDataParallel(build(None), find_unused_parameters=True)
    refused("DDP", lambda: task_backward(losses_fn(ddp, batch), shared_of(ddp.module)), ddp.module)
    refused("DDP, HydaLearn", lambda: HydaLearn(ddp, losses_fn, shared_of(ddp.module)), ddp.module)
    return said


def gathered() -> Result:
    """Parameters that are named between the passes, when a module holds gathered ones."""
    found = {}
    for name in ("named before", "named between", "module"):
        model, batch = build("kept gathered"), batch_of(0, None, True)
        before = list(model.trunk.parameters())
        losses = losses_fn(model, batch)
        between = list(model.trunk.parameters())
        assert not any(isinstance(p, DTensor) for p in between)  # else there is nothing to test
        shared: Any = {"named before": before, "named between": between, "module": model.trunk}[name]
        task_backward(losses, shared)
        losses_fn(model, batch)
        combine(model.trunk, [1.0, 0.5])
        found[name] = [whole(x) for p in before for x in (p.grad, p.task_grad)]  # type: ignore[attr-defined]
        zero_task_grad(model.trunk)
        assert not any(hasattr(p, "task_grad") for p in before)
    return found


def same_to_the_bit(way: str) -> bool:
    """Whether the trials of a model with dropout leave the parameters as they were."""
    model = build(None)
    model.trunk.append(nn.Dropout(0.5))
    for module in (model.trunk[2], model):
        fully_shard(module, mesh=all_processes(), reshard_after_forward=way != "kept gathered")
    before = [whole(p) for p in model.parameters()]
    torch.manual_seed(dist.get_rank())
    hydalearn = HydaLearn(model, losses_fn, model.trunk, trial_moves="shared+head")
    hydalearn.backward(batch_of(0, None, True))  # with a trial of nothing, which has to see the same dropout
    losses_fn(model, batch_of(0, None, True))
    hydalearn.backward(batch_of(0, None, True))
    return all(torch.equal(whole(p), q) for p, q in zip(model.parameters(), before, strict=True))


def kept_after_backward() -> Result:
    """Two steps of HydaLearn where gathered parameters are kept even after backward passes, and where they are not."""
    found = {}
    for kept in (False, True):
        model = build("kept gathered")
        model.set_reshard_after_backward(not kept)  # type: ignore[operator]
        optimizer = JOINT(model.parameters())
        hydalearn = HydaLearn(model, losses_fn, model.trunk, trial_step=0.05)
        for step in range(2):
            optimizer.zero_grad()
            found[kept] = hydalearn.backward(batch_of(step, None, True))
            optimizer.step()
    return {"let go": found[False], "kept": found[True]}


def half(way: str) -> Result:
    """All processes train on the same examples in bfloat16, together and each for itself."""
    torch.set_default_dtype(torch.float32)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    found = {}
    for name in ("together", "alone"):
        mesh = init_device_mesh("cpu", (dist.get_world_size(), 1), mesh_dim_names=("others", "me"))
        model = build(way, mp_policy=policy, mesh=mesh["others" if name == "together" else "me"])
        shared, batch = shared_of(model), batch_of(0, None, False)
        optimizer = AdaTaskAdam(model.parameters(), num_tasks=TASKS, lr=0.02)
        task_backward(losses_fn(model, batch), shared)
        optimizer.step()
        optimizer.zero_grad()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            step = HydaLearn(model, losses_fn, shared, trial_step=0.05).backward(batch)
        assert [w for w in told if "bfloat16" in str(w.message)]
        found[name] = [*map(whole, model.parameters()), *step]
    torch.set_default_dtype(torch.float64)
    return found


def checkpoint(way: str | None, name: str, folder: Path, resume: bool) -> list[Tensor]:
    """Train four steps, the last two from a checkpoint if asked; return parameters and AU."""
    model = build(way)
    shared = shared_of(model)
    optimizer = ADATASK[name](model.parameters())
    dominance = Dominance(optimizer)
    for step in (99, 2, 3) if resume else (0, 1, 2, 3):
        if step == 2:
            of_model, of_optimizer = get_state_dict(model, optimizer)
            state: dict[str, Any] = {"model": of_model, "optimizer": of_optimizer, "dominance": dominance.state_dict()}
            if resume:  # the step before has made what is filled now
                state_dict_loader.load(state, checkpoint_id=folder)
                set_state_dict(model, optimizer, model_state_dict=of_model, optim_state_dict=of_optimizer)
                dominance.load_state_dict(state["dominance"])
            else:
                state_dict_saver.save(state, checkpoint_id=folder)
        optimizer.zero_grad()
        task_backward(losses_fn(model, batch_of(step, None, way is not None)), shared)
        optimizer.step()
    return [whole(x) for x in (*model.parameters(), *(dominance.au[p] for p in shared))]


def full_state() -> Result:
    """A whole state dictionary, as torch's helpers gather it and spread it again."""
    options = StateDictOptions(full_state_dict=True)
    model, finals = build("resharded"), []
    state: Any = None
    for _ in range(2):
        optimizer = AdaTaskAdam(model.parameters(), num_tasks=TASKS, lr=0.02)
        for step in range(2):
            if step == 1 and state is None:
                state = copy.deepcopy(get_state_dict(model, optimizer, options=options))
            elif step == 1:
                set_state_dict(model, optimizer, model_state_dict=state[0], optim_state_dict=state[1], options=options)
            task_backward(losses_fn(model, batch_of(step, None, True)), shared_of(model))
            optimizer.step()
            optimizer.zero_grad()
        finals.append([whole(p) for p in model.parameters()])
    return {"finals": finals, "shape": state[1]["state"]["extra"]["exp_avg"].shape}


def one_dies() -> str:
    """What a process says when another dies in a trial."""

    def dying(model: nn.Module, batch: Batch) -> list[Tensor]:
        calls.append(1)
        if dist.get_rank() == 1 and len(calls) == 2:
            raise SystemExit
        return losses_fn(model, batch)

    calls: list[int] = []
    model = build("resharded")
    begin = time.monotonic()
    try:
        HydaLearn(model, dying, shared_of(model)).backward(batch_of(0, None, True))
    except RuntimeError as error:
        return f"after {time.monotonic() - begin:.0f} seconds: {error}"
    return "nothing"


def work(rank: int, size: int, folder: Path) -> None:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    meeting, patience = f"file://{folder}/rendezvous{size}", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=patience)
    results: Result = {f"{w}, {c}": train(c, w) for w, s, c in COMBINATIONS if s == size}
    if size == 2:
        results |= {"refusals": refusals(), "gathered": gathered(), "full state": full_state()}
        results["kept after backward"] = kept_after_backward()
        for way in ("resharded", "kept gathered"):
            results[f"bits, {way}"], results[f"half, {way}"] = same_to_the_bit(way), half(way)
        for name in ADATASK:
            results[f"{name}, saved"] = checkpoint("resharded", name, folder / f"{name} of two", resume=False)
            for whose in ("two", "one"):
                place = folder / f"{name} of {whose}"
                results[f"{name} of {whose}"] = checkpoint("resharded", name, place, resume=True)
    torch.save(results, folder / f"{rank} of {size}.pt")
    if size == 2:
        said = one_dies()
        (folder / "died").write_text(said, encoding="utf-8")
        os._exit(0)  # what is left of the process group cannot be taken down in order
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # see `main` of the demo: a busy machine would see torch's threads abort a process that is done


@pytest.fixture(scope="module")
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def ones(folder: Path, double: None) -> Result:
    """Checkpoints of one process."""
    del double
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        return {name: checkpoint(None, name, folder / f"{name} of one", resume=False) for name in ADATASK}


@pytest.fixture(scope="module")
def results(folder: Path, ones: Result) -> dict[int, list[Result]]:
    del ones  # their checkpoints are read
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GLOO_SOCKET_IFNAME", LOOPBACK)
        environment.setenv("OMP_NUM_THREADS", "1")
        for size in (2, 3):
            context = spawn(work, args=(size, folder), nprocs=size, join=False)  # type: ignore[no-untyped-call]
            deadline = time.monotonic() + 90
            while not context.join(timeout=1):  # raises what a process raised, and ends the others
                if time.monotonic() > deadline:
                    for process in context.processes:
                        process.kill()
                    pytest.fail(f"{size} processes did not end within 90 seconds")
    return {
        size: [torch.load(folder / f"{rank} of {size}.pt", weights_only=False) for rank in range(size)]
        for size in (2, 3)
    }


@pytest.mark.parametrize(("way", "size", "case"), COMBINATIONS)
def test_processes_take_the_steps_of_one_on_the_joined_batch(
    way: str, size: int, case: str, results: dict[int, list[Result]], alone: Callable[[str], Result]
) -> None:
    first, *others = (processes[f"{way}, {case}"] for processes in results[size])
    for other in others:
        torch.testing.assert_close(first, other, rtol=0, atol=0)  # all alike, to the bit
    torch.testing.assert_close(first, alone(case), rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("case", CASES)
def test_every_parameter_moves_and_weights_with_the_batch(case: str, alone: Callable[[str], Result]) -> None:
    result = alone(case)  # so that agreement is no accident
    begin = build(None).parameters()
    moved = [float((p - q).detach().abs().max()) for p, q in zip(result["parameters"], begin, strict=True)]
    assert min(moved) > 1e-4
    if CASES[case].hydalearn is not None:
        weights = torch.stack(result["found"])[:, 2]  # [steps, T]
        assert (weights - weights[0]).abs().max() > 0.01


@pytest.fixture(scope="module")
def alone(double: None) -> Callable[[str], Result]:
    del double
    known: dict[str, Result] = {}

    def result(case: str) -> Result:
        if case not in known:
            known[case] = train(case, None)
        return known[case]

    return result


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        ("missing", "each should have a loss of every task"),
        ("missing, HydaLearn", "each should have a loss of every task"),
        ("put off", "Gradients should be reduced over processes in each backward pass"),
        ("plain", "Found 1 that are not sharded beside 5 that are"),
        ("plain, outside", "Found 1 that are not sharded beside 9 that are"),
        ("stranger", "Found 1 DTensors of another source"),
        ("runs", "Found R runs stacked in one"),
        ("clipped", "should be as the task gradients made it before a step by task"),
        ("halved", "should be as the task gradients made it before a step by task"),
        ("another pass", "should be as the task gradients made it before a step by task"),
        ("weights of runs", "Parameter `weights` should hold 2 finite numbers"),
        ("whole state", "or sharded otherwise"),
        ("DDP", r"Use torch.distributed.fsdp.fully_shard\(model\)"),
        ("DDP, HydaLearn", r"Use torch.distributed.fsdp.fully_shard\(model\)"),
    ],
)
def test_what_could_not_be_right_is_refused_before_anything_changes(
    attempt: str, said: str, results: dict[int, list[Result]]
) -> None:
    for processes in results[2]:
        assert re.search(said, processes["refusals"][attempt])


def test_gathered_parameters_stand_for_the_sharded_ones(results: dict[int, list[Result]]) -> None:
    for processes in results[2]:
        found = processes["gathered"]
        torch.testing.assert_close(found["named between"], found["named before"], rtol=0, atol=0)
        torch.testing.assert_close(found["module"], found["named before"], rtol=0, atol=0)


@pytest.mark.parametrize("way", ["resharded", "kept gathered"])
def test_trials_leave_parameters_as_they_were_to_the_bit(way: str, results: dict[int, list[Result]]) -> None:
    assert all(processes[f"bits, {way}"] for processes in results[2])


def test_trials_see_no_gathered_parameters_from_before(results: dict[int, list[Result]]) -> None:
    for processes in results[2]:
        found = processes["kept after backward"]
        torch.testing.assert_close(found["kept"], found["let go"], rtol=0, atol=0)


@pytest.mark.parametrize("way", ["resharded", "kept gathered"])
def test_half_precision_is_that_of_one_process(way: str, results: dict[int, list[Result]]) -> None:
    for processes in results[2]:
        found = processes[f"half, {way}"]
        torch.testing.assert_close(found["together"], found["alone"], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", ADATASK)
def test_checkpoints_move_between_two_processes_and_one(
    name: str, folder: Path, ones: Result, results: dict[int, list[Result]]
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        resumed = checkpoint(None, name, folder / f"{name} of two", resume=True)
    for processes in results[2]:
        torch.testing.assert_close(processes[f"{name} of two"], processes[f"{name}, saved"], rtol=0, atol=0)
        torch.testing.assert_close(processes[f"{name} of one"], ones[name], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(resumed, processes[f"{name}, saved"], rtol=1e-12, atol=1e-12)


def test_a_whole_state_dictionary_is_gathered_and_spread(results: dict[int, list[Result]]) -> None:
    for processes in results[2]:
        found = processes["full state"]
        torch.testing.assert_close(*found["finals"], rtol=0, atol=0)
        assert found["shape"] == (TASKS, FEATURES)


def test_one_process_that_dies_is_an_error_for_the_others(folder: Path, results: dict[int, list[Result]]) -> None:
    del results  # it came last
    assert (folder / "died").read_text(encoding="utf-8").startswith("after")


def test_the_command_of_the_readme_runs() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "companion.train.distributed_demo", "--backend", "gloo", "--steps", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 processes over gloo, 3 steps of 128 examples")
    assert done.stdout.count("one process on the joined batch ends") == 2
