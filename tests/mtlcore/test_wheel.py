"""What `pip install .` brings: the methods, typed, with torch as their only requirement."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
METHODS = {f"mtlcore/{path.name}" for path in (ROOT / "mtlcore").glob("*.py")} | {"mtlcore/py.typed"}
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "build", "failed", "figures", "__pycache__", ".*_cache", "*.egg-info"
)

STEP = """
import torch
import mtlcore

model = torch.nn.Linear(2, 2)
optimizer = mtlcore.AdaTaskAdam(model.parameters(), num_tasks=2, task_weights="gradients")
shared = list(model.parameters())
hydalearn = mtlcore.HydaLearn(model, lambda model, x: list(model(x).square().mean(0)), shared, trial_step=0.1)
hydalearn.backward(torch.ones(3, 2))
optimizer.step()
print(mtlcore.__file__)
"""


def run(python: str | Path, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python in a folder, with nothing of the checkout or of the user's settings on its path."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    return subprocess.run([python, "-P", *arguments], cwd=folder, env=kept, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of the checkout and its sources as one file."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "checkout", ignore=NOT_COPIED)
    build = "from setuptools.build_meta import *; build_wheel('..'); build_sdist('..')"
    made = run(sys.executable, ["-c", build], folder / "checkout")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def installed(built: Path, tmp_path: Path) -> Path:
    """The packages' folder of an environment that has the wheel and nothing else."""
    venv.create(tmp_path / "environment", with_pip=False)
    (packages,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    (wheel,) = built.glob("*.whl")
    install = ["-m", "pip", "install", "--no-index", "--no-deps", "--target", str(packages), str(wheel)]
    done = run(sys.executable, install, built)
    assert done.returncode == 0, done.stderr
    return packages


def link_with_what_it_requires(requirement: Requirement, packages: Path) -> None:
    """Link the files of a package of this environment, and of those that it requires, into another one's folder."""
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return
    package = metadata.distribution(requirement.name)
    for name in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
        if not (packages / name).exists():
            (packages / name).symlink_to(str(package.locate_file(name)))
    for further in package.requires or []:
        link_with_what_it_requires(Requirement(further), packages)


def test_wheel_holds_the_methods_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == METHODS
    assert {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name} == {
        *("METADATA", "RECORD", "WHEEL", "top_level.txt", "licenses/LICENSE")
    }


def test_sources_hold_the_methods_and_nothing_else(built: Path) -> None:
    (sources,) = built.glob("*.tar.gz")
    with tarfile.open(sources) as file:
        names = {member.name.partition("/")[2] for member in file if member.isfile()}
    assert {name for name in names if "egg-info/" not in name} == METHODS | {
        *("LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg")
    }


def test_methods_need_torch_alone(installed: Path) -> None:
    link_with_what_it_requires(Requirement("torch"), installed)
    done = run(installed.parents[2] / "bin" / "python", ["-c", STEP], installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(installed / "mtlcore" / "__init__.py")


def test_type_checker_sees_the_types(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text("from mtlcore import AdaTaskAdam\n\nAdaTaskAdam([], num_tasks=2)\n")
    (tmp_path / "wrong.py").write_text("from mtlcore import AdaTaskAdam\n\nAdaTaskAdam([], num_tasks='2')\n")
    python = installed.parents[2] / "bin" / "python"
    mypy = ["-m", "mypy", "--config-file=", f"--cache-dir={tmp_path}", f"--python-executable={python}"]
    done = run(sys.executable, [*mypy, "right.py", "wrong.py"], tmp_path)
    (said,) = done.stdout.splitlines()[:-1]
    assert said.startswith('wrong.py:3: error: Argument "num_tasks" to "AdaTaskAdam" has incompatible type "str"')
