"""A copy of the project with toy notebooks only, which the environment of the tests suffices to run with make."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import toy_notebook
from companion.store import paths
from toy_notebook import code, toy


def copy_project(folder: Path, **notebooks: str) -> Path:
    """Copy the Makefile and the modules that run notebooks; each notebook is a name and the source of its last cell."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(paths.ROOT / name, folder)
    (folder / "mtlcore").mkdir()  # without the methods, whose torch takes a second to import
    (folder / "mtlcore" / "__init__.py").write_text("")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(paths.NOTEBOOKS / "companion", folder / "notebooks" / "companion", ignore=ignored)
    for name, source in notebooks.items():
        toy_notebook.write(folder / "notebooks" / f"{name}.ipynb", toy(code(source)))
    return folder


def variables(project: Path) -> dict[str, str]:
    """The environment of a command in the copy: this interpreter with the modules of the copy."""
    outer = ("MAKE", "MFLAGS", "MTLCORE", "COV", "PYTEST")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
    return kept | {"VIRTUAL_ENV": sys.prefix, "PYTHONPATH": f"{project}{os.pathsep}{project / 'notebooks'}"}


def make(project: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run make in the copy, with more variables in its environment."""
    command, environment = ["make", *arguments], variables(project) | more
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
