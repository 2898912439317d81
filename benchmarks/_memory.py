"""Peak memory of tensors, counted from the tensors themselves: the same number on every machine."""

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class StorageCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations inside it have made and that are still alive.

    After every operation of torch (those of the backward pass and of optimizers too) it notes the storages of the
    results and forgets those that nobody holds any more; views share their storage and count once. Not counted is what
    an operation makes and drops within itself, Python's own memory, what the allocator rounds up, and storages from
    outside until an operation returns them.

    Attributes:
        live: Bytes alive after the last operation.
        peak: The most that `live` has been.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bytes: dict[StorageWeakRef, int] = {}
        self.live = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operation and counts."""
        result = func(*args, **(kwargs or {}))
        alive = [ref for ref in self._bytes if not ref.expired()]  # type: ignore[no-untyped-call]
        self._bytes = {ref: self._bytes[ref] for ref in alive}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
                storage = leaf.untyped_storage()
                self._bytes[StorageWeakRef(storage)] = storage.nbytes()  # type: ignore[no-untyped-call]
        self.live = sum(self._bytes.values())
        self.peak = max(self.peak, self.live)
        return result


def peak_bytes(make_step: Callable[[], Callable[[], object]], device: str) -> int:
    """Returns the peak memory in bytes of one step, after two others, with everything that `make_step` made.

    On the CPU by a :class:`StorageCounter`, on other devices by the count of torch's own allocator.
    """
    if device == "cpu":
        counter = StorageCounter()
        with counter:
            step = make_step()
            step()
            step()
            counter.peak = 0
            step()
        return counter.peak
    gc.collect()  # what an earlier step left in a cycle would be freed in the midst of this one
    before = int(torch.accelerator.memory_allocated())
    step = make_step()
    step()
    step()
    torch.accelerator.reset_peak_memory_stats()
    step()
    return int(torch.accelerator.max_memory_allocated()) - before
