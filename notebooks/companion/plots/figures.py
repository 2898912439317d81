"""Figures are saved with their numbers and with where they come from.

A figure is an image for readers (PNG), one for papers (PDF), a CSV of what is drawn and an entry in the folder's
`manifest.json` that says which run made it. Images are compared by nobody: tests and readers compare the CSV.
"""

import hashlib
import io
import platform
import zlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import pandas as pd
import PIL.Image
from IPython import get_ipython
from IPython.core.formatters import DisplayFormatter
from IPython.display import Image, display

from companion.plots.sliders import Sliders
from companion.store import paths
from companion.store.manifest import damaged, lock_file, manifest_file, read_manifest
from companion.store.writing import lock, write

# More rows than a curve or table of these experiments has, fewer than any data set: a CSV holds aggregates, no records.
MOST_ROWS = 2000
_NO_TRACE_OF_TIME: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
_PACKAGES = ("torch", "numpy", "pandas", "matplotlib")


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
    sliders: Sliders | None = None,
) -> Path:
    """Save a figure as PNG and PDF with its numbers as CSV and an entry in the manifest, and show it in a notebook.

    The bytes depend on the figure only (for one version of matplotlib); no file is ever seen half written.

    Args:
        fig: the figure; its layout stays as it is saved, and a notebook closes it, for it need not be drawn again.
        stem: the files' name without ending, for example `"03_weights"`.
        data: the aggregates that are drawn, one row per mark, at most 2,000 rows. Its index is not saved.
        notebook: file stem of the notebook that makes the figure.
        profile: `"published"`, `"fast"` or `"full"`.
        parameters: the notebook's parameters, all that decides the run.
        seeds: every seed that entered.
        data_checksums: sha256 of each data set that entered, by name; empty when the data are generated.
        sliders: what a reader who runs the notebook can move.

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
        "profile": paths.figures_of(profile),
        "parameters": dict(parameters),
        "seeds": [int(seed) for seed in seeds],
        "data": dict(data_checksums),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "files": [f"{stem}.{kind}" for kind in (*_NO_TRACE_OF_TIME, "csv")],
        "digest": hashlib.sha256(csv).hexdigest(),
    }
    with lock(lock_file()):
        figures = read_manifest(folder)
        owner = figures.get(stem, entry)["notebook"]
        if owner != notebook:
            raise ValueError(
                f"Parameter `stem` should be new. Found `stem = {stem!r}`, a figure of notebook {owner}. Rename it."
            )
        contents = {}
        for kind, nothing in _NO_TRACE_OF_TIME.items():
            image = io.BytesIO()
            fig.savefig(image, format=kind, metadata=nothing)
            contents[folder / f"{stem}.{kind}"] = image.getvalue()
            fig.set_layout_engine("none")  # it is settled; to lay all out anew would take as long as to draw it
        contents[folder / f"{stem}.csv"] = csv
        write(contents | manifest_file(folder, figures | {stem: entry}))
    image_file = folder / f"{stem}.png"
    if get_ipython() is not None:
        shown = half_size(image_file)
        live = sliders.above(shown)._repr_mimebundle_() if sliders else {}
        saved, _ = DisplayFormatter().format(Image(data=shown))
        display(live | saved, raw=True, metadata={"figure": stem})
        plt.close(fig)
    return image_file


def half_size(image: Path) -> bytes:
    """A PNG at half the resolution in 256 colours: a notebook holds every figure, and few readers load megabytes."""
    small = io.BytesIO()
    try:
        with PIL.Image.open(image) as full:
            full.convert("RGB").reduce(2).quantize().save(small, format="PNG", optimize=True)
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error) as error:
        raise damaged(image) from error
    return small.getvalue()
