"""T backward passes through one graph, and what the graph says: its leaves and its lowest precision."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mtlcore._sharded import as_sharded, check_passes, parts_of

Take = Callable[[int, Sequence[Tensor | None]], None]

_DDP = (
    "Losses should come from a model that is not wrapped. Found DistributedDataParallel, which averages one backward "
    "pass per step. Use torch.distributed.fsdp.fully_shard(model) in its place."
)
_REMEDIES = {  # what torch's message holds -> ours
    "donated buffers": (
        "A compiled model should keep its buffers for T backward passes. Found torch.compile giving them away after "
        "one. Set torch._functorch.config.donated_buffer = False before the first step."
    ),
    "mark a variable ready only once": _DDP,
}


def backward_passes(losses: Sequence[Tensor | None], kept: Sequence[Tensor], take: Take) -> None:
    """Calls ``take(t, gradients of kept)`` after a backward pass per task; other leaves accumulate as they always do.

    Each pass ends in ``p.grad``, so whatever acts there acts once per task: hooks, checkpointing, torch's distributed
    engine. What ``p.grad`` held of the kept parameters before comes back at the end.

    Args:
        losses: T losses, [] or [R], or None for a task that this batch does not have.
        kept: Parameters whose gradients are handed over, None where a task does not reach one.
        take: Copies what it needs; it gets the gradients themselves, of sharded parameters this process's parts, and
            nothing should outlive it.
    """
    if dist.is_available() and dist.is_initialized() and _has_ddp(losses):
        raise ValueError(_DDP)
    check_passes(losses, kept)
    present = [t for t, loss in enumerate(losses) if loss is not None]
    earlier = [p.grad for p in kept]
    try:
        for p in kept:
            p.grad = None
        for t in present:
            loss = losses[t]
            assert loss is not None
            (loss.sum() if loss.ndim else loss).backward(retain_graph=t != present[-1])  # type: ignore[no-untyped-call]
            take(t, parts_of([p.grad for p in kept]))
            for p in kept:
                p.grad = None
    except RuntimeError as error:
        for sign, remedy in _REMEDIES.items():
            if sign in str(error):
                raise RuntimeError(remedy) from error
        raise
    finally:
        for p, grad in zip(kept, earlier, strict=True):
            p.grad = grad


def _has_ddp(losses: Sequence[Tensor | None]) -> bool:
    return any(type(node).__name__ == "_DDPSinkBackward" for node in Graph(losses).nodes)


class Graph:
    """The graph of losses, walked once.

    Attributes:
        nodes: Its nodes, each once.
        leaves: What it begins with, in a fixed order.
    """

    def __init__(self, losses: Sequence[Tensor | None]) -> None:
        present = [loss for loss in losses if loss is not None]
        leaves = [loss for loss in present if loss.grad_fn is None]
        self._dtypes = {loss.dtype for loss in present}
        self.nodes = list(dict.fromkeys(loss.grad_fn for loss in present if loss.grad_fn is not None))
        seen = set(self.nodes)
        for node in self.nodes:  # which grows
            next_functions = node.next_functions
            for following, _ in next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    self.nodes.append(following)
            if not next_functions and type(node).__name__ == "AccumulateGrad":
                leaves.append(node.variable)  # type: ignore[attr-defined]
                self._dtypes.add(leaves[-1].dtype)
        self.leaves = as_sharded(leaves)

    @cached_property
    def operations(self) -> tuple[Any, ...]:
        """The kinds of its nodes in their order; two graphs of the same operations round alike."""
        return tuple(map(type, self.nodes)), self._dtypes

    def hides_leaves(self) -> bool:
        """Says whether a custom function may hide more leaves, as reentrant checkpointing does."""
        kinds, _ = self.operations
        return any(issubclass(kind, torch.autograd.function.BackwardCFunction) for kind in set(kinds))

    @cached_property
    def eps(self) -> float:
        """The coarsest rounding (machine epsilon) of leaves, losses and what was computed on the way."""
        dtypes = self._dtypes.copy()
        for node in self.nodes:
            if type(node).__name__ != "AccumulateGrad":
                for output in node._input_metadata:
                    dtypes.add(output.dtype)
        return max(torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point)
