"""The mortgage panel of the book Deep Credit Risk: default, with payoff as the auxiliary task.

5,000 US mortgages observed over up to 48 periods each (62,178 rows). The file states no licence, so it is never
part of this project: a reader puts `dcr.csv` into the folder that `MTLCORE_DATA` names. Rows of one mortgage are
near copies of each other, so splits go by mortgage, never by row.
"""

import io

import numpy as np
import pandas as pd

from companion.data.files import check_columns, official_file
from companion.data.tabular import TabularTask

FILE = "dcr.csv"
SHA256 = "804f1d4338663227eded33c0cf63317b2cb1b68eb2b19b02925f80315f94b224"
SOURCE = "the data page of deepcreditrisk.com"

# Known only after the outcome: status, loss given default, recovery and the time of resolution.
LEAKS = ("status_time", "lgd_time", "recovery_res", "res_time")
TARGETS = {"default": "default_time", "payoff": "payoff_time"}
GROUP = "id"
PERIOD = "time"  # stays an input: it is known at the observation
# Boundaries for `time_splits` (our design): 60 quarters of about 2000 to 2014, trained on the years before the wave of
# defaults, chosen on the wave, tested on what follows; each fold holds more than a hundred defaults.
WINDOWS = {"validation_from": 31, "test_from": 37}


def load_mortgages() -> TabularTask:
    """Load `dcr.csv` from `MTLCORE_DATA`: 62,178 rows, 21 inputs, 1,525 defaults (main), 2,625 payoffs (auxiliary).

    Of the payoffs, 26 rows carry a balance of zero, which gives them away: one per cent of the auxiliary label.

    Raises:
        FileNotFoundError: `MTLCORE_DATA` is unset or the file is absent.
        ValueError: The file is not the known one.
    """
    return mortgages_task(pd.read_csv(io.BytesIO(official_file(FILE, SHA256, SOURCE))))


def mortgages_task(table: pd.DataFrame) -> TabularTask:
    """Turn the panel into inputs, targets and the mortgage that each row belongs to; leaks are dropped."""
    dropped = {*LEAKS, *TARGETS.values(), GROUP}
    check_columns(FILE, table.columns, {*dropped, PERIOD}, SOURCE)
    return TabularTask(
        name="Mortgage panel",
        inputs=table.drop(columns=list(dropped)),
        targets={name: table[column].to_numpy(np.float64) for name, column in TARGETS.items()},
        groups=table[GROUP].to_numpy(np.int64),
        checksum=SHA256,
        licence="no licence stated (data of a book): read in place, never redistributed",
        stand_in=False,
        revealing=frozenset({"payoff"}),  # a mortgage that is paid off does not default in that period
        periods=table[PERIOD].to_numpy(np.int64),
    )
