"""The comparison once more with eight times the parameters on the finest map, for which a GPU is needed.

Its runs are published like all others, but a full run on a CPU takes them from there instead of training them again.
"""

from typing import Any

from companion.problems.scenes import TEST_TO_TRAIN
from companion.studies.scenes.comparison import Cells, Comparison

# Our design: what one GPU trains in some minutes. Tiles cover as much of the globe as those of the smaller networks,
# with four times the pixels; convolutions are in TF32, torch's default on a GPU.
COMMON: dict[str, Any] = {
    "dataset": "earth",
    "pool": 1,
    "side": 128,
    "channels": [32, 64, 128, 256],
    "octaves": 4,
    "depths": [],
    "dtype": "float32",
    "epochs": 20,
    "batch_size": 4,
    "halve_every": 0,
    "last": 1,
}
TUNING_EPOCHS = 6
STATIC_WEIGHTS = (0.3, 1.0, 3.0)
RATES = tuple(2.0**e for e in (-11, -10, -9, -8, -7))
TUNING_SEEDS, SEEDS = tuple(range(1000, 1010)), tuple(range(50, 60))


def larger(cells: Cells, device: str) -> Comparison:
    """Train it, or take it from `cells`."""
    return Comparison(
        cells, {**COMMON, "device": device}, static_weights=STATIC_WEIGHTS, rates=RATES, tuning_seeds=TUNING_SEEDS,
        tuning_epochs=TUNING_EPOCHS, seeds=SEEDS, overlap=TEST_TO_TRAIN["earth"],
    )  # fmt: skip
