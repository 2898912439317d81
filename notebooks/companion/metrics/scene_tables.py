"""Tables of scores of dense prediction, and Delta_m against the single tasks of the same seed."""

from typing import Any

import numpy as np
import pandas as pd

from companion.metrics.scenes import MEASURES, delta_m_by_task, delta_m_flat

GROUP = ["optimizer", "method", "spread"]
ALONE = {"first task alone": 0, "second task alone": 1}  # method -> the task that it trains
SINGLES = "Adam"  # the optimizer of the single tasks that every Delta_m compares with


def scores(final: pd.DataFrame) -> pd.DataFrame:
    """The test measures of every run: index group and seed, columns measures; what a single task does not do is NaN."""
    rows = final[final["fold"] == "test"]
    wide = rows.pivot(index=[*GROUP, "seed"], columns="metric", values="value")
    for method, task in ALONE.items():
        other = [*MEASURES[1 - task], *(["cross-entropy"] if task == 1 else [])]
        wide.loc[wide.index.get_level_values("method") == method, other] = np.nan
    return wide


def with_delta_m(table: pd.DataFrame) -> pd.DataFrame:
    """Add Delta_m in both conventions, against the single tasks of the same seed, to `scores`; singles are left out."""
    records: list[dict[str, Any]] = [
        {str(name): value for name, value in row.items()} for row in table.reset_index().to_dict("records")
    ]
    singles: dict[int, dict[str, float]] = {}
    for record in records:
        if record["method"] in ALONE and record["optimizer"] == SINGLES:
            own = MEASURES[ALONE[record["method"]]]
            singles.setdefault(record["seed"], {}).update({name: float(record[name]) for name in own})
    rows = []
    for record in records:
        if record["method"] not in ALONE:
            values = {name: float(record[name]) for measures in MEASURES for name in measures}
            single = singles[record["seed"]]
            conventions = {
                "Delta_m, flat": delta_m_flat(values, single),
                "Delta_m, by task": delta_m_by_task(values, single),
            }
            rows.append(record | conventions)
    return pd.DataFrame(rows).set_index([*GROUP, "seed"]).sort_index()
