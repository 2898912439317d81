"""Rows per second and peak memory of a log that is streamed, and what dense task gradients of embeddings cost.

A log in the layout of the TikTok challenge is generated, read once, and trained on once with AdaTask-Adam; the peak of
the whole process is shown after each. Then one training step at several table sizes: AdaTask keeps its task gradients
dense, so a step touches every row of every table, where torch's SparseAdam touches the rows of the batch.

    python -m benchmarks.log_streaming [--rows 5000000] [--commit]
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from companion.data.interaction_log import Log
from companion.data.log_stream import Field, LogStream
from companion.data.tiktok import LAYOUT
from companion.networks.recommenders import EmbeddedBottom
from companion.networks.shared_bottom import binary_losses
from companion.store import paths
from torch import Tensor

from benchmarks._table import LOCAL, Row, machine, save
from mtlcore.adatask import AdaTaskAdam
from mtlcore.task_gradients import task_backward

BATCH = 4096
WIDTH, HIDDEN = 8, (64, 32)
LARGEST = {"uid": 80_000, "item_id": 4_000_000, "author_id": 850_000, "music_id": 90_000, "device": 75_000}
CHUNK = 50_000  # rows that are generated at once
TABLE_ROWS = 1 << 16  # embeddings of the pass over the whole log
READING_MIB = 64.0  # what reading may add, whatever the length of the log: a buffer of 131,072 rows is 9 MiB


def generate(path: Path, rows: int) -> None:
    """Writes a log of random lines, popular ids first."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for begin in range(0, rows, CHUNK):
            n = min(CHUNK, rows - begin)
            columns = {name: rng.integers(-1, 400, n) for name in LAYOUT.columns}
            columns |= {name: (largest * rng.random(n) ** 3).astype(np.int64) for name, largest in LARGEST.items()}
            columns |= {name: rng.integers(0, 2, n) for name in LAYOUT.labels}
            columns |= {"channel": rng.integers(0, 5, n), "time": rng.integers(53_000_000_000, 53_100_000_000, n)}
            pd.DataFrame(columns)[list(LAYOUT.columns)].to_csv(file, sep="\t", header=False, index=False)


def peak_mib() -> float:
    """Returns the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def fields(rows: int) -> list[Field]:
    """Returns four fields with tables of so many rows together."""
    return [Field(name, rows // 4) for name in ("uid", "item_id", "author_id", "music_id")]


def build(rows: int) -> EmbeddedBottom:
    """Returns a network with tables of so many rows together."""
    sizes = {field.column: field.size for field in fields(rows)}
    return EmbeddedBottom(sizes, WIDTH, HIDDEN, len(LAYOUT.labels), generator=torch.Generator().manual_seed(0))


def adatask(model: EmbeddedBottom) -> Callable[[tuple[Tensor, Tensor]], None]:
    """Returns a training step of AdaTask-Adam."""
    optimizer, shared = AdaTaskAdam(model.parameters(), num_tasks=len(LAYOUT.labels)), model.shared_parameters()

    def step(batch: tuple[Tensor, Tensor]) -> None:
        optimizer.zero_grad()
        task_backward(binary_losses(model, batch), shared)
        optimizer.step()

    return step


def joint(model: EmbeddedBottom, sparse: bool) -> Callable[[tuple[Tensor, Tensor]], None]:
    """Returns a training step of Adam on the sum of the losses, with sparse gradients of the tables or dense ones."""
    tables, rest = list(model.embeddings.parameters()), list(model.bottom.parameters())
    optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(rest if sparse else [*tables, *rest], fused=True)]
    if sparse:
        optimizers.append(torch.optim.SparseAdam(tables))
        for table in model.embeddings.tables.values():
            table.sparse = True  # type: ignore[assignment]  # an option of nn.Embedding

    def step(batch: tuple[Tensor, Tensor]) -> None:
        model.zero_grad()
        torch.stack(binary_losses(model, batch)).sum().backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()

    return step


def milliseconds(step: Callable[[tuple[Tensor, Tensor]], None], batches: list[tuple[Tensor, Tensor]]) -> float:
    """Returns the median time of a step."""
    times = []
    for batch in batches:
        begin = time.perf_counter()
        step(batch)
        times.append((time.perf_counter() - begin) * 1e3)
    return float(np.median(times[2:]))


def main() -> None:
    """Measures, prints and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="lines of the generated log; default 500000")
    parser.add_argument("--commit", dest="folder", action="store_const", const=paths.COMMITTED_FIGURES, default=LOCAL,
                        help="write to figures/full/, the committed evidence, instead of build/bench/")  # fmt: skip
    options = parser.parse_args()
    torch.set_num_threads(1)
    where, count, tasks = machine("cpu"), options.rows, len(LAYOUT.labels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.txt"
        child = multiprocessing.get_context("spawn").Process(target=generate, args=(path, count))
        child.start()
        child.join()
        log = Log(path, LAYOUT)
        size = path.stat().st_size / 1e6
        start = peak_mib()
        stream = LogStream(log, fields(TABLE_ROWS), batch_size=BATCH)
        rows = []
        for name in ("reading", "reading and training"):
            step = None if name == "reading" else adatask(build(TABLE_ROWS))
            begin = time.perf_counter()
            for batch in stream.batches(torch.Generator().manual_seed(0)):
                if step is not None:
                    step(batch)
            seconds = time.perf_counter() - begin
            rows.append(Row(name, tasks, "rows per second", count / seconds, "rows/s"))
            bar = READING_MIB if step is None else None
            rows.append(Row(name, tasks, "memory beyond the start's, peak", peak_mib() - start, "MiB", bar=bar))

        for table_rows in (1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20):
            small = LogStream(log, fields(table_rows), batch_size=BATCH, buffer_rows=16 * BATCH)
            drawn = small.batches(torch.Generator().manual_seed(0))
            batches = [next(drawn) for _ in range(12)]
            methods = {
                "joint Adam, sparse tables": joint(build(table_rows), sparse=True),
                "joint Adam, dense tables": joint(build(table_rows), sparse=False),
                "AdaTask-Adam, dense tables": adatask(build(table_rows)),
            }
            for name, train in methods.items():
                rows.append(Row(name, tasks, f"step, {table_rows} embeddings", milliseconds(train, batches), "ms"))
    setting = (
        f"{count} rows, {size:.0f} MB; batches of {BATCH}, {WIDTH} numbers per embedding, {TABLE_ROWS} embeddings "
        f"where nothing else is said, float32, one thread; the process held {start:.0f} MiB at the start"
    )
    save("log_streaming", setting, rows, where, options.folder)


if __name__ == "__main__":
    main()
