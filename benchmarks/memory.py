"""Peak memory of a whole training step, per method and number of tasks, against what has to exist at once.

The ideal of a method is the most that its own definition needs at one time, in units of the trunk's parameters:

- plain Adam: parameters, gradient, two moments: 4;
- AdaTask: parameters, T gradients and their sum, T times the moments (Adam 2, Adagrad and RMSprop 1): 2 + T + 2T or
  2 + T + T;
- HydaLearn with Adam: parameters, T gradients, two moments, and first one set of trial parameters (none for first
  order), then, in their place, the weighted gradient: 4 + T;
- PCGrad, whose projections need the T gradients at once, then their sum: 4 + T.

Beyond it are heads, activations, temporaries, and the gradient that autograd hands over before it is copied to its
place among T: our own methods are held to one and a quarter units beyond. Measured is what `StorageCounter` (see
benchmarks/_memory.py) counts on the CPU, and torch's allocator on a GPU.

    python -m benchmarks.memory [--device cuda] [--commit]
"""

from collections.abc import Callable
from functools import partial

import torch
from companion.baselines import TorchJDWeighting, make_aggregator, not_run
from companion.networks.shared_bottom import SharedBottom
from torch import Tensor, nn

from benchmarks._memory import peak_bytes
from benchmarks._table import Row, arguments, machine, save
from benchmarks.training_step import Step, losses_fn, plain_step
from mtlcore import AdaTaskAdagrad, AdaTaskAdam, AdaTaskRMSprop, HydaLearn, task_backward, zero_task_grad

Weighting = HydaLearn | TorchJDWeighting

WIDTHS = [1000, 1000, 1000]  # of the trunk, 2.5 million parameters: float32, so 10 MB are one unit
BATCH = 16  # so few that activations hardly count
TASKS = (1, 2, 4, 8)
BEYOND_BAR = 1.25


def setup(device: str, num_tasks: int) -> tuple[SharedBottom, tuple[Tensor, Tensor]]:
    """Returns a model and a batch."""
    model = SharedBottom(512, WIDTHS, num_tasks).to(device)
    return model, (torch.randn(BATCH, 512, device=device), torch.randn(num_tasks, BATCH, device=device))


def plain(device: str, num_tasks: int) -> Step:
    """Returns an ordinary step of Adam."""
    model, batch = setup(device, num_tasks)
    return plain_step(model, batch, torch.optim.Adam(model.parameters(), fused=True))


def adatask(optimizer: Callable[..., torch.optim.Optimizer], device: str, num_tasks: int) -> Step:
    """Returns a step of an AdaTask optimizer."""
    model, batch = setup(device, num_tasks)
    tasks = optimizer(model.parameters(), num_tasks=num_tasks)

    def step() -> None:
        tasks.zero_grad()
        task_backward(losses_fn(model, batch), model.shared_parameters())
        tasks.step()

    return step


def weighted(make: Callable[[nn.Module, list[nn.Parameter]], Weighting], device: str, num_tasks: int) -> Step:
    """Returns a step of Adam on the gradient that a weighting makes."""
    model, batch = setup(device, num_tasks)
    shared = model.shared_parameters()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    weighting = make(model, shared)

    def step() -> None:
        optimizer.zero_grad()
        zero_task_grad(shared)
        weighting.backward(batch)
        optimizer.step()

    return step


def hydalearn(model: nn.Module, shared: list[nn.Parameter], **options: str) -> HydaLearn:
    """Returns HydaLearn with options."""
    return HydaLearn(model, losses_fn, shared, **options)  # type: ignore[arg-type]


def pcgrad(num_tasks: int, model: nn.Module, shared: list[nn.Parameter]) -> TorchJDWeighting:
    """Returns TorchJD's PCGrad."""
    return TorchJDWeighting(model, losses_fn, shared, partial(make_aggregator, "PCGrad", num_tasks))


def methods(num_tasks: int) -> list[tuple[str, int, Callable[[str, int], Step]]]:
    """Returns each method with its ideal and what makes its step."""
    t = num_tasks
    result: list[tuple[str, int, Callable[[str, int], Step]]] = [
        ("plain Adam", 4, plain),
        ("AdaTask-Adam", 2 + t + 2 * t, partial(adatask, AdaTaskAdam)),
        ("AdaTask-Adagrad", 2 + t + t, partial(adatask, AdaTaskAdagrad)),
        ("AdaTask-RMSprop", 2 + t + t, partial(adatask, AdaTaskRMSprop)),
        ("HydaLearn exact", 4 + t, partial(weighted, hydalearn)),
        ("HydaLearn first order", 4 + t, partial(weighted, partial(hydalearn, gain="first_order"))),
    ]
    missing = not_run("PCGrad")
    if missing is None:
        result.append(("PCGrad (TorchJD)", 4 + t, partial(weighted, partial(pcgrad, t))))
    elif num_tasks == TASKS[0]:
        print(f"PCGrad {missing}")
    return result


def measure(device: str) -> list[Row]:
    """Measures every method at every number of tasks."""
    unit = sum(p.numel() * p.element_size() for p in setup(device, 1)[0].shared_parameters())
    rows = []
    for num_tasks in TASKS:
        for name, ideal, make in methods(num_tasks):
            peak = peak_bytes(partial(make, device, num_tasks), device)
            rows.append(Row(name, num_tasks, "peak", peak / 1e6, "MB"))
            rows.append(Row(name, num_tasks, "peak / shared parameters", peak / unit, "units"))
            rows.append(Row(name, num_tasks, f"peak / ideal of {ideal} units", peak / (ideal * unit)))
            bar = BEYOND_BAR if name.startswith(("AdaTask", "HydaLearn")) else None
            rows.append(Row(name, num_tasks, "peak - ideal", peak / unit - ideal, "units", bar=bar))
    return rows


def main() -> None:
    """Measures, prints and writes the table."""
    options = arguments(__doc__)
    about = machine(options.device)
    setting = f"Trunk {'-'.join(map(str, [512, *WIDTHS]))}, batch {BATCH}, float32, torch's Adam except for AdaTask"
    save("memory", setting, measure(options.device), about, options.folder, options.device)


if __name__ == "__main__":
    main()
