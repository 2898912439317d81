"""CPU seconds of a training step, beside `study.cost_per_step`, which counts its gradients and operations."""

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from companion.studies.composed.problems import prepare
from companion.studies.composed.variants import make_variant
from companion.train.losses import ScaledLosses
from companion.train.runs import train_step


def seconds_per_step(c: Mapping[str, Any]) -> pd.DataFrame:
    """Measure the processor time of one training step of all `c["seeds"]` together, weights and update included.

    Processor time, not time on the wall, so that other programs disturb it little; the median over the steps.

    Args:
        c: As `study.train_grid`'s, with `methods` and with `timed_steps`, how many steps are measured of each method
            after one that is not.

    Returns:
        Tidy rows by method; the number of steps as value, the seconds of one as its cost.
    """
    found: list[dict[str, Any]] = []
    for method in c["methods"]:
        problem = prepare(c, c["seeds"])
        scales = problem.loss_scales([1.0] * len(c["seeds"]), c["gap"])
        weighting, optimizer = make_variant(method, problem, ScaledLosses(problem.losses_fn, scales), scales)
        rates = problem.per_run([1e-3] * len(c["seeds"]))
        rows = torch.arange(problem.batch_size, device=rates.device).expand(len(rates), -1)
        times = []
        for _ in range(c["timed_steps"] + 1):
            begin = time.process_time()
            train_step(weighting, optimizer, problem.train.batch(rows), rates)
            times.append(time.process_time() - begin)
        seconds = sorted(times[1:])[c["timed_steps"] // 2]
        found.append({"method": method, "metric": "timed steps", "value": c["timed_steps"], "seconds": seconds})
    return pd.DataFrame(found)
