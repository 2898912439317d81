"""A digest of the code that computes a cell: a stored cell of other code is not used."""

import ast
import functools
import hashlib
from importlib import metadata
from pathlib import Path

from companion.store import paths

_PACKAGES = {"mtlcore": paths.ROOT, "companion": paths.NOTEBOOKS}  # where the sources lie


@functools.cache
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
