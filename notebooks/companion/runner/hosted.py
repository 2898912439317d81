"""On a service that runs a notebook alone, such as Colab or Kaggle: install the packages that are missing there."""

import subprocess
import sys

from companion.runner.environment import declared, lacking

EXTRAS = ("baselines", "data", "notebooks")


def install_missing() -> None:
    """Install what the notebooks need and the running Python lacks; say nothing where nothing is missing.

    Raises:
        RuntimeError: pip failed.
    """
    missing = lacking(declared(extras=EXTRAS))
    if not missing:
        return
    print(f"Installing {len(missing)} packages, some minutes ...", flush=True)
    if subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=False).returncode:
        raise RuntimeError(
            f"The notebooks need {', '.join(missing)}. Found that pip cannot install them here, as it says above. "
            "Mend that, or run the project where make can: see the README."
        )
