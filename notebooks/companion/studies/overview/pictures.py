"""Each method in one picture, computed with the library: from gradients to the update, left to right."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from companion.plots.style import METHOD_COLOURS, task_colours
from mtlcore import AdaTaskAdam, Dominance, HydaLearn, combine, zero_task_grad

TASKS = ("main", "auxiliary")
PAIR = ("task A", "task B")
START = (-1.0, 0.6)  # where both parameters are in the picture of HydaLearn
NEAR, FAR = (0.15, 0.75), (-2.2, 0.2)  # an example's auxiliary target there; the main one is around 0


class _Point(nn.Module):
    """A model that is nothing but its two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(START, dtype=torch.float64))


def _losses(point: _Point, targets: Tensor) -> list[Tensor]:
    """Half the mean squared distance to each task's targets [T, B, 2]."""
    return [0.5 * (point.theta - target).square().sum(-1).mean() for target in targets]


def weigh(kinds: Sequence[Sequence[bool]], trial_step: float, seed: int) -> tuple[pd.DataFrame, list[Tensor]]:
    """Let HydaLearn weigh mini-batches at one place.

    Args:
        kinds: For each mini-batch, whether the auxiliary target of an example agrees with the main one.
        trial_step: Size a.
        seed: Of the examples.

    Returns:
        One row per mini-batch and task: batch, task, the trial step's `dx` and `dy`, `gain`, `weight`; and each
        mini-batch's targets [T, B, 2].
    """
    generator = torch.Generator().manual_seed(seed)
    rows, batches = [], []
    for number, agrees in enumerate(kinds, start=1):
        scatter = 0.25 * torch.randn(2, len(agrees), 2, generator=generator, dtype=torch.float64)
        auxiliary = torch.tensor([NEAR if same else FAR for same in agrees], dtype=torch.float64)
        targets = torch.stack([torch.zeros_like(auxiliary), auxiliary]) + scatter
        point = _Point()
        step = HydaLearn(point, _losses, [point.theta], trial_step=trial_step).backward(targets)
        moves = -trial_step * point.theta.task_grad  # type: ignore[attr-defined]
        for task, move, gain, weight in zip(TASKS, moves.tolist(), step.gains.tolist(), step.weights, strict=True):
            found = {"batch": number, "task": task, "dx": move[0], "dy": move[1], "gain": gain, "weight": float(weight)}
            rows.append(found)
        batches.append(targets)
    return pd.DataFrame(rows), batches


def draw_hydalearn(found: pd.DataFrame, batches: Sequence[Tensor]) -> Figure:
    """Draw what `weigh` found: mini-batch, trial steps, gains and weights, a row per mini-batch."""
    colours = task_colours(TASKS)
    fig, axes = plt.subplots(
        len(batches), 4, figsize=(10.0, 1.95 * len(batches) + 0.3), width_ratios=[1.25, 1.25, 0.75, 0.75]
    )
    titles = ["1  a mini-batch's targets", "2  a trial step per task", "3  gain of the main loss", "4  weights"]
    for number, (row, targets) in enumerate(zip(axes, batches, strict=True), start=1):
        part = found[found["batch"] == number].set_index("task")
        marks = {"main": "o", "auxiliary": "s"}
        for task, points in zip(TASKS, targets.numpy(), strict=True):
            row[0].plot(*points.T, marks[task], color=colours[task], ms=6, alpha=0.75, ls="none", label=task)
        x, y = np.meshgrid(np.linspace(-4.0, 2.0, 120), np.linspace(-1.9, 2.7, 120))
        height = 0.5 * sum(
            (axis - points.mean()) ** 2 for axis, points in zip((x, y), targets[0].numpy().T, strict=True)
        )
        row[1].contour(
            x, y, height, levels=np.arange(0.1, 9.0, 0.35), colors=colours["main"], linewidths=0.8, alpha=0.45
        )
        for task, dx, dy in part[["dx", "dy"]].itertuples():
            arrow = {"color": colours[str(task)], "width": 1.6, "headwidth": 7, "headlength": 7, "shrink": 0}
            row[1].annotate("", xytext=START, xy=(START[0] + dx, START[1] + dy), arrowprops=arrow)
        for ax in row[:2]:
            ax.plot(*START, "o", color="white", mec="black", ms=7, zorder=5)
            ax.annotate(r"$\theta$", START, (-4, -13), textcoords="offset points", ha="center")
            ax.set(xlim=(-3.0, 1.0), ylim=(-1.1, 1.9), xticks=[], yticks=[])
            ax.grid(visible=False)
        row[0].set_ylabel(f"mini-batch {number}")
        for ax, column in zip(row[2:], ("gain", "weight"), strict=True):
            _bars(ax, part.loc[list(TASKS), column], [colours[task] for task in TASKS])
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    axes[0, 0].legend(
        loc="upper left", frameon=True, framealpha=0.85, edgecolor="none", borderpad=0.2, handletextpad=0.1
    )
    low, high = min(0.0, 2.6 * found["gain"].min()), 1.35 * found["gain"].max()
    for row in axes:
        row[2].set_xlim(low, high)
        row[3].set_xlim(0, 1.4)
    return fig


def divide(scale: float, num_parameters: int, steps: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Feed Adam and AdaTask-Adam the same gradients of two tasks, one of them larger by a factor.

    Args:
        scale: The second task's gradients over the first's.
        num_parameters: Each has gradients of its own: a constant part and as much noise.
        steps: How many.
        seed: Of the gradients.

    Returns:
        One row per method and task: method, task, and of the parameters' root mean squares over time at the end the
        median: `gradient`, `divisor`, and `update` over the learning rate; and the share of the updates (rAU) of the
        second task, a row per method and parameter.
    """
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([1.0, scale], dtype=torch.float64).unsqueeze(1)
    drift = torch.randn(2, num_parameters, generator=generator, dtype=torch.float64).sign()
    noise = torch.randn(steps, 2, num_parameters, generator=generator, dtype=torch.float64)
    rows, shares = [], []
    for method in ("joint Adam", "AdaTask-Adam"):
        p = nn.Parameter(torch.zeros(num_parameters, dtype=torch.float64))
        optimizer: torch.optim.Optimizer = (
            torch.optim.Adam([p], lr=1e-3) if method == "joint Adam" else AdaTaskAdam([p], num_tasks=2, lr=1e-3)
        )
        dominance = Dominance(optimizer)
        squares = torch.zeros(2, num_parameters, dtype=torch.float64)
        for draw in noise:
            zero_task_grad([p])
            p.task_grad = size * (drift + draw)  # type: ignore[attr-defined]
            combine([p])
            optimizer.step()
            own = p.task_grad if method == "AdaTask-Adam" else p.task_grad.sum(0).expand(2, -1)  # type: ignore[attr-defined]
            squares = 0.999 * squares + 0.001 * own.square()
        divisors = (squares / (1 - 0.999**steps)).sqrt().median(1).values
        updates = (dominance.au[p] / (1 - dominance.decay**steps)).sqrt().median(1).values / 1e-3
        gradients = (size * (drift + noise)).square().mean(0).sqrt().median(1).values
        for number, task in enumerate(PAIR):
            values = {"gradient": gradients[number], "divisor": divisors[number], "update": updates[number]}
            rows.append({"method": method, "task": task} | {name: float(value) for name, value in values.items()})
        shares.append(pd.DataFrame({"method": method, "share": dominance.relative[p][1].numpy()}))
    return pd.DataFrame(rows), pd.concat(shares, ignore_index=True)


def draw_adatask(found: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """Draw what `divide` found: gradients, divisors, updates and shares, a row per method."""
    colours = list(task_colours(PAIR).values())
    methods = list(dict.fromkeys(found["method"]))
    fig, axes = plt.subplots(len(methods), 4, figsize=(10.0, 3.8), width_ratios=[0.9, 0.9, 0.9, 1.25], sharex="col")
    titles = ["1  gradients", "2  divided by \u221aaccumulator", "3  updates", "4  task B's share of the updates"]
    for row, method in zip(axes, methods, strict=True):
        part = found[found["method"] == method].set_index("task")
        _bars(row[0], part["gradient"], colours)
        if method == "joint Adam":
            _bars(row[1], part["divisor"].iloc[:1].rename({PAIR[0]: "joint"}), [METHOD_COLOURS[method]])
        else:
            _bars(row[1], part["divisor"], colours)
        _bars(row[2], part["update"], colours)
        values = shares.loc[shares["method"] == method, "share"]
        row[3].hist(
            values,
            bins=np.linspace(0, 1, 41),
            color=METHOD_COLOURS[method],
            weights=np.full(len(values), 1 / len(values)),
        )
        row[3].axvline(0.5, color="#444444", lw=1, ls="--")
        row[3].set(xlim=(0, 1), yticks=[])
        row[0].set_ylabel(method)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    for column, name in enumerate(("gradient", "divisor", "update")):
        for ax in axes[:, column]:
            ax.set_xlim(0, 1.4 * found[name].max())
    axes[-1, 3].set_xlabel("share of each parameter")
    return fig


def _bars(ax: Axes, values: "pd.Series[float]", colours: Sequence[str]) -> None:
    """Horizontal bars with their numbers, the first on top."""
    places = np.arange(len(values)) + (2 - len(values)) / 2  # one bar alone stands in the middle
    bars = ax.barh(places, values, color=list(colours), height=0.6)
    ax.bar_label(bars, [f"{value:z.2f}".replace("-", "\N{MINUS SIGN}") for value in values], padding=4, fontsize=9)
    ax.axvline(0, color="#444444", lw=1)
    ax.set_yticks(places, list(values.index))
    ax.set_ylim(1.5, -0.5)
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False)
