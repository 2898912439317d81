"""Time of a training step on embedding tables of thousands to millions of rows, against joint training.

A batch looks up 4,096 different rows of each of four tables; a step should cost what these cost, however many rows the
tables have. Joint training is torch's SparseAdam on the sum of the losses (and Adam for the layers). AdaTask has T
accumulators and T backward passes, so T times a joint step, and T times SparseAdam's own step, are what it could cost.
What a larger table costs all the same is memory: more of its rows lie on pages that no cache holds. That hits joint
training too, whose growth is shown beside.

All tables and their moments take 12 GB of memory; sizes that would not fit are left out.

    python -m benchmarks.sparse_step [--device cuda] [--commit]
"""

import itertools
import os
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._table import Row, arguments, machine, save
from benchmarks.adatask_step import milliseconds
from benchmarks.training_step import Step
from mtlcore import AdaTaskAdam, AdaTaskSparseAdam, task_backward

TASKS, TABLES, WIDTH, BATCH, BATCHES = 3, 4, 16, 4096, 8
SIZES = (65_536, 1_048_576, 4_194_304)  # rows of each table
LAYERS = (256, 128)
OPTIMIZER_BAR, STEP_BAR, GROWTH_BAR = 1.25, 1.0, 1.2

Batch = tuple[Tensor, Tensor]  # ids [tables, B]; targets [T, B]


class Recommender(nn.Module):
    """Embedding tables, shared layers, and a head per task."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, WIDTH, sparse=True) for _ in range(TABLES))
        first, second = LAYERS
        self.layers = nn.Sequential(nn.Linear(TABLES * WIDTH, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(second, 1) for _ in range(TASKS))

    def losses(self, batch: Batch) -> list[Tensor]:
        """Returns the logistic loss of each task."""
        ids, y = batch
        z = self.layers(torch.cat([table(i) for table, i in zip(self.tables, ids, strict=True)], 1))
        loss = nn.functional.binary_cross_entropy_with_logits
        return [loss(head(z)[:, 0], target) for head, target in zip(self.heads, y, strict=True)]


class Trainings:
    """Both methods on one model; each has state of its own."""

    def __init__(self, rows: int, device: str) -> None:
        torch.manual_seed(0)
        self.model = Recommender(rows).to(device)
        self.tables: list[Any] = list(self.model.tables.parameters())
        self.layers = list(self.model.layers.parameters())
        others = [*self.layers, *self.model.heads.parameters()]
        self.sparse: Any = torch.optim.SparseAdam(self.tables)
        self.adam = torch.optim.Adam(others, fused=True)
        self.adatask_sparse = AdaTaskSparseAdam(self.tables, num_tasks=TASKS)
        self.adatask = AdaTaskAdam(others, num_tasks=TASKS)
        batches = [self._batch(rows, device) for _ in range(BATCHES)]
        self.batches = itertools.cycle(batches)
        self.gradients = itertools.cycle([self._gradients(batch) for batch in batches])

    def _batch(self, rows: int, device: str) -> Batch:
        ids = torch.stack([torch.randperm(rows)[:BATCH] for _ in range(TABLES)])
        return ids.to(device), torch.randint(2, (TASKS, BATCH), device=device).float()

    def _gradients(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Returns p.grad of each table as joint training leaves it, and p.task_grad."""
        self.model.zero_grad()
        torch.autograd.backward(self.model.losses(batch))
        joint = [p.grad for p in self.tables]
        self.model.zero_grad()
        task_backward(self.model.losses(batch), [*self.tables, *self.layers])
        per_task = [p.task_grad for p in self.tables]
        self.adatask_sparse.zero_grad()
        self.adatask.zero_grad()
        return joint, per_task

    def joint_step(self) -> None:
        """Takes a step on the sum of the losses."""
        self.model.zero_grad()
        torch.autograd.backward(self.model.losses(next(self.batches)))
        self.sparse.step()
        self.adam.step()

    def adatask_step(self) -> None:
        """Takes a step of AdaTask."""
        self.adatask_sparse.zero_grad()
        self.adatask.zero_grad()
        task_backward(self.model.losses(next(self.batches)), [*self.tables, *self.layers])
        self.adatask_sparse.step()
        self.adatask.step()

    def joint_part(self) -> None:
        """Lets SparseAdam alone take a step."""
        for p, grad in zip(self.tables, next(self.gradients)[0], strict=True):
            p.grad = grad
        self.sparse.step()

    def adatask_part(self) -> None:
        """Lets AdaTaskSparseAdam alone take a step."""
        self.adatask_sparse.zero_grad()
        for p, task_grad in zip(self.tables, next(self.gradients)[1], strict=True):
            p.task_grad = task_grad
        self.adatask_sparse.step()


def memory() -> float:
    """Returns the machine's memory in bytes, infinity where it does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else float("inf")


def sizes(device: str) -> list[int]:
    """Returns the numbers of rows whose tables fit into memory together, with both methods' moments."""
    fitting, taken = [], 0.0
    for rows in SIZES:
        taken += 4 * TABLES * WIDTH * rows * (1 + 2 + 2 * TASKS)
        if device == "cpu" and taken > 0.8 * memory():
            print(f"Not run: {rows:,} rows, for all sizes together would take {taken / 1e9:.0f} GB.")
        else:
            fitting.append(rows)
    return fitting


def measure(device: str) -> list[Row]:
    """Measures all sizes in turn, so that their ratios are of one moment."""
    trainings = {rows: Trainings(rows, device) for rows in sizes(device)}
    steps: list[Step] = [step for x in trainings.values() for step in (x.joint_step, x.adatask_step)]
    parts: list[Step] = [step for x in trainings.values() for step in (x.joint_part, x.adatask_part)]
    whole, alone = milliseconds(steps, rounds=20, repeats=2), milliseconds(parts, rounds=20, repeats=2)
    rows = []
    for i, size in enumerate(trainings):
        joint, adatask, sparse_adam, adatask_sparse_adam = *whole[2 * i : 2 * i + 2], *alone[2 * i : 2 * i + 2]
        bar = GROWTH_BAR if size == SIZES[-1] else None
        per_size = f"training step / that of {SIZES[0]:,} rows"
        for method, measure, value, unit, held in (
            ("joint training", "training step", joint, "ms", None),
            ("joint training", per_size, joint / whole[0], "ratio", None),
            ("joint training", "SparseAdam's part", sparse_adam, "ms", None),
            ("AdaTask-SparseAdam", "training step", adatask, "ms", None),
            ("AdaTask-SparseAdam", per_size, adatask / whole[1], "ratio", bar),
            ("AdaTask-SparseAdam", "step / (T joint steps)", adatask / (TASKS * joint), "ratio", STEP_BAR),
            ("AdaTask-SparseAdam", "its part", adatask_sparse_adam, "ms", None),
            ("AdaTask-SparseAdam", "its part / (T of SparseAdam's)",
             adatask_sparse_adam / (TASKS * sparse_adam), "ratio", OPTIMIZER_BAR),
        ):  # fmt: skip
            rows.append(Row(method, TASKS, measure, value, unit, bar=held, problem=f"{size:,} rows"))
    return rows


def main() -> None:
    """Measures, prints and writes the table."""
    options = arguments(__doc__)
    about = machine(options.device)
    widths = "-".join(map(str, (TABLES * WIDTH, *LAYERS)))
    setting = f"{TABLES} tables, {WIDTH} numbers a row, batch {BATCH:,}, layers {widths}, float32"
    save("sparse_step", setting, measure(options.device), about, options.folder, options.device)


if __name__ == "__main__":
    main()
