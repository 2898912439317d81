"""The bundled ratings, their splits, and tables that see the training fold only."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from companion.data.interactions import Interactions, encode, interaction_splits
from companion.data.movielens import load_movielens, movielens_interactions
from companion.data.tabular import Split


@pytest.fixture(scope="module")
def ratings() -> Interactions:
    return load_movielens()


@pytest.fixture
def tiny() -> Interactions:
    """Three users with ten rows each; users' times overlap."""
    n = 30
    rng = np.random.default_rng(0)
    user = np.repeat([5, 7, 9], 10)
    return Interactions(
        name="tiny",
        ids={"user": user, "item": rng.integers(0, 8, n)},
        targets={"a": (np.arange(n) % 2).astype(np.float64)},
        times=rng.permutation(n),
        checksum="-",
        licence="made here",
        stand_in=True,
    )


def test_counts_of_the_ratings(ratings: Interactions) -> None:
    assert len(ratings.times) == 100_004
    assert len(np.unique(ratings.users)) == 671
    assert len(np.unique(ratings.ids["film"])) == 9066
    assert {task: int(labels.sum()) for task, labels in ratings.targets.items()} == {
        "dislike": 13_385,
        "favourite": 15_095,
        "like": 51_568,
    }
    assert ratings.stand_in


def test_labels_of_one_rating_exclude_each_other_as_documented(ratings: Interactions) -> None:
    dislike, favourite, like = ratings.targets.values()
    assert (favourite <= like).all()
    assert not (dislike * like).any()


def test_labels_and_ids_of_rows_made_by_hand() -> None:
    table = pd.DataFrame(
        {
            "userId": [1, 1, 2, 2],
            "movieId": [10, 11, 10, 12],
            "genres": ["Drama", "Comedy|Drama", "Drama", ""],
            "year": [1994.0, 2001.0, 1994.0, np.nan],
            "rating": [2.0, 4.0, 5.0, 3.5],
            "timestamp": [3, 4, 5, 6],
        }
    )
    data = movielens_interactions(table)
    assert data.targets["dislike"].tolist() == [1, 0, 0, 0]
    assert data.targets["favourite"].tolist() == [0, 0, 1, 0]
    assert data.targets["like"].tolist() == [0, 1, 1, 0]
    assert data.ids["decade"].tolist() == [199, 200, 199, -1]
    assert data.ids["genres"].tolist() == [2, 1, 2, 0]


@pytest.mark.parametrize("kind", ["random", "time"])
def test_splits_are_disjoint_of_equal_sizes_and_follow_their_seed(ratings: Interactions, kind: str) -> None:
    a, b, c = interaction_splits(ratings, kind, [3, 3, 4])
    for split in (a, c):
        rows = np.concatenate([split.train, split.validation, split.test])
        assert len(np.unique(rows)) == len(rows)
    assert [len(rows) for rows in vars(a).values()] == [len(rows) for rows in vars(c).values()]
    assert np.array_equal(a.test, b.test)
    assert not np.array_equal(a.test, c.test)


def test_random_split_takes_all_rows(ratings: Interactions) -> None:
    (split,) = interaction_splits(ratings, "random", [0])
    assert [len(split.train), len(split.validation), len(split.test)] == [60_002, 20_001, 20_001]


def test_time_split_leaves_out_every_users_future(ratings: Interactions) -> None:
    (split,) = interaction_splits(ratings, "time", [0])
    times = pd.Series(ratings.times)
    for before, after in ((split.train, split.validation), (split.validation, split.test)):
        last = times[before].groupby(ratings.users[before]).max()
        first = times[after].groupby(ratings.users[after]).min()
        both = last.index.intersection(first.index)
        assert len(both) > 450
        assert (last[both] <= first[both]).all()
    assert set(ratings.users[split.test]) <= set(ratings.users[split.train]) | set(ratings.users[split.validation])


def test_time_split_by_hand(tiny: Interactions) -> None:
    (split,) = interaction_splits(tiny, "time", [1])
    # 60 : 20 : 20 of 10 rows per user is 6, 2, 2; of all users' 18, 6, 6 rows 80 % are 14, 4, 4.
    assert [len(rows) for rows in vars(split).values()] == [14, 4, 4]
    for fold, positions in ((split.train, range(6)), (split.validation, (6, 7)), (split.test, (8, 9))):
        for row in fold:
            earlier = (tiny.times < tiny.times[row]) & (tiny.users == tiny.users[row])
            assert earlier.sum() in positions


def test_rare_and_unseen_ids_share_row_zero_and_training_alone_decides() -> None:
    ids = {"user": np.array([1, 1, 1, 2, 2, 3, 1, 2, 3, 4]), "item": np.array([-1, -1, 5, 5, 6, 6, 5, 6, 9, -1])}
    labels = (np.arange(10) % 2).astype(np.float64)
    data = Interactions("tiny", ids, {"a": labels}, np.arange(10), "-", "made here", True)
    split = Split(np.arange(6), np.array([6, 7]), np.array([8, 9]))
    sizes, (train, validation, test) = encode(data, [split], rare=2)
    assert sizes == {"user": 3, "item": 3}  # users 1, 2 and items 5, 6; user 3 is rare, item -1 is unknown
    assert train.ids[0].tolist() == [[1, 0], [1, 0], [1, 1], [2, 1], [2, 2], [0, 2]]
    assert validation.ids[0].tolist() == [[1, 1], [2, 2]]
    assert test.ids[0].tolist() == [[0, 0], [0, 0]]
    assert test.users[0].tolist() == [3, 4]
    assert train.targets[0].tolist() == [labels[:6].tolist()]
    changed = dataclasses.replace(data, ids={**ids, "item": np.array([-1, -1, 5, 5, 6, 6, 7, 7, 7, 7])})
    again = encode(changed, [split], rare=2)[1][0]
    assert np.array_equal(again.ids, train.ids)


def test_unknown_split_is_named(ratings: Interactions) -> None:
    with pytest.raises(ValueError, match=r'"random" or "time". Found `kind = \'date\'`'):
        interaction_splits(ratings, "date", [0])


def test_fold_without_a_class_is_named(tiny: Interactions) -> None:
    one = dataclasses.replace(tiny, targets={"a": np.zeros(30)})
    with pytest.raises(ValueError, match=r"train fold of tiny should hold both classes of `a`. Found only 0 .* seed 7"):
        interaction_splits(one, "random", [7])


def test_empty_fold_is_named(tiny: Interactions) -> None:
    two = dataclasses.replace(
        tiny, ids={"user": np.array([1, 1])}, targets={"a": np.array([0.0, 1.0])}, times=np.array([0, 1])
    )
    with pytest.raises(ValueError, match=r"fold of tiny should hold both classes of `a`. Found no row"):
        interaction_splits(two, "time", [0])


def test_missing_columns_of_the_ratings_are_named() -> None:
    with pytest.raises(ValueError, match=r"Found no genres, .*timestamp"):
        movielens_interactions(pd.DataFrame({"rating": [1.0]}))
