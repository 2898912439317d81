"""Quality of every method relative to single-task training, computed from the published runs of the other notebooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from companion.claims.statistics import paired_interval
from companion.metrics.scene_tables import ALONE, scores, with_delta_m
from companion.store import paths
from companion.store.published import Cell, read
from companion.studies.cost.steps import ONE_PASS
from companion.studies.cost.studies import PAPERS, Study

TUNING = 1000  # the first seed that no final run has, in all notebooks
# How the studies of all tasks, where each has a network of its own, call the methods.
NAMES = {
    "joint": "equal weights",
    "joint 1:1": "equal weights",
    "single task": "single tasks",
    "AdaTask": "AdaTask-Adam",
}


@dataclass(frozen=True)
class Runs:
    """Final runs of a method at its chosen setting.

    Attributes:
        loss: What quality is computed from, by seed: a log loss, or Delta_m.
        seconds: Of one training.
    """

    loss: pd.Series
    seconds: float


def quality(study: Study) -> pd.DataFrame:
    """Compute every method's paired difference to single-task training, and that of the papers' to one-pass methods.

    Returns:
        One row per method and `reference`: mean, low, high and count of the difference of log losses (of Delta_m for
        the scenes), below 0 where the method is better; the `settings` it was tuned over and the `recorded seconds` of
        a training, whatever else the machine did then.
    """
    cells = [cell for cell in read(paths.COMMITTED_FIGURES, study.notebook) if study.holds(cell)]
    runs = final_runs(study, cells)
    rows = []
    for method, reference in _pairs(study, runs):
        pair = pd.concat([runs[method].loss, runs[reference].loss], axis=1, join="inner").dropna()
        interval = paired_interval(pair.iloc[:, 0], pair.iloc[:, 1], test_to_train=study.test_to_train)
        names = {"notebook": study.notebook, "study": study.name, "method": method, "reference": reference}
        tuned = settings(study, cells, method)
        rows.append({**names, **vars(interval), "settings": tuned, "recorded seconds": runs[method].seconds})
    return pd.DataFrame(rows)


def _pairs(study: Study, runs: Mapping[str, Runs]) -> list[tuple[str, str]]:
    """Every method with single-task training, and the papers' methods with those of one backward pass."""
    found = [method for method in study.methods if method in runs]
    ours = [method for method in found if method in PAPERS]
    cheap = [method for method in found if method in ONE_PASS and method != study.single]
    return [*((method, study.single) for method in found), *((method, other) for method in ours for other in cheap)]


def _tunes(cell: Cell) -> bool:
    return bool(min(cell.configuration["seeds"]) >= TUNING)


def final_runs(study: Study, cells: Sequence[Cell]) -> dict[str, Runs]:
    """The reported runs of a study's methods at one setting each; where tasks have weights, at 1:1."""
    final = [cell for cell in cells if not _tunes(cell)]
    if study.kind == "main task":
        return {cell.configuration["method"]: _main_task(study, cell) for cell in final}
    final = [cell for cell in final if 1.0 in cell.configuration["spreads"]]
    if study.kind == "scenes":
        return _scenes(final)
    return {_name(cell): _all_tasks(study, cell) for cell in final}


def _name(cell: Cell) -> str:
    method = str(cell.configuration["method"])
    return NAMES.get(method, method)


def _main_task(study: Study, cell: Cell) -> Runs:
    values = cell.table[cell.table["metric"] == study.metric].set_index("seed")["value"]
    return Runs(np.log(values), _seconds(cell))


def _all_tasks(study: Study, cell: Cell) -> Runs:
    rows = cell.table[cell.table["spread"] == 1.0]
    losses = rows[rows["metric"] == "test loss"]
    networks = study.num_tasks if _name(cell) == "single tasks" else 1
    return Runs(np.log(losses["value"]).groupby(losses["seed"]).mean(), networks * _seconds(cell))


def _scenes(final: Sequence[Cell]) -> dict[str, Runs]:
    """Delta_m of each method against the single tasks, whose own is 0."""
    names = ("optimizer", "method")
    runs = pd.concat([cell.table.assign(**{name: cell.configuration[name] for name in names}) for cell in final])
    values = with_delta_m(scores(runs))["Delta_m, flat"].xs(1.0, level="spread").droplevel("optimizer")
    found = {
        _name(cell): Runs(values.xs(cell.configuration["method"], level="method").sort_index(), _seconds(cell))
        for cell in final
        if cell.configuration["method"] in values.index.get_level_values("method")
    }
    alone = sum(_seconds(cell) for cell in final if cell.configuration["method"] in ALONE)
    nothing = 0.0 * next(iter(found.values())).loss
    return {**found, "single tasks": Runs(nothing, alone)}


def _seconds(cell: Cell) -> float:
    return float(cell.table["seconds"].iloc[0])


def settings(study: Study, cells: Sequence[Cell], method: str) -> int:
    """Count the settings, rates times scales, among which a method's was chosen.

    A method is tuned in one cell; smaller ones on tuning seeds are of ablations.
    """
    tried: dict[str, set[tuple[float, float]]] = {}
    own = "scale" if study.kind == "main task" else "spread"
    for cell in (cell for cell in cells if _tunes(cell)):
        said = str(cell.configuration["method"])
        name = "single tasks" if said in ALONE else said if study.kind == "main task" else NAMES.get(said, said)
        pairs = set(cell.table[[own, "rate"]].drop_duplicates().itertuples(index=False, name=None))
        pairs = {pair for pair in pairs if own == "scale" or pair[0] == 1.0}
        if name == method and len(pairs) > len(tried.get(said, ())):
            tried[said] = pairs
    return len(set().union(*tried.values()))
