"""What a registered row has to hold: one check per field, one sentence per mistake, a digest of what decides."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Literal, get_args

CERTAINTY = ("V", "2", "D", "I", "?")  # verified, second hand, derived here, inferred, unknown
Direction = Literal["higher", "lower", "within"]
DIRECTIONS = get_args(Direction)
Kind = Literal["primary", "secondary", "sanity"]
KINDS = get_args(Kind)

# A check and what it asks for, in words.
Fields = Mapping[str, tuple[Callable[[Any], bool], str]]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _is_stem(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d\d_\w+", value) is not None


def _is_seeds(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"first", "count"}
        and all(type(v) is int for v in value.values())
        and value["first"] >= 0
        and value["count"] >= 1
    )


_TEXT: tuple[Callable[[Any], bool], str] = (_is_text, "text")
_STEM: tuple[Callable[[Any], bool], str] = (_is_stem, "a stem like 02_name")
_SEEDS: tuple[Callable[[Any], bool], str] = (_is_seeds, "whole numbers { first = ..., count = ... }")
# What every row says, whether it can be tested here or not.
STATED: Fields = {
    "id": (lambda v: isinstance(v, str) and re.fullmatch(r"[HA][1-9](-[a-z]+)*", v) is not None, "like H1 or H1-swap"),
    "claim": _TEXT,
    "source": _TEXT,
    "certainty": (lambda v: v in CERTAINTY, f"one of {', '.join(CERTAINTY)}"),
    "notebook": _STEM,
}
# A row of [[group.test]], which full runs decide.
TESTED: Fields = {
    **STATED,
    "kind": (lambda v: v in KINDS, f"one of {', '.join(KINDS)}"),
    "control": (lambda v: isinstance(v, str), "the id of a sanity row, or empty"),
    "our_design": _TEXT,
    "figure": _STEM,
    "measure": _TEXT,
    "direction": (lambda v: v in DIRECTIONS, f"one of {', '.join(DIRECTIONS)}"),
    "smallest": (lambda v: _is_number(v) and 0 < v < float("inf"), "a positive number"),
    "smallest_why": _TEXT,
    "comparisons": (lambda v: type(v) is int and v >= 1, "a whole number of at least 1"),
    "confidence": (lambda v: _is_number(v) and 0.5 < v < 1, "a level between 0.5 and 1"),
    "tuning_seeds": _SEEDS,
    "fresh_seeds": _SEEDS,
    "registered": (lambda v: type(v) is date, "a date such as 2026-11-21"),
    "fingerprint": _TEXT,
    "changes": (lambda v: isinstance(v, list), "a list of changes"),
}
# A row of [[group.not_testable]]: no measure of ours, so nothing that could decide.
NOT_TESTABLE: Fields = {**STATED, "reported": _TEXT, "why": _TEXT, "how": _TEXT}
CHANGE: Fields = {
    name: TESTED[like] for name, like in (("date", "registered"), ("reason", "claim"), ("fingerprint", "fingerprint"))
}
# What decides about the verdict; the rest, such as `smallest_why`, may be mended without a listed change.
_DECIDES = (
    "claim", "our_design", "notebook", "measure", "direction", "smallest", "comparisons", "confidence", "tuning_seeds",
    "fresh_seeds",
)  # fmt: skip


def error(row: str, field: str, should: str, found: str, remedy: str) -> ValueError:
    """The sentence about one field of one row, which is named with its file."""
    return ValueError(f"{row}, field `{field}`, should be {should}. Found {found}. {remedy}")


def check(row: str, content: Any, fields: Fields, where: str = "") -> None:
    """Check that a row, or a part of one, holds exactly these fields.

    Args:
        row: Its file and name, for the sentence.
        content: Field -> value.
        fields: What there should be.
        where: Goes before a field's name where `content` is a part of a row.

    Raises:
        ValueError: A field is missing, wrong or unknown.
    """
    for field, (good, should) in fields.items():
        if field not in content:
            raise error(row, where + field, should, "none", "Add it.")
        if not good(content[field]):
            raise error(row, where + field, should, f"`{field} = {content[field]!r}`", "Mend it.")
    for field in content:
        if field not in fields:
            raise error(row, where + str(field), f"one of {', '.join(fields)}", "a field of that name", "Rename it.")


def fingerprint(row: Mapping[str, Any]) -> str:
    """Digest of what decides in a row of [[group.test]]."""
    decides = {field: row[field] for field in _DECIDES}
    decides["rule"] = "one" if row["comparisons"] == 1 else "every"  # as rows said it when they were registered
    decides["smallest"], decides["confidence"] = float(row["smallest"]), float(row["confidence"])
    if row["control"]:  # the first rows had none
        decides["control"] = row["control"]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
