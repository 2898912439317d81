r"""AdaTask: Adam, AdamW, Adagrad and RMSprop that keep their accumulators per task.

Yang, Pan, Wang, Yu, Shen, Chen, Xiao, Jiang, Guo: *AdaTask: A Task-aware Adaptive Learning Rate Approach to Multi-task
Learning*, AAAI 2023, `arXiv:2211.15055 <https://arxiv.org/abs/2211.15055>`_. Where one accumulator over the summed
gradient lets the task with the largest gradients set everybody's step, here every task is divided by its own
accumulator, and the **updates** are summed (not averaged).

The paper's: the separation for Adam (as in the authors' code), with one step count for all tasks, no weight decay and
no weights. **Our design**: the same for Adagrad and RMSprop in full, step counts per task (a task may miss a step),
task weights, and weight decay counted once. With :math:`g_k` the gradient of task :math:`k`, :math:`w_k` its weight,
:math:`\gamma` lr and :math:`\lambda` weight_decay, every optimizer here takes the step

.. math:: \theta \leftarrow \theta - \gamma \sum_{k=1}^{T} w_k\, u_k, \qquad g_k \leftarrow g_k + \lambda\theta / T ,

where the second equation (coupled decay, of all but AdamW) uses :math:`\theta` at the start of the step, and
:math:`u_k` is the update of torch's optimizer of the same name for the gradient :math:`g_k` alone. So T = 1 is that
optimizer, to the bit under the same ``foreach`` and ``fused`` flags.

- Parameters with ``p.task_grad`` [T, \*p.shape] (see :mod:`mtlcore.task_gradients`) are updated per task and their
  ``p.grad`` is ignored; parameters with ``p.grad`` only, such as heads, get the ordinary update; others stay.
- A task that did not reach a parameter (``p.task_reached``) leaves its moments, count and update alone; one that
  reached it with a zero gradient moves it by momentum.
- A constant factor on a loss is erased by the division. Weights count as ``task_weights`` only: they multiply updates.
- At one lr the first step is up to T times that of the joint optimizer: compare methods at tuned learning rates.
- State is [T, \*p.shape], and ``step`` [T] float32. Nothing is read back from the device.
- Of torch's options ``differentiable`` is missing, and ``betas`` are floats.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam
from torch.optim.optimizer import ParamsT
from torch.optim.rmsprop import rmsprop

from mtlcore._adatask import AdaTaskOptimizer, TaskWeights, hyper_parameters
from mtlcore._adatask_checks import Group
from mtlcore._task_state import Columns

__all__ = ["AdaTaskAdagrad", "AdaTaskAdam", "AdaTaskAdamW", "AdaTaskRMSprop"]


class AdaTaskAdam(AdaTaskOptimizer):
    r"""Adam with first and second moments per task.

    .. math::
        \text{exp\_avg}_k &\leftarrow \beta_1\, \text{exp\_avg}_k + (1-\beta_1)\, g_k \\
        \text{exp\_avg\_sq}_k &\leftarrow \beta_2\, \text{exp\_avg\_sq}_k + (1-\beta_2)\, g_k^2 \\
        u_k &= \frac{\text{exp\_avg}_k / (1-\beta_1^{\text{step}_k})}
                    {\sqrt{\text{exp\_avg\_sq}_k / (1-\beta_2^{\text{step}_k})} + \epsilon}

    with :math:`\theta \leftarrow \theta - \gamma \sum_k w_k u_k` and the weight decay of :mod:`mtlcore.adatask`.

    Args:
        params: Parameters, named parameters or groups, as for torch.optim. Every option below can be given per group.
        num_tasks: T, the number of losses.
        lr: Learning rate, a float or a 0-dimensional tensor. As torch's: 1e-3.
        betas: Decay of the two moments, in [0, 1). As torch's: (0.9, 0.999).
        eps: Added to the root of the second moment. As torch's: 1e-8.
        weight_decay: Coupled decay: each task's gradient gets ``weight_decay * p / T`` (our design). 0 = none.
        amsgrad: Divides by the largest second moment so far, kept per task.
        maximize: Ascends.
        foreach: As torch's; None = where there is no fused kernel.
        fused: As torch's; None = where torch has the kernel for the device.
        capturable: As torch's: ``step`` on the device, for CUDA graphs.
        task_weights: T non-negative numbers, or a tensor [T] or [T, R] (R runs, parameters [R, \*shape]), that multiply
            the tasks' updates (our design). None = ones. Read from the group at each step: it may change any time.

    Raises:
        ValueError: If an option is out of range, both flags are True, or a parameter is complex, sparse or named twice.

    Example:
        >>> import torch
        >>> from mtlcore.task_gradients import task_backward
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> optimizer = AdaTaskAdam([p], num_tasks=2, lr=0.1)
        >>> optimizer.zero_grad()
        >>> task_backward([1000 * p[0], p.sum()], [p])
        >>> optimizer.step()
        >>> p.data  # each task that pulls counts alike, whatever its scale
        tensor([0.8000, 0.9000])
    """

    fused_op = "aten::_fused_adam_"

    def __init__(
        self,
        params: ParamsT,
        *,
        num_tasks: int,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        task_weights: TaskWeights = None,
    ) -> None:
        arguments = hyper_parameters(locals())
        super().__init__(params, {**arguments, "decoupled_weight_decay": isinstance(self, AdaTaskAdamW)})

    def initial_state(self, group: Group) -> dict[str, float]:
        """Returns the moments, all beginning at 0."""
        return dict.fromkeys(("exp_avg", "exp_avg_sq") + ("max_exp_avg_sq",) * group["amsgrad"], 0.0)

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], state: Columns, options: Group) -> None:
        """Calls torch's adam, or directly its fused kernel: what is around that takes longer than few numbers."""
        beta1, beta2 = group["betas"]
        options |= {"amsgrad": group["amsgrad"], "beta1": beta1, "beta2": beta2, "eps": group["eps"]}
        first, second, largest = state["exp_avg"], state["exp_avg_sq"], state.get("max_exp_avg_sq", [])
        if options["fused"] and isinstance(options["lr"], float) and len({(p.dtype, p.device) for p in params}) == 1:
            del options["foreach"], options["fused"]
            torch._foreach_add_(state["counts"], 1)
            kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            kernel(params, grads, first, second, largest, state["step"], **options)
        else:
            options |= {name: group[name] for name in ("capturable", "decoupled_weight_decay")}
            adam(params, grads, first, second, largest, state["step"], **options)


class AdaTaskAdamW(AdaTaskAdam):
    r"""AdaTask-Adam with decoupled weight decay, counted once whatever the number of tasks and their weights.

    .. math:: \theta \leftarrow (1 - \gamma\lambda)\, \theta - \gamma \sum_k w_k u_k

    with :math:`u_k` of :class:`AdaTaskAdam` from the undecayed gradients. Parameters that no task reached do not decay.
    The paper has no weight decay: our design, as torch's AdamW for T = 1. Arguments as :class:`AdaTaskAdam`'s, with
    ``weight_decay`` (1e-2 as torch's) decoupled.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> p.task_grad = torch.tensor([[3.0], [-3.0]])  # two tasks that disagree
        >>> AdaTaskAdamW([p], num_tasks=2, lr=0.1, weight_decay=0.5).step()
        >>> p.data
        tensor([0.9500])
    """

    def __init__(self, params: ParamsT, *, num_tasks: int, weight_decay: float = 1e-2, **options: Any) -> None:
        super().__init__(params, num_tasks=num_tasks, weight_decay=weight_decay, **options)


class AdaTaskAdagrad(AdaTaskOptimizer):
    r"""Adagrad with the sum of squared gradients per task.

    .. math::
        \text{sum}_k \leftarrow \text{sum}_k + g_k^2, \qquad
        u_k = \frac{1}{1 + (\text{step}_k - 1)\, \text{lr\_decay}} \cdot \frac{g_k}{\sqrt{\text{sum}_k} + \epsilon}

    with :math:`\theta \leftarrow \theta - \gamma \sum_k w_k u_k` and the weight decay of :mod:`mtlcore.adatask`. The
    paper names Adagrad; its details here are torch's (our design).

    Args:
        params: Parameters, named parameters or groups, as for torch.optim. Every option below can be given per group.
        num_tasks: T, the number of losses.
        lr: Learning rate, a float or a 0-dimensional tensor. As torch's: 1e-2.
        lr_decay: Decay of the learning rate with each task's own step count. 0 = none.
        weight_decay: Coupled decay: each task's gradient gets ``weight_decay * p / T`` (our design). 0 = none.
        initial_accumulator_value: What every task's sum begins at.
        eps: Added to the root of the sum. As torch's: 1e-10.
        maximize: Ascends.
        foreach: As torch's; None = where there is no fused kernel.
        fused: As torch's; None = where torch has the kernel for the device.
        task_weights: As :class:`AdaTaskAdam`'s.

    Raises:
        ValueError: As :class:`AdaTaskAdam`.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.zeros(1))
        >>> p.task_grad = torch.tensor([[1000.0], [0.001]])
        >>> AdaTaskAdagrad([p], num_tasks=2, lr=0.1).step()
        >>> p.data
        tensor([-0.2000])
    """

    fused_op = "aten::_fused_adagrad_"

    def __init__(
        self,
        params: ParamsT,
        *,
        num_tasks: int,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        task_weights: TaskWeights = None,
    ) -> None:
        super().__init__(params, hyper_parameters(locals()))

    def initial_state(self, group: Group) -> dict[str, float]:
        """Returns the sum of squares and what it begins at."""
        return {"sum": group["initial_accumulator_value"]}

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], state: Columns, options: Group) -> None:
        """Calls torch's adagrad."""
        adagrad(params, grads, state["sum"], state["step"], lr_decay=group["lr_decay"], eps=group["eps"], **options)


class AdaTaskRMSprop(AdaTaskOptimizer):
    r"""RMSprop with all its averages per task.

    .. math::
        \text{square\_avg}_k &\leftarrow \alpha\, \text{square\_avg}_k + (1-\alpha)\, g_k^2 \\
        u_k &= \frac{g_k}{\sqrt{\text{square\_avg}_k} + \epsilon}

    with :math:`\theta \leftarrow \theta - \gamma \sum_k w_k u_k` and the weight decay of :mod:`mtlcore.adatask`. With
    ``centered`` the squared ``grad_avg`` is subtracted under the root; with ``momentum`` the update is
    :math:`\text{momentum\_buffer}_k \leftarrow \mu\, \text{momentum\_buffer}_k + u_k`. The paper names RMSProp; its
    details here are torch's (our design).

    Args:
        params: Parameters, named parameters or groups, as for torch.optim. Every option below can be given per group.
        num_tasks: T, the number of losses.
        lr: Learning rate, a float or a 0-dimensional tensor. As torch's: 1e-2.
        alpha: Decay of the averages. As torch's: 0.99.
        eps: Added to the root. As torch's: 1e-8.
        weight_decay: Coupled decay: each task's gradient gets ``weight_decay * p / T`` (our design). 0 = none.
        momentum: Momentum of each task's preconditioned gradient. 0 = none.
        centered: Divides by the standard deviation instead of the root mean square.
        capturable: As torch's.
        maximize: Ascends.
        foreach: As torch's; None = as torch chooses, which has no fused kernel here.
        fused: None or False; True is refused, for torch has no fused kernel.
        task_weights: As :class:`AdaTaskAdam`'s.

    Raises:
        ValueError: As :class:`AdaTaskAdam`.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.zeros(1))
        >>> p.task_grad = torch.tensor([[1000.0], [-0.001]])
        >>> AdaTaskRMSprop([p], num_tasks=2, lr=0.1, alpha=0.75, task_weights=[1.0, 0.5]).step()
        >>> p.data
        tensor([-0.1000])
    """

    def __init__(
        self,
        params: ParamsT,
        *,
        num_tasks: int,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        task_weights: TaskWeights = None,
    ) -> None:
        super().__init__(params, hyper_parameters(locals()))

    def initial_state(self, group: Group) -> dict[str, float]:
        """Returns the averages that the options ask for, all beginning at 0."""
        wanted = {"square_avg": True, "momentum_buffer": group["momentum"] > 0, "grad_avg": group["centered"]}
        return {name: 0.0 for name, used in wanted.items() if used}

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], state: Columns, options: Group) -> None:
        """Calls torch's rmsprop."""
        options = {name: value for name, value in options.items() if name != "fused"}
        rmsprop(
            params,
            grads,
            state["square_avg"],
            state.get("grad_avg", []),
            state.get("momentum_buffer", []),
            state["step"],
            alpha=group["alpha"],
            eps=group["eps"],
            momentum=group["momentum"],
            centered=group["centered"],
            capturable=group["capturable"],
            **options,
        )
