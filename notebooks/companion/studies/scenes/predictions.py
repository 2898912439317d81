"""What a trained network sees in some test scenes, for pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from companion.studies.scenes.study import Run, train


class Scenes(NamedTuple):
    """Test scenes: images `[N, 3, H, W]`; classes and numbers `[N, H, W]`, true and predicted; their row numbers."""

    images: NDArray[np.float64]
    truth: tuple[NDArray[np.float64], NDArray[np.float64]]
    predicted: tuple[NDArray[np.float64], NDArray[np.float64]]
    rows: list[int]


def predict_scenes(configuration: Mapping[str, Any], method: str, run: Run, count: int) -> Scenes:
    """Train one run as `train_cell` does, in the same order of the data, and look at the test scenes with most classes.

    Args:
        configuration: As `train_cell`'s; `seeds`, `spreads` and `rates` are those of the run.
        method: See `train_cell`.
        run: What to train.
        count: Number of scenes.
    """
    trained = train({**configuration, "seeds": [run.seed]}, method, [run], record=False)
    fold = trained.folds.held_out["test"]
    rows = richest(fold.targets[0, 0].cpu().numpy(), count)
    x, y = fold.batch(torch.tensor([rows], device=fold.source.device))
    with torch.no_grad():
        scores, numbers = trained.model(x)
    shown = (x[0], y[0, 0], y[1, 0], scores[0].argmax(1), numbers[0])
    images, classes, wanted, found, guessed = (values.double().cpu().numpy() for values in shown)
    return Scenes(images, (classes, wanted), (found, guessed), rows)


def richest(classes: NDArray[np.float64], count: int, least: float = 0.05) -> list[int]:
    """Scenes `[N, H, W]` in which most classes have at least a share `least`; the first of equals."""
    number = [sum((scene == c).mean() >= least for c in np.unique(scene[scene >= 0])) for scene in classes]
    order: Sequence[int] = np.argsort(-np.array(number), kind="stable").tolist()
    return sorted(order[:count])
