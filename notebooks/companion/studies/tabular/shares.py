"""What a batch's shares at fixed parameters follow: HydaLearn's own and the best one, to first order."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from companion.claims.statistics import estimate
from companion.studies.tabular.probe import LABELS, PROBED, probe
from companion.studies.tabular.study import over_initialisations
from companion.train.main_task import Configuration


def follow(configuration: Configuration) -> pd.DataFrame:
    """Probe the shares of many batches and measure them: one cell.

    Args:
        configuration: Of `probe`, and `inits`; its `seeds` are splits.

    Returns:
        Tidy rows by seed, initialisation, step and metric, those of `share_measures`.
    """

    def measured(runs: Configuration) -> pd.DataFrame:
        table = probe(runs)
        found = share_measures(probed_batches(table)).melt(["seed", "step"], var_name="metric")
        return found.assign(seconds=table["seconds"].iloc[0])

    return over_initialisations(configuration, measured)


def probed_batches(probed: pd.DataFrame) -> pd.DataFrame:
    """One row per probed batch: seed, step, batch, and the metrics of `probe` as columns."""
    wide = probed.pivot(index=["seed", "step", "batch"], columns="metric", values="value")
    return wide[list(PROBED)].reset_index()


def share_measures(batches: pd.DataFrame) -> pd.DataFrame:
    """What the shares at fixed parameters are like, by seed and step.

    Args:
        batches: Of `probed_batches`.

    Returns:
        Columns: mean and "sd" of HydaLearn's share; "zero": how often it is 0; "R squared": the part of the variance of
        the share that the batch's label counts explain on batches that a quadratic regression in them was not fitted to
        (five folds), at most 0 where they explain nothing; "best R squared", the same for the large-sample share, the
        best one to first order; "match": correlation of the two.
    """

    def measure(rows: pd.DataFrame) -> pd.Series:
        share, best = rows["share"].to_numpy(), rows["large-sample share"].to_numpy()
        labels = rows[list(LABELS)].to_numpy()
        return pd.Series(
            {
                "mean": share.mean(),
                "sd": share.std(ddof=1),
                "zero": (share == 0).mean(),
                "R squared": explained(labels, share),
                "best R squared": explained(labels, best),
                "match": _correlation(share, best),
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


def share_intervals(measures: pd.DataFrame) -> pd.DataFrame:
    """Average over splits and initialisations, by step: plain intervals, as there is no test fold.

    Args:
        measures: Of `follow`. A measure that exists for no run, such as the correlation with a constant, is left out.

    Returns:
        One row per step and measure: the fields of an `Estimate`.
    """
    rows = []
    for (step, measure), group in measures.groupby(["step", "metric"], sort=False):
        values = group.pivot(index="seed", columns="initialisation", values="value").dropna()
        if len(values) > 1:
            rows.append({"step": step, "measure": measure, **vars(estimate(values.to_numpy()))})
    return pd.DataFrame(rows)


def after_burn_in(measures: pd.DataFrame, metric: str, burn_in: int) -> NDArray[np.float64]:
    """Mean of one measure of `follow` over the steps from `burn_in` on, `[S, I]`."""
    rows = measures[(measures["metric"] == metric) & (measures["step"] >= burn_in)]
    means = rows.groupby(["seed", "initialisation"])["value"].mean()
    return means.unstack("initialisation").to_numpy(np.float64)
