"""Real data behind one interface: one file per data set, checked before it is opened.

`TABULAR_TASKS` maps the name a notebook's parameter uses to the loader.
"""

from collections.abc import Callable

from companion.data.credit_cards import load_credit_cards
from companion.data.fannie_mae import load_fannie_mae
from companion.data.flights import load_flights
from companion.data.freddie_mac import load_freddie_mac
from companion.data.lending_club import load_lending_club
from companion.data.mimic import load_mimic
from companion.data.mortgages import load_mortgages
from companion.data.nafld import load_nafld
from companion.data.preprocessing import fold_arrays
from companion.data.rhc import load_rhc
from companion.data.scarce import hide_main_labels
from companion.data.splits import splits
from companion.data.support2 import load_support2
from companion.data.tabular import Fold, Kind, Split, TabularTask
from companion.data.time_splits import time_splits

TABULAR_TASKS: dict[str, Callable[..., TabularTask]] = {
    "credit_cards": load_credit_cards,
    "flights": load_flights,
    "lending_club": load_lending_club,
    "mortality": load_support2,
    "mortgages": load_mortgages,
    "nafld": load_nafld,
    "rhc": load_rhc,
}

__all__ = [
    "TABULAR_TASKS",
    "Fold",
    "Kind",
    "Split",
    "TabularTask",
    "fold_arrays",
    "hide_main_labels",
    "load_credit_cards",
    "load_fannie_mae",
    "load_flights",
    "load_freddie_mac",
    "load_lending_club",
    "load_mimic",
    "load_mortgages",
    "load_nafld",
    "load_rhc",
    "load_support2",
    "splits",
    "time_splits",
]
