"""The small cell of the weight study that is recorded: some methods and the swapped weights, at one setting."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from companion.studies.hydalearn_synthetic.controls import swap
from companion.studies.hydalearn_synthetic.study import train_grid

METRICS = ("validation loss", "test loss")


def compare(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train each of `configuration["methods"]`, and HydaLearn with another seed's weights.

    Args:
        configuration: As for `study.train_grid` with one rate and one scale, and `methods` in place of `method`.

    Returns:
        Validation and test loss by method and seed; the method of the swapped weights is "swapped".
    """
    settings = {name: value for name, value in configuration.items() if name != "methods"}
    tables = [train_grid({**settings, "method": method}).assign(method=method) for method in configuration["methods"]]
    controls = swap({**settings, "method": "HydaLearn"}).rename(columns={"weights": "method"})
    runs = pd.concat([*tables, controls[controls["method"] == "swapped"]])
    return runs.loc[runs["metric"].isin(METRICS), ["method", "seed", "metric", "value", "seconds"]]
