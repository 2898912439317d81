"""Methods compared at their own tuned settings: chosen on tuning seeds, trained on fresh ones, paired by seed.

A relative measure: the difference of log test losses is 0.05 where one loss is 5 % above the other, whatever the
problem's level, so that hard and easy seeds count alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from companion.claims.statistics import Interval, paired_interval
from companion.store.results import Results

# Methods without an auxiliary loss scale to tune, which is 1 for them: these have none, or divide it out.
UNSCALED = ("single task", "equal weights", "per-task RMS", "Nash-MTL")

Cell = Callable[[Mapping[str, Any]], pd.DataFrame]


@dataclass(frozen=True)
class Choice:
    """A method's chosen knobs.

    Attributes:
        rate: Learning rate.
        scale: Factor of the auxiliary losses.
        edges: A sentence for each knob whose best value lies at an edge of its grid, and if the loss is flat there.
    """

    rate: float
    scale: float
    edges: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        tuned: Tidy rows of the tuning runs, all methods.
        fresh: Tidy rows of the fresh runs at the chosen settings.
        chosen: Method -> its choice.
    """

    tuned: pd.DataFrame
    fresh: pd.DataFrame
    chosen: dict[str, Choice]


def choose(tuned: pd.DataFrame, method: str) -> Choice:
    """Choose rate and scale by mean validation loss over the tuning seeds; a setting with a failed run is out."""
    runs = tuned[tuned["metric"] == "validation loss"]
    losses = runs.pivot(index=["scale", "rate"], columns="seed", values="value")
    means = losses.mean(axis=1, skipna=False)
    if means.isna().all():
        raise ValueError(
            f"Tuning of {method} should leave a setting in which no run failed. Found none. Pass smaller rates."
        )
    settings = means.index.to_frame(index=False)  # one row per setting, as in `losses`
    best = int(np.nanargmin(means))
    scale, rate = settings.to_numpy(np.float64)[best]
    edges = []
    for name, value in (("rate", rate), ("scale", scale)):
        grid = np.sort(settings[name].unique())
        if len(grid) > 1 and value in (grid[0], grid[-1]):
            beside = grid[1] if value == grid[0] else grid[-2]
            rivals = np.where(settings[name] == beside, means.fillna(np.inf), np.inf)
            told = _told_apart(losses.to_numpy()[best], losses.to_numpy()[np.argmin(rivals)], float(beside))
            edges.append(f"{method}: the best {name}, {value:g}, lies at an edge of its grid{told}")
    return Choice(float(rate), float(scale), tuple(edges))


def _told_apart(best: np.ndarray, beside: np.ndarray, value: float) -> str:
    """Whether the tuning seeds tell the edge from the next value: on a plateau, a wider grid would find nothing."""
    if len(best) > 1 and np.isfinite(beside).all():
        gap = paired_interval(beside, best)
        if gap.low <= 0:
            found = f"{gap.mean:.3f} [{gap.low:.3f}, {gap.high:.3f}]"
            return f", but {gap.count} tuning seeds do not tell it from {value:g}: there the loss is higher by {found}."
    return ": widen it."


def compare(
    results: Results,
    base: Mapping[str, Any],
    methods: Sequence[str],
    *,
    rates: Sequence[float],
    scales: Sequence[float],
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
    tune: Cell,
    train: Cell,
) -> Comparison:
    """Tune every method on the tuning seeds and train it on the fresh ones.

    Args:
        results: Where finished cells are.
        base: The configuration without method, rates, scales and seeds.
        methods: Their names.
        rates: Learning rates to choose from.
        scales: Auxiliary loss scales to choose from.
        tuning_seeds: Seeds that choose.
        seeds: Seeds of the final numbers.
        tune: Gives a cell of tuning runs, with a "validation loss".
        train: Gives a cell of final runs.
    """
    tuned, fresh = [], []
    chosen: dict[str, Choice] = {}
    for method in methods:
        grid = {**base, "method": method, "rates": list(rates), "scales": [1.0] if method in UNSCALED else list(scales)}
        runs = results.cells([{**grid, "seeds": list(tuning_seeds)}], tune)
        choice = chosen[method] = choose(runs, method)
        final = {**grid, "rates": [choice.rate], "scales": [choice.scale], "seeds": list(seeds)}
        tuned.append(runs)
        fresh.append(results.cells([final], train))
    return Comparison(pd.concat(tuned, ignore_index=True), pd.concat(fresh, ignore_index=True), chosen)


def log_difference(
    runs: pd.DataFrame, column: str, first: object, second: object, confidence: float, metric: str = "test loss"
) -> tuple[Interval, int]:
    """Interval of the paired difference of log losses, first minus second.

    Args:
        runs: Tidy rows with seed, metric, value.
        column: The column that tells the two apart.
        first: Its value for the first.
        second: Its value for the second.
        confidence: Level of the interval.
        metric: Which loss.

    Returns:
        The interval over the seeds at which neither failed, and the number of seeds left out because one did.
    """
    rows = runs[(runs["metric"] == metric) & runs[column].isin([first, second])]
    losses = rows.pivot(index="seed", columns=column, values="value")
    losses = losses[rows.groupby("seed").size() == 2]  # a costly method may have run on fewer seeds
    kept = losses[[first, second]].dropna()
    logs = np.log(kept.to_numpy())
    return paired_interval(logs[:, 0], logs[:, 1], confidence=confidence), len(losses) - len(kept)


def differences(
    runs: pd.DataFrame, column: str, first: str, references: Sequence[str], confidence: float
) -> pd.DataFrame:
    """Paired differences of log test losses, `first` minus each reference.

    Returns:
        One row per reference with mean, low, high, count and the number of failed pairs.
    """
    rows = []
    for reference in references:
        interval, failed = log_difference(runs, column, first, reference, confidence)
        rows.append({"reference": reference, **vars(interval), "failed": failed})
    return pd.DataFrame(rows)


def intervals(table: pd.DataFrame) -> list[Interval]:
    """The intervals of a table of differences, row by row."""
    return [Interval(row["mean"], row["low"], row["high"], row["count"]) for row in table.to_dict("records")]
