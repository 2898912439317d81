"""Two processes take the steps that one process takes on the joined batch."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from mtlcore import (
    AdaTaskAdagrad,
    AdaTaskAdam,
    AdaTaskRMSprop,
    Dominance,
    HydaLearn,
    combine,
    task_backward,
    zero_task_grad,
)
from mtlcore._buckets import in_buckets
from mtlcore.distributed import Ranks
from mtlcore.distributed_hydalearn import DistributedHydaLearn
from mtlcore.stacked import StackedModel

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = "lo0" if platform.system() == "Darwin" else "lo"  # no other network is needed
STEPS, EXAMPLES, FEATURES, TASKS = 5, 12, 5, 2
Batch = tuple[Tensor, Tensor, Tensor, Tensor]
Result = dict[str, Any]

ADATASK: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": AdaTaskAdam,
    "adagrad": AdaTaskAdagrad,
    "rmsprop": AdaTaskRMSprop,
}
HYDALEARN: dict[str, dict[str, Any]] = {
    "exact": {"gain": "exact"},
    "first order": {"gain": "first_order"},
    "exact, loop, heads move": {"gain": "exact", "lookahead": "loop", "trial_moves": "shared+head"},
    "first order, heads move": {"gain": "first_order", "trial_moves": "shared+head", "scale_heads": False},
    "own step": {"gain": "exact", "trial_rule": "optimizer"},
    "gain batch": {"gain": "exact", "negative": "keep"},
    "gain batch, first order": {"gain": "first_order", "negative": "keep"},
}
CASES = [*ADATASK, "joint", "uneven adam", "scarce adam", "runs", *HYDALEARN, "uneven exact"]


class Toy(nn.Module):
    """A trunk, a head per task, and weights that some examples alone use."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(FEATURES, width), nn.Tanh(), nn.Linear(width, 6), nn.Tanh())
        self.extra = nn.Parameter(torch.ones(FEATURES))  # shared, but reached by task 1 only
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(TASKS))
        self.late = nn.Parameter(torch.ones(()))  # a head's
        self.shared = [*self.trunk.parameters(), self.extra]


def losses_fn(model: Any, batch: Batch) -> list[Tensor]:
    """Mean squared errors over labels that are there; examples ``used`` reach ``extra`` and ``late``."""
    x, y, used, share = batch
    h = model.trunk(x)
    outputs = [head(h).squeeze(-1) for head in model.heads]
    if used.any():
        outputs[1] = outputs[1] + used * (x @ model.extra) * model.late
    losses = []
    for output, target, factor in zip(outputs, y, share, strict=True):
        known = ~target.isnan()
        errors = torch.where(known, output - target.nan_to_num(), 0)
        losses.append(errors.square().sum() / known.sum().clamp(min=1) * factor)
    return losses


def joined_batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(EXAMPLES, FEATURES, generator=generator)
    y = torch.stack([x.sum(1), 30 * x[:, 0]]) + torch.randn(TASKS, EXAMPLES, generator=generator)
    return x, y, (torch.arange(EXAMPLES) < EXAMPLES // 2).to(x.dtype), torch.ones(TASKS)


def part_of(batch: Batch, ranks: Ranks | None, sizes: tuple[int, int] = (6, 6)) -> Batch:
    """This rank's examples; those of rank 1 do not reach ``extra``."""
    if ranks is None:
        return batch
    x, y, used, _ = batch
    rows = slice(0, sizes[0]) if ranks.rank == 0 else slice(sizes[0], None)
    return x[rows], y[:, rows], used[rows], ranks.loss_share((~y[:, rows].isnan()).sum(1))


def train(case: str, distributed: bool) -> Result:
    """Train from one fixed beginning; on ranks, from another beginning on rank 1, which rank 0's must replace."""
    torch.manual_seed(dist.get_rank() if distributed else 0)
    if case == "runs":
        return train_runs(distributed)
    model = Toy()
    ranks = Ranks(model, model.shared, TASKS) if distributed else None
    sizes = (4, 8) if case.startswith("uneven") else (6, 6)
    kind = case.removeprefix("uneven ").removeprefix("scarce ")
    options = dict(HYDALEARN.get(kind, {}))
    factory = ADATASK.get(kind)
    optimizer = factory(model.parameters(), num_tasks=TASKS, lr=0.02) if factory else None
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    dominance = Dominance(optimizer)
    if kind in HYDALEARN:
        options["trial_step"] = optimizer if options.get("trial_rule") else 0.05
        hydalearn = (
            DistributedHydaLearn(ranks, losses_fn, **options)
            if ranks
            else HydaLearn(model, losses_fn, model.shared, **options)
        )
    found = []
    for step in range(STEPS):
        optimizer.zero_grad()
        zero_task_grad(model.shared)
        joined = joined_batch(step)
        if case.startswith("scarce"):
            joined[1][1, 3:] = torch.nan  # rank 1 has no label of task 1
        batch = part_of(joined, ranks, sizes)
        if kind in HYDALEARN:
            other = part_of(joined_batch(100 + step), ranks, sizes) if kind.startswith("gain batch") else None
            found.append(torch.stack(hydalearn.backward(batch, other)))
        else:
            task_backward(losses_fn(model, batch), model.shared)
            if ranks:
                ranks.average_gradients()
            if kind == "joint":
                combine(model.shared, [1.0, 0.1])
        optimizer.step()
    if ranks:
        ranks.check_agreement()
    return {
        "parameters": [p.detach() for p in model.parameters()],
        "au": [dominance.au[p] for p in model.shared],
        "found": found,  # losses, gains and weights [3, T] of each step
        "reached": [getattr(p, "task_reached", None) for p in model.shared],
    }


def train_runs(distributed: bool) -> Result:
    model = StackedModel([nn.Linear(FEATURES, TASKS) for _ in range(3)])
    shared = list(model.parameters())
    ranks = Ranks(model, shared, TASKS) if distributed else None
    optimizer = AdaTaskAdam(shared, num_tasks=TASKS, lr=0.02)
    for step in range(STEPS):
        optimizer.zero_grad()
        x, y, *_ = part_of(joined_batch(step), ranks)
        outputs = model(x.expand(3, -1, -1))  # [R, B, T]
        task_backward([(outputs[..., t] - y[t]).square().mean(1) for t in range(TASKS)], shared)
        if ranks:
            ranks.average_gradients()
        optimizer.step()
    return {"parameters": [p.detach() for p in shared], "runs": [p.task_runs for p in shared]}  # type: ignore[attr-defined]


def refusals() -> Result:
    """What every rank says of differences between ranks."""
    rank, messages = dist.get_rank(), {}
    attempts: dict[str, Callable[[], Any]] = {
        "width": lambda: Ranks(model := Toy(8 + rank), model.shared, TASKS),
        "shared": lambda: Ranks(model := Toy(), model.shared[: 5 - rank], TASKS),
        "tasks": lambda: Ranks(model := Toy(), model.shared, TASKS + rank),
    }
    for name, attempt in attempts.items():
        with pytest.raises(ValueError, match="All ranks should") as caught:
            attempt()
        messages[name] = str(caught.value)
    model = Toy()
    ranks = Ranks(model, model.shared, TASKS)
    model.late.data += 1e-12 * rank
    with pytest.raises(ValueError, match="Parameters should be the same") as caught:
        ranks.check_agreement()
    messages["agreement"] = str(caught.value)
    return messages


def messages_of(bucket_mib: float) -> Result:
    """Count the all-reduces of a step of each method."""
    model, sizes = Toy(), []
    ranks = Ranks(model, model.shared, TASKS, bucket_mib=bucket_mib)
    batch = part_of(joined_batch(0), ranks)
    all_reduce = dist.all_reduce

    def counting(tensor: Tensor, *args: Any, **options: Any) -> Any:
        sizes.append(tensor.numel())
        return all_reduce(tensor, *args, **options)

    dist.all_reduce = counting
    try:
        task_backward(losses_fn(model, batch), model.shared)
        ranks.average_gradients()
        adatask = sizes.copy()
        sizes.clear()
        model.zero_grad()
        zero_task_grad(model.shared)
        DistributedHydaLearn(ranks, losses_fn).backward(batch)
    finally:
        dist.all_reduce = all_reduce
    return {"adatask": adatask, "hydalearn": sizes}


def wrapped() -> Result:
    """What DistributedDataParallel makes of two backward passes, and what is said of it."""
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 2), find_unused_parameters=True)
    with pytest.raises(ValueError, match="Found DistributedDataParallel"):
        Ranks(model, model.parameters(), TASKS)
    outputs = model(torch.ones(4, 3) * (1 + dist.get_rank()))
    task_backward([outputs[:, 0].square().mean(), outputs[:, 1].square().mean()], [model.module.weight])
    return {"task_grad": model.module.weight.task_grad}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=30),
    )
    results: Result = {case: train(case, distributed=True) for case in CASES}
    results |= {"messages": messages_of(25.0), "small": messages_of(400 / 2**20), "refusals": refusals()}
    results["wrapped"] = wrapped()
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks_results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GLOO_SOCKET_IFNAME", LOOPBACK)
        environment.setenv("OMP_NUM_THREADS", "1")
        context = spawn(work, args=(folder,), nprocs=2, join=False)  # type: ignore[no-untyped-call]
        deadline = time.monotonic() + 90
        while not context.join(timeout=1):  # raises what a process raised, and ends the other
            if time.monotonic() > deadline:
                for process in context.processes:
                    process.kill()
                pytest.fail("the two processes did not end within 90 seconds")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", LOOPBACK)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_process_on_the_joined_batch(case: str, ranks_results: list[Result]) -> None:
    alone = train(case, distributed=False)
    one, two = (results[case] for results in ranks_results)
    torch.testing.assert_close(one, two, rtol=0, atol=0)  # ranks agree to the bit: weights, parameters, dominance
    torch.testing.assert_close(one, alone, rtol=1e-11, atol=1e-13)
    torch.manual_seed(0)
    if case != "runs":
        moved = [
            float((p - q.detach()).abs().max()) for p, q in zip(alone["parameters"], Toy().parameters(), strict=True)
        ]
        assert min(moved) > 1e-3  # every parameter, those that only rank 0's examples reach too


def test_weights_move_with_the_batch(ranks_results: list[Result]) -> None:
    weights = torch.stack(ranks_results[0]["exact"]["found"])[:, 2]  # [steps, T]
    assert (weights - weights[0]).abs().max() > 0.01  # so that agreement is no accident


def test_a_task_that_one_rank_does_not_reach_counts_as_reached(ranks_results: list[Result]) -> None:
    for results in ranks_results:
        assert results["adam"]["reached"] == [None] * 4 + [(False, True)]
        assert results["exact"]["reached"] == [None] * 4 + [(False, True)]
        assert results["runs"]["runs"] == [3, 3]


def test_a_step_is_few_messages(ranks_results: list[Result]) -> None:
    shared, heads = 6 * 8 + 9 * 6 + FEATURES, 2 * 7 + 1  # parameters
    flags = 5 * TASKS + 5
    for results in ranks_results:
        assert results["messages"]["adatask"] == [TASKS * shared + heads + flags]
        assert results["messages"]["hydalearn"] == [TASKS * shared + 5 * TASKS, 2 * TASKS, heads + 5]
        small = results["small"]["adatask"]  # buckets of 50 numbers
        assert sum(small) == TASKS * shared + heads + flags
        assert len(small) == 5  # flags; weights 80; bias 16; weights 96; bias, extra, heads


def test_differences_between_ranks_are_named_on_every_rank(ranks_results: list[Result]) -> None:
    for results in ranks_results:
        said = results["refusals"]
        assert "shared `trunk.0.weight` (9, 5) torch.float64 on rank 1 where rank 0 has shared" in said["width"]
        assert "Found head `extra` (5,) torch.float64 on rank 1 where rank 0 has shared `extra`" in said["shared"]
        assert "Found `num_tasks = 3` on rank 1 where rank 0 has `num_tasks = 2`" in said["tasks"]
        assert "Found `late` on rank 1 unlike rank 0's" in said["agreement"]


def test_distributed_data_parallel_averages_the_first_pass_only(ranks_results: list[Result]) -> None:
    one, two = (results["wrapped"]["task_grad"] for results in ranks_results)
    torch.testing.assert_close(one[0], two[0], rtol=0, atol=1e-12)
    assert (one[1] - two[1]).abs().max() > 0.01


def test_buckets_change_every_tensor_in_place_by_few_calls() -> None:
    tensors = [
        torch.ones(3),
        torch.ones(2, 3).t(),
        torch.ones(4, dtype=torch.float64),
        torch.empty(0),
        torch.ones(100).requires_grad_(),
        torch.tensor(1, dtype=torch.int64),
        torch.ones(20),
    ]
    sent: list[Tensor] = []

    def double(flat: Tensor) -> None:
        sent.append(flat.mul_(2))

    in_buckets(tensors, 80, double)
    assert [len(flat) for flat in sent] == [9, 100, 20, 4, 1]  # float32 first: 36, 400 and 80 bytes
    assert sent[1].data_ptr() == tensors[4].data_ptr()  # alone, so not copied
    assert all((tensor == 2).all() for tensor in tensors)


@pytest.mark.usefixtures("alone")
def test_refusals_come_before_any_message() -> None:
    model = Toy()
    ranks = Ranks(model, model.shared, TASKS)
    with pytest.raises(ValueError, match="Found none on rank 0"):
        ranks.average_gradients()
    losses = losses_fn(model, joined_batch(0))
    task_backward([*losses, losses[0] * 2], model.shared)
    with pytest.raises(ValueError, match="Found 3 on rank 0"):
        ranks.average_gradients()
    zero_task_grad(model.shared)
    with pytest.raises(ValueError, match=r"`num_tasks = 2` losses\. Found 1"):
        DistributedHydaLearn(ranks, lambda model, batch: losses_fn(model, batch)[:1]).backward(joined_batch(0))
    task_backward(losses_fn(model, joined_batch(0)), model.shared)
    combine(model.shared)
    with pytest.raises(ValueError, match=r"should have no `p\.grad`"):
        ranks.average_gradients()
    model.extra.grad = None
    for p in model.shared:
        p.grad = None
    model.late.grad = torch.zeros(()).to_sparse()
    with pytest.raises(ValueError, match="Found a sparse one"):
        ranks.average_gradients()


@pytest.mark.usefixtures("alone")
def test_arguments_that_do_not_fit_are_refused() -> None:
    model = Toy()
    with pytest.raises(ValueError, match="num_tasks = 0"):
        Ranks(model, model.shared, 0)
    with pytest.raises(ValueError, match="bucket_mib = 0"):
        Ranks(model, model.shared, TASKS, bucket_mib=0)


def test_without_a_process_group_it_says_what_to_do() -> None:
    model = Toy()
    with pytest.raises(ValueError, match=r"Found none\. Call torch\.distributed\.init_process_group"):
        Ranks(model, model.shared, TASKS)


@pytest.mark.usefixtures("alone")
def test_a_share_of_no_examples_is_zero() -> None:
    model = Toy()
    ranks = Ranks(model, model.shared, TASKS)
    assert ranks.loss_share([3, 0]).tolist() == [1, 0]
    assert float(ranks.loss_share(7)) == 1


@pytest.mark.usefixtures("alone")
def test_a_step_never_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("all_reduce", "broadcast"):
        monkeypatch.setattr(dist, name, lambda *_, **__: None)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to("meta")  # reading a value would raise
    shared = list(model[0].parameters())
    ranks = Ranks(model, shared, TASKS)

    def losses(model: Any, x: Tensor) -> list[Tensor]:
        return list(model(x).square().mean(0))

    optimizer = AdaTaskAdam(model.parameters(), num_tasks=TASKS)
    x = torch.empty(5, 3, device="meta")
    task_backward(losses(model, x), shared)
    ranks.average_gradients()
    optimizer.step()
    optimizer.zero_grad()
    DistributedHydaLearn(ranks, losses, trial_step=0.1).backward(x)


def test_the_command_of_the_readme_runs() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "mtlcore.experiments.distributed_demo", "--backend", "gloo", "--steps", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 ranks over gloo, 3 steps of 128 examples in all")
    assert done.stdout.count("the ranks agree to the bit") == 2
