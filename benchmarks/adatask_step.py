"""Time of one AdaTask step, against torch's own optimizer and against a loop over tasks written by hand.

Everything is measured in one run, on the same tensors, in turn; the ratios are what to compare. AdaTask has T
accumulators to move, so T times torch's step on one gradient, by its fastest kernel, is what it could cost. The loop by
hand is what one writes from the paper's algorithm: for every parameter and task, eager operations on that task's
moments.

    python -m benchmarks.adatask_step [--device cuda] [--commit]
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from benchmarks._table import Row, arguments, machine, save
from mtlcore import AdaTaskAdagrad, AdaTaskAdam, AdaTaskRMSprop

SHAPES = [(1600, 1024), (1024, 1600), (1600, 1000), (1600,), (1000,)]  # 4.9 million numbers, in a few layers
TASKS = (1, 2, 4, 8)
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
BAR, BY_HAND_BAR = 1.25, 3.0


def parameters(device: str, num_tasks: int | None = None) -> list[torch.nn.Parameter]:
    """Returns new parameters with an ordinary gradient each, or with one per task."""
    result = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in SHAPES]
    for p in result:
        if num_tasks is None:
            p.grad = torch.randn_like(p)
        else:
            p.task_grad = torch.randn(num_tasks, *p.shape, device=device)  # type: ignore[attr-defined]
    return result


def by_hand(params: list[torch.nn.Parameter], num_tasks: int) -> Callable[[], None]:
    """Returns a step of AdaTask-Adam as a plain loop over parameters and tasks."""
    task_grads: list[Tensor] = [p.task_grad for p in params]  # type: ignore[attr-defined]
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


def milliseconds(steps: list[Callable[[], object]], rounds: int = 7, repeats: int = 3) -> list[float]:
    """Returns the least time of each step over rounds of taking turns: what else the machine does only adds to it."""
    timers = [Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads()) for step in steps]
    for step in steps:
        step()
    times = [[timer.timeit(repeats).mean * 1e3 for timer in timers] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]


def measure(device: str) -> list[Row]:
    """Measures every optimizer at every number of tasks."""
    pairs = (
        ("Adam", lambda p: torch.optim.Adam(p, lr=LR, fused=True), AdaTaskAdam),
        ("Adagrad", lambda p: torch.optim.Adagrad(p, lr=LR, fused=device == "cpu"), AdaTaskAdagrad),
        ("RMSprop", lambda p: torch.optim.RMSprop(p, lr=LR), AdaTaskRMSprop),  # torch has no fused kernel of it
    )
    rows = []
    for num_tasks in TASKS:
        loop = by_hand(parameters(device, num_tasks), num_tasks)
        steps: list[Callable[[], object]] = [loop]
        for _, ordinary, adatask in pairs:
            steps += [ordinary(parameters(device)).step]
            steps += [adatask(parameters(device, num_tasks), num_tasks=num_tasks).step]
        times = milliseconds(steps)
        for (name, _, _), ordinary_ms, adatask_ms in zip(pairs, times[1::2], times[2::2], strict=True):
            ratio = adatask_ms / (num_tasks * ordinary_ms)
            rows.append(Row(f"AdaTask-{name}", num_tasks, "step", adatask_ms, "ms"))
            rows.append(Row(f"AdaTask-{name}", num_tasks, f"step / (T steps of torch's {name})", ratio, bar=BAR))
        speedup = times[0] / times[2]
        rows.append(Row("AdaTask-Adam", num_tasks, "loop by hand / step", speedup, bar=BY_HAND_BAR, bound="at least"))
    return rows


def main() -> None:
    """Measures, prints and writes the table."""
    options = arguments(__doc__)
    about = machine(options.device)
    numbers = sum(torch.Size(shape).numel() for shape in SHAPES)
    setting = f"{numbers / 1e6:.1f} million parameters, float32"
    save("adatask_step", setting, measure(options.device), about, options.folder, options.device)


if __name__ == "__main__":
    main()
