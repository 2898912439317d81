"""What a pixel by itself says, its colours and its latitude: boosted trees, and a constant, without any network."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from companion.data.earth_scenes import CLASSES, load_earth_map
from companion.data.scenes import SceneFold, earth_folds
from companion.metrics.scenes import SceneScores

PIXELS, SHARE = 40_000, 20  # of the training tiles, drawn at random, for the trees; at most one in twenty
PLANES = {"colours": 3, "colours and latitude": 4}  # method -> how many of the input's planes its trees see
LEAST = 1e-9  # probability, whose logarithm is finite


def colours(c: Mapping[str, Any]) -> pd.DataFrame:
    """Predict every pixel of the test tiles from that pixel alone, with the splits of `c["seeds"]`.

    Args:
        c: `pool`, `side` and `seeds`, as in `train_cell`.

    Returns:
        One row per method, seed and metric. "constant": the classes' shares and the median distance of the training
        tiles; "colours" and "colours and latitude": boosted trees.
    """
    begin = time.perf_counter()
    rows = []
    for seed in c["seeds"]:
        train, _, test = earth_folds(load_earth_map(c["pool"]), [seed], c["side"])
        every = train.targets[0, 0].size
        drawn = np.random.default_rng(seed).permutation(every)[: min(PIXELS, every // SHARE)]
        classes, numbers = (values.ravel()[drawn] for values in train.targets[0])
        shares = np.bincount(classes.astype(int), minlength=len(CLASSES)) / len(drawn)
        constant = np.tile(np.log(shares), (test.targets[0, 0].size, 1)), np.median(numbers)
        predictions = {"constant": constant}
        for method, planes in PLANES.items():
            seen, unseen = _pixels(train, planes)[drawn], _pixels(test, planes)
            classifier = HistGradientBoostingClassifier(random_state=seed).fit(seen, classes)
            regressor = HistGradientBoostingRegressor(loss="absolute_error", random_state=seed).fit(seen, numbers)
            trees = np.full((len(unseen), len(CLASSES)), LEAST)  # of a class that was never seen
            trees[:, classifier.classes_.astype(int)] = classifier.predict_proba(unseen).clip(min=LEAST)
            predictions[method] = np.log(trees), regressor.predict(unseen)
        for method, (scores, found) in predictions.items():
            rows += [(method, seed, metric, value) for metric, value in _measured(test, scores, found).items()]
    table = pd.DataFrame(rows, columns=["method", "seed", "metric", "value"])
    return table.assign(seconds=time.perf_counter() - begin)


def _pixels(fold: SceneFold, planes: int) -> NDArray[np.float32]:
    """Every pixel's first planes, `[N * H * W, planes]`."""
    pixels: NDArray[np.float32] = fold.inputs[0, :, :planes].transpose(0, 2, 3, 1).reshape(-1, planes)
    return pixels


def _measured(fold: SceneFold, scores: NDArray[np.float64], numbers: NDArray[np.float64] | float) -> dict[str, float]:
    """The measures of class scores `[N * H * W, C]` and numbers `[N * H * W]`."""
    count, height, width = fold.targets.shape[2:]
    by_class = torch.from_numpy(scores).view(1, count, height, width, -1).movedim(-1, -3)
    every = torch.from_numpy(np.broadcast_to(numbers, len(scores)).copy()).view(1, count, height, width)
    found = SceneScores(len(CLASSES))
    found.update([by_class, every], torch.from_numpy(fold.targets[0])[:, None].double())
    return {name: float(values) for name, values in found.measures().items()}
