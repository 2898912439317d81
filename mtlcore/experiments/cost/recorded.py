"""Quality of every method relative to single-task training, from the stored runs of the other notebooks' full profiles.

Stored runs may be those of an earlier version. So a run counts only where it gives the number that its notebook has
published in figures/full/: every published difference of the study has to come out of the stored runs again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd

from mtlcore import paths
from mtlcore.experiments.cost.steps import ONE_PASS
from mtlcore.experiments.cost.studies import Study
from mtlcore.experiments.scenes.report import scores, with_delta_m
from mtlcore.experiments.scenes.study import ALONE
from mtlcore.figures import read_manifest, read_numbers
from mtlcore.results import Results
from mtlcore.statistics import paired_interval

TABLES = ("10_quality", "10_price")  # the committed figures whose CSVs keep what `quality` gives
PAPERS = ("HydaLearn", "AdaTask-Adam")
COLUMNS = ("notebook", "study", "method", "reference", "mean", "low", "high", "count", "settings", "recorded seconds")
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
    """Read a study's cells, final and tuning, from a folder of results."""
    cells = []
    for path in sorted(folder.glob("*.json")):
        identity = json.loads(path.read_bytes())["identity"]
        configuration: dict[str, Any] = identity["configuration"]
        held = all(configuration.get(name) == value for name, value in study.configuration.items())
        if identity["compute"] in study.compute and held and not set(study.lacks) & set(configuration):
            compute = resolve_name(identity["compute"])
            table = Results(folder, identity["code"]).cell(configuration, compute)
            cells.append(Cell(configuration, identity["code"], table))
    return cells


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
    """Delta_m of each method against the single tasks, whose own is 0."""
    if not final:
        return []
    names = ("optimizer", "method")
    runs = pd.concat([cell.table.assign(**{name: cell.configuration[name] for name in names}) for cell in final])
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


def published(study: Study) -> dict[str, float]:
    """Read from figures/full/ the published mean differences `study.first` minus each other method."""
    rows = read_numbers(paths.COMMITTED_FIGURES, study.stem)
    for column, value in study.rows.items():
        rows = rows[rows[column] == value]
    means = rows.set_index(study.column)["mean"]
    sign = -1.0 if study.reversed else 1.0
    names = NAMES if study.kind != "main task" else {}
    every = {names.get(str(name), str(name)): sign * float(mean) for name, mean in means.items()}
    return {method: mean for method, mean in every.items() if method in study.methods and method != study.first}


def published_runs(study: Study, found: Sequence[Candidate]) -> dict[str, Candidate] | None:
    """Choose for every published method the candidate that gives its number, or None where one has none.

    Args:
        study: The study.
        found: Of `candidates`.
    """
    expected = published(study)
    for first in (c for c in found if c.method == study.first):
        chosen = {study.first: first}
        for candidate in found:
            if candidate.method in expected:
                pair = pd.concat([first.published, candidate.published], axis=1, join="inner").dropna()
                mean = float((pair.iloc[:, 0] - pair.iloc[:, 1]).mean())
                if abs(mean - expected[candidate.method]) < 1e-7:
                    chosen.setdefault(candidate.method, candidate)
        if set(expected) <= set(chosen):
            return chosen | {c.method: c for c in found if c.method == "single tasks"}
    return None


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


def quality(study: Study, folder: Path) -> pd.DataFrame | None:
    """Compute every method's paired difference to single-task training, and that of the papers' to one-pass methods.

    Args:
        study: The study.
        folder: Of stored results.

    Returns:
        One row per method and `reference`: mean, low, high and count of the difference of log losses (of Delta_m for
        the scenes), below 0 where the method is better; the `settings` it was tuned over and the `recorded seconds` of
        a training, whatever else the machine did then. None where the folder lacks the published runs.
    """
    cells = stored_cells(folder, study)
    chosen = published_runs(study, candidates(study, cells))
    if chosen is None:
        return None
    rows = []
    for method, reference in _pairs(study, chosen):
        run = chosen[method]
        pair = pd.concat([run.loss, chosen[reference].loss], axis=1, join="inner").dropna()
        interval = paired_interval(pair.iloc[:, 0], pair.iloc[:, 1], test_to_train=study.test_to_train)
        names = {"notebook": study.notebook, "study": study.name, "method": method, "reference": reference}
        tuned = settings(study, cells, method, run.code)
        rows.append({**names, **vars(interval), "settings": tuned, "recorded seconds": run.seconds})
    return pd.DataFrame(rows)


def _pairs(study: Study, chosen: Mapping[str, Candidate]) -> list[tuple[str, str]]:
    """Every method with single-task training, and the papers' methods with those of one backward pass."""
    found = [method for method in study.methods if method in chosen]
    ours = [method for method in found if method in PAPERS]
    single = "single task" if study.kind == "main task" else "single tasks"
    cheap = [method for method in found if method in ONE_PASS and method != single]
    return [*((method, single) for method in found), *((method, other) for method in ours for other in cheap)]


def gather(studies: Sequence[Study], folder: Path | None) -> tuple[pd.DataFrame, list[str]]:
    """Collect the quality of several studies: from a folder's stored runs, else from the committed table.

    Args:
        studies: Which.
        folder: Of stored results; None reads the committed table alone.

    Returns:
        The rows of `quality`, and the names of the studies whose runs were read from the folder.

    Raises:
        ValueError: A study is in neither.
    """
    made = read_manifest(paths.COMMITTED_FIGURES)
    kept = [read_numbers(paths.COMMITTED_FIGURES, stem) for stem in TABLES if stem in made]
    committed = pd.concat([pd.DataFrame(columns=list(COLUMNS)), *(table.reindex(columns=list(COLUMNS)) for table in kept)])
    tables, read = [], []
    for study in studies:
        table = None if folder is None else quality(study, folder)
        if table is not None:
            read.append(study.name)
        else:
            table = committed[committed["study"] == study.name]
        if table.empty:
            raise ValueError(
                f"The full profile of notebook {study.notebook} should have been run in this checkout. Found no stored "
                f"runs that give its published numbers. Run make full NOTEBOOK={study.notebook[:2]} first."
            )
        tables.append(table)
    return pd.concat(tables, ignore_index=True).infer_objects(), read
