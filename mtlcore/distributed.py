r"""Data parallelism with task gradients: every rank has its part of the batch, all take the step of the joined batch.

Where each loss is a mean over examples and the W ranks hold equally many, the joined batch's loss is the mean of the
ranks' losses, and with it everything linear in it:

.. math::
    g_t = \frac{1}{W} \sum_{r=1}^{W} \nabla L_{r,t}, \qquad
    \delta_t = \frac{1}{W} \sum_{r=1}^{W} \big( L_{r,M}(\theta) - L_{r,M}(\theta - a\, g_t) \big)

with :math:`L_{r,t}` the loss of task :math:`t` on rank :math:`r`'s examples, :math:`M` the main task and :math:`a` the
trial step. AdaTask takes the averaged task gradients :math:`g_t` (:meth:`Ranks.average_gradients`); HydaLearn's trial
steps go along them, and its gains :math:`\delta_t` are averaged too (:mod:`mtlcore.distributed_hydalearn`). So weights,
moments, dominance and parameters are the same on all ranks. Neither paper speaks of several processes: our design.

- **Unequal parts**: multiply each loss by :meth:`Ranks.loss_share`, per task where tasks have labels of their own.
- **No DistributedDataParallel.** Its reducer expects one backward pass per forward pass. T passes raise "Expected to
  mark a variable ready only once", or, with ``find_unused_parameters=True``, it silently averages the first task's
  gradients only; gradients by ``torch.autograd.grad``, which HydaLearn takes, it never sees. Leave the model bare:
  :class:`Ranks` sends the first parameters, and averages everything in one go when all T passes are done. A part of
  the model that is sharded (FSDP, DTensor) is not supported.
- **BatchNorm** normalises by the statistics of the rank's own examples, which the joined batch would not: prefer
  GroupNorm or LayerNorm. Running statistics stay each rank's own; save rank 0's.
- **Dropout** should differ between ranks: seed each by its rank, once :class:`Ranks` has sent the parameters. A rank's
  trial passes repeat its own mask.
- **Order**: average, then ``unscale_task_grad_``, ``clip_task_grad_norm_``, ``combine``, ``optimizer.step()``.
  Micro-batches: accumulate, and average once.
- Every rank makes the same calls equally often; ``torch.utils.data.DistributedSampler`` deals the examples so. A rank
  that raises leaves the others waiting: ``torchrun`` ends them, otherwise the process group's timeout does.

With ``torchrun --nproc-per-node=8 -m mtlcore.experiments.distributed_demo`` both methods train on 8 GPUs.
"""

from collections.abc import Iterable, Sequence
from itertools import islice, zip_longest
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtlcore._buckets import in_buckets
from mtlcore.batch_gradients import split_parameters
from mtlcore.task_gradients import runs_of, task_grad_of


class Ranks:
    """The processes that train one model together, one call of this on each, with the same arguments.

    Creating it checks that all ranks build the same model and gives them rank 0's parameters and buffers.

    Args:
        model: Any module, not wrapped, on the rank's own device.
        shared: The shared parameters. All other trainable parameters of the model count as heads.
        num_tasks: T, the number of losses.
        group: The processes; None = all.
        bucket_mib: Size of a message's buffer in MiB. 25, as torch's DistributedDataParallel has it.

    Raises:
        ValueError: On every rank, where models, tasks or buffers differ between them; where there is no process group;
            where a parameter does not fit.

    Example:
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> trunk, heads = nn.Linear(2, 3), nn.ModuleList(nn.Linear(3, 1) for _ in range(2))
        >>> model = nn.Sequential(trunk, heads)
        >>> ranks = Ranks(model, trunk.parameters(), num_tasks=2)
        >>> from mtlcore import AdaTaskAdam, task_backward
        >>> optimizer = AdaTaskAdam(model.parameters(), num_tasks=2)
        >>> optimizer.zero_grad()
        >>> task_backward([head(trunk(torch.ones(4, 2))).square().mean() for head in heads], trunk.parameters())
        >>> ranks.average_gradients()
        >>> optimizer.step()
        >>> ranks.check_agreement()
        >>> dist.destroy_process_group()
    """

    def __init__(
        self,
        model: nn.Module,
        shared: Iterable[Tensor],
        num_tasks: int,
        group: dist.ProcessGroup | None = None,
        bucket_mib: float = 25.0,
    ) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError(
                "A process group should be initialised. Found none. Call torch.distributed.init_process_group, and "
                "start the program with torchrun."
            )
        if isinstance(model, nn.parallel.DistributedDataParallel):
            raise ValueError(
                "Parameter `model` should not be wrapped. Found DistributedDataParallel, which averages the first of T "
                "backward passes at most. Pass the module inside, `model.module`."
            )
        if not isinstance(num_tasks, int) or num_tasks < 1:
            raise ValueError(
                f"Parameter `num_tasks` should be a positive integer. Found `num_tasks = {num_tasks!r}`. Pass the "
                "number of losses."
            )
        if not bucket_mib > 0:
            raise ValueError(
                f"Parameter `bucket_mib` should be positive. Found `bucket_mib = {bucket_mib}`. Pass, for example, 25."
            )
        self.model, self.num_tasks, self.group = model, num_tasks, group
        self.shared, self.heads = split_parameters(model, shared)
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._bucket_bytes = bucket_mib * 2**20
        self._check_alike()
        in_buckets([*model.parameters(), *model.buffers()], self._bucket_bytes, self._send_first)

    def average_gradients(self) -> None:
        """Averages ``p.task_grad`` of shared parameters and ``p.grad`` of heads over the ranks.

        Call it after :func:`mtlcore.task_backward`, on every rank: one message per bucket. A gradient that this rank's
        losses did not make, but another's did, counts as zero here. Only a rank that misses some waits for its device.

        Raises:
            ValueError: Before any message, where this rank has no task gradients, those of other tasks, or a
                ``p.grad`` of a shared parameter.
        """
        if all(task_grad_of(p) is None for p in self.shared):
            raise ValueError(
                f"Shared parameters should have task gradients on every rank. Found none on rank {self.rank}. Call "
                "`task_backward` on each rank before `average_gradients`."
            )
        for p in self.shared:
            task_grad = task_grad_of(p)
            if task_grad is not None and len(task_grad) != self.num_tasks:
                raise ValueError(
                    f"A `task_grad` should be of `num_tasks = {self.num_tasks}` tasks. Found {len(task_grad)} on rank "
                    f"{self.rank}. Pass as many losses to `task_backward`."
                )
            if p.grad is not None:
                raise ValueError(
                    "A shared parameter should have no `p.grad` before its task gradients are averaged. Found one. "
                    "Call `optimizer.zero_grad()` before `task_backward`, and `combine` after `average_gradients`."
                )
        self._average(self.shared)

    def average_heads(self) -> None:
        """Averages ``p.grad`` of heads only, for a method that has averaged the shared parameters' gradients itself."""
        self._average([])

    @torch.no_grad()
    def _average(self, shared: list[Any]) -> None:
        if any(p.grad is not None and p.grad.is_sparse for p in self.heads):
            raise ValueError(
                "A head's gradient should be dense. Found a sparse one. Pass `sparse=False` to its nn.Embedding."
            )
        everyone = (True,) * self.num_tasks
        num_runs = next((runs_of(p) for p in shared if task_grad_of(p) is not None), None)
        rows: list[Tensor] = []
        flags: list[bool] = []
        for p in shared:
            task_grad = task_grad_of(p)
            rows.append(p.new_zeros((self.num_tasks, *p.shape)) if task_grad is None else task_grad)
            flags += [False] * self.num_tasks if task_grad is None else getattr(p, "task_reached", None) or everyone
        rows += [torch.zeros_like(p) if p.grad is None else p.grad for p in self.heads]
        flags += [p.grad is not None for p in self.heads]

        found, rest = iter(self.average_rows(rows, flags)), iter(rows)
        for p, row in zip(shared, rest, strict=False):
            reached = tuple(islice(found, self.num_tasks))
            if any(reached):
                p.task_grad, p.task_runs = row, num_runs
                p.task_reached = None if all(reached) else reached
        for p, row, reached_head in zip(self.heads, rest, found, strict=True):
            if reached_head:
                p.grad = row

    @torch.no_grad()
    def average_rows(self, rows: Sequence[Tensor], reached: Sequence[bool]) -> list[bool]:
        """Averages tensors in place, and returns for each of the flags ``reached`` whether it is set on any rank."""
        first = self.shared[0]
        flags = torch.tensor(reached, dtype=first.dtype).to(first.device, non_blocking=True)
        in_buckets([flags, *rows], self._bucket_bytes, self._mean)  # the flags travel in the first bucket
        return list(reached) if all(reached) else (flags > 0).tolist()

    @torch.no_grad()
    def loss_share(self, examples: float | Sequence[float] | Tensor) -> Tensor:
        """Returns the factor of this rank's mean losses that makes the average over ranks the joined batch's mean.

        That is W n_r / (n_1 + ... + n_W), by one small message. A task without examples on this rank needs a finite
        loss with a graph, such as ``output.sum() * 0``, for 0 * NaN is NaN.

        Args:
            examples: n_r, the number of this rank's examples: one number [], or one per task [T].
        """
        first = self.shared[0]
        counts = torch.as_tensor(examples, dtype=torch.promote_types(first.dtype, torch.float32))
        counts = counts.to(first.device, non_blocking=True)
        mean = counts.clone()
        self._mean(mean)
        return (counts / mean).nan_to_num(0.0)

    def check_agreement(self) -> None:
        """Raises ValueError, on every rank, unless all parameters are the same to the bit; it waits for the device.

        A check to make now and then: it sends all parameters and needs room for a copy of them.
        """
        named = dict(self.model.named_parameters())
        firsts = [p.detach().clone() for p in named.values()]
        in_buckets(firsts, self._bucket_bytes, self._send_first)
        pairs = zip(named.items(), firsts, strict=True)
        differing = [n for (n, p), first in pairs if not torch.allclose(p, first, rtol=0, atol=0, equal_nan=True)]
        for rank, names in enumerate(self._gathered(differing)):
            if names:
                raise ValueError(
                    f"Parameters should be the same on all ranks. Found `{names[0]}` on rank {rank} unlike rank 0's. "
                    "Average gradients before every step, and keep random choices that shape a step out of the ranks."
                )

    def _check_alike(self) -> None:
        members: dict[Tensor, str] = {
            p: f"`{name}` {tuple(p.shape)} {p.dtype}" for name, p in self.model.named_parameters()
        }
        buffers = [f"buffer `{name}` {tuple(b.shape)} {b.dtype}" for name, b in self.model.named_buffers()]
        parts = [f"shared {members[p]}" for p in self.shared] + [f"head {members[p]}" for p in self.heads]
        sizes = [f"`num_tasks = {self.num_tasks}`", f"buckets of {self._bucket_bytes:.0f} bytes"]
        first, *others = self._gathered([*sizes, *parts, *members.values(), *buffers])
        for rank, other in enumerate(others, start=1):
            for ours, theirs in zip_longest(first, other, fillvalue="nothing"):
                if ours != theirs:
                    raise ValueError(
                        f"All ranks should train the same model on the same tasks. Found {theirs} on rank {rank} where "
                        f"rank 0 has {ours}. Build both alike on every rank."
                    )

    def _gathered(self, mine: list[str]) -> list[list[str]]:
        everyone: list[list[str]] = [[] for _ in range(self.size)]
        dist.all_gather_object(everyone, mine, group=self.group)
        return everyone

    def _send_first(self, flat: Tensor) -> None:
        dist.broadcast(flat, group=self.group, group_src=0)

    def _mean(self, flat: Tensor) -> None:
        flat.div_(self.size)  # before the sum, so that half precision does not overflow
        dist.all_reduce(flat, group=self.group)
