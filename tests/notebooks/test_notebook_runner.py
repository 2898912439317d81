"""The runner refuses what papermill lets pass, leaves evidence of failures, and make repeats only what changed."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import toy_notebook
from companion.runner import inputs, notebooks, parameters
from companion.runner.guard import guard
from companion.store import paths
from companion.store.manifest import read_manifest
from papermill.exceptions import PapermillExecutionError
from toy_notebook import code, toy
from toy_project import copy_project, make

DEFAULTS = {"profile": "published", "device": "auto", "steps": 5, "lr": 1e-3, "seeds": [0, 1], "limit": None}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the checkout; kernels import the real mtlcore."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "FAILED", tmp_path / "failed")
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setenv("PYTHONPATH", f"{paths.ROOT}{os.pathsep}{paths.NOTEBOOKS}")
    return tmp_path


def write_toy(folder: Path, *cells: dict[str, Any], parameters: str = toy_notebook.PARAMETERS) -> Path:
    return toy_notebook.write(folder / "notebooks" / "toy.ipynb", toy(*cells, parameters=parameters))


def test_parameters_are_read_with_their_defaults(tmp_path: Path) -> None:
    assert parameters.read_parameters(write_toy(tmp_path)) == DEFAULTS
    assert parameters.read_parameters(write_toy(tmp_path, parameters='note = "a=b"\nlow = -1.5')) == {
        "note": "a=b",
        "low": -1.5,
    }


@pytest.mark.parametrize(
    "line", ["lr = 2 * 1e-3", "a = b = 1", "import os", "seeds = list(range(3))", "lr: float = 1.0"]
)
def test_parameters_that_are_no_literals_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match="`name = literal`"):
        parameters.read_parameters(write_toy(tmp_path, parameters=line))


def test_one_parameters_cell_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Found 2"):
        parameters.read_parameters(write_toy(tmp_path, code("more = 1", "parameters")))


@pytest.mark.parametrize(
    "values", [{}, {"lr": 1}, {"lr": 0.5, "steps": 7}, {"seeds": []}, {"limit": 3}, {"limit": "a"}, {"profile": "full"}]
)
def test_values_of_the_right_type_pass(tmp_path: Path, values: dict[str, Any]) -> None:
    parameters.validate(write_toy(tmp_path), values)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"stepz": 3}, ValueError, "no parameter `stepz`. Did you mean `steps`?"),
        ({"xyz": 3}, ValueError, "It has profile, device, steps, lr, seeds, limit."),
        ({"lr": "1e-3"}, TypeError, "Pass for example 0.001."),
        ({"steps": 2.0}, TypeError, "should be of type int. Found `steps = 2.0`, of type float."),
        ({"steps": True}, TypeError, "of type bool"),
        ({"seeds": "[0, 1]"}, TypeError, "should be of type list"),
        ({"seeds": [0, "1"]}, TypeError, r"`seeds[...]` should be of type int"),
        ({"steps": 0}, ValueError, "`steps` should be positive. Found `steps = 0`. Pass say 5."),
        ({"lr": float("inf")}, ValueError, "`lr` should be positive"),
        ({"seeds": [-1]}, ValueError, "`seeds[...]` should be 0 or more"),
        ({"profile": "ful"}, ValueError, 'should be "published", "fast" or "full"'),
    ],
)
def test_wrong_names_and_types_are_refused(
    tmp_path: Path, values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        parameters.validate(write_toy(tmp_path), values)
    assert message in str(caught.value)


def test_command_line_values_get_the_type_of_their_default(tmp_path: Path) -> None:
    path = write_toy(tmp_path)
    given = ["device=cpu", "lr=1e-4", "seeds=[2, 3]", "steps=7", "limit=x"]
    assert parameters.parse_assignments(path, given) == {
        "device": "cpu",
        "lr": 1e-4,
        "seeds": [2, 3],
        "steps": 7,
        "limit": "x",
    }
    with pytest.raises(ValueError, match="name=value"):
        parameters.parse_assignments(path, ["steps"])


def test_successful_run_appears_whole(checkout: Path) -> None:
    path = write_toy(checkout, code(toy_notebook.FIGURE))
    before = path.read_bytes()
    output = checkout / "build" / "notebooks" / "toy.ipynb"
    notebooks.execute(path, output, {"profile": "full", "device": "cpu"})
    assert path.read_bytes() == before
    assert "5 steps, 0.0010" in output.read_text()
    assert set(read_manifest(checkout / "figures" / "full")) == {"toy_loss"}
    assert not list((checkout / "failed").rglob("*.*"))


def test_a_run_with_parameters_of_its_own_changes_no_published_figure(checkout: Path) -> None:
    path, output = write_toy(checkout, code(toy_notebook.FIGURE)), checkout / "build" / "own" / "toy.ipynb"
    notebooks.execute(path, output, {"profile": "full", "steps": 2})
    assert "2 steps, 0.0010" in output.read_text()
    assert not (checkout / "figures").exists()
    assert set(read_manifest(output.with_suffix(".figures") / "full")) == {"toy_loss"}


def test_a_profiles_file_sets_what_the_command_line_may_change(checkout: Path) -> None:
    path, output = write_toy(checkout), checkout / "build" / "own" / "toy.ipynb"
    profiles = path.parent / "profiles"
    profiles.mkdir()
    (profiles / "to_fast.yaml").write_text("profile: fast\nsteps: 3\nlr: 0.5\n")
    notebooks.execute(path, output, {"profile": "fast"})
    assert "3 steps, 0.5000" in output.read_text()
    notebooks.execute(path, output, {"profile": "fast", "lr": 0.25})
    assert "3 steps, 0.2500" in output.read_text()
    notebooks.execute(path, output, {"profile": "full"})
    assert "5 steps, 0.0010" in output.read_text()


@pytest.mark.parametrize(
    ("injected", "sentence"),
    [
        ("stepz = 3", "has no parameter `stepz`. Did you mean `steps`?"),
        ('steps = "3"', "`steps` should be of type int"),
        ("num_seeds = 5\nnum_tuning_seeds = 6", "Found 5 from 10 on and 6 from 5 on"),
    ],
)
def test_papermill_called_directly_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: str, sentence: str
) -> None:
    seeds = "first_seed = 10\nnum_seeds = 4\nfirst_tuning_seed = 5\nnum_tuning_seeds = 5"
    write_toy(tmp_path, parameters=f"{toy_notebook.PARAMETERS}\n{seeds}")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    names: dict[str, Any] = {"In": [], "Out": {}, "check": parameters.check}
    exec(f"{toy_notebook.PARAMETERS}\n{seeds}", names)
    parameters.check("toy", names)
    exec(injected, names)
    with pytest.raises((ValueError, TypeError), match=re.escape(sentence)):
        parameters.check("toy", names)


def test_failed_run_leaves_evidence_and_no_target(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_toy(checkout, code(toy_notebook.FIGURE), code("1 / 0"))
    output = checkout / "build" / "notebooks" / "toy.ipynb"
    assert notebooks.main(["run", str(path), "--output", str(output)]) == 1
    assert "toy failed: ZeroDivisionError: division by zero. See failed/notebooks/toy.ipynb." in capsys.readouterr().err
    assert not output.exists()
    assert not (checkout / "figures").exists()
    assert "ZeroDivisionError" in (checkout / "failed" / "notebooks" / "toy.ipynb").read_text()
    assert (checkout / "failed" / "notebooks" / "toy.figures" / "full" / "toy_loss.png").exists()


def test_wrong_parameter_starts_no_kernel(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_toy(checkout)
    assert notebooks.main(["run", str(path), "--output", str(checkout / "build" / "x.ipynb"), "-p", "stepz=3"]) == 1
    assert "Did you mean `steps`?" in capsys.readouterr().err
    assert not (checkout / "failed").exists()


def test_record_keeps_tags_and_outputs_and_nothing_of_the_machine(checkout: Path) -> None:
    threads = "import os\n\nprint(os.environ['OMP_NUM_THREADS'], os.environ.get('MTLCORE_DATA'))"
    path = write_toy(checkout, code(toy_notebook.FIGURE), code(threads))
    assert "The outputs do not belong to this source. Run make record." in guard(path)
    notebooks.record(path)
    assert guard(path) == []
    first = path.read_bytes()
    notebook = json.loads(first)
    assert notebook["cells"][-1]["outputs"][0]["text"] == ["1 None\n"]
    assert [cell["metadata"] for cell in notebook["cells"][1:3]] == [
        {"tags": ["parameters"]},
        {"tags": ["nbval-check-output"]},
    ]
    assert notebook["metadata"].keys() == {"kernelspec", "language_info", "mtlcore"}
    assert not (checkout / "figures").exists()
    notebooks.record(path)
    assert path.read_bytes() == first


def test_record_joins_what_the_kernel_sent_in_pieces(checkout: Path) -> None:
    pieces = "import sys\n\nfor text in ('a', 'b\\n', 'c'):\n    print(text, end='')\n    sys.stdout.flush()"
    path = write_toy(checkout, code(pieces))
    notebooks.record(path)
    (output,) = json.loads(path.read_bytes())["cells"][-1]["outputs"]
    assert output["text"] == ["ab\n", "c"]


def test_record_leaves_the_image_of_a_figure_with_sliders(checkout: Path) -> None:
    sliders = "Sliders(lambda at: plt.figure(), {'loss at': ([0, 1], 0)})"
    moved = toy_notebook.FIGURE.replace("**provenance)", f"**provenance, sliders={sliders})")
    path = write_toy(checkout, code(f"from companion.plots.sliders import Sliders\n\n{moved}"))
    notebooks.execute(path, checkout / "build" / "toy.ipynb")
    (output,) = json.loads((checkout / "build" / "toy.ipynb").read_bytes())["cells"][-1]["outputs"]
    assert output["data"].keys() == {"image/png", "text/plain", notebooks.WIDGET}
    notebooks.record(path)
    (output,) = json.loads(path.read_bytes())["cells"][-1]["outputs"]
    assert output["data"].keys() == {"image/png", "text/plain"}


def test_failed_record_leaves_the_notebook(checkout: Path) -> None:
    path = write_toy(checkout, code("1 / 0"))
    before = path.read_bytes()
    with pytest.raises(PapermillExecutionError):
        notebooks.record(path)
    assert path.read_bytes() == before


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with two notebooks that make a figure each."""
    figure = toy_notebook.FIGURE
    return copy_project(tmp_path, toy=figure, two=figure.replace("toy", "two"))


def test_make_runs_what_changed_and_only_that(project: Path) -> None:
    first = make(project, "-j2", "figures")
    assert first.returncode == 0, first.stderr
    assert set(read_manifest(project / "figures" / "fast")) == {"toy_loss", "two_loss"}
    assert "Nothing to do" in make(project, "figures").stdout

    for path in project.rglob("*.*"):
        path.touch()  # a clone's times say nothing
    assert "Nothing to do" in make(project, "figures").stdout

    (project / "figures" / "fast" / "two_loss.csv").unlink()
    after_deletion = make(project, "figures").stdout
    assert "two: " in after_deletion
    assert "toy: " not in after_deletion

    toy_notebook.write(project / "notebooks" / "toy.ipynb", toy(code("1 / 0")))
    failed = make(project, "figures")
    assert failed.returncode != 0
    assert "two: " not in failed.stdout
    assert (project / "failed" / "notebooks" / "toy.ipynb").exists()
    assert make(project, "figures").returncode != 0, "a failed notebook is tried again, not called up to date"

    toy_notebook.write(project / "notebooks" / "toy.ipynb", toy(code("print(6 * 7)")))
    mended = make(project, "figures").stdout
    assert "toy: " in mended
    assert "two: " not in mended
    assert set(read_manifest(project / "figures" / "fast")) == {"two_loss"}


def test_inputs_change_with_source_package_parameters_and_lock_and_with_nothing_else(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "ROOT", project)
    path = project / "build" / "inputs" / "fast" / "toy"
    seen: list[str] = []

    def changed(parameter: str = "device=auto") -> bool:
        inputs.main("fast", [parameter], ["toy"])
        seen.append(path.read_text())
        return len(seen) > 1 and seen[-1] != seen[-2]

    changed()
    assert changed("device=cuda")
    assert not changed("device=cuda")
    executed = toy()
    executed["cells"][2] |= {
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "5"}],
        "execution_count": 2,
    }
    toy_notebook.write(project / "notebooks" / "toy.ipynb", executed)
    assert changed("device=cuda"), "a cell went"
    toy_notebook.write(project / "notebooks" / "toy.ipynb", toy())
    assert not changed("device=cuda"), "outputs do not count"
    for part in ("notebooks/companion/store/paths.py", "requirements.lock"):
        with (project / part).open("a") as file:
            file.write("# changed\n")
        assert changed("device=cuda"), part
    (project / "figures" / "full").mkdir(parents=True, exist_ok=True)
    (project / "figures" / "full" / "manifest.json").write_text("{}")
    assert not changed("device=cuda"), "only what sums up others reads their figures"
    (project / "notebooks" / "profiles").mkdir()
    (project / "notebooks" / "profiles" / "to_fast.yaml").write_text("steps: 3\n")
    assert changed("device=cuda"), "the profile's values"


def test_a_notebook_depends_on_what_was_registered_for_it_and_the_overview_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    claims = tmp_path / "notebooks" / "claims"
    claims.mkdir(parents=True)
    (tmp_path / "requirements.lock").write_text("")
    names = ["00_overview", "01_toy", "02_toy", "03_toy"]
    for name in names:
        toy_notebook.write(tmp_path / "notebooks" / f"{name}.ipynb", toy())

    def digests() -> dict[str, bytes]:
        inputs.main("fast", [], names)
        return {name: (tmp_path / "build" / "inputs" / "fast" / name).read_bytes() for name in names}

    for number in ("02", "03"):
        (claims / f"{number}.toml").write_text("")
    before = digests()
    (claims / "02.toml").write_text("# changed\n")
    after = digests()
    assert [name for name in names if after[name] != before[name]] == ["00_overview", "02_toy"]
