"""Try the exercises of a notebook that was handed in, without running the rest of it.

Only imports and definitions are executed: the imports of every cell, and from the first exercise on what each cell
defines or assigns. What its outputs say does not count.
"""

import ast
import contextlib
import io
import json
import multiprocessing
from pathlib import Path
from typing import Any

from companion.coursework import EXERCISES
from companion.coursework.checking import Report

SECONDS = 120  # for one notebook; its checks take some seconds


def print_grade(path: Path, seconds: float = SECONDS) -> None:
    """Print what the self-checks say about a notebook, in a process of its own, which is ended after `seconds`.

    Raises:
        ValueError: The file is no notebook with one of the exercises.
    """
    with contextlib.closing(multiprocessing.get_context("spawn").SimpleQueue()) as answers:
        process = multiprocessing.get_context("spawn").Process(target=_put_grade, args=(path, answers), daemon=True)
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
            print(f"{path}: not finished after {seconds:g} seconds. Look for a loop without an end.")
        elif answers.empty():
            print(f"{path}: its code ended the process, with status {process.exitcode}.")
        else:
            print(answers.get())


def _put_grade(path: Path, answers: Any) -> None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            reports = grade(path)
    except ValueError as error:
        answers.put(f"{path}: {error}")
    else:
        solved = sum(report.solved for report in reports)
        said = [f"{path}: {solved} of {len(reports)} exercises solved", *map(str, reports)]
        answers.put("\n".join(line for line in "\n".join(said).splitlines() if not line.startswith("  ✓")))


def grade(path: Path) -> list[Report]:
    """The reports of all exercises of the notebook that this is a copy of, whatever its file is called.

    Raises:
        ValueError: The file is no notebook with one of the exercises.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"It should be a notebook. Found {type(error).__name__}: {error}") from None
    functions = {exercise.function: name for name, exercises in EXERCISES.items() for exercise in exercises}
    first = next((i for i, source in enumerate(sources) if any(f"def {name}(" in source for name in functions)), None)
    if first is None:
        raise ValueError(f"It should define the functions of an exercise. Found none of {', '.join(functions)}.")
    named = next(name for name in functions if f"def {name}(" in sources[first])
    namespace: dict[str, Any] = {}
    for i, source in enumerate(sources):
        _define(source, namespace, imports_only=i < first)
    return [exercise.check(namespace.get(exercise.function, _missing)) for exercise in EXERCISES[functions[named]]]


def _missing(*arguments: Any) -> None:
    """Stand in for a function that is not there, or whose cell is no Python."""


def _define(source: str, namespace: dict[str, Any], imports_only: bool) -> None:
    """Execute the statements of a cell that bind names; one that fails binds none, and the check will say so."""
    with contextlib.suppress(SyntaxError):
        for node in ast.parse(source).body:
            wanted = isinstance(node, ast.Import | ast.ImportFrom) or not (imports_only or isinstance(node, ast.Expr))
            if wanted:
                with contextlib.suppress(Exception):
                    exec(compile(ast.Module([node], []), "<handed in>", "exec"), namespace)
