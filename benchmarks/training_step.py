"""Time of a whole training step, as multiples of a plain one, and of many small runs trained as one program.

With a trunk that dominates, a plain step is one forward and one backward pass, together 3 units of work. AdaTask needs
T backward passes, 1 + 2T units; HydaLearn with first-order gains the same, with exact gains T look-aheads more, 1 + 3T.
So (1 + 2T) / 3 and (1 + 3T) / 3 are the ratios to compare with. For many small runs the floor is what the matrix
products of the same shapes take, with nothing around them.

    python -m benchmarks.training_step [--device cuda]
"""

import argparse
import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.adatask_step import milliseconds
from mtlcore import AdaTaskAdam, HydaLearn, task_backward, zero_task_grad
from mtlcore.models import SharedBottom
from mtlcore.stacked import StackedModel

Batch = tuple[Tensor, Tensor]  # inputs [B, F] or [R, B, F]; targets [T, B] or [T, R, B]
Step = Callable[[], object]


def losses_fn(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Returns the mean squared error of each task, [] or [R]."""
    x, y = batch
    return [(output - target).square().mean(-1) for output, target in zip(model(x), y, strict=True)]


def plain_step(model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer) -> Step:
    """Returns an ordinary joint step on the sum of the losses."""

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(losses_fn(model, batch)).sum())
        optimizer.step()

    return step


def hydalearn_step(model: nn.Module, shared: list[nn.Parameter], batch: Batch, gain: str = "exact") -> Step:
    """Returns a HydaLearn step with SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    hydalearn = HydaLearn(model, losses_fn, shared, gain=gain)

    def step() -> None:
        optimizer.zero_grad()
        zero_task_grad(shared)
        hydalearn.backward(batch)
        optimizer.step()

    return step


def adatask_step(model: nn.Module, shared: list[nn.Parameter], batch: Batch, num_tasks: int) -> Step:
    """Returns an AdaTask-Adam step."""
    optimizer = AdaTaskAdam(model.parameters(), num_tasks=num_tasks, lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        task_backward(losses_fn(model, batch), shared)
        optimizer.step()

    return step


def deep_copy_step(model: SharedBottom, batch: Batch, num_tasks: int) -> Step:
    """Returns HydaLearn as one writes it first: a copy of the model and a backward pass on it per task."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        base = losses_fn(model, batch)[0].detach()
        gains = []
        for t in range(num_tasks):
            trial = copy.deepcopy(model)
            torch.autograd.backward(losses_fn(trial, batch)[t])
            torch.optim.SGD(trial.shared_parameters(), lr=1e-3).step()
            gains.append(base - losses_fn(trial, batch)[0].detach())
        weights = torch.stack(gains).clamp(min=0)
        optimizer.zero_grad()
        torch.autograd.backward((weights / weights.sum() * torch.stack(losses_fn(model, batch))).sum())
        optimizer.step()

    return step


def matrix_products(model: SharedBottom, batch_size: int, runs: int, num_tasks: int, device: str) -> Step:
    """Returns the products of a HydaLearn step on the trunk, bare: forward, T backward passes, T look-aheads."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.out_features > 1]
    triples = [
        (
            torch.randn(runs, batch_size, layer.in_features, device=device),
            torch.randn(runs, layer.in_features, layer.out_features, device=device),
            torch.randn(runs, batch_size, layer.out_features, device=device),
        )
        for layer in layers
    ]

    def step() -> None:
        for i, (x, w, g) in enumerate(triples):
            for _ in range(1 + num_tasks):
                torch.bmm(x, w)
            for _ in range(num_tasks):
                torch.bmm(x.transpose(1, 2), g)
                if i > 0:  # the inputs need no gradient
                    torch.bmm(g, w.transpose(1, 2))

    return step


def large(device: str) -> None:
    """Prints the ratios for one network of 5 million parameters."""
    print("One network, trunk 512-1500-1500-1500, batch 256; ratio to a plain step, and to what it could be")
    print(" T     plain   AdaTask (1+2T)/3   HydaLearn exact (1+3T)/3   first order (1+2T)/3")
    for num_tasks in (2, 4):
        model = SharedBottom(512, [1500, 1500, 1500], num_tasks).to(device)
        shared = list(model.shared_parameters())
        batch = torch.randn(256, 512, device=device), torch.randn(num_tasks, 256, device=device)
        fused = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        steps = [
            plain_step(model, batch, fused),
            adatask_step(model, shared, batch, num_tasks),
            plain_step(model, batch, torch.optim.SGD(model.parameters(), lr=1e-3)),
            hydalearn_step(model, shared, batch),
            hydalearn_step(model, shared, batch, "first_order"),
        ]
        adam, adatask, sgd, exact, first = milliseconds(steps, repeats=1)
        two, three = (1 + 2 * num_tasks) / 3, (1 + 3 * num_tasks) / 3
        print(
            f"{num_tasks:>2} {sgd:>6.0f} ms {adatask / adam:>9.2f} {adatask / adam / two:>8.2f} "
            f"{exact / sgd:>17.2f} {exact / sgd / three:>8.2f} {first / sgd:>13.2f} {first / sgd / two:>8.2f}"
        )


def small(device: str) -> None:
    """Prints the time of one small run among R, against a plain step and a deep-copy HydaLearn of one run."""
    print("Many runs, MLP 20-64-64, batch 128, T = 2, SGD: milliseconds per run and step")
    torch.manual_seed(0)
    model = SharedBottom(20, [64, 64], 2).to(device)
    batch = torch.randn(128, 20, device=device), torch.randn(2, 128, device=device)
    single = [
        plain_step(model, batch, torch.optim.SGD(model.parameters(), lr=1e-3)),
        hydalearn_step(model, list(model.shared_parameters()), batch),
        deep_copy_step(copy.deepcopy(model), batch, 2),
    ]
    plain, alone, copies = milliseconds(single)
    print(f"  plain step alone {plain:.2f}, HydaLearn alone {alone:.2f}, with deep copies {copies:.2f}")
    print("   R   HydaLearn   / plain   deep copies /   / bare products")
    for runs in (1, 4, 16, 64, 256):
        stacked = StackedModel([model] * runs)
        shared = list(stacked.stack.shared_parameters())  # type: ignore[operator]
        many = batch[0].expand(runs, -1, -1).contiguous(), batch[1][:, None].expand(-1, runs, -1).contiguous()
        bare_step = matrix_products(model, 128, runs, 2, device)
        total, bare = milliseconds([hydalearn_step(stacked, shared, many), bare_step])
        each = total / runs
        print(f"{runs:>4} {each:>11.3f} {each / plain:>9.2f} {copies / each:>15.1f} {total / bare:>17.1f}")


def main() -> None:
    """Measures and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="a device of torch; default cpu")
    device = parser.parse_args().device
    print(f"float32, {device}, {torch.get_num_threads()} threads")
    large(device)
    small(device)


if __name__ == "__main__":
    main()
