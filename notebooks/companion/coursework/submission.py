"""A notebook that was handed in: for each exercise the statements that its function needs, and no others.

Those are its definition and whatever binds a name that they use; before the first exercise imports only, for the
functions should not use the rest of the notebook. So no other cell can change an exercise's result: a loop without an
end, an experiment or a shell command is never executed. What the outputs say does not count.
"""

import ast
import contextlib
import json
import symtable
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock

from IPython.core.inputtransformer2 import TransformerManager

from companion.coursework import BY_NAME, EXERCISES
from companion.coursework.checking import Report

TIMED = ("capture", "prun", "time", "timeit")  # magics that run a cell's code, which counts as if it stood without


class Statement(NamedTuple):
    """A statement at the top level of a cell, with the names that it binds there and those that it uses."""

    source: str
    binds: frozenset[str]
    uses: frozenset[str]


class Submitted(NamedTuple):
    """One exercise: the name of its function, and the statements that it needs in their order."""

    function: str
    sources: list[str]

    def report(self) -> Report:
        """Execute the statements and try the function; one that fails binds nothing, which the check will say."""
        namespace: dict[str, Any] = dict.fromkeys(("display", "get_ipython"), MagicMock())  # IPython's, without effect
        for source in self.sources:
            with contextlib.suppress(Exception):
                exec(source, namespace)
        return BY_NAME[self.function].check(namespace.get(self.function, lambda *arguments: None))


def read(path: Path) -> list[Submitted]:
    """All exercises of the notebook that this is a copy of, whatever its file is called. No code is executed.

    Raises:
        ValueError: The file is no notebook with one of the exercises.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"It should be a notebook. Found {type(error).__name__}: {error}") from None
    defined = [(i, name) for i, source in enumerate(sources) for name in BY_NAME if f"def {name}(" in source]
    if not defined:
        raise ValueError(f"It should define the functions of an exercise. Found none of {', '.join(BY_NAME)}.")
    first, named = defined[0]
    nodes = [
        node
        for i, source in enumerate(sources)
        for node in python(source)
        if isinstance(node, ast.Import | ast.ImportFrom) or not (i < first or isinstance(node, ast.Expr))
    ]
    statements = [statement for node in nodes for statement in _statement(node)]
    exercises = next(exercises for exercises in EXERCISES.values() if BY_NAME[named] in exercises)
    return [Submitted(e.function, _needed(e.function, statements)) for e in exercises]


def python(cell: str) -> list[ast.stmt]:
    """The statements of a cell as IPython reads it, where shell commands and magics are calls; none if it cannot."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of backslashes, for example
            body = ast.parse(TransformerManager().transform_cell(cell)).body
    except SyntaxError:
        return []
    statements = []
    for node in body:
        match node:
            case ast.Expr(ast.Call(ast.Attribute(), [ast.Constant(magic), *_, ast.Constant(str(code))])) if (
                magic in TIMED
            ):
                statements += python(code)
            case _:
                statements.append(node)
    return statements


def _statement(node: ast.stmt) -> Iterator[Statement]:
    """The node with its names; nothing where Python refuses it."""
    source = ast.unparse(node)
    with contextlib.suppress(SyntaxError):
        table = symtable.symtable(source, "<handed in>", "exec")
        binds = {name.get_name() for name in table.get_symbols() if name.is_assigned() or name.is_imported()}
        if source.endswith("import *"):
            binds = {"*"}
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):  # table[key] = value also changes what table is
            places = [place for place in ast.walk(node) if isinstance(getattr(place, "ctx", None), ast.Store)]
            binds |= {name.id for place in places for name in ast.walk(place) if isinstance(name, ast.Name)}
        yield Statement(source, frozenset(binds), frozenset(_globals(table)))


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    """The names of a module that the code uses, in functions too."""
    at_top = table.get_type() == "module"
    yield from (name.get_name() for name in table.get_symbols() if at_top or name.is_global())
    for child in table.get_children():
        yield from _globals(child)


def _needed(function: str, statements: Sequence[Statement]) -> list[str]:
    """The sources of those statements that define the function, and of those which these need in turn."""
    names, chosen = {"*", function}, set[int]()
    while more := {i for i, s in enumerate(statements) if i not in chosen and s.binds & names}:
        chosen |= more
        names.update(*(statements[i].uses for i in more))
    return [statements[i].source for i in sorted(chosen)]
