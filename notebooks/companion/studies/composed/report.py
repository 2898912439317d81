"""Tables of the composed study: paired differences by problem, robustness to scale, shares, and verdicts in words."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from companion.claims import verdicts
from companion.claims.register import Claim
from companion.claims.statistics import Estimate, Interval, tuned_difference
from companion.claims.verdicts import MINUS
from companion.plots.forest import Panel
from companion.train.method_comparison import Comparison


@dataclass(frozen=True)
class Measure:
    """What a problem's runs are compared by.

    Attributes:
        metric: Of `study.train_grid`.
        log: Whether logarithms are compared.
        lower: Whether less is better.
        text: For an axis.
    """

    metric: str
    log: bool
    lower: bool
    text: str

    def words(self, mean: float, low: float, high: float) -> str:
        """A difference and its interval as text, logarithms in per cent."""
        if self.log:
            mean, low, high = (100 * float(np.expm1(value)) for value in (mean, low, high))
            return f"{mean:+z.1f} % [{low:+z.1f}, {high:+z.1f}]"
        return f"{mean:+z.4f} [{low:+z.4f}, {high:+z.4f}]"

    def panel(self, title: str, smallest: float) -> Panel:
        """How a forest plot reads its differences."""
        unit = "test loss, %" if self.log else self.text
        return Panel(title, unit, lower_is_better=self.lower, smallest=smallest, percent=self.log)


RELATIVE = Measure("test loss", True, True, "log test loss")
NATS = Measure("test loss", False, True, "test log loss, nats")
AUC = Measure("test AUC", False, False, "test AUC")
SHARE = Measure("auxiliary share", False, True, "auxiliary share of AU")


def differences(
    found: Comparison, first: str, references: Sequence[str], measure: Measure, test_to_train: float
) -> pd.DataFrame:
    """Paired differences of one method to several, as of `tuned_difference`.

    Args:
        found: Final runs at the chosen settings and at their rivals.
        first: A method.
        references: The others.
        measure: What is compared.
        test_to_train: For seeds that are splits of one data set, see `estimate`.

    Returns:
        A row each: method, reference, the fields of an `Estimate`, and how many seeds were left out because one failed.
    """
    rows = []
    transform = np.log if measure.log else np.asarray
    for reference in references:
        ours, theirs = (found.retuned(name, measure.metric, transform) for name in (first, reference))
        interval, failed = tuned_difference(ours, theirs, test_to_train=test_to_train)
        rows.append({"method": first, "reference": reference, **vars(interval), "failed": failed})
    return pd.DataFrame(rows)


def at_worst_scale(tuned: pd.DataFrame) -> pd.Series:
    """By method, how far the validation loss at the worst auxiliary scale is above that at the best, in per cent.

    The learning rate is the best for each scale.
    """
    losses = tuned[tuned["metric"] == "validation loss"]
    means = losses.groupby(["method", "rate", "scale"], sort=False)["value"].mean()
    best = means.groupby(["method", "scale"], sort=False).min().groupby("method", sort=False)
    return 100 * (best.max() / best.min() - 1)


def by_level(dose: pd.DataFrame) -> pd.DataFrame:
    """Mean auxiliary weight (the level) and auxiliary share of AU by method and loss scale, over seeds.

    Returns:
        One row per method and scale: `level`, `mean` share, and its range over seeds `low`, `high`.
    """
    wide = dose.pivot(index=["method", "scale", "seed"], columns="metric", values="value").reset_index()
    groups = wide.groupby(["method", "scale"], sort=False)
    share = groups["auxiliary share"].agg(["mean", "min", "max"]).rename(columns={"min": "low", "max": "high"})
    return share.assign(level=groups["mean auxiliary weight"].mean()).reset_index()


def sentence(claim: Claim, found: Sequence[Interval], decimals: int) -> str:
    """Say what a claim's intervals support by its registered rule; fewer comparisons than registered are said so."""
    least, most, low, high = verdicts.ends(found, decimals)
    spread = f"{least} to {most}" if len(found) > 1 else least
    text = verdicts.sentence(claim, found, f"Mean {spread}, 95 % within [{low}, {high}]")
    return text.replace(" -", f" {MINUS}").replace("[-", f"[{MINUS}")


def in_words(table: pd.DataFrame, measure: Measure) -> str:
    """Differences as lines of text, with the number of seeds behind each."""
    lines = []
    for row in table.to_dict("records"):
        lost = f", {row['failed']} left out" if row["failed"] else ""
        said = measure.words(row["mean"], row["low"], row["high"])
        lines.append(f"  {row['reference']:<24}{said:>28} at {row['count']}{lost}")
    return "\n".join(lines)


def evidence_of(table: pd.DataFrame, prefix: str = "") -> dict[str, Estimate]:
    """Name of each comparison, its reference after a prefix -> its interval."""
    parts = [field.name for field in fields(Estimate)]
    return {
        prefix + str(row["reference"]): Estimate(*(row[name] for name in parts)) for row in table.to_dict("records")
    }
