"""A run's seed names its split and its initialisation, so that one number says both to everything that draws."""

import pandas as pd

SPLITS = 10_000  # more than anyone draws


def run_seed(split: int, initialisation: int) -> int:
    """The seed of a run."""
    return split + SPLITS * initialisation


def split_of(seed: int) -> int:
    """The split that a run with this seed reads.

    Example:
        >>> split_of(run_seed(7, 2))
        7
    """
    return seed % SPLITS


def named(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs by `seed` and `initialisation`, the first being the split, of a table whose `seed` is that of the run."""
    return runs.assign(seed=runs["seed"] % SPLITS, initialisation=runs["seed"] // SPLITS)
