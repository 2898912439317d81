"""Methods compared at their own tuned settings: chosen on tuning seeds, trained on fresh ones, paired by seed.

A relative measure: the difference of log test losses is 0.05 where one loss is 5 % above the other, whatever the
problem's level, so that hard and easy seeds count alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion.claims.statistics import Interval, Retuned, paired_interval, tuned_difference
from companion.store.results import Results
from companion.train.choice import Choice, choose, validation_losses
from companion.train.main_task import KNOBS

# Methods without an auxiliary loss scale to tune, which is 1 for them: these have none, or divide it out.
UNSCALED = ("single task", "equal weights", "per-task RMS", "Nash-MTL", "PCD")

Cell = Callable[[Mapping[str, Any]], pd.DataFrame]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        tuned: Tidy rows of the tuning runs, all methods.
        fresh: Tidy rows of the fresh runs at the chosen settings.
        chosen: Method -> its choice.
        rivals: Tidy rows of the fresh runs at the rivals of the chosen settings, with their number, `rival`.
    """

    tuned: pd.DataFrame
    fresh: pd.DataFrame
    chosen: dict[str, Choice]
    rivals: pd.DataFrame

    def retuned(self, method: str, metric: str, transform: Callable[[Any], Any] = lambda values: values) -> Retuned:
        """A method's fresh numbers at its chosen setting and at the rivals, as intervals with a tuning part want them.

        Args:
            method: Its name.
            metric: Which number.
            transform: Of the numbers, such as the logarithm.
        """
        runs = [self.fresh, *(rows for _, rows in self.rivals.groupby("rival"))] if len(self.rivals) else [self.fresh]
        choice = self.chosen[method]
        values = [by_split(rows[rows["method"] == method], metric) for rows in runs[: len(choice.rivals) + 1]]
        return Retuned(transform(np.stack(values)), choice.draws, choice.seeds)


@dataclass(frozen=True)
class SecondStage:
    """More tuning seeds for each method's best settings: a few rule most settings out, and do not tell the rest apart.

    Attributes:
        seeds: None of the first stage's; without any there is no second stage.
        shortlist: How many settings of a method they try: those of least mean validation loss in the first stage.
        tune: Gives a cell of tuning runs at listed settings.
    """

    seeds: Sequence[int]
    shortlist: int
    tune: Cell

    def lists(self, tuned: pd.DataFrame, knobs: Sequence[str]) -> dict[str, list[float]]:
        """The settings to try again as a configuration's lists, to be read side by side."""
        means = validation_losses(tuned, knobs).mean(axis=1, skipna=False).dropna()
        best = means.nsmallest(self.shortlist).index.to_frame(index=False)
        return {KNOBS[name]: best[name].tolist() for name in knobs}


def joined(parts: Sequence[Comparison]) -> Comparison:
    """Comparisons of different methods as one."""
    tables = (pd.concat([getattr(part, name) for part in parts]) for name in ("tuned", "fresh", "rivals"))
    tuned, fresh, rivals = tables
    return Comparison(
        tuned, fresh, {method: choice for part in parts for method, choice in part.chosen.items()}, rivals
    )


def by_split(runs: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """One method's numbers, `[S, I]`: a seed is a split, whose runs may differ in `initialisation`."""
    rows = runs[runs["metric"] == metric]
    wide = rows.assign(initialisation=rows.get("initialisation", 0)).pivot(
        index="seed", columns="initialisation", values="value"
    )
    return wide.sort_index().to_numpy(np.float64)


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
    rivals: int = 0,
    knobs: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    regularisers: Mapping[str, Sequence[float]] | None = None,
    second: SecondStage | None = None,
) -> Comparison:
    """Tune every method on the tuning seeds and train it on the fresh ones.

    Regularisers are tuned second, at the rate and scale that are best without: a grid of all four knobs would hold
    more runs than it is worth.

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
        rivals: How many settings besides the chosen one, at most, are trained on the fresh seeds too: those that the
            tuning seeds hardly tell from it.
        knobs: Method -> knob of `main_task.KNOBS` -> values to choose from, beside or in place of rates and scales.
        regularisers: "decays" and "dropouts" to choose from, both from 0; by default there are none.
        second: Of the tuning; all its seeds, those of the first stage too, choose among each method's shortlist.
    """
    tuned: list[pd.DataFrame] = []
    fresh: list[pd.DataFrame] = []
    beside = [pd.DataFrame()]
    chosen: dict[str, Choice] = {}
    for method in methods:
        grid = {**base, "method": method, "rates": list(rates), "scales": [1.0] if method in UNSCALED else list(scales)}
        further = (knobs or {}).get(method, {})
        grid |= {KNOBS[knob]: list(values) for knob, values in further.items()}
        runs = results.cells([{**grid, "seeds": list(tuning_seeds)}], tune)
        names = tuple(dict.fromkeys(("scale", "rate", *further)))
        choice = choose(runs, method, names, rivals)
        if regularisers:
            regular = {**grid, **at_setting(choice.setting), **{name: list(v) for name, v in regularisers.items()}}
            more = results.cells([{**regular, "seeds": list(tuning_seeds)}], tune)
            runs = pd.concat([runs.assign(decay=0.0, dropout=0.0), more[(more["decay"] > 0) | (more["dropout"] > 0)]])
            names = ("scale", "rate", "decay", "dropout")
            choice = choose(runs, method, names, rivals)
        if second and second.seeds:
            again = {**grid, **second.lists(runs, names), "seeds": list(second.seeds)}
            runs = pd.concat([runs, results.cells([again], second.tune)], ignore_index=True)
            choice = choose(runs, method, names, rivals)
        chosen[method] = choice
        tuned.append(runs)
        for number, setting in enumerate([choice.setting, *choice.rivals]):
            final = {**grid, **at_setting(setting), "seeds": list(seeds)}
            rows = results.cells([final], train)
            (beside if number else fresh).append(rows.assign(rival=number) if number else rows)
    parts = (pd.concat(rows, ignore_index=True) for rows in (tuned, fresh, beside))
    return Comparison(next(parts), next(parts), chosen, next(parts))


def at_setting(setting: Mapping[str, float]) -> dict[str, list[float]]:
    """The lists of a configuration that has one setting alone."""
    return {KNOBS[name]: [value] for name, value in setting.items()}


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


def tuned_differences(
    found: Comparison,
    first: str,
    references: Sequence[str],
    confidence: float,
    metric: str = "test loss",
    test_to_train: float = 0.0,
) -> pd.DataFrame:
    """Paired differences, `first` minus each reference, as of `tuned_difference`.

    Args:
        found: Both methods' tuning and final runs.
        first: The first-named method.
        references: Methods to compare it with.
        confidence: Level of the intervals.
        metric: Which number; of losses, the logarithms are compared.
        test_to_train: As of `tuned_difference`.

    Returns:
        One row per reference: `metric`, `first`, `reference`, the fields of an `Estimate`, the number of `failed`
        seeds, and "rival": the mean with `first` at the setting that the tuning told from its own least, NaN where it
        told all.
    """
    transform = np.log if metric.endswith("loss") else np.asarray
    rows = []
    for reference in references:
        ours, theirs = (found.retuned(name, metric, transform) for name in (first, reference))
        interval, failed = tuned_difference(ours, theirs, test_to_train=test_to_train, confidence=confidence)
        inits = min(each.values.shape[2] for each in (ours, theirs))
        apart = ours.values[..., :inits] - theirs.values[0, ..., :inits]  # [C, S, I]
        rival = float(np.nanmean(apart[1])) if len(apart) > 1 else float("nan")
        named = {"metric": metric, "first": first, "reference": reference}
        rows.append({**named, **vars(interval), "failed": failed, "rival": rival})
    return pd.DataFrame(rows)
