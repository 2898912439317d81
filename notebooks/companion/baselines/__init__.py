"""Task weightings to compare with: the usual baselines, for one run and for many at once.

Each is an object with ``backward(batch) -> Step(losses, weights)`` that adds to ``p.grad``; any optimizer follows. Own
code is here only where TorchJD has none or cannot take many runs; the gradient methods are TorchJD's.
"""

from companion.baselines._common import Step
from companion.baselines.aggregators import AGGREGATORS, TorchJDWeighting, make_aggregator, not_run
from companion.baselines.auxiliary import CosineGate, OLAux
from companion.baselines.loss_weights import DWA, UncertaintyWeighting
from companion.baselines.norms import GradNorm, PerTaskRMS
from companion.baselines.registry import BASELINES, BATCHED, make_baseline, trained_parameters
from companion.baselines.sample_weights import SLGrad

__all__ = [
    "AGGREGATORS",
    "BASELINES",
    "BATCHED",
    "DWA",
    "CosineGate",
    "GradNorm",
    "OLAux",
    "PerTaskRMS",
    "SLGrad",
    "Step",
    "TorchJDWeighting",
    "UncertaintyWeighting",
    "make_aggregator",
    "make_baseline",
    "not_run",
    "trained_parameters",
]
