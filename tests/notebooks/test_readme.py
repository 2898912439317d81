"""The texts' Python runs as it stands there, their links lead somewhere, and every command is explained."""

import json
import re
import subprocess
import sys
import tomllib

from companion.store import paths

BOOK = paths.ROOT / "book"
USE, GUIDE = ((BOOK / f"{name}.md").read_text(encoding="utf-8") for name in ("use", "guide"))


def test_python_blocks_run_in_their_order() -> None:
    blocks = re.findall(r"```python\n(.*?)```", USE, re.DOTALL)
    assert blocks
    script = "import warnings; warnings.simplefilter('error')\n" + "\n".join(blocks)
    result = subprocess.run([sys.executable, "-c", script], cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_extras_are_named() -> None:
    (named,) = re.findall(r'`pip install -e "\.\[([\w,]+)\]"`', USE)
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert named.split(",") == list(project["optional-dependencies"])


def test_links_lead_to_files() -> None:
    readmes = [paths.ROOT, paths.NOTEBOOKS / "claims", paths.NOTEBOOKS / "companion" / "data"]
    notebooks = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
    for path in (*(folder / "README.md" for folder in readmes), *sorted(BOOK.glob("*.md")), *notebooks):
        text = path.read_text(encoding="utf-8")
        if path in notebooks:
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        targets = re.findall(r"\]\(([^)#:\s]+)\)", text)
        assert [target for target in targets if not (path.parent / target).exists()] == []


def test_every_target_of_make_is_explained() -> None:
    makefile = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE)) - {"help"}
    assert targets == set(re.findall(r"^\| `make (\w+)", GUIDE, re.MULTILINE))
