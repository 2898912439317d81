"""The parameters of a notebook: read from its one tagged cell, checked by name and type before anything runs.

papermill only warns about a mistyped parameter and hands `-p lr=1e-3` over as a string.
"""

import ast
import contextlib
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from companion.runner.inputs import read_notebook
from companion.store import paths

PROFILES = ("published", "fast", "full")
_LITERAL = (type(None), bool, int, float, str, list, dict)  # what papermill injects
# The fewest that an experiment's design bears: an interval needs two runs, an epoch to be chosen needs two epochs.
LEAST = {"num_seeds": 2, "num_splits": 2, "epochs": 2, "first_seed": 0, "first_tuning_seed": 0}


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


def profile_values(path: Path, profile: str) -> dict[str, Any]:
    """What a profile sets: the notebook holds the full values, `profiles/NN_fast.yaml` those of the fast profile."""
    file = Path(path).parent / "profiles" / f"{Path(path).name[:2]}_{profile}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}


def validate(path: Path, values: Mapping[str, Any]) -> None:
    """Check that every value has the name, type and range of a parameter of the notebook, and fits the others.

    An int will do for a float, anything for a parameter whose default is None; elements of lists are checked
    against the default's, values of dictionaries each against its own. What is positive in the notebook stays so. Seeds
    that tune must not be reported.

    Raises:
        ValueError: an unknown name or profile, a value out of range, or values that do not go together.
        TypeError: a value of another type than the default's.
    """
    defaults = read_parameters(path)
    for name, value in values.items():
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, n=1)
            meant = f"Did you mean `{close[0]}`?" if close else f"It has {', '.join(defaults)}."
            raise ValueError(f"{Path(path).name} has no parameter `{name}`. {meant}")
        _check(name, value, defaults[name])
        if name == "profile" and value not in PROFILES:
            raise ValueError(
                f'Parameter `profile` should be "published", "fast" or "full". Found `profile = {value!r}`. Pass one.'
            )
    _check_seeds({**defaults, **values})


def check(notebook: str, names: Mapping[str, Any]) -> None:
    """Check a running notebook's parameters before it computes, for papermill called directly only warns.

    Args:
        notebook: Its file stem.
        names: Its `globals()` before it computes anything; a literal that is no parameter was injected.
    """
    path = paths.NOTEBOOKS / f"{notebook}.ipynb"
    if path.exists():  # a renamed copy has nothing to be held against
        own = {name: value for name, value in names.items() if isinstance(value, _LITERAL) and not name.startswith("_")}
        validate(path, {name: value for name, value in own.items() if name not in ("In", "Out")})


def _check(name: str, value: object, default: object) -> None:
    """Check one value, or an element of one, against the default's type and sign."""
    if isinstance(default, bool | str) or default is None or not isinstance(default, int | float | list | dict):
        right = default is None or type(value) is type(default)
    elif isinstance(default, list | dict):
        right = type(value) is type(default)
    else:
        right = type(value) is type(default) or (type(default) is float and type(value) is int)
    if not right:
        raise TypeError(
            f"Parameter `{name}` should be of type {type(default).__name__}. Found `{name} = {value!r}`, "
            f"of type {type(value).__name__}. Pass for example {default!r}."
        )
    if isinstance(value, int | float) and isinstance(default, int | float) and not isinstance(value, bool):
        if name in LEAST:
            if value < LEAST[name]:
                should = f"at least {LEAST[name]}"
                raise ValueError(
                    f"Parameter `{name}` should be {should}. Found `{name} = {value}`. Pass say {default}."
                )
        elif not abs(value) < float("inf") or (value <= 0 < default) or (value < 0 == default):
            should = "positive" if default > 0 else "a finite number" if default < 0 else "0 or more"
            raise ValueError(f"Parameter `{name}` should be {should}. Found `{name} = {value}`. Pass say {default}.")
    elif isinstance(value, list) and isinstance(default, list) and default:
        numbers = all(type(element) in (int, float) for element in default)
        like = (float if float in map(type, default) else int)(min(default)) if numbers else default[0]
        for element in value:
            _check(f"{name}[...]", element, like)
    elif isinstance(value, dict) and isinstance(default, dict) and default:
        for key, element in value.items():
            _check(f"{name}[{key!r}]", element, default.get(key, next(iter(default.values()))))


def _check_seeds(values: Mapping[str, Any]) -> None:
    """Check that no seed both tunes and is reported: what tuned on a seed is no evidence on it."""
    for runs in ("seeds", "splits"):
        names = ("first_seed", f"num_{runs}", "first_tuning_seed", f"num_tuning_{runs}")
        if not all(type(values.get(name)) is int for name in names):
            continue
        first, count, tuning, others = (int(values[name]) for name in names)
        if set(range(first, first + count)) & set(range(tuning, tuning + others)):
            raise ValueError(
                "Parameters `first_seed` and `first_tuning_seed` should keep the reported seeds apart from those that "
                f"tune. Found {count} from {first} on and {others} from {tuning} on. Move one of them."
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
