"""The problems of the other studies, model and folds, in one form: every method here can be trained on each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from companion.data.interactions import Encoded
from companion.networks.shared_bottom import SharedBottom, binary_losses
from companion.studies.adatask_synthetic import problem as scale_gap
from companion.studies.adatask_synthetic.problem import loss_weights
from companion.studies.hydalearn_synthetic import study as weights
from companion.studies.recommendation import problem as interactions
from companion.studies.tabular import study as tabular
from companion.train.devices import resolve_device
from companion.train.stacked import LossesFn, RunData, StackedModel
from companion.train.weightings import ScaledLosses, auxiliary_scales, squared_losses

Configuration = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """Model and data of R runs.

    Attributes:
        model: The stack; run r starts from the weights of its seed.
        shared: Its stacked parameters that tasks share.
        seeds: Seed of each run, R of them.
        losses_fn: The unscaled losses, the main task's first.
        binary: Whether the tasks are classifications, so that there is an AUC.
        train: Training fold.
        validation: Validation fold.
        test: Test fold.
        batch_size: Rows of the training fold per step.
        decay: Whether the learning rate falls linearly to 0.
    """

    model: StackedModel
    shared: list[Tensor]
    seeds: list[int]
    losses_fn: LossesFn
    binary: bool
    train: RunData
    validation: RunData
    test: RunData
    batch_size: int
    decay: bool

    @property
    def num_tasks(self) -> int:
        """Number of tasks T."""
        return self.test.targets.shape[1]

    def per_run(self, values: Sequence[float]) -> Tensor:
        """One number per run on the device, `[R]` in float64."""
        return torch.tensor(values, dtype=torch.float64, device=self.test.source.device)

    def loss_scales(self, scales: Sequence[float], gap: float) -> Tensor:
        """Factors of the losses `[T, R]`: `scales` (one per run) of the auxiliary ones, times weights from 1 to gap."""
        gaps = loss_weights(self.num_tasks, gap).to(self.test.source.device)  # [T]
        return auxiliary_scales(self.per_run(scales), self.num_tasks) * gaps[:, None]

    def scaled_losses(self, scales: Tensor) -> ScaledLosses:
        """The losses times `scales [T, R]`."""
        return ScaledLosses(self.losses_fn, scales)


def prepare(c: Configuration, seeds: Sequence[int]) -> Problem:
    """Prepare the problem that `c["study"]` names for runs with these seeds, which may repeat.

    Args:
        c: `study`, one of `STUDIES`, and what its builder reads: "weights" and "tabular" what the `Setup.of` of those
            studies does (notebooks 02 and 03), "scale gap" and "recommendation" what their `train_cell` does
            (notebooks 06 and 08), as far as it says how data and networks are made.
        seeds: One per run, each of them among `c["seeds"]`.
    """
    return STUDIES[c["study"]](c, list(seeds))


def _weights(c: Configuration, seeds: list[int]) -> Problem:
    setup = weights.Setup.of(c, seeds)
    folds = setup.train, setup.validation, setup.test
    return Problem(setup.model, list(setup.shared), seeds, squared_losses, False, *folds, batch_size=1, decay=False)


def _tabular(c: Configuration, seeds: list[int]) -> Problem:
    setup = tabular.Setup.of(c, seeds)
    folds = setup.train, setup.validation, setup.test
    return Problem(setup.model, list(setup.shared), seeds, setup.losses_fn, True, *folds, setup.batch_size, decay=False)


def _scale_gap(c: Configuration, seeds: list[int]) -> Problem:
    device, names = resolve_device(c["device"]), list(c["seeds"])
    source = torch.tensor([names.index(seed) for seed in seeds], device=device)
    family = scale_gap.Problem(c["noise"], c["own_part"])
    folds = scale_gap.folds(family, names, source, c["steps"] * c["batch_size"], c["held_out"])

    def network(seed: int) -> SharedBottom:
        generator = torch.Generator().manual_seed(seed)
        shape = (scale_gap.NUM_INPUTS, c["hidden"], len(c["noise"]))
        return SharedBottom(*shape, generator=generator, dtype=torch.float64)

    model = StackedModel([network(seed) for seed in seeds]).to(device)
    return Problem(model, _shared(model), seeds, squared_losses, False, *folds, c["batch_size"], decay=True)


def _recommendation(c: Configuration, seeds: list[int]) -> Problem:
    device, names = resolve_device(c["device"]), tuple(c["seeds"])
    source = torch.tensor([names.index(seed) for seed in seeds], device=device)
    sizes, encoded = interactions.folds(c["dataset"], c["users"], c["split"], names, c["rare"])

    def on_device(fold: Encoded) -> RunData:
        inputs, targets = (torch.from_numpy(array).to(device) for array in (fold.ids, fold.targets))
        return RunData(inputs, targets, source)

    train, validation, test = (on_device(fold) for fold in encoded)
    num_tasks = train.targets.shape[1]
    shape = (c["network"], sizes, c["width"], c["hidden"], num_tasks)
    model = StackedModel([interactions.build(*shape, seed) for seed in seeds]).to(device)
    folds = train, validation, test
    return Problem(model, _shared(model), seeds, binary_losses, True, *folds, c["batch_size"], decay=True)


def _shared(model: StackedModel) -> list[Tensor]:
    return list(model.stack.shared_parameters())  # type: ignore[operator]


STUDIES: dict[str, Callable[[Configuration, list[int]], Problem]] = {
    "weights": _weights,
    "tabular": _tabular,
    "scale gap": _scale_gap,
    "recommendation": _recommendation,
}


# Rows of the test fold per row of the training fold where seeds are splits of one data set, 60 : 20 : 20; else 0. Those
# of tables are facts of their folds (`tabular.facts`).
TEST_TO_TRAIN = {"recommendation": 1 / 3, "weights": 0.0, "scale gap": 0.0}
