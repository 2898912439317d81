"""How a reader runs a notebook without installing anything: on Binder, or in a copy that brings the project along.

Both need the address at which the project is published, `repository-code` of CITATION.cff; without it there is neither.
"""

import json
from os.path import normpath
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml
from links import relinked

CITATION = Path(__file__).resolve().parents[1] / "CITATION.cff"
FIRST_CELL = """# For Colab, Kaggle and the like: fetches the project, installs what is missing; silent if all is there.
import os
import subprocess
import sys

if not any(os.path.isdir(f"{{folder}}/companion") for folder in (".", "notebooks")):
    if not os.path.isdir("mtlcore/notebooks"):
        subprocess.run(["git", "clone", "--quiet", "--depth=1", {address!r}, "mtlcore"], check=True)
    os.chdir("mtlcore/notebooks")
sys.path[:0] = [".", "notebooks"]

from companion.runner.hosted import install_missing

install_missing()"""


def address() -> str | None:
    """Where the project is published, as CITATION.cff says it."""
    found: str | None = yaml.safe_load(CITATION.read_text(encoding="utf-8")).get("repository-code")
    return found


def links(name: str, repository: str) -> str:
    """The line below a notebook's title: open it on Binder, or take a copy for other services.

    Args:
        name: The notebook's file.
        repository: The address of the project.
    """
    place = urlsplit(repository)
    known = place.netloc == "github.com"
    source = f"gh{place.path.removesuffix('.git')}" if known else f"git/{quote(repository, safe='')}"
    binder = f"https://mybinder.org/v2/{source}/HEAD?labpath={quote(f'notebooks/{name}', safe='')}"
    copy = f'<a href="../hosted/{name}" download>a copy for Colab or Kaggle</a>'
    return f'<p class="launch">Run it: <a href="{binder}">on Binder</a>, or {copy}, which brings the project along.</p>'


def hosted(path: Path, repository: str) -> dict[str, Any]:
    """A copy of a notebook that runs where the project is not: its first cell fetches it, its links lead there."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))

    def absolute(bang: str, words: str, target: str) -> str:
        if target.startswith("#"):
            return f"{bang}[{words}]({target})"
        place = normpath(f"notebooks/{target}")
        return f"{bang}[{words}]({repository}/{'raw' if bang else 'blob'}/HEAD/{place})"

    source = FIRST_CELL.format(address=repository)
    first: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "id": "hosted",
        "metadata": {},
        "outputs": [],
    }
    cells = [first | {"source": source}]
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = relinked(source, absolute)
        cells.append(cell | {"source": source})
    return notebook | {"cells": cells}
