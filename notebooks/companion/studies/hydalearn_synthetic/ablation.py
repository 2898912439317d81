"""HydaLearn's options one at a time, against its defaults, on one problem and several kinds of mini-batches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from companion.store.results import Results
from companion.studies.hydalearn_synthetic.study import train_grid
from companion.studies.hydalearn_synthetic.variants import train_variant
from companion.train.method_comparison import log_difference

# Option -> what departs from the defaults; "rate" as a trial step stands for the run's own learning rate, and weights
# that are smoothed with a decay of 0.9 are averaged over some ten steps.
VARIANTS: dict[str, dict[str, Any]] = {
    "gain on another batch": {"gain_data": "other"},
    "gain on held-out rows": {"gain_data": "held out"},
    "first order": {"gain": "first_order"},
    "trial step 0.0001": {"trial_step": 1e-4},
    "trial step 0.1": {"trial_step": 0.1},
    "trial step = learning rate": {"trial_step": "rate"},
    "trial moves heads": {"trial_moves": "shared+head"},
    "negative gains kept": {"negative": "keep"},
    "weights sum to T": {"normalise": "tasks"},
    "main weight 1": {"normalise": "main"},
    "heads not scaled": {"scale_heads": False},
    "heads start equal": {"equal_heads": True},
    "weights smoothed": {"smoothing": 0.9},
    "auxiliary scale / 10": {"factor": 0.1},
    "auxiliary scale x 10": {"factor": 10.0},
}


def trainer(changes: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pd.DataFrame]:
    """The function that trains with these changes."""
    return train_variant if changes.keys() & {"equal_heads", "smoothing"} else train_grid


def ablate(
    results: Results,
    base: Mapping[str, Any],
    options: Sequence[str],
    *,
    doses: Sequence[str],
    rates: Sequence[float],
    scale: float,
    seeds: Sequence[int],
    confidence: float,
) -> pd.DataFrame:
    """Train the defaults and each option at every dose, the learning rate chosen for each by validation loss.

    Args:
        results: Where finished cells are.
        base: The configuration without dose, method, rates, scales and seeds.
        options: Names of `VARIANTS`.
        doses: Kinds of batches.
        rates: Learning rates to choose from.
        scale: Auxiliary loss scale of the defaults.
        seeds: They choose the rate and are reported: the ablation is exploratory.
        confidence: Level of the intervals.

    Returns:
        One row per option and dose: the log difference of the test loss to the defaults (mean, low, high), the chosen
        rate, and how many pairs were left out because a run failed; NaN where fewer than two pairs are left.
    """
    rows = []
    for dose in doses:
        defaults = pd.DataFrame()
        for option in ("defaults", *options):
            changes = dict(VARIANTS.get(option, {}))
            configuration = {
                **base, "dose": dose, "method": "HydaLearn", "scales": [scale * changes.pop("factor", 1.0)],
                "seeds": list(seeds), **changes,
            }  # fmt: skip
            grids: list[dict[str, Any]] = [{"rates": list(rates)}]
            if changes.get("trial_step") == "rate":
                grids = [{"rates": [rate], "trial_step": rate} for rate in rates]
            table = results.cells([{**configuration, **grid} for grid in grids], trainer(changes))
            losses = table[table["metric"] == "validation loss"].groupby("rate")["value"]
            means = losses.agg(lambda values: values.mean(skipna=False)).fillna(float("inf"))
            rate = float(str(means.idxmin()))
            runs = table[table["rate"] == rate].assign(option=option)
            if option == "defaults":
                defaults = runs
                continue
            pairs = pd.concat([runs, defaults])
            failed = int(pairs.loc[pairs["metric"] == "failed"].groupby("seed")["value"].max().sum())
            row = {"option": option, "dose": dose, "rate": rate, "failed": failed}
            if len(seeds) - failed > 1:
                row |= vars(log_difference(pairs, "option", option, "defaults", confidence)[0])
            rows.append(row)
    return pd.DataFrame(rows).reindex(columns=["option", "dose", "rate", "failed", "mean", "low", "high"])
