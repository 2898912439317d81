"""The MIMIC-III benchmark's layout, generated: statistics, official split, auxiliaries, damaged files."""

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from companion.data import fold_arrays, load_mimic, mimic
from companion.data.mimic import CHANNELS, STATISTICS

FOLDS = {"train": range(100, 140), "val": range(140, 160), "test": range(160, 180)}
PHENOTYPE = "Septicemia (except in labor)"


def stay_name(patient: int) -> str:
    return f"{patient}_episode1_timeseries.csv"


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty patients: every third dies, with a heart rate that says so; others' values mean nothing."""
    rng = np.random.default_rng(0)
    for fold, patients in FOLDS.items():
        part = "test" if fold == "test" else "train"
        write_csv(
            tmp_path / f"in-hospital-mortality/{fold}_listfile.csv",
            [["stay", "y_true"], *([stay_name(p), int(p % 3 == 0)] for p in patients)],
        )
        for patient in patients:
            lines: list[Sequence[object]] = [["Hours", *CHANNELS]]
            for hour in np.sort(rng.uniform(0, 48, 6)):
                values: dict[str, object] = {c: round(float(rng.normal(50, 5)), 3) for c in CHANNELS}
                values["Heart Rate"] = 80 + 40 * (patient % 3 == 0)
                values["Height"] = ""
                values["Glascow coma scale eye opening"] = str(rng.choice(["None", "3 To speech", "Spontaneously"]))
                values["Glascow coma scale motor response"] = "5 Localizes Pain"
                values["Glascow coma scale verbal response"] = "1.0 ET/Trach"
                lines.append([hour, *values.values()])
            write_csv(tmp_path / f"in-hospital-mortality/{part}/{stay_name(patient)}", lines)
    for part, patients in {"train": range(100, 160), "test": FOLDS["test"]}.items():
        lengths = [[stay_name(p), f"{t:.6f}", f"{p + 48 - t:.6f}"] for p in patients for t in (5, 47, 48, 49)]
        write_csv(tmp_path / f"length-of-stay/{part}/listfile.csv", [["stay", "period_length", "y_true"], *lengths])
        codes = [[stay_name(p), "90.5", int(p % 2), 0] for p in patients if p % 5]
        header = ["stay", "period_length", PHENOTYPE, "Shock"]
        write_csv(tmp_path / f"phenotyping/{part}/listfile.csv", [header, *codes])
    return tmp_path


def test_official_split_labels_and_auxiliaries(folder: Path) -> None:
    task, split = mimic.load_mimic(folder, ("remaining stay", PHENOTYPE))
    assert task.groups is not None
    for rows, patients in zip(vars(split).values(), FOLDS.values(), strict=True):
        assert task.groups[rows].tolist() == list(patients)
    patient = task.groups
    assert np.array_equal(task.targets["death in hospital"], patient % 3 == 0)
    assert np.abs(task.targets["remaining stay"] - np.log1p(patient)).max() < 1e-12
    coded = patient % 5 != 0
    assert np.array_equal(task.targets[PHENOTYPE][coded], (patient % 2)[coded])
    assert np.isnan(task.targets[PHENOTYPE][~coded]).all()
    assert task.kinds["remaining stay"] == "regression"
    assert task.kinds[PHENOTYPE] == "classification"
    assert task.revealing == frozenset()


def test_statistics_of_a_stay_by_hand(folder: Path) -> None:
    lines: list[Sequence[object]] = [["Hours", *CHANNELS]]
    for hour, rate, eyes in ((30.0, 90, ""), (1.5, 70, "2 To pain"), (47.0, "", "None"), (48.1, 500, "Spontaneously")):
        values = {"Heart Rate": rate, "Glascow coma scale eye opening": eyes}
        lines.append([hour, *(values.get(channel, "") for channel in CHANNELS)])
    write_csv(folder / "in-hospital-mortality/test" / stay_name(160), lines)
    task, split = load_mimic(folder)
    stay = task.inputs.iloc[split.test[0]]
    assert task.inputs.shape == (80, 17 * 7)
    assert [stay[f"Heart Rate, {s}"] for s in STATISTICS] == [80, 70, 90, 10, 70, 90, 2]  # 500 came after 48 hours
    assert [stay[f"Glascow coma scale eye opening, {s}"] for s in STATISTICS] == [1.5, 1, 2, 0.5, 2, 1, 2]
    assert stay["pH, count"] == 0
    assert np.isnan(stay["pH, mean"])


def test_rows_outside_the_training_fold_influence_nothing_fitted(folder: Path) -> None:
    task, split = load_mimic(folder)
    unmeasured = [f"Height, {s}" for s in STATISTICS[:-1]]
    train, _, test = fold_arrays(dataclasses.replace(task, inputs=task.inputs.drop(columns=unmeasured)), [split])
    remaining = task.targets["remaining stay"]
    center, scale = remaining[split.train].mean(), remaining[split.train].std()
    assert np.abs(test.targets[0, 1] * scale + center - remaining[split.test]).max() < 1e-12
    for patient in [*FOLDS["val"], *range(170, 180)]:
        part = "test" if patient >= 160 else "train"
        values = ["0.5", *("9999" for _ in CHANNELS)]
        write_csv(folder / f"in-hospital-mortality/{part}/{stay_name(patient)}", [["Hours", *CHANNELS], values])
    other, _ = load_mimic(folder)
    changed_train, _, changed_test = fold_arrays(
        dataclasses.replace(other, inputs=other.inputs.drop(columns=unmeasured)), [split]
    )
    assert np.array_equal(train.inputs, changed_train.inputs)
    assert np.array_equal(test.inputs[:, :10], changed_test.inputs[:, :10])
    assert not np.array_equal(test.inputs[:, 10:], changed_test.inputs[:, 10:])
    assert other.checksum != task.checksum


def test_a_channel_never_measured_in_training_is_named(folder: Path) -> None:
    task, split = load_mimic(folder)
    with pytest.raises(ValueError, match=r"value in the training fold. Found none of Height, mean, .* in split 0"):
        fold_arrays(task, [split])


def _replace(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


MORTALITY = "in-hospital-mortality"
EDITS: list[tuple[str, Callable[[str], str], str]] = [
    (f"{MORTALITY}/train_listfile.csv", _replace("y_true", "y"), r"`in-hospital-mortality/train_listfile.csv` should"),
    (
        f"{MORTALITY}/val_listfile.csv",
        _replace(",1\n", ",2\n"),
        r"Line 3 of `val_listfile.csv` .* Found `\w+.csv` and",
    ),
    (f"{MORTALITY}/test_listfile.csv", _replace("160_", "100_"), r"Line 2 of `test_listfile.csv` .* not listed before"),
    (f"{MORTALITY}/train/{stay_name(101)}", _replace("pH", "acidity"), r"`train/101_.*csv` should .* Found no pH. Get"),
    (
        f"{MORTALITY}/train/{stay_name(101)}",
        lambda text: text[:-40],
        r"Line 7 of `train/101_.* 18 fields .* Found",
    ),
    (f"{MORTALITY}/train/{stay_name(101)}", _replace(",5 Loc", ",7 Loc"), r"Line 2 of .* motor response. Found `7 Loc"),
    (f"{MORTALITY}/train/{stay_name(101)}", lambda text: "", r"`train/101_.*csv` should have the columns"),
    ("length-of-stay/test/listfile.csv", _replace("48.000000", "48h"), r"Line 4 of `test/listfile.csv` .* Found `48h`"),
]


@pytest.mark.parametrize(("file", "edit", "message"), EDITS)
def test_a_damaged_file_gives_one_sentence(folder: Path, file: str, edit: Callable[[str], str], message: str) -> None:
    (folder / file).write_text(edit((folder / file).read_text()))
    with pytest.raises(ValueError, match=message):
        load_mimic(folder)


def test_a_patient_in_two_folds_is_refused(folder: Path) -> None:
    listfile = folder / MORTALITY / "test_listfile.csv"
    second = "100_episode2_timeseries.csv"
    listfile.write_text(listfile.read_text() + f"{second},0\n")
    stays = folder / MORTALITY
    (stays / "test" / second).write_text((stays / "train" / stay_name(100)).read_text())
    with pytest.raises(ValueError, match=r"Each patient should be in one listfile only. Found patient 100 in two."):
        load_mimic(folder)


@pytest.mark.parametrize(
    "file", [f"{MORTALITY}/val_listfile.csv", f"{MORTALITY}/test/{stay_name(170)}", "length-of-stay/train/listfile.csv"]
)
def test_an_absent_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"`\S+/{Path(file).name}` should be there. Found nothing at .*"):
        load_mimic(folder)


def test_an_unknown_phenotype_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`train/listfile.csv` should have the columns .* Found no gout. Get it from"):
        load_mimic(folder, ["gout"])
