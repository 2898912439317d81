"""What a notebook found for its registered claims: a table of intervals, drawn in units of the smallest effect.

The table is the CSV of the figure `<number>_claims`, so the evidence of a full run is committed with its provenance
like every other figure, and the ledger (`companion.claims.ledger`) computes its verdicts from there.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from companion.claims.register import Claim
from companion.claims.statistics import Interval
from companion.claims.verdicts import Verdict, verdict

# One colour and one mark per verdict, told apart without colour too.
VERDICT_STYLES: dict[Verdict, tuple[str, str]] = {
    "holds": ("#0072B2", "o"),
    "holds in part": ("#56B4E9", "D"),
    "undecided": ("#999999", "s"),
    "does not hold": ("#D55E00", "X"),
}
ROW_HEIGHT = 0.24  # inches


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
                f"Parameter `evidence` should name registered claims. Found {name!r}. Register it in claims.toml first."
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


def intervals_of(table: pd.DataFrame) -> list[Interval]:
    """The intervals of some rows of an evidence table."""
    return [Interval(row["mean"], row["low"], row["high"], int(row["count"])) for row in table.to_dict("records")]


def draw_evidence(table: pd.DataFrame, title: str) -> Figure:
    """Draw every comparison in units of the smallest effect that counts, towards the claim to the right.

    The axis is linear between -1 and 1 and logarithmic beyond, so that effects of all sizes stay legible.

    Args:
        table: Of `evidence_table`.
        title: What was asked and where.
    """
    fig, ax = plt.subplots(figsize=(7.2, 1.7 + ROW_HEIGHT * len(table)))
    sign = table["direction"].map({"higher": 1.0, "within": 1.0, "lower": -1.0})
    scaled = table[["mean", "low", "high"]].mul(sign / table["smallest"], axis=0)
    ax.set_xscale("symlog", linthresh=1.0, linscale=1.0)
    ax.axvline(0, color="#444444", lw=1)
    ax.axvline(1, color="#444444", lw=1, ls="--")
    seen: dict[Verdict, None] = {}
    for y, (row, (mean, one, other)) in enumerate(
        zip(table.to_dict("records"), scaled.itertuples(index=False), strict=True)
    ):
        colour, mark = VERDICT_STYLES[row["verdict"]]
        if row["direction"] == "within":
            ax.plot([-1, 1], [y, y], color="#DDDDDD", lw=7, solid_capstyle="butt", zorder=0)
        ax.plot([one, other], [y, y], color=colour, lw=1.6)
        label = None if row["verdict"] in seen else row["verdict"]
        ax.plot(mean, y, mark, color=colour, ms=6, label=label)
        seen[row["verdict"]] = None
    first_of_claim = ~table["claim"].duplicated()
    names = [
        f"{claim}   {comparison}" if first else comparison
        for claim, comparison, first in zip(table["claim"], table["comparison"], first_of_claim, strict=True)
    ]
    ax.set_yticks(range(len(table)), names)
    for y in [y for y, first in enumerate(first_of_claim) if first and y > 0]:
        ax.axhline(y - 0.5, color="#CCCCCC", lw=0.8)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ticks = [sign * step * 10.0**power for power in range(4) for step in (1, 3) for sign in (-1, 1)]
    ax.xaxis.set_major_locator(FixedLocator([0.0, *ticks]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", "\N{MINUS SIGN}")))
    low, high = float(scaled.min().min()), float(scaled.max().max())
    ax.set_xlim(min(1.2 * low, -0.5), max(1.2 * high, 1.5))
    ax.set_xlabel("effect / smallest that counts")
    fig.legend(loc="outside lower center", ncols=4)
    how = "95 % interval of each comparison, not corrected for their number\nright: as claimed; logarithmic beyond 1"
    if (table["direction"] == "within").any():
        how += "; grey band: claimed to differ by less"
    fig.suptitle(f"{title}\n{how}", x=0.01, ha="left", fontsize=11)
    return fig
