"""The register of claims: what is measured, which way, how much counts, and the verdict that an interval leads to.

`claims.toml` is committed before the first full run of a notebook. Its rows say what will decide; nobody types a
verdict, it is computed from intervals. What decides carries a fingerprint, so a later change is an error until it is
listed with its date and reason. What nobody can test here is listed too, with the reason in place of a measure.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from companion.claims.fields import CHANGE, NOT_TESTABLE, TESTED, check, error, fingerprint
from companion.claims.statistics import Interval
from companion.claims.verdicts import Direction, combine, verdict
from companion.store import paths

REGISTER = paths.ROOT / "claims.toml"
# Where a claim is tested. A row's id names its domain, or none of these when its tasks are synthetic.
DOMAINS = ("synthetic", "credit", "mortality", "scenes", "recommendation")
OURS = "ours"  # the group of what is derived here or is our own question, whatever claim it is near to


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
        id: The paper's claim and our name for the measure, such as `H1-swap`, with its domain, as in `H1-swap-credit`.
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

    @property
    def group(self) -> str:
        """The claim of a paper that the row is about, such as "H1", or `OURS`."""
        return OURS if self.certainty == "D" else self.id[:2]

    @property
    def domain(self) -> str:
        """One of `DOMAINS`."""
        return next((domain for domain in DOMAINS if domain in self.id.split("-")), DOMAINS[0])

    def said(self, intervals: Sequence[Interval]) -> str:
        """The verdict on the comparisons at hand, which says so where they are fewer than registered."""
        found = combine([verdict(interval, self.direction, self.smallest) for interval in intervals])
        all_of_them = len(intervals) == self.comparisons
        return found if all_of_them else f"{found} ({len(intervals)} of {self.comparisons} comparisons here)"


@dataclass(frozen=True)
class NotTestable:
    """A claim about data or numbers that are not here; no evidence can decide it.

    Attributes:
        id: As of `Claim`.
        claim: What is claimed, in words.
        source: Where.
        certainty: How sure it is that the source says so.
        notebook: File stem of the notebook that tests the claim on other data.
        reported: The effect that the source reports, or what of it is unknown.
        why: Why it cannot be tested here.
        how: What would make it testable.
    """

    id: str
    claim: str
    source: str
    certainty: str
    notebook: str
    reported: str
    why: str
    how: str


def _rows(path: Path, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """The rows of one kind, each with the name that a sentence about it uses; no two of the register share an id."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise ValueError(f"File {path} should be TOML. Found: {problem}. Mend that line.") from problem
    ids = [row["id"] for rows in content.values() for row in rows if isinstance(row.get("id"), str)]
    if twice := [name for name in ids if ids.count(name) > 1]:
        raise error(twice[0], "id", "that of one row", "it twice", "Rename one.")
    return [
        (row["id"] if isinstance(row.get("id"), str) else f"number {position}", row)
        for position, row in enumerate(content.get(kind, []), start=1)
    ]


def _claim(name: str, row: dict[str, Any]) -> Claim:
    row = {"changes": [], **row}
    check(name, row, TESTED)
    for change in row["changes"]:
        check(name, change, CHANGE, "changes.")
    dates = [row["registered"], *(change["date"] for change in row["changes"])]
    if dates != sorted(dates):
        raise error(name, "changes.date", "in order, after registration", ", ".join(map(str, dates)), "Sort them.")
    if row["figure"][:3] != row["notebook"][:3]:
        raise error(name, "figure", f"of notebook {row['notebook']}", f"`{row['figure']}`", "Begin it with its number.")
    if (row["rule"] == "one") != (row["comparisons"] == 1):
        found = f"`{row['rule']}` with {row['comparisons']} comparisons"
        raise error(name, "rule", "one for a single comparison and every for more", found, "Change one of them.")
    now = fingerprint(row)
    if now != [row["fingerprint"], *(change["fingerprint"] for change in row["changes"])][-1]:
        remedy = f'Undo it, or list it under changes with date, reason and fingerprint = "{now}".'
        raise error(name, "fingerprint", "that of what was registered", "a change that is not listed", remedy)
    seeds = {key: range(row[key]["first"], row[key]["first"] + row[key]["count"]) for key in TESTED if "seeds" in key}
    return Claim(**{**row, **seeds, "changes": tuple(Change(**change) for change in row["changes"])})


def load_claims(path: Path = REGISTER) -> dict[str, Claim]:
    """Read and check the rows that full runs decide.

    Returns:
        The rows by id, in the order of the file.

    Raises:
        ValueError: A row does not follow the rules; the sentence names row and field.
    """
    claims = {name: _claim(name, row) for name, row in _rows(path, "claim")}
    for claim in claims.values():
        for other in (other for other in claims.values() if other.notebook == claim.notebook):
            both = sorted(set(claim.fresh_seeds) & set(other.tuning_seeds))
            if both:
                found = f"seed {both[0]} in both"
                raise error(
                    claim.id, "fresh_seeds", f"apart from the tuning seeds of {other.id}", found, "Move one of them."
                )
    return claims


def load_not_testable(path: Path = REGISTER) -> dict[str, NotTestable]:
    """Read and check the rows that cannot be tested here.

    Returns:
        The rows by id, in the order of the file.

    Raises:
        ValueError: A row does not follow the rules; the sentence names row and field.
    """
    found = {}
    for name, row in _rows(path, "not_testable"):
        check(name, row, NOT_TESTABLE)
        found[name] = NotTestable(**row)
    return found
