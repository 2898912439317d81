"""The problems of the other studies, of which every method here can be trained on each."""

from collections.abc import Sequence

from companion.problems import interactions, scale_gap, synthetic, tables
from companion.train.main_task import Configuration, Prepare
from companion.train.problem import Problem

STUDIES: dict[str, Prepare] = {
    "weights": synthetic.prepare,
    "tabular": tables.prepare,
    "scale gap": scale_gap.prepare,
    "recommendation": interactions.prepare,
}
DECAYING = ("scale gap", "recommendation")  # where the learning rate falls linearly to 0
# Rows of the test fold per row of the training fold where seeds are splits of one data set, 60 : 20 : 20; else 0. Those
# of tables are facts of their folds (`tabular.facts`).
TEST_TO_TRAIN = {"recommendation": 1 / 3, "weights": 0.0, "scale gap": 0.0}


def prepare(c: Configuration, seeds: Sequence[int]) -> Problem:
    """Prepare the problem that `c["study"]`, one of `STUDIES`, names, by what else its own `prepare` reads."""
    return STUDIES[c["study"]](c, seeds)
