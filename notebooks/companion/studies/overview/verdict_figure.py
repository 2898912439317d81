"""All verdicts in one picture: a line per claim, its effects in units of the smallest that counts."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from companion.claims.evidence import VERDICT_STYLES, intervals_of
from companion.claims.ledger_tables import IN_WORDS
from companion.claims.register import DOMAINS, OURS, Claim
from companion.claims.verdicts import combine, verdict

PANELS = {
    "HydaLearn, and the two composed": ("H1", "H2", "H3", OURS),
    "AdaTask": ("A1", "A2", "A3", "A4", "A5", "A6"),
}
LINE_HEIGHT = 0.172  # inches


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
                "verdict": combine([verdict(interval, claim.direction, claim.smallest) for interval in intervals]),
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

    The axis is linear between -1 and 1 and logarithmic beyond, so that effects of all sizes stay legible.

    Args:
        lines: Of `verdict_lines`.
    """
    parts = {name: lines[lines["group"].isin(groups)] for name, groups in PANELS.items()}
    tallest = max(len(part) + 1.2 * part["group"].nunique() for part in parts.values())
    fig, axes = plt.subplots(1, 2, figsize=(10.4, 1.75 + LINE_HEIGHT * tallest), sharex=True)
    for ax, (name, part) in zip(axes, parts.items(), strict=True):
        _draw_panel(ax, part, tallest)
        ax.set_title(name, fontweight="bold")
    limits = lines[["low", "high"]].to_numpy()
    axes[0].set_xscale("symlog", linthresh=1.0, linscale=1.0)
    axes[0].set_xlim(min(1.25 * limits.min(), -1.5), max(1.25 * limits.max(), 1.5))
    ticks = [sign * step * 10.0**power for power in range(4) for step in (1, 3) for sign in (-1, 1)]
    axes[0].xaxis.set_major_locator(FixedLocator([0.0, *ticks]))
    axes[0].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", "\N{MINUS SIGN}")))
    marks = [
        Line2D([], [], color=colour, marker=mark, lw=3, ms=6, label=name)
        for name, (colour, mark) in VERDICT_STYLES.items()
    ]
    fig.legend(handles=marks, loc="outside lower center", ncols=4)
    fig.suptitle(
        "Every claim that was tested: effect in units of the smallest that counts (dashed), as claimed to the right\n"
        "mark: the mean, of several comparisons the median one; thick: their range; thin: their 95 % intervals; "
        "grey: claimed to differ by less",
        x=0.01, ha="left", fontsize=9.5,
    )  # fmt: skip
    return fig


def _draw_panel(ax: Axes, part: pd.DataFrame, height: float) -> None:
    """One method's claims from the top down, a heading above those of each claim."""
    y, at = 0.0, {}
    for group, rows in part.groupby("group", sort=False):
        ax.annotate(
            f"{group}  {IN_WORDS[str(group)]}", (0, y), xycoords=ax.get_yaxis_transform(), xytext=(-98, 0),
            textcoords="offset points", va="center", fontsize=8.5, fontweight="bold", annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
        for row in rows.to_dict("records"):
            y += 1
            at[y] = row["label"]
            colour, mark = VERDICT_STYLES[row["verdict"]]
            if row["direction"] == "within":
                ax.plot([-1, 1], [y, y], color="#DDDDDD", lw=8, solid_capstyle="butt", zorder=0)
            ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.0)
            ax.plot([row["least"], row["most"]], [y, y], color=colour, lw=4.0, solid_capstyle="butt", alpha=0.55)
            ax.plot(row["middle"], y, mark, color=colour, ms=5.5)
        y += 1.2
    ax.axvline(0, color="#444444", lw=1, zorder=1)
    ax.axvline(1, color="#444444", lw=1, ls="--", zorder=1)
    ax.set_yticks(list(at), list(at.values()), fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(height - 0.5, -0.7)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("effect / smallest that counts")
