r"""Regression tasks on one scale, whose losses are weighted so that their gradients are not (synthetic, our design).

After the toy problem of Chen et al. (2018, "GradNorm", `arXiv:1711.02257 <https://arxiv.org/abs/1711.02257>`_): task k
is a random function with a part that all tasks share and a part of its own,

.. math:: f_k(x) = c^\top \tanh\Big( 2\, \big(\sqrt{1-a}\, B + \sqrt{a}\, E_k\big)^\top x / \sqrt F \Big) ,

with standard normal B, E_k [F, M] and c [M], and a = ``own_part``. There the targets have different units, which also
spoils the heads. Here every target has mean 0 and variance 1, and the imbalance comes from the **weights of the
losses** (`train.losses.loss_weights`) and from label noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from companion.networks.shared_bottom import SharedBottom
from companion.train.devices import resolve_device
from companion.train.losses import squared_losses
from companion.train.problem import Problem
from companion.train.stacked import RunData, StackedModel

NUM_INPUTS, NUM_FEATURES = 8, 10  # F and M


@dataclass(frozen=True)
class Family:
    """A family of problems, one per seed.

    Attributes:
        noise: Standard deviation of each task's label noise, in units of the target's own; its length is T.
        own_part: Share a of a task's hidden weights that no other task has, in [0, 1].
    """

    noise: Sequence[float]
    own_part: float

    def draw(self, seed: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw inputs `[rows, F]`, the tasks' functions of them `[T, rows]` and noisy labels `[T, rows]`, in float64.

        Everything comes from the seed and the number of rows. The functions have mean 0 and variance 1 over the rows.
        """
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        readout, common = normal(NUM_FEATURES), normal(NUM_INPUTS, NUM_FEATURES)
        own = normal(len(self.noise), NUM_INPUTS, NUM_FEATURES)  # [T, F, M]
        mixing = (1 - self.own_part) ** 0.5 * common + self.own_part**0.5 * own
        inputs = normal(rows, NUM_INPUTS)
        functions = torch.tanh(2 * inputs @ mixing / NUM_INPUTS**0.5) @ readout  # [T, rows]
        functions = (functions - functions.mean(1, keepdim=True)) / functions.std(1, keepdim=True)
        scale = torch.tensor(self.noise, dtype=torch.float64)[:, None]  # [T, 1]
        return inputs, functions, functions + scale * normal(len(self.noise), rows)


def folds(
    family: Family, seeds: Sequence[int], source: Tensor, train_rows: int, held_out_rows: int
) -> tuple[RunData, RunData, RunData]:
    """Draw one problem per seed and divide it into training, validation and test fold.

    Labels of the training fold are noisy. The held-out folds have the functions themselves: a luxury of made-up data
    that takes the noise out of choosing a learning rate and out of the measure, for every method alike.

    Args:
        family: Where they come from.
        seeds: S seeds.
        source: Which of them each run reads, `[R]`, on the device that the folds go to.
        train_rows: Rows of the training fold.
        held_out_rows: Rows of the validation and of the test fold.
    """
    drawn = [family.draw(seed, train_rows + 2 * held_out_rows) for seed in seeds]
    inputs, functions, labels = (torch.stack(parts).to(source.device) for parts in zip(*drawn, strict=True))
    sizes = [train_rows, held_out_rows, held_out_rows]
    rows = torch.split(torch.arange(sum(sizes), device=source.device), sizes)
    targets = (labels, functions, functions)  # [S, T, rows] each
    train, validation, test = (RunData(inputs[:, r], y[:, :, r], source) for r, y in zip(rows, targets, strict=True))
    return train, validation, test


def prepare(c: Mapping[str, Any], seeds: Sequence[int]) -> Problem:
    """Prepare the family's problems for runs with these seeds, which may repeat.

    Args:
        c: `noise` (per task) and `own_part` make the family, `steps`, `batch_size`, `held_out` (rows of each held-out
            fold) the folds, `hidden` the networks; `device`; `seeds` are prepared together. With `rows` the training
            fold has that many examples, else every step has fresh ones.
        seeds: One per run, each of them among `c["seeds"]`.
    """
    device, names, num_tasks = resolve_device(c["device"]), list(c["seeds"]), len(c["noise"])
    source = torch.tensor([names.index(seed) for seed in seeds], device=device)
    family = Family(c["noise"], c["own_part"])

    def network(seed: int) -> SharedBottom:
        generator = torch.Generator().manual_seed(seed)
        return SharedBottom(NUM_INPUTS, c["hidden"], num_tasks, generator=generator, dtype=torch.float64)

    return Problem(
        StackedModel([network(seed) for seed in seeds]).to(device),
        list(seeds),
        ["regression"] * num_tasks,
        squared_losses,
        *folds(family, names, source, c.get("rows") or c["steps"] * c["batch_size"], c["held_out"]),
        c["batch_size"],
    )
