"""The baselines by the names that tables and figures call them."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from companion.baselines._common import Step
from companion.baselines.aggregators import AGGREGATORS, TorchJDWeighting, make_aggregator
from companion.baselines.auxiliary import CosineGate, OLAux
from companion.baselines.loss_weights import DWA, UncertaintyWeighting
from companion.baselines.norms import GradNorm, PerTaskRMS
from companion.baselines.sample_weights import SLGrad
from mtlcore._checks import check_option
from mtlcore.trials import LossesFn


class Baseline(Protocol):
    """Adds the weighted gradient of a mini-batch to ``p.grad``."""

    def backward(self, batch: Any) -> Step:
        """Adds to ``p.grad`` and says with which weights."""
        ...


# Those of the project's own code train many runs at once; TorchJD's aggregators go from run to run.
BATCHED = (
    "uncertainty weighting",
    "DWA",
    "GradNorm",
    "cosine gate",
    "OL-AUX",
    "per-task RMS",
    "SLGrad",
)
BASELINES = BATCHED + AGGREGATORS


def make_baseline(
    name: str,
    model: nn.Module,
    losses_fn: LossesFn,
    shared: Iterable[Tensor],
    *,
    kinds: Sequence[str],
    steps_per_epoch: int,
    **knobs: Any,
) -> Baseline:
    """Returns the baseline of that name, one of ``BASELINES``.

    Args:
        name: Its name.
        model: Any module; a stack of R models has ``num_runs``.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs).
        shared: The shared parameters.
        kinds: For each task "regression" or "classification".
        steps_per_epoch: Mini-batches of an epoch.
        knobs: What the baseline's class, or TorchJD's, takes besides; of the latter numbers [R], one per run.

    Raises:
        ValueError: If there is none of that name.
        ImportError: If TorchJD or the method's solver is not installed; ask ``not_run`` before.
    """
    check_option("name", name, BASELINES)
    if name in AGGREGATORS:
        per_run = zip(*(values.tolist() for values in knobs.values()), strict=True)

        def make() -> Any:
            return make_aggregator(name, len(kinds), **dict(zip(knobs, next(per_run, ()), strict=True)))

        return TorchJDWeighting(model, losses_fn, shared, make)
    own: dict[str, Callable[..., Baseline]] = {
        "uncertainty weighting": lambda **k: UncertaintyWeighting(
            model, losses_fn, kinds, getattr(model, "num_runs", None), **k
        ),
        "DWA": partial(DWA, model, losses_fn, steps_per_epoch),
        "GradNorm": partial(GradNorm, model, losses_fn, shared),
        "cosine gate": partial(CosineGate, model, losses_fn, shared),
        "OL-AUX": partial(OLAux, model, losses_fn, shared),
        "per-task RMS": partial(PerTaskRMS, model, losses_fn, shared),
        "SLGrad": partial(SLGrad, model, losses_fn, shared),
    }
    return own[name](**knobs)


def trained_parameters(model: nn.Module, weighting: Any) -> list[nn.Parameter]:
    """Returns what the optimizer should train: the model's parameters, and the weighting's where it has some."""
    own: list[nn.Parameter] = weighting.parameters() if hasattr(weighting, "parameters") else []
    return [*model.parameters(), *own]
