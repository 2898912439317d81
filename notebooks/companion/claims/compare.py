"""Your own full run against the committed one, number by number: `python -m companion.claims.compare [FOLDER]`.

After `make full` the working tree holds your runs and figures; the committed ones come from git, or from another
checkout's `figures/full` given as FOLDER. Every cell of the runs is compared, and named where it differs. A number
agrees when it differs by less than a share of what would count: a tenth of the smallest effect for the intervals of a
registered claim, a hundredth of the column's spread elsewhere. The exit status is 1 when a verdict changed or a number
does not agree. Seconds and memory are listed, not judged. A report to hand on, claim by claim, is left in
`build/replication/`.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from companion.claims.differences import compare
from companion.claims.evidence import rulings
from companion.claims.ledger_tables import OVERVIEW
from companion.claims.register import Claim, load_claims
from companion.claims.replication import as_html, as_markdown, replication
from companion.claims.run_differences import compare_runs
from companion.store import paths
from companion.store.manifest import read_manifest
from companion.store.writing import write

SHOWN = 3  # numbers that are printed of a table that does not agree
_NO_EVIDENCE = pd.DataFrame({"claim": [], "comparison": []})


def committed(folder: Path) -> None:
    """Copy the manifest, tables and runs of the last commit into a folder.

    Raises:
        FileNotFoundError: There is no commit that has them.
    """
    where = paths.COMMITTED_FIGURES.relative_to(paths.ROOT).as_posix()
    wanted = [f":(glob){where}/{name}" for name in ("*.csv", "*_runs.*", "manifest.json")]
    try:
        command = ["git", "archive", "HEAD", *wanted]
        archive = subprocess.run(command, cwd=paths.ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise FileNotFoundError(
            "The committed figures should come from git or from a folder. Found no git checkout with a commit here. "
            "Name another checkout's figures/full: python -m companion.claims.compare FOLDER"
        ) from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.isfile() and (file := tar.extractfile(member)):
                (folder / Path(member.name).name).write_bytes(file.read())


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a folder's manifest by figure; the overview's is left out, for it is drawn from the others.

    Raises:
        FileNotFoundError: The folder has no manifest.
    """
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(
            f"Folder `{folder}` should be a figures/full with its manifest.json. Found none there. "
            "Run make full, or name another folder."
        )
    return {
        stem: pd.read_csv(folder / f"{stem}.csv")
        for stem, entry in read_manifest(folder).items()
        if (folder / f"{stem}.csv").exists() and entry["notebook"] != OVERVIEW
    }


def _evidence(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The evidence of all notebooks."""
    return pd.concat([table for stem, table in found.items() if stem.endswith("_claims")] or [_NO_EVIDENCE])


def verdicts(
    own: Mapping[str, pd.DataFrame], reference: Mapping[str, pd.DataFrame], claims: Mapping[str, Claim]
) -> pd.DataFrame:
    """Compute both verdicts on every claim with committed evidence, from the comparisons that both runs have.

    Returns:
        One row per claim: claim, committed, yours, and how many comparisons they rest on; all of the committed ones,
        with no verdict of yours, where none is in common.
    """
    yours, theirs = _evidence(own), _evidence(reference)
    rows = []
    for name in claims:
        old, new = (table[table["claim"] == name].set_index("comparison") for table in (theirs, yours))
        common = [comparison for comparison in old.index if comparison in new.index]
        if len(old):
            kept = [table[table["comparison"].isin(common) | (table["claim"] != name)] for table in (theirs, yours)]
            ruled = [rulings(claims, table if common else theirs)[name] for table in kept]
            rows.append((name, ruled[0], ruled[1] if common else "", len(common)))
    return pd.DataFrame(rows, columns=["claim", "committed", "yours", "comparisons"])


def report(
    own: Mapping[str, pd.DataFrame], reference: Mapping[str, pd.DataFrame], claims: Mapping[str, Claim]
) -> tuple[str, bool]:
    """Compare two runs.

    Args:
        own: Your tables by figure, of `tables`.
        reference: The committed ones.
        claims: The register.

    Returns:
        The report, and whether no verdict changed and every number agrees.
    """
    found = {stem: compare(own.get(stem, table.iloc[:0]), table, stem, claims) for stem, table in reference.items()}
    lines = [f"{'table':<32}{'numbers':>9}{'identical':>10}{'agree':>8}{'beyond':>8}{'absent':>8}  largest difference"]
    for stem, one in found.items():
        counts = f"{one.numbers:>9}{one.identical:>10}{one.within:>8}{len(one.beyond):>8}{one.absent:>8}"
        lines.append(f"{stem:<32}{counts}  {one.largest_of}".rstrip())
        lines += [f"    {line}" for line in one.beyond[:SHOWN]]
        if len(one.beyond) > SHOWN:
            lines.append(f"    and {len(one.beyond) - SHOWN} more")
    costs = {stem: one.costs for stem, one in found.items() if one.costs}
    lines += ["", "Costs of yours over the committed ones, not judged:"] if costs else []
    lines += [f"{stem:<32}{min(c):.2f} to {max(c):.2f}, median {np.median(c):.2f}" for stem, c in costs.items()]
    ruled = verdicts(own, reference, claims)
    known = ruled[ruled["yours"] != ""]
    changed = known[known["committed"] != known["yours"]]
    lines += ["", f"Verdicts: {len(known) - len(changed)} of {len(ruled)} claims as committed, {len(changed)} changed."]
    lines += [f"    {row.claim}: {row.committed}, in yours {row.yours}" for row in changed.itertuples()]
    if len(known) < len(ruled):
        lines.append(f"    not in yours: {', '.join(ruled[ruled['yours'] == '']['claim'])}")
    numbers, identical, within, absent = (
        sum(getattr(one, name) for one in found.values()) for name in ("numbers", "identical", "within", "absent")
    )
    beyond = sum(len(one.beyond) for one in found.values())
    lines.append(
        f"Numbers: {numbers:,} committed, {identical:,} identical in yours, {within:,} agree, {beyond:,} beyond, "
        f"{absent:,} absent. Figures of yours alone: {', '.join(sorted(set(own) - set(reference))) or 'none'}."
    )
    if identical == numbers:
        lines.append("Nothing differs: the full run came out to the last digit, or make full has not run here.")
    return "\n".join(lines), changed.empty and not beyond


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m companion.claims.compare", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="another checkout's figures/full in place of the commit")
    folder = parser.parse_args(arguments).folder
    own = paths.COMMITTED_FIGURES
    try:
        with tempfile.TemporaryDirectory() as temporary:
            if folder is None:
                committed(Path(temporary))
            reference = folder or Path(temporary)
            runs, same_runs = compare_runs(own, reference)
            claims, mine, theirs = load_claims(), tables(own), tables(reference)
            text, agrees = report(mine, theirs, claims)
            handed_on = as_markdown(replication(_evidence(mine), _evidence(theirs), claims), claims)
            place = paths.BUILD / "replication"
            write({place / "report.md": handed_on.encode(), place / "report.html": as_html(handed_on).encode()})
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    runs_too = "\n".join(runs)
    print(f"Your figures/full against {'the last commit' if folder is None else folder}:\n\n{runs_too}\n\n{text}")
    return 0 if agrees and same_runs else 1


if __name__ == "__main__":
    sys.exit(main())
