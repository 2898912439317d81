"""Training on the synthetic problems: every method, every setting and every seed of it as one batched program.

A configuration says everything that decides a table: names -> numbers, text or lists of them, as `results` wants it.
All functions here read from it what `Setup.of` and `train_grid` list.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from companion.baselines import make_baseline, trained_parameters
from companion.networks.shared_bottom import SharedBottom
from companion.studies.hydalearn_synthetic import synthetic_tasks
from companion.studies.hydalearn_synthetic.composed_batches import ListedBatches, list_batches, minor_counts
from companion.train.devices import resolve_device
from companion.train.runs import History, StaticWeights, Weighting, train_runs
from companion.train.stacked import Batch, LossesFn, RunData, StackedModel, evaluate
from companion.train.weightings import GainElsewhere, ScaledLosses, auxiliary_scales, squared_losses
from mtlcore.hydalearn import HydaLearn

Configuration = Mapping[str, Any]
MINOR = 0.25  # share of the smaller hidden cluster
# Design -> how a problem is made from its seed. Scales of the auxiliaries' targets: every second one is three times
# larger, since a method that follows gradients follows the larger ones.
DESIGNS: dict[str, Callable[[int, Sequence[int], float], synthetic_tasks.Problem]] = {
    "composition": partial(synthetic_tasks.composition, minor=MINOR),
    "drift": synthetic_tasks.drift,
    "related and unrelated": partial(synthetic_tasks.related, scales=(1.0, 3.0, 1.0, 3.0), num_related=2),
    "one relevant": partial(synthetic_tasks.related, scales=(1.0, 1.0, 1.0, 1.0), num_related=1),
}
# Constant weights of every auxiliary task, the main task's being 1; "static grid" tunes the scale of their losses.
STATIC = {"single task": 0.0, "equal weights": 1.0, "static grid": 1.0}
OPTIONS = ("gain", "trial_step", "trial_moves", "negative", "normalise", "scale_heads")  # HydaLearn's, as named there
WITHHELD = 0.2  # share of the training rows that pays for a gain measured on held-out data


@dataclass(frozen=True)
class Setup:
    """Model and data of R runs.

    Attributes:
        model: The stack; run r starts from the weights of its seed.
        seeds: Seed of each run, R of them.
        train: Training fold, read in listed batches.
        validation: Fold with noisy main targets.
        test: Fold with the main task's function itself.
        clusters: True for training rows of the minor hidden cluster, `[S, N]` for the S different seeds in order.
        withheld: Training rows that no batch contains, `[W]`; none unless the gain is measured on them.
    """

    model: StackedModel
    seeds: list[int]
    train: ListedBatches
    validation: RunData
    test: RunData
    clusters: NDArray[np.bool_]
    withheld: Tensor

    @classmethod
    def of(cls, configuration: Configuration, seeds: Sequence[int]) -> "Setup":
        """Build the setup of a configuration for runs with these seeds, which may repeat.

        Args:
            configuration: `design`, `dose`, `rows` (of the three folds), `noise`, `hidden`, `num_batches`,
                `batch_size`, `device`. With `jump_epoch` the training fold keeps the target that the jump leads to.
            seeds: One per run; equal seeds share problem, batches and initial weights.
        """
        device = resolve_device(configuration["device"])
        names = sorted(set(seeds))
        problems = [DESIGNS[configuration["design"]](s, configuration["rows"], configuration["noise"]) for s in names]
        source = torch.tensor([names.index(seed) for seed in seeds], device=device)
        folds = {
            fold: RunData(
                torch.from_numpy(np.stack([p.inputs[fold] for p in problems])).to(device),
                torch.from_numpy(np.stack([p.targets[fold] for p in problems])).to(device),
                source,
            )
            for fold in ("train", "validation", "test")
        }
        tasks = 2 if configuration["design"] == "drift" else folds["train"].targets.shape[1]  # heads
        for fold, data in folds.items():
            if fold != "train" or "jump_epoch" not in configuration:
                folds[fold] = replace(data, targets=data.targets[:, :tasks])
        num_rows = configuration["rows"][0]
        used = round(num_rows * (1 - WITHHELD)) if configuration.get("gain_data") == "held out" else num_rows
        size = configuration["batch_size"]
        counts = np.zeros(configuration["num_batches"], dtype=np.int64)
        if problems[0].clusters.any():
            counts = minor_counts(configuration["dose"], MINOR, size, configuration["num_batches"])
        batches = np.stack(
            [
                list_batches(p.clusters[:used], counts, size, np.random.default_rng([seed, 4]))
                for p, seed in zip(problems, names, strict=True)
            ]
        )
        models = [_model(configuration["hidden"], tasks, seed) for seed in seeds]
        train = ListedBatches.of(folds["train"], batches)
        withheld = torch.arange(used, num_rows, device=device)
        model = StackedModel(models).to(device)
        clusters = np.stack([p.clusters for p in problems])
        return cls(model, list(seeds), train, folds["validation"], folds["test"], clusters, withheld)

    @property
    def shared(self) -> list[nn.Parameter]:
        """The stacked parameters that all tasks share."""
        assert isinstance(self.model.stack, SharedBottom)
        return self.model.stack.shared_parameters()

    def scaled_losses(self, scales: Sequence[float]) -> ScaledLosses:
        """Squared errors, those of the auxiliary tasks times `scales`, one per run."""
        return ScaledLosses(squared_losses, auxiliary_scales(self.per_run(scales), self.num_tasks))

    @property
    def num_tasks(self) -> int:
        """Number of heads T."""
        return len(self.model.stack.get_submodule("heads")._modules)

    def per_run(self, values: Sequence[float]) -> Tensor:
        """One number per run on the device, `[R]` in float64."""
        return torch.tensor(values, dtype=torch.float64, device=self.train.source.device)


def _model(hidden: Sequence[int], num_tasks: int, seed: int) -> SharedBottom:
    generator = torch.Generator().manual_seed(seed)
    return SharedBottom(synthetic_tasks.NUM_INPUTS, hidden, num_tasks, generator=generator, dtype=torch.float64)


def make_weighting(setup: Setup, losses_fn: LossesFn, configuration: Configuration) -> Weighting:
    """Build the weighting that `configuration["method"]` names: static, HydaLearn with its options, or a baseline."""
    method, model = configuration["method"], setup.model
    num_tasks, num_runs = setup.num_tasks, model.num_runs
    if method in STATIC:
        weights = setup.per_run([STATIC[method]]).repeat(num_tasks, num_runs)
        weights[0] = 1
        return StaticWeights(model, losses_fn, weights)
    if method == "HydaLearn":
        options = {name: configuration[name] for name in OPTIONS if name in configuration}
        hydalearn = HydaLearn(model, losses_fn, setup.shared, **options)
        draw = _gain_batches(setup, configuration.get("gain_data", "same"))
        return hydalearn if draw is None else GainElsewhere(hydalearn, draw)
    kinds = ["regression"] * num_tasks
    return make_baseline(method, model, losses_fn, setup.shared, kinds=kinds, steps_per_epoch=setup.train.num_rows)


def _gain_batches(setup: Setup, gain_data: str) -> Callable[[], Batch] | None:
    num_runs = setup.model.num_runs
    if gain_data == "same":
        return None
    if gain_data == "held out":
        held_out = RunData.batch(setup.train, setup.withheld.expand(num_runs, -1))
        return lambda: held_out
    if gain_data == "other":
        generator = torch.Generator().manual_seed(0)  # the same number of a batch for every run keeps them paired

        def draw() -> Batch:
            row = torch.randint(setup.train.num_rows, (1, 1), generator=generator)
            return setup.train.batch(row.expand(num_runs, 1).to(setup.train.source.device))

        return draw
    raise ValueError(
        f"Parameter `gain_data` should be 'same', 'other' or 'held out'. Found {gain_data!r}. Pass one of them."
    )


def train(setup: Setup, weighting: Weighting, configuration: Configuration, rates: Tensor) -> History:
    """Train with Adam, `rates [R]`, for `configuration["epochs"]` passes over the listed batches."""
    return train_runs(
        setup.model,
        weighting,
        torch.optim.Adam(trained_parameters(setup.model, weighting), lr=1.0),
        squared_losses,
        setup.train,
        setup.validation,
        rates=rates,
        seeds=setup.seeds,
        epochs=configuration["epochs"],
        batch_size=1,
    )


def outcome(setup: Setup, history: History, labels: Mapping[str, Sequence[Any]], seconds: float) -> pd.DataFrame:
    """Tidy table of trained runs: validation and test loss of the main task, NaN for a run that failed.

    Args:
        setup: After training.
        history: Of that training.
        labels: Further columns, R values each.
        seconds: Of the whole program, shared equally by its runs.
    """
    failed = history.failed.cpu().numpy()
    losses = {
        "validation loss": history.validation.amin(0),
        "test loss": evaluate(setup.model, squared_losses, setup.test)[0],
    }
    measures = {name: np.where(failed, np.nan, values.cpu().numpy()) for name, values in losses.items()}
    measures |= {"best epoch": history.best_epoch.cpu().numpy() + 1.0, "failed": failed.astype(float)}
    runs = pd.DataFrame({"seed": setup.seeds, **labels, "seconds": seconds / len(setup.seeds), **measures})
    return runs.melt(["seed", *labels, "seconds"], list(measures), var_name="metric", value_name="value")


def train_grid(configuration: Configuration) -> pd.DataFrame:
    """Train one method at every learning rate, auxiliary loss scale and seed: one cell of the study.

    Args:
        configuration: As `Setup.of` and `make_weighting`; `rates`, `scales` and `seeds` are lists.

    Returns:
        Tidy rows by seed, rate, scale and metric.
    """
    begin = time.perf_counter()
    runs = list(product(configuration["rates"], configuration["scales"], configuration["seeds"]))
    setup = Setup.of(configuration, [seed for _, _, seed in runs])
    scales = [scale for _, scale, _ in runs]
    weighting = make_weighting(setup, setup.scaled_losses(scales), configuration)
    rates = [rate for rate, _, _ in runs]
    history = train(setup, weighting, configuration, setup.per_run(rates))
    labels = {"rate": rates, "scale": scales}
    return outcome(setup, history, labels, time.perf_counter() - begin)
