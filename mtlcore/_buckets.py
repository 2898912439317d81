"""Few, large messages: many tensors of one dtype and device travel through torch.distributed as one flat buffer."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def in_buckets(tensors: Sequence[Tensor], max_bytes: float, send: Callable[[Tensor], object]) -> None:
    """Lets ``send`` change all tensors in place, by one call per flat buffer.

    The cut depends on shapes, dtypes and order only, so ranks that hold alike tensors send alike messages. A tensor
    larger than a buffer travels alone, without a copy where its memory is contiguous.

    Args:
        tensors: Of any dtypes and devices; each pair of dtype and device has its own buffers.
        max_bytes: What a buffer holds at most, where more than one tensor is in it.
        send: Changes a flat tensor in place, such as an all-reduce.
    """
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
    for alike in kinds.values():
        for bucket in _cut(alike, max_bytes):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                send(bucket[0].view(-1))
                continue
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            send(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view_as(t) for part, t in zip(parts, bucket, strict=True)])


def _cut(tensors: Sequence[Tensor], max_bytes: float) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    filled = 0
    for tensor in tensors:
        if bucket and filled + tensor.nbytes > max_bytes:
            yield bucket
            bucket, filled = [], 0
        bucket.append(tensor)
        filled += tensor.nbytes
    yield bucket
