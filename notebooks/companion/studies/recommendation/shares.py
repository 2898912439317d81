"""Each task's share of the squared updates and of the squared gradients, table by table and layer by layer."""

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from companion.studies.recommendation.study import programs, table_of, train
from companion.train.share_recorder import ShareRecorder


class LayerShares(ShareRecorder):
    """Follows each task's mean share too.

    A row of a table moves only in the steps after a batch that has its id, so most rows have small AU; shares are taken
    row by row and each live parameter counts once.
    """

    def summarise(self, relative: Tensor) -> dict[str, Tensor]:
        """Each task's mean share, beside the summaries."""
        return super().summarise(relative) | {f"task {t + 1}": row.nanmean(-1) for t, row in enumerate(relative)}


def follow_grid(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train as `study.train_grid` does and follow who moves which table and layer.

    Args:
        configuration: As there; besides, `method` may be a task's name and one of `study.NULLS`.

    Returns:
        Tidy rows by knob, seed, `layer` (from 1; 0 for all shared parameters) and metric, averaged over the training.
    """
    begin, tables = time.perf_counter(), []
    for here, decay, runs in programs(configuration):
        trained = train(here, runs, decay, LayerShares)
        assert trained.recorder is not None
        for (layer, metric), values in trained.recorder.over_time().items():
            rows = table_of(runs, decay, {metric: values.cpu()}, trained.history.failed)
            tables.append(rows.assign(layer=layer))
    count = sum(len(runs) for *_, runs in programs(configuration))
    return pd.concat(tables, ignore_index=True).assign(seconds=(time.perf_counter() - begin) / count)
