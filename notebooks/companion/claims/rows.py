"""The rows of one `notebooks/claims/NN.toml`, each whole: a row's own fields, its group's, then its file's.

A name in braces, as in "{splits}", stands for that one of the file's `[texts]`. A line break in a text is a space.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from companion.claims.fields import NOT_TESTABLE, TESTED, Fields, check, error

TABLES: Mapping[str, Fields] = {"test": TESTED, "not_testable": NOT_TESTABLE}


def rows_of(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Read and check the rows of a file.

    Yields:
        A row's kind, "test" or "not_testable", its file and name for a sentence about it, and its fields.

    Raises:
        ValueError: The file is no TOML, or a row does not follow the rules.
    """
    at = f"File `{path.name}`"
    try:
        shared = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise ValueError(f"File `{path}` should be TOML. Found: {problem}. Mend that line.") from problem
    texts = shared.pop("texts", {})
    shared = {"changes": [], "control": "", **shared}  # none, unless a row has its own
    for group in _tables(shared, "group", at):
        rows = {kind: _tables(group, kind, at) for kind in TABLES}
        if not any(rows.values()):
            raise ValueError(f"{at} should hold rows in every group. Found none in {group!r}. Add [[group.test]].")
        for kind, fields in TABLES.items():
            alien = {field for other in TABLES.values() for field in other} - set(fields)
            stated = {field: value for field, value in {**shared, **group}.items() if field not in alien}
            for number, own in enumerate(rows[kind], start=1):
                row = f"{at}, row `{own['id'] if isinstance(own.get('id'), str) else f'number {number}'}`"
                whole = {field: _whole(value, texts, row, field) for field, value in {**stated, **own}.items()}
                check(row, whole, fields)
                if (named := whole["notebook"])[:2] != path.stem:
                    raise error(row, "notebook", f"that of the file, {path.stem}", f"`{named}`", "Move the row.")
                yield kind, row, whole


def _tables(content: dict[str, Any], name: str, at: str) -> list[dict[str, Any]]:
    """Take the tables of one name out of what holds them."""
    tables = content.pop(name, [])
    if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
        return tables
    raise ValueError(f"{at} should hold `{name}` in double brackets. Found something else. Write [[{name}]].")


def _whole(value: Any, texts: Mapping[str, str], row: str, field: str) -> Any:
    """A field's value, or a part of it, with its texts in place and its lines joined."""
    if isinstance(value, dict):
        return {name: _whole(part, texts, row, f"{field}.{name}") for name, part in value.items()}
    if isinstance(value, list):
        return [_whole(part, texts, row, field) for part in value]
    if not isinstance(value, str):
        return value
    try:
        return " ".join(re.sub(r"\{(\w+)\}", lambda name: texts[name[1]], value).split())
    except (KeyError, TypeError) as unknown:
        raise error(row, field, f"made of [texts] ({', '.join(texts)})", f"{unknown} in braces", "Add it.") from unknown
