"""Each row on one line: the comparison that decides it, in units of the smallest effect that counts."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from companion.claims.evidence import intervals_of
from companion.claims.fields import KINDS
from companion.claims.register import DOMAINS, Claim
from companion.claims.verdicts import rule_on, verdict
from companion.claims.words import IN_WORDS, row_in_words


def in_units(claim: Claim, found: pd.DataFrame) -> pd.DataFrame:
    """The comparisons of one row: comparison, verdict, and positive where the claim points, mean, low and high."""
    sides = found[["mean", "low", "high"]] / (claim.smallest * (-1 if claim.direction == "lower" else 1))
    if claim.direction == "lower":
        sides = sides.rename(columns={"low": "high", "high": "low"})
    verdicts = [verdict(interval, claim.direction, claim.smallest) for interval in intervals_of(found)]
    return sides.assign(comparison=found["comparison"], verdict=verdicts)


def decisive(claim: Claim, found: pd.DataFrame) -> int:
    """Place of the comparison that decides: of those with the verdict of the row, the one worst for the claim."""
    scaled = in_units(claim, found)
    means = scaled["mean"].to_numpy()
    against = np.abs(means) if claim.direction == "within" else -means
    alike = scaled["verdict"].to_numpy() == rule_on(claim, intervals_of(found))
    return int(np.where(alike, against, -np.inf).argmax())


def lines(claims: Mapping[str, Claim], found: pd.DataFrame, verdicts: Mapping[str, str]) -> pd.DataFrame:
    """Summarise each row that has evidence.

    Args:
        claims: The register.
        found: Evidence, of `companion.claims.ledger.evidence` or `companion.claims.evidence.evidence_table`.
        verdicts: Of `companion.claims.evidence.rulings`.

    Returns:
        One line per row, by kind, claim and domain: claim, kind, group (H1 ...), domain, label, verdict, direction,
        comparisons (how many), comparison (the one that decides), and its `mean`, `low` and `high` in units of the
        smallest effect that counts, positive where the claim points.
    """
    rows = []
    for claim in claims.values():
        own = found[found["claim"] == claim.id]
        if own.empty:
            continue
        rows.append(
            {
                "claim": claim.id,
                "kind": claim.kind,
                "group": claim.group,
                "domain": claim.domain,
                "label": row_in_words(claim),
                "verdict": verdicts[claim.id],
                "direction": claim.direction,
                "comparisons": len(own),
                **in_units(claim, own)[["comparison", "mean", "low", "high"]].iloc[decisive(claim, own)].to_dict(),
            }
        )
    orders = {"kind": list(KINDS), "group": list(IN_WORDS), "domain": list(DOMAINS)}
    rows.sort(key=lambda row: [order.index(row[name]) for name, order in orders.items()])
    return pd.DataFrame(rows)
