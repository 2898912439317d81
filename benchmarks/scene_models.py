"""Time of forward and backward of notebook 07's network for many runs: one `vmap` over runs against a loop.

`vmap` turns R convolutions into one with R groups. Everything is measured in one run, in turn; ratios are to compare.

    python -m benchmarks.scene_models [--device cuda] [--commit]
"""

import torch
from companion.metrics.scenes import scene_losses
from companion.networks.scenes import LoopedModel, UNet
from companion.train.stacked import StackedModel
from torch.utils.benchmark import Timer

from benchmarks._table import Row, arguments, machine, save

BATCH, SIDES, RUNS, CLASSES, PLANES, OCTAVES = 4, (16, 64), (1, 5), 8, 4, 4
CHANNELS = [16, 24, 48, 64]


def step(model: StackedModel, side: int, device: str) -> Timer:
    """Returns the timer of one forward and backward pass on random scenes."""
    x = torch.rand(model.num_runs, BATCH, PLANES, side, side, device=device)
    classes = torch.randint(0, CLASSES, (model.num_runs, BATCH, side, side), device=device).float()
    y = torch.stack([classes, x.mean(2)])
    losses_fn = scene_losses(torch.ones(2, model.num_runs, device=device))

    def run() -> None:
        torch.autograd.backward([loss.sum() for loss in losses_fn(model, (x, y))])

    return Timer("run()", globals={"run": run}, num_threads=1)


def measure(device: str) -> list[Row]:
    """Measures both kinds of stack at every number of runs, in turn."""
    rows = []
    for side in SIDES:
        for runs in RUNS:
            copies = [UNet(CHANNELS, CLASSES, planes=PLANES, octaves=OCTAVES) for _ in range(runs)]
            timers = [step(kind(copies).to(device), side, device) for kind in (StackedModel, LoopedModel)]
            vmap, loop = (1e3 / runs * timer.blocked_autorange(min_run_time=0.5).median for timer in timers)
            name = f"tiles of {side}x{side}"
            rows.append(Row(f"vmap over runs, {name}", 2, "step per run", vmap, "ms", runs))
            rows.append(Row(f"loop over runs, {name}", 2, "step per run", loop, "ms", runs))
            rows.append(Row(f"vmap over runs, {name}", 2, "vmap / loop", vmap / loop, runs=runs))
    return rows


def main() -> None:
    """Measures, prints and writes the table."""
    options = arguments(__doc__)
    about = machine(options.device)
    save("scene_models", "U-Net, batch 4, float32", measure(options.device), about, options.folder, options.device)


if __name__ == "__main__":
    main()
