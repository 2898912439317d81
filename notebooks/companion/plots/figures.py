"""Figures in one style, each saved with its numbers and with where they come from.

A figure is an image for readers, a vector file for papers, a CSV of what is drawn and an entry in the folder's
`manifest.json` that says which run made it. Images are compared by nobody: tests and readers compare the CSV.
"""

import hashlib
import io
import json
import os
import platform
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.figure
import pandas as pd
from PIL import Image

from companion.store import paths
from companion.store.writing import lock, shown, write

# Okabe and Ito's colours, told apart with every common kind of colour vision: one per method, in every figure.
METHOD_COLOURS: dict[str, str] = {
    "single task": "#000000",
    "equal weights": "#999999",
    "static grid": "#E69F00",
    "HydaLearn": "#0072B2",
    "HydaLearn, first order": "#56B4E9",
    "joint Adam": "#999999",
    "joint Adagrad": "#7F7F7F",
    "joint RMSprop": "#B3B3B3",
    "AdaTask-Adam": "#D55E00",
    "AdaTask-Adagrad": "#CC79A7",
    "AdaTask-RMSprop": "#F0A07A",
    "HydaLearn + AdaTask": "#009E73",
    # The baselines are too many for colours of their own: a family shares a hue, and its members differ in lightness,
    # which every kind of colour vision sees. Label them directly all the same.
    "uncertainty weighting": "#6B5F00",
    "DWA": "#A39418",
    "GradNorm": "#D6C94F",
    "cosine gate": "#5B2A86",
    "OL-AUX": "#A583C9",
    "per-task RMS": "#7A3B1D",
    "PCGrad": "#12423F",
    "CAGrad": "#245F5B",
    "MGDA": "#3B7C77",
    "IMTL-G": "#579994",
    "Aligned-MTL": "#78B5B0",
    "Nash-MTL": "#9FD0CB",
}
# Tasks are another kind of thing than methods, so their colours are others (Paul Tol's muted scheme).
_TASK_COLOURS = ("#332288", "#882255", "#117733", "#AA4499", "#44AA99", "#DDCC77", "#88CCEE", "#CC6677")

# More rows than a curve or table of these experiments has, fewer than any data set: a CSV holds aggregates, no records.
MOST_ROWS = 2000
_NO_TRACE_OF_TIME: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
}
_PACKAGES = ("torch", "numpy", "pandas", "matplotlib")


def use_style() -> None:
    """Set the style of every figure: one size (inches) and resolution, fonts that ship with matplotlib, quiet axes."""
    import seaborn as sns

    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=list(_TASK_COLOURS),
        rc={
            "figure.figsize": (7.2, 4.0),
            "figure.dpi": 100,
            "savefig.dpi": 200,
            "figure.constrained_layout.use": True,
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E5E5E5",
            "lines.linewidth": 1.8,
        },
    )


def task_colours(tasks: Iterable[str]) -> dict[str, str]:
    """One colour per task, in the order in which the tasks are named, the main task first.

    Example:
        >>> task_colours(["default", "prepayment"])
        {'default': '#332288', 'prepayment': '#882255'}
    """
    tasks = list(tasks)
    if len(tasks) > len(_TASK_COLOURS):
        raise ValueError(
            f"Parameter `tasks` should name at most {len(_TASK_COLOURS)} tasks. Found {len(tasks)}. Draw more panels."
        )
    return dict(zip(tasks, _TASK_COLOURS, strict=False))


def save_figure(
    fig: matplotlib.figure.Figure,
    stem: str,
    data: pd.DataFrame,
    *,
    notebook: str,
    profile: str,
    parameters: Mapping[str, Any],
    seeds: Sequence[int],
    data_checksums: Mapping[str, str],
) -> Path:
    """Save a figure as PNG, PDF and SVG with its numbers as CSV, and enter it in the manifest of `figures/<profile>`.

    The bytes depend on the figure only (for one version of matplotlib); no file is ever seen half written.

    Args:
        fig: the figure; it is neither changed nor closed.
        stem: the files' name without ending, for example `"03_weights"`.
        data: the aggregates that are drawn, one row per mark, at most 2,000 rows. Its index is not saved.
        notebook: file stem of the notebook that makes the figure.
        profile: `"fast"` or `"full"`, which is also the folder.
        parameters: the notebook's parameters, all that decides the run.
        seeds: every seed that entered.
        data_checksums: sha256 of each data set that entered, by name; empty when the data are generated.

    Returns:
        The path of the PNG.

    Raises:
        ValueError: `data` is empty or is too long for aggregates, or another notebook has a figure of that name, or
            the manifest is damaged.
        OSError: A file cannot be written; those of an earlier figure are as they were.
    """
    if not 0 < len(data) <= MOST_ROWS:
        raise ValueError(
            f"Parameter `data` should hold the 1 to {MOST_ROWS} aggregates that are drawn. Found {len(data)} rows. "
            "Summarise them first: a figure's CSV is published, and records of a data set are not."
        )
    folder = paths.figures_folder(profile)
    csv = data.to_csv(index=False, float_format="%.8g", lineterminator="\n").encode()
    entry = {
        "notebook": notebook,
        "profile": profile,
        "parameters": dict(parameters),
        "seeds": [int(seed) for seed in seeds],
        "data": dict(data_checksums),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "files": [f"{stem}.{kind}" for kind in (*_NO_TRACE_OF_TIME, "csv")],
        "digest": hashlib.sha256(csv).hexdigest(),
    }
    with lock(_lock_file()):
        figures = read_manifest(folder)
        owner = figures.get(stem, entry)["notebook"]
        if owner != notebook:
            raise ValueError(
                f"Parameter `stem` should be new. Found `stem = {stem!r}`, a figure of notebook {owner}. Rename it."
            )
        contents = {}
        with mpl.rc_context({"svg.hashsalt": stem}):
            for kind, nothing in _NO_TRACE_OF_TIME.items():
                image = io.BytesIO()
                fig.savefig(image, format=kind, metadata=nothing)
                contents[folder / f"{stem}.{kind}"] = image.getvalue()
        contents[folder / f"{stem}.csv"] = csv
        write(contents | _manifest(folder, figures | {stem: entry}))
    return folder / f"{stem}.png"


def _lock_file() -> Path:
    return paths.BUILD / "figures.lock"  # below build/, so that no folder of figures ever shows it


def _manifest(folder: Path, figures: Mapping[str, Any]) -> dict[Path, bytes]:
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
    raise _damaged(path)


def read_numbers(folder: Path, stem: str) -> pd.DataFrame:
    """The numbers that a figure of the manifest draws, after a check that they are those of the run that drew it.

    Raises:
        ValueError: The CSV is missing or has changed since.
    """
    path = folder / f"{stem}.csv"
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != read_manifest(folder)[stem]["digest"]:
        raise _damaged(path)
    return pd.read_csv(io.BytesIO(content))


def _damaged(path: Path) -> ValueError:
    folder = shown(path.parent)
    return ValueError(
        f"File `{shown(path)}` should be what a run wrote there. Found it missing or changed since. Take back "
        f"`{folder}` with git where it is committed, or delete that folder and run `make {path.parent.name}`."
    )


def publish(staged: Path, profile: str, notebook: str) -> list[str]:
    """Move the figures of one successful run to `figures/<profile>`; that notebook's figures of earlier runs go.

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
    found = sorted(path.name for path in staged.iterdir()) if staged.exists() else []
    if found not in ([], [profile]):
        raise ValueError(
            f"Notebook {notebook} ran with `profile = {profile!r}`. Found figures saved under {found}. "
            "Pass the parameter `profile` on to save_figure."
        )
    new = read_manifest(staged / profile)
    folder = paths.figures_folder(profile)
    names = [name for entry in new.values() for name in entry["files"]]
    with lock(_lock_file()):
        figures = read_manifest(folder) | new
        gone = {stem for stem, entry in figures.items() if entry["notebook"] == notebook and stem not in new}
        contents = {folder / name: (staged / profile / name).read_bytes() for name in names}
        write(contents | _manifest(folder, figures))
        if gone:  # the manifest lists them until they are gone, so that a run that is killed here is followed by one
            for name in (name for stem in gone for name in figures[stem]["files"]):
                (folder / name).unlink(missing_ok=True)
            write(_manifest(folder, {stem: entry for stem, entry in figures.items() if stem not in gone}))
    return [os.path.relpath(folder / name, paths.ROOT) for name in names]


def committed_evidence(notebook: str) -> list[tuple[Path, pd.DataFrame]]:
    """The committed full-profile figures of a notebook: for each the path of its PNG and the numbers that it draws.

    Raises:
        ValueError: The manifest or a CSV is damaged.
    """
    folder = paths.COMMITTED_FIGURES
    return [
        (folder / f"{stem}.png", read_numbers(folder, stem))
        for stem, entry in read_manifest(folder).items()
        if entry["notebook"] == notebook
    ]


def show_full(notebook: str) -> None:
    """Show in a notebook its committed full-profile figures, labelled as such, or say that there is no full run yet."""
    from IPython.display import Image as Shown
    from IPython.display import display

    evidence = committed_evidence(notebook)
    if not evidence:
        print("no full run yet")
    for image, table in evidence:
        seeds = read_manifest(image.parent)[image.stem]["seeds"]
        print(f"full profile, committed: {image.stem}, {len(seeds)} seeds, {len(table)} rows in {image.stem}.csv")
        display(Shown(data=half_size(image), width=720))


def half_size(image: Path) -> bytes:
    """A PNG at half the resolution in 256 colours: a notebook holds every figure, and few readers load megabytes."""
    small = io.BytesIO()
    try:
        with Image.open(image) as full:
            full.convert("RGB").reduce(2).quantize().save(small, format="PNG", optimize=True)
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error) as error:
        raise _damaged(image) from error
    return small.getvalue()
