"""5,727 patients on their first day in intensive care: death within 30 days, with the day's decisions as auxiliaries.

The cohort of Connors et al. (1996) on the right heart catheter. It stands in for the mortality data of the HydaLearn
paper, which need credentials. **It is no independent replication of SUPPORT2**: both are of the SUPPORT study and may
share patients. Inputs are what the first day knew. Eight patients who were lost before day 30 are left out.
"""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd

from companion.data.files import check_columns, packaged_file
from companion.data.tabular import TabularTask, check_auxiliaries

PACKAGE, FILE = "SurvSet", "resources/pickles/rhc.pickle"
SHA256 = "8250a5f1d8d5aa3d6f1a4c2cd18c41facc70506d0c77c655fa4423582ac780e4"
SOURCE = "the package SurvSet 0.2.11: pip install SurvSet==0.2.11"

DAYS = 30
# The outcome; a survival forecast of a model fitted to it; an interview of the third day, which the dead did not give.
LEAKS = ("event", "time", "num_surv2md1", "num_adld3p")
UNUSED = "pid"
CATHETER, SCORE, DNR = "right heart catheter", "physiology score", "do-not-resuscitate order"
# Auxiliary task -> its column, an input unless it is a target, and the level that counts as 1.
AUXILIARIES = {CATHETER: ("fac_swang1", "RHC"), SCORE: ("num_aps1", None), DNR: ("fac_dnr1", "Yes")}


def load_rhc(auxiliaries: Sequence[str] = (CATHETER,)) -> TabularTask:
    """Load the bundled patients: 5,727 rows, 1,918 deaths within 30 days.

    Args:
        auxiliaries: Any of "right heart catheter" (2,181: one is placed on the first day), "physiology score" (a
            regression: APACHE's, computed from vital signs that are inputs) and "do-not-resuscitate order" (654, on
            the first day). Each is an input where it is no target. None tells the death.

    Raises:
        FileNotFoundError: The package SurvSet is absent or lacks the file.
        ValueError: The file is not the known one, or an auxiliary task is not among the choices.
    """
    check_auxiliaries(auxiliaries, [*AUXILIARIES])
    return rhc_task(pd.read_pickle(io.BytesIO(packaged_file(PACKAGE, FILE, SHA256, SOURCE))), auxiliaries)


def rhc_task(table: pd.DataFrame, auxiliaries: Sequence[str]) -> TabularTask:
    """Turn the table of patients into inputs and targets; leaks and identifiers are dropped."""
    check_columns(FILE, table.columns, {*LEAKS, UNUSED, *(column for column, _ in AUXILIARIES.values())}, SOURCE)
    table = table[(table["event"] == 1) | (table["time"] > DAYS)].reset_index(drop=True)
    targets = {"death within 30 days": ((table["event"] == 1) & (table["time"] <= DAYS)).to_numpy().astype(np.float64)}
    inputs = table.drop(columns=[*LEAKS, UNUSED])
    for name in auxiliaries:
        column, level = AUXILIARIES[name]
        values = inputs.pop(column)
        targets[name] = (values if level is None else values == level).to_numpy().astype(np.float64)
    return TabularTask(
        name="RHC",
        inputs=inputs.astype(dict.fromkeys(inputs.select_dtypes("category").columns, "str")),
        targets=targets,
        groups=None,
        checksum=SHA256,
        licence="SUPPORT study (Connors et al. 1996), through SurvSet (GPL-3)",
        stand_in=True,
        kinds={SCORE: "regression"},
    )
