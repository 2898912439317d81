r"""What becomes of a weight in front of AdaTask: a constant one is erased, a fluctuating one leaves a trace.

Elich et al. (`arXiv:2311.04698 <https://arxiv.org/abs/2311.04698>`_, Fig. A2) state and plot the first; the second is
derived here. With :math:`c\,g` in place of :math:`g`, first moments are multiplied by c and second ones by c squared,
in Adam, RMSprop and Adagrad alike, so that

.. math:: u[c\,g] = \frac{c\,m}{\sqrt{c^2 G} + \epsilon} = \frac{m}{\sqrt G + \epsilon / c} .

For weights that vary, the mean update of stationary gradients, whose accumulator is long beside their changes, is

.. math:: E\,u[w g] \approx \frac{E[w g]}{\sqrt{E[w^2 g^2]}} ,

in which a constant factor of w cancels. Where w does not depend on g and has coefficient of variation v, this is
:math:`1 / \sqrt{1 + v^2}` times the mean update without weights; for a gate that is open with probability q,
:math:`\sqrt q`. Weights on the updates keep their level: E[w u[g]] = E[w] E[u[g]] where they do not depend on g.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from companion.train.optimizers import make_optimizer

KINDS = ("gamma", "gate")


def draw_weights(kind: str, variation: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw independent weights of mean 1 and a coefficient of variation, in float64.

    Args:
        kind: "gamma", or "gate", which is open (a positive number) or shut (0).
        variation: Standard deviation over mean; 0 gives ones.
        shape: Of the result.
        generator: Draws.
    """
    if variation == 0:
        return torch.ones(shape, dtype=torch.float64)
    if kind == "gate":
        often = 1 / (1 + variation**2)
        return (torch.rand(shape, generator=generator, dtype=torch.float64) < often) / often
    concentration = torch.full(shape, variation**-2, dtype=torch.float64)
    return torch._standard_gamma(concentration, generator=generator) / concentration


def mean_update(weights: Tensor, grads: Tensor) -> Tensor:
    """Predict the mean update of weighted gradients, E[wg] / sqrt(E[(wg)^2]), over the first dimension."""
    product = weights * grads
    return product.mean(0) / product.square().mean(0).sqrt()


def simulate(optimizer: str, weights: Tensor, grads: Tensor) -> Tensor:
    """Run AdaTask with one task over weighted gradients `[steps, *shape]`, and give the distance moved `[*shape]`.

    With a learning rate of 1, and of 1 in Adagrad too, whose steps shrink: compare distances, not their levels.
    """
    rows = weights * grads
    p = torch.nn.Parameter(torch.zeros_like(rows[0]))
    stepper = make_optimizer(optimizer, [p], num_tasks=1)
    for row in rows:
        p.task_grad = row[None]  # type: ignore[attr-defined]
        stepper.step()
    return -p.detach()


def fluctuation(c: Mapping[str, Any]) -> pd.DataFrame:
    """Measure by how much weights that fluctuate slow the mean update, at two levels of the weights.

    Args:
        c: `optimizers`, `variations`, `levels`, `steps`, `copies` (independent streams), `signal` (mean of the
            gradient, its standard deviation being 1) and `seed`.

    Returns:
        One row per optimizer, kind, level and variation: `ratio` of the distance moved to that without weights, and
        what is `predicted`, 1 / sqrt(1 + v^2).
    """
    generator = torch.Generator().manual_seed(c["seed"])
    grads = c["signal"] + torch.randn(c["steps"], c["copies"], generator=generator, dtype=torch.float64)
    cases = [(kind, v) for kind in KINDS for v in c["variations"]]
    weights = torch.stack([draw_weights(kind, v, tuple(grads.shape), generator) for kind, v in cases], dim=1)
    rows = []
    for name in c["optimizers"]:
        plain = simulate(name, torch.ones(1, dtype=torch.float64), grads).mean()
        for level in c["levels"]:
            moved = simulate(name, level * weights, grads[:, None]).mean(-1)  # [cases]
            for (kind, v), distance in zip(cases, moved, strict=True):
                row = {"optimizer": name, "kind": kind, "level": level, "variation": v}
                rows.append({**row, "ratio": float(distance / plain), "predicted": (1 + v**2) ** -0.5})
    return pd.DataFrame(rows)
