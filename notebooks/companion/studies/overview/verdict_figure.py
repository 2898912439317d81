"""All verdicts in one picture: a line per claim, its effects in units of the smallest that counts."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion.claims.evidence import intervals_of
from companion.claims.ledger_tables import IN_WORDS
from companion.claims.register import DOMAINS, OURS, Claim
from companion.claims.verdicts import rule_on
from companion.plots.effects import ROW_HEIGHT, effects_panel, height_of, verdict_legend
from companion.plots.style import head

PANELS = {
    "HydaLearn, and the two composed": ("H1", "H2", "H3", OURS),
    "AdaTask": ("A1", "A2", "A3", "A4", "A5", "A6"),
}


def verdict_lines(claims: Mapping[str, Claim], found: pd.DataFrame) -> pd.DataFrame:
    """Summarise the comparisons of each claim that has evidence.

    Args:
        claims: The register.
        found: Of `companion.claims.ledger.evidence`.

    Returns:
        One row per claim, by claim and domain: claim, group (H1 ...), domain, label, verdict, direction, comparisons,
        and in units of the smallest effect, positive where the claim points: `least`, `middle` and `most` of the
        comparisons' means, `low` and `high` of their intervals.
    """
    rows = []
    for claim in claims.values():
        intervals = intervals_of(found[found["claim"] == claim.id])
        if not intervals:
            continue
        unit = claim.smallest * (-1 if claim.direction == "lower" else 1)
        means = np.array([interval.mean for interval in intervals]) / unit
        ends = np.array([(interval.low, interval.high) for interval in intervals]) / unit
        rest = [word for word in claim.id.split("-")[1:] if word != claim.domain]
        rows.append(
            {
                "claim": claim.id,
                "group": claim.group,
                "domain": claim.domain,
                "label": ": ".join([claim.domain, *([" ".join(rest)] if rest else [])]),
                "verdict": rule_on(claim, intervals),
                "direction": claim.direction,
                "comparisons": len(intervals),
                "least": means.min(),
                "middle": np.median(means),
                "most": means.max(),
                "low": ends.min(),
                "high": ends.max(),
            }
        )
    rows.sort(key=lambda row: (list(IN_WORDS).index(str(row["group"])), DOMAINS.index(str(row["domain"]))))
    return pd.DataFrame(rows)


def draw_verdicts(lines: pd.DataFrame) -> Figure:
    """Draw all claims, HydaLearn's on the left and AdaTask's on the right.

    Args:
        lines: Of `verdict_lines`.
    """
    rows = lines.assign(mean=lines["middle"], heading=[f"{group}  {IN_WORDS[group]}" for group in lines["group"]])
    parts = {name: rows[rows["group"].isin(groups)] for name, groups in PANELS.items()}
    tallest = max(height_of(part) for part in parts.values())
    fig, axes = plt.subplots(1, 2, figsize=(10.4, 1.75 + ROW_HEIGHT * tallest))
    for ax, (name, part) in zip(axes, parts.items(), strict=True):
        effects_panel(ax, part, tallest, (lines["low"].min(), lines["high"].max()))
        ax.set_title(name, fontweight="bold")
    verdict_legend(fig)
    return head(
        fig,
        "Every claim that was tested: effect in units of the smallest that counts\n"
        "mark: the mean, of several comparisons the median one; thick: their range; thin: their 95 % intervals",
    )
