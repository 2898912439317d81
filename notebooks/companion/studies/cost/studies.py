"""The studies whose recorded runs are weighed against their cost, and one step of each on random data of its size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from companion.baselines import AGGREGATORS
from companion.metrics.scenes import scene_losses
from companion.networks.scenes import UNet
from companion.networks.shared_bottom import SharedBottom, task_losses
from companion.problems.interactions import build
from companion.problems.scenes import TEST_TO_TRAIN
from companion.store.published import Cell
from companion.studies.cost.steps import ONE_PASS, Workload

PAPERS = ("HydaLearn", "AdaTask-Adam")  # the two methods that all this is about
# What the notebooks compare; a method that TorchJD lacks or that does not train in a study is left out where it is.
MEASURED = tuple(name for name in AGGREGATORS if name != "PCD")  # its step is not in the committed table of times
WEIGHTS = (*ONE_PASS, "GradNorm", "cosine gate", "OL-AUX", "per-task RMS", *MEASURED, "HydaLearn")
OWN_WEIGHTS = tuple(method for method in WEIGHTS if method not in AGGREGATORS)
ACCUMULATORS = (
    "single tasks",
    "equal weights",
    "uncertainty weighting",
    "DWA",
    "GradNorm",
    "per-task RMS",
    "AdaTask-Adam",
)


@dataclass(frozen=True)
class Study:
    """One comparison of methods in a notebook's full profile.

    Attributes:
        name: What figures call it.
        kind: "main task" (one task counts, the others help), "all tasks" or "scenes" (all count).
        notebook: Whose.
        kinds: Of the published cells that are its final and tuning runs.
        configuration: What those cells' configurations hold.
        lacks: Names that they do not hold.
        metric: The loss whose logs are compared where one task counts.
        stem: The committed figure that shows the comparison.
        test_to_train: For intervals over splits that share rows; see `paired_interval`.
        num_tasks: T.
        methods: Whose step is measured.
        problem: Makes random data and a network of the study's sizes for so many tasks.
        steps: Of one training.
    """

    name: str
    kind: str
    notebook: str
    kinds: tuple[str, ...]
    configuration: Mapping[str, Any]
    metric: str
    stem: str
    num_tasks: int
    methods: tuple[str, ...]
    problem: Callable[[int], Workload]
    steps: int
    lacks: tuple[str, ...] = ()
    test_to_train: float = 0.0

    def holds(self, cell: Cell) -> bool:
        """Whether a published cell is one of its runs."""
        said = cell.configuration
        named = all(said.get(name) == value for name, value in self.configuration.items())
        return cell.kind in self.kinds and named and not set(self.lacks) & set(said)

    @property
    def single(self) -> str:
        """What single-task training is called: of the main task, or of every task in a network of its own."""
        return "single task" if self.kind == "main task" else "single tasks"


def _dense(inputs: int, hidden: list[int], batch_size: int, kinds: list[str], num_tasks: int) -> Workload:
    """A multilayer perceptron in float64 and a batch of which the first `num_tasks` targets count."""
    generator = torch.Generator().manual_seed(0)
    model = SharedBottom(inputs, hidden, num_tasks, generator=generator, dtype=torch.float64)
    x = torch.randn(batch_size, inputs, generator=generator, dtype=torch.float64)
    y = torch.stack([_target(kind, batch_size, generator) for kind in kinds[:num_tasks]])
    return Workload(model, model.shared_parameters(), task_losses(kinds[:num_tasks]), (x, y), kinds[:num_tasks])


def _target(kind: str, size: int, generator: torch.Generator) -> Tensor:
    values = torch.randn(size, generator=generator, dtype=torch.float64)
    return (values > 1).double() if kind == "classification" else values


def _interactions(num_tasks: int) -> Workload:
    """MovieLens's tables of embeddings and a random batch of rows."""
    sizes = {"user": 664, "film": 1575, "genres": 450, "decade": 11}
    model = build("shared bottom", sizes, 8, [32, 16], num_tasks, 0)
    generator = torch.Generator().manual_seed(0)
    x = torch.stack([torch.randint(rows, (512,), generator=generator) for rows in sizes.values()], dim=-1)
    y = torch.stack([_target("classification", 512, generator) for _ in range(num_tasks)])
    kinds = ["classification"] * num_tasks
    return Workload(model, model.shared_parameters(), task_losses(kinds), (x, y), kinds)


def _scenes(num_tasks: int) -> Workload:
    """The U-Net of the scene study in float32 and a random batch of tiles; alone, each task has its own network."""
    generator = torch.Generator().manual_seed(0)
    model = UNet([8, 8, 16, 16], 7, generator=generator)
    x = torch.rand(8, 3, 32, 64, generator=generator)
    y = torch.stack([torch.randint(7, (8, 32, 64), generator=generator).float(), x.mean(1)])
    both = scene_losses(torch.ones(2))
    kinds = ["classification", "regression"][:num_tasks]
    return Workload(model, model.shared_parameters(), lambda m, b: list(both(m, b))[:num_tasks], (x, y), kinds)


_SYNTHETIC = {"rows": [500, 1000, 2000], "epochs": 10}
# What a cell of an ablation or of another protocol says beside its design.
_OPTIONS = ("gain_data", "protocol", "gain", "trial_step", "trial_moves", "negative", "normalise", "scale_heads")
_SUPPORT2 = {"dataset": "mortality", "auxiliaries": ["physiology score"], "horizon_days": 30, "epochs": 8}
_REGRESSION = ["regression"] * 5
_BINARY = ["classification", "classification"]
_MIXED = ["classification", "regression"]


def _weights(design: str, dose: str, num_tasks: int, methods: tuple[str, ...]) -> Study:
    """A design of notebook 02."""
    return Study(
        design, "main task", "02_hydalearn_synthetic", ("train_grid",),
        {"design": design, "dose": dose, **_SYNTHETIC},
        "test loss", "02_benefit",
        num_tasks, methods, partial(_dense, 10, [32, 32], 40, _REGRESSION), 500, _OPTIONS,
    )  # fmt: skip


def _tabular(
    name: str, notebook: str, configuration: Mapping[str, Any], stem: str,
    methods: tuple[str, ...], sizes: tuple[int, list[str]], steps: int, lacks: tuple[str, ...] = _OPTIONS,
    test_to_train: float = 1 / 3,
) -> Study:  # fmt: skip
    """A design of notebook 03 or 04; `sizes` are the number of inputs and the tasks' kinds."""
    inputs, kinds = sizes
    return Study(
        name, "main task", notebook, ("train_grid", "tune_grid"), configuration, "test log loss", stem,
        2, methods, partial(_dense, inputs, [32, 32], 256, kinds), steps, lacks, test_to_train=test_to_train,
    )  # fmt: skip


STUDIES = (
    _weights("composition", "Beta-mixed", 2, WEIGHTS),
    _weights("related and unrelated", "fixed", 5, OWN_WEIGHTS),
    _tabular(
        "mortgages", "03_credit_default", {"dataset": "mortgages", "train_rows": 10000, "epochs": 8},
        "03_benefit", WEIGHTS, (73, _BINARY), 312, test_to_train=0.33421123353937116,
    ),
    _tabular(
        "Lending Club", "03_credit_default", {"dataset": "lending_club", "train_rows": 6000, "epochs": 8},
        "03_benefit", WEIGHTS, (153, _BINARY), 184,
    ),
    _tabular(
        "mortality", "04_mortality", _SUPPORT2, "04_benefit", WEIGHTS, (70, _MIXED), 168,
        (*_OPTIONS, "main_labels"),
    ),
    _tabular(
        "mortality, 200 labels", "04_mortality", {**_SUPPORT2, "main_labels": 200}, "04_scarce",
        ("single task", "equal weights", "static grid", "cosine gate", "HydaLearn"),
        (70, _MIXED), 168,
    ),
    Study(
        "two synthetic tasks", "all tasks", "06_adatask_synthetic", ("train_cell",),
        {"problem": "two tasks", "optimizer": "Adam", "steps": 600},
        "test loss", "06_gap",
        2, ACCUMULATORS, partial(_dense, 8, [24, 24, 24, 24], 32, _REGRESSION), 600,
    ),
    Study(
        "scenes", "scenes", "07_scenes", ("train_cell",),
        {"dataset": "earth", "second": "distance", "optimizer": "Adam", "epochs": 15},
        "Delta_m, flat", "07_benefit",
        2, ACCUMULATORS, _scenes, 225, test_to_train=TEST_TO_TRAIN["earth"],
    ),
    Study(
        "films", "all tasks", "08_recommendation", ("train_cell",),
        {"problem": "random, shared bottom", "optimizer": "Adam", "epochs": 3},
        "AUC", "08_scale",
        3, ACCUMULATORS, _interactions, 351, test_to_train=1 / 3,
    ),
)  # fmt: skip
