"""The table that benchmarks fill: measured values, the bars they are held to, and the machine they were measured on.

Every script writes its own rows into `bench.csv` (one row per measured value) and `bench.md` (the same, to read) and
leaves those of other scripts as they are; so each row says when and on what it was measured.
"""

import argparse
import csv
import io
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import torch
from companion.store import paths
from companion.store.writing import lock, write

LOCAL = paths.BUILD / "bench"


@dataclass(frozen=True)
class Row:
    """One measured value.

    Attributes:
        method: What was measured.
        tasks: Their number T.
        measure: What the value is, in words.
        value: The value, in `unit`.
        unit: "ms", "MB", "ratio", or "units" of a size that the benchmark names.
        runs: Number R of runs trained as one program.
        bar: What the value is held to, or None where it is shown only.
        bound: "at most" or "at least" the bar.
        problem: What was worked on, where a benchmark has several.
        parameters: Number of shared parameters of a run, where a benchmark varies it.
    """

    method: str
    tasks: int
    measure: str
    value: float
    unit: str = "ratio"
    runs: int = 1
    bar: float | None = None
    bound: str = "at most"
    problem: str = ""
    parameters: int | None = None

    @property
    def met(self) -> bool | None:
        """Whether the value keeps to its bar; None where it has none."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.bound == "at most" else self.value >= self.bar


COLUMNS = ["benchmark", *(f.name for f in fields(Row)), "met", "setting", "machine", "date"]


def arguments(description: str | None) -> argparse.Namespace:
    """Reads a script's command line: `device`, and `folder` where its rows go."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="a device of torch; default cpu")
    parser.add_argument("--commit", dest="folder", action="store_const", const=paths.COMMITTED_FIGURES, default=LOCAL,
                        help="write to figures/full/, the committed evidence, instead of build/bench/")  # fmt: skip
    return parser.parse_args()


def machine(device: str) -> str:
    """Describes what a value depends on: processor, cores used, memory, device, system, versions, threads, load."""
    where = torch.device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{_processor()}, {cores} cores"]
    if hasattr(os, "sysconf"):
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory")
    if where.type != "cpu":
        parts.append(str(torch.get_device_module(where).get_device_name(where)))
    release = ".".join(platform.release().split(".")[:2])
    parts += [f"{platform.system()} {release}", f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    parts.append(f"{torch.get_num_threads()} threads")
    if hasattr(os, "getloadavg"):
        parts.append(f"load {os.getloadavg()[0]:.1f} before")
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def save(
    benchmark: str, setting: str, measured: Iterable[Row], machine: str, folder: Path, device: str = "cpu"
) -> None:
    """Prints a benchmark's rows and puts them in place of its earlier ones in `bench.csv` and `bench.md`.

    What was measured on another device than the CPU stands beside the rows of the CPU, under a name of its own.

    Args:
        benchmark: The script's name.
        setting: The sizes and the precision that it measured with.
        measured: What it measured.
        machine: From :func:`machine`, before measuring.
        folder: Where the two files are; made where missing.
        device: What it measured on.
    """
    if device != "cpu":
        benchmark = f"{benchmark}, {device}"
    about = {"setting": setting, "machine": machine, "date": datetime.now(UTC).date().isoformat()}
    new = [{"benchmark": benchmark, **asdict(row), "met": row.met, **about} for row in measured]
    texts = [{name: "" if value is None else str(value) for name, value in entry.items()} for entry in new]
    print(_section(benchmark, texts))

    path = folder / "bench.csv"
    with lock(paths.BUILD / "bench.lock"):  # another benchmark may write its rows at the same time
        kept = []
        if path.exists():
            rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
            kept = [dict.fromkeys(COLUMNS, "") | entry for entry in rows if entry["benchmark"] != benchmark]
        table = sorted([*kept, *texts], key=lambda entry: entry["benchmark"])  # stable: rows stay in their order
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        groups = groupby(table, key=lambda entry: entry["benchmark"])
        sections = [_section(name, list(entries)) for name, entries in groups]
        text = "# What was measured\n\nWritten by `make bench`; the numbers in full are in `bench.csv`.\n\n"
        text += "\n".join(sections)
        write({path: content.getvalue().encode(), path.with_suffix(".md"): text.encode()})


def _section(benchmark: str, entries: list[dict[str, str]]) -> str:
    """Returns the rows of one benchmark, all of one run of its script, as Markdown."""
    lines = [f"## {benchmark}", "", f"{entries[0]['setting']}. {entries[0]['machine']}, {entries[0]['date']}.", ""]
    sized = any(entry["parameters"] for entry in entries)
    lines += [f"| method | T | R |{' parameters |' * sized} measure | value | bar | met |"]
    lines += [f"|---|--:|--:|{'--:|' * sized}---|--:|--:|---|"]
    for entry in entries:
        unit = "" if entry["unit"] == "ratio" else f" {entry['unit']}"
        bar = f"{entry['bound']} {float(entry['bar']):.3g}" if entry["bar"] else ""
        problem = f" ({entry['problem']})" if entry["problem"] else ""
        size = f"{int(entry['parameters']):,}" if entry["parameters"] else ""
        met = {"True": "yes", "False": "**no**", "": ""}[entry["met"]]
        lines.append(
            f"| {entry['method']} | {entry['tasks']} | {entry['runs']} |{f' {size} |' * sized} "
            f"{entry['measure']}{problem} | {float(entry['value']):.3g}{unit} | {bar} | {met} |"
        )
    return "\n".join([*lines, ""])
