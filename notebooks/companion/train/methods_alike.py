"""Several methods trained alike: the small cell of a study that `companion.runner.recorded` computes again."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd


def methods_alike(train: Callable[[Mapping[str, Any]], pd.DataFrame], configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train several `methods` alike and keep some `metrics`.

    Args:
        train: A study's training cell: a configuration with `method` in, a tidy table out.
        configuration: As `train`'s, with `methods` in place of `method`, and `metrics`.
    """
    tables = [train({**configuration, "method": m}).assign(method=m) for m in configuration["methods"]]
    table = pd.concat(tables, ignore_index=True)
    return table[table["metric"].isin(configuration["metrics"])]
