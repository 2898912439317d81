"""Time and memory of one training step of every method at the sizes of the notebooks' studies, one run at a time.

The networks and batch sizes are the studies', the data random. All methods of a study are measured in turn. Where all
tasks count, training them alone takes a network and a step for each. Memory is the peak of whatever tensors a step and
its model need, counted (see benchmarks/_memory.py): at these sizes, much of it is the batch's activations.

    python -m benchmarks.study_step [--commit]
"""

from functools import partial

import torch
from companion.baselines import AGGREGATORS, not_run
from companion.studies.cost.steps import Step, training_step
from companion.studies.cost.studies import STUDIES, Study

from benchmarks._memory import peak_bytes
from benchmarks._table import Row, arguments, machine, save
from benchmarks.adatask_step import milliseconds


def make(study: Study, method: str) -> Step:
    """Returns the step; of single tasks, that of one network with one task."""
    alone = method == "single tasks"
    return training_step("equal weights" if alone else method, study.problem(1 if alone else study.num_tasks))


def measure(study: Study) -> list[Row]:
    """Measures a study's methods."""
    able = [method for method in study.methods if method not in AGGREGATORS or not_run(method) is None]
    steps = [make(study, method) for method in able]
    size = sum(p.numel() for p in steps[0].problem.shared)
    row = partial(Row, tasks=study.num_tasks, problem=study.name, parameters=size)
    rows = []
    for method, time in zip(able, milliseconds([*steps], rounds=15), strict=True):
        networks = study.num_tasks if method == "single tasks" else 1
        peak = networks * peak_bytes(partial(make, study, method), "cpu")
        rows.append(row(method, measure="step", value=networks * time, unit="ms"))
        rows.append(row(method, measure="peak", value=peak / 1e6, unit="MB"))
    return rows


def main() -> None:
    """Measures, prints and writes the table."""
    options = arguments(__doc__)
    torch.set_num_threads(1)  # most of these networks are too small for two
    about = machine("cpu")
    rows = [row for study in STUDIES for row in measure(study)]
    save("study_step", "Sizes of the studies' full profiles, one run", rows, about, options.folder)


if __name__ == "__main__":
    main()
