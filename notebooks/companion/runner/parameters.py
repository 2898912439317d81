"""The parameters of a notebook: read from its one tagged cell, checked by name and type before anything runs.

papermill only warns about a mistyped parameter and hands `-p lr=1e-3` over as a string.
"""

import ast
import contextlib
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from companion.runner.inputs import read_notebook

PROFILES = ("fast", "full")


def read_parameters(path: Path) -> dict[str, Any]:
    """The names and defaults in the one cell tagged `parameters`, in their order.

    Raises:
        ValueError: there is no such cell or more than one, or a line of it is not `name = literal`.
    """
    notebook = read_notebook(Path(path))
    cells = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise ValueError(
            f"{Path(path).name} should have one cell tagged `parameters`. Found {len(cells)}. "
            "Give that tag to the cell that holds the experiment's configuration, and to no other."
        )
    parameters: dict[str, Any] = {}
    for statement in ast.parse("".join(cells[0]["source"])).body:
        try:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    parameters[name] = ast.literal_eval(value)
                case _:
                    raise ValueError
        except ValueError:
            raise ValueError(
                f"The parameters of {Path(path).name} should be lines `name = literal`. "
                f"Found `{ast.unparse(statement)}`. Move what has to be computed to a later cell."
            ) from None
    return parameters


def validate(path: Path, values: Mapping[str, Any]) -> None:
    """Check that every value has the name and the type of a parameter of the notebook.

    An int will do for a float, anything for a parameter whose default is None; the elements of a list are checked
    against the first element of the default.

    Raises:
        ValueError: an unknown name or profile.
        TypeError: a value of another type than the default's.
    """
    defaults = read_parameters(path)
    for name, value in values.items():
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, n=1)
            meant = f"Did you mean `{close[0]}`?" if close else f"It has {', '.join(defaults)}."
            raise ValueError(f"{Path(path).name} has no parameter `{name}`. {meant}")
        _check_type(name, value, defaults[name])
        if name == "profile" and value not in PROFILES:
            raise ValueError(
                f'Parameter `profile` should be "fast" or "full". Found `profile = {value!r}`. Pass either.'
            )


def _check_type(name: str, value: object, default: object) -> None:
    if default is None or type(value) is type(default) or (type(default) is float and type(value) is int):
        if isinstance(value, list) and isinstance(default, list) and default:
            for element in value:
                _check_type(f"{name}[...]", element, default[0])
        return
    remedy = f"Pass it without quotes: {value}." if isinstance(value, str) else f"Pass for example {default!r}."
    raise TypeError(
        f"Parameter `{name}` should be of type {type(default).__name__}. Found `{name} = {value!r}`, "
        f"of type {type(value).__name__}. {remedy}"
    )


def parse_assignments(path: Path, assignments: Sequence[str]) -> dict[str, Any]:
    """From `["lr=1e-3", "device=cpu"]` to typed values: text where the default is text, else Python literals."""
    defaults = read_parameters(path)
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"A parameter should be given as name=value. Found `{assignment}`. Pass say profile=full.")
        values[name] = text
        if not isinstance(defaults.get(name), str):
            with contextlib.suppress(ValueError, SyntaxError):  # what is no literal is refused for its type
                values[name] = ast.literal_eval(text)
    return values
