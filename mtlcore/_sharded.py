"""Parameters that torch's distributed engine divides among processes, by ``fully_shard`` or ``replicate``.

Each such parameter is a DTensor, of which a process holds a part. All that the methods do is element by element, but
for norms, inner products and losses; so they work on the parts, and add up these three over processes. What users see
(``p.task_grad``, ``p.grad``, an optimizer's state, AU) are DTensors again, as torch's checkpoints need them.

torch has no public way from the gathered parameter, which stands in a module during passes, to the sharded one, which
optimizers hold, nor to build a DTensor in microseconds: the names with an underscore here are torch 2.13's.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PLAIN = frozenset((Tensor, nn.Parameter, type(None)))  # asked first, quicker than to look for an attribute


def none_sharded(tensors: Iterable[Any]) -> bool:
    """Says whether all are of torch's own types, so that each of them is its local part; at once for all."""
    return _PLAIN.issuperset(map(type, tensors))


def parts_of(tensors: Sequence[Any]) -> Sequence[Tensor]:
    """Returns this process's part of each."""
    return tensors if none_sharded(tensors) else [local(x) for x in tensors]


def local(x: Any) -> Tensor:
    """Returns this process's part of a sharded tensor; any other tensor as it is."""
    part: Tensor = x if type(x) in _PLAIN else getattr(x, "_local_tensor", x)
    return part


def like(p: Any, part: Tensor) -> Tensor:
    """Returns ``part`` [*lead, *shape of p's part] as a tensor that is sharded as ``p`` is; as it is where p is not."""
    if local(p) is p:
        return part
    lead = part.shape[: part.ndim - p.ndim]
    whole: Tensor = type(p)(part, _spec(p._spec, lead, part.dtype), requires_grad=False)
    return whole


@lru_cache(maxsize=4096)
def _spec(spec: Any, lead: tuple[int, ...], dtype: torch.dtype) -> Any:
    """Returns how [*lead, *shape] is sharded where [*shape] is sharded as ``spec`` says."""
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta

    whole = torch.empty((*lead, *spec.shape), device="meta")
    placements = tuple(Shard(q.dim + len(lead)) if q.is_shard() else Replicate() for q in spec.placements)
    return DTensorSpec(spec.mesh, placements, tensor_meta=TensorMeta(whole.shape, whole.stride(), dtype))


def over_parts(values: Tensor, p: Any) -> Tensor:
    """Returns the sum over the parts of parameters that are sharded as ``p`` is, the same on all processes."""
    if local(p) is p:
        return values
    return _sum(values, p, [dim for dim, placement in enumerate(p._spec.placements) if placement.is_shard()])


def over_processes(values: Tensor, p: Any) -> Tensor:
    """Returns the mean over the processes that train ``p``, each on its part of the batch."""
    if local(p) is p:
        return values
    size: int = p._spec.mesh.size()
    return _sum(values, p, range(p._spec.mesh.ndim)) / size


def _sum(values: Tensor, p: Any, dims: Iterable[int]) -> Tensor:
    total = values.detach().clone()
    for dim in dims:
        dist.all_reduce(total, group=p._spec.mesh.get_group(dim))
    return total


def _managed() -> dict[Tensor, tuple[Tensor, Any]]:
    """Returns for each sharded parameter of torch's engine, and each gathered one, the sharded one and its group."""
    if not (dist.is_available() and dist.is_initialized()):
        return {}
    from torch.distributed._composable_state import _module_state_mapping
    from torch.distributed.fsdp._fully_shard._fsdp_state import FSDPState

    states = {state for reference in _module_state_mapping.values() if isinstance(state := reference(), FSDPState)}
    groups = [group for state in states for group in state._fsdp_param_groups]
    known: dict[Tensor, tuple[Tensor, Any]] = {}
    for group in groups:  # of parameters whose gradients torch reduces together
        for member in group.fsdp_params:
            known[member.sharded_param] = member.sharded_param, group
            if hasattr(member, "_unsharded_param"):
                known[member._unsharded_param] = member.sharded_param, group
    return known


def as_sharded(params: Iterable[Tensor]) -> list[Tensor]:
    """Returns parameters as optimizers know them; during passes a module has gathered ones in their place."""
    known = _managed()
    return [known[p][0] if p in known else p for p in params] if known else list(params)


def check_sharded(params: Sequence[Any]) -> None:
    """Raises ValueError where some parameters are sharded, and not all of them by torch's engine in one manner."""
    divided = [] if none_sharded(params) else [p for p in params if local(p) is not p]
    if not divided:
        return
    known = _managed()
    strangers = sum(p not in known for p in divided)
    plain = sum(isinstance(p, nn.Parameter) for p in params) - len(divided)
    ways = {(p._spec.mesh, *(type(q).__name__ for q in p._spec.placements)) for p in divided}
    found = ""
    if strangers:
        found = f"{strangers} DTensors of another source"
    elif plain:
        found = f"{plain} that are not sharded beside {len(divided)} that are"
    elif len(ways) > 1 or "_StridedShard" in next(iter(ways)):
        found = "several meshes, or tensor parallelism"
    elif any(getattr(p, "task_runs", None) is not None for p in divided):
        found = "R runs stacked in one, which are for one process"
    if found:
        raise ValueError(
            f"Parameters should all be sharded by torch's `fully_shard` or `replicate` over one mesh, or none. Found "
            f"{found}. Call it for the whole model, also for what the losses use outside."
        )


def check_passes(losses: Sequence[Tensor | None], kept: Sequence[Tensor]) -> None:
    """Raises ValueError where torch would reduce gradients of different tasks together, or none at all."""
    if none_sharded(kept) or all(local(p) is p for p in kept):
        return
    if any(loss is None for loss in losses):
        raise ValueError(
            "On several processes each should have a loss of every task, for torch reduces their gradients pass by "
            "pass. Found None. Pass a zero with a graph, such as output.sum() * 0."
        )
    known = _managed()
    if not all(known[p][1].reduce_grads and known[p][1].all_reduce_grads for p in kept if p in known):
        raise ValueError(
            "Gradients should be reduced over processes in each backward pass, for torch keeps no tasks apart in what "
            "it puts off. Found that put off. Leave out set_requires_gradient_sync(False) and set_requires_all_reduce."
        )


def reshard(model: nn.Module) -> None:
    """Frees gathered parameters, which the next pass gathers anew."""
    if dist.is_available() and dist.is_initialized():
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
