"""Notebooks without an installation: Binder's environment, and copies that bring the project along."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import launch
import pytest
import yaml
from companion.runner import environment, hosted
from companion.store.paths import NOTEBOOKS, ROOT
from packaging.requirements import Requirement

BINDER = ROOT / ".binder"
NOTEBOOK = "01_hydalearn_by_hand.ipynb"


def listed(path: Path) -> set[str]:
    """What an environment.yml asks for, of conda and of pip."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    return {text for entry in entries for text in (entry["pip"] if isinstance(entry, dict) else [entry])}


def test_binder_asks_for_a_part_of_the_environment_that_is_enough_for_the_notebooks() -> None:
    asked = listed(BINDER / "environment.yml")
    (python,) = asked - listed(ROOT / "environment.yml")
    # The words that repo2docker looks for; where there is a range it builds with its own default, an older one.
    pinned = re.fullmatch(r"python=(3\.\d+)", python)
    assert pinned
    oldest = re.search(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert oldest
    assert int(pinned[1][2:]) >= int(oldest[1][2:])
    names = {
        {"pytorch": "torch", "matplotlib-base": "matplotlib"}.get(r.name, r.name) for r in map(_requirement, asked)
    }
    needed = {Requirement(text).name.lower() for text in environment.declared(extras=hosted.EXTRAS)}
    assert needed <= names


def _requirement(text: str) -> Requirement:
    return Requirement(text.replace("python=3", "python==3"))


def test_binders_last_step_runs_a_notebook(tmp_path: Path) -> None:
    script = BINDER / "postBuild"
    assert script.stat().st_mode & stat.S_IXUSR
    for folder in ("mtlcore", "notebooks", "figures"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "fast"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    first = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([script], cwd=tmp_path, env=first, check=True, capture_output=True)
    after = {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    changed = {
        path.relative_to(tmp_path).as_posix()
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    }
    assert changed <= {"figures/full/manifest.json"}  # the versions there are those of the machine


@pytest.mark.parametrize(
    ("repository", "source"),
    [
        ("https://github.com/some/project", "gh/some/project"),
        ("https://git.example.org/some/project.git", "git/https%3A%2F%2Fgit.example.org%2Fsome%2Fproject.git"),
    ],
)
def test_links_open_the_notebook(repository: str, source: str) -> None:
    line = launch.links(NOTEBOOK, repository)
    assert f'"https://mybinder.org/v2/{source}/HEAD?labpath=notebooks%2F{NOTEBOOK}"' in line
    assert f'href="../hosted/{NOTEBOOK}"' in line


def first_cell(address: str) -> str:
    copy = launch.hosted(NOTEBOOKS / NOTEBOOK, address)
    assert [cell["source"] for cell in copy["cells"][2:4]] == [
        "".join(cell["source"]) for cell in json.loads((NOTEBOOKS / NOTEBOOK).read_text())["cells"][1:3]
    ]
    return str(copy["cells"][0]["source"])


def run(source: str, folder: Path) -> str:
    command = [sys.executable, "-c", source]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_a_hosted_copy_fetches_the_project_once(tmp_path: Path) -> None:
    project, alone = tmp_path / "published", tmp_path / "alone"
    alone.mkdir()
    for name in ("mtlcore", "notebooks/companion"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    shutil.copy(ROOT / "pyproject.toml", project)
    for command in ("init", "add .", "-c user.name=a -c user.email=a@b commit -m all"):
        subprocess.run(["git", *command.split()], cwd=project, check=True, capture_output=True)
    source = first_cell(project.as_uri()) + "\nimport companion, mtlcore\nprint(companion.__file__, mtlcore.__file__)"
    for _ in range(2):
        companion, methods = run(source, alone).split()
        assert Path(companion).is_relative_to(alone / "mtlcore" / "notebooks")
    assert Path(methods).name == "__init__.py"


def test_where_all_is_there_the_first_cell_does_nothing() -> None:
    assert run(first_cell("file:///nowhere"), NOTEBOOKS) == ""
    assert run(first_cell("file:///nowhere"), ROOT) == ""


def test_what_is_missing_is_installed_and_a_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def pip(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, returncode=len(asked) - 1)

    monkeypatch.setattr(hosted, "lacking", lambda requirements: requirements[:1])
    monkeypatch.setattr(subprocess, "run", pip)
    hosted.install_missing()
    torch = environment.declared()[0]
    assert asked[0][1:] == ["-m", "pip", "install", "--quiet", torch]
    with pytest.raises(RuntimeError, match=rf"The notebooks need {torch}. Found that pip cannot install"):
        hosted.install_missing()


def test_a_copys_links_lead_to_the_project() -> None:
    copy = launch.hosted(NOTEBOOKS / NOTEBOOK, "https://github.com/some/project")
    text = "".join(copy["cells"][1]["source"])
    assert "](https://github.com/some/project/raw/HEAD/figures/full/01_training.png)" in text
    assert "](../" not in "".join("".join(cell["source"]) for cell in copy["cells"])
