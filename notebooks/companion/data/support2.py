"""9,105 seriously ill hospital patients of the SUPPORT study: death within some days, with scores as auxiliaries.

It stands in for the mortality data of the HydaLearn paper, which need credentials: it tests the claim on real
patients and cannot reproduce the paper's table. Inputs are what was known on the third day in hospital. Everyone is
followed for at least 344 days, so death within the horizons here is exactly known.
"""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion.data.files import check_columns, packaged_file
from companion.data.tabular import Kind, TabularTask, check_auxiliaries

PACKAGE, FILE = "SurvSet", "resources/pickles/support2.pickle"
SHA256 = "07d0545efecdc168ecefc7f43bcf1b1f58d9dd9b28f38213ac176d2b7f3ab3bb"
SOURCE = "the package SurvSet 0.2.11: pip install SurvSet==0.2.11"

HORIZONS = (7, 30, 60, 180)  # days
SCORE, DISABILITY, DNR = "physiology score", "functional disability", "do-not-resuscitate order"
# The outcome; two survival forecasts of a model fitted to it; an order given as death nears; a state two months later.
LEAKS = ("event", "time", "num_surv2m", "num_surv6m", "fac_dnr", "fac_sfdm2")
SCORE_COLUMN = "num_sps"  # an input, unless it is a target
# A row number, and a second copy of num_num_co.
UNUSED = ("pid", "fac_num_co")
DISABLED = ("adl>=4 (>=5 if sur)", "SIP>=30", "Coma or Intub")


def death_within(days: int) -> str:
    """Name the task of a horizon."""
    return f"death within {days} days"


def load_support2(horizon_days: int = 30, auxiliaries: Sequence[str] = (SCORE,)) -> TabularTask:
    """Load the bundled patients: 9,105 rows, 2,463 deaths within 30 days.

    Args:
        horizon_days: The main task is death within so many days of entering the study: 7, 30, 60 or 180.
        auxiliaries: Any of "physiology score" (a regression: SUPPORT's score of the third day; an input where it is
            no target), "do-not-resuscitate order" (given after admission; unknown where given before),
            "functional disability" (two months later, of those alive and interviewed) and "death within D days" for
            another horizon D. The horizons, and up to 60 days the disability, tell the main label of some rows:
            they are marked as revealing, and `hide_main_labels` refuses them. Log survival time is no auxiliary here.

    Raises:
        FileNotFoundError: The package SurvSet is absent or lacks the file.
        ValueError: The file is not the known one, or a parameter is not among its choices.
    """
    if horizon_days not in HORIZONS:
        raise ValueError(
            f"Parameter `horizon_days` should be one of {', '.join(map(str, HORIZONS))}. "
            f"Found `horizon_days = {horizon_days}`. Pass for example 30."
        )
    others = (death_within(days) for days in HORIZONS if days != horizon_days)
    check_auxiliaries(auxiliaries, (SCORE, DNR, DISABILITY, *others))
    content = packaged_file(PACKAGE, FILE, SHA256, SOURCE)
    return support2_task(pd.read_pickle(io.BytesIO(content)), horizon_days, auxiliaries)


def support2_task(table: pd.DataFrame, horizon_days: int, auxiliaries: Sequence[str]) -> TabularTask:
    """Turn the table of patients into inputs and targets; leaks and identifiers are dropped."""
    dropped = {*LEAKS, *UNUSED}
    check_columns(FILE, table.columns, {*dropped, SCORE_COLUMN}, SOURCE)
    if SCORE in auxiliaries:
        dropped.add(SCORE_COLUMN)
    inputs = table.drop(columns=list(dropped))
    levels = inputs.select_dtypes("category").columns
    main = death_within(horizon_days)
    kinds: dict[str, Kind] = {SCORE: "regression"} if SCORE in auxiliaries else {}
    telling = {death_within(days) for days in HORIZONS} | ({DISABILITY} if horizon_days <= 60 else set())
    return TabularTask(
        name="SUPPORT2",
        inputs=inputs.astype(dict.fromkeys(levels, "str")),
        targets={name: _target(table, name) for name in (main, *auxiliaries)},
        groups=None,
        checksum=SHA256,
        licence="SUPPORT study, through SurvSet (GPL-3)",
        stand_in=True,
        kinds=kinds,
        revealing=frozenset(telling & {*auxiliaries}),
    )


def _target(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    if name == SCORE:
        return table[SCORE_COLUMN].to_numpy(np.float64)
    if name == DNR:
        return _labels(table["fac_dnr"], ("dnr after sadm",), ("no dnr",))
    if name == DISABILITY:
        return _labels(table["fac_sfdm2"], DISABLED, ("no(M2 and SIP pres)",))
    days = int(name.split()[2])
    return np.asarray((table["event"] == 1) & (table["time"] <= days), dtype=np.float64)


def _labels(levels: pd.Series, ones: Sequence[str], zeros: Sequence[str]) -> NDArray[np.float64]:
    """Return 1 and 0 for the named levels, NaN for all others."""
    return np.select([levels.isin(ones), levels.isin(zeros)], [1.0, 0.0], np.nan)
