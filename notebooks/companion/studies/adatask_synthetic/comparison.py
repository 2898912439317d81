"""What the synthetic study of AdaTask trains: settings chosen on tuning seeds, and the runs on fresh seeds.

A setting is a weight decay, a spread of the loss weights (1 of the first task's loss, the spread of the last one's)
and a learning rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from companion.claims.statistics import Estimate, Retuned, TuningPart, estimate, tuning_part
from companion.store.results import Results
from companion.studies.adatask_synthetic.study import NULLS, train_cell
from companion.train.choice import Choice, choose

MAIN = "Adam"  # the optimizer with static weights, baselines and weight decay to tune
MEAN = 0  # in place of a task's number: the mean over tasks
ALONE = ("first task alone", "second task alone")
KNOBS = ("decay", "spread", "rate")
RUN = ["problem", "optimizer", "method", *KNOBS]
RIVALS = 3  # settings beside the chosen one, at most, that the tuning may have chosen as well and that train too


class Candidate(NamedTuple):
    """A method and the settings that it may choose from, by the loss of one task or by the mean log loss of all."""

    method: str
    spreads: Sequence[float]
    decays: Sequence[float]
    task: int = MEAN


@dataclass(frozen=True)
class Plan:
    """Everything that decides which runs there are.

    Attributes:
        results: Where finished cells are.
        base: What all cells share, see `study.train_cell`.
        problems: Problem -> `noise`, `own_part` and `rows`, and the grids to tune over: `decays`, static `spreads`, and
            per optimizer the exponents of the `rates`, powers of 2.
        weightings: Baselines with Adam.
        tuning_seeds: Seeds that choose.
        seeds: Fresh seeds.
    """

    results: Results
    base: Mapping[str, Any]
    problems: Mapping[str, Mapping[str, Any]]
    weightings: Sequence[str]
    tuning_seeds: Sequence[int]
    seeds: Sequence[int]

    def pairs(self) -> list[tuple[str, str]]:
        """Every problem with each of its optimizers."""
        return [(problem, optimizer) for problem, how in self.problems.items() for optimizer in how["rates"]]

    def rates(self, problem: str, optimizer: str) -> list[float]:
        """Learning rates to tune over."""
        return [2.0**exponent for exponent in self.problems[problem]["rates"][optimizer]]

    def candidates(self, problem: str, optimizer: str) -> dict[str, Candidate]:
        """The methods that are compared, by their names in figures."""
        how = self.problems[problem]
        decays = how["decays"] if optimizer == MAIN else [0.0]
        found = {
            "equal weights": Candidate("joint", [1.0], decays),
            "AdaTask": Candidate("AdaTask", [1.0], decays),
            "per-task RMS": Candidate("per-task RMS", [1.0], [0.0]),
        }
        if optimizer == MAIN:
            found["tuned static"] = Candidate("joint", how["spreads"], decays)
            found |= {name: Candidate("single task", [1.0], decays, task) for task, name in enumerate(ALONE, start=1)}
            found |= {name: Candidate(name, [1.0], [0.0]) for name in self.weightings}
        return found

    def train(
        self, problem: str, optimizer: str, settings: Mapping[tuple[str, float], Sequence[tuple[float, float]]],
        seeds: Sequence[int], role: str = "", *, record: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Train methods on one problem: (method, decay) -> pairs of spread and learning rate.

        The cells say their role; those that tune and those at the chosen settings have none.
        """
        how = {name: self.problems[problem][name] for name in ("noise", "own_part", "rows")}
        how |= {"role": role} if role else {}
        cells = []
        for (method, decay), pairs in settings.items():
            spreads, rates = map(list, zip(*pairs, strict=True))
            cells.append(
                {"problem": problem, **how, "optimizer": optimizer, "method": method, "decay": decay,
                 "spreads": spreads, "rates": rates, "seeds": list(seeds), "record": record, **self.base}
            )  # fmt: skip
        return self.results.cells(cells, train_cell)

    def tune(self) -> "Tuned":
        """Train every method at all of its settings on the tuning seeds."""
        tables = []
        for problem, optimizer in self.pairs():
            spreads: dict[tuple[str, float], set[float]] = {}
            for candidate in self.candidates(problem, optimizer).values():
                for decay in candidate.decays:
                    spreads.setdefault((candidate.method, decay), set()).update(candidate.spreads)
            rates = self.rates(problem, optimizer)
            grid = {key: list(product(sorted(several), rates)) for key, several in spreads.items()}
            tables.append(self.train(problem, optimizer, grid, self.tuning_seeds))
        return Tuned(self, log_losses(pd.concat(tables, ignore_index=True), "validation loss"))


@dataclass(frozen=True)
class Tuned:
    """What the tuning seeds say.

    Attributes:
        plan: What was tuned.
        losses: Of `log_losses`, on the validation fold.
    """

    plan: Plan
    losses: pd.DataFrame

    def choice(self, problem: str, optimizer: str, candidate: Candidate, rivals: int = RIVALS) -> Choice:
        """The chosen setting of a method, and those that bootstrap samples of the tuning seeds choose besides."""
        runs = self.losses.xs((problem, optimizer, candidate.method), level=tuple(RUN[:3])).reset_index()
        runs = runs[runs["decay"].isin(candidate.decays) & runs["spread"].isin(candidate.spreads)]
        rows = pd.DataFrame({name: runs[name] for name in (*KNOBS, "seed")})
        rows = rows.assign(metric="validation loss", value=runs[candidate.task])
        return choose(rows, f"{problem}, {optimizer}, {candidate.method}", KNOBS, rivals)

    def plain(self, problem: str, optimizer: str, method: str, spread: float = 1.0) -> float:
        """The learning rate that is best without weight decay."""
        return self.choice(problem, optimizer, Candidate(method, [spread], [0.0]), 0).rate

    def beside(self, problem: str, optimizer: str, candidate: Candidate) -> dict[str, float]:
        """The setting whose learning rate is next to the chosen one, up or down, with the lesser loss."""
        setting = self.choice(problem, optimizer, candidate, 0).setting
        rates = (setting["rate"] / 2, setting["rate"] * 2)
        keys = [(problem, optimizer, candidate.method, setting["decay"], setting["spread"], rate) for rate in rates]
        losses = self.losses[candidate.task].unstack("seed").reindex(keys)  # [rates, seeds]
        return setting | {"rate": rates[int(np.nanargmin(losses.mean(axis=1, skipna=False)))]}

    def train(self) -> "Compared":
        """Train every method on the fresh seeds at its chosen setting, at the rivals and, AdaTask, at a rate beside."""
        tables = []
        for problem, optimizer in self.plan.pairs():
            roles: dict[str, dict[tuple[str, float], list[tuple[float, float]]]] = {"": {}, "rival": {}}
            candidates = self.plan.candidates(problem, optimizer)
            choices = {name: self.choice(problem, optimizer, candidate) for name, candidate in candidates.items()}
            several = [("", name, choice.setting) for name, choice in choices.items()]
            several += [("rival", name, rival) for name, choice in choices.items() for rival in choice.rivals]
            several.append(("rival", "AdaTask", self.beside(problem, optimizer, candidates["AdaTask"])))
            seen = set()
            for role, name, setting in several:
                run = (candidates[name].method, *setting.values())
                if run not in seen:  # a setting of two methods trains once
                    pairs = roles[role].setdefault((candidates[name].method, setting["decay"]), [])
                    pairs.append((setting["spread"], setting["rate"]))
                seen.add(run)
            tables += [self.plan.train(problem, optimizer, roles[role], self.plan.seeds, role) for role in roles]
        return Compared(self, log_losses(pd.concat(tables, ignore_index=True), "test loss"))

    def sweep(self, problem: str, seeds: Sequence[int]) -> pd.DataFrame:
        """Log test losses of static weights at every spread and rate, and of AdaTask at every rate, without decay."""
        rates = self.plan.rates(problem, MAIN)
        spreads = self.plan.problems[problem]["spreads"]
        grid = {("joint", 0.0): list(product(spreads, rates)), ("AdaTask", 0.0): [(1.0, rate) for rate in rates]}
        return log_losses(self.plan.train(problem, MAIN, grid, seeds, "sweep"), "test loss")

    def follow(self, problem: str, optimizer: str, seeds: Sequence[int], spreads: Sequence[float]) -> pd.DataFrame:
        """Dominance at equal weights and, in joint training and its null level, at other spreads; without decay.

        Each method has its own rate of equal weights: so only the weights differ between the spreads.
        """
        rate = {method: self.plain(problem, optimizer, method) for method in ("joint", "AdaTask", "per-task RMS")}
        settings = {(method, 0.0): [(1.0, rate[method])] for method in ("AdaTask", "per-task RMS")}
        settings |= {(method, 0.0): [(spread, rate["joint"]) for spread in spreads] for method in ("joint", *NULLS)}
        return self.plan.train(problem, optimizer, settings, seeds, "dominance", record=True)

    def follow_gap(self, problem: str, optimizer: str, gap: float, seeds: Sequence[int]) -> pd.DataFrame:
        """Dominance under a planted gap between the loss weights, and under what takes it away."""
        joint, ours = (self.plain(problem, optimizer, method) for method in ("joint", "AdaTask"))
        settings = {("constant weights", 0.0): [(gap, joint)], ("AdaTask", 0.0): [(gap, ours)]}
        settings["joint", 0.0] = [(gap, joint)]
        return self.plan.train(problem, optimizer, settings, seeds, "dominance", record=True)


@dataclass(frozen=True)
class Compared:
    """The fresh runs.

    Attributes:
        tuned: What chose their settings.
        losses: Of `log_losses`, on the test fold.
    """

    tuned: Tuned
    losses: pd.DataFrame

    def retuned(self, problem: str, optimizer: str, name: str, task: int) -> Retuned:
        """A method's log losses at the settings that its tuning may have chosen; "single tasks" are a method, too."""
        if name == "single tasks":
            tasks = [self.retuned(problem, optimizer, ALONE[t - 1], t) for t in ((1, 2) if task == MEAN else (task,))]
            values = np.mean([one.values[:1] for one in tasks], axis=0)
            return Retuned(values, np.zeros_like(tasks[0].draws), tasks[0].seeds)
        candidate = self.tuned.plan.candidates(problem, optimizer)[name]
        choice = self.tuned.choice(problem, optimizer, candidate)
        settings = (choice.setting, *choice.rivals)
        values = [self._at(problem, optimizer, candidate.method, setting, task) for setting in settings]
        return Retuned(np.stack(values)[:, :, None], choice.draws, choice.seeds)

    def _at(self, problem: str, optimizer: str, method: str, setting: Mapping[str, float], task: int) -> np.ndarray:
        key = (problem, optimizer, method, *(setting[knob] for knob in KNOBS))
        return self.losses.xs(key, level=tuple(RUN))[task].sort_index().to_numpy(np.float64)

    def difference(
        self, problem: str, optimizer: str, first: str, second: str, task: int = MEAN, *, beside: bool = False
    ) -> Estimate:
        """Interval of the difference of log losses, with a tuning part; `beside` puts AdaTask at a rate next to it."""
        ours, theirs = (self.retuned(problem, optimizer, name, task) for name in (first, second))
        part: TuningPart | None = tuning_part(ours, theirs)
        if beside:
            candidate = self.tuned.plan.candidates(problem, optimizer)[first]
            setting = self.tuned.beside(problem, optimizer, candidate)
            values = self._at(problem, optimizer, candidate.method, setting, task)[None, :, None]
            ours, part = replace(ours, values=values), None
        return estimate((ours.values[0] - theirs.values[0])[:, 0], tuning=part)


def log_losses(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Logarithms of the tasks' losses and, as task 0, their mean; NaN where a run diverged.

    Args:
        table: Cells of `study.train_cell`.
        metric: "validation loss" or "test loss".

    Returns:
        Index: `RUN` and seed; one column per task and `MEAN`.
    """
    rows = table[table["metric"] == metric]
    rows = rows.assign(log=np.log(rows["value"].where(np.isfinite(rows["value"]))))
    wide = rows.pivot(index=[*RUN, "seed"], columns="task", values="log")
    wide[MEAN] = wide.mean(axis=1, skipna=False)
    return wide
