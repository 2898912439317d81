"""The work of one training step, counted: the same on every machine."""

from collections.abc import Callable

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def work_of(backward: Callable[[], object], shared: Tensor) -> dict[str, float]:
    """Run a backward pass and count its work.

    Args:
        backward: Fills the gradients of a batch.
        shared: One of the shared parameters.

    Returns:
        "gradients": how often the gradient of the shared parameters is evaluated; "Mflop": millions of floating-point
        operations in matrix products, look-aheads included.
    """
    evaluations: list[int] = []
    hook = shared.register_hook(lambda _: evaluations.append(1))  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False) as counter:
        backward()
    hook.remove()
    return {"gradients": len(evaluations), "Mflop": counter.get_total_flops() / 1e6}
