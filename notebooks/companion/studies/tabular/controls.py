"""Interventions on real data: another split's weights, an auxiliary task that is switched off.

Each function is one cell: a configuration in, a tidy table out.
"""

import pandas as pd

from companion.problems.tables import prepare
from companion.studies.tabular.study import measure, over_initialisations
from companion.train import interventions
from companion.train.main_task import Configuration


def swap(configuration: Configuration) -> pd.DataFrame:
    """Train HydaLearn with its own and with others' weights, see `interventions.swap`."""
    return over_initialisations(configuration, lambda runs: interventions.swap(runs, prepare, measure))


def switch_off(configuration: Configuration) -> pd.DataFrame:
    """Train with constant auxiliary weights up to an epoch, then with the main task alone."""
    return over_initialisations(configuration, lambda runs: interventions.switch_off(runs, prepare, measure))
