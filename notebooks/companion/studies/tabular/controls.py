"""Interventions on real data: another split's weights, an auxiliary task that is switched off.

Each function is one cell: a configuration in, a tidy table out.
"""

import pandas as pd

from companion.problems.tables import prepare
from companion.studies.tabular.study import measure
from companion.train import interventions
from companion.train.main_task import Configuration


def swap(configuration: Configuration) -> pd.DataFrame:
    """Train HydaLearn with its own and with others' weights, see `interventions.swap`."""
    return interventions.swap(configuration, prepare, measure)


def switch_off(configuration: Configuration) -> pd.DataFrame:
    """Train with constant auxiliary weights up to an epoch, then with the main task alone."""
    return interventions.switch_off(configuration, prepare, measure)
