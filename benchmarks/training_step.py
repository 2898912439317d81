"""Time of a whole training step, as multiples of a plain one, and of many small runs trained as one program.

With a trunk that dominates, a plain step is one forward and one backward pass, together 3 units of work. AdaTask needs
T backward passes, 1 + 2T units; HydaLearn with first-order gains the same, with exact gains T look-aheads more, 1 + 3T.
So (1 + 2T) / 3 and (1 + 3T) / 3 are the ratios to compare with. "Memory kept" is `zero_task_grad(keep_memory=True)`.
On small networks what Python and torch do around the arithmetic counts; there everything is held against plain fused
Adam, HydaLearn with Adam too. For many small runs the floor is what the matrix products of the same shapes take, with
nothing around them.

    python -m benchmarks.training_step [--device cuda] [--commit]
"""

import copy
from collections.abc import Callable, Iterable
from functools import partial

import torch
from companion.networks.shared_bottom import SharedBottom
from companion.train.stacked import StackedModel
from torch import Tensor, nn

from benchmarks._table import Row, arguments, machine, save
from benchmarks.adatask_step import milliseconds
from mtlcore import AdaTaskAdam, HydaLearn, task_backward, zero_task_grad

Batch = tuple[Tensor, Tensor]  # inputs [B, F] or [R, B, F]; targets [T, B] or [T, R, B]
Step = Callable[[], object]
Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

WIDTHS = [1500, 1500, 1500]  # of the large trunk, 5.3 million parameters
BAR = 1.25  # times the number of passes
SGD, ADAM = partial(torch.optim.SGD, lr=1e-3), partial(torch.optim.Adam, lr=1e-3, fused=True)
NETWORKS = ((64, 128, 2, 1), (512, 256, 2, 2), (512, 256, 4, 2))  # four layers of so many units, batch, tasks, threads
PLAIN_BAR, COPIES_BAR, PRODUCTS_BAR, BAR_RUNS = 0.6, 6.0, 4.0, 64


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


def hydalearn_step(
    model: nn.Module, shared: list[nn.Parameter], batch: Batch, gain: str = "exact", keep_memory: bool = False,
    make: Make = SGD,
) -> Step:  # fmt: skip
    """Returns a HydaLearn step, by default with SGD."""
    optimizer = make(model.parameters())
    hydalearn = HydaLearn(model, losses_fn, shared, gain=gain)

    def step() -> None:
        optimizer.zero_grad()
        if keep_memory:
            zero_task_grad(shared, keep_memory)
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


def large(device: str) -> list[Row]:
    """Measures one network of 5 million parameters."""
    rows = []
    for num_tasks in (2, 4):
        model = SharedBottom(512, WIDTHS, num_tasks).to(device)
        batch = torch.randn(256, 512, device=device), torch.randn(num_tasks, 256, device=device)
        models = [copy.deepcopy(model) for _ in range(6)]  # one each, for gradients stay on the parameters
        two, three = (1 + 2 * num_tasks) / 3, (1 + 3 * num_tasks) / 3
        steps = [
            plain_step(model, batch, torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)),
            plain_step(models[0], batch, torch.optim.SGD(models[0].parameters(), lr=1e-3)),
            adatask_step(models[1], models[1].shared_parameters(), batch, num_tasks),
        ]
        methods = [("AdaTask-Adam", two)]
        for copied, gain, kept in zip(
            models[2:], ("exact", "first_order") * 2, (False, False, True, True), strict=True
        ):
            steps.append(hydalearn_step(copied, copied.shared_parameters(), batch, gain, kept))
            name = f"HydaLearn {gain.replace('_', ' ')}{', memory kept' * kept}"
            methods.append((name, three if gain == "exact" else two))
        adam, sgd, *times = milliseconds(steps, rounds=9, repeats=1)
        rows += [Row("plain, Adam", num_tasks, "step", adam, "ms"), Row("plain, SGD", num_tasks, "step", sgd, "ms")]
        for (name, passes), time in zip(methods, times, strict=True):
            relative = time / (adam if name == "AdaTask-Adam" else sgd)
            of = "(1+2T)/3" if passes == two else "(1+3T)/3"
            rows.append(Row(name, num_tasks, "step / plain step", relative))
            rows.append(Row(name, num_tasks, f"step / ({of} plain steps)", relative / passes, bar=BAR))
    return rows


def networks(device: str) -> list[Row]:
    """Measures networks of four layers, of which the smallest is mostly overhead, against plain fused Adam."""
    rows = []
    before = torch.get_num_threads()
    for width, batch_size, num_tasks, threads in NETWORKS:
        torch.set_num_threads(threads)
        models = [SharedBottom(20, [width] * 4, num_tasks).to(device) for _ in range(4)]
        shared = [list(model.shared_parameters()) for model in models]
        batch = torch.randn(batch_size, 20, device=device), torch.randn(num_tasks, batch_size, device=device)
        steps = [
            plain_step(models[0], batch, ADAM(models[0].parameters())),
            adatask_step(models[1], shared[1], batch, num_tasks),
            hydalearn_step(models[2], shared[2], batch, "exact", make=ADAM),
            hydalearn_step(models[3], shared[3], batch, "first_order", make=ADAM),
        ]
        adam, *times = milliseconds(steps, rounds=30, repeats=10)
        row = partial(Row, tasks=num_tasks, problem=f"4 x {width}, batch {batch_size}, threads {threads}")
        rows.append(row("plain, Adam", measure="step", value=adam, unit="ms"))
        for name, factor, time in zip(
            ("AdaTask-Adam", "HydaLearn exact", "HydaLearn first order"), (2, 3, 2), times, strict=True
        ):
            passes = (1 + factor * num_tasks) / 3
            rows.append(row(name, measure="step / plain step", value=time / adam))
            rows.append(row(name, measure=f"step / ((1+{factor}T)/3 plain steps)", value=time / adam / passes))
    torch.set_num_threads(before)
    return rows


def small(device: str) -> list[Row]:
    """Measures one small run among R, against a plain step and a deep-copy HydaLearn of one run."""
    torch.manual_seed(0)
    model = SharedBottom(20, [64, 64], 2).to(device)
    batch = torch.randn(128, 20, device=device), torch.randn(2, 128, device=device)
    single = [
        plain_step(model, batch, torch.optim.SGD(model.parameters(), lr=1e-3)),
        hydalearn_step(model, list(model.shared_parameters()), batch),
        deep_copy_step(copy.deepcopy(model), batch, 2),
    ]
    times = plain, _, copies = milliseconds(single)
    names = ("plain, SGD", "HydaLearn exact", "HydaLearn with deep copies")
    rows = [Row(name, 2, "step of a small run", time, "ms") for name, time in zip(names, times, strict=True)]
    for runs in (1, 4, 16, 64, 256):
        stacked = StackedModel([model] * runs)
        shared = list(stacked.stack.shared_parameters())  # type: ignore[operator]
        many = batch[0].expand(runs, -1, -1).contiguous(), batch[1][:, None].expand(-1, runs, -1).contiguous()
        bare_step = matrix_products(model, 128, runs, 2, device)
        total, bare = milliseconds([hydalearn_step(stacked, shared, many), bare_step])
        each = total / runs
        rows.append(Row("HydaLearn exact", 2, "step per run", each, "ms", runs))
        for measure, value, bar, bound in (
            ("step per run / plain step alone", each / plain, PLAIN_BAR, "at most"),
            ("deep-copy step / step per run", copies / each, COPIES_BAR, "at least"),
            ("step / bare matrix products", total / bare, PRODUCTS_BAR, "at most"),
        ):
            held = bar if runs == BAR_RUNS else None
            rows.append(Row("HydaLearn exact", 2, measure, value, runs=runs, bar=held, bound=bound))
    return rows


def main() -> None:
    """Measures, prints and writes both tables."""
    options = arguments(__doc__)
    about = machine(options.device)
    setting = (
        "Trunk 512-1500-1500-1500, batch 256; four layers of 64 or 512 units behind 20 inputs; "
        "small runs: MLP 20-64-64, batch 128; float32"
    )
    rows = [row for measure in (large, networks, small) for row in measure(options.device)]
    save("training_step", setting, rows, about, options.folder, options.device)


if __name__ == "__main__":
    main()
