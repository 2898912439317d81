"""Time of one AdaTask-Adam step, against torch's fused Adam and against a loop over tasks written by hand.

Everything is measured in one run, on the same tensors, in turn; the ratios are what to compare. AdaTask-Adam has T
accumulators to move, so T times the fused Adam of one gradient is what it could cost. The loop by hand is what one
writes from the paper's algorithm: for every parameter and task, eager operations on that task's moments.

    python -m benchmarks.adatask_step [--device cuda]
"""

import argparse
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from mtlcore.adatask import AdaTaskAdam

SHAPES = [(1600, 1024), (1024, 1600), (1600, 1000), (1600,), (1000,)]  # 4.9 million numbers, in a few layers
TASKS = (1, 2, 4, 8)
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


def parameters(device: str) -> list[torch.nn.Parameter]:
    """Returns new parameters with an ordinary gradient each."""
    result = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in SHAPES]
    for p in result:
        p.grad = torch.randn_like(p)
    return result


def by_hand(params: list[torch.nn.Parameter], task_grads: list[Tensor], num_tasks: int) -> Callable[[], None]:
    """Returns a step of AdaTask-Adam as a plain loop over parameters and tasks."""
    first = [torch.zeros_like(g) for g in task_grads]
    second = [torch.zeros_like(g) for g in task_grads]
    count = 0

    @torch.no_grad()
    def step() -> None:
        nonlocal count
        count += 1
        for p, g, m, v in zip(params, task_grads, first, second, strict=True):
            for t in range(num_tasks):
                m[t] = BETA1 * m[t] + (1 - BETA1) * g[t]
                v[t] = BETA2 * v[t] + (1 - BETA2) * g[t] ** 2
                m_hat = m[t] / (1 - BETA1**count)
                v_hat = v[t] / (1 - BETA2**count)
                p.sub_(LR * m_hat / (v_hat.sqrt() + EPS))

    return step


def milliseconds(steps: list[Callable[[], object]], rounds: int = 7, repeats: int = 5) -> list[float]:
    """Returns the median time of each step; the steps take turns, so that a busy moment meets all of them."""
    timers = [Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads()) for step in steps]
    for step in steps:
        step()
    times = [[timer.timeit(repeats).mean * 1e3 for timer in timers] for _ in range(rounds)]
    return [median(column) for column in zip(*times, strict=True)]


def main() -> None:
    """Measures and prints one row per number of tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="a device of torch; default cpu")
    device = parser.parse_args().device

    numbers = sum(torch.Size(shape).numel() for shape in SHAPES)
    print(f"One step, {numbers / 1e6:.1f} million parameters, float32, {device}, {torch.get_num_threads()} threads")
    print(" T   fused Adam   AdaTask-Adam    by hand   AdaTask / (T fused)   by hand / AdaTask")
    for num_tasks in TASKS:
        adam = torch.optim.Adam(parameters(device), lr=LR, fused=True)
        params, loop_params = parameters(device), parameters(device)
        for p in params:
            p.task_grad = torch.randn(num_tasks, *p.shape, device=device)  # type: ignore[attr-defined]
        adatask = AdaTaskAdam(params, num_tasks=num_tasks, lr=LR)
        loop = by_hand(loop_params, [p.task_grad for p in params], num_tasks)  # type: ignore[attr-defined]
        fused_ms, adatask_ms, loop_ms = milliseconds([adam.step, adatask.step, loop])
        print(
            f"{num_tasks:>2} {fused_ms:>9.2f} ms {adatask_ms:>11.2f} ms {loop_ms:>7.1f} ms "
            f"{adatask_ms / (num_tasks * fused_ms):>21.2f} {loop_ms / adatask_ms:>19.1f}"
        )


if __name__ == "__main__":
    main()
