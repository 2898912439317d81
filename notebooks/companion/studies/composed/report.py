"""Tables of the composed study: paired differences by problem, tuning curves, shares, cost, and verdicts in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from companion.claims import verdicts
from companion.claims.register import Claim
from companion.claims.statistics import Interval, paired_interval
from companion.plots.forest import Panel

MINUS = "\N{MINUS SIGN}"


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

    def panel(self, title: str, smallest: float) -> Panel:
        """How a forest plot reads its differences."""
        unit = "test loss, %" if self.log else self.text
        return Panel(title, unit, lower_is_better=self.lower, smallest=smallest, percent=self.log)


RELATIVE = Measure("test loss", True, True, "log test loss")
NATS = Measure("test loss", False, True, "test log loss, nats")
AUC = Measure("test AUC", False, False, "test AUC")
SHARE = Measure("auxiliary share", False, True, "auxiliary share of AU")


def difference(
    runs: pd.DataFrame, first: str, second: str, measure: Measure, test_to_train: float
) -> tuple[Interval, int]:
    """Interval of the paired difference `first - second` between two methods.

    Args:
        runs: Tidy rows with method, seed, metric, value.
        first: A method.
        second: Another.
        measure: What is compared.
        test_to_train: For seeds that are splits of one data set, see `paired_interval`.

    Returns:
        The interval over the seeds at which neither failed, and how many seeds were left out because one did.
    """
    rows = runs[(runs["metric"] == measure.metric) & runs["method"].isin([first, second])]
    values = rows.pivot(index="seed", columns="method", values="value")
    kept = values[[first, second]].dropna().to_numpy()  # [n, 2]
    compared = np.log(kept) if measure.log else kept
    interval = paired_interval(compared[:, 0], compared[:, 1], test_to_train=test_to_train)
    return interval, len(values) - len(kept)


def differences(
    runs: pd.DataFrame, first: str, references: Sequence[str], measure: Measure, test_to_train: float
) -> pd.DataFrame:
    """Paired differences of one method to several: a row each with mean, low, high, count and failed pairs."""
    rows = []
    for reference in references:
        interval, failed = difference(runs, first, reference, measure, test_to_train)
        rows.append({"method": first, "reference": reference, **vars(interval), "failed": failed})
    return pd.DataFrame(rows)


def level(runs: pd.DataFrame, method: str, measure: Measure, test_to_train: float) -> Interval:
    """Interval of the mean of a method's own measure over seeds."""
    rows = runs[(runs["metric"] == measure.metric) & (runs["method"] == method)]
    values = rows["value"].dropna().to_numpy()
    return paired_interval(values, np.zeros(len(values)), test_to_train=test_to_train)


def tuning_curves(tuned: pd.DataFrame) -> pd.DataFrame:
    """Validation loss over each knob, the other one at its best: mean over tuning seeds, NaN where a run failed.

    Returns:
        One row per method, `knob` ("rate" or "scale") and value: `loss`, and `chosen`, whether it is the best.
    """
    losses = tuned[tuned["metric"] == "validation loss"].groupby(["method", "rate", "scale"], sort=False)["value"]
    means = losses.agg(lambda values: values.mean(skipna=False)).reset_index()
    tables = []
    for knob in ("rate", "scale"):
        best = means.groupby(["method", knob], sort=False)["value"].min().rename("loss").reset_index()
        best["chosen"] = best["loss"] == best.groupby("method")["loss"].transform("min")
        best = best.rename(columns={knob: "value"}).assign(knob=knob)
        tables.append(best[["method", "knob", "value", "loss", "chosen"]])
    return pd.concat(tables, ignore_index=True)


def constant_share(weight: float, auxiliaries: int) -> float:
    r"""Auxiliary share of AU under constant weights on updates, if every task's updates are of one size.

    .. math:: \frac{n (w/n)^2}{(1-w)^2 + n (w/n)^2}

    for n auxiliary tasks that have w of the sum of weights together, in equal parts.

    Example:
        >>> constant_share(0.5, 1), constant_share(0.2, 1)
        (0.5, 0.058823529411764705)
    """
    others = weight**2 / auxiliaries
    return others / ((1 - weight) ** 2 + others)


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
    """Differences as lines of text, logarithms in per cent, with the number of seeds behind each."""
    lines = []
    for row in table.to_dict("records"):
        numbers = [row[key] for key in ("mean", "low", "high")]
        if measure.log:
            mean, low, high = (f"{100 * np.expm1(n):+z.1f}" for n in numbers)
            mean += " %"
        else:
            mean, low, high = (f"{n:+z.4f}" for n in numbers)
        lost = f", {row['failed']} left out" if row["failed"] else ""
        lines.append(f"  {row['reference']:<24}{mean:>9} [{low}, {high}] at {row['count']}{lost}")
    return "\n".join(lines)


def evidence_of(table: pd.DataFrame, prefix: str = "") -> Mapping[str, Interval]:
    """Name of each comparison, its reference after a prefix -> its interval."""
    rows = table.to_dict("records")
    return {prefix + r["reference"]: Interval(r["mean"], r["low"], r["high"], r["count"]) for r in rows}
