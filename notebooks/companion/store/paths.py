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
COMMITTED_FIGURES = ROOT / "figures" / "full"


def figures_folder(profile: str) -> Path:
    """The folder of a profile's figures, `figures/<profile>`.

    The environment variable `MTLCORE_FIGURES` moves the folder `figures`: a place, never a profile. The runner uses it
    to put a run's figures in place only when the whole run succeeded, the tests to leave the checkout as it is.
    """
    return Path(os.environ.get("MTLCORE_FIGURES", ROOT / "figures")) / profile
