"""The papers' questions to one data set: what shares follow, whether their match helps, whether relevance drifts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from companion.store.results import Results
from companion.studies.tabular.controls import swap, switch_off
from companion.studies.tabular.report import paired_differences
from companion.studies.tabular.shares import follow
from companion.train.method_comparison import Comparison, at_setting

LAST_VALIDATION, LAST_TEST = "last validation loss", "last test log loss"


@dataclass(frozen=True)
class Design:
    """A data set with what was tuned on it.

    Attributes:
        configuration: Of its cells, without method, settings and seeds.
        seeds: The reported splits.
        tuning_seeds: Those that choose.
        found: Its comparison of methods.
        test_to_train: For intervals over splits that share rows.
    """

    configuration: Mapping[str, Any]
    seeds: Sequence[int]
    tuning_seeds: Sequence[int]
    found: Comparison
    test_to_train: float

    def chosen(self, method: str) -> dict[str, Any]:
        """The configuration of a method at its chosen setting on the reported splits."""
        setting = at_setting(self.found.chosen[method].setting)
        return {**self.configuration, "method": method, **setting, "seeds": list(self.seeds)}


def followed(
    results: Results, design: Design, splits: Sequence[int], checkpoints: Sequence[int], batches: int
) -> pd.DataFrame:
    """What HydaLearn's shares and the best ones follow, parameters held at some steps, see `shares.follow`."""
    own, equal = design.found.chosen["HydaLearn"], design.found.chosen["equal weights"]
    probe = {"checkpoints": list(checkpoints), "probe_batches": batches, "seeds": list(splits)}
    knobs = {"rates": [equal.rate], "scales": [own.scale]}
    return results.cell({**design.configuration, "method": "equal weights", **knobs, **probe}, follow)


def swapped(results: Results, design: Design) -> pd.DataFrame:
    """HydaLearn's test loss with its own weights minus that with others', see `controls.swap`.

    Raises:
        RuntimeError: A run that was given its own weights again came out otherwise: the machinery is wrong.
    """
    table = results.cell(design.chosen("HydaLearn"), swap)
    again = ["replayed", "swapped", "averaged"]
    found = paired_differences(table, "weights", "own", again, test_to_train=design.test_to_train)
    replayed, others = found.iloc[0], found.iloc[1:]
    if max(abs(replayed["low"]), abs(replayed["high"])) > 1e-8:
        raise RuntimeError(f"Runs given their own weights again should come out the same. Found {replayed['mean']}.")
    return others.reset_index(drop=True)


def switched_off(results: Results, design: Design, off_epochs: Sequence[int]) -> pd.DataFrame:
    """Test loss after the last epoch with the auxiliary task switched off at an epoch, minus that with it always on.

    Args:
        results: Where cells are.
        design: The data set.
        off_epochs: Epochs to switch off at; the last is the number of epochs, for never.

    Returns:
        One row per epoch, `chosen` where the tuning splits choose it among those with the task on and off for an epoch.
    """
    cell = {**design.chosen("static grid"), "off_epochs": list(off_epochs)}
    tuning = results.cell({**cell, "inits": 1, "seeds": list(design.tuning_seeds)}, switch_off)
    never, some = off_epochs[-1], tuning["off_epoch"].between(1, off_epochs[-1] - 1)
    means = tuning[some & (tuning["metric"] == LAST_VALIDATION)].groupby("off_epoch")["value"].mean()
    fresh = results.cell(cell, switch_off)
    curve = pd.concat(
        paired_differences(fresh, "off_epoch", off, [never], test_to_train=design.test_to_train, metric=LAST_TEST)
        for off in off_epochs[:-1]
    )
    return curve.assign(off_epoch=curve["first"], chosen=curve["first"] == means.idxmin())
