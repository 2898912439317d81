"""One small recorded cell per notebook: a code change that alters results makes `make test` red.

`tests/notebooks/recorded/<notebook>.json` says what to compute and how close it has to come, the CSV beside it what
came out when it was recorded. After a change that is meant to alter results:

    python -m companion.runner.recorded 03_credit_default
"""

import json
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pandas as pd

from companion.store import paths, tidy
from companion.store.writing import write

FOLDER = paths.ROOT / "tests" / "notebooks" / "recorded"


@dataclass(frozen=True)
class Recorded:
    """What the JSON of a notebook says.

    Attributes:
        compute: Where the function is that gives the cell's tidy table, for example
            `"companion.studies.tabular.cell:compare"`; it is the code that the notebook runs.
        configuration: What it is called with; a few seconds of work.
        contrast: Column of the table whose levels must stay apart, usually `"method"`.
        tolerance: Largest absolute difference that is still the same result, by metric: rounding, not an effect.
    """

    compute: str
    configuration: dict[str, Any]
    contrast: str
    tolerance: dict[str, float]

    def run(self) -> pd.DataFrame:
        """Compute the cell."""
        return tidy.checked(resolve_name(self.compute)(self.configuration))

    def too_wide(self, table: pd.DataFrame) -> list[str]:
        """Say for which metrics the tolerance is not less than half the effect that it has to guard.

        The effect is the difference between the two levels of `contrast` that are nearest to each other, each pair
        taken where it differs most.
        """
        names = [name for name in tidy.keys(table) if name not in ("metric", self.contrast)]
        sentences = []
        for metric, rows in table.groupby("metric"):
            levels = rows.groupby(self.contrast)
            pairs = [
                a.merge(b, on=names, how="inner") if names else a.merge(b, how="cross")
                for (_, a), (_, b) in combinations(levels, 2)
            ]
            effect = min(float((pair["value_x"] - pair["value_y"]).abs().max()) for pair in pairs)
            if not self.tolerance[str(metric)] < effect / 2:
                sentences.append(
                    f"Tolerance of `{metric}` should be less than half of the least difference by {self.contrast}, "
                    f"{effect:.3g}. Found {self.tolerance[str(metric)]:g}. Lower it, or train longer."
                )
        return sentences


def load(notebook: str) -> tuple[Recorded, pd.DataFrame]:
    """Read a notebook's recorded cell and its table."""
    content = json.loads((FOLDER / f"{notebook}.json").read_text(encoding="utf-8"))
    columns = content.pop("columns")
    return Recorded(**content), tidy.from_csv((FOLDER / f"{notebook}.csv").read_bytes(), columns)


def differences(notebook: str) -> list[str]:
    """Compute a notebook's recorded cell again and say what differs from the record; nothing when nothing does."""
    recorded, table = load(notebook)
    return tidy.differences(recorded.run(), table, recorded.tolerance)


def record(notebook: str) -> Path:
    """Compute the cell that a notebook's JSON describes and write its CSV, without the costs.

    Raises:
        ValueError: A tolerance is too wide to notice one method in another's place.
    """
    path = FOLDER / f"{notebook}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("columns", None)
    recorded = Recorded(**content)
    table = recorded.run().drop(columns=list(tidy.COSTS), errors="ignore")
    if wide := recorded.too_wide(table):
        raise ValueError(" ".join(wide))
    described = json.dumps({**content, "columns": tidy.columns(table)}, indent=1) + "\n"
    write({path.with_suffix(".csv"): tidy.to_csv(table), path: described.encode()})
    return path.with_suffix(".csv")


if __name__ == "__main__":
    for stem in sys.argv[1:]:
        print(record(stem))
