"""What the recommendation study trains: weight decay, dropout and rates chosen per method, then the fresh runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from companion.store.results import Results
from companion.studies.recommendation.shares import follow_grid
from companion.studies.recommendation.sparse import sparse_grid
from companion.studies.recommendation.study import ALONE, DRAWN, PARTS, train_grid, tune_grid
from companion.train.choice import choose
from companion.train.method_comparison import Comparison, compare, joined

REGULARISED = ("equal weights", "AdaTask")  # and the single tasks; the others take the strengths of equal weights


@dataclass(frozen=True)
class Plan:
    """Everything that decides which runs there are.

    Attributes:
        base: What all cells share, see `study.train_grid`.
        tasks: Names of the tasks.
        rates: Learning rates to choose from.
        scales: Weights of the last task's loss that "static weights" may choose, the first's being 1.
        decays: Weight decays to choose from.
        dropouts: Shares of dropped units to choose from.
        others: Baselines, which take the weight decay and dropout of equal weights and are tuned on `few`.
        few: The first tuning seeds, which choose weight decay and dropout, at all rates but the least and the greatest.
        tuning_seeds: Seeds that choose rates and scales.
        seeds: Fresh ones.
    """

    base: Mapping[str, Any]
    tasks: Sequence[str]
    rates: Sequence[float]
    scales: Sequence[float]
    decays: Sequence[float]
    dropouts: Sequence[float]
    others: Sequence[str]
    few: Sequence[int]
    tuning_seeds: Sequence[int]
    seeds: Sequence[int]

    @property
    def alone(self) -> list[str]:
        """The single tasks, each a method of its own."""
        return [task + ALONE for task in self.tasks]

    def cell(self, method: str, **knobs: Sequence[float]) -> dict[str, Any]:
        """A configuration; knobs that are not given have one value that changes nothing."""
        return {**self.base, "method": method, "scales": [1.0], "decays": [0.0], "dropouts": [0.0], **knobs}


def sizes(
    results: Results, plan: Plan, strengths: Mapping[str, float], varied: Mapping[str, Sequence[Any]]
) -> pd.DataFrame:
    """Train equal weights at other sizes, one changed at a time.

    Args:
        results: Where finished cells are.
        plan: What the others are.
        strengths: Weight decay and dropout.
        varied: Name in the configuration -> its values.

    Returns:
        Validation AUC by `size` (its name), `value` and tuning seed, at the better of two rates.
    """
    rows = []
    for name, values in varied.items():
        for value in values:
            knobs = {"decays": [strengths["decay"]], "dropouts": [strengths["dropout"]], "rates": plan.rates[1:3]}
            runs = results.cells([{**plan.cell("equal weights", **knobs, seeds=plan.few), name: value}], tune_grid)
            best = runs[runs["rate"] == choose(runs, "equal weights", ["rate"]).rate]
            found = best[best["metric"] == "validation AUC"][["seed", "value"]].rename(columns={"value": "AUC"})
            rows.append(found.assign(size=name, value=value[0] if isinstance(value, list) else value))
    return pd.concat(rows, ignore_index=True)


def regularise(results: Results, plan: Plan, method: str) -> tuple[dict[str, float], pd.DataFrame]:
    """Choose weight decay without dropout, then dropout at that decay; give both and the tuning runs."""
    strengths, tables = {"decay": 0.0, "dropout": 0.0}, []
    for knob, tried in (("decay", plan.decays), ("dropout", plan.dropouts)):
        knobs = {"decays": [strengths["decay"]], "dropouts": [strengths["dropout"]], f"{knob}s": list(tried)}
        runs = results.cells([plan.cell(method, rates=plan.rates[1:-1], seeds=plan.few, **knobs)], tune_grid)
        strengths[knob] = choose(runs, method, ("rate", knob)).setting[knob]
        tables.append(runs.assign(knob=knob))
    return strengths, pd.concat(tables, ignore_index=True)


def compare_all(results: Results, plan: Plan) -> tuple[Comparison, dict[str, dict[str, float]], pd.DataFrame]:
    """Tune every method and train it on the fresh seeds; give the strengths of regularisation and their runs too."""
    own = {method: regularise(results, plan, method) for method in (*plan.alone, *REGULARISED)}
    strengths = {method: found for method, (found, _) in own.items()}
    parts = []
    for method in (*plan.alone, *REGULARISED, "static weights", *plan.others):
        primary = method not in plan.others
        strengths.setdefault(method, strengths["equal weights"])
        knobs = {name: [value] for name, value in strengths[method].items()}
        part = compare(
            results, plan.base, [method], rates=plan.rates, scales=plan.scales if method == "static weights" else [1.0],
            tuning_seeds=plan.tuning_seeds if primary else plan.few, seeds=plan.seeds, tune=tune_grid,
            train=train_grid, rivals=int(primary), knobs={method: knobs},
        )  # fmt: skip
        parts.append(part)
    screened = pd.concat([runs for _, runs in own.values()], ignore_index=True)
    return joined(parts), strengths, screened


def at_gap(results: Results, plan: Plan, found: Comparison, spreads: Sequence[float]) -> pd.DataFrame:
    """Train at other weights of the last task's loss: joint training at its own rate, AdaTask, which erases them.

    Returns:
        Tidy rows of one run per fresh split, with the setting's `scale`.
    """
    rows = []
    for spread in spreads:
        for method in ("static weights", "AdaTask"):
            setting = dict(found.chosen["AdaTask" if method == "AdaTask" else "equal weights"].setting)
            knobs = {"scales": [spread], "decays": [setting["decay"]], "dropouts": [setting["dropout"]]}
            rate = setting["rate"]
            if method == "static weights":
                runs = results.cells([plan.cell(method, rates=plan.rates, seeds=plan.few, **knobs)], tune_grid)
                rate = choose(runs, method).rate
            cell = plan.cell(method, rates=[rate], seeds=plan.seeds, **knobs)
            rows.append(results.cells([{**cell, "inits": 1}], train_grid))
    return pd.concat(rows, ignore_index=True)


def follow(
    results: Results, plan: Plan, gap: pd.DataFrame, found: Comparison, spread: float, task: str
) -> pd.DataFrame:
    """Follow who moves which table and layer, in one run per fresh split at the chosen settings.

    Args:
        results: Where finished cells are.
        plan: What there is.
        gap: Of `at_gap`.
        found: Of `compare_all`.
        spread: Weight of the last task's loss in training that is mis-scaled.
        task: Which is trained against itself, for the null levels.
    """
    fair, ours = dict(found.chosen["equal weights"].setting), dict(found.chosen["AdaTask"].setting)
    (rate,) = set(gap[(gap["method"] == "static weights") & (gap["scale"] == spread)]["rate"])
    # Units are dropped from whole batches, so not where their parts are tasks.
    settings = [
        ("equal weights", fair),
        ("AdaTask", ours),
        (task + PARTS, {**fair, "dropout": 0.0}),
        (task + DRAWN, fair),
    ]
    settings += [("static weights", {**fair, "scale": spread, "rate": rate}), ("AdaTask", {**ours, "scale": spread})]
    cells = [
        {**plan.cell(method, seeds=plan.seeds, **{f"{name}s": [v] for name, v in setting.items()}), "inits": 1}
        for method, setting in settings
    ]
    return results.cells(cells, follow_grid)


def sparse(results: Results, plan: Plan, rates: Sequence[float]) -> pd.DataFrame:
    """Tune and train both methods with sparse tables, and with dense ones without weight decay and dropout too.

    Returns:
        Tidy rows of one run per fresh split, `tables` "sparse" or "dense".
    """
    rows = []
    for method in ("joint", "AdaTask"):
        cell = {**plan.base, "method": method, "inits": 1}
        tuned = results.cells([{**cell, "rates": list(rates), "seeds": plan.few, "test": False}], sparse_grid)
        rate = choose(tuned, method, ["rate"]).rate
        fresh = results.cells([{**cell, "rates": [rate], "seeds": plan.seeds, "test": True}], sparse_grid)
        rows.append(fresh.assign(tables="sparse"))
        dense = plan.cell("equal weights" if method == "joint" else method, rates=list(rates), seeds=plan.few)
        rate = choose(results.cells([dense], tune_grid), method, ["rate"]).rate
        final = {**dense, "rates": [rate], "seeds": plan.seeds, "inits": 1}
        rows.append(results.cells([final], train_grid).assign(method=method, tables="dense"))
    return pd.concat(rows, ignore_index=True)
