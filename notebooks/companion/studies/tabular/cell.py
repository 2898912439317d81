"""The small cell of the tabular study that is recorded: some methods on some splits, at one setting."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from companion.studies.tabular.study import train_grid

METRICS = ("validation loss", "test log loss", "test AUC", "test PR-AUC")


def compare(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train each of `configuration["methods"]` at one learning rate and scale on paired splits.

    Args:
        configuration: As for `study.train_grid` with one rate and one scale, and `methods` in place of `method`.

    Returns:
        One row per method, seed and metric.
    """
    settings = {name: value for name, value in configuration.items() if name != "methods"}
    tables = [train_grid({**settings, "method": method}).assign(method=method) for method in configuration["methods"]]
    runs = pd.concat(tables)
    return runs.loc[runs["metric"].isin(METRICS), ["method", "seed", "metric", "value", "seconds"]]
