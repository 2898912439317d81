"""Time of forward and backward of the scene network for many runs: one `vmap` over runs against a loop.

`vmap` turns R convolutions into one with R groups. Everything is measured in one run, in turn; ratios are to compare.

    python -m benchmarks.scene_models [--device cuda]
"""

import argparse

import torch
from torch.utils.benchmark import Timer

from mtlcore.scene_metrics import scene_losses
from mtlcore.scene_models import LoopedModel, UNet
from mtlcore.stacked import StackedModel

BATCH, SHAPES, RUNS = 8, ((16, 32), (32, 64)), (1, 6, 18)


def step(model: StackedModel, size: tuple[int, int], device: str, dtype: torch.dtype) -> Timer:
    """Returns the timer of one forward and backward pass on random scenes."""
    x = torch.rand(model.num_runs, BATCH, 3, *size, device=device, dtype=dtype)
    classes = torch.randint(0, 7, (model.num_runs, BATCH, *size), device=device).to(dtype)
    y = torch.stack([classes, x.mean(2)])
    losses_fn = scene_losses(torch.ones(2, model.num_runs, device=device, dtype=dtype))

    def run() -> None:
        torch.autograd.backward([loss.sum() for loss in losses_fn(model, (x, y))])

    return Timer("run()", globals={"run": run}, num_threads=1)


def main() -> None:
    """Prints milliseconds per run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    print("size   dtype     runs   vmap ms/run   loop ms/run   vmap / loop")
    for size in SHAPES:
        for dtype in (torch.float32, torch.float64):
            for runs in RUNS:
                copies = [UNet([8, 8, 16, 16], 7, dtype=dtype) for _ in range(runs)]
                times = [
                    1e3
                    / runs
                    * step(kind(copies).to(device), size, device, dtype).blocked_autorange(min_run_time=0.5).median
                    for kind in (StackedModel, LoopedModel)
                ]
                name = str(dtype).removeprefix("torch.")
                ratio = times[0] / times[1]
                print(f"{size[0]}x{size[1]}  {name}  {runs:4d}  {times[0]:12.1f}  {times[1]:12.1f}  {ratio:12.2f}")


if __name__ == "__main__":
    main()
