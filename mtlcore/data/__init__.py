"""Real data behind one interface: one file per data set, checked before it is opened.

`TABULAR_TASKS` maps the name a notebook's parameter uses to the loader.
"""

from collections.abc import Callable

from mtlcore.data.fannie_mae import load_fannie_mae
from mtlcore.data.freddie_mac import load_freddie_mac
from mtlcore.data.lending_club import load_lending_club
from mtlcore.data.mimic import load_mimic
from mtlcore.data.mortgages import load_mortgages
from mtlcore.data.preprocessing import fold_arrays
from mtlcore.data.scarce import hide_main_labels
from mtlcore.data.splits import splits
from mtlcore.data.support2 import load_support2
from mtlcore.data.tabular import Fold, Kind, Split, TabularTask
from mtlcore.data.time_splits import time_splits

TABULAR_TASKS: dict[str, Callable[[], TabularTask]] = {
    "lending_club": load_lending_club,
    "mortality": load_support2,
    "mortgages": load_mortgages,
}

__all__ = [
    "TABULAR_TASKS",
    "Fold",
    "Kind",
    "Split",
    "TabularTask",
    "fold_arrays",
    "hide_main_labels",
    "load_fannie_mae",
    "load_freddie_mac",
    "load_lending_club",
    "load_mimic",
    "load_mortgages",
    "load_support2",
    "splits",
    "time_splits",
]
