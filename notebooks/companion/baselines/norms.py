r"""Baselines that look at the size of the task gradients: GradNorm and the per-task RMS control."""

from collections.abc import Iterable, Mapping
from math import isfinite

import torch
from torch import Tensor, nn

from companion.baselines._common import TaskGradientWeighting, check_positive, inner_products
from mtlcore._checks import check_shared
from mtlcore.trials import LossesFn


class GradNorm(TaskGradientWeighting):
    r"""GradNorm: trains the task weights so that tasks learn at similar rates.

    .. math::
        G_i = w_i \|\nabla_W L_i\|, \quad \bar G = \frac{1}{T} \sum_j G_j, \quad
        r_i = \frac{L_i / L_i(0)}{\frac{1}{T} \sum_j L_j / L_j(0)}, \quad
        L_{grad} = \sum_i \left| G_i - \bar G\, r_i^\alpha \right|

    :math:`\partial L_{grad} / \partial w_i = \operatorname{sign}(G_i - \bar G\, r_i^\alpha)\, \|\nabla_W L_i\|`, with
    the targets :math:`\bar G\, r_i^\alpha` held constant, goes to the weights' own optimizer; then the weights are
    divided by their mean, so that they sum to T. A step uses the weights from before their change.

    - :math:`L_i, L_i(0)`: loss of task i now and on the first mini-batch (positive losses);
    - :math:`w_i`: its weight, 1 at the beginning; :math:`r_i`: its relative inverse training rate;
    - W: the parameters that the norms are taken over; :math:`\alpha`: the strength with which slow tasks are helped.

    Source: Chen et al., 2018, arXiv 1711.02257, algorithm 1. :math:`\alpha = 1.5`, Adam and its rate 0.025 are those of
    the paper's NYUv2 experiments as other implementations quote them. The paper takes the last shared layer for W, to
    save time; our default is all shared parameters, whose task gradients are at hand. Our choice: weights stay at 0 or
    more. As the weights are those of the losses, they scale the heads' gradients too.

    Args:
        model: Any module.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs).
        shared: The shared parameters. All other trainable parameters of the model count as heads.
        alpha: :math:`\alpha`, 0 or more, for R runs also [R]. Default 1.5.
        weight_lr: Learning rate of the weights' Adam. Default 0.025.
        layer: W, some of the shared parameters. None (default) stands for all of them.
    """

    scales_heads = True

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        shared: Iterable[Tensor],
        alpha: float | Tensor = 1.5,
        weight_lr: float = 0.025,
        layer: Iterable[Tensor] | None = None,
    ) -> None:
        if not (isinstance(alpha, Tensor) or (isinstance(alpha, int | float) and isfinite(alpha) and alpha >= 0)):
            raise ValueError(
                f"Parameter `alpha` should be 0 or more and finite. Found `alpha = {alpha!r}`. Pass, for example, 1.5."
            )
        check_positive("weight_lr", weight_lr, "0.025")
        super().__init__(model, losses_fn, shared)
        self.layer = self.shared if layer is None else check_shared(layer)
        strangers = sum(p not in set(self.shared) for p in self.layer)
        if strangers:
            raise ValueError(
                f"Parameter `layer` should hold trainable shared parameters. Found {strangers} that are not. Pass, for "
                "example, trunk[-1].parameters()."
            )
        self.alpha, self.weight_lr = alpha, weight_lr
        self._weights: Tensor | None = None  # [T] or [T, R]
        self._optimizer: torch.optim.Optimizer | None = None
        self._first: Tensor | None = None  # L(0), [T] or [T, R]

    def _weigh(self, losses: Tensor, rows: Mapping[Tensor, Tensor]) -> Tensor:
        if self._weights is None or self._optimizer is None or self._first is None:
            self._first, self._weights = losses, nn.Parameter(torch.ones_like(losses))
            self._optimizer = torch.optim.Adam([self._weights], lr=self.weight_lr)
        used = self._weights.detach().clone()
        layer = [rows[p] for p in self.layer]
        norms = inner_products(layer, layer, losses).sqrt()
        weighted_norms = used * norms
        progress = losses / self._first
        rates = progress / progress.mean(0)
        targets = weighted_norms.mean(0) * rates**self.alpha
        self._weights.grad = (weighted_norms - targets).sign() * norms
        self._optimizer.step()
        self._weights.clamp_(min=0)
        self._weights.div_(self._weights.mean(0))
        return used


class PerTaskRMS(TaskGradientWeighting):
    r"""The per-task RMS control: divides each task's shared gradient by one running root mean square.

    .. math::
        v_t \leftarrow \beta v_t + (1 - \beta) \frac{\|g_t\|^2}{D}, \qquad
        w_t = \frac{1}{\sqrt{v_t / (1 - \beta^s)} + \epsilon}

    - :math:`g_t`: gradient of task t with respect to all shared parameters, D numbers (per run);
    - :math:`v_t`: its running mean square, 0 before the first step; s: steps so far.

    Our design, as a control for AdaTask: any ordinary optimizer of the sum follows. It balances the scale of the tasks
    with one number each, so that a difference to AdaTask-Adam is what separate accumulators **per parameter** add.
    :math:`\beta = 0.999` and :math:`\epsilon = 10^{-8}` are Adam's. Heads follow their own task's gradient, not scaled.

    Args:
        model: Any module.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs).
        shared: The shared parameters. All other trainable parameters of the model count as heads.
        beta: :math:`\beta`, from 0 (this step alone) to below 1. Default 0.999.
        eps: :math:`\epsilon`. Default 1e-8.
    """

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        shared: Iterable[Tensor],
        beta: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        if not (isinstance(beta, int | float) and 0 <= beta < 1):
            raise ValueError(
                f"Parameter `beta` should be from 0 to below 1. Found `beta = {beta!r}`. Pass, for example, 0.999."
            )
        check_positive("eps", eps, "1e-8")
        super().__init__(model, losses_fn, shared)
        self.beta, self.eps = beta, eps
        self._mean_square: Tensor | None = None  # [T] or [T, R]
        self._steps = 0

    def _weigh(self, losses: Tensor, rows: Mapping[Tensor, Tensor]) -> Tensor:
        num_runs = losses.shape[1] if losses.ndim == 2 else 1
        size = sum(p.numel() for p in self.shared) // num_runs
        new = inner_products(rows.values(), rows.values(), losses) / size
        old = torch.zeros_like(new) if self._mean_square is None else self._mean_square
        self._mean_square = self.beta * old + (1 - self.beta) * new
        self._steps += 1
        return 1 / ((self._mean_square / (1 - self.beta**self._steps)).sqrt() + self.eps)
