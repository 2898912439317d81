"""For teachers: hand out notebooks 01 and 05 without the solutions, insert these for oneself, check what comes back.

    python -m companion.coursework.student                 write build/student/, the folder to hand out
    python -m companion.coursework.student solve           write build/solved/, both notebooks with the solutions
    python -m companion.coursework.student check PATH ...  try the exercises in notebooks, or in all of a folder

`check` runs the code of the notebooks that it is given.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterable, Sequence
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from companion.coursework import EXERCISES
from companion.coursework.folder import write_folder
from companion.coursework.grading import print_grade
from companion.coursework.submission import python
from companion.runner.guard import guard
from companion.store import paths, writing

SOLUTIONS = paths.NOTEBOOKS / "solutions"
HANDOUT = Path(__file__).parent / "handout"
TAG = "exercise"  # of the cells that hold a function to write and its self-check
LINK = re.compile(r"(!?)\[([^\]]+)\]\(([\w./-]+)\)")

Notebook = dict[str, Any]


def exercise_cells(notebook: Notebook) -> list[dict[str, Any]]:
    """The cells of a notebook that hold an exercise."""
    return [cell for cell in notebook["cells"] if TAG in cell["metadata"].get("tags", [])]


def solved(notebook: Notebook, solutions: str) -> Notebook:
    """A notebook whose exercise cells hold the solutions' functions, without the outputs of those cells.

    Args:
        notebook: With unsolved exercises; it is left as it is.
        solutions: The source of a file that defines a function for each.
    """
    functions = _functions(solutions)
    copy: Notebook = json.loads(json.dumps(notebook))
    for cell in exercise_cells(copy):
        source = "".join(cell["source"])
        for name, unsolved in _functions(source).items():
            source = source.replace(unsolved, functions[name])
        cell.update(source=source.splitlines(keepends=True), outputs=[], execution_count=None)
    return copy


def _functions(source: str) -> dict[str, str]:
    """The source of each function that is defined at the top level."""
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_source_segment(source, node) or "" for node in found}


def student_files() -> dict[str, bytes]:
    """What a student gets, by path within the folder: the notebooks, what they need to run, and no solution.

    Raises:
        ValueError: A committed notebook does not pass the guard, or an exercise is not in its unsolved state.
    """
    files = {path.name: path.read_bytes() for path in (HANDOUT / "README.md", HANDOUT / "Makefile")}
    notebooks = {name: _read(paths.NOTEBOOKS / f"{name}.ipynb") for name in EXERCISES}
    for name, notebook in notebooks.items():
        _check_unsolved(notebook, name)
        files |= _handed_out(name, notebook, "notebooks/")
    project = ("LICENSE", "CITATION.cff", "pyproject.toml", "requirements.lock", "environment.yml", "mtlcore/py.typed")
    for path in (*(paths.ROOT / name for name in project), *imported_files(notebooks.values())):
        files[path.relative_to(paths.ROOT).as_posix()] = path.read_bytes()
    return files


def imported_files(notebooks: Iterable[Notebook]) -> list[Path]:
    """The files of the companion and of `mtlcore` that notebooks and `make lab` import, and those that these import."""
    finder = ModuleFinder([str(paths.ROOT), str(paths.NOTEBOOKS)])
    finder.import_hook("companion.runner.environment")
    for cell in (cell for notebook in notebooks for cell in notebook["cells"] if cell["cell_type"] == "code"):
        code = ast.Module(python("".join(cell["source"])), [])
        finder.scan_code(compile(code, "<cell>", "exec"), finder.add_module("__main__"))
    return sorted(Path(file) for module in finder.modules.values() if (file := getattr(module, "__file__", None)))


def solved_files() -> dict[str, bytes]:
    """Both notebooks with the solutions inserted, by path within the folder."""
    files: dict[str, bytes] = {}
    for name in EXERCISES:
        solutions = (SOLUTIONS / f"{name}.py").read_text(encoding="utf-8")
        files |= _handed_out(name, solved(_read(paths.NOTEBOOKS / f"{name}.ipynb"), solutions), "")
    return files


def _read(path: Path) -> Notebook:
    notebook: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def _check_unsolved(notebook: Notebook, name: str) -> None:
    if problems := guard(paths.NOTEBOOKS / f"{name}.ipynb"):
        raise ValueError(f"{name}.ipynb: {problems[0]}")
    found = [
        "".join(text for output in cell["outputs"] for text in output.get("text", ""))
        for cell in exercise_cells(notebook)
    ]
    wanted = [f"{exercise.title}: not solved yet\n" for exercise in EXERCISES[name]]
    if found != wanted:
        raise ValueError(
            f"The exercises of notebooks/{name}.ipynb should all say `not solved yet`. Found "
            f"{sum(text not in wanted for text in found)} that do not, of {len(found)}. Take your answers out and run "
            f"make record NOTEBOOK={name[:2]}."
        )


def _handed_out(name: str, notebook: Notebook, folder: str) -> dict[str, bytes]:
    """A notebook and the images that it shows; what else it links to and is not handed out becomes plain text."""
    files: dict[str, bytes] = {}

    def kept(link: re.Match[str]) -> str:
        shows, words, target = link.groups()
        if shows:
            image = paths.NOTEBOOKS / target
            files[f"{folder}images/{image.name}"] = image.read_bytes()
            return f"![{words}](images/{image.name})"
        return link[0] if target.removesuffix(".ipynb") in EXERCISES else words

    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = LINK.sub(kept, "".join(cell["source"])).splitlines(keepends=True)
    files[f"{folder}{name}.ipynb"] = (
        json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    ).encode()
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line, `[student | solve | check PATH ...]`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m companion.coursework.student", description="The exercises, for teachers."
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("student", help="write build/student/, the folder to hand out (the default)")
    commands.add_parser("solve", help="write build/solved/, the notebooks with the solutions inserted")
    check = commands.add_parser("check", help="try the exercises in notebooks; their code is executed")
    check.add_argument("paths", metavar="path", type=Path, nargs="+", help="a notebook, or a folder with notebooks")
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            for at in options.paths:
                for path in sorted(at.rglob("*.ipynb")) if at.is_dir() else [at]:
                    if ".ipynb_checkpoints" not in path.parts:  # copies that JupyterLab keeps
                        print_grade(path)
            return 0
        kind, files = ("solved", solved_files()) if options.command == "solve" else ("student", student_files())
        write_folder(paths.BUILD / kind, files)
    except (ValueError, OSError) as error:
        print(writing.sentence(error) if isinstance(error, OSError) else error, file=sys.stderr)
        return 1
    exercises = sum(len(of_one) for of_one in EXERCISES.values())
    print(f"build/{kind}/: {len(files)} files, {len(EXERCISES)} notebooks with {exercises} exercises")
    return 0


if __name__ == "__main__":
    sys.exit(main())
