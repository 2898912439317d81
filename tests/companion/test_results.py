"""Cells are computed once and only reused for exactly their configuration; tables come back bit by bit."""

import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from companion.store import paths, results, tidy
from companion.store.results import Results, code_digest


def table(value: float = 1.0, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"run": [0], "metric": ["loss"], "value": [value], **columns})


def counted(calls: list[Any]) -> Callable[[Mapping[str, Any]], pd.DataFrame]:
    def compute(configuration: Mapping[str, Any]) -> pd.DataFrame:
        calls.append(dict(configuration))
        return table(float(len(calls)), seconds=[0.5])

    return compute


def test_two_functions_of_one_configuration_share_no_table(tmp_path: Path) -> None:
    def one(configuration: Mapping[str, Any]) -> pd.DataFrame:
        return table(1.0)

    def two(configuration: Mapping[str, Any]) -> pd.DataFrame:
        return table(2.0)

    store = Results(tmp_path, "1")
    for _ in range(2):
        assert store.cell({"seed": 0}, one)["value"].tolist() == [1.0]
        assert store.cell({"seed": 0}, two)["value"].tolist() == [2.0]
    assert len(list(tmp_path.glob("[!.]*.json"))) == 2


AWKWARD = pd.DataFrame(
    {
        "metric": ["a", "b,\n", 'c"', "", "nan", "NA", "ä", "None"],
        "step": np.arange(8) * 2**60,
        "late": [True, False] * 4,
        "rate": [0.1, 1 / 3, 1e-300, 5e-324, 1.7976931348623157e308, 2**53 + 0.0, -0.0, 3e-5],
        "value": [np.nan, np.inf, -np.inf, 0.1 + 0.2, 1e22, 123456789.123456789, -0.0, np.pi],
        "seconds": [1.5] * 8,
    }
)


def test_a_stored_table_comes_back_bit_by_bit(tmp_path: Path) -> None:
    first = Results(tmp_path, "1").cell({"a": 1}, lambda _: AWKWARD)
    again = Results(tmp_path, "1").cell({"a": 1}, lambda _: table())
    for found in (first, again):
        pd.testing.assert_frame_equal(found, AWKWARD, check_exact=True)
        assert np.signbit(found["value"][6])


def test_a_finished_cell_is_not_computed_again(tmp_path: Path) -> None:
    calls: list[Any] = []
    for _ in range(2):
        both = Results(tmp_path, "1").cells(
            [{"lr": 0.1, "seeds": [0, 1]}, {"lr": 0.2, "seeds": [0, 1]}], counted(calls)
        )
        assert both.to_dict("list") == {
            "lr": [0.1, 0.2], "run": [0, 0], "metric": ["loss"] * 2, "value": [1.0, 2.0], "seconds": [0.5] * 2,
        }  # fmt: skip
    assert len(calls) == 2


@pytest.mark.parametrize("change", [{"a": 1.0}, {"a": True}, {"a": 2}, {"a": 1, "b": None}, {"a": "1"}, {"a": [1]}])
@pytest.mark.parametrize("collision", [False, True])
def test_a_changed_configuration_or_code_never_reuses(
    tmp_path: Path, change: dict[str, Any], collision: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if collision:
        monkeypatch.setattr(results, "_name", lambda _: "same")
    calls: list[Any] = []
    assert Results(tmp_path, "1").cell({"a": 1}, counted(calls))["value"][0] == 1
    assert Results(tmp_path, "1").cell(change, counted(calls))["value"][0] == 2
    assert Results(tmp_path, "2").cell({"a": 1}, counted(calls))["value"][0] == 3
    found = [Results(tmp_path, code).cell(c, counted(calls)) for code, c in (("1", {"a": 1}), ("1", change))]
    assert [int(t["value"][0]) for t in found] == [1, 2]  # and the older ones are still there
    assert len(calls) == 3


def test_the_order_of_names_and_tuples_change_nothing(tmp_path: Path) -> None:
    calls: list[Any] = []
    kept = Results(tmp_path, "1")
    kept.cell({"a": 1, "seeds": (0, 1)}, counted(calls))
    kept.cell({"seeds": [0, 1], "a": 1}, counted(calls))
    assert calls == [{"a": 1, "seeds": [0, 1]}]  # computed from what is stored, not from a look-alike


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die in the computation, before each of the two renames, and between them."""
    calls: list[Any] = []
    cells = [{"seed": 0}, {"seed": 1}]

    def dies(configuration: Mapping[str, Any]) -> pd.DataFrame:
        if configuration["seed"]:
            raise KeyboardInterrupt
        return counted(calls)(configuration)

    dies.__qualname__ = counted(calls).__qualname__  # the same function, on a worse day
    with pytest.raises(KeyboardInterrupt):
        Results(tmp_path, "1").cells(cells, dies)
    assert len(list(tmp_path.glob("*.json"))) == 1
    rename = Path.replace
    for fatal in (1, 2):
        renames = iter(range(1, 3))

        def replace(path: Path, target: Path, renames: Any = renames, fatal: int = fatal) -> Path:
            if next(renames) == fatal:
                raise KeyboardInterrupt
            return rename(path, target)

        monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            Results(tmp_path, "1").cells(cells, counted(calls))
        assert len(list(tmp_path.glob("[!.]*.json"))) == 1
    monkeypatch.undo()
    assert Results(tmp_path, "1").cells(cells, counted(calls))["value"].tolist() == [1.0, 4.0]
    assert [c["seed"] for c in calls] == [0, 1, 1, 1]
    assert len(list(tmp_path.glob("[!.]*.csv.gz"))) == 2


def test_two_runs_may_finish_the_same_cell_at_once(tmp_path: Path) -> None:
    """Threads here, since the lock belongs to an opened file and so works between threads as between processes."""
    barrier = threading.Barrier(2, timeout=60)

    def compute(_: Mapping[str, Any]) -> pd.DataFrame:
        barrier.wait()  # both have found nothing and now store
        return AWKWARD

    with ThreadPoolExecutor() as pool:
        for found in pool.map(lambda _: Results(tmp_path, "1").cell({"a": 1}, compute), range(2)):
            pd.testing.assert_frame_equal(found, AWKWARD)
    assert len(list(tmp_path.glob("*.json"))) == 1


@pytest.mark.parametrize("damage", ["flipped", "gone", "emptied", "no json", "other json"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, damage: str) -> None:
    kept = Results(tmp_path, "1")
    kept.cell({"a": 1}, lambda _: table())
    (csv,), (description,) = tmp_path.glob("*.csv.gz"), tmp_path.glob("*.json")
    content = csv.read_bytes()
    if damage == "flipped":
        csv.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "gone":
        csv.unlink()
    elif damage == "emptied":
        csv.write_bytes(b"")
    else:
        description.write_text("[1, 2" if damage == "no json" else "[1, 2]", encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    blamed = description if "json" in damage else csv
    with pytest.raises(
        ValueError, match=re.escape(f"File {blamed} should hold") + ".*" + re.escape(f"Delete {description} ")
    ):
        kept.cell({"a": 1}, lambda _: table())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    description.unlink()  # the remedy
    assert kept.cell({"a": 1}, lambda _: table(2.0))["value"][0] == 2


def test_what_is_stored_depends_on_the_table_only(tmp_path: Path) -> None:
    for name in "ab":
        Results(tmp_path / name, "1").cell({"a": 1}, lambda _: AWKWARD)
    a, b = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir() if p.suffix != ".lock"} for n in "ab")
    assert a == b


@pytest.mark.parametrize(
    "value", [np.float64(1), np.arange(2), {"b": 1}, [[1]], float("nan"), [1.0, float("inf")], pd.Timestamp(0), print]
)
def test_configurations_hold_plain_values(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match=r"A configuration should hold .* Found 'knob': "):
        Results(tmp_path, "1").cell({"knob": value}, lambda _: table())
    assert not list(tmp_path.iterdir())


def test_a_table_does_not_repeat_its_configuration() -> None:
    with pytest.raises(ValueError, match=r"Found run in both\. Leave it out"):
        Results(None, "1").cells([{"run": 3}], lambda _: table())


def test_the_fast_profile_always_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    for profile, computed in (("fast", 2), ("full", 1)):
        calls: list[Any] = []
        for _ in range(2):
            Results.of_profile(profile, "1").cell({"a": 1}, counted(calls))
        assert len(calls) == computed
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["full"]


def test_no_progress_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    Results(None, "1").cells([{"a": 1}], lambda _: table())
    assert capfd.readouterr() == ("", "")


def test_code_digest_follows_imports_and_ignores_prose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mtlcore"
    (package / "data").mkdir(parents=True)
    monkeypatch.setattr(results, "_PACKAGES", {"mtlcore": tmp_path})
    sources = {
        "study.py": "import numpy\nfrom mtlcore import runs\nfrom mtlcore.data import load\n",
        "runs.py": "def f(x):\n    return x + 1\n",
        "data/__init__.py": "from mtlcore.data.files import load\n",
        "data/files.py": "import mtlcore.runs\nload = 1\n",
        "other.py": "unused = 1\n",
    }
    for name, source in sources.items():
        (package / name).write_text(source, encoding="utf-8")
    original = code_digest("mtlcore.study")
    for name, source, same in (
        ("runs.py", '"""Room."""\n\n\ndef f(x):  # why\n    """Add."""\n    return (x + 1)\n', True),
        ("other.py", "unused = 2\n", True),
        ("runs.py", "def f(x):\n    return x - 1\n", False),
        ("data/files.py", "import mtlcore.runs\nload = 2\n", False),
        ("study.py", sources["study.py"] + "f = 1\n", False),
    ):
        (package / name).write_text(source, encoding="utf-8")
        assert (code_digest("mtlcore.study") == original) is same, name
        (package / name).write_text(sources[name], encoding="utf-8")
    with pytest.raises(ValueError, match=r"Found 'mtlcore\.nothing'"):
        code_digest("mtlcore.nothing")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (table().drop(columns="metric"), "Found no metric"),
        (table().drop(columns="value"), "Found no value"),
        (table().assign(metric=1), r"Found run \(int64\), metric \(int64\)"),
        (table().assign(value="1"), r"value \(str\)"),
        (table().assign(value=True), r"value \(bool\)"),
        (table().assign(seconds="1"), r"seconds \(str\)"),
        (table().assign(rate=pd.Series([None], dtype=object)), "column 'rate' of type object"),
        (table().assign(day=pd.Timestamp(0)), "column 'day'"),
        (pd.concat([table(), table(2.0, seconds=[1.0])]), "Found 1 rows that say the same as another.*'run': 0"),
    ],
)
def test_untidy_tables_are_refused(tmp_path: Path, wrong: pd.DataFrame, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Results(tmp_path, "1").cell({"a": 1}, lambda _: wrong)
    assert not list(tmp_path.iterdir())


def test_differences_are_within_the_tolerance_of_the_metric() -> None:
    expected = pd.DataFrame(
        {"run": [0, 0, 1, 1], "metric": ["a", "b"] * 2, "value": [1.0, 2.0, np.nan, np.inf], "seconds": [1.0] * 4}
    )
    tolerance = {"a": 0.1, "b": 0.0}
    other_order = expected.iloc[::-1].assign(seconds=9.0, peak_mib=3.0)
    assert tidy.differences(other_order, expected, tolerance) == []
    assert tidy.differences(expected.assign(value=[1.09, 2, np.nan, np.inf]), expected, tolerance) == []
    for value, words in (
        ([1.11, 2, np.nan, np.inf], r"a: 1 of \d values differ by more than 0.1; expected 1, found 1.11 at .*'run': 0"),
        ([1, 2.0001, np.nan, np.inf], "b: 1 of 2 values"),
        ([1, 2, 0.0, np.inf], "a: 1 of 2 values .* expected nan, found 0"),
        ([np.nan, 2, np.nan, np.inf], "a: 1 of 2 values .* found nan"),
        ([1, 2, np.nan, -np.inf], "b: 1 of 2 values"),
        ([1, np.inf, np.nan, np.inf], "b: 1 of 2 values"),
    ):
        (found,) = tidy.differences(expected.assign(value=value), expected, tolerance)
        assert re.search(words, found), found
    missing, new = tidy.differences(expected.assign(run=[0, 0, 1, 2]), expected, tolerance)
    assert "1 rows are missing" in missing
    assert "1 rows are new" in new
    assert tidy.differences(expected.assign(step=1), expected, tolerance)[0].startswith("Expected the columns")
    assert tidy.differences(expected, expected, {"a": 1.0}) == ["No tolerance is given for b."]
