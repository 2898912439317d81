"""A problem: the model and the data of R runs, whatever method trains them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from companion.train.losses import ScaledLosses, auxiliary_scales, loss_weights
from companion.train.stacked import Batch, LossesFn, RunData, StackedModel

WITHHELD = 0.2  # share of the training rows that pays for a gain measured on held-out data


def withholds(c: Mapping[str, Any]) -> bool:
    """Whether a configuration measures gains on rows that it pays for by not training on them."""
    return c.get("gain_data") == "held out" or c.get("method") == "SLGrad"


@dataclass(frozen=True)
class Problem:
    """Model and data of R runs.

    Attributes:
        model: The stack; run r starts from the weights of its seed.
        seeds: Seed of each run, R of them; it fixes the order of the data, so equal seeds have equal batches.
        kinds: For each task "regression" or "classification".
        losses_fn: The unscaled losses, the main task's first.
        train: Training fold.
        validation: Validation fold.
        test: Test fold.
        batch_size: Rows of the training fold per step.
        withheld: Training rows that no batch contains, for a gain that is measured on them; else None.

    Raises:
        ValueError: The number of seeds differs from the number of runs, or the batch exceeds the training fold.
    """

    model: StackedModel
    seeds: list[int]
    kinds: list[str]
    losses_fn: LossesFn
    train: RunData
    validation: RunData
    test: RunData
    batch_size: int
    withheld: RunData | None = None

    def __post_init__(self) -> None:
        """Check what training relies on."""
        if len(self.seeds) != self.model.num_runs:
            raise ValueError(
                f"Parameter `seeds` should hold one integer per run, {self.model.num_runs}. Found {len(self.seeds)}. "
                "Pass the seed of every run; paired runs share theirs."
            )
        if not 1 <= self.batch_size <= self.train.num_rows:
            raise ValueError(
                f"Parameter `batch_size` should be between 1 and the number of training rows, {self.train.num_rows}. "
                f"Found `batch_size = {self.batch_size}`. Pass for example 256."
            )

    @property
    def shared(self) -> list[nn.Parameter]:
        """The stacked parameters that all tasks share."""
        return list(self.model.stack.shared_parameters())  # type: ignore[operator]

    @property
    def num_tasks(self) -> int:
        """Number of tasks T."""
        return len(self.kinds)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of the training fold; an incomplete last one is left out."""
        return self.train.num_rows // self.batch_size

    def per_run(self, values: Sequence[float]) -> Tensor:
        """One number per run on the device, `[R]` in float64."""
        return torch.tensor(values, dtype=torch.float64, device=self.train.source.device)

    def loss_scales(self, scales: Sequence[float], gap: float = 1.0) -> Tensor:
        """Factors of the losses `[T, R]`: `scales` (one per run) of the auxiliary ones, times weights from 1 to gap."""
        gaps = loss_weights(self.num_tasks, gap).to(self.train.source.device)  # [T]
        return auxiliary_scales(self.per_run(scales), self.num_tasks) * gaps[:, None]

    def scaled_losses(self, scales: Sequence[float]) -> ScaledLosses:
        """The losses, those of the auxiliary tasks times `scales`, one per run."""
        return ScaledLosses(self.losses_fn, self.loss_scales(scales))

    def epochs(self, count: int) -> Iterator[Iterator[Batch]]:
        """Epochs of batches in an order that each run's seed fixes; a progress bar appears on a terminal only."""
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        for _ in tqdm(range(count), desc="epochs", disable=None):
            order = torch.stack([torch.randperm(self.train.num_rows, generator=g) for g in generators])  # [R, N]
            rows = torch.split(order.to(self.train.source.device), self.batch_size, dim=1)
            yield (self.train.batch(part) for part in rows[: self.steps_per_epoch])

    def in_order(self) -> Iterator[Batch]:
        """One epoch of batches in the order of the rows: a stream of fresh examples."""
        rows = torch.arange(self.steps_per_epoch * self.batch_size, device=self.train.source.device)
        return (self.train.batch(part.expand(len(self.seeds), -1)) for part in torch.split(rows, self.batch_size))
