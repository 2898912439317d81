"""Both methods on several processes, held against one process that trains on the joined batch.

On a machine with several GPUs, ``torchrun --nproc-per-node=gpu -m mtlcore.experiments.distributed_demo``; on any other,
``torchrun --nproc-per-node=2 -m mtlcore.experiments.distributed_demo --backend gloo``. Exit status 1 where ranks and
one process come apart.
"""

import argparse
import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtlcore import AdaTaskAdam, HydaLearn, task_backward, zero_task_grad
from mtlcore.distributed import Ranks
from mtlcore.distributed_hydalearn import DistributedHydaLearn

FEATURES, TASKS = 16, 2
TOLERANCE = 1e-9  # of the way travelled; rounding stays below 1e-11 of it
Batch = tuple[Tensor, Tensor]


class Net(nn.Module):
    """A trunk and a linear head per task."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(FEATURES, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(64, 1) for _ in range(TASKS))


def losses_fn(model: Net, batch: Batch) -> list[Tensor]:
    """Mean squared error of each task."""
    h = model.trunk(batch[0])
    return [(head(h).squeeze(-1) - y).square().mean() for head, y in zip(model.heads, batch[1], strict=True)]


def draw_batch(step: int, examples: int, device: torch.device) -> Batch:
    """The joined batch of a step, the same on every rank: x [B, F] and y [T, B], the second in other units."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(examples, FEATURES, generator=generator)
    y = torch.stack([x[:, :8].sum(1).sin(), 10 * x[:, 4:12].mean(1)])
    return x.to(device), y.to(device)


def train(method: str, on_ranks: bool, steps: int, examples: int, device: torch.device) -> Net:
    """The model trained on this rank's part of every batch, or in this process alone on all of it."""
    torch.manual_seed(dist.get_rank() if on_ranks else 0)  # rank 0's beginning replaces the others'
    model = Net().to(device)
    shared = list(model.trunk.parameters())
    ranks = Ranks(model, shared, TASKS) if on_ranks else None
    part = slice(None) if ranks is None else slice(ranks.rank, None, ranks.size)
    hydalearn = HydaLearn(model, losses_fn, shared) if ranks is None else DistributedHydaLearn(ranks, losses_fn)
    optimizer: torch.optim.Optimizer = AdaTaskAdam(model.parameters(), num_tasks=TASKS, lr=1e-3)
    if method == "HydaLearn":
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        x, y = draw_batch(step, examples, device)
        batch = x[part], y[:, part]
        optimizer.zero_grad()
        zero_task_grad(shared)
        if method == "HydaLearn":
            hydalearn.backward(batch)
        else:
            task_backward(losses_fn(model, batch), shared)
            if ranks is not None:
                ranks.average_gradients()
        optimizer.step()
    if ranks is not None:
        ranks.check_agreement()
    return model


def largest_difference(model: Net, other: Net) -> float:
    """The largest difference of any parameter."""
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


def report(steps: int, examples: int, device: torch.device) -> None:
    """Train each method with ranks and without, and print on rank 0 how far they are from each other."""
    first, examples = dist.get_rank() == 0, examples * dist.get_world_size()
    if first:
        print(f"{dist.get_world_size()} ranks over {dist.get_backend()}, {steps} steps of {examples} examples in all")
    for method in ("AdaTask", "HydaLearn"):
        model = train(method, True, steps, examples, device)
        alone = train(method, False, steps, examples, device)
        torch.manual_seed(0)
        moved, apart = largest_difference(alone, Net().to(device)), largest_difference(model, alone)
        if first:
            print(f"{method:>9}: the ranks agree to the bit, and with one process on the joined batch to {apart:.1e}")
            print(f"{'':>9}  (parameters moved by up to {moved:.1e})")
        if not apart < TOLERANCE * moved:
            raise SystemExit(f"Ranks and one process should be closer than {TOLERANCE} of the way. Found {apart:.1e}.")


def main() -> None:
    """Start the process group and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "nccl" if torch.cuda.is_available() else "gloo"
    parser.add_argument("--backend", choices=["gloo", "nccl"], default=default, help="default here: %(default)s")
    parser.add_argument("--steps", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--examples", type=int, default=64, help="per rank and step; default: %(default)s")
    arguments = parser.parse_args()
    if "LOCAL_RANK" not in os.environ:
        parser.error("This program should be started by torchrun. Found no LOCAL_RANK. See the commands of --help.")
    device = torch.device("cpu")
    if arguments.backend == "nccl":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group(arguments.backend, timeout=timedelta(minutes=2))  # nothing here takes longer
    try:
        report(arguments.steps, arguments.examples, device)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
