"""Quality of every method relative to single-task training, from stored runs that give the published numbers again.

Stored runs may be those of an earlier version. So a run counts only where it gives the number that its notebook has
published in figures/full/: every published difference of the study has to come out of the stored runs again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from companion.claims.statistics import paired_interval
from companion.plots.figures import read_manifest, read_numbers
from companion.store import paths
from companion.studies.cost.recorded import NAMES, Candidate, candidates, settings, stored_cells
from companion.studies.cost.steps import ONE_PASS
from companion.studies.cost.studies import PAPERS, Study

TABLES = ("10_quality", "10_price")  # the committed figures whose CSVs keep what `quality` gives
COLUMNS = ("notebook", "study", "method", "reference", "mean", "low", "high", "count", "settings", "recorded seconds")


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
        chosen |= {c.method: c for c in found if c.method == "single tasks" and c.code == first.code}
        if {*expected, study.single} <= set(chosen):
            return chosen
    return None


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
    cheap = [method for method in found if method in ONE_PASS and method != study.single]
    return [*((method, study.single) for method in found), *((method, other) for method in ours for other in cheap)]


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
    committed = pd.concat(
        [pd.DataFrame(columns=list(COLUMNS)), *(table.reindex(columns=list(COLUMNS)) for table in kept)]
    )
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
