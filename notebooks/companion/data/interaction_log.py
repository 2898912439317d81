"""Logs of interactions, one line of whole numbers each, read in blocks of fixed size and checked to the line.

A log of tens of millions of lines does not fit into memory, so nothing here grows with the file. What is wrong with it
is said with the file's name and the number of the line, counted from 1 as editors do.
"""

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 18  # of the file that are parsed at once: some 4,000 lines of the TikTok log
UNKNOWN = -1  # what the logs write for an id that is not known

_DIGIT = np.zeros(256, dtype=np.bool_)
_DIGIT[np.frombuffer(b"0123456789", dtype=np.uint8)] = True
_MINUS, _NEWLINE = ord("-"), ord("\n")
_WHOLE = re.compile("-?[0-9]+")
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class LogLayout:
    """What the lines of a log hold.

    Attributes:
        separator: One character between columns.
        columns: Their names, in the order of the file.
        header: Whether the first line names the columns.
        labels: Columns that are targets, 0 or 1 each, in the order of the tasks.
        source: Where a reader gets the file, a phrase that follows "Get it from".
    """

    separator: str
    columns: tuple[str, ...]
    header: bool
    labels: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Block:
    """Some consecutive lines of a log.

    Attributes:
        rows: Their numbers, `[n, columns]` int64.
        first_line: Number of the first of them in the file, from 1.
    """

    rows: NDArray[np.int64]
    first_line: int


def official_path(name: str, source: str) -> Path:
    """Where an official log should lie: in the folder that the variable `MTLCORE_DATA` names.

    Official logs are read in place and are too long for a checksum before every run; what is in them is checked.
    """
    folder = os.environ.get("MTLCORE_DATA")
    if not folder:
        raise FileNotFoundError(
            f"File `{name}` should lie in the folder named by the environment variable MTLCORE_DATA. "
            f"Found the variable unset. Get the file from {source} and set the variable."
        )
    return existing(Path(folder) / name, source)


def existing(path: Path, source: str) -> Path:
    """The path, if there is a file."""
    if not path.is_file():
        raise FileNotFoundError(f"File `{path.name}` should be there. Found nothing at `{path}`. Get it from {source}.")
    return path


class Log:
    """A log file with its layout; a subclass may add columns to what the file holds.

    Args:
        path: The file.
        layout: What its lines hold.

    Attributes:
        columns: Names of the columns of `blocks`.
    """

    def __init__(self, path: Path, layout: LogLayout) -> None:
        """Keep both; nothing is opened."""
        self.path, self.layout = path, layout
        self.columns = layout.columns

    def blocks(self) -> Iterator[Block]:
        """Read the file once; see `read_blocks` for what is refused."""
        return read_blocks(self.path, self.layout)

    def index(self, column: str) -> int:
        """Position of a column in the blocks."""
        return self.columns.index(column)


def read_blocks(path: Path, layout: LogLayout, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Read a log block by block; memory is bounded by `block_bytes`, whatever the length of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line has another number of columns, something that is no whole number, or a label that is
            neither 0 nor 1; the header differs; or there are no lines at all.
    """
    line = 1
    with existing(path, layout.source).open("rb") as file:
        if layout.header:
            _check_header(file.readline(), path, layout)
            line = 2
        rest = b""
        while piece := file.read(block_bytes):
            text, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                block = Block(_parse(text + newline, path, layout, line), line)
                line += len(block.rows)
                yield block
            elif len(rest) > block_bytes:
                raise line_error(path, line, f"end within {block_bytes} bytes", "no end")
        if rest:  # a file whose last line has no end
            yield Block(_parse(rest + b"\n", path, layout, line), line)
            line += 1
    if line == 1 + layout.header:
        raise ValueError(f"File `{path.name}` should hold interactions. Found no line. Get it from {layout.source}.")


def check_ids(values: NDArray[np.int64], size: int | None, column: str, path: Path, block: Block) -> None:
    """Refuse ids below -1 (unknown) or not below `size`, naming the line.

    Args:
        values: Ids of the block's lines, `[n]`.
        size: How many ids there are, None where there is no end.
        column: What they are.
        path: The file.
        block: Where they stand.
    """
    bad = (values < UNKNOWN) | (values >= (_LARGEST if size is None else size))
    if bad.any():
        row = int(bad.argmax())
        allowed = "of 0 or more" if size is None else f"from 0 to {size - 1}"
        should, found = f"have a `{column}` {allowed}, or -1 for unknown", f"`{column} = {values[row]}`"
        raise line_error(path, block.first_line + row, should, found)


def _check_header(line: bytes, path: Path, layout: LogLayout) -> None:
    found = tuple(line.decode(errors="replace").strip().split(layout.separator))
    if found != layout.columns:
        raise line_error(path, 1, f"name the columns {', '.join(layout.columns)}", f"`{', '.join(found)[:200]}`")


def _parse(text: bytes, path: Path, layout: LogLayout, line: int) -> NDArray[np.int64]:
    """Parse whole lines, `[n, columns]`; where the fast way finds a fault, the slow way finds the line."""
    rows = _parse_fast(text, layout)
    if rows is None:
        rows = _parse_slowly(text, path, layout, line)
    labels = rows[:, [layout.columns.index(name) for name in layout.labels]]
    bad = (labels < 0) | (labels > 1)
    if bad.any():
        row, label = np.argwhere(bad)[0]
        found = f"`{layout.labels[label]} = {labels[row, label]}`"
        raise line_error(path, line + int(row), f"have a `{layout.labels[label]}` of 0 or 1", found)
    return rows


def _parse_fast(text: bytes, layout: LogLayout) -> NDArray[np.int64] | None:
    """Parse text whose every field is `-?[0-9]+`, which is checked byte by byte first; None for any other."""
    separator, count = ord(layout.separator), len(layout.columns)
    symbols = np.frombuffer(text, dtype=np.uint8)
    breaks = (symbols == separator) | (symbols == _NEWLINE)
    digits, minus = _DIGIT[symbols], symbols == _MINUS
    ends = symbols[breaks]
    if len(ends) % count or not (digits | breaks | minus).all():
        return None
    ends = ends.reshape(-1, count)
    in_order = (ends[:, :-1] == separator).all() and (ends[:, -1] == _NEWLINE).all()
    # A field ends in a digit; a minus begins one.
    whole = digits[np.flatnonzero(breaks) - 1].all() and not (minus[1:] & ~breaks[:-1]).any()
    if not (in_order and whole):
        return None
    spaces = bytes.maketrans(b"\n" + layout.separator.encode(), b"  ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy only warns where it stops reading
        try:
            numbers = np.fromstring(text.translate(spaces), np.int64, sep=" ")
        except DeprecationWarning:
            return None
    return None if (numbers == _LARGEST).any() else numbers.reshape(-1, count)  # where larger ones end up


def _parse_slowly(text: bytes, path: Path, layout: LogLayout, first_line: int) -> NDArray[np.int64]:
    """Parse line by line and raise at the first that is wrong."""
    rows = []
    for line, content in enumerate(text.split(b"\n")[:-1], start=first_line):
        fields = content.decode(errors="replace").split(layout.separator)
        if len(fields) != len(layout.columns):
            raise line_error(path, line, f"have {len(layout.columns)} columns", f"{len(fields)}")
        for name, field in zip(layout.columns, fields, strict=True):
            if not _WHOLE.fullmatch(field) or abs(int(field)) >= _LARGEST:
                raise line_error(path, line, f"have a whole number as `{name}`", f"`{name} = {field[:40]!r}`")
        rows.append([int(field) for field in fields])
    return np.array(rows, dtype=np.int64)


def line_error(path: Path, line: int, should: str, found: str) -> ValueError:
    """The one sentence, and the remedy, for a wrong line."""
    return ValueError(
        f"File `{path.name}`, line {line}, should {should}. Found {found}. Mend or remove that line of `{path}`."
    )
