"""Batches from a log that is larger than memory: ids in tables of fixed size, shuffled within a buffer of fixed size.

Two things would grow with a log: a dictionary of the ids that it holds, and a shuffled order of its lines. So ids are
**hashed** into a table whose size is chosen beforehand (two ids may share a row, more of them the smaller the table),
and lines are shuffled within a buffer that moves along the file. Row 0 of every table is for ids that are not known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from companion.data.interaction_log import Block, Log, check_ids


def scrambled(values: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Mix the bits of whole numbers `[n]` so that any two look unrelated (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def unit_interval(values: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) that look drawn at random, one per whole number `[n]`: the same for equal numbers and seeds."""
    return scrambled(values, seed).astype(np.float64) / 2.0**64


@dataclass(frozen=True)
class Field:
    """A column of ids and the table of embeddings that it indexes.

    Attributes:
        column: Its name in the log.
        size: Rows of the table, row 0 for unknown ids.
        hashed: Whether ids are hashed into rows 1 to `size - 1`, or are below `size - 1` and index it themselves.
    """

    column: str
    size: int
    hashed: bool = True

    def rows(self, values: NDArray[np.int64], path: Path, block: Block) -> NDArray[np.int64]:
        """Row of the table for each id `[n]`; raises ValueError at an id below -1 or beyond a table without hashing."""
        check_ids(values, None if self.hashed else self.size - 1, self.column, path, block)
        known = 1 + (scrambled(values, 0) % np.uint64(self.size - 1)).astype(np.int64) if self.hashed else values + 1
        return np.where(values < 0, 0, known)


class LogStream:
    """Batches of a log, in memory that does not grow with the file.

    What is to be held out for validation and test belongs into files of its own.

    Args:
        log: The log.
        fields: The columns of ids.
        batch_size: Lines of a batch B; the last, incomplete batch of an epoch is left out.
        buffer_rows: Lines that are shuffled together.
        dtype: Of the targets.

    Attributes:
        rows_read: Lines of the file that were read so far, all epochs together.
    """

    def __init__(
        self,
        log: Log,
        fields: Sequence[Field],
        *,
        batch_size: int,
        buffer_rows: int = 1 << 17,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Check the sizes; the file is opened by `batches`."""
        if not 1 <= batch_size <= buffer_rows:
            raise ValueError(
                f"Parameter `batch_size` should be between 1 and `buffer_rows`, {buffer_rows}. "
                f"Found `batch_size = {batch_size}`. Pass for example 4096."
            )
        self.log, self.fields = log, tuple(fields)
        # Whole batches only, so that lines are left over at the end of an epoch and nowhere else.
        self.batch_size, self.buffer_rows, self.dtype = batch_size, buffer_rows // batch_size * batch_size, dtype
        self.rows_read = 0

    def batches(self, generator: torch.Generator, epochs: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Give batches of ids `[B, fields]` int64 and targets `[tasks, B]`.

        Args:
            generator: Shuffles; equal generators give equal batches.
            epochs: How often the file is read.

        Raises:
            ValueError: A line is wrong (see `read_blocks` and `Field`), or the file has fewer lines than a batch.
        """
        for _ in range(epochs):
            count = 0
            for ids, labels in self._buffers():
                for rows in torch.split(torch.randperm(len(ids), generator=generator), self.batch_size):
                    if len(rows) == self.batch_size:
                        count += 1
                        yield ids[rows], labels[:, rows]
            if not count:
                raise ValueError(
                    f"File `{self.log.path.name}` should have at least a batch of {self.batch_size} lines. "
                    "Found fewer. Pass a smaller `batch_size`, or a longer file."
                )

    def _buffers(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Fill one buffer again and again: ids `[n, fields]` and labels `[tasks, n]`, n less than all at the end."""
        ids = torch.empty(self.buffer_rows, len(self.fields), dtype=torch.int64)
        labels = torch.empty(len(self.log.layout.labels), self.buffer_rows, dtype=self.dtype)
        columns = [self.log.index(name) for name in self.log.layout.labels]
        filled = 0
        for block in self.log.blocks():
            self.rows_read += len(block.rows)
            found = [f.rows(block.rows[:, self.log.index(f.column)], self.log.path, block) for f in self.fields]
            new_ids = torch.from_numpy(np.stack(found, axis=1))  # [n, fields]
            new_labels = torch.from_numpy(block.rows[:, columns]).T  # [tasks, n]
            begin = 0
            while begin < len(new_ids):
                end = min(len(new_ids), begin + self.buffer_rows - filled)
                ids[filled : filled + end - begin] = new_ids[begin:end]
                labels[:, filled : filled + end - begin] = new_labels[:, begin:end]
                filled, begin = filled + end - begin, end
                if filled == self.buffer_rows:
                    yield ids, labels
                    filled = 0
        yield ids[:filled], labels[:, :filled]
