"""A folder to hand out: written as a whole, and never over what somebody has changed in it."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from companion.store import writing

LIST = ".handout.json"  # in a folder that was written here: its files and their sha256
MADE_BY_USE = {".venv", "build", "failed", "figures", "__pycache__", ".ipynb_checkpoints", "mtlcore.egg-info"}


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder as a whole, in place of the one that an earlier call wrote.

    Args:
        target: Where. What is there is replaced if nobody has changed it since.
        files: The contents by path.

    Raises:
        FileExistsError: The folder holds changes that would be lost.
        OSError: A file cannot be written. The folder is as it was.
    """
    if changes := changes_in(target):
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        name = writing.shown(target)
        raise FileExistsError(
            f"{name} holds changes that would be lost: {', '.join(changes[:3])}{more}. Move it away, say to "
            f"{name}-kept, and run this again."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        listed = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
        contents = {fresh / name: content for name, content in files.items()}
        writing.write(contents | {fresh / LIST: (json.dumps(listed, indent=1) + "\n").encode()})
        old = Path(scratch) / "old"
        if target.exists():
            target.replace(old)
        try:
            fresh.replace(target)
        except OSError:
            if old.exists():
                old.replace(target)
            raise


def changes_in(folder: Path) -> list[str]:
    """The files of a folder that `write_folder` did not write, or not so; what use leaves behind does not count."""
    if not folder.exists():
        return []
    try:
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        listed = {}
    changed = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or name.as_posix() == LIST or MADE_BY_USE.intersection(name.parts):
            continue
        if listed.get(name.as_posix()) != hashlib.sha256(path.read_bytes()).hexdigest():
            changed.append(name.as_posix())
    return changed
