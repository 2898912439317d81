"""A setting chosen by mean validation loss over tuning seeds, with those that these do not tell from it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion.claims.statistics import paired_interval

# Bootstrap samples of the tuning seeds, the same for every method: what two methods would have chosen is paired.
DRAWS = 1000


@dataclass(frozen=True)
class Choice:
    """A method's chosen knobs.

    Attributes:
        setting: Knob -> its value.
        edges: A sentence for each knob whose best value lies at an edge of its grid, and if the loss is flat there.
        rivals: The settings that bootstrap samples of the tuning seeds choose most often besides, at least one in
            twenty times; the tuning does not tell them from the chosen one.
        draws: Of each bootstrap sample, `[B]`: 0 for the chosen setting, the number of a rival from 1, else one more
            than there are.
        seeds: How many tuning seeds there were.
    """

    setting: dict[str, float]
    edges: tuple[str, ...]
    rivals: tuple[dict[str, float], ...]
    draws: NDArray[np.int64]
    seeds: int

    @property
    def rate(self) -> float:
        """Learning rate."""
        return self.setting["rate"]

    @property
    def scale(self) -> float:
        """Factor of the auxiliary losses."""
        return self.setting["scale"]


def choose(tuned: pd.DataFrame, method: str, knobs: Sequence[str] = ("scale", "rate"), rivals: int = 0) -> Choice:
    """Choose a setting by mean validation loss over the tuning seeds.

    A setting is out where a run failed, and where a second stage has not tried it.

    Args:
        tuned: Tidy rows of the method's tuning runs with a column per knob.
        method: For the sentences.
        knobs: What was tuned.
        rivals: How many rivals are wanted at most.
    """
    losses = validation_losses(tuned, knobs)
    means = losses.mean(axis=1, skipna=False)
    tried = tuned.groupby("seed").size()
    everywhere = losses[tried.index[tried == tried.max()]].mean(axis=1, skipna=False)  # where all settings were tried
    if means.isna().all():
        raise ValueError(
            f"Tuning of {method} should leave a setting in which no run failed. Found none. Pass smaller rates."
        )
    settings = means.index.to_frame(index=False)  # one row per setting, as in `losses`
    best = int(np.nanargmin(means))
    edges = []
    for name in reversed(knobs):
        grid = np.sort(settings[name].unique())
        value = settings[name][best]
        if len(grid) > 1 and value in (grid[0], grid[-1]) and value != 0:  # no decay is no edge
            beside = grid[1] if value == grid[0] else grid[-2]
            others = np.where(settings[name] == beside, everywhere.fillna(np.inf), np.inf)
            told = _told_apart(losses.to_numpy()[best], losses.to_numpy()[np.argmin(others)], float(beside))
            edges.append(f"{method}: the best {name}, {value:g}, lies at an edge of its grid{told}")
    draws = _draws(losses.to_numpy(np.float64)) if rivals else np.full(DRAWS, best)
    often = [number for number, count in Counter(draws.tolist()).most_common() if count >= DRAWS / 20]
    trained = [best, *[number for number in often if number != best][:rivals]]
    order = {number: position for position, number in enumerate(trained)}
    places = [{name: float(settings[name][number]) for name in knobs} for number in trained]
    drawn = np.array([order.get(number, len(trained)) for number in draws.tolist()])
    return Choice(places[0], tuple(edges), tuple(places[1:]), drawn, losses.shape[1])


def validation_losses(tuned: pd.DataFrame, knobs: Sequence[str]) -> pd.DataFrame:
    """Validation losses, a row per setting and a column per tuning seed; NaN for a run that failed or is not there."""
    runs = tuned[tuned["metric"] == "validation loss"]
    return runs.pivot(index=list(knobs), columns="seed", values="value")


def _draws(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """The setting of least mean loss `[B]` in B bootstrap samples of the seeds of `losses [C, n]`."""
    count = losses.shape[1]
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=DRAWS)  # [B, n]
    fine = np.flatnonzero(np.isfinite(losses).all(axis=1))  # [F]
    return np.asarray(fine[np.argmin(losses[fine] @ weights.T, axis=0)])


def _told_apart(best: np.ndarray, beside: np.ndarray, value: float) -> str:
    """Whether the tuning seeds tell the edge from the next value: on a plateau, a wider grid would find nothing."""
    both = np.isfinite(beside) & np.isfinite(best)
    if both.sum() > 1:
        gap = paired_interval(beside[both], best[both])
        if gap.low <= 0:
            found = f"{gap.mean:.3f} [{gap.low:.3f}, {gap.high:.3f}]"
            return f", but {gap.count} tuning seeds do not tell it from {value:g}: there the loss is higher by {found}."
    return ": widen it."
