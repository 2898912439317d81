"""Big text files of fields separated by `|`, without a header: read by chunk, every line checked and named if bad."""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

CHUNK = 200_000  # lines held at once: about 100 MB of the widest layout


def read_chunks(
    path: Path,
    widths: Sequence[int],
    positions: Mapping[str, int],
    source: str,
    digest: "hashlib._Hash",
) -> Iterator[pd.DataFrame]:
    """Yield tables of stripped strings, blank where a field is empty; their index is the line number, from 1.

    Args:
        path: The file.
        widths: Numbers of fields that a line may have; all lines have the first line's.
        positions: Column name -> position in the published layout, from 1.
        source: Where a reader gets the right file, a phrase that follows "Get it from".
        digest: Is fed the content.

    Raises:
        FileNotFoundError: The file is absent.
        ValueError: The file is empty, a line has another number of fields, or the file ends inside a line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"File `{path.name}` should be there. Found nothing at `{path}`. Get it from {source}.")
    allowed = tuple(widths)
    number = 1
    with path.open("rb") as file:
        while lines := list(islice(file, CHUNK)):
            fields = [line.count(b"|") + 1 for line in lines]
            if number == 1 and fields[0] in allowed:
                allowed = (fields[0],)
            for line, found, at in zip(lines, fields, range(number, number + len(lines)), strict=True):
                if found not in allowed:
                    raise ValueError(_bad_line(path, at, found, allowed, not line.endswith(b"\n"), source))
            content = b"".join(lines)
            digest.update(content)
            yield _table(content, positions, number)
            number += len(lines)
    if number == 1:
        raise ValueError(f"File `{path.name}` should hold lines. Found it empty at `{path}`. Get it from {source}.")


def _bad_line(path: Path, number: int, found: int, allowed: Sequence[int], unfinished: bool, source: str) -> str:
    expected = " or ".join(map(str, allowed))
    if unfinished and found < min(allowed):
        return (
            f"File `{path.name}` should end with a whole line. Found line {number} cut off in field {found} of "
            f"{expected}. The file is truncated: get it again from {source}."
        )
    return (
        f"Line {number} of `{path.name}` should have {expected} fields separated by `|`. Found {found}. "
        f"Pass the file with the columns and separators that it is published with: get it from {source}."
    )


def _table(content: bytes, positions: Mapping[str, int], first_line: int) -> pd.DataFrame:
    table: pd.DataFrame = pd.read_csv(
        io.BytesIO(content),
        sep="|",
        header=None,
        usecols=[position - 1 for position in positions.values()],
        dtype=str,
        keep_default_na=False,
        quoting=csv.QUOTE_NONE,
        encoding="latin-1",
        skip_blank_lines=False,
    )
    table = table.rename(columns={position - 1: name for name, position in positions.items()})
    table.index = pd.RangeIndex(first_line, first_line + len(table), name="line")
    return pd.DataFrame({name: table[name].str.strip() for name in positions})


def check_values(path: Path, values: pd.Series, good: "pd.Series[bool]", expected: str) -> None:
    """Refuse a column of which a value is not good, naming the first such line."""
    bad = values[~good]
    if len(bad):
        raise ValueError(
            f"Line {bad.index[0]} of `{path.name}` should hold {expected} as {values.name}. "
            f"Found `{bad.iloc[0]}`. Mend or leave out that line."
        )


def numbers(path: Path, values: pd.Series, missing: str = "") -> pd.Series:
    """Return a column as floats; blank and the code `missing` are missing values, anything else is refused."""
    absent = values.isin(["", missing])
    parsed = pd.to_numeric(values.mask(absent), errors="coerce").astype("float64")
    check_values(path, values, absent | parsed.notna(), "a number or nothing")
    return parsed


def whole_loans(path: Path, chunks: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Cut chunks anew so that the lines of one loan, the column `loan`, are never in two tables.

    Raises:
        ValueError: A loan's lines are not next to each other.
    """
    ended: set[str] = set()
    rest: pd.DataFrame | None = None
    for chunk in chunks:
        table = chunk if rest is None else pd.concat([rest, chunk])
        loans = table["loan"]
        begins = loans[loans != loans.shift()]
        again = begins[begins.duplicated() | begins.isin(ended)]
        if len(again):
            raise ValueError(
                f"Lines of one loan should be next to each other in `{path.name}`. Found loan {again.iloc[0]} again "
                f"in line {again.index[0]}. Sort the file by loan and month."
            )
        ended.update(begins.iloc[:-1])
        last = loans == loans.iloc[-1]
        if not last.all():
            yield table[~last]
        rest = table[last]
    if rest is not None:
        yield rest
