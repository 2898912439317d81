"""Every committed notebook passes the guard, and each of its outputs comes out again (strict nbval on a copy)."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from companion.runner.guard import guard
from companion.runner.notebooks import ON_ONE_CPU_THREAD
from companion.store import paths

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
SECONDS_PER_CELL = 300
# The text form of an inline figure; its picture is not compared, its data are.
SANITIZE = "[figure]\nregex: <Figure size [^>]*>\nreplace: FIGURE\n"


def reads_data(path: Path) -> bool:
    return "companion.data" in path.read_text(encoding="utf-8")


def runs() -> list[tuple[Path, bool]]:
    """Every notebook without optional data; those that read data also with them, where this machine has any."""
    with_data = [(path, True) for path in NOTEBOOKS if reads_data(path) and "MTLCORE_DATA" in os.environ]
    return [(path, False) for path in NOTEBOOKS] + with_data


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_guard(path: Path) -> None:
    assert guard(path) == []


def nbval(path: Path, folder: Path, optional_data: bool) -> subprocess.CompletedProcess[str]:
    """Strict nbval of a copy of a notebook, on one CPU thread, with every figure written below `folder`."""
    (folder / path.name).write_bytes(path.read_bytes())
    (folder / "sanitize.cfg").write_text(SANITIZE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    fixed = ON_ONE_CPU_THREAD | {"MTLCORE_FIGURES": str(folder / "figures")}
    fixed["PYTHONPATH"] = f"{paths.ROOT}{os.pathsep}{paths.NOTEBOOKS}"  # for a copy elsewhere
    if optional_data:
        fixed["MTLCORE_DATA"] = os.environ["MTLCORE_DATA"]
    # pytest's own variables of the test around this one would change what nbval prints
    inherited = {k: v for k, v in os.environ.items() if k not in fixed and not k.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", path.name, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--nbval"]
    command += ["--nbval-current-env", f"--nbval-cell-timeout={SECONDS_PER_CELL}", "--nbval-sanitize-with=sanitize.cfg"]
    environment = inherited | {name: value for name, value in fixed.items() if value is not None}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def name_of(value: Path | bool) -> str:
    return value.stem if isinstance(value, Path) else ("optional data" if value else "bundled data")


@pytest.mark.parametrize(("path", "optional_data"), runs(), ids=name_of)
def test_every_output_comes_out_again(path: Path, optional_data: bool, tmp_path: Path) -> None:
    result = nbval(path, tmp_path, optional_data)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    cells = sum(cell["cell_type"] == "code" for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    assert re.search(rf"^{cells} passed", result.stdout, re.MULTILINE), result.stdout[-500:]
