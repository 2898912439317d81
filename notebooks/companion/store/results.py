"""Finished cells of an experiment: computed once, stored at once, found again by exactly their configuration.

A cell is what one configuration gives, a tidy table. A killed run loses the cell that it was computing and nothing
else; the next run goes on from there. What is kept is two files per cell, a compressed CSV and the JSON that describes
it, and the cell exists when its JSON does.
"""

import ast
import functools
import gzip
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import pandas as pd
from tqdm import tqdm

from companion.store import paths, tidy
from companion.store.writing import lock, write

_PACKAGES = {"mtlcore": paths.ROOT, "companion": paths.NOTEBOOKS}  # where the sources lie

Configuration = Mapping[str, Any]


class Results:
    """The finished cells of one folder.

    Example:
        >>> def squares(configuration):
        ...     return pd.DataFrame({"run": [0], "metric": ["square"], "value": [configuration["side"] ** 2.0]})
        >>> Results(None, code="1").cells([{"side": 2}, {"side": 3}], squares)
           side  run  metric  value
        0     2    0  square    4.0
        1     3    0  square    9.0

    Args:
        folder: Where cells are kept, or None to keep none and compute each time.
        code: Names the code that computes, usually `code_digest(...)`; results of other code are not used.
    """

    def __init__(self, folder: Path | None, code: str) -> None:
        """Keep what the cells need; the folder is made with the first of them."""
        self.folder = folder
        self.code = code

    @classmethod
    def of_profile(cls, profile: str, code: str) -> Self:
        """The cells of a profile: the full one's are kept in `build/results/full`, the fast one's are not kept.

        A fast run is what nbval and the tests repeat, and a check that reads what an earlier run stored checks nothing.
        """
        return cls(paths.BUILD / "results" / profile if profile == "full" else None, code)

    def cell(self, configuration: Configuration, compute: Callable[[Configuration], pd.DataFrame]) -> pd.DataFrame:
        """Give the table of one configuration, computing it when there is none.

        Args:
            configuration: All that decides the table: names -> None, truth values, numbers, text or lists of these.
            compute: Gives a tidy table (see `tidy.checked`) for the configuration. Should it fail, nothing is stored.

        Raises:
            ValueError: The configuration holds other things, the table is not tidy, or a stored file is damaged.
            OSError: The table cannot be stored; no file has changed.
        """
        identity = self._identity(configuration, compute)
        if self.folder is None:
            return tidy.checked(compute(identity["configuration"]))
        found, _ = self._find(self.folder, identity)
        if found is None:
            table = tidy.checked(compute(identity["configuration"]))
            found = self._store(self.folder, identity, table)
        return found

    def cells(
        self, configurations: Sequence[Configuration], compute: Callable[[Configuration], pd.DataFrame]
    ) -> pd.DataFrame:
        """Give the tables of many configurations as one, with the configurations' single values as first columns.

        A progress bar appears on a terminal only. Lists of a configuration, such as seeds that train together, are no
        columns: the tables say per row what they hold.

        Raises:
            ValueError: As `cell`, or a table has a column of the name of a configuration's value.
        """
        tables = []
        for configuration in tqdm(configurations, desc="cells", disable=None):
            table = self.cell(configuration, compute)
            single = {name: value for name, value in plain(configuration).items() if not isinstance(value, list)}
            twice = sorted(set(single).intersection(table.columns))
            if twice:
                raise ValueError(
                    "A table should not repeat what its configuration says. "
                    f"Found {', '.join(twice)} in both. Leave it out of the table or rename it."
                )
            for position, (name, value) in enumerate(single.items()):
                table.insert(position, name, float("nan") if value is None else value)
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def _identity(
        self, configuration: Configuration, compute: Callable[[Configuration], pd.DataFrame]
    ) -> dict[str, Any]:
        """All that a table is found by; the function's name too, for two functions may share a configuration."""
        function = compute.func if isinstance(compute, functools.partial) else compute
        name = f"{function.__module__}.{function.__qualname__}"
        return {"configuration": plain(configuration), "code": self.code, "compute": name}

    def _find(self, folder: Path, identity: Mapping[str, Any]) -> tuple[pd.DataFrame | None, Path]:
        """The stored table, or None, and the JSON that has it or will have it."""
        name = _name(identity)
        for number in itertools.count():  # beyond 0 only where two configurations share a name
            description = folder / f"{name}-{number}.json"
            if not description.exists():
                return None, description
            stored, table = _read(description)
            if _text(stored) == _text(identity):
                return table, description
        raise AssertionError  # the count has no end

    def _store(self, folder: Path, identity: Mapping[str, Any], table: pd.DataFrame) -> pd.DataFrame:
        """Store a table unless another process was faster; the JSON comes last, so there is no half of a cell."""
        with lock(folder / "results.lock"):
            found, description = self._find(folder, identity)
            if found is not None:
                return found
            content = gzip.compress(tidy.to_csv(table), mtime=0)
            record = {
                "identity": identity,
                "columns": tidy.columns(table),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            write(
                {
                    description.with_suffix(".csv.gz"): content,
                    description: (json.dumps(record, indent=1) + "\n").encode(),
                }
            )
            return _read(description)[1]


def code_digest(*modules: str) -> str:
    """Digest of the code of modules of mtlcore and of all that they import from it, and of torch's and numpy's version.

    Comments, docstrings and layout do not enter.

    Args:
        modules: Names such as `"companion.studies.tabular.study"`.

    Raises:
        ValueError: There is no such module.
    """
    trees: dict[str, ast.Module] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in trees:
            continue
        path = _source(name)
        if path is None:
            raise ValueError(
                f"Parameter `modules` should name modules of the project. Found {name!r}. Pass 'mtlcore.gains'."
            )
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(trees[name]):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names if alias.name.split(".")[0] in _PACKAGES]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _PACKAGES:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]  # a module, or a name within one
                waiting += [module if _source(module) else str(node.module) for module in inner]
    digest = hashlib.sha256("".join(f"{p} {metadata.version(p)}\n" for p in ("torch", "numpy")).encode())
    for name in sorted(trees):
        digest.update(f"{name}\n{ast.dump(_without_docstrings(trees[name]))}\n".encode())
    return digest.hexdigest()


def _source(module: str) -> Path | None:
    package, *rest = module.split(".")
    if package not in _PACKAGES:
        return None
    stem = _PACKAGES[package].joinpath(package, *rest)
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def plain(configuration: Configuration) -> dict[str, Any]:
    """Copy a configuration as JSON would give it back: tuples become lists.

    Raises:
        ValueError: A value is none of None, truth value, finite number, text, or a list of these.
    """
    for name, value in configuration.items():
        items = value if isinstance(value, list | tuple) else [value]
        if not isinstance(name, str) or not all(type(item) in (type(None), bool, int, float, str) for item in items):
            raise ValueError(
                "A configuration should hold None, truth values, numbers, text or lists of these under names. "
                f"Found {name!r}: {value!r}. Convert it, for example with `.item()` or `.tolist()`."
            )
        if any(isinstance(item, float) and not abs(item) < float("inf") for item in items):
            raise ValueError(
                f"A configuration should hold finite numbers. Found {name!r}: {value!r}. Use None or text."
            )
    copy: dict[str, Any] = json.loads(_text(configuration))
    return {name: copy[name] for name in configuration}


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)  # 1, 1.0 and true are three configurations here, unlike in Python


def _name(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(identity).encode()).hexdigest()[:16]


def _read(description: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The identity and the table of a stored cell."""
    damaged = description
    try:
        record = json.loads(description.read_bytes())
        identity, columns, digest = record["identity"], record["columns"], record["sha256"]
        if description.name.startswith(f"{_name(identity)}-"):
            damaged = description.with_suffix(".csv.gz")
            content = damaged.read_bytes()
            if hashlib.sha256(content).hexdigest() == digest:
                damaged = description  # the table is right, so what is said about it has to be
                table = tidy.from_csv(gzip.decompress(content), columns)
                if tidy.columns(table) == columns:
                    return identity, table
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        pass
    raise ValueError(
        f"File {damaged} should hold what was stored there. Found it missing or changed since. "
        f"Delete {description} to compute that cell again; the others stay."
    )
