"""Every writer, with each of its steps failing in turn: what was there stays, nothing half written or left over."""

import errno
import io
import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import papermill
import pytest
import toy_notebook
from companion.claims import ledger
from companion.coursework.folder import write_folder
from companion.data import earth_scenes
from companion.plots import figures
from companion.runner import inputs, notebooks
from companion.store import paths, published, results, writing
from companion.store.manifest import publish
from companion.store.published import Cell
from companion.store.results import Results
from toy_notebook import toy

from benchmarks import _table
from benchmarks._table import Row

Writer = Callable[[int], object]  # writes its files anew with content that depends on the number


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything is written below one folder, which stands for the checkout."""
    for name, folder in (("ROOT", ""), ("BUILD", "build"), ("FAILED", "failed"), ("NOTEBOOKS", "notebooks")):
        monkeypatch.setattr(paths, name, tmp_path / folder)
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(results, "code_digest", lambda _: "1")
    monkeypatch.setenv("MTLCORE_FIGURES", str(tmp_path / "figures"))
    return tmp_path


class Drawing:
    """A figure that takes no time to draw."""

    def __init__(self, number: int) -> None:
        self.content = str(number).encode()

    def savefig(self, file: IO[bytes], **_: Any) -> None:
        file.write(self.content)

    def set_layout_engine(self, _: str) -> None:
        """It has none."""


def save(number: int) -> None:
    drawn: Any = Drawing(number)
    provenance: dict[str, Any] = {"parameters": {}, "seeds": [number], "data_checksums": {}}
    figures.save_figure(drawn, "toy", pd.DataFrame({"y": [number]}), notebook="toy", profile="fast", **provenance)


def save_as_a_run(number: int) -> None:
    """Stage a figure that a run made, and one more than in the last run, whose own goes."""
    staged = paths.ROOT / "failed" / f"staged{number}" / "fast"
    staged.mkdir(parents=True, exist_ok=True)
    stems = ("kept", f"only{number}")
    entry = {"notebook": "toy", "seeds": [number], "digest": "", "profile": "fast"}
    entries = {stem: entry | {"files": [f"{stem}.png", f"{stem}.csv"]} for stem in stems}
    for name in itertools.chain.from_iterable(e["files"] for e in entries.values()):
        (staged / str(name)).write_text(f"{name} {number}")
    (staged / "manifest.json").write_text(json.dumps({"figures": entries}))
    publish(staged.parent, "fast", "toy")


def keep_a_cell(number: int) -> None:
    table = pd.DataFrame({"metric": ["loss"], "value": [float(number)]})
    Results("90_toy", "full").cell({"number": number}, lambda _: table)


def papermill_of(number: int) -> Callable[..., None]:
    """Stand in for papermill, whose own files lie below failed/ and may be half written."""

    def execute_notebook(path: Path, attempt: Path, *_: Any, **__: Any) -> None:
        notebook = json.loads(path.read_text())
        for count, cell in enumerate((c for c in notebook["cells"] if c["cell_type"] == "code"), start=1):
            cell["execution_count"] = count
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": [f"{number}\n"]}]
        attempt.write_text(json.dumps(notebook))

    return execute_notebook


def run_a_notebook(number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papermill, "execute_notebook", papermill_of(number))
        notebooks.execute(a_notebook(), paths.BUILD / "notebooks" / "toy.ipynb")


def record_a_notebook(number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papermill, "execute_notebook", papermill_of(number))
        notebooks.record(a_notebook())


def a_notebook() -> Path:
    path = paths.NOTEBOOKS / "toy.ipynb"
    return path if path.exists() else toy_notebook.write(path, toy())


def publish_runs(number: int) -> None:
    table = pd.DataFrame({"metric": ["loss"], "value": [float(number)]})
    published.publish(paths.FIGURES / "full", "90_toy", [Cell("f", {"number": number}, table)])


def keep_the_map(number: int) -> None:
    plane = np.full((1, 1), number, np.float32)
    earth = earth_scenes.EarthMap(plane, plane.astype(np.int8), plane)
    earth_scenes._store(earth, paths.BUILD / "data" / "earth.json")


def list_inputs(number: int) -> None:
    a_notebook()
    (paths.ROOT / "mtlcore").mkdir(exist_ok=True)
    if not (paths.ROOT / "requirements.lock").exists():
        (paths.ROOT / "requirements.lock").write_text("")
    inputs.main("fast", [f"number={number}"], ["toy"])


def write_the_readme(number: int) -> None:
    readme = paths.ROOT / "README.md"
    if not readme.exists():
        readme.write_text(f"Before.\n{ledger.BEGIN}\n{ledger.END}\nAfter.\n")
    ledger.write_readme(readme, str(number))


def keep_measured(number: int) -> None:
    rows = [Row("HydaLearn", 2, "time of a step", float(number), "ms")]
    _table.save("step", "5 numbers", rows, "a machine", paths.BUILD / "bench")


def write_a_folder(number: int) -> None:
    write_folder(paths.BUILD / "student", {"01.ipynb": b"%d" % number, "helpers/x.py": b"%d" % number})


WRITERS: dict[str, Writer] = {
    "a figure": save,
    "figures of a run": save_as_a_run,
    "a cell": keep_a_cell,
    "an executed notebook": run_a_notebook,
    "a recorded notebook": record_a_notebook,
    "published runs": publish_runs,
    "the map": keep_the_map,
    "inputs": list_inputs,
    "the README": write_the_readme,
    "measured times": keep_measured,
    "the student version": write_a_folder,
}
# Of a run's figures these files are written at once; then the old ones go, and the manifest is written without them.
TOGETHER = {"figures of a run": 5}
# Inputs must not import what makes the sentence; the student version renames whole folders besides.
RAW = ("inputs", "the student version")


def kept(folder: Path) -> dict[str, bytes]:
    """Every file of the checkout that counts, that is all but locks and what failed runs leave as evidence."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.relative_to(folder).parts[0] != "failed"
    }


class Steps:
    """The steps of writing, counted; the n-th of a kind fails. `/dev/full` is the system's own full disk."""

    def __init__(self, patch: pytest.MonkeyPatch, fails: tuple[str, int] | None = None) -> None:
        self.count = {"open": 0, "content": 0, "force": 0, "rename": 0}
        self.fails = fails
        real_open, real_force, real_rename = io.open, os.fsync, Path.replace

        def opened(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> IO[Any]:
            written = isinstance(file, Path) and file.is_relative_to(paths.ROOT) and set(mode) & set("wax+")
            if not written or "failed" in file.parts or file.suffix == ".lock":
                return real_open(file, mode, *arguments, **named)
            self.step("open", errno.EROFS)
            if self.is_next("content"):
                file = "/dev/full"
            return real_open(file, mode, *arguments, **named)

        def forced(descriptor: int) -> None:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):  # that a folder cannot be forced is passed over
                self.step("force", errno.EIO)
            real_force(descriptor)

        def renamed(path: Path, target: Path) -> Path:
            self.step("rename", errno.EACCES)
            return real_rename(path, target)

        patch.setattr(io, "open", opened)
        patch.setattr(os, "fsync", forced)
        patch.setattr(Path, "replace", renamed)

    def is_next(self, kind: str) -> bool:
        self.count[kind] += 1
        return self.fails == (kind, self.count[kind])

    def step(self, kind: str, number: int) -> None:
        if self.is_next(kind):
            raise OSError(number, os.strerror(number))


def steps_of(writer: Writer) -> list[tuple[str, int]]:
    """All steps of writing something a second time."""
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch)
        writer(2)
    return [(kind, n) for kind, many in steps.count.items() for n in range(1, many + 1)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", WRITERS)
def test_whichever_step_fails_nothing_is_lost(name: str, place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    writer, saved = WRITERS[name], tmp_path_factory.mktemp("saved") / "before"
    writer(1)
    before = kept(place)
    shutil.copytree(place, saved)
    steps = steps_of(writer)
    after = kept(place)
    assert before != after
    assert {"open", "content", "rename"} <= {kind for kind, _ in steps}
    for kind, n in steps:
        shutil.rmtree(place)
        shutil.copytree(saved, place)
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, (kind, n))
            with pytest.raises(OSError) as caught:  # noqa: PT011 - what it says is looked at below
                writer(2)
        found = kept(place)
        assert set(found) <= set(before) | set(after) | {"build/record/toy.ipynb"}, f"left over after {kind} {n}"
        if n <= TOGETHER.get(name, n) and (kind != "rename" or n == 1):  # a rename after the first leaves some new
            assert {path: found.get(path) for path in before} == before, (kind, n)
        if name not in RAW:
            check_sentence(str(caught.value), place)
        writer(2)
        assert kept(place) == after, (kind, n)


def check_sentence(text: str, place: Path) -> None:
    assert text.startswith("File `"), text
    assert str(place) not in text, "paths are said from the checkout's root"
    assert "should be written. Found: " in text
    assert text.endswith("run the same command again; what was finished before is kept."), text
    assert "\n" not in text


def test_the_remedy_fits_the_error() -> None:
    for number, words in (
        (errno.ENOSPC, "Found: no space left on device (ENOSPC). Free some space there"),
        (errno.EDQUOT, "(EDQUOT). Free some space there, or raise the limit, and run"),
        (errno.EROFS, "Found: read-only file system (EROFS). Make it writable and run"),
        (errno.EACCES, "Found: permission denied (EACCES). Make it writable and run"),
        (errno.EIO, "Found: input/output error (EIO). Mend that and run"),
    ):
        assert words in writing.sentence(OSError(number, os.strerror(number), "/x/y")), number
    said = OSError("A sentence.")
    assert writing.sentence(said) == "A sentence."
