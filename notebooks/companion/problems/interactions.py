"""Logs of interactions as problems: users, items and which of several actions followed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from companion.data.interactions import Encoded, Interactions, encode, interaction_splits
from companion.data.log_stream import unit_interval
from companion.data.movielens import load_movielens
from companion.data.tiktok import load_tiktok
from companion.data.wechat import load_wechat
from companion.networks.recommenders import EmbeddedBottom, MMoE
from companion.networks.shared_bottom import binary_losses
from companion.train.devices import resolve_device
from companion.train.problem import Problem
from companion.train.stacked import RunData, StackedModel

LOADERS: dict[str, Callable[[], Interactions]] = {
    "movielens": load_movielens,
    "tiktok": load_tiktok,
    "wechat": load_wechat,
}
NETWORKS = ("shared bottom", "MMoE")

Network = EmbeddedBottom | MMoE


@lru_cache(maxsize=2)
def load(dataset: str, users: int) -> Interactions:
    """Load a data set, or the rows of so many of its users.

    Args:
        dataset: Name in `LOADERS`.
        users: How many users, chosen by a hash of their id; 0 for all.
    """
    if dataset not in LOADERS:
        raise ValueError(
            f"Parameter `dataset` should be one of {', '.join(LOADERS)}. Found `dataset = {dataset!r}`. Pass one."
        )
    data = LOADERS[dataset]()
    if not users:
        return data
    everyone = np.unique(data.users)
    chosen = everyone[np.argsort(unit_interval(everyone, 2))][:users]
    return _rows(data, np.isin(data.users, chosen))


def _rows(data: Interactions, keep: NDArray[np.bool_]) -> Interactions:
    return replace(
        data,
        ids={field: values[keep] for field, values in data.ids.items()},
        targets={task: labels[keep] for task, labels in data.targets.items()},
        times=data.times[keep],
    )


@lru_cache(maxsize=4)
def folds(
    dataset: str, users: int, split: str, seeds: tuple[int, ...], rare: int
) -> tuple[dict[str, int], tuple[Encoded, ...]]:
    """Sizes of the tables, and the training, validation and test fold of every seed; see `encode`."""
    data = load(dataset, users)
    return encode(data, interaction_splits(data, split, seeds), rare)


def build(network: str, sizes: dict[str, int], width: int, hidden: Sequence[int], num_tasks: int, seed: int) -> Network:
    """Draw a network in float64: equal seeds give equal initial weights.

    Args:
        network: "shared bottom", or "MMoE" with four experts of the last width each.
        sizes: Field -> rows of its table.
        width: Numbers per embedding.
        hidden: Widths of the shared layers.
        num_tasks: Number of tasks.
        seed: Of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    if network == "MMoE":
        return MMoE(sizes, width, 4, hidden[-1], num_tasks, generator=generator, dtype=torch.float64)
    return EmbeddedBottom(sizes, width, hidden, num_tasks, generator=generator, dtype=torch.float64)


def layer_names(network: str, fields: Sequence[str], hidden: Sequence[int]) -> list[str]:
    """Names of the shared tables and layers, in the order in which they are numbered from 1."""
    return list(build(network, dict.fromkeys(fields, 1), 1, hidden, 1, 0).shared_layers())


def prepare(c: Mapping[str, Any], seeds: Sequence[int]) -> Problem:
    """Prepare the splits of a log for runs with these seeds, which may repeat.

    Args:
        c: `dataset`, `users`, `split` and `rare` make the folds, `network`, `width` and `hidden` the model;
            `batch_size`, `device`; `seeds` are the splits that are prepared together.
        seeds: One per run, each of them among `c["seeds"]`.
    """
    device, names = resolve_device(c["device"]), tuple(c["seeds"])
    source = torch.tensor([names.index(seed) for seed in seeds], device=device)
    sizes, encoded = folds(c["dataset"], c["users"], c["split"], names, c["rare"])

    def on_device(fold: Encoded) -> RunData:
        inputs, targets = (torch.from_numpy(array).to(device) for array in (fold.ids, fold.targets))
        return RunData(inputs, targets, source)

    train, validation, test = (on_device(fold) for fold in encoded)
    num_tasks = train.targets.shape[1]
    shape = (c["network"], sizes, c["width"], c["hidden"], num_tasks)
    return Problem(
        StackedModel([build(*shape, seed) for seed in seeds]).to(device),
        list(seeds),
        ["classification"] * num_tasks,
        binary_losses,
        train,
        validation,
        test,
        c["batch_size"],
    )
