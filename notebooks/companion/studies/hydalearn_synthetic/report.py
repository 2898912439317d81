"""From the tables of the weight study to the numbers that a claim registers: one number per seed, then an interval."""

import numpy as np
import pandas as pd

from companion.claims.statistics import Interval, paired_interval
from companion.train.method_comparison import log_difference

BURN_IN = 100  # steps of training before the registered measures at fixed parameters begin


def after_burn_in(probed: pd.DataFrame, weights: str, metric: str) -> pd.Series:
    """One number per seed: a metric of `batch_probe.probe`, its mean over the checkpoints after the burn-in."""
    rows = probed[(probed["weights"] == weights) & (probed["metric"] == metric) & (probed["step"] >= BURN_IN)]
    return rows.groupby("seed")["value"].mean()


def by_step(probed: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Mean and interval over seeds by kind of batches, weights, metric and step.

    To the metrics of `batch_probe.probe` comes the "extra gain" of a step: beyond that of the main task alone.
    """
    gains = probed[probed["metric"] == "gain"]
    alone = gains[gains["weights"] == "main task"]
    paired = gains.merge(alone, on=["batches", "seed", "step"], suffixes=("", " alone"))
    extra = paired.assign(value=paired["value"] - paired["value alone"], metric="extra gain")
    probed = pd.concat([probed, extra[["batches", "seed", "step", "weights", "metric", "value"]]])
    keys = ["batches", "weights", "metric", "step"]
    rows = [
        dict(zip(keys, key, strict=True)) | vars(over_seeds(group["value"], confidence))
        for key, group in probed.dropna(subset=["value"]).groupby(keys, sort=False)
    ]
    return pd.DataFrame(rows)


def over_seeds(per_seed: pd.Series, confidence: float) -> Interval:
    """Interval of the mean of one number per seed."""
    return paired_interval(per_seed, np.zeros(len(per_seed)), confidence=confidence)


def drop_at_end(shares: pd.DataFrame) -> pd.Series:
    """Mean share in the last epoch, by seed: that of `setting` "control" minus that of "jump"."""
    last = shares[shares["epoch"] == shares["epoch"].max()].pivot(index="seed", columns="setting", values="value")
    drop: pd.Series = last["control"] - last["jump"]
    return drop


def gain_over_constant(probed: pd.DataFrame) -> pd.Series:
    """What the best weights of each batch gain beyond the best constant one, relative to its gain, by seed."""
    best, constant = (after_burn_in(probed, weights, "gain") for weights in ("best", "best constant"))
    return best / constant - 1


def best_off_epoch(tuned: pd.DataFrame, always: int) -> int:
    """The epoch to switch the auxiliary off among those with it on and off for an epoch: by last validation loss."""
    losses = tuned[(tuned["metric"] == "last validation loss") & tuned["off_epoch"].between(1, always - 1)]
    means = losses.groupby("off_epoch")["value"].agg(lambda values: values.mean(skipna=False))
    return int(means.index[int(np.nanargmin(means))])


def off_curve(runs: pd.DataFrame, always: int, confidence: float) -> pd.DataFrame:
    """Paired log differences of every switch-off epoch to always on, at the best and at the last epoch.

    Returns:
        One row per `kept` ("best epoch", "last epoch") and epoch, with mean, low and high of the log test losses.
    """
    rows = []
    for kept, metric in (("best epoch", "test loss"), ("last epoch", "last test loss")):
        for off in sorted(set(runs["off_epoch"]) - {always}):
            interval, failed = log_difference(runs, "off_epoch", off, always, confidence, metric)
            rows.append({"kept": kept, "off_epoch": off, **vars(interval), "failed": failed})
    return pd.DataFrame(rows)


def sweep_curves(runs: pd.DataFrame, fresh: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Paired log differences of the test loss of every constant weight at every learning rate to tuned HydaLearn.

    Args:
        runs: Of the static grid, with `rate` and `scale`.
        fresh: Runs of all methods at their chosen settings, on these seeds among others.
        confidence: Level of the intervals.

    Returns:
        One row per rate and scale: mean, low, high, count; settings with a failed run are left out.
    """
    tuned = fresh[(fresh["method"] == "HydaLearn") & (fresh["metric"] == "test loss")].set_index("seed")["value"]
    rows = []
    for (rate, scale), group in runs[runs["metric"] == "test loss"].groupby(["rate", "scale"]):
        losses = group.set_index("seed")["value"]
        if losses.notna().all():
            interval = over_seeds(np.log(losses) - np.log(tuned.loc[losses.index]), confidence)
            rows.append({"rate": rate, "scale": scale, **vars(interval)})
    return pd.DataFrame(rows)


def in_percent(table: pd.DataFrame) -> str:
    """Log differences as lines of text, in per cent of the reference's loss, with the number of seeds behind each."""
    lines = []
    for row in table.to_dict("records"):
        mean, low, high = (f"{100 * np.expm1(row[key]):+z.1f}" for key in ("mean", "low", "high"))
        lost = f", {row['failed']} left out" if row["failed"] else ""
        lines.append(f"  {row['reference']:<22}{mean:>6} % [{low:>5}, {high:>5}] at {row['count']} seeds{lost}")
    return "\n".join(lines)
