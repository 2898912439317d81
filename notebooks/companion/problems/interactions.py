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
from companion.problems.run_seeds import split_of
from companion.train.devices import resolve_device
from companion.train.problem import Problem
from companion.train.stacked import RunData, StackedModel

LOADERS: dict[str, Callable[[], Interactions]] = {
    "movielens": load_movielens,
    "tiktok": load_tiktok,
    "wechat": load_wechat,
}
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


def build(c: Mapping[str, Any], sizes: dict[str, int], num_tasks: int, seed: int, *, sparse: bool = False) -> Network:
    """Draw a network in float64: equal seeds give equal initial weights of what tasks share.

    Args:
        c: `network`, "shared bottom" or "MMoE", with `width` numbers per embedding and `hidden`, the widths of the
            shared layers or of each of an MMoE's `experts`; with `dropouts` an MMoE can drop units.
        sizes: Field -> rows of its table.
        num_tasks: Number of tasks.
        seed: Of the weights.
        sparse: Whether the gradients of an MMoE's tables are sparse.
    """
    drawn: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}
    if c["network"] == "MMoE":
        (hidden,) = c["hidden"]
        shape = (c["width"], c["experts"], hidden, num_tasks)
        return MMoE(sizes, *shape, masked="dropouts" in c, sparse=sparse, **drawn)
    return EmbeddedBottom(sizes, c["width"], c["hidden"], num_tasks, **drawn)


def layer_names(c: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    """Names of the shared tables and layers, in the order in which they are numbered from 1."""
    return list(build(c, dict.fromkeys(fields, 1), 1, 0).shared_layers())


def prepare(c: Mapping[str, Any], seeds: Sequence[int]) -> Problem:
    """Prepare the splits of a log for runs with these seeds, which may repeat.

    A seed names initial weights and an order of batches, and by `split_of` it names its split.

    Args:
        c: `dataset`, `users`, `split` and `rare` make the folds, see `build` for the model; `batch_size` and `device`;
            with `alone` only that task, from 0, is there. The splits of its `seeds` are prepared together.
        seeds: One per run, each of them among `c["seeds"]`.
    """
    device, names = resolve_device(c["device"]), tuple(dict.fromkeys(split_of(seed) for seed in c["seeds"]))
    source = torch.tensor([names.index(split_of(seed)) for seed in seeds], device=device)
    sizes, encoded = folds(c["dataset"], c["users"], c["split"], names, c["rare"])
    tasks = [c["alone"]] if "alone" in c else list(range(encoded[0].targets.shape[1]))

    def on_device(fold: Encoded) -> RunData:
        inputs, targets = (torch.from_numpy(array).to(device) for array in (fold.ids, fold.targets[:, tasks]))
        return RunData(inputs, targets, source)

    train, validation, test = (on_device(fold) for fold in encoded)
    return Problem(
        StackedModel([build(c, sizes, len(tasks), seed) for seed in seeds]).to(device),
        list(seeds),
        ["classification"] * len(tasks),
        binary_losses,
        train,
        validation,
        test,
        c["batch_size"],
    )
