"""Tidy tables: one row per run, step, task and metric, as text that gives back every bit, compared within a tolerance.

A column is a number that was measured (`value`), what it cost (`seconds`, `peak_mib`), or says which number it is
(all others, `metric` among them). Costs differ from one machine to the next, so they are never compared.
"""

import io
import math
from collections.abc import Mapping

import pandas as pd
from pandas.api import types

COSTS = ("seconds", "peak_mib")


def keys(table: pd.DataFrame) -> list[str]:
    """The columns that say which number a row holds: all but `value` and the costs."""
    return [column for column in table.columns if column not in ("value", *COSTS)]


def checked(table: pd.DataFrame) -> pd.DataFrame:
    """Check that a table is tidy and give its columns one of four kinds: float64, int64, bool or text.

    Args:
        table: Needs the columns `metric` (text) and `value` (numbers; NaN for a run that failed). The costs `seconds`
            and `peak_mib` are those of the run or the program that a row belongs to. The index is dropped.

    Raises:
        ValueError: A column is missing or of another kind, or two rows differ at most in `value` and costs.
    """
    missing = [column for column in ("metric", "value") if column not in table.columns]
    if missing:
        raise ValueError(
            f"A tidy table should have the columns metric and value. Found no {' and no '.join(missing)}. "
            'Turn columns of measures into rows with `table.melt(..., var_name="metric", value_name="value")`.'
        )
    columns = {str(name): _kind(table[name]) for name in table.columns}
    numbers = [name for name in ("value", *COSTS) if name in columns]
    if (
        len(columns) < table.shape[1]
        or columns["metric"] != "str"
        or any(columns[n] in ("bool", "str") for n in numbers)
    ):
        raise ValueError(
            f"A tidy table should have different names, `metric` as text and {', '.join(numbers)} as numbers. "
            f"Found {', '.join(f'{name} ({_kind(column)})' for name, column in table.items())}. Convert them."
        )
    table = table.reset_index(drop=True).astype({**columns, **dict.fromkeys(numbers, "float64")})
    repeated = table.duplicated(keys(table))
    if repeated.any():
        row = table.loc[repeated, keys(table)].iloc[0].to_dict()
        raise ValueError(
            f"A tidy table should hold each number once. Found {int(repeated.sum())} rows that say the same "
            f"as another, for example {row}. Add the column that tells them apart, such as the seed or the step."
        )
    return table


def _kind(column: pd.Series) -> str:
    if types.is_bool_dtype(column):
        return "bool"
    if types.is_integer_dtype(column) and not column.hasnans:
        return "int64"
    if types.is_float_dtype(column):
        return "float64"
    if types.is_string_dtype(column) and not column.hasnans:
        return "str"
    raise ValueError(
        "A column of a tidy table should hold numbers, truth values or text, all of one kind and none of them None. "
        f"Found column {column.name!r} of type {column.dtype}. Convert it; NaN in a column of floats is allowed."
    )


def columns(table: pd.DataFrame) -> dict[str, str]:
    """Name and kind of each column, which `from_csv` needs to read text as it was written."""
    return {str(name): _kind(table[name]) for name in table.columns}


def to_csv(table: pd.DataFrame) -> bytes:
    """Write a checked table as CSV; floats have the shortest digits that give back the same float64."""
    return table.to_csv(index=False, na_rep="nan", lineterminator="\n").encode()


def from_csv(content: bytes, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read what `to_csv` wrote, bit by bit.

    Args:
        content: The CSV.
        columns: Kind of each column.
    """
    # By default the texts "nan" and "" would become NaN.
    return from_text(pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False), columns)


def from_text(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Turn columns of text into their kinds; pandas before 4 reads some floats a bit off, numpy does not.

    Args:
        table: Has these columns as text, perhaps others too.
        columns: Kind of each column.
    """
    kinds = {name: kind for name, kind in columns.items() if kind != "bool"}
    text = table[list(columns)].reset_index(drop=True)
    floats = [name for name, kind in columns.items() if kind == "float64"]
    text[floats] = text[floats].replace("", "nan")
    values = text.astype(kinds)
    return values.assign(**{name: values[name] == "True" for name, kind in columns.items() if kind == "bool"})


def differences(found: pd.DataFrame, expected: pd.DataFrame, tolerance: Mapping[str, float]) -> list[str]:
    """Compare two tidy tables apart from their costs and the order of their rows.

    Args:
        found: One table.
        expected: The other.
        tolerance: Largest absolute difference of `value`, by metric. NaN equals NaN only.

    Returns:
        A sentence per kind of difference; none when the tables agree.
    """
    names = keys(expected)
    if sorted(keys(found)) != sorted(names):
        return [f"Expected the columns {sorted(names)}. Found {sorted(keys(found))}."]
    unknown = sorted(set(expected["metric"]) - set(tolerance))
    if unknown:
        return [f"No tolerance is given for {', '.join(unknown)}."]
    both = found.merge(expected, on=names, how="outer", suffixes=(" found", " expected"), indicator="side")
    sentences = []
    for side, what in (("right_only", "are missing"), ("left_only", "are new")):
        rows = both.loc[both["side"] == side, names]
        if len(rows):
            sentences.append(f"{len(rows)} rows {what}, for example {rows.iloc[0].to_dict()}.")
    new, old = both["value found"], both["value expected"]
    gap = (new - old).abs().where((new != old) & ~(new.isna() & old.isna()), 0.0).fillna(math.inf)
    for metric, allowed in tolerance.items():
        rows = both[(both["metric"] == metric) & (both["side"] == "both")].assign(gap=gap)
        wrong = rows[rows["gap"] > allowed]
        if len(wrong):
            worst = wrong.sort_values("gap", ascending=False).iloc[0]
            sentences.append(
                f"{metric}: {len(wrong)} of {len(rows)} values differ by more than {allowed:g}; expected "
                f"{worst['value expected']:.8g}, found {worst['value found']:.8g} at {worst[names].to_dict()}."
            )
    return sentences
