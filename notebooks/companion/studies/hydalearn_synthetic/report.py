"""From the tables of the weight study to the numbers that a claim registers: one number per seed, then an interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from companion.claims import verdicts
from companion.claims.register import Claim
from companion.claims.statistics import Interval, paired_interval
from companion.claims.verdicts import ends
from companion.train.method_comparison import log_difference

PROBED = ("minor share", "share", "held-out share")


def probed_batches(probe: pd.DataFrame) -> pd.DataFrame:
    """One row per probed batch: dose, seed, step, and the three metrics of `batch_probe.probe` as columns."""
    wide = probe.pivot(index=["probe_dose", "seed", "step", "batch"], columns="metric", values="value")
    return wide[list(PROBED)].reset_index()


def share_measures(batches: pd.DataFrame) -> pd.DataFrame:
    """What the shares at fixed parameters are like, by dose, seed and step.

    Args:
        batches: Of `probed_batches`.

    Returns:
        Columns: mean and "sd" of the share; "zero": how often it is 0; "lag-1": its autocorrelation from one batch to
        the next, 0 where nothing but the batch matters; "R squared" and "held-out R squared": the part of the variance
        of the share (of the held-out share) that a straight line in the batch's composition explains, NaN where
        composition does not vary; "match": correlation of share and held-out share.
    """

    def measure(rows: pd.DataFrame) -> pd.Series:
        minor, share, held_out = (rows[name].to_numpy() for name in PROBED)
        return pd.Series(
            {
                "mean": share.mean(),
                "sd": share.std(ddof=1),
                "zero": (share == 0).mean(),
                "lag-1": _correlation(share[1:], share[:-1]),
                "R squared": _correlation(share, minor) ** 2,
                "held-out R squared": _correlation(held_out, minor) ** 2,
                "match": _correlation(share, held_out),
            }
        )

    keys = ["probe_dose", "seed", "step"]
    return batches.sort_values([*keys, "batch"]).groupby(keys)[list(PROBED)].apply(measure).reset_index()


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if a.std() < 1e-12 or b.std() < 1e-12:  # rounding apart, a constant
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def over_seeds(per_seed: pd.Series, confidence: float) -> Interval:
    """Interval of the mean of one number per seed."""
    return paired_interval(per_seed, np.zeros(len(per_seed)), confidence=confidence)


def variance_lost(measures: pd.DataFrame, dose: str, reference: str) -> pd.Series:
    """1 minus the variance of the share under a dose divided by that under a reference, by seed.

    Variances are averaged over steps first: a ratio at a step where hardly any share varies would drown the others.
    """
    variance = (
        measures.assign(variance=measures["sd"] ** 2).groupby(["seed", "probe_dose"])["variance"].mean().unstack()
    )
    lost: pd.Series = 1 - variance[dose] / variance[reference]
    return lost


def drop_after(shares: pd.DataFrame, jump_epoch: int) -> pd.Series:
    """Mean share from the jump on, by seed: that of `setting` "control" minus that of "jump"."""
    after = shares[shares["epoch"] >= jump_epoch].groupby(["seed", "setting"])["value"].mean().unstack()
    drop: pd.Series = after["control"] - after["jump"]
    return drop


def best_off_epoch(tuned: pd.DataFrame, always: int) -> int:
    """The epoch to switch the auxiliary off, by mean validation loss, among those with it on and off for an epoch."""
    losses = tuned[(tuned["metric"] == "validation loss") & tuned["off_epoch"].between(1, always - 1)]
    means = losses.groupby("off_epoch")["value"].agg(lambda values: values.mean(skipna=False))
    return int(means.index[int(np.nanargmin(means))])


def off_curve(runs: pd.DataFrame, always: int, confidence: float) -> pd.DataFrame:
    """Paired log differences of every switch-off epoch to always on, at the best and at the last epoch.

    Returns:
        One row per `kept` ("best epoch": test loss, "last epoch": validation loss) and epoch, with mean, low, high.
    """
    rows = []
    for kept, metric in (("best epoch", "test loss"), ("last epoch", "last validation loss")):
        for off in sorted(set(runs["off_epoch"]) - {always}):
            interval, failed = log_difference(runs, "off_epoch", off, always, confidence, metric)
            rows.append({"kept": kept, "off_epoch": off, **vars(interval), "failed": failed})
    return pd.DataFrame(rows)


def verdict_row(claim: Claim, intervals: Sequence[Interval]) -> dict[str, object]:
    """One row of the verdict table: claim, what was found, how many of the registered comparisons, verdict."""
    least, most, low, high = ends(intervals, 3)
    found = f"{least} [{low}, {high}]" if len(intervals) == 1 else f"means {least} to {most}"
    return verdicts.verdict_row(claim, intervals, found, "seeds")


def in_percent(table: pd.DataFrame) -> str:
    """Log differences as lines of text, in per cent of the reference's loss, with the number of seeds behind each."""
    lines = []
    for row in table.to_dict("records"):
        mean, low, high = (f"{100 * np.expm1(row[key]):+z.1f}" for key in ("mean", "low", "high"))
        lost = f", {row['failed']} left out" if row["failed"] else ""
        lines.append(f"  {row['reference']:<22}{mean:>6} % [{low:>5}, {high:>5}] at {row['count']} seeds{lost}")
    return "\n".join(lines)
