"""Mini-batches of known composition: how many examples of a hidden cluster each of them holds.

A dose says how much the composition varies between batches, at the same share of the cluster overall. Batches are
listed beforehand, so that every method sees the same ones, and one listed batch is one row to `runs.train_runs`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from companion.train.stacked import Batch, RunData

# How the number of the minor cluster's examples in a batch is distributed, from most to least variable.
DOSES = ("homogeneous", "Beta-mixed", "i.i.d.", "fixed")
CONCENTRATION = 4.0  # of the Beta distribution: a standard deviation of 0.19 at a mean of 0.25


def minor_counts(dose: str, share: float, batch_size: int, num_batches: int) -> NDArray[np.int64]:
    """Give the number of examples of the minor cluster in each batch, `[M]`, sorted.

    The counts are the quantiles of their distribution at M equally spaced levels: every list of batches has (nearly)
    the same overall share, which chance would blur.

    Args:
        dose: "homogeneous": batches of one cluster only; "Beta-mixed": binomial with a Beta-distributed share;
            "i.i.d.": binomial, as in ordinary shuffling; "fixed": the same count in every batch.
        share: Overall share of the minor cluster.
        batch_size: Examples per batch B.
        num_batches: M.

    Example:
        >>> minor_counts("homogeneous", 0.25, 8, 4), minor_counts("fixed", 0.25, 8, 4)
        (array([0, 0, 0, 8]), array([2, 2, 2, 2]))
    """
    levels = (np.arange(num_batches) + 0.5) / num_batches
    if dose == "homogeneous":
        counts = np.where(levels > 1 - share, batch_size, 0)
    elif dose == "Beta-mixed":
        counts = stats.betabinom.ppf(levels, batch_size, CONCENTRATION * share, CONCENTRATION * (1 - share))
    elif dose == "i.i.d.":
        counts = stats.binom.ppf(levels, batch_size, share)
    elif dose == "fixed":
        counts = np.full(num_batches, round(share * batch_size))
    else:
        raise ValueError(f"Parameter `dose` should be one of {', '.join(DOSES)}. Found {dose!r}. Pass one of them.")
    return np.asarray(counts, dtype=np.int64)


def list_batches(
    clusters: NDArray[np.bool_], counts: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw the row numbers of every batch, `[M, B]`, without repetition within a batch.

    Args:
        clusters: True for rows of the minor cluster, `[N]`.
        counts: Rows of the minor cluster in each batch, `[M]`.
        batch_size: B.
        rng: Draws the rows and the order of the batches.
    """
    minor, major = np.flatnonzero(clusters), np.flatnonzero(~clusters)
    if max(counts) > len(minor) or batch_size - min(counts) > len(major):
        raise ValueError(
            f"Parameter `clusters` should have at least {max(counts)} rows of the minor and {batch_size - min(counts)} "
            f"of the major cluster. Found {len(minor)} and {len(major)}. Pass more rows or a smaller batch."
        )
    return np.stack(
        [
            np.concatenate([rng.choice(minor, c, replace=False), rng.choice(major, batch_size - c, replace=False)])
            for c in rng.permutation(counts)
        ]
    )


@dataclass(frozen=True)
class ListedBatches(RunData):
    """A fold read in listed batches: to a training loop one row is one batch.

    Attributes:
        batches: Row numbers of each data set's batches, `[S, M, B]`.
    """

    batches: Tensor

    @property
    def num_rows(self) -> int:
        """Number of listed batches M."""
        return self.batches.shape[1]

    def batch(self, rows: Tensor) -> Batch:
        """Gather batch number `rows [R, 1]` of every run: `x [R, B, F]` and `y [T, R, B]`."""
        return super().batch(self.batches[self.source[:, None], rows].flatten(1))

    @classmethod
    def of(cls, data: RunData, batches: NDArray[np.int64]) -> "ListedBatches":
        """Read the data in these batches `[S, M, B]`."""
        device = data.source.device
        return cls(data.inputs, data.targets, data.source, torch.from_numpy(batches).to(device))
