"""What a teacher hands out holds no solution and runs; with the solutions all its checks are green; nothing is lost."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from companion.coursework import EXERCISES
from companion.coursework import student as coursework
from companion.coursework.checking import Report
from companion.coursework.folder import LIST, write_folder
from companion.coursework.grading import print_grade
from companion.coursework.submission import read
from companion.runner.guard import guard
from companion.store import paths, writing
from wrong_answers import RIGHT

NAMES = pytest.mark.parametrize("name", EXERCISES)
RIGHT_SOURCE = {name: inspect.getsource(function) for name, function in RIGHT.items()}
SOLUTIONS = {name: (coursework.SOLUTIONS / f"{name}.py").read_text(encoding="utf-8") for name in EXERCISES}


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as handed out; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("coursework") / "student"
    write_folder(folder, coursework.student_files())
    return folder


# --------------------------------------------------------------------------------------------------------- handing out
def test_nothing_that_is_handed_out_holds_a_solution(student: Path) -> None:
    bodies = [body for source in SOLUTIONS.values() for body in re.split(r"^def .*\n", source, flags=re.MULTILINE)[1:]]
    assert len(bodies) == 10
    for name, content in tree(student).items():
        assert not re.search(r"solution|submission|grading|student|(^|/)\.git|(^|/)tests?(/|_)|wrong_answers", name)
        lines = {line.strip() for line in content.decode(errors="replace").splitlines()}  # of an image none is text
        for body in bodies:
            telling = [line.strip() for line in body.splitlines() if line.strip()]
            assert not set(telling) <= lines, f"{name} holds the lines of a solution"


def test_it_holds_the_two_notebooks_what_they_import_and_nothing_else_of_the_companion(student: Path) -> None:
    files = tree(student)
    needed = "README.md Makefile LICENSE pyproject.toml requirements.lock environment.yml mtlcore/py.typed"
    assert {*needed.split(), "mtlcore/hydalearn.py", "mtlcore/adatask.py", "mtlcore/reference.py"} <= files.keys()
    assert [name for name in files if name.endswith(".ipynb")] == [f"notebooks/{name}.ipynb" for name in EXERCISES]
    rooms = {name.split("/")[2] for name in files if re.match(r"notebooks/companion/\w+/", name)}
    assert rooms >= {"coursework", "networks", "plots", "train"}
    assert not rooms & {"baselines", "data", "studies", "metrics"}
    for path in re.findall(r"\]\(([^)]+)\)", files["README.md"].decode()):
        assert path in files
    dry = subprocess.run(["make", "-n", "lab"], cwd=student, capture_output=True, text=True, check=True).stdout
    assert dry.split()[2] in files
    assert "jupyter lab notebooks" in dry


def test_what_a_function_of_a_handed_out_module_imports_is_handed_out_too() -> None:
    late = "%matplotlib inline\ndef later():\n    from companion.train import runs\n"
    found = coursework.imported_files([{"cells": [{"cell_type": "code", "source": late}]}])
    assert {"runs.py", "hydalearn.py", "environment.py"} <= {path.name for path in found}


def test_it_passes_the_guard(student: Path) -> None:
    assert [problem for name in EXERCISES for problem in guard(student / "notebooks" / f"{name}.ipynb")] == []


def test_links_to_what_is_not_handed_out_became_text(student: Path) -> None:
    text = (student / "notebooks" / "01_hydalearn_by_hand.ipynb").read_text(encoding="utf-8")
    assert "the credit notebook" in text
    assert "03_credit_default" not in text
    assert "(05_adatask_by_hand.ipynb)" in text


def test_the_folder_is_the_same_every_time(student: Path) -> None:
    written = {name: content for name, content in tree(student).items() if name != LIST}
    assert coursework.student_files() == written


# Small numbers and one figure: here it matters that nothing is missing; nbval compares what the whole run prints.
SMALL = """
import companion, mtlcore, os
print("imported", *(os.path.realpath(package.__path__[0]) for package in (companion, mtlcore)))
num_seeds, num_tuning_seeds, steps, num_steps, plane_steps, rate_exponents = 2, 2, 12, 12, 12, [-9, -8, -7, -6]
draw = save_figure
def save_figure(figure, *args, **kwargs):
    global draw
    draw(figure, *args, **kwargs) if draw else plt.close(figure)
    draw = None
"""


@pytest.mark.parametrize(("name", "started_in"), [*zip(EXERCISES, (".", "notebooks"), strict=True)])
def test_nbconvert_runs_it_anywhere_and_with_the_solutions_every_check_is_green(
    student: Path, name: str, started_in: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(student, tmp_path / "student")
    path = folder / "notebooks" / f"{name}.ipynb"
    notebook = coursework.solved(json.loads(path.read_text(encoding="utf-8")), SOLUTIONS[name])
    imports = next(cell for cell in notebook["cells"] if "use_style()" in "".join(cell["source"]))
    imports["source"] += SMALL.splitlines(keepends=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MTLCORE_FIGURES")}
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--execute", "--to", "notebook", "--inplace"]
    relative = os.path.relpath(path, folder / started_in)
    subprocess.run([*command, relative], cwd=folder / started_in, env=kept, check=True)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    said = ["".join(text for output in cell.get("outputs", []) for text in output.get("text", [])) for cell in cells]
    assert f"imported {folder}/notebooks/companion {folder}/mtlcore\n" in said
    checks = [
        text for text, cell in zip(said, cells, strict=True) if coursework.TAG in cell["metadata"].get("tags", [])
    ]
    assert len(checks) == len(EXERCISES[name]) == 5
    for text, exercise in zip(checks, EXERCISES[name], strict=True):
        count = len(exercise.properties)
        assert text.startswith(f"{exercise.title}: {count} of {count} properties hold")
        assert (text.count("✓"), text.count("✗")) == (count, 0)


@pytest.mark.parametrize("spoil", ["source", "output"])
def test_a_notebook_that_its_owner_has_solved_is_not_handed_out(
    spoil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "figures").symlink_to(paths.ROOT / "figures")  # which the notebooks show
    for name in EXERCISES:
        notebook = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
        if spoil == "source":
            notebook = coursework.solved(notebook, SOLUTIONS[name])
        else:
            coursework.exercise_cells(notebook)[0]["outputs"][0]["text"] = ["Exercise 1: 7 of 7 properties hold\n"]
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    (folder / "03_credit_default.ipynb").touch()  # what the notebooks link to
    monkeypatch.setattr(paths, "NOTEBOOKS", folder)
    says = "The outputs do not belong to this source" if spoil == "source" else "Found 1 that do not, of 5. Take your"
    with pytest.raises(ValueError, match=says):
        coursework.student_files()


# ------------------------------------------------------------------------------------------------------ nothing is lost
def edit(folder: Path) -> None:
    (folder / "notebooks" / "a.ipynb").write_text("my answer")


def add(folder: Path) -> None:
    (folder / "notes.txt").write_text("my notes")


def forget_the_list(folder: Path) -> None:
    (folder / ".handout.json").unlink()


FILES = {"README.md": b"read", "notebooks/a.ipynb": b"unsolved"}


@pytest.mark.parametrize(
    ("change", "named"),
    [(edit, r"notebooks/a\.ipynb"), (add, r"notes\.txt"), (forget_the_list, r"README\.md, notebooks/a\.ipynb")],
)
def test_a_folder_with_changes_is_not_overwritten(change: Callable[[Path], None], named: str, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    write_folder(folder, FILES)
    change(folder)
    before = tree(folder)
    with pytest.raises(FileExistsError, match=f"student holds changes that would be lost: {named}. Move it away, say"):
        write_folder(folder, FILES)
    assert tree(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_folder_that_was_only_used_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    write_folder(folder, FILES)
    for left in (".venv/bin/python", "mtlcore/__pycache__/x.pyc", "notebooks/.ipynb_checkpoints/a.ipynb", "build/x"):
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).write_text("made by use")
    (folder / "README.md").unlink()
    write_folder(folder, {"README.md": b"read this"})
    assert tree(folder).keys() == {"README.md", ".handout.json"}
    assert (folder / "README.md").read_bytes() == b"read this"


def test_a_disk_that_fills_up_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "student"
    write_folder(folder, FILES)
    before = tree(folder)

    def full(contents: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(writing, "write", full)
    with pytest.raises(OSError, match="no space"):
        write_folder(folder, {"README.md": b"new"})
    assert tree(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_folder_that_cannot_take_its_name_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "student"
    write_folder(folder, FILES)
    before, replace = tree(folder), Path.replace

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if self.name == "fresh":
            raise OSError("not now")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse_the_new_one)
    with pytest.raises(OSError, match="not now"):
        write_folder(folder, {"README.md": b"new"})
    assert tree(folder) == before


def test_the_command_line_writes_both_folders_and_says_a_refusal_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    assert coursework.main([]) == 0
    assert coursework.main(["solve"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["build/student/", "build/solved/"]
    add(tmp_path / "student")
    assert coursework.main(["student"]) == 1
    refused = capsys.readouterr()
    assert refused.out == ""
    assert len(refused.err.splitlines()) == 1
    assert "holds changes that would be lost: notes.txt." in refused.err


# ---------------------------------------------------------------------------------------------------------- checking it
def handed_in(folder: Path, *sources: str) -> Path:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    path = folder / "anna.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


def reports(path: Path) -> list[Report]:
    return [exercise.report() for exercise in read(path)]


@NAMES
def test_what_is_handed_in_is_tried_anew(name: str, tmp_path: Path) -> None:
    path = tmp_path / "whatever it is called.ipynb"
    path.write_bytes(coursework.solved_files()[f"{name}.ipynb"])
    assert [report.solved for report in reports(path)] == [True] * 5
    shutil.copy(paths.NOTEBOOKS / f"{name}.ipynb", path)
    assert [str(report) for report in reports(path)] == [
        f"{exercise.title}: not solved yet" for exercise in EXERCISES[name]
    ]


def test_helpers_imports_and_broken_cells_are_taken_as_they_come(tmp_path: Path) -> None:
    path = handed_in(
        tmp_path,
        "import torch as th\nraise SystemExit('the long experiment, which is not run')",
        "def weights_from_gains(gains, main_task):\n    return positive(gains) / positive(gains).sum()\nprint(1 / 0)",
        "def positive(gains):\n    return th.relu(gains)",
        "def first_order_gains(gradients, main_task, trial_step):\n    return (",
        "def exact_gains(*arguments):\n    return [0.0] * len(arguments[1].centres)",
    )
    first, second, third, *_ = reports(path)
    assert "returned [nan]" in str(first)
    assert str(second) == "Exercise 2, first_order_gains: not solved yet"
    assert "✗ For a very small step" in str(third)


TABLE = """factors = {}
for key in ("weight", "unused"):
    factors[key] = 1.0
try:
    from a_library_that_is_not_there import relu
except ImportError:
    from torch import relu
class Kept:
    factor = factors["weight"]
"""
SOLUTION = RIGHT_SOURCE["weights_from_gains"].replace("gains.clamp(min=0)", "relu(gains) * Kept.factor")


@pytest.mark.parametrize(
    "cells",
    [
        (f"%%time\n{TABLE}import torch", f"%%time\n{SOLUTION}"),
        (f"%%capture said\n{TABLE}import torch", f"%%timeit -n 1 -r 1\n{SOLUTION}"),
        (f"{TABLE}!pip install torch\n%time import torch\n%matplotlib inline", f"{SOLUTION}weights_from_gains?\n!ls"),
        (f"files = !ls\n{TABLE}from torch import *\nimport torch\n%timeit -n 1 files", f"pattern = '\\d'\n{SOLUTION}"),
        (f"{TABLE}import torch", SOLUTION.replace("\n", "\n    %time gains\n    !ls\n    display(gains)\n", 1)),
    ],
)
def test_cells_are_read_as_jupyter_reads_them(cells: tuple[str, str], tmp_path: Path) -> None:
    report = reports(handed_in(tmp_path, "def weights_from_gains(): ...", *cells))[0]
    assert report.solved, str(report)


def test_what_is_no_notebook_of_these_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="Found none of weights_from_gains"):
        read(handed_in(tmp_path, "print(1)"))
    (tmp_path / "anna.ipynb").write_text("[]")
    print_grade(tmp_path / "anna.ipynb")
    assert re.search(r"anna\.ipynb: It should be a notebook\. Found TypeError", capsys.readouterr().out)


def test_no_cell_costs_another_exercise_its_result(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    right = RIGHT_SOURCE | {
        "first_order_gains": "def first_order_gains(*arguments):\n    while True: pass",
        "exact_gains": "print('hello')\ndef exact_gains(*arguments):\n    raise SystemExit(3)",
    }
    path = handed_in(
        tmp_path,
        "import torch",
        *(right[exercise.function] for exercise in EXERCISES["01_hydalearn_by_hand"]),
        "raise SystemExit",
        "while True:\n    gains = main = products = 1",  # names that the functions use, but inside
        "import os\nlengths = os._exit(1)",
    )
    print_grade(path, seconds=2)
    said = capfd.readouterr().out.splitlines()
    assert said[0] == str(path)
    assert [line.partition(", ")[2] for line in said[1:-1]] == [
        "weights_from_gains: 7 of 7 properties hold",
        "first_order_gains: not finished after 2 seconds. Look for a loop without an end.",
        "exact_gains: its code ended the process, with status 3.",
        "scale_free_contributions: 7 of 7 properties hold",
        "unbiased_gain: 5 of 5 properties hold",
    ]
    assert said[-1] == f"{path}: 3 of 5 exercises solved"


def test_the_command_line_checks_every_notebook_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Path] = []
    monkeypatch.setattr(coursework, "print_grade", checked.append)
    for name in ("berta.ipynb", "more/anna.ipynb", ".ipynb_checkpoints/anna.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert coursework.main(["check", str(tmp_path), "carla.ipynb"]) == 0
    assert checked == [tmp_path / "berta.ipynb", tmp_path / "more" / "anna.ipynb", Path("carla.ipynb")]
