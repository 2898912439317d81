"""The register of claims: what is measured, which way, and how much counts.

The files `notebooks/claims/NN.toml` are committed before the first full run of notebook NN. Their rows say what will
decide; nobody types a verdict, `companion.claims.verdicts` computes it from intervals. What decides carries a
fingerprint, so a later change is an error until it is listed with its date and reason. What nobody can test here is
listed too, with the reason in place of a measure.
"""

from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

from companion.claims.fields import CHANGE, TESTED, Direction, Kind, check, error, fingerprint
from companion.claims.rows import rows_of
from companion.store import paths

FOLDER = paths.NOTEBOOKS / "claims"
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
        kind: "primary" answers a question of the papers, "secondary" looks further, "sanity" checks what was planted or
            derived.
        control: Id of the sanity row without which this one says nothing; empty where it needs none.
        figure: File stem of the figure that shows the intervals.
        measure: What one seed gives, as a number.
        direction: "higher" or "lower" where the claim says so, "within" where it says there is no difference.
        smallest: The smallest effect that counts, in units of the measure.
        smallest_why: Why not more or less.
        comparisons: How many intervals there are; the claim is about all of them, see `combine`.
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
    kind: Kind
    control: str
    figure: str
    measure: str
    direction: Direction
    smallest: float
    smallest_why: str
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


def _claim(at: str, row: dict[str, Any]) -> Claim:
    for change in row["changes"]:
        check(at, change, CHANGE, "changes.")
    dates = [row["registered"], *(change["date"] for change in row["changes"])]
    if dates != sorted(dates):
        raise error(at, "changes.date", "in order, after registration", ", ".join(map(str, dates)), "Sort them.")
    if row["figure"][:3] != row["notebook"][:3]:
        raise error(at, "figure", f"of notebook {row['notebook']}", f"`{row['figure']}`", "Begin it with its number.")
    now = fingerprint(row)
    if now != [row["fingerprint"], *(change["fingerprint"] for change in row["changes"])][-1]:
        if row["fingerprint"] == "?":
            raise error(at, "fingerprint", "of what decides", '"?", a new row', f'Write fingerprint = "{now}".')
        remedy = f'Undo it, or list it under changes with date, reason and fingerprint = "{now}".'
        raise error(at, "fingerprint", "that of what was registered", "a change that is not listed", remedy)
    seeds = {key: range(row[key]["first"], row[key]["first"] + row[key]["count"]) for key in TESTED if "seeds" in key}
    return Claim(**{**row, **seeds, "changes": tuple(Change(**change) for change in row["changes"])})


def _read(notebook: str | None, folder: Path) -> list[tuple[str, Claim | NotTestable]]:
    """The rows of one notebook's file or of all, each with its file and name for a sentence about it."""
    files = sorted(folder.glob(f"{notebook or '*'}.toml"))
    if not files:
        there = ", ".join(sorted(path.name for path in folder.glob("*.toml"))) or "no such file"
        raise FileNotFoundError(
            f"Folder `{folder}` should hold the claims of a notebook, `{notebook or 'NN'}.toml`. Found {there}. "
            "Name one of these, or take the folder back with git."
        )
    found: dict[str, tuple[str, Claim | NotTestable]] = {}
    for kind, at, row in (row for path in files for row in rows_of(path)):
        if row["id"] in found:
            raise error(at, "id", "that of one row", "it twice", "Rename one.")
        found[row["id"]] = (at, _claim(at, row) if kind == "test" else NotTestable(**row))
    return list(found.values())


def load_claims(notebook: str | None = None, folder: Path = FOLDER) -> dict[str, Claim]:
    """Read and check the rows that full runs decide.

    Args:
        notebook: The number of one, such as "02"; by default all of them.
        folder: Of the files.

    Returns:
        The rows by id, in the order of the notebooks and of their files.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row does not follow the rules; the sentence names file, row and field.
    """
    claims = [(at, row) for at, row in _read(notebook, folder) if isinstance(row, Claim)]
    named = {claim.id: claim for _, claim in claims}
    for at, claim in claims:
        if claim.control and (claim.control not in named or named[claim.control].kind != "sanity"):
            raise error(at, "control", "the id of a sanity row", f"`{claim.control}`", "Name one, or leave it out.")
    for (at, claim), (_, other) in product(claims, claims):
        both = sorted(set(claim.fresh_seeds) & set(other.tuning_seeds)) if claim.notebook == other.notebook else []
        if both:
            found = f"seed {both[0]} in both"
            raise error(at, "fresh_seeds", f"apart from the tuning seeds of {other.id}", found, "Move one of them.")
    return named


def load_not_testable(folder: Path = FOLDER) -> dict[str, NotTestable]:
    """Read and check the rows that cannot be tested here.

    Returns:
        The rows by id, in the order of the notebooks and of their files.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row does not follow the rules; the sentence names file, row and field.
    """
    return {row.id: row for _, row in _read(None, folder) if isinstance(row, NotTestable)}
