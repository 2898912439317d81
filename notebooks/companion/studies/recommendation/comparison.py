"""What the recommendation study trains: learning rates tuned per method, then the reported runs on fresh splits.

A problem is a split and a network, a setting a method at one spread of the loss weights (1 for the first task's loss,
rising in equal ratios to the spread for the last one's).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from companion.store.results import Results
from companion.studies.recommendation.study import train_cell
from companion.train import spread_comparison as report

Setting = report.Setting
REFERENCE = "Adam"  # the optimizer of the static grid, of the baselines and of the curves over the spread
RATED_AT = 1.0  # methods that erase constant loss weights tune their rate once, at this spread
ERASING = ("AdaTask", "per-task RMS")


@dataclass(frozen=True)
class Plan:
    """Everything that decides which runs there are.

    Attributes:
        base: What all cells share, see `study.train_cell`.
        problems: Problem -> its split, network and optimizers; the first is the main one.
        gap: The spread of the mis-scaled losses.
        spreads: Spreads of the robustness curves, on the main problem with Adam.
        static: Spreads among which joint Adam may choose on the main problem.
        weightings: Baselines of `companion.baselines` on the main problem with Adam.
        rates: Optimizer -> learning rates to tune over.
        seeds: Fresh splits.
        tuning_seeds: Splits that choose.
    """

    base: Mapping[str, Any]
    problems: Mapping[str, Mapping[str, Any]]
    gap: float
    spreads: Sequence[float]
    static: Sequence[float]
    weightings: Sequence[str]
    rates: Mapping[str, Sequence[float]]
    seeds: Sequence[int]
    tuning_seeds: Sequence[int]

    @property
    def main(self) -> str:
        """Name of the main problem."""
        return next(iter(self.problems))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every problem with each of its optimizers."""
        for problem, how in self.problems.items():
            for optimizer in how["optimizers"]:
                yield problem, optimizer

    def spreads_of(self, problem: str, optimizer: str, method: str, static: Sequence[float]) -> list[float]:
        """At which spreads a method runs; none where it does not, and `static` for joint training beside the others."""
        on_curve = (problem, optimizer) == (self.main, REFERENCE)
        if method == "single task":
            return [RATED_AT]
        if method == "joint":
            return sorted({RATED_AT, self.gap, *((*self.spreads, *static) if on_curve else ())})
        if method == "per-task RMS" and optimizer != REFERENCE:
            return []
        if method in ERASING:
            return sorted({RATED_AT, self.gap, *(self.spreads if on_curve else ())})
        return list(self.spreads) if on_curve else []

    def cell(
        self,
        problem: str,
        optimizer: str,
        method: str,
        settings: Sequence[tuple[float, float]],
        *,
        final: bool,
        record: bool,
    ) -> dict[str, Any]:
        """The configuration of a cell; settings are pairs of spread and learning rate."""
        how = {name: value for name, value in self.problems[problem].items() if name != "optimizers"}
        spreads, rates = map(list, zip(*settings, strict=True))
        seeds = list(self.seeds if final else self.tuning_seeds)
        names = {"problem": problem, "optimizer": optimizer, "method": method}
        return {
            **names, **how, **self.base, "spreads": spreads, "rates": rates, "seeds": seeds, "test": final,
            "record": record,
        }  # fmt: skip

    @property
    def methods(self) -> list[str]:
        """All methods."""
        return ["single task", "joint", *ERASING, *self.weightings]


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        runs: Tidy rows of the tuning runs.
        best: Of `report.best_rates`.
        static: The static setting that joint Adam chose on the main problem.
    """

    runs: pd.DataFrame
    best: pd.DataFrame
    static: Setting

    def rate(self, problem: str, optimizer: str, method: str, spread: float) -> float:
        """The chosen learning rate of a setting."""
        at = RATED_AT if method in ERASING else spread
        rates = self.best.set_index(report.GROUP)["rate"]
        return float(rates[problem, optimizer, method, at])


def tune(results: Results, plan: Plan) -> Tuned:
    """Train every method over the learning rates on the tuning splits, and choose by validation loss."""
    cells = []
    for problem, optimizer in plan.pairs():
        for method in plan.methods:
            spreads = plan.spreads_of(problem, optimizer, method, plan.static)
            spreads = spreads and ([RATED_AT] if method in ERASING else spreads)
            settings = [(spread, rate) for spread in spreads for rate in plan.rates[optimizer]]
            if settings:
                cells.append(plan.cell(problem, optimizer, method, settings, final=False, record=False))
    runs = results.cells(cells, train_cell)
    best = report.best_rates(runs)
    return Tuned(runs, best, report.best_static(best, plan.main, REFERENCE, plan.static))


def train_final(results: Results, plan: Plan, tuned: Tuned) -> pd.DataFrame:
    """Train every setting on the fresh splits at its own learning rate; dominance is followed where it is compared."""
    cells = []
    followed = [("joint", RATED_AT), ("joint", plan.gap), ("AdaTask", plan.gap), ("per-task RMS", plan.gap)]
    for problem, optimizer in plan.pairs():
        for method in plan.methods:
            spreads = plan.spreads_of(problem, optimizer, method, [tuned.static[1]])
            for record in (False, True):
                settings = [
                    (spread, tuned.rate(problem, optimizer, method, spread))
                    for spread in spreads
                    if ((method, spread) in followed and problem == plan.main) == record
                ]
                if settings:
                    cells.append(plan.cell(problem, optimizer, method, settings, final=True, record=record))
    return results.cells(cells, train_cell)
