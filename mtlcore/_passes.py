"""T backward passes through one graph, and what the graph says: its leaves and its lowest precision."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mtlcore._sharded import as_sharded, check_passes, check_sharded, local

Take = Callable[[int, list[Tensor | None]], None]

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
            take(t, [None if (grad := p.grad) is None else local(grad) for p in kept])
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


def _nodes(losses: Sequence[Tensor | None]) -> Iterator[tuple[torch.autograd.graph.Node, bool]]:
    """Yields the nodes of the losses' graph, each once, and whether others follow on it."""
    found = dict.fromkeys(loss.grad_fn for loss in losses if loss is not None and loss.grad_fn is not None)
    nodes = list(found)
    for node in nodes:  # which grows
        next_functions = node.next_functions
        for following, _ in next_functions:
            if following is not None and following not in found:
                found[following] = None
                nodes.append(following)
        yield node, bool(next_functions)


def _has_ddp(losses: Sequence[Tensor | None]) -> bool:
    return any(type(node).__name__ == "_DDPSinkBackward" for node, _ in _nodes(losses))


def graph_leaves(losses: Sequence[Tensor | None]) -> tuple[list[Tensor], bool, float]:
    """Walks the graph of the losses.

    Returns:
        Its leaves in a fixed order; whether a custom function may hide more of them, as reentrant checkpointing does;
        and the coarsest rounding (machine epsilon) of what was computed on the way.
    """
    leaves = [loss for loss in losses if loss is not None and loss.grad_fn is None]
    kinds, dtypes = set(), {loss.dtype for loss in losses if loss is not None}
    for node, goes_on in _nodes(losses):
        if not goes_on and type(node).__name__ == "AccumulateGrad":
            leaves.append(node.variable)  # type: ignore[attr-defined]
            dtypes.add(leaves[-1].dtype)
            continue
        kinds.add(type(node))
        for output in node._input_metadata:
            dtypes.add(output.dtype)
    hides = any(issubclass(kind, torch.autograd.function.BackwardCFunction) for kind in kinds)
    leaves = as_sharded(leaves)
    check_sharded(leaves)
    return leaves, hides, max(torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point)
