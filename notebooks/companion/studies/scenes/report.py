"""Tables of the scene study: tuned settings, Delta_m against the single tasks, paired intervals, dominance by layer.

A method with one optimizer at one weight of the second task's loss is a setting, such as ("Adam", "joint", 10.0).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from companion.claims.statistics import Interval, paired_interval
from companion.metrics.scene_tables import ALONE, GROUP
from companion.metrics.scenes import LOSSES

Setting = tuple[str, str, float]  # optimizer, method, spread


def criterion(tuning: pd.DataFrame) -> pd.DataFrame:
    """What tuning minimises: the mean of the tasks' log validation losses; a single task's is its own.

    Returns:
        One row per group, rate and seed: `loss`, NaN where the run failed.
    """
    rows = tuning[(tuning["fold"] == "validation") & tuning["metric"].isin(LOSSES)]
    own = rows["method"].map({method: LOSSES[task] for method, task in ALONE.items()})
    rows = rows[own.isna() | (own == rows["metric"])]
    rows = rows.assign(loss=np.log(rows["value"].where(rows["value"] > 0)))
    return rows.groupby([*GROUP, "rate", "seed"])["loss"].agg(lambda logs: logs.mean(skipna=False)).reset_index()


def best_rates(tuning: pd.DataFrame) -> pd.DataFrame:
    """Choose each setting's learning rate by the mean criterion over the tuning seeds; a failed run rules a rate out.

    Returns:
        One row per group: `rate`, `loss`, and `edge`, whether the rate lies at an edge of its grid.
    """
    means = criterion(tuning).groupby([*GROUP, "rate"])["loss"].agg(lambda losses: losses.mean(skipna=False))
    best = means.loc[means.groupby(GROUP).idxmin()].reset_index("rate")
    grid = means.reset_index("rate").groupby(GROUP)["rate"].agg(["min", "max"]).loc[best.index]
    best["edge"] = (best["rate"] == grid["min"]) | (best["rate"] == grid["max"])
    return best.reset_index()


def at(values: pd.DataFrame, setting: Setting, measure: str) -> pd.Series:
    """One measure of one setting, by seed."""
    found: pd.Series = values.xs(setting, level=tuple(GROUP))[measure].sort_index()
    return found


def interval(values: pd.Series, test_to_train: float) -> Interval:
    """The interval of a mean over seeds, corrected for overlapping splits; see `paired_interval`."""
    return paired_interval(values, np.zeros(len(values)), test_to_train=test_to_train)


def difference(
    values: pd.DataFrame, first: Setting, second: Setting, measure: str, test_to_train: float, *, logs: bool = False
) -> Interval:
    """The paired interval of `first` minus `second` over seeds, corrected for overlapping splits.

    Args:
        values: Of `with_delta_m`.
        first: One setting.
        second: The other.
        measure: Column that is compared.
        test_to_train: See `paired_interval`.
        logs: Whether logarithms are compared, for losses.
    """
    pair = [at(values, setting, measure) for setting in (first, second)]
    if logs:
        pair = [np.log(series) for series in pair]
    return paired_interval(*pair, test_to_train=test_to_train)


def shares(final: pd.DataFrame) -> pd.DataFrame:
    """Measures of dominance at the end of training: index group and seed, columns metric and layer, 0 being all."""
    rows = final[(final["fold"] == "training") & (final["epoch"] == 0)]
    return rows.pivot(index=[*GROUP, "seed"], columns=["metric", "layer"], values="value").sort_index()


def by_layer(
    found: pd.DataFrame, settings: Mapping[str, Setting], metric: str, names: Sequence[str], test_to_train: float
) -> pd.DataFrame:
    """A measure of dominance by layer with intervals.

    Returns:
        One row per label and layer: `mean`, `low`, `high`, `count`.
    """
    rows = []
    for label, setting in settings.items():
        wide = found.xs(setting, level=tuple(GROUP))[metric].sort_index()
        for layer, name in enumerate(names, start=1):
            measured = interval(wide[layer], test_to_train)
            rows.append({"label": label, "layer": layer, "name": name, **vars(measured)})
    return pd.DataFrame(rows)


def curves(final: pd.DataFrame, settings: Mapping[str, Setting]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How the validation losses went, and where they were best.

    Returns:
        Rows with label, metric, epoch and the mean `value` over seeds; rows with label, metric, seed, and `epoch` and
        `value` of the run's best epoch. A single task has its own loss alone.
    """
    rows = final[(final["fold"] == "validation") & final["metric"].isin(LOSSES)].set_index(GROUP)
    bests = final[final["metric"] == "best epoch"].set_index(GROUP)
    lines, marks = [], []
    for label, setting in settings.items():
        own = rows.loc[[setting]]
        if setting[1] in ALONE:
            own = own[own["metric"] == LOSSES[ALONE[setting[1]]]]
        means = own[own["epoch"] > 0].groupby(["metric", "epoch"])["value"].mean().reset_index()
        lines.append(means.assign(label=label))
        at_best = own.loc[own["epoch"] == 0, ["metric", "seed", "value"]]
        epochs = bests.loc[[setting]][["seed", "value"]].rename(columns={"value": "epoch"})
        marks.append(at_best.merge(epochs, on="seed").assign(label=label))
    return pd.concat(lines, ignore_index=True), pd.concat(marks, ignore_index=True)
