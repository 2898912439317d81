"""Damaged files are named with the remedy and left alone; a disk or folder that refuses is said on the command line."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
import toy_notebook
from companion.data.files import checked_bytes
from companion.plots.figures import half_size, save_figure
from companion.runner import inputs, notebooks
from companion.store import paths, results
from companion.store.manifest import publish, read_manifest, read_numbers
from companion.store.results import Results
from companion.store.writing import write
from toy_notebook import code, toy
from toy_project import copy_project, make, variables

# Its SVG is far longer than what else a run writes.
FIGURE = toy_notebook.FIGURE.replace(
    "plt.subplots()", "plt.subplots(figsize=(14, 9))\nax.scatter(range(3000), range(3000))"
)
TABLE = pd.DataFrame({"metric": ["loss", "auc"], "value": [0.25, 0.75], "step": [1, 2], "late": [True, False]})


def flipped(content: bytes, position: int) -> bytes:
    """The content with the lowest bit of one byte changed."""
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


class Once:
    """Computes a cell, but not again."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, _: Mapping[str, Any]) -> pd.DataFrame:
        assert not self.done, "a damaged cell was computed anew without a word"
        self.done = True
        return TABLE


def refusal(kept: Results, once: Any) -> str | None:
    """What is said instead of giving a table, or None where the right table is given."""
    try:
        found = kept.cell({"seed": 1}, once)
    except ValueError as error:
        return str(error)
    pd.testing.assert_frame_equal(found, TABLE)
    return None


def test_no_changed_byte_of_a_cell_goes_unnoticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(results, "code_digest", lambda _: "1")
    kept, compute = Results("90_toy", "full"), Once().__call__
    assert refusal(kept, compute) is None
    folder = tmp_path / "results" / "90"
    (path,) = folder.glob("[!.]*.json.gz")
    content = path.read_bytes()
    damages = [flipped(content, position) for position in range(len(content))]
    damages += [content[:end] for end in (0, 1, len(content) // 2, len(content) - 2)]
    harmless = 0
    for damaged in damages:
        path.write_bytes(damaged)
        said = refusal(kept, compute)
        if said is None:
            harmless += 1  # gzip's header says when and on what system, in six bytes
        else:
            assert said == (
                f"File {path} should hold what was stored there. Found it changed since. "
                "Delete it to compute that cell again; the others stay."
            )
    path.write_bytes(content)
    assert harmless <= 8
    assert refusal(kept, compute) is None
    assert len(list(folder.iterdir())) == 2, "the lock and the file"


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of committed figures with one of notebook toy."""
    mpl.use("agg")
    from matplotlib.figure import Figure

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paths, "COMMITTED_FIGURES", tmp_path / "figures" / "full")
    monkeypatch.setenv("MTLCORE_FIGURES", str(tmp_path / "figures"))
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 2])
    about = {"notebook": "toy", "profile": "full", "parameters": {}, "seeds": [0], "data_checksums": {}}
    save_figure(figure, "toy", TABLE, **about)  # type: ignore[arg-type]
    return tmp_path / "figures" / "full"


REMEDY = (
    "should be what a run wrote there. Found it missing or changed since. Take back `figures/full` with git where it "
    "is committed, or delete that folder and run `make full`."
)


def test_no_changed_byte_of_a_figures_numbers_goes_unnoticed(committed: Path) -> None:
    csv = committed / "toy.csv"
    content = csv.read_bytes()
    for position in range(len(content)):
        csv.write_bytes(flipped(content, position))
        with pytest.raises(ValueError, match=re.escape(f"File `figures/full/toy.csv` {REMEDY}")):
            read_numbers(committed, "toy")
    csv.unlink()
    with pytest.raises(ValueError, match=r"toy\.csv"):
        read_numbers(committed, "toy")
    csv.write_bytes(content)
    assert read_numbers(committed, "toy") == content


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"figures": [1]}', b'{"figures": {"toy": {}}}', b"\xff\xfe"])
def test_a_damaged_manifest_is_named_and_kept(committed: Path, content: bytes) -> None:
    (committed / "manifest.json").write_bytes(content)
    before = {path.name: path.read_bytes() for path in committed.iterdir()}
    staged = committed.parent.parent / "staged"
    for read in (
        lambda: read_manifest(committed),
        lambda: publish(staged, "full", "other"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"File `figures/full/manifest.json` {REMEDY}")):
            read()
    assert {path.name: path.read_bytes() for path in committed.iterdir()} == before


def test_a_damaged_image_is_named(committed: Path) -> None:
    image = committed / "toy.png"
    content = image.read_bytes()
    half_size(image)
    for damaged in (b"", content[:100], content[: len(content) // 2], flipped(content, 0), flipped(content, 18)):
        image.write_bytes(damaged)
        with pytest.raises(ValueError, match=re.escape(f"File `figures/full/toy.png` {REMEDY}")):
            half_size(image)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cells": [1]}', b'{"cells": [{"source": ""}]}', b"\xff"])
def test_a_damaged_notebook_is_named(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "toy.ipynb"
    path.write_bytes(content)
    for command in (["guard", str(path)], ["record", str(path)], ["run", str(path), "--output", str(tmp_path / "x")]):
        assert notebooks.main(command) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"File `{path}` should be a notebook as Jupyter writes it. Found ")
        assert said.endswith(
            "Take it back with git where it is committed, or delete it and run the same command again.\n"
        )
        assert said.count("\n") == 1
    assert path.read_bytes() == content
    assert inputs.figures_are_gone(path), "a damaged executed notebook is made again"


def test_a_bundled_file_of_another_hash_is_named_and_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_bytes(b"a,b\n1,2\n")
    digest = "7c0c6c5bf3a3b2fd3c1be0ccb5e8b6bd3f4b2a0a54aa3f5c9ae2c2d9e0b0ffff"
    with pytest.raises(ValueError, match=f"File `loans.csv` should have sha256 {digest}. Found [0-9a-f]{{64}} at") as e:
        checked_bytes(path, digest, "the package loans: pip install loans==1.0")
    assert str(e.value).endswith("pip install --force-reinstall --no-deps loans==1.0.")


def test_a_folder_that_is_read_only_refuses_and_keeps_its_files(committed: Path) -> None:
    """For root too, whom permissions do not bind: it gives up its rights for the time of writing."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(committed, folder / "full")
    before = {path.name: path.read_bytes() for path in (folder / "full").iterdir()}
    root = os.geteuid() == 0
    (folder / "full").chmod(0o755 if root else 0o555)
    folder.chmod(0o755)
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(
            OSError, match=r"toy.png` should be written. Found: permission denied \(EACCES\). Make it wri"
        ):
            write({folder / "full" / "toy.png": b"new", folder / "full" / "toy.csv": b"new"})
    finally:
        if root:
            os.seteuid(0)
        (folder / "full").chmod(0o755)
    assert {path.name: path.read_bytes() for path in (folder / "full").iterdir()} == before
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose one notebook has run; then its figure changes, so that it has to run again."""
    project = copy_project(tmp_path_factory.mktemp("finished"), toy=FIGURE)
    assert make(project, "figures").returncode == 0
    write_changed(project)
    return project


def write_changed(project: Path) -> None:
    changed = FIGURE.replace("0.5**k", "0.6**k")
    toy_notebook.write(project / "notebooks" / "toy.ipynb", toy(code(changed)))


def what_counts(project: Path) -> dict[str, bytes]:
    folders = [project / name for name in ("figures", "notebooks", "build/notebooks")]
    found = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (0, "A folder for temporary files should have room. Found: no usable temporary directory"),
        (2_000, "File `failed/notebooks/toy.ipynb` should be written. Found: file too large (EFBIG)"),
        (12_000, "` should be written. Found: file too large (EFBIG)"),  # of the kernel
    ],
)
def test_a_disk_without_room_is_said_in_one_line_by_the_command(finished: Path, limit: int, words: str) -> None:
    """The system itself refuses what is longer than the limit, in the runner and in its kernel."""
    before = what_counts(finished)
    command = [sys.executable, "-m", "companion.runner.notebooks", "run", "notebooks/toy.ipynb"]
    command += ["--output", "build/notebooks/toy.ipynb", "-p", "profile=fast"]
    done = subprocess.run(
        command,
        cwd=finished,
        env=variables(finished),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("toy failed: ")
    assert words.lower() in said.lower()
    assert re.search("Free some space there, or .*, and run the same command again; what was finished", said)
    assert "Traceback" not in done.stderr
    assert what_counts(finished) == before


def test_make_finishes_after_the_fault(finished: Path) -> None:
    before = what_counts(finished)
    assert make(finished, "figures").returncode == 0
    after = what_counts(finished)
    assert before.keys() == after.keys()
    assert {name for name in after if before[name] != after[name]} >= {"figures/fast/toy_loss.csv"}
    assert not list(finished.rglob(".*.*"))


def test_make_names_a_damaged_notebook(finished: Path) -> None:
    path = finished / "notebooks" / "toy.ipynb"
    content = path.read_bytes()
    path.write_bytes(content[:200])
    before = what_counts(finished)
    done = make(finished, "figures")
    path.write_bytes(content)
    assert done.returncode != 0
    assert "notebooks/toy.ipynb` should be a notebook as Jupyter writes it. Found something else (" in done.stderr
    assert "Traceback" not in done.stderr
    assert {k: v for k, v in before.items() if k != "notebooks/toy.ipynb"} == {
        k: v for k, v in what_counts(finished).items() if k != "notebooks/toy.ipynb"
    }


def test_the_command_says_the_sentence_of_a_cell(tmp_path: Path) -> None:
    """A wrong bundled file, a damaged cell and a full disk reach the command line as the cell's sentence."""
    sentence = "File `loans.csv` should have sha256 a. Found b. Get it from c."
    project = copy_project(tmp_path, toy=f"raise ValueError({sentence!r})")
    done = make(project, "figures")
    assert done.returncode != 0
    assert f"toy failed: ValueError: {sentence} See failed/notebooks/toy.ipynb.\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((project / "failed" / "notebooks" / "toy.ipynb").read_bytes())["cells"]
