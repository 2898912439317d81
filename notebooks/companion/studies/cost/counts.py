"""Cost of one step as formulas in the number of tasks, and the same counted while a step runs: integers, both."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from companion.baselines import AGGREGATORS
from companion.networks.shared_bottom import SharedBottom
from companion.studies.cost.steps import FIRST_ORDER, ONE_PASS, WEIGHED_GRADIENTS, Workload, training_step
from companion.train.losses import squared_losses
from companion.train.work import count_work
from mtlcore.task_gradients import task_grad_of


@dataclass(frozen=True)
class Cost:
    """What one step with Adam needs of the shared layers.

    Attributes:
        forwards: Forward passes through them.
        gradients: Backward passes through them, each an evaluation of their gradient.
        numbers: Numbers that are there at its end, in units of the shared parameters: these, gradients and moments.
        moved: Numbers that have to be read or written around the passes, in the same units: Adam reads a parameter,
            its gradient and two moments and writes three of them back (7); a weighted sum reads T and writes one;
            an exact look-ahead reads a parameter and a gradient and writes a trial parameter.
    """

    forwards: int
    gradients: int
    numbers: int
    moved: int


def cost(method: str, num_tasks: int) -> Cost:
    """Give the formula of a method for T tasks.

    =========================================  ========  =========  =======  =======
    method                                     forwards  gradients  numbers  moved
    =========================================  ========  =========  =======  =======
    constant or loss-driven weights            1         1          4        7
    weights from the tasks' gradients          1         T          4 + T    8 + T
    HydaLearn, first order                     1         T          4 + T    8 + T
    HydaLearn, exact                           1 + T     T          4 + T    8 + 4T
    AdaTask-Adam                               1         T          2 + 3T   3 + 6T
    every task alone, in a network of its own  T         T          4T       7T
    =========================================  ========  =========  =======  =======

    Args:
        method: One of `steps.METHODS`, or "single tasks" for the last row.
        num_tasks: T.
    """
    t = num_tasks
    if method in ONE_PASS:
        return Cost(1, 1, 4, 7)
    if method == FIRST_ORDER or method in WEIGHED_GRADIENTS:
        return Cost(1, t, 4 + t, 8 + t)
    formulas = {
        "HydaLearn": Cost(1 + t, t, 4 + t, 8 + 4 * t),
        "AdaTask-Adam": Cost(1, t, 2 + 3 * t, 3 + 6 * t),
        "single tasks": Cost(t, t, 4 * t, 7 * t),
    }
    return formulas[method]


def products(method: str, num_tasks: int, widths: Sequence[int], batch_size: int) -> int:
    """Floating-point operations of a step's matrix products on a `SharedBottom`, two for each multiply and add.

    A forward pass through the shared layers takes F, a backward pass 2F less the first layer's gradient of its inputs,
    which nobody needs. Every head is evaluated in every forward pass; its own two products follow once per task,
    whichever way the gradients come. TorchJD's aggregators start from the inner products of the T gradients, 2 T^2
    operations per shared parameter; what their solvers do with those T x T numbers is left out.

    Args:
        method: As for `cost`, but not "single tasks".
        num_tasks: T.
        widths: Of inputs and shared layers.
        batch_size: Examples.
    """
    passes = cost(method, num_tasks)
    layers = [2 * batch_size * a * b for a, b in pairwise(widths)]
    head = 2 * batch_size * widths[-1]
    forward = sum(layers) + num_tasks * head
    size = sum((a + 1) * b for a, b in pairwise(widths))
    inner = 2 * num_tasks**2 * size if method in AGGREGATORS else 0
    return passes.forwards * forward + passes.gradients * (2 * sum(layers) - layers[0]) + 2 * num_tasks * head + inner


def small_problem(num_tasks: int, widths: Sequence[int], batch_size: int) -> Workload:
    """A `SharedBottom` in float64 and a random batch of regression tasks."""
    generator = torch.Generator().manual_seed(0)
    model = SharedBottom(widths[0], widths[1:], num_tasks, generator=generator, dtype=torch.float64)
    x = torch.randn(batch_size, widths[0], generator=generator, dtype=torch.float64)
    y = torch.randn(num_tasks, batch_size, generator=generator, dtype=torch.float64)
    return Workload(model, model.shared_parameters(), squared_losses, (x, y), ["regression"] * num_tasks)


def count(method: str, num_tasks: int, widths: Sequence[int], batch_size: int) -> tuple[int, int, int, int]:
    """Run two steps of a method and count in the second: forwards, gradients and numbers as in `Cost`, and products.

    Args:
        method: One of `steps.METHODS`.
        num_tasks: T.
        widths: Of inputs and shared layers.
        batch_size: Examples.
    """
    problem = small_problem(num_tasks, widths, batch_size)
    step = training_step(method, problem)
    step()
    forwards: list[int] = []
    problem.model.get_submodule("trunk").register_forward_hook(lambda *_: forwards.append(1))
    gradients, operations = count_work(step, problem.shared[0])
    size = sum(p.numel() for p in problem.shared)
    state = step.optimizer.state
    held = [
        [p, p.grad, task_grad_of(p), *(v for name, v in state[p].items() if name != "step")] for p in problem.shared
    ]
    numbers, rest = divmod(sum(x.numel() for tensors in held for x in tensors if x is not None), size)
    assert rest == 0, "every method keeps whole copies of the shared parameters"
    return len(forwards), gradients, numbers, operations
