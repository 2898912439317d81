"""The manifest of a folder of figures: which run made each, by which numbers; and how a run's figures move into place.

It needs neither matplotlib nor pandas, so the runner and the ledger start fast.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from companion.store import paths
from companion.store.writing import lock, shown, write


def lock_file() -> Path:
    """Whoever holds its lock may change folders of figures."""
    return paths.BUILD / "figures.lock"  # below build/, so that no folder of figures ever shows it


def manifest_file(folder: Path, figures: Mapping[str, Any]) -> dict[Path, bytes]:
    """A manifest's path and content, to be written."""
    content = json.dumps({"figures": dict(sorted(figures.items()))}, indent=1) + "\n"
    return {folder / "manifest.json": content.encode()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The entries of a folder's `manifest.json` by figure; empty when there is none.

    Raises:
        ValueError: The manifest is damaged.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return {}
    try:
        figures: dict[str, Any] = json.loads(path.read_bytes())["figures"]
        if all({"notebook", "files", "seeds", "digest"} <= entry.keys() for entry in figures.values()):
            return figures
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise damaged(path)


def read_numbers(folder: Path, stem: str) -> bytes:
    """The CSV of a figure of the manifest, after a check that its numbers are those of the run that drew it.

    Raises:
        ValueError: The CSV is missing or has changed since.
    """
    path = folder / f"{stem}.csv"
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != read_manifest(folder)[stem]["digest"]:
        raise damaged(path)
    return content


def damaged(path: Path) -> ValueError:
    """What to raise when a file of a run is not what the run wrote."""
    folder = shown(path.parent)
    return ValueError(
        f"File `{shown(path)}` should be what a run wrote there. Found it missing or changed since. Take back "
        f"`{folder}` with git where it is committed, or delete that folder and run `make {path.parent.name}`."
    )


def publish(staged: Path, profile: str, notebook: str) -> list[str]:
    """Move the figures and runs of one successful run into place; that notebook's figures of earlier runs go.

    Args:
        staged: the folder that stood for `figures` during the run.
        profile: the profile of the run.
        notebook: the file stem of the notebook.

    Returns:
        The new files, relative to the checkout.

    Raises:
        ValueError: the run saved figures under another profile than its own, or a manifest is damaged.
        OSError: a file cannot be written; the figures of earlier runs are as they were.
    """
    name = paths.figures_of(profile)
    found = sorted(path.name for path in staged.iterdir()) if staged.exists() else []
    if found not in ([], [name]):
        raise ValueError(
            f"Notebook {notebook} ran with `profile = {profile!r}`. Found figures saved under {found}. "
            "Pass the parameter `profile` on to save_figure."
        )
    new = read_manifest(staged / name)
    folder = paths.FIGURES / name
    names = [file for entry in new.values() for file in entry["files"]]
    names += sorted(path.name for path in (staged / name).glob("*_runs.*"))
    with lock(lock_file()):
        figures = read_manifest(folder) | new
        gone = {stem for stem, entry in figures.items() if entry["notebook"] == notebook and stem not in new}
        contents = {folder / file: (staged / name / file).read_bytes() for file in names}
        write(contents | manifest_file(folder, figures))
        if gone:  # the manifest lists them until they are gone, so that a run that is killed here is followed by one
            for file in (file for stem in gone for file in figures[stem]["files"]):
                (folder / file).unlink(missing_ok=True)
            write(manifest_file(folder, {stem: entry for stem, entry in figures.items() if stem not in gone}))
    return [os.path.relpath(folder / file, paths.ROOT) for file in names]
