"""The stored runs of the other notebooks' full profiles, read from `build/results/full` and brought to one form."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd

from companion.store.results import Results
from companion.store.writing import shown
from companion.studies.cost.studies import Study
from companion.studies.scenes.report import scores, with_delta_m
from companion.studies.scenes.study import ALONE

TUNING = 1000  # the first seed that no final run has, in all notebooks
# How the studies of all tasks, where each has a network of its own, call the methods.
NAMES = {
    "joint": "equal weights",
    "joint 1:1": "equal weights",
    "single task": "single tasks",
    "AdaTask": "AdaTask-Adam",
}


@dataclass(frozen=True)
class Cell:
    """A stored table with its configuration and the digest of the code that made it."""

    configuration: dict[str, Any]
    code: str
    table: pd.DataFrame

    @property
    def tuning(self) -> bool:
        """Whether its runs chose settings."""
        return bool(min(self.configuration["seeds"]) >= TUNING)


@dataclass(frozen=True)
class Candidate:
    """Runs of a method that may be the published ones, by seed.

    Attributes:
        method: As `steps.METHODS` calls it, or "single tasks".
        code: Digest of the code that ran.
        loss: What quality is computed from: a log loss, or Delta_m.
        published: The measure that the notebook publishes.
        seconds: Of one training.
    """

    method: str
    code: str
    loss: pd.Series
    published: pd.Series
    seconds: float


def stored_cells(folder: Path, study: Study) -> list[Cell]:
    """Read a study's cells, final and tuning, from a folder of results.

    Raises:
        ValueError: A stored file is damaged.
    """
    cells = []
    for path in sorted(folder.glob("[!.]*.json")):
        configuration, code, compute = _identity(path)
        held = all(configuration.get(name) == value for name, value in study.configuration.items())
        if compute in study.compute and held and not set(study.lacks) & set(configuration):
            table = Results(folder, code).cell(configuration, resolve_name(compute))
            cells.append(Cell(configuration, code, table))
    return cells


def _identity(path: Path) -> tuple[dict[str, Any], str, str]:
    """The configuration, the code and the function of a stored cell."""
    try:
        identity = json.loads(path.read_bytes())["identity"]
        return identity["configuration"], identity["code"], identity["compute"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"File {shown(path)} should hold what was stored there. Found it changed since. Delete it: make full "
            "computes that cell again."
        ) from None


def candidates(study: Study, cells: Sequence[Cell]) -> list[Candidate]:
    """Find the final runs of a study's methods at one setting each; where tasks have weights, at 1:1."""
    final = [cell for cell in cells if not cell.tuning]
    if study.kind == "main task":
        return [_main_task(study, cell) for cell in final if len(cell.table["rate"].unique()) == 1]
    final = [cell for cell in final if 1.0 in cell.configuration["spreads"]]
    return _scenes(final) if study.kind == "scenes" else [_all_tasks(study, cell) for cell in final]


def _main_task(study: Study, cell: Cell) -> Candidate:
    values = cell.table[cell.table["metric"] == study.metric].set_index("seed")["value"]
    logs = np.log(values)
    published = logs if study.metric == "test loss" else values  # notebook 02 publishes relative differences
    return Candidate(cell.configuration["method"], cell.code, logs, published, _seconds(cell))


def _all_tasks(study: Study, cell: Cell) -> Candidate:
    rows = cell.table[cell.table["spread"] == 1.0]
    losses = rows[rows["metric"] == "test loss"]
    logs = np.log(losses["value"]).groupby(losses["seed"]).mean()
    other = rows[rows["metric"] == study.metric]
    published = logs if study.metric == "test loss" else other.groupby("seed")["value"].mean()
    method = cell.configuration["method"]
    networks = study.num_tasks if method == "single task" else 1
    return Candidate(NAMES.get(method, method), cell.code, logs, published, networks * _seconds(cell))


def _scenes(final: Sequence[Cell]) -> list[Candidate]:
    """Delta_m of each method against the single tasks of the same code, whose own is 0."""
    codes = dict.fromkeys(cell.code for cell in final)
    return [found for code in codes for found in _delta_m([cell for cell in final if cell.code == code])]


def _delta_m(final: Sequence[Cell]) -> list[Candidate]:
    """The same for cells of one code; none where a single task is missing or a setting is there twice."""
    names = ("optimizer", "method")
    runs = pd.concat([cell.table.assign(**{name: cell.configuration[name] for name in names}) for cell in final])
    twice = runs.drop(columns=["rate", "value", "seconds"]).duplicated().any()
    if twice or not set(ALONE) <= set(runs["method"]):
        return []
    values = with_delta_m(scores(runs))["Delta_m, flat"].xs(1.0, level="spread").droplevel("optimizer")
    found = []
    for cell in final:
        method = cell.configuration["method"]
        if method in values.index.get_level_values("method"):
            delta = values.xs(method, level="method").sort_index()
            found.append(Candidate(NAMES.get(method, method), cell.code, delta, delta, _seconds(cell)))
    alone = sum(_seconds(cell) for cell in final if cell.configuration["method"] in ALONE)
    nothing = 0.0 * found[0].loss
    return [*found, Candidate("single tasks", final[0].code, nothing, nothing, alone)]


def _seconds(cell: Cell) -> float:
    return float(cell.table["seconds"].iloc[0])


def settings(study: Study, cells: Sequence[Cell], method: str, code: str) -> int:
    """Count the settings, rates times scales, among which a method's was chosen."""
    seen = set()
    for cell in cells:
        name = cell.configuration["method"]
        name = "single tasks" if name in ALONE else name if study.kind == "main task" else NAMES.get(name, name)
        if cell.tuning and name == method and cell.code == code:
            own = "scale" if study.kind == "main task" else "spread"
            pairs = cell.table[[own, "rate"]].drop_duplicates().itertuples(index=False, name=None)
            seen |= {pair for pair in pairs if own == "scale" or pair[0] == 1.0}
    return len(seen)
