"""What a gradient scaler's calls and those by task do not fit in: told before anything changes, or right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from loops import ADATASK, OPTIONS, Net, snapshot
from torch import nn

from mtlcore import HydaLearn, task_backward, unscale_task_grad_

NUMBERS = {"lr": 0.02, "weight_decay": 0.1}
T = 2


def unscaled_and_clipped(model: Net, optimizer: Any, scaler: torch.amp.GradScaler) -> None:
    scaler.unscale_(optimizer)
    unscale_task_grad_(scaler, model.trunk)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)


Scaler = torch.amp.GradScaler
TOLD: dict[str, tuple[Callable[[Net, Any, Scaler], Any], Callable[[Net, Any, Scaler], Any], str]] = {
    "unscaled by the scaler alone": (
        lambda m, o, s: s.unscale_(o),
        lambda m, o, s: s.step(o),
        r"Call `unscale_task_grad_\(scaler, shared\)` beside it",
    ),
    "unscaled twice": (
        lambda m, o, s: unscale_task_grad_(s, m.trunk),
        lambda m, o, s: unscale_task_grad_(s, m.trunk),
        "once in a step, after the last micro-batch",
    ),
    "unscaled before a micro-batch": (
        lambda m, o, s: unscale_task_grad_(s, m.trunk),
        lambda m, o, s: task_backward([s.scale(loss) for loss in m.every(1)], m.trunk),
        "`unscale_task_grad_` after the last micro-batch",
    ),
    "HydaLearn's beside scaled ones": (
        lambda m, o, s: None,
        lambda m, o, s: HydaLearn(m, lambda m, at: m.every(at), m.trunk).backward(1, scaler=s),
        "Pass the scaler to each `HydaLearn.backward`",
    ),
    "changed before the scaler": (
        lambda m, o, s: nn.utils.clip_grad_norm_(m.parameters(), 0.1),
        lambda m, o, s: s.step(o),
        "Clip with `clip_task_grad_norm_`",
    ),
    "clipped after the scaler": (
        unscaled_and_clipped,
        lambda m, o, s: s.step(o),
        "Clip with `clip_task_grad_norm_`",
    ),
}


@pytest.mark.parametrize("case", TOLD)
@pytest.mark.parametrize("rule", ADATASK)
def test_scales_that_do_not_fit_are_told_and_change_nothing(rule: str, case: str) -> None:
    first, then, remedy = TOLD[case]
    model, scaler = Net(T), torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = ADATASK[rule](model.parameters(), num_tasks=T, **NUMBERS, **OPTIONS[rule])
    for seed in range(2):
        optimizer.zero_grad()
        task_backward([scaler.scale(loss) for loss in model.every(seed)], model.trunk)
        if seed == 0:
            scaler.step(optimizer)
            scaler.update()
    first(model, optimizer, scaler)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=rf"should [\s\S]*Found [\s\S]*{remedy}"):
        then(model, optimizer, scaler)
    assert snapshot(model, optimizer) == before
