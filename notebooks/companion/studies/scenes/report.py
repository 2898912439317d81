"""Tables of the scene study: tuned settings, Delta_m against the single tasks, paired intervals, dominance by layer.

A method with one optimizer at one weight of the second task's loss is a setting, such as ("Adam", "joint", 10.0).
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from companion.claims.statistics import Interval, Retuned, paired_interval
from companion.metrics.scene_tables import ALONE, GROUP, SINGLES, scores, with_delta_m
from companion.metrics.scenes import LOSSES
from companion.train.choice import Choice, choose

FLAT = "Delta_m, flat"
RIVALS = 2  # rates, or weights and rates, at most, that are trained beside a chosen one
Setting = tuple[str, str, float]  # optimizer, method, spread


def name(setting: Setting) -> str:
    """How tables and figures call a setting."""
    _, method, spread = setting
    return f"joint 1:{spread:g}" if method == "joint" else method


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


def choose_rates(tuning: pd.DataFrame, decisive: Collection[Setting] = ()) -> dict[Setting, Choice]:
    """Choose each setting's learning rate by the mean criterion over the tuning seeds; a failed run rules a rate out.

    Args:
        tuning: Tidy rows of the tuning runs.
        decisive: The settings whose rivals, the rates that tuning does not tell from the best, are wanted too.
    """
    rows = _as_validation_losses(tuning).set_index(GROUP).sort_index()
    settings: list[Setting] = rows.index.unique().tolist()
    return {
        setting: choose(rows.loc[[setting]], name(setting), ("rate",), RIVALS if setting in decisive else 0)
        for setting in settings
    }


def choose_static(tuning: pd.DataFrame, spreads: Collection[float]) -> Choice:
    """Choose the constant weight of joint training, one of `spreads`, together with its learning rate."""
    rows = _as_validation_losses(tuning)
    return choose(rows[(rows["method"] == "joint") & rows["spread"].isin(spreads)], "joint", ("spread", "rate"), RIVALS)


def _as_validation_losses(tuning: pd.DataFrame) -> pd.DataFrame:
    return criterion(tuning).rename(columns={"loss": "value"}).assign(metric="validation loss")


def values_at(runs: pd.DataFrame, rates: Mapping[Setting, float]) -> pd.DataFrame:
    """The test measures and Delta_m, see `with_delta_m`, of every setting in `rates` at its learning rate there."""
    wanted = pd.MultiIndex.from_tuples([(*setting, rate) for setting, rate in rates.items()])
    return with_delta_m(scores(runs[pd.MultiIndex.from_frame(runs[[*GROUP, "rate"]]).isin(wanted)]))


def retuned(
    runs: pd.DataFrame, rates: Mapping[Setting, float], setting: Setting, choice: Choice, measure: str,
    seeds: Sequence[int] | None = None,
) -> Retuned:  # fmt: skip
    """A setting's measure as it was chosen and at the rivals of the choice, all others at their rates.

    Args:
        runs: Final runs, those at the rivals among them.
        rates: Setting -> chosen rate.
        setting: Whose measure; where its choice is of the weight too, that one's.
        choice: Of its rate.
        measure: Which; of losses the logarithm.
        seeds: Of which of the final runs; default: all.
    """
    found = []
    for place in (choice.setting, *choice.rivals):
        where = (*setting[:2], place.get("spread", setting[2]))
        series = at(values_at(runs, {**rates, where: place["rate"]}), where, measure)
        series = series if seeds is None else series.loc[list(seeds)]
        found.append(np.log(series) if measure in LOSSES else series)
    return Retuned(np.stack(found)[..., None], choice.draws, choice.seeds)


def against_singles(
    runs: pd.DataFrame, rates: Mapping[Setting, float], setting: Setting, choices: Mapping[Setting, Choice]
) -> Retuned:
    """What stands for the single tasks in a comparison of Delta_m, `retuned`: 0, and what their rivals make of it.

    Delta_m of all others contains the single tasks: at their rivals (the first one of each, at the same time) it is
    another number.
    """
    own = [(SINGLES, method, 1.0) for method in ALONE]
    rivals = {single: choices[single].rivals[0]["rate"] for single in own if choices[single].rivals}
    worlds = [rates, {**rates, **rivals}] if rivals else [rates]
    found = np.stack([at(values_at(runs, world), setting, FLAT) for world in worlds])
    draws = np.max([choices[single].draws for single in own], axis=0).clip(max=len(worlds))
    return Retuned((found[0] - found)[..., None], draws, choices[own[0]].seeds)


def at(values: pd.DataFrame, setting: Setting, measure: str) -> pd.Series:
    """One measure of one setting, by seed."""
    found: pd.Series = values.xs(setting, level=tuple(GROUP))[measure].sort_index()
    return found


def interval(values: pd.Series, test_to_train: float) -> Interval:
    """The interval of a mean over seeds, corrected for overlapping splits; see `paired_interval`."""
    return paired_interval(values, np.zeros(len(values)), test_to_train=test_to_train)


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
