r"""AdaTask for embedding tables: SparseAdam with accumulators per task, at the cost of the rows that a batch touches.

The paper's own domain, recommendation, has tables of millions of rows, but the paper does not speak of sparse
gradients: our design. They come from ``nn.Embedding(sparse=True)`` and ``nn.EmbeddingBag(sparse=True)``, and
:func:`mtlcore.task_backward` keeps them so: ``p.task_grad`` [T, \*p.shape] is one coalesced COO tensor of tasks and
rows, ``p.grad`` the sparse sum.
"""

import torch
from torch import Tensor
from torch.optim._functional import sparse_adam
from torch.optim.optimizer import ParamsT

from mtlcore._adatask import AdaTaskOptimizer, TaskWeights, hyper_parameters
from mtlcore._adatask_checks import Group
from mtlcore._task_state import Columns, Kernel
from mtlcore._touched import at, coo, no_rows, per_task, with_numbers


class AdaTaskSparseAdam(AdaTaskOptimizer):
    r"""SparseAdam with first and second moments per task, moved at the rows that the task touches only.

    For every row :math:`r` that the gradient :math:`g_k` of task :math:`k` holds, be it zero,

    .. math::
        \text{exp\_avg}_k[r] &\leftarrow \beta_1\, \text{exp\_avg}_k[r] + (1-\beta_1)\, g_k[r] \\
        \text{exp\_avg\_sq}_k[r] &\leftarrow \beta_2\, \text{exp\_avg\_sq}_k[r] + (1-\beta_2)\, g_k[r]^2 \\
        u_k[r] &= \frac{\sqrt{1-\beta_2^{\text{step}_k}}}{1-\beta_1^{\text{step}_k}}
                  \cdot \frac{\text{exp\_avg}_k[r]}{\sqrt{\text{exp\_avg\_sq}_k[r]} + \epsilon}

    and :math:`\theta[r] \leftarrow \theta[r] - \gamma \sum_k w_k u_k[r]`, with :math:`\gamma` lr and :math:`w_k` the
    weights; all other rows stay, with their moments. Each task's update is made by the function of
    ``torch.optim.SparseAdam``, which T = 1 equals to the bit: it adds :math:`\epsilon` before the second moment is
    corrected, counts steps of the whole table, and waits for a GPU to tell how many rows were touched. Tables with
    ``p.grad`` only get torch's ordinary update; dense gradients belong to another optimizer, such as AdaTaskAdam.

    Args:
        params: Embedding tables, named or in groups, as for torch.optim. Every option below can be given per group.
        num_tasks: T, the number of losses.
        lr: Learning rate, a float or a 0-dimensional tensor. As torch's: 1e-3.
        betas: Decay of the two moments, in [0, 1). As torch's: (0.9, 0.999).
        eps: Added to the root of the second moment; positive, for a touched row may have a gradient of zero. As
            torch's: 1e-8.
        maximize: Ascends.
        task_weights: As :class:`mtlcore.AdaTaskAdam`'s, but a tensor [T] is read on the host. A task of weight 0 does
            not move the rows that it touches, only its moments.

    Raises:
        ValueError: If an option is out of range, or a parameter is complex, sparse or named twice; in a step, before
            any parameter moves, if a gradient is dense.

    Example:
        >>> from mtlcore.task_gradients import task_backward
        >>> table = torch.nn.Embedding(1000, 2, sparse=True)
        >>> before = table.weight.detach().clone()
        >>> optimizer = AdaTaskSparseAdam(table.parameters(), num_tasks=2, lr=0.1)
        >>> losses = [1000 * table(torch.tensor([3, 5])).sum(), table(torch.tensor([5])).sum()]
        >>> task_backward(losses, table.parameters())
        >>> table.weight.task_grad.indices()  # tasks above, rows below
        tensor([[0, 0, 1],
                [3, 5, 5]])
        >>> optimizer.step()
        >>> (table.weight.detach() - before)[[3, 4, 5], 0]  # each task moves its rows alike, whatever its scale
        tensor([-0.1000,  0.0000, -0.2000])
    """

    layout = torch.sparse_coo

    def __init__(
        self,
        params: ParamsT,
        *,
        num_tasks: int,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
        task_weights: TaskWeights = None,
    ) -> None:
        super().__init__(params, hyper_parameters(locals()))

    def initial_state(self, group: Group) -> dict[str, float]:
        """Returns the moments, all beginning at 0."""
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], state: Columns, options: Group) -> None:
        """Calls torch's sparse_adam, on copies of the touched rows: it goes five times through the memory of a table.

        A sparse tensor in the place of a parameter takes the update alone.
        """
        numbers = {"eps": group["eps"], "lr": float(options["lr"]), "maximize": options["maximize"]}
        beta1, beta2 = group["betas"]
        torch._foreach_add_(state["counts"], 1)  # which torch's function leaves to its caller
        each = zip(params, state["exp_avg"], state["exp_avg_sq"], grads, state["step"], strict=True)
        for *tables, grad, step in each:
            grad = grad.coalesce()
            rows, values = grad._indices()[0], grad._values()
            own = [torch.zeros_like(values) if table.is_sparse else at(table, grad) for table in tables]
            of_own = coo(torch.arange(len(rows), device=rows.device)[None], values, values.shape, coalesced=True)
            theta, exp_avg, exp_avg_sq = ([copy] for copy in own)
            sparse_adam(theta, [of_own], exp_avg, exp_avg_sq, [int(step)], beta1=beta1, beta2=beta2, **numbers)
            for table, copy in zip(tables, own, strict=True):
                table.add_(with_numbers(grad, copy)) if table.is_sparse else table.index_copy_(0, rows, copy)

    def _step_tasks(self, group: Group, params: list[Tensor], kernel: Kernel, ordinary: list[Tensor]) -> list[Tensor]:
        for p in params:
            task_grad, weights = self.task_gradients_and_weights(p, group)
            grads = per_task(task_grad)
            columns = self.columns([p], group, (len(grads),), kernel)
            reached = getattr(p, "task_reached", None) or (True,) * len(grads)
            factors = weights.tolist() if isinstance(weights, Tensor) else weights or (1.0,) * len(grads)
            # In half precision the tasks' updates are summed up apart first, as by the other optimizers.
            apart = p.dtype.itemsize < 4 and len(grads) > 1
            place = no_rows(p) if apart else p
            for t, grad in enumerate(grads):
                if reached[t]:
                    options = {"lr": group["lr"] * factors[t], "maximize": group["maximize"]}
                    self.update(group, [place], [grad], columns[t], options)
            if apart:
                p.add_(place.coalesce())
        return ordinary

    def _new_state(self, p: Tensor, leading: tuple[int, ...]) -> Tensor:
        """Returns memory [*leading, *p.shape] with the tasks of a row side by side, for they are touched together."""
        return p.new_empty((len(p), *leading, *p.shape[1:])).movedim(0, len(leading))

    def _kernel(self, group: Group) -> Kernel:
        return {"foreach": False, "fused": False}
