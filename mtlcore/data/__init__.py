"""Real data behind one interface: one file per data set, checked before it is opened.

`TABULAR_TASKS` maps the name a notebook's parameter uses to the loader.
"""

from collections.abc import Callable

from mtlcore.data.lending_club import load_lending_club
from mtlcore.data.mortgages import load_mortgages
from mtlcore.data.tabular import Fold, Split, TabularTask, fold_arrays, splits

TABULAR_TASKS: dict[str, Callable[[], TabularTask]] = {
    "lending_club": load_lending_club,
    "mortgages": load_mortgages,
}

__all__ = [
    "TABULAR_TASKS",
    "Fold",
    "Split",
    "TabularTask",
    "fold_arrays",
    "load_lending_club",
    "load_mortgages",
    "splits",
]
