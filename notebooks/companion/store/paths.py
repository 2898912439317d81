"""Where things lie: the one place that knows the folders of a checkout.

Notebooks run from their own folder under JupyterLab and nbval, and from anywhere else in a script; they ask here
instead of counting `..`.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"
FAILED = ROOT / "failed"
FIGURES = ROOT / "figures"  # what `make` puts in place; no notebook writes there itself
COMMITTED_FIGURES = FIGURES / "full"


def figures_of(profile: str) -> str:
    """The folder's name for a profile's figures: the published runs are drawn as the full run's are, into `full`."""
    return "fast" if profile == "fast" else "full"


def figures_folder(profile: str) -> Path:
    """Where a running notebook writes its figures: below `build/figures`, whoever runs it.

    The runner names another folder in the environment variable `MTLCORE_FIGURES`, and moves the figures to `FIGURES`
    when the whole run succeeded with the committed parameters. So no other run changes a published figure.
    """
    return Path(os.environ.get("MTLCORE_FIGURES", BUILD / "figures")) / figures_of(profile)
