"""Loan-level files written here in the layouts of Fannie Mae and Freddie Mac: outcomes, inputs, bad files."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from companion.data import (
    TabularTask,
    fannie_mae,
    fold_arrays,
    freddie_mac,
    load_fannie_mae,
    load_freddie_mac,
    pipe_files,
    splits,
    time_splits,
)
from companion.problems.tables import folds_of

Months = dict[int, tuple[str, str]]  # age -> delinquency status and zero-balance code, where they are not "00" and ""
START = 2005 * 12  # January 2005, the month of age 0

# name -> last age, unusual months, and what is expected: age of observation -> (default, prepaid)
STORIES: dict[str, tuple[int, Months, dict[int, tuple[int, int]]]] = {
    "A": (60, {}, {12: (0, 0), 24: (0, 0), 36: (0, 0)}),
    "B": (60, {20: ("03", ""), 21: ("04", ""), 24: ("07", "")}, {12: (1, 0), 36: (0, 0)}),
    "C": (30, {30: ("00", "01")}, {12: (0, 0), 24: (0, 1)}),
    "D, bought back": (18, {18: ("01", "06")}, {}),
    "E, default first": (20, {18: ("04", ""), 20: ("", "01")}, {12: (1, 0)}),
    "F, sold by the lender": (24, {24: ("", "09")}, {12: (1, 0)}),
    "G, status unknown": (60, {12: ("XX", ""), 24: ("02", "")}, {24: (0, 0), 36: (0, 0)}),
    "H, lost from the file": (20, {}, {}),
    "I, just outside": (60, {25: ("RA", ""), 36: ("05", "")}, {12: (0, 0), 24: (1, 0)}),
}


def _lines(width: int, loan: str, last: int, unusual: Months, place: Callable[..., dict[int, str]]) -> list[str]:
    lines = []
    for age in range(last + 1):
        fields = dict.fromkeys(range(1, width + 1), "")
        fields.update(place(loan, age, *unusual.get(age, ("00", ""))))
        lines.append("|".join(fields.values()) + "\n")
    return lines


def _fannie_fields(loan: str, age: int, status: str, ended: str) -> dict[int, str]:
    year, month = divmod(START + age, 12)
    score = 600 + sum(map(ord, loan)) % 200
    fields = {2: loan, 3: f"{month + 1:02}{year}", 4: "R", 8: "6.125", 9: "6.125", 10: "200000", 12: str(200000 - age)}
    fields |= {
        13: "360",
        16: str(age),
        20: "80",
        21: "80",
        22: "1",
        23: "35",
        24: str(score),
        26: "N",
        27: "P",
        28: "SF",
    }
    return fields | {29: "1", 30: "P", 31: "CA", 40: status, 42: "N", 44: ended}


def _freddie_fields(loan: str, age: int, status: str, ended: str) -> dict[int, str]:
    year, month = divmod(START + age, 12)
    return {1: loan, 2: f"{year}{month + 1:02}", 3: str(200000 - age), 4: status, 5: str(age), 9: ended, 11: "6.125"}


def _freddie_facts(loan: str, width: int = 32) -> str:
    facts = {1: "9999", 3: "9", 6: "000", 7: "1", 8: "P", 9: "80", 10: "999", 11: "200000", 12: "80", 13: "6.125"}
    facts |= {14: "R", 17: "CA", 18: "SF", 20: loan, 21: "P", 22: "360", 23: "2"}
    return "|".join(facts.get(position, "") for position in range(1, width + 1)) + "\n"


Files = dict[str, tuple[int, Months]]


def fannie(folder: Path, loans: Files, width: int = 108) -> Callable[..., TabularTask]:
    """Write a quarter's file and return a function that loads it."""
    lines = [line for loan, story in loans.items() for line in _lines(width, loan, *story, _fannie_fields)]
    (folder / "2005Q1.csv").write_text("".join(lines))
    return lambda **design: load_fannie_mae(folder / "2005Q1.csv", **design)


def freddie(folder: Path, loans: Files, widths: tuple[int, int] = (32, 32)) -> Callable[..., TabularTask]:
    """Write a pair of files and return a function that loads them."""
    orig, svcg = folder / "sample_orig_2005.txt", folder / "sample_svcg_2005.txt"
    orig.write_text("".join(_freddie_facts(loan, widths[0]) for loan in loans))
    lines = [line for loan, story in loans.items() for line in _lines(widths[1], loan, *story, _freddie_fields)]
    svcg.write_text("".join(lines))
    return lambda **design: load_freddie_mac(orig, svcg, **design)


Writer = Callable[..., Callable[..., TabularTask]]
LAYOUTS = [fannie, freddie]
LOANS = {loan: (last, unusual) for loan, (last, unusual, _) in STORIES.items()}


@pytest.mark.parametrize("write", LAYOUTS)
def test_the_first_outcome_in_the_window_counts(tmp_path: Path, write: Writer) -> None:
    task = write(tmp_path, LOANS)()
    assert task.groups is not None
    found: dict[str, dict[int, tuple[int, int]]] = {loan: {} for loan in STORIES}
    names = sorted(loan for loan, story in STORIES.items() if story[2])
    for group, age, default, prepaid in zip(task.groups, task.inputs["age"], *task.targets.values(), strict=True):
        found[names[group]][int(age)] = (int(default), int(prepaid))
    assert found == {loan: expected for loan, (_, _, expected) in STORIES.items()}
    assert list(task.targets) == ["default", "prepaid"]
    assert task.revealing == {"prepaid"}
    assert not task.stand_in


@pytest.mark.parametrize("write", LAYOUTS)
def test_the_window_and_the_ages_are_parameters(tmp_path: Path, write: Writer) -> None:
    task = write(tmp_path, {"A": (60, {}), "I": (60, {25: ("RA", "")})})(window=13, ages=(12,))
    assert task.targets["default"].tolist() == [0, 1]
    assert task.inputs["age"].tolist() == [12, 12]
    with pytest.raises(ValueError, match=r"`window` should be at least 1 .* Found `window = 0`, `ages = "):
        write(tmp_path, LOANS)(window=0, ages=(12,))


@pytest.mark.parametrize("write", LAYOUTS)
def test_a_window_that_the_file_does_not_cover_is_left_out_whatever_came_of_it(tmp_path: Path, write: Writer) -> None:
    task = write(tmp_path, {"late": (23, {15: ("03", "")}), "later": (23, {})})
    with pytest.raises(ValueError, match=r"should hold loans whose outcome is known. Found none observed .* Pass"):
        task()
    assert task(window=11).targets["default"].tolist() == [1, 0]


@pytest.mark.parametrize("write", LAYOUTS)
def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer) -> None:
    load = write(tmp_path, LOANS)
    whole = load()
    for lines in (7, 61):
        monkeypatch.setattr(pipe_files, "CHUNK", lines)
        again = load()
        assert again.inputs.equals(whole.inputs)
        assert again.checksum == whole.checksum
        assert all(np.array_equal(again.targets[name], whole.targets[name]) for name in whole.targets)


@pytest.mark.parametrize("width", [108, 110, 113, 114])
def test_longer_releases_of_fannie_mae_move_nothing(tmp_path: Path, width: int) -> None:
    task = fannie(tmp_path, LOANS, width)()
    assert task.inputs["credit_score"].tolist()[0] == 665
    assert task.inputs["current_balance"].tolist()[:3] == [199988, 199976, 199964]
    assert task.checksum == hashlib.sha256((tmp_path / "2005Q1.csv").read_bytes()).hexdigest()


@pytest.mark.parametrize("widths", [(32, 32), (31, 35)])
def test_both_releases_of_freddie_mac_and_codes_of_missing_values(tmp_path: Path, widths: tuple[int, int]) -> None:
    task = freddie(tmp_path, LOANS, widths)()
    first = task.inputs.iloc[0]
    assert np.isnan(first[["credit_score", "debt_to_income"]].astype(float)).all()
    assert (first["first_time_buyer"], first["units"], first["original_rate"]) == ("unknown", 1.0, 6.125)
    assert task.inputs["current_balance"].tolist()[:3] == [199988, 199976, 199964]


@pytest.mark.parametrize("write", LAYOUTS)
def test_no_column_of_the_outcome_is_an_input(tmp_path: Path, write: Writer) -> None:
    with_outcome, without = ({"A": (60, {}), "B": (60, unusual)} for unusual in ({20: ("05", "")}, {}))
    assert write(tmp_path, with_outcome)().inputs.equals(write(tmp_path, without)().inputs)
    layout = fannie_mae if write is fannie else freddie_mac
    assert not {"status", "ended", "period", "loan", "default", "prepaid", "end"} & set(layout.INPUTS)


@pytest.mark.parametrize("write", LAYOUTS)
def test_the_task_goes_through_splits_and_preprocessing(tmp_path: Path, write: Writer) -> None:
    rng = np.random.default_rng(0)
    loans: Files = {}
    for n in range(120):
        age = int(rng.integers(13, 48))
        story: list[tuple[int, Months]] = [(60, {}), (60, {age: ("03", "")}), (age, {age: ("00", "01")})]
        loans[f"L{n:03}"] = story[n % 3]
    task = write(tmp_path, loans)()
    with pytest.raises(ValueError, match=r"value in the training fold. Found none of \w+, \w+ in split 0"):
        fold_arrays(task, splits(task, [0]))
    task = dataclasses.replace(task, inputs=task.inputs.dropna(axis="columns", how="all"))
    (split,) = splits(task, [0])
    train, _, test = fold_arrays(task, [split])
    assert np.isfinite(train.inputs).all()
    outside = np.concatenate([split.validation, split.test[10:]])
    changed = task.inputs.copy()
    changed.loc[outside, "current_balance"] = -1e9
    changed.loc[outside, "original_rate"] = np.nan
    changed.loc[outside, "state"] = "Atlantis"
    again = fold_arrays(dataclasses.replace(task, inputs=changed), [split])
    assert np.array_equal(train.inputs, again[0].inputs)
    assert np.array_equal(test.inputs[:, :10], again[2].inputs[:, :10])
    assert not np.array_equal(test.inputs[:, 10:], again[2].inputs[:, 10:])
    assert task.periods is not None
    assert sorted(set(task.periods)) == [START + 12, START + 24, START + 36]
    (split,) = time_splits(task, [0], validation_from=START + 13, test_from=START + 25)
    assert set(task.inputs["age"].iloc[split.train]) == {12}


Edit = Callable[[str], str]


def _line(number: int, change: Edit) -> Edit:
    def edit(text: str) -> str:
        lines = text.splitlines(keepends=True)
        return "".join([*lines[: number - 1], change(lines[number - 1]), *lines[number:]])

    return edit


def _field(number: int, position: int, value: str) -> Edit:
    def change(line: str) -> str:
        fields = line.rstrip("\n").split("|")
        return "|".join([*fields[: position - 1], value, *fields[position:]]) + "\n"

    return _line(number, change)


FANNIE_EDITS: list[tuple[Edit, str]] = [
    (
        lambda text: text.replace("|", ","),
        r"Line 1 of `2005Q1.csv` should have 108 or 110 .* by `\|`. Found 1. P",
    ),
    (lambda text: text.replace("|\n", "\n"), r"Line 1 of `2005Q1.csv` should have 108 or 110 .* Found 107. Pass"),
    (_line(3, lambda line: line[3:]), r"Line 3 of `2005Q1.csv` should have 108 fields .* Found 106. Pass"),
    (_line(5, lambda line: "\n"), r"Line 5 of `2005Q1.csv` should have 108 fields .* Found 1. Pass"),
    (
        lambda text: text[:-60],
        r"`2005Q1.csv` should end with a whole line. Found line \d+ cut off in field \d\d of",
    ),
    (lambda text: "", r"`2005Q1.csv` should hold lines. Found it empty at .* Get it from Fannie Mae"),
    (
        _field(4, 3, "200513"),
        r"Line 4 of `2005Q1.csv` should hold a month in the form MMYYYY .* Found `200513`",
    ),
    (_field(4, 16, "three"), r"Line 4 of `2005Q1.csv` should hold an age in months as age. Found `three`. Mend"),
    (_field(9, 40, "C"), r"Line 9 of `2005Q1.csv` should hold payments behind, RA or XX as status. Found `C`."),
    (_field(9, 44, "Z1"), r"Line 9 of `2005Q1.csv` should hold a zero-balance code or nothing as ended. Found `Z1`."),
    (_field(13, 24, "good"), r"Line 13 of `2005Q1.csv` should hold a number .* credit_score. Found `good`"),
    (_field(5, 3, "012005"), r"Line 5 of `2005Q1.csv` should hold a later month .* Found `012005`."),
    (
        lambda text: text + text.splitlines()[0] + "\n",
        r"next to each other in `2005Q1.csv`. Found loan A again",
    ),
]


@pytest.mark.parametrize(("edit", "message"), FANNIE_EDITS)
@pytest.mark.parametrize("chunk", [4, 200_000])
def test_a_bad_file_gives_one_sentence_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Edit, message: str, chunk: int
) -> None:
    monkeypatch.setattr(pipe_files, "CHUNK", chunk)
    load = fannie(tmp_path, LOANS)
    path = tmp_path / "2005Q1.csv"
    path.write_text(edit(path.read_text()))
    with pytest.raises(ValueError, match=message):
        load()
    assert [file.name for file in tmp_path.iterdir()] == ["2005Q1.csv"]


FREDDIE_EDITS: list[tuple[str, Edit, str]] = [
    (
        "orig",
        lambda text: text.replace("|", "\t"),
        r"Line 1 of `sample_orig_2005.txt` should .* 32 or 31 .* Found 1.",
    ),
    (
        "svcg",
        lambda text: text.replace("|\n", "||\n"),
        r"Line 1 of `sample_svcg_2005.txt` should .* 32 or 35.*Found 33",
    ),
    (
        "orig",
        _field(2, 1, "72O"),
        r"Line 2 of `sample_orig_2005.txt` should .* number .* credit_score. Found `72O`",
    ),
    ("orig", lambda text: text + text.splitlines()[0] + "\n", r"Line 10 .* a loan not seen before as loan. Found `A`."),
    (
        "orig",
        lambda text: "".join(text.splitlines(keepends=True)[1:]),
        r"Line 1 of `sample_svcg.* Found `A`.",
    ),
    ("svcg", _field(2, 2, "022005"), r"Line 2 of `sample_svcg_2005.txt` .* form YYYYMM as period. Found `022005`"),
    ("svcg", lambda text: text[:-20], r"`sample_svcg_2005.txt` should end with a whole line. Found line \d+ cut off"),
]


@pytest.mark.parametrize(("file", "edit", "message"), FREDDIE_EDITS)
def test_a_bad_pair_gives_one_sentence_with_its_line(tmp_path: Path, file: str, edit: Edit, message: str) -> None:
    load = freddie(tmp_path, LOANS)
    path = tmp_path / f"sample_{file}_2005.txt"
    path.write_text(edit(path.read_text()))
    with pytest.raises(ValueError, match=message):
        load()


@pytest.mark.parametrize("write", LAYOUTS)
def test_absent_files(tmp_path: Path, write: Writer) -> None:
    load = write(tmp_path, LOANS)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"`\w+\.\w+` should be there. Found nothing at .* Get it from F"):
        load()


@pytest.mark.parametrize(
    ("write", "dataset", "names"),
    [
        (fannie, "fannie_mae", ["2005Q1.csv"]),
        (freddie, "freddie_mac", ["sample_orig_2005.txt", "sample_svcg_2005.txt"]),
    ],
    ids=["fannie", "freddie"],
)
def test_a_notebooks_design_reads_the_official_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer, dataset: str, names: list[str]
) -> None:
    write(tmp_path, {f"{name[0]}{k}": STORIES[name][:2] for name in ("A", "B", "C") for k in range(40)})
    monkeypatch.setenv("MTLCORE_DATA", str(tmp_path))
    folds = folds_of({"dataset": dataset, "files": names}, [0, 1])
    assert len(folds.task.inputs) > 60
    assert folds.task.main == "default"
    monkeypatch.delenv("MTLCORE_DATA")
    with pytest.raises(FileNotFoundError, match=f"`{names[0]}` should lie in the folder named by .* MTLCORE_DATA"):
        folds_of({"dataset": dataset, "files": names}, [2])
