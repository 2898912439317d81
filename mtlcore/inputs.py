"""What each notebook's run depends on, by content: git sets every file's time at the clone, so times say nothing.

The Makefile runs this file as a script before every build, so it needs the standard library only and imports no package
of the project. For each notebook it keeps `build/inputs/<profile>/<name>`, a few lines that change exactly when the run
has to be repeated: the notebook's cells (not their outputs), `mtlcore`, the register of claims, the parameters and the
lock.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXECUTED = {"fast": ROOT / "build" / "notebooks", "full": ROOT / "build" / "full"}


def cells_digest(notebook: dict[str, Any], kinds: Iterable[str] = ("code", "markdown", "raw")) -> str:
    """The sha256 of the sources and tags of a notebook's cells of the given kinds; outputs do not enter."""
    chosen = [
        [cell["cell_type"], "".join(cell["source"]), sorted(cell["metadata"].get("tags", []))]
        for cell in notebook["cells"]
        if cell["cell_type"] in kinds
    ]
    return hashlib.sha256(json.dumps(chosen).encode()).hexdigest()


def package_digest() -> str:
    """The sha256 of every Python file of `mtlcore`, names included."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "mtlcore").rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def figures_are_gone(executed: Path) -> bool:
    """Whether somebody has deleted a figure that this executed notebook made, so that it has to run again."""
    if not executed.exists():
        return False
    made = json.loads(executed.read_text(encoding="utf-8"))["metadata"].get("mtlcore", {}).get("figures", [])
    return not all((ROOT / name).exists() for name in made)


def main(profile: str, parameters: list[str], names: list[str]) -> None:
    """Bring the input files of the named notebooks up to date; one whose content is right keeps its time."""
    files = [
        f"{name} {hashlib.sha256((ROOT / name).read_bytes()).hexdigest()}"
        for name in ("requirements.lock", "claims.toml")  # verdicts are printed by the register's rules
    ]
    shared = [f"mtlcore {package_digest()}", *files, f"profile {profile}", *parameters]
    folder = ROOT / "build" / "inputs" / profile
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
        content = "\n".join([f"cells {cells_digest(notebook)}", *shared, ""])
        path = folder / name
        unchanged = path.exists() and path.read_text(encoding="utf-8") == content
        if not unchanged or figures_are_gone(EXECUTED[profile] / f"{name}.ipynb"):
            temporary = path.with_suffix(".new")
            temporary.write_text(content, encoding="utf-8")
            temporary.replace(path)


if __name__ == "__main__":
    arguments = sys.argv[2:]
    main(sys.argv[1], [a for a in arguments if "=" in a], [a for a in arguments if "=" not in a])
