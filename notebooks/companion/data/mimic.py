"""MIMIC-III in the layout of the in-hospital-mortality benchmark: death in hospital, from the first 48 hours.

The benchmark of Harutyunyan et al. 2019 (arXiv 1703.07771, github.com/YerevaNN/mimic3-benchmarks) writes one folder a
task. `in-hospital-mortality/` holds a listfile a fold (`stay,y_true`), and under `train/` and `test/` one file a stay
with a line per measuring time: `Hours` and 17 channels, empty where not measured. The listfiles of `length-of-stay/`
and `phenotyping/` beside it name the same stays and give the auxiliary tasks. The records need credentials: nothing of
them is in this project, and what the tests read is generated.
"""

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion.data.files import check_columns
from companion.data.tabular import Split, TabularTask

SOURCE = "the scripts of github.com/YerevaNN/mimic3-benchmarks, run on MIMIC-III from physionet.org"
MORTALITY, STAY, PHENOTYPES = "in-hospital-mortality", "length-of-stay", "phenotyping"
MAIN, REMAINING = "death in hospital", "remaining stay"
HOURS = 48.0

CHANNELS = (
    "Capillary refill rate",
    "Diastolic blood pressure",
    "Fraction inspired oxygen",
    "Glascow coma scale eye opening",
    "Glascow coma scale motor response",
    "Glascow coma scale total",
    "Glascow coma scale verbal response",
    "Glucose",
    "Heart Rate",
    "Height",
    "Mean blood pressure",
    "Oxygen saturation",
    "Respiratory rate",
    "Systolic blood pressure",
    "Temperature",
    "Weight",
    "pH",
)
STATISTICS = ("mean", "min", "max", "std", "first", "last", "count")  # per channel (our design)
# The records hold two spellings of each answer on the coma scale; both stand for the scale's points.
COMA_SCALE = {
    "Glascow coma scale eye opening": {
        **{"None": 1, "1 No Response": 1, "2 To pain": 2, "To Pain": 2},
        **{"3 To speech": 3, "To Speech": 3, "4 Spontaneously": 4, "Spontaneously": 4},
    },
    "Glascow coma scale motor response": {
        **{"1 No Response": 1, "No response": 1, "2 Abnorm extensn": 2, "Abnormal extension": 2},
        **{"3 Abnorm flexion": 3, "Abnormal Flexion": 3, "4 Flex-withdraws": 4, "Flex-withdraws": 4},
        **{"5 Localizes Pain": 5, "Localizes Pain": 5, "6 Obeys Commands": 6, "Obeys Commands": 6},
    },
    "Glascow coma scale verbal response": {
        **{"1 No Response": 1, "No Response": 1, "No Response-ETT": 1, "1.0 ET/Trach": 1},
        **{"2 Incomp sounds": 2, "Incomprehensible sounds": 2, "3 Inapprop words": 3, "Inappropriate Words": 3},
        **{"4 Confused": 4, "Confused": 4, "5 Oriented": 5, "Oriented": 5},
    },
}


def load_mimic(folder: Path, auxiliaries: Sequence[str] = (REMAINING,)) -> tuple[TabularTask, Split]:
    """Load the benchmark's stays as a table, with its official split.

    Args:
        folder: Holds `in-hospital-mortality/` with `train_listfile.csv`, `val_listfile.csv` and `test_listfile.csv`
            (the benchmark's `split_train_val.py` writes them), and the folders that the auxiliaries need.
        auxiliaries: "remaining stay" (a regression: log(1 + hours left in intensive care after the first 48), from
            `length-of-stay/`) or names of phenotypes as in the header of `phenotyping/`. A stay without an entry
            there has no label.

    Returns:
        The data, 17 channels times 7 statistics of the first 48 hours with patients as groups, and the split.

    Raises:
        FileNotFoundError: A listfile or a stay's file is absent.
        ValueError: A file lacks columns, a line has another number of fields or a value that is none, a stay or a
            patient is in two folds, a label is not 0 or 1, or no phenotype has the name.
    """
    digest = hashlib.sha256()
    labels: dict[str, float] = {}
    rows, folds = [], []
    for fold in ("train", "val", "test"):
        first = len(labels)
        for line, row in _rows(folder / MORTALITY / f"{fold}_listfile.csv", ("stay", "y_true"), digest):
            stay = row["stay"]
            if stay in labels or row["y_true"] not in ("0", "1"):
                raise ValueError(
                    f"Line {line} of `{fold}_listfile.csv` should hold a stay not listed before and a label 0 or 1. "
                    f"Found `{stay}` and `{row['y_true']}`. Get it from {SOURCE}."
                )
            labels[stay] = float(row["y_true"])
            rows.append(_summary(folder / MORTALITY / ("test" if fold == "test" else "train") / stay, digest))
        folds.append(np.arange(first, len(labels)))
    patients = np.array([int(stay.split("_")[0]) for stay in labels])
    _check_patients(patients, folds)
    targets = {MAIN: np.array(list(labels.values()))}
    for auxiliary in auxiliaries:
        found = _auxiliary(folder, auxiliary, digest)
        targets[auxiliary] = np.array([found.get(stay, np.nan) for stay in labels])
    task = TabularTask(
        name="MIMIC-III",
        inputs=pd.DataFrame(rows, columns=[f"{c}, {statistic}" for c in CHANNELS for statistic in STATISTICS]),
        targets=targets,
        groups=patients,
        checksum=digest.hexdigest(),
        licence="PhysioNet credentialed access: never redistributed, nor any record of it",
        stand_in=False,
        kinds={REMAINING: "regression"},
    )
    return task, Split(*folds)


def _rows(
    path: Path, columns: Sequence[str], digest: "hashlib._Hash | None" = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and the fields by column of every line after the header."""
    name = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise FileNotFoundError(f"File `{name}` should be there. Found nothing at `{path}`. Get it from {SOURCE}.")
    content = path.read_bytes()
    if digest is not None:
        digest.update(content)
    reader = csv.reader(io.StringIO(content.decode()))
    header = next(reader, [])
    check_columns(name, header, {*columns}, SOURCE)
    for fields in reader:
        if len(fields) != len(header):
            raise ValueError(
                f"Line {reader.line_num} of `{name}` should have {len(header)} fields separated by commas. "
                f"Found {len(fields)}. The file is damaged: get it again from {SOURCE}."
            )
        yield reader.line_num, dict(zip(header, fields, strict=True))


def _summary(path: Path, digest: "hashlib._Hash") -> list[float]:
    """Return the statistics of every channel over the first 48 hours; NaN where it was never measured."""
    measured: dict[str, list[tuple[float, float]]] = {channel: [] for channel in CHANNELS}
    for line, row in _rows(path, ("Hours", *CHANNELS), digest):
        hour = _number(path, line, "Hours", row["Hours"])
        if 0 <= hour <= HOURS:
            for channel in CHANNELS:
                if row[channel]:
                    measured[channel].append((hour, _number(path, line, channel, row[channel])))
    summary: list[float] = []
    for pairs in measured.values():
        values = np.array([value for _, value in sorted(pairs, key=lambda pair: pair[0])])
        if len(values):
            summary += [values.mean(), values.min(), values.max(), values.std(), values[0], values[-1], len(values)]
        else:
            summary += [np.nan] * (len(STATISTICS) - 1) + [0]
    return summary


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(COMA_SCALE.get(column, {}).get(text, text))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"Line {line} of `{path.parent.name}/{path.name}` should hold a number, or an answer on the coma scale, "
            f"as {column}. Found `{text}`. The file is damaged: get it again from {SOURCE}."
        )
    return value


def _check_patients(patients: NDArray[np.int64], folds: Sequence[NDArray[np.int64]]) -> None:
    shared = [set(patients[a]) & set(patients[b]) for a, b in ((folds[0], folds[1]), (folds[0], folds[2]), folds[1:])]
    if any(shared):
        raise ValueError(
            "Each patient should be in one listfile only. "
            f"Found patient {min(set.union(*shared))} in two. Get the listfiles from {SOURCE}."
        )


def _auxiliary(folder: Path, name: str, digest: "hashlib._Hash") -> dict[str, float]:
    """Return the labels of an auxiliary task by stay, from the training and the test listfile of its folder."""
    labels: dict[str, float] = {}
    column = "y_true" if name == REMAINING else name
    for fold in ("train", "test"):
        path = folder / (STAY if name == REMAINING else PHENOTYPES) / fold / "listfile.csv"
        for line, row in _rows(path, ("stay", "period_length", column), digest):
            if name != REMAINING:
                labels[row["stay"]] = _number(path, line, column, row[column])
            elif _number(path, line, "period_length", row["period_length"]) == HOURS:  # one line an hour of the stay
                labels[row["stay"]] = math.log1p(_number(path, line, column, row[column]))
    return labels
