"""What each notebook's run depends on, by content: git sets every file's time at the clone, so times say nothing.

The Makefile runs this file as a script before every build, so it needs the standard library only and imports no package
of the project. For each notebook it keeps `build/inputs/<profile>/<name>`, a few lines that change exactly when the run
has to be repeated: the notebook's cells (not their outputs), `mtlcore` and the companion, what was registered,
its parameters, the lock and the published runs that it reads.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SUM_UP = ("00", "10")  # the notebooks that show or weigh what the others published
EXECUTED = {"fast": ROOT / "build/notebooks", "published": ROOT / "build/published", "full": ROOT / "build/full"}


def read_notebook(path: Path) -> dict[str, Any]:
    """Read a notebook's JSON.

    Raises:
        ValueError: It is damaged.
    """
    try:
        notebook: dict[str, Any] = json.loads(path.read_bytes())
        if all({"cell_type", "source", "metadata"} <= cell.keys() for cell in notebook["cells"]):
            return notebook
        found = "a cell without its type, source or metadata"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"something else ({error})"
    raise ValueError(
        f"File `{path}` should be a notebook as Jupyter writes it. Found {found}. "
        "Take it back with git where it is committed, or delete it and run the same command again."
    )


def cells_digest(notebook: dict[str, Any], kinds: Iterable[str] = ("code", "markdown", "raw")) -> str:
    """The sha256 of the sources and tags of a notebook's cells of the given kinds; outputs do not enter."""
    chosen = [
        [cell["cell_type"], "".join(cell["source"]), sorted(cell["metadata"].get("tags", []))]
        for cell in notebook["cells"]
        if cell["cell_type"] in kinds
    ]
    return hashlib.sha256(json.dumps(chosen).encode()).hexdigest()


def code_digest() -> str:
    """The sha256 of every Python file of `mtlcore` and the companion, names included."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "mtlcore").rglob("*.py"), *(ROOT / "notebooks" / "companion").rglob("*.py")]):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_by(name: str, profile: str) -> list[str]:
    """The files beside the code that a notebook's run reads, those that exist."""
    number = name[:2]
    registered = "*" if number == "00" else number  # notebook 00 shows every notebook's verdicts
    claims = (ROOT / "notebooks" / "claims").glob(f"{registered}.toml")
    files = [path.relative_to(ROOT).as_posix() for path in sorted(claims)]
    files += ["requirements.lock", f"notebooks/profiles/{number}_{profile}.yaml"]
    if profile == "published":
        files.append(f"figures/full/{number}_runs.json")  # it has the digest of the runs
    if number in SUM_UP:
        files.append("figures/full/manifest.json")  # it has every figure's digest
    return [file for file in files if (ROOT / file).exists()]


def figures_are_gone(executed: Path) -> bool:
    """Whether this executed notebook is damaged or a figure that it made deleted, so that it has to run again."""
    if not executed.exists():
        return False
    try:
        made = read_notebook(executed)["metadata"]["mtlcore"]["figures"]
    except (ValueError, KeyError):  # damaged since
        return True
    return not all((ROOT / name).exists() for name in made)


def main(profile: str, parameters: list[str], names: list[str]) -> None:
    """Bring the input files of the named notebooks up to date; one whose content is right keeps its time."""
    shared = [f"code {code_digest()}", f"profile {profile}", *parameters]
    folder = ROOT / "build" / "inputs" / profile
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        notebook = read_notebook(ROOT / "notebooks" / f"{name}.ipynb")
        files = [f"{path} {hashlib.sha256((ROOT / path).read_bytes()).hexdigest()}" for path in read_by(name, profile)]
        content = "\n".join([f"cells {cells_digest(notebook)}", *shared, *files, ""]).encode()
        path = folder / name
        unchanged = path.exists() and path.read_bytes() == content
        if not unchanged or figures_are_gone(EXECUTED[profile] / f"{name}.ipynb"):
            temporary = path.with_suffix(".new")
            try:  # companion.store.writing would import torch first
                temporary.write_bytes(content)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    arguments = sys.argv[2:]
    try:
        main(sys.argv[1], [a for a in arguments if "=" in a], [a for a in arguments if "=" not in a])
    except ValueError as error:
        sys.exit(str(error))
    except OSError as error:
        name = error.filename or "build/inputs"  # the system names none where the disk is full
        sys.exit(f"File `{name}` should be there for make. Found: {error.strerror}. Mend that and run it again.")
