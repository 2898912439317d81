"""Training on tabular data with a main task and auxiliaries: every method, setting and split as batched programs.

A configuration says everything that decides a table: names -> numbers, text or lists of them, as `results` wants it.
All functions here read from it what `Setup.of`, `make_weighting` and `train_grid` list. All methods of a split share
its rows, initial weights and batches; a seed names a split.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from companion.baselines import make_baseline, trained_parameters
from companion.data import Fold
from companion.networks.shared_bottom import SharedBottom, task_losses
from companion.studies.hydalearn_synthetic.study import OPTIONS, STATIC, WITHHELD
from companion.studies.tabular.folds import folds_of, withhold
from companion.studies.tabular.measures import fold_measures
from companion.train.devices import resolve_device
from companion.train.runs import History, StaticWeights, Weighting, train_runs
from companion.train.stacked import Batch, LossesFn, RunData, StackedModel, predict
from companion.train.weightings import GainElsewhere, ScaledLosses, auxiliary_scales
from companion.train.work import work_of
from mtlcore.hydalearn import HydaLearn

Configuration = Mapping[str, Any]
METHODS = (
    "single task", "equal weights", "static grid", "uncertainty weighting", "DWA", "GradNorm", "cosine gate", "OL-AUX",
    "per-task RMS", "HydaLearn",
)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """Model and data of R runs.

    Attributes:
        model: The stack; run r starts from the weights of its seed.
        seeds: Seed of each run, R of them.
        kinds: Kind of every task.
        losses_fn: The unscaled losses.
        train: Training fold.
        validation: Validation fold, rows with a main label.
        test: Test fold.
        withheld: Training rows that no batch contains, for a gain that is measured on them; else None.
        batch_size: Examples per step.
    """

    model: StackedModel
    seeds: list[int]
    kinds: list[str]
    losses_fn: LossesFn
    train: RunData
    validation: RunData
    test: RunData
    withheld: RunData | None
    batch_size: int

    @classmethod
    def of(cls, configuration: Configuration, seeds: Sequence[int]) -> "Setup":
        """Build the setup of a configuration for runs with these seeds, which may repeat.

        Args:
            configuration: As `folds_of`, and `hidden`, `batch_size`, `device`; with `gain_data` "held out" a fifth of
                the training rows is withheld. Its `seeds` are the splits that are prepared together.
            seeds: One per run, each of them among `configuration["seeds"]`.
        """
        device = resolve_device(configuration["device"])
        names = list(configuration["seeds"])
        folds = folds_of(configuration, names)
        train, withheld = folds.train, None
        if configuration.get("gain_data") == "held out":
            train, withheld = withhold(train, WITHHELD, names)
        source = torch.tensor([names.index(seed) for seed in seeds], device=device)

        def on_device(fold: Fold) -> RunData:
            inputs, targets = (torch.from_numpy(a).to(device) for a in (fold.inputs, fold.targets))
            return RunData(inputs, targets, source)

        shape = (train.inputs.shape[-1], configuration["hidden"], len(folds.kinds))
        return cls(
            StackedModel([_model(*shape, seed) for seed in seeds]).to(device),
            list(seeds),
            folds.kinds,
            task_losses(folds.kinds),
            on_device(train),
            on_device(folds.validation),
            on_device(folds.test),
            None if withheld is None else on_device(withheld),
            configuration["batch_size"],
        )

    @property
    def shared(self) -> list[nn.Parameter]:
        """The stacked parameters that all tasks share."""
        assert isinstance(self.model.stack, SharedBottom)
        return self.model.stack.shared_parameters()

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of the training fold."""
        return self.train.num_rows // self.batch_size

    def scaled_losses(self, scales: Sequence[float]) -> ScaledLosses:
        """The losses, those of the auxiliary tasks times `scales`, one per run."""
        return ScaledLosses(self.losses_fn, auxiliary_scales(self.per_run(scales), len(self.kinds)))

    def per_run(self, values: Sequence[float]) -> Tensor:
        """One number per run on the device, `[R]` in float64."""
        return torch.tensor(values, dtype=torch.float64, device=self.train.source.device)


def _model(num_inputs: int, hidden: Sequence[int], num_tasks: int, seed: int) -> SharedBottom:
    generator = torch.Generator().manual_seed(seed)
    return SharedBottom(num_inputs, hidden, num_tasks, generator=generator, dtype=torch.float64)


def make_weighting(setup: Setup, losses_fn: LossesFn, configuration: Configuration) -> Weighting:
    """Build the weighting that `configuration["method"]` names: static, HydaLearn with its options, or a baseline.

    Args:
        setup: Model and data.
        losses_fn: The losses, scaled or not.
        configuration: `method`; HydaLearn's options where they depart from its defaults, and `gain_data`, "same"
            (default, the mini-batch itself), "other" (another training batch) or "held out".
    """
    method, model = configuration["method"], setup.model
    if method in STATIC:
        weights = setup.per_run([STATIC[method]]).repeat(len(setup.kinds), model.num_runs)
        weights[0] = 1
        return StaticWeights(model, losses_fn, weights)
    if method == "HydaLearn":
        options = {name: configuration[name] for name in OPTIONS if name in configuration}
        hydalearn = HydaLearn(model, losses_fn, setup.shared, **options)
        draw = _gain_batches(setup, configuration.get("gain_data", "same"))
        return hydalearn if draw is None else GainElsewhere(hydalearn, draw)
    steps = setup.steps_per_epoch
    return make_baseline(method, model, losses_fn, setup.shared, kinds=setup.kinds, steps_per_epoch=steps)


def _gain_batches(setup: Setup, gain_data: str) -> Callable[[], Batch] | None:
    if gain_data == "same":
        return None
    if gain_data not in ("other", "held out"):
        raise ValueError(
            f"Parameter `gain_data` should be 'same', 'other' or 'held out'. Found {gain_data!r}. Pass one of them."
        )
    data = setup.train if setup.withheld is None else setup.withheld
    generator = torch.Generator().manual_seed(0)  # the same row numbers for every run keep them paired

    def draw() -> Batch:
        rows = torch.randint(data.num_rows, (1, setup.batch_size), generator=generator).to(data.source.device)
        return data.batch(rows.expand(setup.model.num_runs, -1))

    return draw


def train(setup: Setup, weighting: Weighting, configuration: Configuration, rates: Tensor) -> History:
    """Train with Adam, `rates [R]`, for `configuration["epochs"]` epochs; the one of least validation loss is kept."""
    return train_runs(
        setup.model,
        weighting,
        torch.optim.Adam(trained_parameters(setup.model, weighting), lr=1.0),
        setup.losses_fn,
        setup.train,
        setup.validation,
        rates=rates,
        seeds=setup.seeds,
        epochs=configuration["epochs"],
        batch_size=setup.batch_size,
    )


def outcome(
    setup: Setup, history: History, labels: Mapping[str, Sequence[Any]], seconds: float, *, tested: bool = True
) -> pd.DataFrame:
    """Tidy table of trained runs, NaN for a run that failed.

    Args:
        setup: After training.
        history: Of that training.
        labels: Further columns, R values each.
        seconds: Of the whole training, shared equally by its runs.
        tested: Whether the test fold is measured too.

    Returns:
        Rows by seed, label and metric: the main task's validation loss, the best epoch (from 1), whether the run
        failed, and the measures of the test fold.
    """
    failed = history.failed.cpu().numpy()
    measures = {"validation loss": history.validation.amin(0).cpu().numpy()}
    if tested:
        logits, source = test_logits(setup), setup.test.source.cpu().numpy()
        measures |= fold_measures(setup.test.targets[:, 0].cpu().numpy()[source], logits)
    measures = {name: np.where(failed, np.nan, values) for name, values in measures.items()}
    measures |= {"best epoch": history.best_epoch.cpu().numpy() + 1.0, "failed": failed.astype(float)}
    runs = pd.DataFrame({"seed": setup.seeds, **labels, "seconds": seconds / len(setup.seeds), **measures})
    return runs.melt(["seed", *labels, "seconds"], list(measures), var_name="metric", value_name="value")


def test_logits(setup: Setup) -> np.ndarray:
    """The main task's log odds on the test fold, `[R, N]`."""
    logits: np.ndarray = predict(setup.model, setup.test)[0].cpu().numpy()
    return logits


def train_grid(configuration: Configuration) -> pd.DataFrame:
    """Train one method at every learning rate, auxiliary loss scale and split: one cell of the study.

    Args:
        configuration: As `Setup.of`, `make_weighting`, and `epochs`; `rates`, `scales` and `seeds` are lists.

    Returns:
        Tidy rows by seed, rate, scale and metric, with the seconds of a run.
    """
    return _grid(configuration, tested=True)


def tune_grid(configuration: Configuration) -> pd.DataFrame:
    """Train as `train_grid` does, without a look at the test fold: for choosing settings."""
    return _grid(configuration, tested=False)


def _grid(configuration: Configuration, *, tested: bool) -> pd.DataFrame:
    begin = time.perf_counter()
    runs = list(product(configuration["rates"], configuration["scales"], configuration["seeds"]))
    setup = Setup.of(configuration, [seed for _, _, seed in runs])
    rates, scales = [rate for rate, _, _ in runs], [scale for _, scale, _ in runs]
    weighting = make_weighting(setup, setup.scaled_losses(scales), configuration)
    history = train(setup, weighting, configuration, setup.per_run(rates))
    seconds = time.perf_counter() - begin
    return outcome(setup, history, {"rate": rates, "scale": scales}, seconds, tested=tested)


def cost_per_step(configuration: Configuration, methods: Sequence[str]) -> pd.DataFrame:
    """Count the work of one training step of one run: measured, the same on every machine.

    Args:
        configuration: As `Setup.of`.
        methods: Names of methods at their defaults.

    Returns:
        One row per method: how often the shared parameters' gradient is evaluated, and millions of floating-point
        operations in matrix products.
    """
    rows = []
    for method in methods:
        setup = Setup.of(configuration, configuration["seeds"][:1])
        weighting = make_weighting(setup, setup.losses_fn, {**configuration, "method": method})
        batch = setup.train.batch(torch.arange(setup.batch_size, device=setup.train.source.device)[None])
        rows.append({"method": method, **work_of(partial(weighting.backward, batch), setup.shared[0])})
    return pd.DataFrame(rows)
