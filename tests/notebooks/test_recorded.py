"""One small cell per notebook is computed again and has to give what was recorded."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from companion.runner import recorded
from companion.runner.recorded import Recorded
from companion.store import paths
from companion.train import runs

# Nothing to record: these work their formulas out with a few numbers, all of which nbval compares, or sum up what the
# others recorded (cost counts passes and reads their runs, which tests/companion/test_cost_quality.py compares).
BY_HAND = {"00_overview", "01_hydalearn_by_hand", "05_adatask_by_hand", "10_cost"}
NOTEBOOKS = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb") if path.stem not in BY_HAND)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_recorded_cell_comes_out_again(notebook: str) -> None:
    assert recorded.differences(notebook) == []


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_tolerances_are_less_than_half_of_what_they_guard(notebook: str) -> None:
    what, table = recorded.load(notebook)
    assert what.too_wide(table) == []
    assert what.too_wide(table.assign(value=0.0)) != []


def test_recorded_cells_have_notebooks() -> None:
    assert {path.stem for path in recorded.FOLDER.iterdir()} <= set(NOTEBOOKS)


def test_a_changed_step_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth more learning rate: less than anybody would see in a figure."""
    original = runs.step_per_run

    def step(optimizer: torch.optim.Optimizer, rates: torch.Tensor) -> None:
        original(optimizer, 1.001 * rates)

    monkeypatch.setattr(runs, "step_per_run", step)
    found = " ".join(recorded.differences("03_credit_default"))
    assert re.search(r"test log loss: (\d+) of \1 values differ", found)


def made(configuration: dict[str, Any]) -> pd.DataFrame:
    values = [configuration["start"], configuration["start"] + 1.0]
    return pd.DataFrame({"method": ["a", "b"], "metric": "loss", "value": values, "seconds": 9.0})


def test_recording_writes_what_is_then_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    monkeypatch.setattr(recorded, "resolve_name", lambda name: {"here:made": made}[name])
    content = {
        "compute": "here:made",
        "configuration": {"start": 0.1},
        "contrast": "method",
        "tolerance": {"loss": 0.4},
    }
    (tmp_path / "09.json").write_text(json.dumps(content), encoding="utf-8")
    assert recorded.record("09").read_text(encoding="utf-8") == "method,metric,value\na,loss,0.1\nb,loss,1.1\n"
    assert recorded.load("09")[0] == Recorded("here:made", {"start": 0.1}, "method", {"loss": 0.4})
    assert recorded.differences("09") == []
    recorded.record("09")  # a second time: the JSON now names the columns
    assert recorded.differences("09") == []
    content["tolerance"] = {"loss": 0.5}
    (tmp_path / "09.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"Tolerance of `loss` should be less than half .*1\. Found 0\.5"):
        recorded.record("09")
