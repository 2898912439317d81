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
from companion.store import code, paths, results, tidy
from companion.store.code import code_digest
from companion.store.published import Cell, files, publish, read
from companion.store.results import Results


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the checkout; returns where the toy's cells are kept. All code has the digest "1"."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "COMMITTED_FIGURES", tmp_path / "figures" / "full")
    monkeypatch.setenv("MTLCORE_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr(results, "code_digest", lambda _: "1")
    return tmp_path / "build" / "results" / "90"


def full() -> Results:
    """The cells of a full run of the toy."""
    return Results("90_toy", "full")


def table(value: float = 1.0, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"run": [0], "metric": ["loss"], "value": [value], **columns})


def counted(calls: list[Any]) -> Callable[[Mapping[str, Any]], pd.DataFrame]:
    def compute(configuration: Mapping[str, Any]) -> pd.DataFrame:
        calls.append(dict(configuration))
        return table(float(len(calls)), seconds=[0.5])

    return compute


def test_two_functions_of_one_configuration_share_no_table(place: Path) -> None:
    def one(configuration: Mapping[str, Any]) -> pd.DataFrame:
        return table(1.0)

    def two(configuration: Mapping[str, Any]) -> pd.DataFrame:
        return table(2.0)

    store = full()
    for _ in range(2):
        assert store.cell({"seed": 0}, one)["value"].tolist() == [1.0]
        assert store.cell({"seed": 0}, two)["value"].tolist() == [2.0]
    assert len(list(place.glob("[!.]*.json.gz"))) == 2


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


def test_a_stored_table_comes_back_bit_by_bit() -> None:
    first = full().cell({"a": 1}, lambda _: AWKWARD)
    again = full().cell({"a": 1}, lambda _: AWKWARD.assign(value=0.0))
    for found in (first, again):
        pd.testing.assert_frame_equal(found, AWKWARD, check_exact=True)
        assert np.signbit(found["value"][6])


def test_a_finished_cell_is_not_computed_again() -> None:
    calls: list[Any] = []
    for _ in range(2):
        both = full().cells([{"lr": 0.1, "seeds": [0, 1]}, {"lr": 0.2, "seeds": [0, 1]}], counted(calls))
        assert both.to_dict("list") == {
            "lr": [0.1, 0.2], "run": [0, 0], "metric": ["loss"] * 2, "value": [1.0, 2.0], "seconds": [0.5] * 2,
        }  # fmt: skip
    assert len(calls) == 2


@pytest.mark.parametrize("change", [{"a": 1.0}, {"a": True}, {"a": 2}, {"a": 1, "b": None}, {"a": "1"}, {"a": [1]}])
def test_a_changed_configuration_or_code_never_reuses(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    assert full().cell({"a": 1}, counted(calls))["value"][0] == 1
    assert full().cell(change, counted(calls))["value"][0] == 2
    monkeypatch.setattr(results, "code_digest", lambda _: "2")
    assert full().cell({"a": 1}, counted(calls))["value"][0] == 3
    monkeypatch.setattr(results, "code_digest", lambda _: "1")
    assert [int(full().cell(c, counted(calls))["value"][0]) for c in ({"a": 1}, change)] == [1, 2]  # still there
    assert len(calls) == 3


def test_the_order_of_names_and_tuples_change_nothing() -> None:
    calls: list[Any] = []
    kept = full()
    kept.cell({"a": 1, "seeds": (0, 1)}, counted(calls))
    kept.cell({"seeds": [0, 1], "a": 1}, counted(calls))
    assert calls == [{"a": 1, "seeds": [0, 1]}]  # computed from what is stored, not from a look-alike


def test_a_killed_run_goes_on_where_it_stopped(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die in the computation, and before the rename."""
    calls: list[Any] = []
    cells = [{"seed": 0}, {"seed": 1}]

    def dies(configuration: Mapping[str, Any]) -> pd.DataFrame:
        if configuration["seed"]:
            raise KeyboardInterrupt
        return counted(calls)(configuration)

    def fails(path: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    dies.__qualname__ = counted(calls).__qualname__  # the same function, on a worse day
    with pytest.raises(KeyboardInterrupt):
        full().cells(cells, dies)
    assert len(list(place.glob("[!.]*.json.gz"))) == 1
    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(KeyboardInterrupt):
        full().cells(cells, counted(calls))
    monkeypatch.undo()
    monkeypatch.setattr(paths, "BUILD", place.parents[1])
    monkeypatch.setattr(results, "code_digest", lambda _: "1")
    assert len(list(place.glob("[!.]*.json.gz"))) == 1
    assert full().cells(cells, counted(calls))["value"].tolist() == [1.0, 3.0]
    assert [c["seed"] for c in calls] == [0, 1, 1]


def test_two_runs_may_finish_the_same_cell_at_once(place: Path) -> None:
    """Threads here, since the lock belongs to an opened file and so works between threads as between processes."""
    barrier = threading.Barrier(2, timeout=60)

    def compute(_: Mapping[str, Any]) -> pd.DataFrame:
        barrier.wait()  # both have found nothing and now store
        return AWKWARD

    with ThreadPoolExecutor() as pool:
        for found in pool.map(lambda _: full().cell({"a": 1}, compute), range(2)):
            pd.testing.assert_frame_equal(found, AWKWARD)
    assert len(list(place.glob("*.json.gz"))) == 1


def damage(path: Path, how: str) -> None:
    """Change a file as a full disk, a bad one or a hand would."""
    content = path.read_bytes()
    changed = {"flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "emptied": b"", "cut": content[:40]}
    path.write_bytes(changed[how])


@pytest.mark.parametrize("how", ["flipped", "emptied", "cut"])
def test_a_damaged_file_is_named_with_the_remedy(place: Path, how: str) -> None:
    def compute(_: Mapping[str, Any]) -> pd.DataFrame:
        return table()

    full().cell({"a": 1}, compute)
    (path,) = place.glob("*.json.gz")
    damage(path, how)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=re.escape(f"File {path} should hold") + ".*Delete it to compute"):
        full().cell({"a": 1}, compute)
    assert path.read_bytes() == before
    path.unlink()  # the remedy
    assert full().cell({"a": 1}, compute)["value"][0] == 1


@pytest.mark.parametrize(
    "value", [np.float64(1), np.arange(2), {"b": 1}, [[1]], float("nan"), [1.0, float("inf")], pd.Timestamp(0), print]
)
def test_configurations_hold_plain_values(place: Path, value: Any) -> None:
    with pytest.raises(ValueError, match=r"A configuration should hold .* Found 'knob': "):
        full().cell({"knob": value}, lambda _: table())
    assert not place.exists()


def test_a_table_does_not_repeat_its_configuration() -> None:
    with pytest.raises(ValueError, match=r"Found run in both\. Leave it out"):
        Results("90_toy", "fast").cells([{"run": 3}], lambda _: table())


def test_the_fast_profile_always_computes_and_keeps_nothing(place: Path) -> None:
    for profile, computed in (("fast", 2), ("full", 1)):
        calls: list[Any] = []
        for _ in range(2):
            Results("90_toy", profile).cell({"a": 1}, counted(calls))
        assert len(calls) == computed
        assert place.exists() == (profile == "full")


def test_published_runs_come_back_bit_by_bit_and_nothing_is_computed(place: Path) -> None:
    other = pd.DataFrame({"seed": [7], "metric": ["loss"], "value": [0.5]})  # lacks columns that the first has
    run = full()
    run.cell({"method": "a", "seeds": [0, 1], "device": "cpu", "cell": "x", "scale": None}, lambda _: AWKWARD)
    run.cell({"method": "b", "seeds": [7], "device": "cpu"}, lambda _: other)
    run.publish()
    calls: list[Any] = []
    again = Results("90_toy", "published")
    fails = counted(calls)
    fails.__qualname__ = read(paths.COMMITTED_FIGURES, "90_toy")[0].kind
    for device in ("cpu", "cuda"):
        asked = {"method": "a", "seeds": [0, 1], "device": device, "cell": "x", "scale": None}
        pd.testing.assert_frame_equal(again.cell(asked, fails), AWKWARD, check_exact=True)
    pd.testing.assert_frame_equal(again.cell({"method": "b", "seeds": [7]}, fails), other, check_exact=True)
    assert calls == []
    runs = pd.read_csv(files(paths.COMMITTED_FIGURES, "90_toy")[0], keep_default_na=False)
    assert runs["method"].tolist() == ["a"] * len(AWKWARD) + ["b"]
    assert runs["seed"].tolist()[-1] in (7, "7")


def test_a_full_run_takes_over_what_was_computed_elsewhere(place: Path) -> None:
    """It trains the one cell, takes the published table for the other, and publishes both."""
    first, calls = full(), list[Any]()
    compute = counted(calls)
    first.cell({"size": "small"}, compute)
    given = first.cell({"size": "large"}, compute)
    first.publish()
    for path in place.glob("*.json.gz"):
        path.unlink()
    again = full()
    again.cell({"size": "small"}, compute)
    pd.testing.assert_frame_equal(again.cell({"size": "large"}, compute, elsewhere=True), given, check_exact=True)
    again.publish()
    assert [call["size"] for call in calls] == ["small", "large", "small"]
    kept = {cell.configuration["size"]: cell.table for cell in read(paths.COMMITTED_FIGURES, "90_toy")}
    assert kept.keys() == {"small", "large"}
    pd.testing.assert_frame_equal(kept["large"], given, check_exact=True)
    with pytest.raises(ValueError, match="Found `size = 'huge'`"):
        full().cell({"size": "huge"}, compute, elsewhere=True)


def test_what_was_not_published_is_refused_with_the_difference() -> None:
    run = full()
    compute = counted([])
    run.cell({"method": "a", "epochs": 10, "seeds": [0, 1]}, compute)
    run.cell({"method": "b", "epochs": 30, "seeds": [0, 1]}, compute)
    run.publish()
    found = r"Found `epochs = 20` where they have 10\. .* `profile = \"fast\"` or `\"full\"`"
    with pytest.raises(ValueError, match=found):
        Results("90_toy", "published").cell({"method": "a", "epochs": 20, "seeds": [0, 1]}, compute)


@pytest.mark.parametrize("how", ["flipped", "emptied", "cut"])
@pytest.mark.parametrize("which", [0, 1], ids=["runs", "cells"])
def test_damaged_published_runs_are_named(how: str, which: int) -> None:
    publish(paths.COMMITTED_FIGURES, "90_toy", [Cell("f", {"a": 1}, table())])
    path = files(paths.COMMITTED_FIGURES, "90_toy")[which]
    if which == 1 and how == "flipped":
        path.write_bytes(path.read_bytes().replace(b'"sha256": "', b'"sha256": "0'))
    else:
        damage(path, how)
    with pytest.raises(ValueError, match=r"90_runs\.csv\.xz.* Take them back with git, or run make full NOTEBOOK=90"):
        Results("90_toy", "published")


def test_what_is_published_depends_on_the_cells_only() -> None:
    contents = []
    for _ in range(2):
        publish(paths.COMMITTED_FIGURES, "90_toy", [Cell("f", {"a": 1}, AWKWARD)])
        contents.append([path.read_bytes() for path in files(paths.COMMITTED_FIGURES, "90_toy")])
    assert contents[0] == contents[1]


def test_no_progress_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    Results("90_toy", "fast").cells([{"a": 1}], lambda _: table())
    assert capfd.readouterr() == ("", "")


def test_code_digest_follows_imports_and_ignores_prose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mtlcore"
    (package / "data").mkdir(parents=True)
    monkeypatch.setattr(code, "_PACKAGES", {"mtlcore": tmp_path})
    digest_of = code_digest.__wrapped__  # without its memory
    sources = {
        "study.py": "import numpy\nfrom mtlcore import runs\nfrom mtlcore.data import load\n",
        "runs.py": "def f(x):\n    return x + 1\n",
        "data/__init__.py": "from mtlcore.data.files import load\n",
        "data/files.py": "import mtlcore.runs\nload = 1\n",
        "other.py": "unused = 1\n",
    }
    for name, source in sources.items():
        (package / name).write_text(source, encoding="utf-8")
    original = digest_of("mtlcore.study")
    for name, source, same in (
        ("runs.py", '"""Room."""\n\n\ndef f(x):  # why\n    """Add."""\n    return (x + 1)\n', True),
        ("other.py", "unused = 2\n", True),
        ("runs.py", "def f(x):\n    return x - 1\n", False),
        ("data/files.py", "import mtlcore.runs\nload = 2\n", False),
        ("study.py", sources["study.py"] + "f = 1\n", False),
    ):
        (package / name).write_text(source, encoding="utf-8")
        assert (digest_of("mtlcore.study") == original) is same, name
        (package / name).write_text(sources[name], encoding="utf-8")
    with pytest.raises(ValueError, match=r"Found 'mtlcore\.nothing'"):
        digest_of("mtlcore.nothing")


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
def test_untidy_tables_are_refused(place: Path, wrong: pd.DataFrame, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        full().cell({"a": 1}, lambda _: wrong)
    assert not place.exists()


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
