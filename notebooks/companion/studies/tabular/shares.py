"""What HydaLearn's shares at fixed parameters are like: their spread, what explains it, how far they can be trusted."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from companion.claims.statistics import paired_interval
from companion.studies.tabular.probe import LABELS, PROBED


def probed_batches(probed: pd.DataFrame) -> pd.DataFrame:
    """One row per probed batch: seed, step, batch, and the metrics of `probe` as columns."""
    wide = probed.pivot(index=["seed", "step", "batch"], columns="metric", values="value")
    return wide[list(PROBED)].reset_index()


def share_measures(batches: pd.DataFrame) -> pd.DataFrame:
    """What the shares at fixed parameters are like, by seed and step.

    Args:
        batches: Of `probed_batches`.

    Returns:
        Columns: mean and "sd" of the share; "zero": how often it is 0; "lag-1": its autocorrelation from one batch to
        the next, 0 where nothing but the batch matters; "R squared": the part of the variance of the share that the
        batch's label counts explain on batches that a quadratic regression in them was not fitted to (five folds), at
        most 0 where they explain nothing; "large R squared", the same for the large-sample share; "match": correlation
        of share and large-sample share; "population": the population share.
    """

    def measure(rows: pd.DataFrame) -> pd.Series:
        share, large = rows["share"].to_numpy(), rows["large-sample share"].to_numpy()
        labels = rows[list(LABELS)].to_numpy()
        return pd.Series(
            {
                "mean": share.mean(),
                "sd": share.std(ddof=1),
                "zero": (share == 0).mean(),
                "lag-1": _correlation(share[1:], share[:-1]),
                "R squared": explained(labels, share),
                "large R squared": explained(labels, large),
                "match": _correlation(share, large),
                "population": rows["population share"].mean(),
            }
        )

    keys = ["seed", "step"]
    return batches.sort_values([*keys, "batch"]).groupby(keys)[list(PROBED)].apply(measure).reset_index()


def explained(labels: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    """Held-out R squared of a quadratic regression of the share `[M]` on label means `[M, 2]`; NaN for a constant."""
    if share.std() < 1e-12:
        return float("nan")
    model = make_pipeline(PolynomialFeatures(2), LinearRegression())
    predicted = cross_val_predict(model, labels, share, cv=KFold(5, shuffle=True, random_state=0))
    return float(r2_score(share, predicted))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.std() < 1e-12 or b.std() < 1e-12:  # rounding apart, a constant
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def share_intervals(measures: pd.DataFrame, *, test_to_train: float, confidence: float) -> pd.DataFrame:
    """Average the measures over splits, by step.

    Args:
        measures: Of `share_measures`.
        test_to_train: Rows of the test fold per row of the training fold, see `paired_interval`.
        confidence: Level of the intervals.

    Returns:
        One row per step and measure: mean, low, high and count of the splits where it exists; a measure that exists in
        fewer than two is left out.
    """
    rows = []
    for (step, measure), group in measures.melt(["seed", "step"], var_name="measure").groupby(
        ["step", "measure"], sort=False
    ):
        values = group["value"].dropna()
        if len(values) > 1:
            zero = np.zeros(len(values))
            interval = paired_interval(values, zero, confidence=confidence, test_to_train=test_to_train)
            rows.append({"step": step, "measure": measure, **vars(interval)})
    return pd.DataFrame(rows)
