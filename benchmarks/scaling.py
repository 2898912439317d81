"""Time of a whole training step of every method against tasks, parameters and runs, each beside its floor.

Three sweeps, each on a dense network with everything else held: T tasks, shared parameters, and R runs trained as one
program. All methods of a point are measured in turn, so that a busy machine favours none; what to compare are the
ratios of one point. A step's floor is what nobody could do without: the bare matrix products of its passes, and a copy
of as many bytes as its optimizer and its weighting have to read and write (`companion.studies.cost.counts`).

    python -m benchmarks.scaling [--device cuda] [--commit]
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from companion.baselines import AGGREGATORS, not_run
from companion.networks.shared_bottom import SharedBottom
from companion.studies.cost.counts import cost
from companion.studies.cost.steps import FIRST_ORDER, METHODS, Workload, training_step
from companion.train.losses import squared_losses
from companion.train.stacked import StackedModel

from benchmarks._table import Row, arguments, machine, save
from benchmarks.adatask_step import milliseconds

FEW = ("equal weights", "T backward passes", "cosine gate", "PCGrad", "AdaTask-Adam", FIRST_ORDER, "HydaLearn")
OWN = (*FEW[:3], "uncertainty weighting", "GradNorm", "OL-AUX", "per-task RMS", *FEW[4:])
TASKS, TASK_WIDTHS, TASK_BATCH = (1, 2, 4, 8), [256, 512, 512], 128
WIDTHS, WIDTH_BATCH = (70, 223, 707, 2236), 64  # two square layers: 1e4, 1e5, 1e6 and 1e7 shared parameters
RUNS, RUN_WIDTHS, RUN_BATCH = (1, 4, 16, 64), [20, 64, 64], 128


def problem(widths: Sequence[int], batch_size: int, num_tasks: int, runs: int, device: str) -> Workload:
    """Returns a dense network, or R copies of it as one, and a random batch; each method gets its own."""
    model = SharedBottom(widths[0], widths[1:], num_tasks).to(device)
    x = torch.randn(batch_size, widths[0], device=device)
    y = torch.randn(num_tasks, batch_size, device=device)
    kinds = ["regression"] * num_tasks
    if runs == 1:
        return Workload(model, model.shared_parameters(), squared_losses, (x, y), kinds)
    stack = StackedModel([model] * runs)
    batch = x.expand(runs, -1, -1).contiguous(), y[:, None].expand(-1, runs, -1).contiguous()
    return Workload(stack, stack.stack.shared_parameters(), squared_losses, batch, kinds)  # type: ignore[operator]


class Floor:
    """The bare matrix products of a method's passes, and a copy of what it has to move besides."""

    def __init__(
        self, method: str, widths: Sequence[int], batch_size: int, num_tasks: int, runs: int, device: str
    ) -> None:
        self.cost = cost(method, num_tasks)
        self.layers = [
            [torch.randn(runs, *shape, device=device) for shape in ((batch_size, a), (a, b), (batch_size, b))]
            for a, b in pairwise(widths)
        ]
        size = runs * sum(a * b for a, b in pairwise(widths))
        self.source, self.target = (torch.zeros(max(1, size // 2), device=device) for _ in range(2))

    def __call__(self) -> None:
        """Do both."""
        for i, (x, w, g) in enumerate(self.layers):
            for _ in range(self.cost.forwards):
                torch.bmm(x, w)
            for _ in range(self.cost.gradients):
                torch.bmm(x.mT, g)
                if i > 0:  # the inputs need no gradient
                    torch.bmm(g, w.mT)
        for _ in range(self.cost.moved):  # a copy of half the numbers reads these and writes as many
            self.target.copy_(self.source)


def point(
    methods: Sequence[str], widths: Sequence[int], batch_size: int, num_tasks: int, runs: int, device: str, sweep: str
) -> list[Row]:
    """Measures the methods and their floors at one point of a sweep, in turn."""
    sizes = widths, batch_size, num_tasks, runs, device
    able = [m for m in methods if m not in AGGREGATORS or (num_tasks > 1 and not_run(m) is None)]
    problems = [problem(*sizes) for _ in able]
    steps = [training_step(method, each) for method, each in zip(able, problems, strict=True)]
    floors = {cost(method, num_tasks): Floor(method, *sizes) for method in able}
    times = milliseconds([*steps, *floors.values()], rounds=5, repeats=1)
    least = dict(zip(floors, times[len(able) :], strict=True))
    size = sum(p.numel() for p in problems[0].shared) // runs
    row = partial(Row, tasks=num_tasks, unit="ms", runs=runs, problem=sweep, parameters=size)
    rows = []
    for method, time in zip(able, times, strict=False):
        floor = least[cost(method, num_tasks)]
        rows.append(row(method, measure="step per run", value=time / runs))
        rows.append(row(method, measure="floor per run", value=floor / runs))
    return rows


def main() -> None:
    """Measures, prints and writes the table."""
    options = arguments(__doc__)
    torch.set_num_threads(1)  # most of these networks are too small for two
    about, device = machine(options.device), options.device
    every = tuple(m for m in METHODS if m not in ("single task", "static grid"))  # these two are plain steps as well
    rows = [row for t in TASKS for row in point(every, TASK_WIDTHS, TASK_BATCH, t, 1, device, "tasks")]
    rows += [row for w in WIDTHS for row in point(FEW, [w, w, w], WIDTH_BATCH, 2, 1, device, "parameters")]
    rows += [row for r in RUNS for row in point(OWN, RUN_WIDTHS, RUN_BATCH, 2, r, device, "runs")]
    setting = (
        f"Dense networks, float32, Adam. Tasks: {'-'.join(map(str, TASK_WIDTHS))}, batch {TASK_BATCH}; parameters: two "
        f"square layers, batch {WIDTH_BATCH}; runs: {'-'.join(map(str, RUN_WIDTHS))}, batch {RUN_BATCH}"
    )
    save("scaling", setting, rows, about, options.folder, options.device)


if __name__ == "__main__":
    main()
