r"""Each task's share of the squared updates or gradients: summaries, histograms, and what Adam allows."""

import torch
from torch import Tensor

THRESHOLD = 0.9  # a parameter is dominated when one task has more than this share: our choice, as in `Dominance`
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_BINS = 21  # odd, so that 1/2, which is common, is no edge between two bins


def share(accumulated: Tensor) -> Tensor:
    """Divide `[T, ...]` by its sum over tasks; NaN where that is 0, at the parameters of dead units."""
    return accumulated / accumulated.sum(0)


def summary(relative: Tensor) -> dict[str, Tensor]:
    """Summarise shares `[T, R, n]` of n parameters, dead ones left out.

    Returns:
        `[R]` each: the share of parameters that one task dominates, the mean over parameters of the share of the
        task that is least served there, and the mean share of the last task.
    """
    live = relative.isfinite().all(0)  # [R, n]
    count = live.sum(-1)
    known = torch.where(live, relative, 0.0)
    return {
        "dominated": (known.amax(0) > THRESHOLD).sum(-1) / count,
        "least served": known.amin(0).sum(-1) / count,
        "last task": known[-1].sum(-1) / count,
    }


def adam_share(mean: Tensor, square: Tensor, decay: float, beta1: float = 0.9) -> Tensor:
    r"""Predict the tasks' shares of AU under AdaTask-Adam from the signal-to-noise ratio of their gradients.

    A gradient with mean :math:`\mu` and independent noise of variance :math:`\sigma^2` has a first moment of expected
    square :math:`\mu^2 + c\sigma^2` with :math:`c = (1-\beta_1)/(1+\beta_1)`, over a second moment
    :math:`\mu^2 + \sigma^2`. With :math:`s = \mu^2/\sigma^2` a squared update is therefore

    .. math:: E[u^2] = \frac{s + c}{s + 1} \in [c, 1] :

    between two tasks the share of AU stays within :math:`[c/(1+c), 1/(1+c)]`, and is 1/2 where both have the same s.
    Derived here, for stationary gradients.

    Args:
        mean: Decaying average of the gradients, `[T, ...]`.
        square: The same average of their squares.
        decay: Of both averages.
        beta1: Of Adam.
    """
    left = (1 - decay) / (1 + decay)  # the part of the noise's variance that is left in the average
    signal = torch.minimum(((mean.square() - left * square) / (1 - left)).clamp(min=0), square)  # mu^2
    c = (1 - beta1) / (1 + beta1)
    return share((signal + c * (square - signal)) / square)


def histogram(relative: Tensor) -> Tensor:
    """Share of live parameters in each of `NUM_BINS` equal bins of [0, 1], `[bins, R]`, from shares `[R, n]`."""
    inside = _inside(relative)
    return inside.sum(-1) / inside.sum((0, -1))


def by_prediction(measured: Tensor, predicted: Tensor) -> Tensor:
    """Mean of measured shares `[R, n]` in bins of the predicted ones, `[bins, R]`; NaN where a bin is empty."""
    inside = _inside(predicted) & measured.isfinite()
    return (inside * measured.nan_to_num()).sum(-1) / inside.sum(-1)


def _inside(relative: Tensor) -> Tensor:
    """Which bin each of `[R, n]` is in, `[bins, R, n]`; NaN is in none."""
    number = (relative.nan_to_num(-1.0) * NUM_BINS).floor().clamp(max=NUM_BINS - 1)
    return number == torch.arange(NUM_BINS, device=number.device)[:, None, None]
