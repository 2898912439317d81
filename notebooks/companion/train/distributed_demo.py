"""Both methods on several processes, held against one process that trains on the joined batch.

On a machine with several GPUs, ``torchrun --nproc-per-node=gpu -m companion.train.distributed_demo``; on any other,
``torchrun --nproc-per-node=2 -m companion.train.distributed_demo --backend gloo``. Exit status 1 where several
processes and one come apart.
"""

import argparse
import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mtlcore import AdaTaskAdam, HydaLearn, task_backward

FEATURES, TASKS = 16, 2
TOLERANCE = 1e-9  # of the way travelled; rounding stays below 1e-11 of it
Batch = tuple[Tensor, Tensor]


class Net(nn.Module):
    """A trunk and a linear head per task."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(FEATURES, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(64, 1) for _ in range(TASKS))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Each task's output [B, 1] for inputs [B, F]."""
        h = self.trunk(x)
        return [head(h) for head in self.heads]


def losses_fn(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Mean squared error of each task."""
    return [(output.squeeze(-1) - y).square().mean() for output, y in zip(model(batch[0]), batch[1], strict=True)]


def draw_batch(step: int, examples: int, device: torch.device) -> Batch:
    """The joined batch of a step, the same on every process: x [B, F] and y [T, B], the second in other units."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(examples, FEATURES, generator=generator)
    y = torch.stack([x[:, :8].sum(1).sin(), 10 * x[:, 4:12].mean(1)])
    return x.to(device), y.to(device)


def train(method: str, together: bool, steps: int, examples: int, device: torch.device) -> list[Tensor]:
    """The parameters after training on this process's part of every batch, or in it alone on all of it."""
    torch.manual_seed(0)  # each process builds the whole model, and keeps its part
    model, part = Net().to(device), slice(None)
    if together:
        fully_shard(model, mesh=init_device_mesh(device.type, (dist.get_world_size(),)))
        part = slice(dist.get_rank(), None, dist.get_world_size())
    shared = list(model.trunk.parameters())
    hydalearn = HydaLearn(model, losses_fn, shared)
    optimizer: torch.optim.Optimizer = AdaTaskAdam(model.parameters(), num_tasks=TASKS, lr=1e-3)
    if method == "HydaLearn":
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        x, y = draw_batch(step, examples, device)
        batch = x[part], y[:, part]
        optimizer.zero_grad()
        if method == "HydaLearn":
            hydalearn.backward(batch)
        else:
            task_backward(losses_fn(model, batch), shared)
        optimizer.step()
    return [p.full_tensor() if isinstance(p, DTensor) else p for p in map(Tensor.detach, model.parameters())]


def largest_difference(parameters: list[Tensor], others: list[Tensor]) -> float:
    """The largest difference of any parameter."""
    return max(float((p - q).abs().max()) for p, q in zip(parameters, others, strict=True))


def report(steps: int, examples: int, device: torch.device) -> None:
    """Train each method in all processes and in one, and print how far they are from each other."""
    first, examples = dist.get_rank() == 0, examples * dist.get_world_size()
    if first:
        print(f"{dist.get_world_size()} processes over {dist.get_backend()}, {steps} steps of {examples} examples")
    for method in ("AdaTask", "HydaLearn"):
        alone = train(method, False, steps, examples, device)
        moved = largest_difference(alone, train(method, False, 0, examples, device))
        apart = largest_difference(alone, train(method, True, steps, examples, device))
        if first:
            print(f"{method:>9}: one process on the joined batch ends {apart:.1e} apart (moved by up to {moved:.1e})")
        if not apart < TOLERANCE * moved:
            raise SystemExit(f"They should be closer than {TOLERANCE} of the way. Found {apart:.1e}.")


def main() -> None:
    """Start the process group and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "nccl" if torch.cuda.is_available() else "gloo"
    parser.add_argument("--backend", choices=["gloo", "nccl"], default=default, help="default here: %(default)s")
    parser.add_argument("--steps", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--examples", type=int, default=64, help="per process and step; default: %(default)s")
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
        dist.barrier()
    finally:
        dist.destroy_process_group()
    # All is done and printed. An interpreter that goes on to its end meets threads that torch's sharding leaves behind,
    # and one in some twenty, on a busy machine, was aborted there ("terminate called without an active exception").
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
