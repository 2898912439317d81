"""What a notebook found for its registered claims: a table of intervals.

The table is the CSV of the figure `<number>_claims`, so the evidence of a full run is committed with its provenance
like every other figure, and the ledger (`companion.claims.ledger`) computes its verdicts from there.
"""

from collections.abc import Mapping

import pandas as pd

from companion.claims.register import Claim
from companion.claims.statistics import Interval
from companion.claims.verdicts import Verdict, rule_on, verdict


def evidence_table(claims: Mapping[str, Claim], evidence: Mapping[str, Mapping[str, Interval]]) -> pd.DataFrame:
    """List every comparison behind the claims of a notebook.

    Args:
        claims: The register.
        evidence: Claim id -> name of a comparison, such as the reference method -> its interval.

    Returns:
        One row per comparison: claim, comparison, mean, low, high, count, direction, smallest, and the verdict on that
        comparison alone.

    Raises:
        ValueError: A claim is not registered, or a claim has no comparison.
    """
    rows = []
    for name, comparisons in evidence.items():
        if name not in claims:
            raise ValueError(
                f"Parameter `evidence` should name registered claims. Found {name!r}. "
                "Register it in notebooks/claims first."
            )
        if not comparisons:
            raise ValueError(
                f"Parameter `evidence` should hold a comparison for {name}. Found none. Leave the claim out instead."
            )
        claim = claims[name]
        rows += [
            {
                "claim": name,
                "comparison": comparison,
                **vars(interval),
                "direction": claim.direction,
                "smallest": claim.smallest,
                "verdict": verdict(interval, claim.direction, claim.smallest),
            }
            for comparison, interval in comparisons.items()
        ]
    return pd.DataFrame(rows)


def rulings(claims: Mapping[str, Claim], table: pd.DataFrame) -> dict[str, Verdict]:
    """Compute the verdicts that an evidence table gives; a row whose control does not hold in it is uninterpretable."""
    found = {str(name): intervals_of(rows) for name, rows in table.groupby("claim") if name in claims}
    alone = {name: rule_on(claims[name], intervals) for name, intervals in found.items()}
    return {name: rule_on(claims[name], rows, alone.get(claims[name].control)) for name, rows in found.items()}


def intervals_of(table: pd.DataFrame) -> list[Interval]:
    """The intervals of some rows of an evidence table."""
    return [Interval(row["mean"], row["low"], row["high"], int(row["count"])) for row in table.to_dict("records")]
