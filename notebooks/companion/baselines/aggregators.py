"""Gradient methods by TorchJD's aggregators, run by run.

They branch on values and solve small problems on the host, so they take one run at a time and wait for the device:
they are here for the quality of what they train. Their time is that of a loop over runs, and says little about the
methods themselves.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from companion.baselines._common import TaskGradientWeighting, check_count
from mtlcore._checks import check_option
from mtlcore.trials import LossesFn

# Name in the literature -> the aggregator of T tasks. Where a knob is named, TorchJD has no default.
_MAKERS: dict[str, Callable[..., Any]] = {
    "PCGrad": lambda torchjd, _: torchjd.PCGrad(),  # Yu et al. 2020
    "CAGrad": lambda torchjd, _: torchjd.CAGrad(c=0.5),  # Liu et al. 2021; c = 0.5 is LibMTL's
    "MGDA": lambda torchjd, _: torchjd.MGDA(),  # Désidéri 2012, Sener and Koltun 2018
    "IMTL-G": lambda torchjd, _: torchjd.IMTLG(),  # Liu et al. 2021
    "Aligned-MTL": lambda torchjd, _: torchjd.AlignedMTL(),  # Senushkin et al. 2023
    "Nash-MTL": lambda torchjd, tasks: torchjd.NashMTL(n_tasks=tasks),  # Navon et al. 2022
    "PCD": lambda torchjd, _, **knobs: torchjd.PCD(**knobs),  # arXiv 2606.29521; the first task is the main one
}
AGGREGATORS = tuple(_MAKERS)


def make_aggregator(name: str, num_tasks: int, **knobs: float) -> Any:
    """Returns TorchJD's aggregator of that name, one of ``AGGREGATORS``, with TorchJD's defaults but for the knobs.

    Raises:
        ValueError: If there is none of that name.
        ImportError: If TorchJD or the method's solver is not installed.
    """
    check_option("name", name, AGGREGATORS)
    check_count("num_tasks", num_tasks, "2")
    return _MAKERS[name](import_module("torchjd.aggregation"), num_tasks, **knobs)


def not_run(name: str) -> str | None:
    """Returns why a method of ``AGGREGATORS`` cannot run here, in a sentence to print, or None where it can.

    Example:
        >>> not_run("no such method")
        Traceback (most recent call last):
        ...
        ValueError: Parameter `name` should be one of 'PCGrad', 'CAGrad', 'MGDA', 'IMTL-G', 'Aligned-MTL', 'Nash-MTL', \
'PCD'. Found `name = 'no such method'`. Pass one of them.
    """
    try:
        make_aggregator(name, 2)
    except ModuleNotFoundError as error:
        return f"not run: {name} is TorchJD's, and {error.name} is not installed. Install it with: pip install torchjd"
    except ImportError as error:
        return f"not run: {error}"
    return None


class TorchJDWeighting(TaskGradientWeighting):
    r"""Weights task gradients as an aggregator of TorchJD does: the shared gradient is :math:`\sum_t w_t g_t`.

    Every run has an aggregator of its own, which sees that run's Jacobian [T, D] of the shared parameters. Heads follow
    their own task's gradient, not scaled, as in TorchJD. A run with a non-finite gradient gets NaN weights, which
    mark it as failed without stopping the others.

    Unlike the other baselines this waits for the device at every step. PCGrad projects in random order from torch's
    global generator: with three tasks or more a run depends on the others beside it.

    Args:
        model: Any module.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs).
        shared: The shared parameters. All other trainable parameters of the model count as heads.
        make: Makes the aggregator of the next run, a ``torchjd.aggregation.WeightedAggregator``: one that says its
            weights.

    Example:
        >>> from functools import partial
        >>> make = partial(make_aggregator, "PCGrad", num_tasks=2)  # TorchJDWeighting(model, losses_fn, shared, make)
    """

    def __init__(
        self, model: nn.Module, losses_fn: LossesFn, shared: Iterable[Tensor], make: Callable[[], Any]
    ) -> None:
        super().__init__(model, losses_fn, shared)
        first = make()
        if not isinstance(first, import_module("torchjd.aggregation").WeightedAggregator):
            raise ValueError(
                f"Parameter `make` should make an aggregator that weights the tasks. Found {type(first).__name__}. "
                "Pass, for example, torchjd.aggregation.PCGrad."
            )
        self._make, self._aggregators = make, [first]

    def _weigh(self, losses: Tensor, rows: Mapping[Tensor, Tensor]) -> Tensor:
        num_tasks, num_runs = len(losses), losses.shape[1] if losses.ndim == 2 else 1
        jacobians = torch.cat([g.reshape(num_tasks, num_runs, -1) for g in rows.values()], dim=2)  # [T, R, D]
        self._aggregators += [self._make() for _ in range(num_runs - len(self._aggregators))]
        weights = [_weights(a, jacobian) for a, jacobian in zip(self._aggregators, jacobians.unbind(1), strict=True)]
        return torch.stack(weights, dim=1).reshape(losses.shape)


def _weights(aggregator: Any, jacobian: Tensor) -> Tensor:
    """Returns the aggregator's weights [T] of a Jacobian [T, D]; NaN where that is not finite (solvers would raise)."""
    if not jacobian.isfinite().all():
        return torch.full_like(jacobian[:, 0], torch.nan)
    with warnings.catch_warnings():
        # cvxpy warns that Nash-MTL's problem, as TorchJD states it, is compiled anew at each call. That costs time
        # (see above) and changes no weight. Every other warning of a solver still comes through.
        warnings.filterwarnings("ignore", "You are solving a parameterized problem that is not DPP", UserWarning)
        weights: Tensor = aggregator.weighting(jacobian)
    return weights
