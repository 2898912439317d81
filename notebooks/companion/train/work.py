"""The work of one training step, counted: the same on every machine."""

from collections.abc import Callable

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def count_work(step: Callable[[], object], shared: Tensor) -> tuple[int, int]:
    """Run a training step, or a part of it, and count its work.

    Args:
        step: Fills the gradients of a batch.
        shared: One of the shared parameters.

    Returns:
        How often the gradient of the shared parameters is evaluated, and the floating-point operations in matrix
        products, look-aheads included.
    """
    evaluations: list[int] = []
    hook = shared.register_hook(lambda _: evaluations.append(1))  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False) as counter:
        step()
    hook.remove()
    return len(evaluations), counter.get_total_flops()


def work_of(backward: Callable[[], object], shared: Tensor) -> dict[str, float]:
    """The work of a backward pass as `count_work` counts it: "gradients", and "Mflop", millions of operations.

    It is that of the second pass, for HydaLearn checks itself in its first one.
    """
    backward()
    gradients, operations = count_work(backward, shared)
    return {"gradients": gradients, "Mflop": operations / 1e6}
