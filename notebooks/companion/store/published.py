"""The published runs of a notebook: every cell of its full run in one table, `figures/full/NN_runs.csv.xz`.

    import pandas as pd
    runs = pd.read_csv("figures/full/02_runs.csv.xz", low_memory=False)

gives one row per number: the number of its cell, what its configuration says (method, learning rate, ...), its seed
and metric, its value, and the seconds that it took. `NN_runs.json` beside it lists the cells with all that decided
them, the lists of seeds and of tried settings among them.
"""

import hashlib
import io
import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from companion.store import tidy
from companion.store.writing import shown, write

Configuration = Mapping[str, Any]
CELL = "cell number"  # column: from 0, in the order of the JSON


@dataclass(frozen=True)
class Cell:
    """One call of a study's function.

    Attributes:
        kind: Name of the function, such as `"train_grid"`.
        configuration: All that decided the table, the device apart.
        table: What came out, tidy.
    """

    kind: str
    configuration: dict[str, Any]
    table: pd.DataFrame


def key(kind: str, configuration: Configuration) -> str:
    """What a cell is found by: its kind and configuration, but not the device, on which no published number depends."""
    decides = {name: value for name, value in configuration.items() if name != "device"}
    return json.dumps([kind, decides], sort_keys=True)  # 1, 1.0 and true are three values here, unlike in Python


def files(folder: Path, notebook: str) -> tuple[Path, Path]:
    """The table and the list of cells of a notebook, for example of `"02_hydalearn_synthetic"`."""
    number = notebook.split("_")[0]
    return folder / f"{number}_runs.csv.xz", folder / f"{number}_runs.json"


def publish(folder: Path, notebook: str, cells: Sequence[Cell]) -> None:
    """Write the cells of a full run, in one step.

    Raises:
        OSError: A file cannot be written; those of an earlier run are as they were.
    """
    # As text, for a column of whole numbers that another cell lacks would become one of floats.
    texts = [with_single_values(cell.configuration, cell.table).astype(str) for cell in cells]
    table = pd.concat(texts, keys=range(len(cells)), names=[CELL, None]).droplevel(1).reset_index()
    content = table.to_csv(index=False, na_rep="", lineterminator="\n").encode()
    listed = [
        {
            "kind": cell.kind,
            "configuration": {name: value for name, value in cell.configuration.items() if name != "device"},
            "columns": tidy.columns(cell.table),
        }
        for cell in cells
    ]
    record = {"notebook": notebook, "sha256": hashlib.sha256(content).hexdigest(), "cells": listed}
    csv, description = files(folder, notebook)
    write({csv: lzma.compress(content), description: (json.dumps(record, indent=1) + "\n").encode()})


def with_single_values(configuration: Configuration, table: pd.DataFrame) -> pd.DataFrame:
    """A cell's table with what its configuration says of every row as first columns.

    Lists of a configuration, such as seeds that train together, are no columns: the table says per row what they hold.

    Raises:
        ValueError: The table has a column of the name of a configuration's value.
    """
    single = {
        name: float("nan") if value is None else value
        for name, value in configuration.items()
        if not isinstance(value, list | tuple) and name != "device"
    }
    twice = sorted(set(single).intersection(table.columns))
    if twice:
        raise ValueError(
            "A table should not repeat what its configuration says. "
            f"Found {', '.join(twice)} in both. Leave it out of the table or rename it."
        )
    return pd.DataFrame({**single, **table}, index=table.index)


def read(folder: Path, notebook: str) -> list[Cell]:
    """The cells of a notebook's full run, bit by bit.

    Raises:
        ValueError: The files are missing, damaged or do not belong together.
    """
    csv, description = files(folder, notebook)
    damaged = ValueError(
        f"Files `{shown(csv)}` and `{description.name}` should be what a full run wrote there. Found them missing or "
        f"changed since. Take them back with git, or run make full NOTEBOOK={csv.name[:2]}."
    )
    try:
        content = lzma.decompress(csv.read_bytes())
        record = json.loads(description.read_bytes())
        listed, digest = record["cells"], record["sha256"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, lzma.LZMAError) as error:
        raise damaged from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise damaged
    rows = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    tables = dict(tuple(rows.groupby(CELL, sort=False)))
    return [
        Cell(entry["kind"], entry["configuration"], tidy.from_text(tables[str(number)], entry["columns"]))
        for number, entry in enumerate(listed)
    ]
