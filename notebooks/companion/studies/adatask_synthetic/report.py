"""Tables and intervals of the synthetic study of AdaTask: dominance above its null level, losses, and the claims."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from companion.claims.statistics import Interval, estimate
from companion.studies.adatask_synthetic.comparison import MAIN, MEAN, RUN, Compared, Tuned
from companion.studies.adatask_synthetic.study import NULLS
from companion.train.layer_shares import NUM_BINS
from companion.train.spread_comparison import Setting, at

NULL = "null level"
REFERENCES = ("equal weights", "tuned static")  # of the primary rows
Comparisons = dict[str, Interval]


def dominated(
    shares: pd.DataFrame, problem: str, optimizer: str, setting: Setting, what: str = "updates"
) -> pd.DataFrame:
    """Share of dominated parameters by seed and layer, averaged over training; 0 is the whole trunk.

    Args:
        shares: Of `layer_measures`.
        problem: Name of the problem.
        optimizer: Name of the optimizer.
        setting: A method and a spread; the method `NULL` is the mean of both tasks, each against itself.
        what: "updates" or "gradients".
    """
    method, spread = setting
    values = shares[f"dominated, {what}, mean"]
    methods = list(NULLS) if method == NULL else [method]
    parts = [at(values, problem, optimizer, (name, spread)) for name in methods]
    return sum(parts[1:], parts[0]) / len(parts)


def excess(shares: pd.DataFrame, problem: str, optimizer: str, spread: float) -> pd.DataFrame:
    """Joint training's dominated share above the null level, by seed and layer."""
    joint, null = (dominated(shares, problem, optimizer, (name, spread)) for name in ("joint", NULL))
    return joint - null


def mean_with_interval(values: pd.Series) -> dict[str, float]:
    """Mean over seeds of a share with its 95 % interval, which ends at 0 and 1."""
    found = estimate(values.to_numpy())
    return {"mean": found.mean, "low": max(found.low, 0.0), "high": min(found.high, 1.0)}


def dominance_table(shares: pd.DataFrame, problems: Sequence[str], spreads: Sequence[float]) -> pd.DataFrame:
    """Dominated share by regime, spread and layer, of joint Adam and of the null level."""
    rows = []
    for problem, spread, method in product(problems, spreads, ("joint", NULL)):
        found = dominated(shares, problem, MAIN, (method, spread))
        for layer in filter(None, found.columns):  # 0 is the whole trunk
            where = {"problem": problem, "spread": spread, "label": method, "layer": layer}
            rows.append(where | mean_with_interval(found[layer]))
    return pd.DataFrame(rows)


def causes_table(
    shares: pd.DataFrame, problem: str, optimizers: Sequence[str], settings: Sequence[Setting]
) -> pd.DataFrame:
    """Dominated share of the trunk by updates and by gradients under each intervention."""
    rows = []
    for optimizer, setting, what in product(optimizers, settings, ("updates", "gradients")):
        found = dominated(shares, problem, optimizer, setting, what)[0]
        where = {"optimizer": optimizer, "label": f"{setting[0]} 1:{setting[1]:g}", "what": what}
        rows.append(where | mean_with_interval(found))
    return pd.DataFrame(rows)


def dominance_evidence(
    shares: pd.DataFrame, problems: Sequence[str], optimizers: Sequence[str], spreads: Sequence[float], gap: float
) -> dict[str, Comparisons]:
    """The comparisons of all rows about dominance; the planted gap is on the first problem, the noise on the last."""
    first, last = problems[0], problems[-1]
    pairs = list(product(problems, optimizers))

    def trunk(problem: str, optimizer: str, method: str, spread: float = 1.0, what: str = "updates") -> pd.Series:
        return dominated(shares, problem, optimizer, (method, spread), what)[0]

    def fall(optimizer: str, what: str) -> pd.Series:
        joint, ours = (trunk(first, optimizer, method, gap, what) for method in ("joint", "AdaTask"))
        return joint - ours

    def balance(problem: str, spread: float) -> dict[str, pd.Series]:
        found = {o: at(shares["last task, updates, mean"], problem, o, ("AdaTask", spread)) for o in optimizers}
        return {f"{o}, layer {n}": rows[n] - 0.5 for o, rows in found.items() for n in filter(None, rows.columns)}

    layers = {
        f"{problem}, 1:{spread:g}": excess(shares, problem, MAIN, spread)
        for problem, spread in product(problems, spreads)
    }
    seeds = {
        "A1-equal": {f"{p}, {o}": excess(shares, p, o, 1.0)[0] for p, o in pairs},
        "A1-layers": {name: rows[max(rows.columns)] - rows[1] for name, rows in layers.items()},
        "A1-dominated": {o: trunk(first, o, "joint", gap) - trunk(first, o, "joint") for o in optimizers},
        "A2-rms": {f"{p}, {o}": trunk(p, o, "per-task RMS") - trunk(p, o, "AdaTask") for p, o in pairs},
        "A2-separate": {o: fall(o, "updates") - fall(o, "gradients") for o in optimizers},
        "A2-balance": {o: trunk(first, o, "joint", gap) - trunk(first, o, "constant weights", gap) for o in optimizers},
        "A3-scale": balance(first, gap),
        "A3-noise": balance(last, 1.0),
    }
    return {claim: {name: estimate(v.to_numpy()) for name, v in rows.items()} for claim, rows in seeds.items()}


def loss_evidence(compared: Compared, problems: Sequence[str], noisy: str, positive: str) -> dict[str, Comparisons]:
    """The comparisons of all rows about losses but that of the planted gap."""
    plan = compared.tuned.plan

    def against(names: Sequence[str], several: Sequence[str] = problems, task: int = MEAN) -> Comparisons:
        pairs = product(several, names)
        return {f"{p}, {name}": compared.difference(p, MAIN, "AdaTask", name, task) for p, name in pairs}

    others = [(p, o) for p, o in plan.pairs() if o != MAIN]
    return {
        "A4-noise": against(REFERENCES, [noisy], task=1),
        "A4-average": against(REFERENCES),
        "A4-single": against(["single tasks"]),
        "A4-rms": against(["per-task RMS"]),
        "A4-weightings": against(plan.weightings),
        "A4-positive": {positive: compared.difference(positive, MAIN, "equal weights", "single tasks")},
        "A5-optimizers": {f"{p}, {o}": compared.difference(p, o, "AdaTask", "equal weights") for p, o in others},
    }


def gap_evidence(tuned: Tuned, sweep: pd.DataFrame, planted: pd.DataFrame, problem: str, gap: float) -> Comparisons:
    """The dominated task under a planted gap: AdaTask there minus joint training there, each at its own rate.

    Args:
        tuned: Gives the rates.
        sweep: Of `Tuned.sweep`, of the problem.
        planted: Log test losses of the runs of `Tuned.follow_gap`.
        problem: Where the gap is planted.
        gap: Weight of the last task's loss.
    """
    rate = tuned.plain(problem, MAIN, "joint", gap)
    joint = sweep.xs((problem, MAIN, "joint", 0.0, gap, rate), level=tuple(RUN))[1]
    ours = planted.xs((problem, MAIN, "AdaTask", 0.0, gap), level=tuple(RUN[:-1])).droplevel("rate")[1]
    return {MAIN: estimate((ours - joint).to_numpy())}


def regimes_table(compared: Compared, problems: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """AdaTask minus every reference in every regime, at its tuned rate and at the one beside it."""
    rows = []
    for problem, name, beside in product(problems, references, (False, True)):
        found = compared.difference(problem, MAIN, "AdaTask", name, beside=beside)
        rows.append({"problem": problem, "reference": name, "beside": beside, **vars(found)})
    return pd.DataFrame(rows)


def sweep_table(compared: Compared, sweeps: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean log test loss over the tuned single tasks', by regime, method, spread and rate, and which rate was tuned."""
    rows = []
    for problem, losses in sweeps.items():
        tuned = compared.tuned
        single = compared.retuned(problem, MAIN, "single tasks", MEAN).values[0, :, 0]
        settings: Any = losses[MEAN].groupby(["method", "spread", "rate"])
        for (method, spread, rate), runs in settings:
            found = estimate(runs.to_numpy() - single[: len(runs)]) if np.isfinite(runs).all() else None
            limits = {name: getattr(found, name, np.inf) for name in ("mean", "low", "high")}
            where = {"problem": problem, "method": method, "spread": spread, "rate": rate}
            rows.append(where | limits | {"tuned": rate == tuned.plain(problem, MAIN, method, spread)})
    return pd.DataFrame(rows)


def prediction(shares: pd.DataFrame) -> pd.DataFrame:
    """Set the measured rAU of the last task against the one predicted for Adam.

    Args:
        shares: Rows of `layer_measures`, one per seed.

    Returns:
        One row per layer and bin of the prediction: its centre `predicted`, the `share` of parameters in it and their
        `measured` rAU. Seeds count by their parameters in the bin; NaN where there is none.
    """
    tables = []
    for number in range(NUM_BINS):
        inside, mean = shares[f"predicted rAU, bin {number}"], shares[f"rAU where predicted in bin {number}"]
        total = pd.DataFrame(inside).sum(axis=0)
        measured = pd.DataFrame(inside * mean.fillna(0.0)).sum(axis=0) / total.where(total > 0)
        predicted = (number + 0.5) / NUM_BINS
        tables.append(pd.DataFrame({"predicted": predicted, "share": inside.mean(), "measured": measured}))
    return pd.concat(tables).rename_axis("layer").reset_index()


def settings_table(tuned: Tuned) -> pd.DataFrame:
    """What every method chose: weight, decay, rate as a power of 2, and how many bootstrap samples chose the same."""
    rows = []
    for problem, optimizer in tuned.plan.pairs():
        for name, candidate in tuned.plan.candidates(problem, optimizer).items():
            choice = tuned.choice(problem, optimizer, candidate)
            same = float((choice.draws == 0).mean())
            setting = {"weight": choice.setting["spread"], "decay": choice.setting["decay"]}
            rate = int(np.log2(choice.rate))
            rows.append(
                {"problem": problem, "optimizer": optimizer, "method": name, **setting, "rate": rate, "same": same}
            )
    return pd.DataFrame(rows)
