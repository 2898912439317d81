"""The cells of a notebook: read from its published runs, or computed, and kept while a long run goes on.

A cell is a function's tidy table for one configuration: names -> numbers, text or lists of them, all that decides it.

- profile `published`: cells come from `figures/full/NN_runs.*` and nothing is computed;
- `fast`: every cell is computed and none is kept, for a check that reads what an earlier run stored checks nothing;
- `full`: finished cells are kept in `build/results/NN/`, so that a run that is stopped goes on; at the end of the
  notebook `Results.publish` writes those that it used.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from companion.store import paths, published, tidy
from companion.store.code import code_digest
from companion.store.published import Cell, Configuration, key, with_single_values
from companion.store.writing import lock, write

Compute = Callable[[Configuration], pd.DataFrame]


class Results:
    """The cells of one run of a notebook.

    Example:
        >>> def squares(configuration):
        ...     return pd.DataFrame({"run": [0], "metric": ["square"], "value": [configuration["side"] ** 2.0]})
        >>> Results("02_example", "fast").cells([{"side": 2}, {"side": 3}], squares)
           side  run  metric  value
        0     2    0  square    4.0
        1     3    0  square    9.0

    Args:
        notebook: Its file stem.
        profile: `"published"`, `"fast"` or `"full"`.

    Raises:
        ValueError: Published runs are asked for and missing or damaged.
    """

    def __init__(self, notebook: str, profile: str) -> None:
        """Read the published runs where they are asked for."""
        self.notebook, self.profile = notebook, profile
        self.folder = paths.BUILD / "results" / notebook.split("_")[0]
        self._published: dict[str, pd.DataFrame] | None = None  # by name, where they were read
        self._used: dict[str, Cell] = {}
        if profile == "published":
            self._published = _published(notebook)

    def cell(self, configuration: Configuration, compute: Compute, elsewhere: bool = False) -> pd.DataFrame:
        """Give the table of one configuration.

        Args:
            configuration: All that decides the table: names -> None, truth values, numbers, text or lists of these.
            compute: Gives a tidy table (see `tidy.checked`) for the configuration. Should it fail, nothing is stored.
            elsewhere: It was computed on a machine that is not at hand: a full run takes the published table, too.

        Raises:
            ValueError: The configuration holds other things, the table is not tidy, a stored file is damaged, or the
                published runs have no such cell.
            OSError: The table cannot be stored; no file has changed.
        """
        configuration = plain(configuration)
        kind = compute.__qualname__
        name = key(kind, configuration)
        if self.profile == "published" or (elsewhere and self.profile == "full"):
            if self._published is None:
                self._published = _published(self.notebook)
            if name not in self._published:
                raise ValueError(_absent(self.notebook, list(self._published), kind, configuration))
            self._used[name] = Cell(kind, configuration, self._published[name])
            return self._published[name].copy()
        if self.profile == "fast":
            return tidy.checked(compute(configuration))
        path = self.folder / f"{_digest(name, code_digest(compute.__module__))}.json.gz"
        table = _load(path, name)
        if table is None:
            table = _store(path, name, tidy.checked(compute(configuration)))
        self._used[name] = Cell(kind, configuration, table)
        return table.copy()

    def cells(self, configurations: Sequence[Configuration], compute: Compute, elsewhere: bool = False) -> pd.DataFrame:
        """Give the tables of many configurations as one, with the configurations' single values as first columns.

        A progress bar appears on a terminal only.

        Raises:
            ValueError: As `cell`, or a table has a column of the name of a configuration's value.
        """
        tables = [
            with_single_values(configuration, self.cell(configuration, compute, elsewhere))
            for configuration in tqdm(configurations, desc="cells", disable=None)
        ]
        return pd.concat(tables, ignore_index=True)

    def publish(self, shown: Callable[[Cell], pd.DataFrame] = lambda cell: cell.table) -> None:
        """After a full run, write the cells that it used beside its figures; other profiles write nothing.

        Args:
            shown: The rows of a cell that a number or figure rests on, where that is not all of them.
        """
        if self.profile == "full":
            cells = [replace(cell, table=shown(cell).reset_index(drop=True)) for cell in self._used.values()]
            published.publish(paths.figures_folder("full"), self.notebook, cells)


def _published(notebook: str) -> dict[str, pd.DataFrame]:
    """The published tables by name."""
    cells = published.read(paths.COMMITTED_FIGURES, notebook)
    return {key(cell.kind, cell.configuration): cell.table for cell in cells}


def _absent(notebook: str, names: Sequence[str], kind: str, configuration: Configuration) -> str:
    """What differs between a configuration and the nearest one of its kind among the names of published cells."""
    others = [dict(json.loads(name)[1]) for name in names if json.loads(name)[0] == kind]
    wanted = {name: value for name, value in configuration.items() if name != "device"}
    differing = [
        {n for n in {*wanted, *other} if n not in wanted or n not in other or wanted[n] != other[n]} for other in others
    ]
    if not differing:
        return f"Published runs of {notebook} should have cells of {kind}. Found none. Run the full profile."
    nearest = min(range(len(others)), key=lambda i: len(differing[i]))
    found = ", ".join(
        f"`{name} = {wanted.get(name)!r}` where they have {others[nearest].get(name)!r}"
        for name in sorted(differing[nearest])
    )
    return (
        f"The published runs of {notebook} should have been made with the parameters at hand. Found {found}. "
        'Take the published value, or train with `profile = "fast"` or `"full"`.'
    )


def plain(configuration: Configuration) -> dict[str, Any]:
    """Copy a configuration as JSON would give it back: tuples become lists.

    Raises:
        ValueError: A value is none of None, truth value, finite number, text, or a list of these.
    """
    for name, value in configuration.items():
        items = value if isinstance(value, list | tuple) else [value]
        if not isinstance(name, str) or not all(type(item) in (type(None), bool, int, float, str) for item in items):
            raise ValueError(
                "A configuration should hold None, truth values, numbers, text or lists of these under names. "
                f"Found {name!r}: {value!r}. Convert it, for example with `.item()` or `.tolist()`."
            )
        if any(isinstance(item, float) and not abs(item) < float("inf") for item in items):
            raise ValueError(
                f"A configuration should hold finite numbers. Found {name!r}: {value!r}. Use None or text."
            )
    copy: dict[str, Any] = json.loads(json.dumps(configuration))
    return {name: copy[name] for name in configuration}


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


def _load(path: Path, name: str) -> pd.DataFrame | None:
    """A stored table, or None where there is none.

    Raises:
        ValueError: The file is damaged.
    """
    if not path.exists():
        return None
    try:
        record = json.loads(gzip.decompress(path.read_bytes()))
        if record["cell"] == name:
            return tidy.from_csv(record["table"].encode(), record["columns"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
        pass
    raise ValueError(
        f"File {path} should hold what was stored there. Found it changed since. "
        "Delete it to compute that cell again; the others stay."
    )


def _store(path: Path, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Store a table unless another process was faster, and give what a later run will read."""
    record = {"cell": name, "columns": tidy.columns(table), "table": tidy.to_csv(table).decode()}
    with lock(path.parent / "results.lock"):
        if not path.exists():
            write({path: gzip.compress(json.dumps(record).encode(), mtime=0)})
    stored = _load(path, name)
    assert stored is not None
    return stored
