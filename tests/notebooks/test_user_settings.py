"""What the user has set for IPython, matplotlib, Jupyter and Python changes no output and no figure of a run."""

import json
import subprocess
import sys
from pathlib import Path

from toy_notebook import FIGURE
from toy_project import copy_project, variables

# Prints what settings change, then draws.
SHOWN = (
    FIGURE.replace("plt.show()", "plt.close(fig)")
    + """
import sys
import matplotlib
shown = table.loss.to_frame().tail(1), matplotlib.get_backend(), matplotlib.rcParams["lines.marker"]
print(*shown, sys.flags.utf8_mode, "from_startup" in globals(), "from_profile" in globals(), sep="\\n")"""
)


def ran(project: Path, **more: str) -> tuple[str, dict[str, bytes]]:
    """What the notebook of a new copy of the project showed, and its figures."""
    project.mkdir()
    copy_project(project, toy=SHOWN)
    command = [
        sys.executable,
        "-m",
        "companion.runner.notebooks",
        "run",
        "notebooks/toy.ipynb",
        "--output",
        "build/toy",
    ]
    done = subprocess.run(
        command, cwd=project, env=variables(project) | more, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    cell = json.loads((project / "build" / "toy").read_text(encoding="utf-8"))["cells"][-1]
    image, output = cell["outputs"]
    return image["data"]["image/png"] + "".join(output["text"]), {
        path.name: path.read_bytes() for path in (project / "figures" / "full").iterdir()
    }


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_settings_of_the_user_change_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    startup = "import pandas as pd\npd.options.display.precision = 2\nfrom_profile = True\n"
    write(home / ".ipython" / "profile_default" / "startup" / "00.py", startup)
    rc = write(home / ".config" / "matplotlib" / "matplotlibrc", "text.usetex: True\nlines.marker: x\nfont.size: 30\n")
    kernel = {"argv": ["/no/such/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    write(
        home / "jupyter" / "kernels" / "python3" / "kernel.json",
        json.dumps(kernel | {"language": "python", "display_name": "Python 3"}),
    )
    settings = {
        "HOME": str(home),
        "JUPYTER_PATH": str(home / "jupyter"),
        "LC_ALL": "C",
        "MATPLOTLIBRC": str(rc),
        "MPLBACKEND": "pdf",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONSTARTUP": str(write(home / "python" / "startup.py", "from_startup = True\n")),
        "PYTHONUTF8": "0",
    }
    text, figures = ran(tmp_path / "with", **settings)
    assert (text, figures) == ran(tmp_path / "without")
    assert "0.0625" in text
    assert len(figures) == 3 + 1
