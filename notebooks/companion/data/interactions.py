"""Interactions in memory: ids, binary feedback and times, their splits, and tables that see the training fold only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from companion.data.interaction_log import Log
from companion.data.log_stream import unit_interval
from companion.data.tabular import Split

SPLITS = ("random", "time")
SHARES = (0.6, 0.2, 0.2)  # of the training, validation and test fold
DRAWN = 0.8  # share of the rows that a time-based split draws: by whole users, so that seeds differ


@dataclass(frozen=True)
class Interactions:
    """One data set of users, items and what users did with them.

    Attributes:
        name: What tables and figures call it.
        ids: Field -> whole numbers `[N]`, -1 for unknown; the first is the user.
        targets: Task -> labels 0.0 or 1.0, `[N]`.
        times: `[N]`, in whatever unit: they order a user's rows.
        checksum: sha256 of the file that it was read from, or what stands for it.
        licence: Terms of the data, in words.
        stand_in: Whether it only stands for the data of a paper.
    """

    name: str
    ids: dict[str, NDArray[np.int64]]
    targets: dict[str, NDArray[np.float64]]
    times: NDArray[np.int64]
    checksum: str
    licence: str
    stand_in: bool

    @property
    def users(self) -> NDArray[np.int64]:
        """The user of every row, `[N]`."""
        return next(iter(self.ids.values()))


@dataclass(frozen=True)
class Encoded:
    """One fold of several splits: rows of the tables, `ids [S, N, fields]`; `targets [S, T, N]`; `users [S, N]`."""

    ids: NDArray[np.int64]
    targets: NDArray[np.float64]
    users: NDArray[np.int64]


def interaction_splits(data: Interactions, kind: str, seeds: Sequence[int]) -> list[Split]:
    """Draw one 60 : 20 : 20 split per seed, all of equal sizes.

    Args:
        data: The data.
        kind: "random": every row falls into a fold by chance, so a user's later feedback helps to predict earlier
            feedback. "time": every user's last rows are the test fold and those before them the validation fold. That
            leaves out the **users'** future; what others did with the same item later may still be in training. (A cut
            at one date for all would leave out the items' future too, but where users come and go, as in MovieLens,
            hardly a user of the test fold would then be known.) Seeds draw users, whole, up to 80 % of the rows.
        seeds: One integer per split.

    Raises:
        ValueError: The kind is unknown, or a fold would be empty or hold one class of a task only.
    """
    if kind not in SPLITS:
        raise ValueError(f'Parameter `kind` should be "random" or "time". Found `kind = {kind!r}`. Pass one of them.')
    drawn = [(_random if kind == "random" else _by_time)(data, seed) for seed in seeds]
    for split, seed in zip(drawn, seeds, strict=True):
        for fold, rows in vars(split).items():
            for task, labels in data.targets.items():
                found = np.unique(labels[rows])
                if len(found) < 2:
                    what = f"only {found[0]:g}" if len(found) else "no row"
                    raise ValueError(
                        f"The {fold} fold of {data.name} should hold both classes of `{task}`. Found {what} in the "
                        f"split {kind!r} of seed {seed}. Pass more data, or leave the task out."
                    )
    return drawn


def _random(data: Interactions, seed: int) -> Split:
    rows = np.random.default_rng(seed).permutation(len(data.times))
    train, validation, test = np.split(rows, _ends(len(rows)))
    return Split(train=train, validation=validation, test=test)


def _by_time(data: Interactions, seed: int) -> Split:
    _, member = np.unique(data.users, return_inverse=True)  # [N] user numbers
    sizes = np.bincount(member)
    order = np.lexsort((data.times, member))  # rows of one user together, in time
    ends = np.array([[*_ends(size), size] for size in sizes])  # [users, 3]
    position = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # of a row among its user's
    fold = (position[:, None] >= ends[member[order]]).sum(1)
    place = np.random.default_rng(seed).permutation(len(sizes))  # a user's place in the draw
    folds = []
    for number in range(3):
        rows = order[fold == number]
        rows = rows[np.argsort(place[member[rows]], kind="stable")]
        folds.append(rows[: int(DRAWN * len(rows))])
    return Split(*folds)


def _ends(size: int) -> list[int]:
    return [round(SHARES[0] * size), round((SHARES[0] + SHARES[1]) * size)]


def encode(data: Interactions, drawn: Sequence[Split], rare: int) -> tuple[dict[str, int], tuple[Encoded, ...]]:
    """Number the ids of every split by its own training fold and stack the splits.

    Row 0 of a table is for ids that are unknown, never seen in training, or seen in fewer than `rare` training rows.

    Args:
        data: The data.
        drawn: Splits of equal sizes.
        rare: Fewest training rows for a row of its own.

    Returns:
        Field -> rows of its table, the most that any split needs; and the training, validation and test fold.
    """
    sizes = dict.fromkeys(data.ids, 1)
    folds: list[list[NDArray[np.int64]]] = [[], [], []]
    for split in drawn:
        columns = []
        for field, values in data.ids.items():
            known, counts = np.unique(values[split.train], return_counts=True)
            known = known[(counts >= rare) & (known >= 0)]
            sizes[field] = max(sizes[field], 1 + len(known))
            place = np.searchsorted(known, values)
            hit = np.take(known, place, mode="clip") == values if len(known) else np.zeros(len(values), np.bool_)
            columns.append(np.where(hit, place + 1, 0))
        table = np.stack(columns, axis=1)  # [N, fields]
        for fold, rows in zip(folds, (split.train, split.validation, split.test), strict=True):
            fold.append(table[rows])
    labels = np.stack(list(data.targets.values()))  # [T, N]
    return sizes, tuple(
        Encoded(
            ids=np.stack(fold),
            targets=np.stack([labels[:, getattr(split, name)] for split in drawn]),
            users=np.stack([data.users[getattr(split, name)] for split in drawn]),
        )
        for name, fold in zip(("train", "validation", "test"), folds, strict=True)
    )


def read_users(
    log: Log,
    fields: Sequence[str],
    time: str,
    *,
    name: str,
    licence: str,
    share: float,
    most_rows: int,
    checksum: str,
) -> Interactions:
    """Read the rows of some users of a log into memory, the log's first field being the user.

    Args:
        log: The log.
        fields: Columns of ids, the user's first.
        time: Column that orders a user's rows.
        name: Of the data.
        licence: Its terms.
        share: Share of the users, chosen by a hash of their id: the same whenever the file is read.
        most_rows: Rows that memory is meant for.
        checksum: What names this file in provenance.

    Raises:
        ValueError: A line is wrong, there are more than `most_rows` rows, or none.
    """
    kept, rows = [], 0
    user = log.index(fields[0])
    for block in log.blocks():
        part = block.rows[unit_interval(block.rows[:, user], 1) < share]
        rows += len(part)
        if rows > most_rows:
            raise ValueError(
                f"Parameter `share` should leave at most {most_rows} rows of `{log.path.name}`. "
                f"Found more with `share = {share}`. Pass a smaller share of the users."
            )
        kept.append(part)
    if not rows:
        raise ValueError(
            f"Parameter `share` should leave rows of `{log.path.name}`. Found none with `share = {share}`. "
            "Pass a larger share of the users."
        )
    table = np.concatenate(kept)
    return Interactions(
        name=name,
        ids={field: table[:, log.index(field)] for field in fields},
        targets={task: table[:, log.index(task)].astype(np.float64) for task in log.layout.labels},
        times=table[:, log.index(time)],
        checksum=checksum,
        licence=licence,
        stand_in=False,
    )
