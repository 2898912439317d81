"""The register of claims: what is measured, which way, how much counts, and the verdict that an interval leads to.

`claims.toml` is committed before the first full run of a notebook. Its rows say what will decide; nobody types a
verdict, it is computed from intervals. What decides carries a fingerprint, so a later change is an error until it is
listed with its date and reason.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from mtlcore import paths
from mtlcore.statistics import Interval
from mtlcore.verdicts import Direction, Verdict, combine, verdict

CERTAINTY = ("V", "2", "D", "I", "?")  # verified, second hand, derived here, inferred, unknown
DIRECTIONS = ("higher", "lower", "within")
RULES = ("one", "every")


@dataclass(frozen=True)
class Change:
    """A later change of what decides.

    Attributes:
        date: When.
        reason: Why, and whether results had been seen.
        fingerprint: Of the row as changed.
    """

    date: date
    reason: str
    fingerprint: str


@dataclass(frozen=True)
class Claim:
    """One row: one measure of one claim.

    Attributes:
        id: The paper's claim and our name for the measure, such as `H1-swap`.
        claim: What is claimed, in words.
        source: Where.
        certainty: How sure it is that the source says so: V verified, 2 second hand, D derived, I inferred, ? unknown.
        our_design: What of the test is ours.
        notebook: File stem.
        figure: File stem of the figure that shows the intervals.
        measure: What one seed gives, as a number.
        direction: "higher" or "lower" where the claim says so, "within" where it says there is no difference.
        smallest: The smallest effect that counts, in units of the measure.
        smallest_why: Why not more or less.
        rule: "one": one comparison; "every": the claim is about all comparisons, see `combine`.
        comparisons: Their number.
        confidence: Level of each interval, not corrected for their number.
        tuning_seeds: Seeds that may choose learning rates and other knobs.
        fresh_seeds: Seeds of the final numbers, none of them a tuning seed of the notebook.
        registered: Date of the first version.
        fingerprint: Of what decides, as first registered.
        changes: Later changes.
    """

    id: str
    claim: str
    source: str
    certainty: str
    our_design: str
    notebook: str
    figure: str
    measure: str
    direction: Direction
    smallest: float
    smallest_why: str
    rule: Literal["one", "every"]
    comparisons: int
    confidence: float
    tuning_seeds: range
    fresh_seeds: range
    registered: date
    fingerprint: str
    changes: tuple[Change, ...]

    def verdict(self, intervals: Sequence[Interval]) -> Verdict:
        """Compute the verdict from the intervals of all registered comparisons.

        Raises:
            ValueError: Their number is not the registered one: a comparison that could not run is a listed change.
        """
        if len(intervals) != self.comparisons:
            raise ValueError(
                f"Parameter `intervals` should hold the {self.comparisons} comparisons registered for {self.id}. "
                f"Found {len(intervals)}. Pass them all, or list the change in claims.toml."
            )
        return combine([verdict(interval, self.direction, self.smallest) for interval in intervals])


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _is_seeds(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"first", "count"}
        and all(type(v) is int for v in value.values())
        and value["first"] >= 0
        and value["count"] >= 1
    )


_TEXT: tuple[Callable[[Any], bool], str] = (_is_text, "text")
_SEEDS: tuple[Callable[[Any], bool], str] = (_is_seeds, "whole numbers { first = ..., count = ... }")
# What each field should be.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (lambda v: isinstance(v, str) and re.fullmatch(r"[HA][1-9](-[a-z]+)*", v) is not None, "like H1 or H1-swap"),
    "claim": _TEXT,
    "source": _TEXT,
    "certainty": (lambda v: v in CERTAINTY, f"one of {', '.join(CERTAINTY)}"),
    "our_design": _TEXT,
    "notebook": (lambda v: isinstance(v, str) and re.fullmatch(r"\d\d_\w+", v) is not None, "a stem like 02_name"),
    "figure": (lambda v: isinstance(v, str) and re.fullmatch(r"\d\d_\w+", v) is not None, "a stem like 02_name"),
    "measure": _TEXT,
    "direction": (lambda v: v in DIRECTIONS, f"one of {', '.join(DIRECTIONS)}"),
    "smallest": (lambda v: _is_number(v) and 0 < v < float("inf"), "a positive number"),
    "smallest_why": _TEXT,
    "rule": (lambda v: v in RULES, f"one of {', '.join(RULES)}"),
    "comparisons": (lambda v: type(v) is int and v >= 1, "a whole number of at least 1"),
    "confidence": (lambda v: _is_number(v) and 0.5 < v < 1, "a level between 0.5 and 1"),
    "tuning_seeds": _SEEDS,
    "fresh_seeds": _SEEDS,
    "registered": (lambda v: type(v) is date, "a date such as 2026-11-21"),
    "fingerprint": _TEXT,
    "changes": (lambda v: isinstance(v, list), "a list of changes"),
}
_CHANGE: dict[str, tuple[Callable[[Any], bool], str]] = {
    name: _FIELDS[like] for name, like in (("date", "registered"), ("reason", "claim"), ("fingerprint", "fingerprint"))
}
# What decides about the verdict; the rest, such as `smallest_why`, may be mended without a listed change.
_DECIDES = (
    "claim", "our_design", "notebook", "measure", "direction", "smallest", "rule", "comparisons", "confidence",
    "tuning_seeds", "fresh_seeds",
)  # fmt: skip


def _error(row: str, field: str, should: str, found: str, remedy: str) -> ValueError:
    return ValueError(f"Row `{row}`, field `{field}`, should be {should}. Found {found}. {remedy}")


def _checked(row: str, content: Any, fields: dict[str, tuple[Callable[[Any], bool], str]], where: str = "") -> None:
    for field, (good, should) in fields.items():
        if field not in content:
            raise _error(row, where + field, should, "none", "Add it.")
        if not good(content[field]):
            raise _error(row, where + field, should, f"`{field} = {content[field]!r}`", "Mend it.")
    for field in content:
        if field not in fields:
            raise _error(row, where + str(field), f"one of {', '.join(fields)}", "a field of that name", "Rename it.")


def fingerprint(row: dict[str, Any]) -> str:
    """Digest of what decides in a row of `claims.toml`."""
    decides = {field: row[field] for field in _DECIDES}
    decides["smallest"], decides["confidence"] = float(row["smallest"]), float(row["confidence"])
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]


def _claim(position: int, row: dict[str, Any]) -> Claim:
    name = row["id"] if isinstance(row.get("id"), str) else f"number {position}"
    row = {"changes": [], **row}
    _checked(name, row, _FIELDS)
    for change in row["changes"]:
        _checked(name, change, _CHANGE, "changes.")
    dates = [row["registered"], *(change["date"] for change in row["changes"])]
    if dates != sorted(dates):
        raise _error(name, "changes.date", "in order, after registration", ", ".join(map(str, dates)), "Sort them.")
    if row["figure"][:3] != row["notebook"][:3]:
        raise _error(
            name, "figure", f"of notebook {row['notebook']}", f"`{row['figure']}`", "Begin it with its number."
        )
    if (row["rule"] == "one") != (row["comparisons"] == 1):
        found = f"`{row['rule']}` with {row['comparisons']} comparisons"
        raise _error(name, "rule", "one for a single comparison and every for more", found, "Change one of them.")
    now = fingerprint(row)
    if now != [row["fingerprint"], *(change["fingerprint"] for change in row["changes"])][-1]:
        remedy = f'Undo it, or list it under changes with date, reason and fingerprint = "{now}".'
        raise _error(name, "fingerprint", "that of what was registered", "a change that is not listed", remedy)
    seeds = {key: range(row[key]["first"], row[key]["first"] + row[key]["count"]) for key in _FIELDS if "seeds" in key}
    return Claim(**{**row, **seeds, "changes": tuple(Change(**change) for change in row["changes"])})


def load_claims(path: Path = paths.ROOT / "claims.toml") -> dict[str, Claim]:
    """Read and check the register.

    Returns:
        The rows by id, in the order of the file.

    Raises:
        ValueError: A row does not follow the rules; the sentence names row and field.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"File {path} should be TOML. Found: {error}. Mend that line.") from error
    claims: dict[str, Claim] = {}
    for position, row in enumerate(content.get("claim", []), start=1):
        claim = _claim(position, row)
        if claim.id in claims:
            raise _error(claim.id, "id", "that of one row", "it twice", "Rename one.")
        claims[claim.id] = claim
    for claim in claims.values():
        for other in (other for other in claims.values() if other.notebook == claim.notebook):
            both = sorted(set(claim.fresh_seeds) & set(other.tuning_seeds))
            if both:
                found = f"seed {both[0]} in both"
                raise _error(
                    claim.id, "fresh_seeds", f"apart from the tuning seeds of {other.id}", found, "Move one of them."
                )
    return claims
