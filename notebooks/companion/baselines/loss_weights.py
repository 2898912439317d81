r"""Baselines that weight the losses without a look at their gradients: uncertainty weighting and DWA.

One backward pass of the weighted sum is enough for them. Given ``shared``, they make one per task and fill
``p.task_grad``, for ``Dominance`` or an AdaTask optimizer to read; the gradients are the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from companion.baselines._common import Step, all_losses, check_count, check_positive
from mtlcore._checks import check_option
from mtlcore.batch_gradients import Gradients, trainable
from mtlcore.trials import LossesFn


class LossWeighting(ABC):
    """A weighting that needs the losses only; subclasses say how."""

    def __init__(self, model: nn.Module, losses_fn: LossesFn, shared: Iterable[Tensor] | None = None) -> None:
        self.model, self.losses_fn = model, losses_fn
        self._shared = None if shared is None else trainable(shared)

    def backward(self, batch: Any) -> Step:
        """Adds the gradient of the weighted sum of losses to ``p.grad``.

        Args:
            batch: What ``losses_fn`` takes.

        Raises:
            ValueError: If ``losses_fn`` returns something else than T losses with a graph.
        """
        losses = all_losses(self.losses_fn(self.model, batch))
        values = torch.stack([loss.detach() for loss in losses])  # [T] or [T, R]
        if self._shared is None:
            weights = self._weigh(values)
            torch.autograd.backward((weights * torch.stack(losses)).sum())
        else:
            gradients = Gradients.of(losses, self._shared, self.model)
            weights = self._weigh(values)
            gradients.add_to_parameters(weights, scales_heads=True)
        return Step(values, weights)

    @abstractmethod
    def _weigh(self, losses: Tensor) -> Tensor:
        """Returns the weights [T] or [T, R] of losses of that shape."""


class UncertaintyWeighting(LossWeighting):
    r"""Weights losses by learned uncertainties of the tasks.

    .. math::
        \sum_t \left( c_t e^{-s_t} L_t + \tfrac{1}{2} s_t \right), \qquad w_t = c_t e^{-s_t}, \qquad
        c_t = \tfrac{1}{2} \;\text{("regression")}, \quad 1 \;\text{("classification")}

    - :math:`L_t`: loss of task t, a mean squared error or a cross-entropy;
    - :math:`s_t = \log \sigma_t^2`: its log-variance, 0 at the beginning, learned;
    - :math:`c_t`: the factor that a Gaussian and a softmax likelihood get.

    Source: Kendall et al., CVPR 2018 (arXiv 1705.07115): the two kinds of likelihood, the log-variance for stability,
    and that it is trained with the network. So **the user's optimizer trains the log-variances**: pass it
    :meth:`parameters` beside the model's. The beginning at 0 is that of TorchJD's ``UW``, which is the all-regression
    case (its log-variances are one per value too; it has no classification).

    Args:
        model: Any module.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs).
        kinds: For each task "regression" or "classification".
        num_runs: R where the model stacks runs, None (default) for one run.
        shared: None (default), or the shared parameters: then one backward pass per task fills ``p.task_grad``.

    Attributes:
        log_variances: The parameter s, [T], or [R, T] for R runs.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> weighting = UncertaintyWeighting(
        ...     model, lambda model, x: model(x).square().mean(0).unbind(), ["regression", "classification"]
        ... )
        >>> optimizer = torch.optim.Adam([*model.parameters(), *weighting.parameters()])
        >>> weighting.backward(torch.ones(4, 2)).weights
        tensor([0.5000, 1.0000])
        >>> optimizer.step()
    """

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        kinds: Sequence[str],
        num_runs: int | None = None,
        shared: Iterable[Tensor] | None = None,
    ) -> None:
        for kind in kinds:
            check_option("kinds", kind, ("regression", "classification"))
        super().__init__(model, losses_fn, shared)
        like = next(model.parameters())
        factors = [0.5 if kind == "regression" else 1.0 for kind in kinds]
        shape = (len(factors),) if num_runs is None else (num_runs, len(factors))
        self._factors = torch.tensor(factors, dtype=like.dtype, device=like.device).expand(shape)
        self.log_variances = nn.Parameter(torch.zeros(shape, dtype=like.dtype, device=like.device))

    def parameters(self) -> list[nn.Parameter]:
        """Returns what the optimizer should train beside the model."""
        return [self.log_variances]

    @torch.no_grad()
    def _weigh(self, losses: Tensor) -> Tensor:
        expected = self.log_variances.movedim(-1, 0).shape
        if losses.shape != expected:
            raise ValueError(
                f"Parameter `kinds` should name one kind per task, and `num_runs` be their number of runs. Found "
                f"{list(expected)} of them and losses {list(losses.shape)}. Pass as many as `losses_fn` returns."
            )
        weights = (self._factors * (-self.log_variances).exp()).movedim(-1, 0)  # [T] or [T, R]
        grad = (0.5 - weights * losses).movedim(0, -1)  # of the objective above
        self.log_variances.grad = grad if self.log_variances.grad is None else self.log_variances.grad.add_(grad)
        return weights


class DWA(LossWeighting):
    r"""Dynamic Weight Average: more weight for tasks whose loss fell less in the epoch before.

    .. math::
        w_t(e) = \frac{T \exp(\lambda_t(e - 1) / \tau)}{\sum_j \exp(\lambda_j(e - 1) / \tau)}, \qquad
        \lambda_t(e - 1) = \frac{\bar L_t(e - 1)}{\bar L_t(e - 2)}

    - :math:`\bar L_t(e)`: training loss of task t, averaged over epoch e;
    - :math:`\lambda_t`: its rate of descent; :math:`\tau`: temperature, large values make weights equal;
    - T: number of tasks, which the weights sum to. In the first two epochs all weights are 1.

    Source: Liu et al., CVPR 2019 (arXiv 1803.10704), with :math:`\tau = 2`. TorchJD's ``DWA`` is the same for one run;
    it normalises over all values together, so it cannot take many runs.

    Args:
        model: Any module.
        losses_fn: ``losses_fn(model, batch)`` returns T losses, each a scalar (or [R] for R runs).
        steps_per_epoch: Calls of ``backward`` that make an epoch.
        temperature: :math:`\tau`. Default 2.
        shared: None (default), or the shared parameters: then one backward pass per task fills ``p.task_grad``.
    """

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        steps_per_epoch: int,
        temperature: float = 2.0,
        shared: Iterable[Tensor] | None = None,
    ) -> None:
        check_count("steps_per_epoch", steps_per_epoch, "the number of mini-batches")
        check_positive("temperature", temperature, "2.0")
        super().__init__(model, losses_fn, shared)
        self.steps_per_epoch, self.temperature = steps_per_epoch, temperature
        self._averages: list[Tensor] = []  # of the last two epochs, [T] or [T, R]
        self._losses: list[Tensor] = []  # of this epoch

    def _weigh(self, losses: Tensor) -> Tensor:
        if len(self._losses) == self.steps_per_epoch:
            self._averages = [*self._averages, torch.stack(self._losses).mean(0)][-2:]
            self._losses = []
        self._losses.append(losses)
        if len(self._averages) < 2:
            return torch.ones_like(losses)
        before, last = self._averages
        return len(losses) * torch.softmax(last / before / self.temperature, dim=0)
