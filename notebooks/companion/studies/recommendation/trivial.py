"""Predictions that need no network: how often a user, or a film, gets each label."""

import numpy as np
from numpy.typing import NDArray

from companion.data.interactions import Encoded

PSEUDO = 5.0  # rows of the average rate that every user and film is given besides: our choice


def log_odds(train: Encoded, fold: Encoded, task: int) -> dict[str, NDArray[np.float64]]:
    """Log odds of a task on a fold of one split, `[N]`, from rates in the training fold.

    Returns:
        By the first field (the user), the second (the film), and both: their sum over the average's.
    """
    labels = train.targets[0, task]
    average = np.log(labels.mean() / (1 - labels.mean()))
    found = {}
    for number, name in enumerate(("user", "film")):
        ids = train.ids[0, :, number]
        rows, positives = np.bincount(ids), np.bincount(ids, labels)
        rate = (positives + PSEUDO * labels.mean()) / (rows + PSEUDO)
        found[name] = np.log(rate / (1 - rate))[fold.ids[0, :, number]]
    return {**found, "both": found["user"] + found["film"] - average}
