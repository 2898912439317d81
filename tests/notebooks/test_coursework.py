"""What a teacher hands out holds no solution and runs; with the solutions all its checks are green; nothing is lost."""

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
from companion.coursework.grading import grade, print_grade
from companion.runner.notebooks import ON_ONE_CPU_THREAD
from companion.store import paths, writing

NAMES = pytest.mark.parametrize("name", EXERCISES)
SOLUTIONS = {name: (coursework.SOLUTIONS / f"{name}.py").read_text(encoding="utf-8") for name in EXERCISES}


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as handed out; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("coursework") / "student"
    coursework.write_folder(folder, coursework.student_files())
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A module of the handed-out package, in the handed-out folder: nothing of this checkout can be imported."""
    changed = ON_ONE_CPU_THREAD | {"PYTHONPATH": f"{folder}{os.pathsep}{folder / 'notebooks'}", "MTLCORE_FIGURES": None}
    kept = {name: value for name, value in os.environ.items() if name not in changed and not name.startswith("PYTEST")}
    variables = kept | {name: value for name, value in changed.items() if value is not None}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


# --------------------------------------------------------------------------------------------------------- handing out
def test_nothing_that_is_handed_out_holds_a_solution(student: Path) -> None:
    files = tree(student)
    assert not [
        name for name in files if re.search(r"solution|coursework|(^|/)\.git|(^|/)tests?(/|_)|wrong_answers", name)
    ]
    bodies = [body for source in SOLUTIONS.values() for body in re.split(r"^def .*\n", source, flags=re.MULTILINE)[1:]]
    assert len(bodies) == 10
    for name, content in files.items():
        lines = {line.strip() for line in content.decode("utf-8", errors="replace").splitlines()}
        for body in bodies:
            telling = [line.strip() for line in body.splitlines() if line.strip()]
            assert not set(telling) <= lines, f"{name} holds the lines of a solution"


def test_it_holds_what_is_needed_to_run_and_nothing_but_the_two_notebooks(student: Path) -> None:
    files = tree(student)
    assert {
        "README.md",
        "Makefile",
        "LICENSE",
        "pyproject.toml",
        "requirements.lock",
        "environment.yml",
    } <= files.keys()
    assert [name for name in files if name.endswith(".ipynb")] == [f"notebooks/{name}.ipynb" for name in EXERCISES]
    for path in re.findall(r"\]\(([^)]+)\)", (student / "README.md").read_text(encoding="utf-8")):
        assert path in files
    dry = subprocess.run(["make", "-n", "lab"], cwd=student, capture_output=True, text=True, check=True).stdout
    assert "notebooks/companion/runner/environment.py" in dry
    assert "jupyter lab notebooks" in dry


def test_it_passes_its_own_guard(student: Path) -> None:
    result = run(student, "companion.runner.notebooks", "guard")
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_links_to_what_is_not_handed_out_became_text(student: Path) -> None:
    text = (student / "notebooks" / "01_hydalearn_by_hand.ipynb").read_text(encoding="utf-8")
    assert "the credit notebook" in text
    assert "03_credit_default" not in text
    assert "(05_adatask_by_hand.ipynb)" in text


def test_the_folder_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "another"):
        coursework.write_folder(tmp_path / name, coursework.student_files())
    assert tree(tmp_path / "one") == tree(tmp_path / "another")


@NAMES
def test_with_the_solutions_the_whole_notebook_runs_and_every_check_is_green(
    student: Path, name: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(student, tmp_path / "student")
    path = folder / "notebooks" / f"{name}.ipynb"
    notebook = coursework.solved(json.loads(path.read_text(encoding="utf-8")), SOLUTIONS[name])
    path.write_text(json.dumps(notebook), encoding="utf-8")
    runner = "companion.runner.notebooks"
    result = run(folder, runner, "run", f"notebooks/{name}.ipynb", "--output", "build/executed.ipynb")
    assert result.returncode == 0, result.stderr
    executed = json.loads((folder / "build" / "executed.ipynb").read_text(encoding="utf-8"))
    cells = coursework.exercise_cells(executed)
    assert len(cells) == len(EXERCISES[name]) == 5
    for cell, exercise in zip(cells, EXERCISES[name], strict=True):
        said = "".join(text for output in cell["outputs"] for text in output["text"])
        count = len(exercise.properties)
        assert said.startswith(f"{exercise.title}: {count} of {count} properties hold")
        assert (said.count("✓"), said.count("✗")) == (count, 0)


@pytest.mark.parametrize("spoil", ["source", "output"])
def test_a_notebook_that_its_owner_has_solved_is_not_handed_out(
    spoil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in EXERCISES:
        notebook = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
        if spoil == "source":
            notebook = coursework.solved(notebook, SOLUTIONS[name])
        else:
            coursework.exercise_cells(notebook)[0]["outputs"][0]["text"] = ["Exercise 1: 7 of 7 properties hold\n"]
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    for name in ("03_credit_default",):  # what the notebooks link to
        (tmp_path / f"{name}.ipynb").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
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
    coursework.write_folder(folder, FILES)
    change(folder)
    before = tree(folder)
    with pytest.raises(FileExistsError, match=f"student holds changes that would be lost: {named}. Move it away, say"):
        coursework.write_folder(folder, FILES)
    assert tree(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_folder_that_was_only_used_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    coursework.write_folder(folder, FILES)
    for left in (".venv/bin/python", "mtlcore/__pycache__/x.pyc", "notebooks/.ipynb_checkpoints/a.ipynb", "build/x"):
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).write_text("made by use")
    (folder / "README.md").unlink()
    coursework.write_folder(folder, {"README.md": b"read this"})
    assert tree(folder).keys() == {"README.md", ".handout.json"}
    assert (folder / "README.md").read_bytes() == b"read this"


def test_a_disk_that_fills_up_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "student"
    coursework.write_folder(folder, FILES)
    before = tree(folder)

    def full(contents: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(writing, "write", full)
    with pytest.raises(OSError, match="no space"):
        coursework.write_folder(folder, {"README.md": b"new"})
    assert tree(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_folder_that_cannot_take_its_name_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "student"
    coursework.write_folder(folder, FILES)
    before, replace = tree(folder), Path.replace

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if self.name == "fresh":
            raise OSError("not now")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse_the_new_one)
    with pytest.raises(OSError, match="not now"):
        coursework.write_folder(folder, {"README.md": b"new"})
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


@NAMES
def test_what_is_handed_in_is_tried_anew(name: str, tmp_path: Path) -> None:
    path = tmp_path / "whatever it is called.ipynb"
    path.write_bytes(coursework.solved_files()[f"{name}.ipynb"])
    assert [report.solved for report in grade(path)] == [True] * 5
    shutil.copy(paths.NOTEBOOKS / f"{name}.ipynb", path)
    assert [str(report) for report in grade(path)] == [
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
    reports = grade(path)
    assert "6 of 7" not in str(reports[0])
    assert "returned [nan]" in str(reports[0])
    assert str(reports[1]) == "Exercise 2, first_order_gains: not solved yet"
    assert "✗ For a very small step" in str(reports[2])


def test_what_is_no_notebook_of_these_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Found none of weights_from_gains"):
        grade(handed_in(tmp_path, "print(1)"))
    (tmp_path / "anna.ipynb").write_text("[]")
    with pytest.raises(ValueError, match=r"It should be a notebook\. Found TypeError"):
        grade(tmp_path / "anna.ipynb")


def test_the_command_line_grades_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handed_in(
        tmp_path,
        "import torch",
        "def weights_from_gains(gains, main_task):\n    return gains / gains.sum()",
    )
    assert coursework.main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"{tmp_path / 'anna.ipynb'}: 0 of 5 exercises solved\nExercise 1, weights_from_gains: 4 of 7"
    )
    assert "  ✗ Weights are not negative and sum to 1" in said
    assert "✓" not in said
    assert said.endswith("Exercise 5, unbiased_gain: not solved yet\n")


@pytest.mark.parametrize(
    ("line", "seconds", "says"),
    [
        ("while True:\n        pass", 5, "not finished after 5 seconds"),
        ("raise SystemExit(3)", 120, "its code ended the process, with status 3"),
    ],
)
def test_code_that_never_ends_or_ends_the_process_is_named(
    line: str, seconds: float, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_grade(handed_in(tmp_path, f"def weights_from_gains(gains, main_task):\n    {line}"), seconds)
    assert says in capsys.readouterr().out
