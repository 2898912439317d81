r"""Baselines for one main task with auxiliary tasks: they ask which auxiliary gradient points the main task's way."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from companion.baselines._common import TaskGradientWeighting, check_count, check_positive, inner_products
from mtlcore._checks import check_option
from mtlcore.trials import LossesFn


class CosineGate(TaskGradientWeighting):
    r"""Gates each auxiliary gradient by its cosine with the main gradient.

    .. math::
        \cos_i = \frac{\langle g_m, g_i \rangle}{\|g_m\| \|g_i\|}, \qquad
        w_i = \max(0, \cos_i) \;\text{("weighted")}, \qquad
        w_i = \mathbb{1}[\cos_i > 0] \;\text{("unweighted")}, \qquad w_m = 1

    - :math:`g_m, g_i`: gradients of the main and of the i-th auxiliary loss with respect to all shared parameters
      together, on the same mini-batch;
    - :math:`w_m, w_i`: their weights in the gradient of the shared parameters.

    Source: Du et al., 2018, arXiv 1812.02224, where there is one auxiliary task. Our choice: several are gated one by
    one; where a gradient is zero or not finite the gate is closed; heads follow their own task's gradient, not scaled.
    At equal norms of the gradients these are HydaLearn's first-order weights up to normalisation.

    Args:
        model: Any module.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs).
        shared: The shared parameters. All other trainable parameters of the model count as heads.
        main_task: Index of the main task. Default 0.
        gate: "weighted" (default) or "unweighted".

    Example:
        >>> trunk, heads = torch.nn.Linear(2, 3), torch.nn.ModuleList([torch.nn.Linear(3, 1) for _ in range(2)])
        >>> model = torch.nn.ModuleList([trunk, heads])
        >>> def losses_fn(model, batch):
        ...     return [head(model[0](batch)).square().mean() for head in model[1]]
        >>> step = CosineGate(model, losses_fn, trunk.parameters()).backward(torch.ones(4, 2))
        >>> float(step.weights[0]), trunk.weight.task_grad.shape
        (1.0, torch.Size([2, 3, 2]))
    """

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        shared: Iterable[Tensor],
        main_task: int = 0,
        gate: str = "weighted",
    ) -> None:
        check_option("gate", gate, ("weighted", "unweighted"))
        super().__init__(model, losses_fn, shared, main_task)
        self.gate = gate

    def _weigh(self, losses: Tensor, rows: Mapping[Tensor, Tensor]) -> Tensor:
        norms = inner_products(rows.values(), rows.values(), losses).sqrt()
        products = norms * norms[self.main_task]
        inner = _with_main(rows, self.main_task, losses)
        cosines = torch.where((products > 0) & inner.isfinite(), inner / products, 0)  # the comparison is False for NaN
        weights = cosines.clamp(min=0) if self.gate == "weighted" else (cosines > 0).to(losses.dtype)
        weights[self.main_task] = 1
        return weights


class OLAux(TaskGradientWeighting):
    r"""OL-AUX: moves each auxiliary weight along the inner product of the main and the auxiliary gradient.

    .. math:: w_i \leftarrow w_i + \beta \sum_{j=0}^{N-1} \langle g_m^{(s+j)}, g_i^{(s+j)} \rangle, \qquad w_m = 1

    - :math:`g_m^{(s)}, g_i^{(s)}`: gradients at step s of the main and of the i-th auxiliary loss with respect to the
      shared parameters, on the same mini-batch;
    - N: steps between two changes of the weights; the changed weight counts from the next step on;
    - :math:`\beta`: step size of the weights. In the paper's derivation it carries the learning rate of the
      parameters as a factor, for the sum is the first-order descent of the main loss in the direction of w.

    Source: Lin et al., NeurIPS 2019 (Adaptive Auxiliary Task Weighting for Reinforcement Learning), as independent
    implementations have it, N = 5 among them; the full text was not at hand. Weights begin at 1 and may become
    negative. Our choice: :math:`\beta = 0.1`, to be tuned (it has the inverse units of a squared gradient), and heads
    follow their own task's gradient, not scaled: a negative weight would drive a head away from its targets for ever.

    Args:
        model: Any module.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs).
        shared: The shared parameters. All other trainable parameters of the model count as heads.
        main_task: Index of the main task. Default 0.
        weight_lr: :math:`\beta`, for R runs also [R]. Default 0.1.
        every: N. Default 5.
    """

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        shared: Iterable[Tensor],
        main_task: int = 0,
        weight_lr: float | Tensor = 0.1,
        every: int = 5,
    ) -> None:
        check_positive("weight_lr", weight_lr, "0.1")
        check_count("every", every, "5")
        super().__init__(model, losses_fn, shared, main_task)
        self.weight_lr, self.every = weight_lr, every
        self._weights: Tensor | None = None  # [T] or [T, R], as all below
        self._sum: Tensor | None = None
        self._steps = 0

    def _weigh(self, losses: Tensor, rows: Mapping[Tensor, Tensor]) -> Tensor:
        used = torch.ones_like(losses) if self._weights is None else self._weights
        inner = _with_main(rows, self.main_task, losses)
        inner[self.main_task] = 0
        self._sum = inner if self._sum is None else self._sum + inner
        self._weights = used
        self._steps += 1
        if self._steps % self.every == 0:
            self._weights, self._sum = used + self.weight_lr * self._sum, None
        return used


def _with_main(rows: Mapping[Tensor, Tensor], main_task: int, losses: Tensor) -> Tensor:
    """Returns the inner product of every task's gradient with the main one, [T] or [T, R]."""
    return inner_products(rows.values(), [g[main_task : main_task + 1] for g in rows.values()], losses)
