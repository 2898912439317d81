"""JupyterLab as a student meets it: open notebook 01, run it, solve the first exercise, see its check turn."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from companion.store.paths import ROOT

NOTEBOOK = "notebooks/01_hydalearn_by_hand.ipynb"
SOLUTION = re.search(
    r"def weights_from_gains.*?(?=\n\n\n)",
    (ROOT / "notebooks" / "solutions" / "01_hydalearn_by_hand.py").read_text(encoding="utf-8"),
    flags=re.DOTALL,
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """A server for a copy of what the notebook needs; its address."""
    for folder in ("mtlcore", "notebooks", "figures"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "fast"))
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    whole = json.dumps({"windowingMode": "none"})  # else only the cells in sight are on the page
    (settings / "tracker.jupyterlab-settings").write_text(whole, encoding="utf-8")
    environment = {**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")}
    options = [
        "--no-browser",
        "--allow-root",
        "--port=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={tmp_path}",
    ]
    command = [sys.executable, "-m", "jupyter", "lab", *options]
    log = tmp_path / "log"
    with log.open("w") as said:
        server = subprocess.Popen(command, env=environment, stdout=said, stderr=said, cwd=tmp_path)
    try:
        for _ in range(120):
            found = re.search(r"http://(?:localhost|127\.0\.0\.1):\d+/", log.read_text(encoding="utf-8"))
            if found:
                break
            time.sleep(0.5)
        assert found, log.read_text(encoding="utf-8")
        yield found[0]
    finally:
        server.terminate()
        server.wait(20)


def a_slider_moves_its_figure(page: Any) -> None:
    figure = page.locator("img.moved-by-sliders")
    before = figure.get_attribute("src")
    slider = page.locator(".widget-hslider", has_text="size a of the trial step").locator(".noUi-handle")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    moved = "src => document.querySelector('img.moved-by-sliders').src !== src"
    page.wait_for_function(moved, arg=before, timeout=60_000)
    assert figure.evaluate("image => image.naturalWidth") > 500


def test_the_first_exercise_turns_green(browser: Any, lab: str) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.goto(f"{lab}lab/tree/{NOTEBOOK}?reset")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    idle = page.locator("text=Python 3 (ipykernel) | Idle")
    idle.wait_for(timeout=60_000)
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
    page.locator("text=Python 3 (ipykernel) | Busy").wait_for(timeout=60_000)
    idle.wait_for(timeout=180_000)
    a_slider_moves_its_figure(page)
    cells = page.locator(".jp-CodeCell")
    cell = cells.nth(next(i for i, text in enumerate(cells.all_inner_texts()) if "def weights_from_gains(" in text))
    output = cell.locator(".jp-OutputArea-output").last
    assert "not solved yet" in output.inner_text()
    editor = cell.locator(".cm-content")
    check = editor.inner_text().rstrip().rsplit("\n", 1)[-1]
    assert SOLUTION is not None
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(f"{SOLUTION[0]}\n\n\n{check}")
    page.keyboard.press("Control+Enter")
    cell.locator(".jp-OutputArea-output", has_text="properties hold").wait_for(timeout=60_000)
    shown = output.inner_text()
    context.close()
    held = re.search(r"(\d+) of (\d+) properties hold", shown)
    assert held, shown
    assert held[1] == held[2], shown
