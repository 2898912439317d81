"""Every committed notebook passes the guard, and each of its outputs comes out again (strict nbval on a copy)."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from companion.runner.guard import guard
from companion.runner.notebooks import ON_ONE_CPU_THREAD, own_settings
from companion.store import paths
from companion.store.manifest import read_manifest

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
SECONDS_PER_CELL = 300
# The text form of an inline figure; its picture is not compared, its data are.
SANITIZE = "[figure]\nregex: <Figure size [^>]*>\nreplace: FIGURE\n"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_guard(path: Path) -> None:
    assert guard(path) == []


def until_imports(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook up to the first that imports from the project."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    imports = re.compile(r"^(from|import) (companion|mtlcore)\b", re.MULTILINE)
    (first, *_) = (number for number, cell in enumerate(cells) if imports.search("".join(cell["source"])))
    return list(cells[: first + 1])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_first_import_says_where_the_project_is(path: Path) -> None:
    source = "".join(until_imports(path)[-1]["source"])
    assert source.startswith('import sys\n\nsys.path[:0] = [".", "notebooks", ".."]')


@pytest.mark.parametrize("folder", [paths.ROOT, paths.NOTEBOOKS], ids=["project", "notebooks"])
def test_first_import_succeeds_in_either_folder_whatever_runs_it(folder: Path, tmp_path: Path) -> None:
    notebook = json.loads((paths.NOTEBOOKS / "01_hydalearn_by_hand.ipynb").read_text(encoding="utf-8"))
    notebook["cells"] = until_imports(paths.NOTEBOOKS / "01_hydalearn_by_hand.ipynb")
    (tmp_path / "first.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    command = [sys.executable, "-m", "papermill", f"{tmp_path}/first.ipynb", f"{tmp_path}/executed.ipynb"]
    without = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=without, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def nbval(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Strict nbval of a copy of a notebook, on one CPU thread, with every figure written below `folder`."""
    (folder / path.name).write_bytes(path.read_bytes())
    (folder / "sanitize.cfg").write_text(SANITIZE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    fixed = ON_ONE_CPU_THREAD | own_settings(folder) | {"MTLCORE_FIGURES": str(folder / "figures")}
    fixed["PYTHONPATH"] = f"{paths.ROOT}{os.pathsep}{paths.NOTEBOOKS}"  # for a copy elsewhere
    # pytest's own variables of the test around this one would change what nbval prints
    inherited = {k: v for k, v in os.environ.items() if k not in fixed and not k.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", path.name, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--nbval"]
    command += ["--nbval-current-env", f"--nbval-cell-timeout={SECONDS_PER_CELL}", "--nbval-sanitize-with=sanitize.cfg"]
    environment = inherited | {name: value for name, value in fixed.items() if value is not None}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def figures_differ(notebook: str, folder: Path) -> list[str]:
    """The published figures of a notebook whose numbers did not come out byte by byte, and those of one side only."""
    published = {
        stem for stem, entry in read_manifest(paths.COMMITTED_FIGURES).items() if entry["notebook"] == notebook
    }
    drawn = set(read_manifest(folder))
    both = sorted(published & drawn)
    contents = ([(where / f"{stem}.csv").read_bytes() for stem in both] for where in (paths.COMMITTED_FIGURES, folder))
    return [*sorted(published ^ drawn), *(s for s, old, new in zip(both, *contents, strict=True) if old != new)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_output_and_every_published_number_comes_out_again(path: Path, tmp_path: Path) -> None:
    result = nbval(path, tmp_path)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    cells = sum(cell["cell_type"] == "code" for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    assert re.search(rf"^{cells} passed", result.stdout, re.MULTILINE), result.stdout[-500:]
    assert figures_differ(path.stem, tmp_path / "figures" / "full") == []
