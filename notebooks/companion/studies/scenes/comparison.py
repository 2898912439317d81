"""All methods at one size of network: tuned, trained on fresh seeds, and AdaTask's intervals against each of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from companion.claims.statistics import Interval, tuned_difference
from companion.metrics.scene_tables import ALONE, GROUP, scores, with_delta_m
from companion.metrics.scenes import LOSSES
from companion.studies.scenes import report
from companion.studies.scenes.report import FLAT, Setting
from companion.train.choice import Choice

Cells = Callable[[Sequence[Mapping[str, Any]]], pd.DataFrame]
ADATASK, NULL = ("Adam", "AdaTask", 1.0), ("Adam", "second task twice", 1.0)
DOMINATED, SECOND = "dominated, updates, mean", "last task, updates, mean"


def joint(weight: float) -> Setting:
    """Joint training with Adam at one weight of the second task's loss."""
    return "Adam", "joint", weight


class Comparison:
    """The runs of a comparison, all of them trained when it is made, and what follows from them.

    Args:
        cells: Gives the runs of many configurations of `train_cell`.
        common: What these have in common.
        methods: Besides the single tasks, joint training and AdaTask.
        static_weights: Of the second task's loss, of which tuning chooses one.
        gap: A further weight, which spoils the scale on purpose, if any.
        rates: Learning rates to choose from, by method and weight; without `tuning_seeds` the first one is everyone's.
        tuning_seeds: For these choices; none where a protocol fixes all, then there is no null level either.
        tuning_epochs: Of the runs that choose.
        seeds: Of the final runs.
        few: How many of these `methods` and `gap` have, which no primary row compares; default: all.
        overlap: Size of a test fold by that of a training fold, for intervals over splits that overlap.

    Attributes:
        tuning: The runs that chose.
        choices: Setting -> its learning rate and the rivals of that; empty where nothing was tuned.
        static_choice: The static weight and its learning rate, likewise; `None` where nothing was tuned.
        static: That weight.
        rate: Setting -> learning rate.
        trained_at: The same of the settings that fresh seeds train.
        final: The final runs at the chosen settings.
        every: These and the ones at rivals.
        scores: Their measures on the test tiles.
        values: The same with Delta_m.
        shares: Measures of dominance, see `report.shares`.
    """

    def __init__(
        self, cells: Cells, common: Mapping[str, Any], *, methods: Sequence[str] = (),
        static_weights: Sequence[float] = (1.0,), gap: float | None = None, rates: Sequence[float],
        tuning_seeds: Sequence[int], tuning_epochs: int = 0, seeds: Sequence[int], few: int | None = None,
        overlap: float,
    ) -> None:  # fmt: skip
        """Tune and train."""

        def cell(setting: Setting, at: Sequence[float], whose: Sequence[int], **others: Any) -> dict[str, Any]:
            optimizer, method, weight = setting
            return {**common, "optimizer": optimizer, "method": method, "spreads": [weight] * len(at),
                    "rates": list(at), "seeds": list(whose), "record": False, **others}  # fmt: skip

        weights = sorted({1.0, *static_weights} | ({gap} if gap else set()))
        alone: list[Setting] = [("Adam", method, 1.0) for method in ALONE]
        wanted = [*alone, ADATASK, *(("Adam", method, 1.0) for method in methods), *map(joint, weights)]
        self.overlap, self.static = overlap, 1.0
        self.choices: dict[Setting, Choice] = {}
        self.static_choice: Choice | None = None
        self.rate = dict.fromkeys(wanted, rates[0])
        # What the primary rows compare: there the rates that resampled tuning seeds choose instead are trained too.
        decisive = [*alone, ADATASK, joint(1.0)]
        if tuning_seeds:
            self.tuning = cells([cell(one, rates, tuning_seeds, epochs=tuning_epochs) for one in wanted])
            self.choices = report.choose_rates(self.tuning, decisive)
            self.rate = {setting: choice.rate for setting, choice in self.choices.items()}
            self.static_choice = report.choose_static(self.tuning, static_weights)
            self.static = self.static_choice.setting["spread"]
        kept = {1.0, gap, self.static}
        at = {setting: self.rate[setting] for setting in wanted if setting[1] != "joint" or setting[2] in kept}
        followed = {joint(1.0), ADATASK} | ({joint(gap)} if gap else set())  # whose dominance is recorded
        further = {("Adam", method, 1.0) for method in methods} | ({joint(gap)} if gap else set())
        runs = [
            cell(one, [rate], seeds[:few] if one in further else seeds, record=one in followed)
            for one, rate in at.items()
        ]
        if tuning_seeds:
            runs.append(cell(NULL, [self.rate[joint(1.0)]], seeds, record=True))
        places = [(one, rival["rate"]) for one in decisive if self.choices for rival in self.choices[one].rivals]
        if self.static_choice is not None:
            places += [(joint(rival["spread"]), rival["rate"]) for rival in self.static_choice.rivals]
        runs += [cell(one, [rate], seeds) for one, rate in dict.fromkeys(places) if at.get(one) != rate]
        self.every = cells(runs)
        self.trained_at = at
        chosen = pd.MultiIndex.from_tuples([(*one, rate) for one, rate in at.items()])
        self.final = self.every[pd.MultiIndex.from_frame(self.every[[*GROUP, "rate"]]).isin(chosen)]
        self.scores = scores(self.final)
        self.values = with_delta_m(self.scores)
        self.shares = report.shares(self.every[self.every["fold"] == "training"])

    def gain(self, setting: Setting, measure: str = FLAT) -> Interval:
        """The interval of AdaTask minus a setting, with what tuning adds; of losses the logarithms."""
        if self.static_choice is None:
            own, other = (report.at(self.values, one, measure) for one in (ADATASK, setting))
            apart = np.log(own) - np.log(other) if measure in LOSSES else own - other
            return report.interval(apart, self.overlap)
        seeds = report.at(self.values, setting, measure).index.tolist()
        chosen = self.static_choice if setting == joint(self.static) else self.choices[setting]
        first, second = (
            report.retuned(self.every, self.trained_at, one, choice, measure, seeds)
            for one, choice in ((ADATASK, self.choices[ADATASK]), (setting, chosen))
        )
        return tuned_difference(first, second, test_to_train=self.overlap)[0]

    def over_singles(self) -> Interval:
        """The interval of AdaTask's Delta_m, that of the single tasks being 0, with what the tuning of both adds."""
        own = report.retuned(self.every, self.trained_at, ADATASK, self.choices[ADATASK], FLAT)
        singles = report.against_singles(self.every, self.trained_at, ADATASK, self.choices)
        return tuned_difference(own, singles, test_to_train=self.overlap)[0]

    def share(self, setting: Setting, layers: Sequence[int] = (0,), metric: str = DOMINATED) -> pd.Series:
        """A measure of dominance by seed; layer 0 is all shared layers, of several the mean."""
        wide = self.shares.xs(setting, level=tuple(GROUP))[metric]
        found: pd.Series = pd.DataFrame(wide[list(layers)]).mean(axis=1).sort_index()
        return found

    @property
    def dominated(self) -> str:
        """The loss of the dominated task: that with less than half of AU under equal weights."""
        return LOSSES[int(self.share(joint(1.0), metric=SECOND).mean() <= 0.5)]
