"""Tables of AdaTask's studies: measures of dominance by setting, and verdicts in words.

A method at one spread of the loss weights is a setting, such as ("joint", 10.0).
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from companion.claims import verdicts
from companion.claims.register import Claim
from companion.claims.statistics import Interval

GROUP = ["problem", "optimizer", "method", "spread"]

Setting = tuple[str, float]


def layer_measures(final: pd.DataFrame) -> pd.DataFrame:
    """All measures of dominance: index group and seed, columns metric and layer, 0 being the whole trunk."""
    rows = final[final["task"] == 0]
    return rows.pivot(index=[*GROUP, "seed"], columns=["metric", "layer"], values="value")


def at(values: Any, problem: str, optimizer: str, setting: Setting) -> pd.DataFrame:
    """The rows of one setting, by seed, of one metric of `layer_measures`."""
    found = pd.DataFrame(values.xs((problem, optimizer, *setting), level=tuple(GROUP)))
    return found.sort_index()


def sentence(claim: Claim, intervals: Sequence[Interval]) -> str:
    """Say what a claim's intervals support by its registered rule; fewer comparisons than registered are said so."""
    least, most, low, high = verdicts.ends(intervals, 2)
    several = f"Means {least} to {most}, intervals within [{low}, {high}]"
    return verdicts.sentence(claim, intervals, several if len(intervals) > 1 else f"{least} [{low}, {high}]")
