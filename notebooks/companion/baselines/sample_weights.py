r"""SLGrad: a weight for every row of the mini-batch and every task, from the main gradient on validation rows."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from companion.baselines._common import Step
from mtlcore._checks import check_main_task
from mtlcore.batch_gradients import check_members, trainable
from mtlcore.trials import LossesFn


class SLGrad:
    r"""Weights each row of each task by how far its gradient goes along the main gradient on validation rows.

    .. math::
        w_{t,i} = \frac{\max(0, \langle g_{val}, g_{t,i} \rangle)}{\sum_{s,j} \max(0, \langle g_{val}, g_{s,j} \rangle)}

    - :math:`g_{val}`: gradient of the main task's loss on validation rows with respect to the shared parameters;
    - :math:`g_{t,i}`: the same of task t's loss on row i of the mini-batch;
    - :math:`w_{t,i}`: weight of that loss in the sum that is trained on, heads included.

    Source: arXiv 2306.04519, from the group of HydaLearn; **our reading** of its rule, for its
    released code is no reference. Our choice: gradients of the shared parameters alone, as HydaLearn's gains; where no
    inner product is positive, the main task's rows count equally; rows without a label (NaN) count nothing.

    The inner products are derivatives of the rows' losses along :math:`g_{val}`, which two backward passes give for all
    rows at once: no gradient of a row is ever formed.

    Args:
        model: ``model(x)`` returns T outputs, each [B] (or [R, B] for R runs), one number per row.
        losses_fn: ``losses_fn(model, (x, y))`` with y [T, B] (or [T, R, B]) returns T losses, each a mean over the rows
            that have a label of losses of that row's output alone.
        shared: The shared parameters.
        draw: Gives the validation rows of the next step. They are labels that training must not use: charge for them.
        main_task: Index of the main task. Default 0.
    """

    def __init__(
        self,
        model: nn.Module,
        losses_fn: LossesFn,
        shared: Iterable[Tensor],
        draw: Callable[[], Any],
        main_task: int = 0,
    ) -> None:
        check_main_task(main_task)
        self.model, self.losses_fn, self.draw, self.main_task = model, losses_fn, draw, main_task
        self.shared = trainable(shared)
        check_members(model, self.shared)

    def backward(self, batch: tuple[Tensor, Tensor]) -> Step:
        """Adds the gradient of the weighted sum of the rows' losses to ``p.grad``; its weights are sums over rows."""
        main_loss = self.losses_fn(self.model, self.draw())[self.main_task]
        assert main_loss is not None
        direction = torch.autograd.grad(main_loss.sum(), self.shared)
        outputs = torch.stack(list(self.model(batch[0])))  # [T, B] or [T, R, B], as all below
        values, slopes = self._losses_of(outputs, batch)
        gains = (slopes * self._outputs_along(direction, outputs)).clamp(min=0)
        main = torch.zeros_like(gains)
        main[self.main_task] = 1 / gains.shape[-1]
        total = gains.sum((0, -1), keepdim=True)
        weights = torch.where(total > 0, gains / total, main)
        torch.autograd.backward(outputs, weights * slopes)
        return Step(values, weights.sum(-1))

    def _outputs_along(self, direction: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        """Returns the derivative of the outputs along a direction in the space of the shared parameters.

        The gradient of u . outputs is linear in u; what its inner product with the direction has for a slope in u is
        the derivative.
        """
        u = torch.zeros_like(outputs, requires_grad=True)
        gradients = torch.autograd.grad(outputs, self.shared, u, create_graph=True)
        inner = torch.stack([(g * d).sum() for g, d in zip(gradients, direction, strict=True)]).sum()
        (derivative,) = torch.autograd.grad(inner, u, retain_graph=True)
        return derivative

    def _losses_of(self, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the T losses, and the slope of every row's own loss in its output."""
        leaf = outputs.detach().requires_grad_()
        losses = torch.stack([loss for loss in self.losses_fn(lambda _: leaf.unbind(), batch) if loss is not None])
        (slopes,) = torch.autograd.grad(losses.sum(), leaf)
        labelled = (~batch[1].isnan()).sum(-1, keepdim=True)  # rows that the mean was taken over
        return losses.detach(), slopes * labelled
