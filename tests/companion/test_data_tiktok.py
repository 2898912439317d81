"""A log that is streamed: every line once per epoch, bad lines are named, memory does not grow with the file."""

import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from companion.data.interaction_log import Log, read_blocks
from companion.data.log_stream import Field, LogStream, scrambled, unit_interval
from companion.data.tiktok import FIELDS, LAYOUT, load_tiktok, tiktok_log

GOOD = "7\t-1\t30\t4\t5\t0\t1\t0\t-1\t8\t53085738314\t9\n"


def lines(count: int, seed: int = 0) -> str:
    """A log of lines drawn at random; the item is the number of the line, from 1."""
    rng = np.random.default_rng(seed)
    columns = [rng.integers(-1, 9, count) for _ in LAYOUT.columns]
    columns[LAYOUT.columns.index("uid")] = rng.integers(0, 20, count)
    columns[LAYOUT.columns.index("item_id")] = np.arange(1, count + 1)
    for name in LAYOUT.labels:
        columns[LAYOUT.columns.index(name)] = rng.integers(0, 2, count)
    columns[LAYOUT.columns.index("time")] = rng.integers(53_000_000_000, 53_000_001_000, count)
    return "".join("\t".join(map(str, row)) + "\n" for row in np.stack(columns, axis=1))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    path = tmp_path / "final_track2_train.txt"
    path.write_text(lines(1000))
    return Log(path, LAYOUT)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ITEM = (Field("item_id", 2000, hashed=False),)


def test_the_public_sample_is_read() -> None:
    folder = os.environ.get("MTLCORE_DATA")
    if not folder or not (Path(folder) / "byterec_sample.txt").is_file():
        pytest.skip("MTLCORE_DATA is unset or its folder has no byterec_sample.txt")
    (block,) = read_blocks(Path(folder) / "byterec_sample.txt", LAYOUT)
    assert block.rows.shape == (200, 12)
    assert block.rows[0].tolist() == [37448, 115, 567569, 44888, 42, 0, 0, 0, 1699, 43981, 53085738314, 9]
    finish, like = (block.rows[:, LAYOUT.columns.index(name)].sum() for name in ("finish", "like"))
    assert (finish, like) == (76, 7)
    stream = LogStream(Log(Path(folder) / "byterec_sample.txt", LAYOUT), FIELDS, batch_size=100)
    ids, targets = zip(*stream.batches(generator()), strict=True)
    assert torch.cat(targets, dim=1).sum(1).tolist() == [7, 76]
    assert all((torch.cat(ids)[:, i] < field.size).all() for i, field in enumerate(FIELDS))


@pytest.mark.parametrize("block_bytes", [200, 1 << 18])
def test_blocks_hold_the_numbers_of_the_file(log: Log, block_bytes: int) -> None:
    expected = np.loadtxt(log.path, dtype=np.int64, delimiter="\t")
    blocks = list(read_blocks(log.path, LAYOUT, block_bytes))
    assert np.array_equal(np.concatenate([block.rows for block in blocks]), expected)
    assert [b.first_line for b in blocks] == np.cumsum([1, *(len(b.rows) for b in blocks)])[:-1].tolist()
    assert (len(blocks) > 100) == (block_bytes == 200)


def test_a_last_line_without_an_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(GOOD + GOOD.rstrip("\n"))
    assert sum(len(block.rows) for block in read_blocks(path, LAYOUT)) == 2


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("7\t-1\t30\n", r"line 3, should have 12 columns. Found 3"),
        (GOOD.replace("\n", "\t1\n"), r"line 3, should have 12 columns. Found 13"),
        ("\n", r"line 3, should have 12 columns. Found 1"),
        (
            GOOD.replace("\t30\t", "\tx30\t"),
            r"line 3, should have a whole number as `item_id`. Found `item_id = 'x30'`",
        ),
        (
            GOOD.replace("\t30\t", "\t3.5\t"),
            r"line 3, should have a whole number as `item_id`. Found `item_id = '3.5'`",
        ),
        (GOOD.replace("\t30\t", "\t\t"), r"line 3, should have a whole number as `item_id`. Found `item_id = ''`"),
        (
            GOOD.replace("\t30\t", "\t3-0\t"),
            r"line 3, should have a whole number as `item_id`. Found `item_id = '3-0'`",
        ),
        (GOOD.replace("-1\t8", "-\t8"), r"line 3, should have a whole number as `music_id`. Found `music_id = '-'`"),
        (
            GOOD.replace("30", "9" * 19, 1),
            r"line 3, should have a whole number as `item_id`. Found `item_id = '9{19}'`",
        ),
        (GOOD.replace("\n", "\r\n"), r"line 3, should have a whole number as `duration`. Found `duration = '9\\r'`"),
        (GOOD.replace("\t1\t0\t", "\t1\t2\t"), r"line 3, should have a `like` of 0 or 1. Found `like = 2`"),
        (GOOD.replace("\t30\t", "\t-2\t"), r"line 3, should have a `item_id` of 0 or more, .* Found `item_id = -2`"),
        # An empty field and two numbers in one: as many numbers as there should be.
        (GOOD.replace("-1\t30", "\t3-0"), r"line 3, should have a whole number as `user_city`"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, sentence: str) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes((GOOD * 2 + bad + GOOD).encode())
    with pytest.raises(ValueError, match=r"File `log.txt`, " + sentence):
        list(LogStream(Log(path, LAYOUT), FIELDS, batch_size=1).batches(generator()))


def test_a_bad_line_is_named_in_any_block(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(GOOD * 5000 + "7\t-1\t30\n")
    with pytest.raises(ValueError, match=r"line 5001, should have 12 columns"):
        list(read_blocks(path, LAYOUT, 1000))


def test_an_id_beyond_the_table_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(GOOD * 2 + GOOD.replace("\t30\t", "\t99\t"))
    fields = [Field("item_id", 100, hashed=False)]  # row 0 and the ids 0 to 98
    with pytest.raises(ValueError, match=r"line 3, should have a `item_id` from 0 to 98, .* Found `item_id = 99`"):
        list(LogStream(Log(path, LAYOUT), fields, batch_size=1).batches(generator()))


def test_an_absent_and_an_empty_file_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTLCORE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"`final_track2_train.txt` .* MTLCORE_DATA. Found the variable unset"):
        tiktok_log()
    monkeypatch.setenv("MTLCORE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"`final_track1_train.txt` should be there. Found nothing at"):
        tiktok_log(track=1)
    (tmp_path / "final_track2_train.txt").touch()
    with pytest.raises(ValueError, match=r"`final_track2_train.txt` should hold interactions. Found no line"):
        list(tiktok_log().blocks())


def test_a_file_of_fewer_lines_than_a_batch_is_named(log: Log) -> None:
    stream = LogStream(log, ITEM, batch_size=1001)
    with pytest.raises(ValueError, match=r"should have at least a batch of 1001 lines. Found fewer"):
        list(stream.batches(generator()))


def items(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[int]:
    return [int(item) - 1 for ids, _ in batches for item in ids[:, 0]]


def test_every_line_comes_once_per_epoch_in_another_order(log: Log) -> None:
    stream = LogStream(log, ITEM, batch_size=50, buffer_rows=300)
    batches = list(stream.batches(generator(), epochs=2))
    assert [ids.shape for ids, _ in batches] == [(50, 1)] * 40
    seen = items(batches)
    assert Counter(seen) == Counter(2 * list(range(1, 1001)))
    assert seen[:1000] != seen[1000:]
    assert seen == items(list(LogStream(log, ITEM, batch_size=50, buffer_rows=300).batches(generator(), epochs=2)))
    assert seen != items(list(stream.batches(generator(1), epochs=2)))
    assert sorted(seen[:300]) == list(range(1, 301))  # shuffled within the buffer, not beyond it
    assert stream.rows_read == 4000


def test_labels_stay_with_their_line(log: Log) -> None:
    rows = np.loadtxt(log.path, dtype=np.int64, delimiter="\t")
    columns = [LAYOUT.columns.index(name) for name in LAYOUT.labels]
    for ids, targets in LogStream(log, ITEM, batch_size=64, buffer_rows=256).batches(generator()):
        assert torch.equal(targets.T, torch.from_numpy(rows[ids[:, 0] - 2][:, columns]).float())


def test_what_does_not_fill_a_batch_is_left_out_at_the_end_only(log: Log) -> None:
    seen = items(list(LogStream(log, ITEM, batch_size=64, buffer_rows=300).batches(generator())))
    assert len(seen) == 960  # 15 batches of 1000 lines
    assert set(range(1, 769)) <= set(seen)  # three buffers of 256


def test_hashed_ids_fill_their_table_evenly_and_unknown_ones_have_row_zero(log: Log) -> None:
    (block,) = log.blocks()
    field = Field("item_id", 101)
    values = np.arange(10_000)
    rows = field.rows(values, log.path, block)
    counts = np.bincount(rows, minlength=101)
    assert counts[0] == 0
    assert counts[1:].min() > 60  # 100 +- 4 standard deviations
    assert counts[1:].max() < 140
    assert field.rows(np.array([-1]), log.path, block).tolist() == [0]
    assert np.array_equal(rows, field.rows(values, log.path, block))


def test_scrambling_is_splitmix64() -> None:
    # The first numbers of the published generator with seed 1234567 (its state grows by the golden ratio each time).
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [int(scrambled(np.array([1234567]), seed)[0]) for seed in range(3)] == expected
    assert unit_interval(np.array([1234567]), 0)[0] == pytest.approx(6457827717110365317 / 2**64)


def test_memory_is_bounded_by_the_buffers_not_by_the_file(tmp_path: Path) -> None:
    peaks = []
    for count in (20_000, 80_000):
        path = tmp_path / "log.txt"
        path.write_text(GOOD * count)
        tracemalloc.start()
        for _ in LogStream(Log(path, LAYOUT), FIELDS, batch_size=256, buffer_rows=4096).batches(generator()):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]  # the file is four times as long


def test_users_are_read_whole_into_memory(log: Log) -> None:
    data = load_tiktok(log, share=0.5)
    rows = np.loadtxt(log.path, dtype=np.int64, delimiter="\t")
    users = np.unique(data.users)
    assert 3 < len(users) < 17
    assert len(data.times) == np.isin(rows[:, 0], users).sum()
    assert list(data.targets) == ["like", "finish"]
    assert not data.stand_in
    with pytest.raises(
        ValueError, match=r"at most 100 rows of `final_track2_train.txt`. Found more with `share = 0.5`"
    ):
        load_tiktok(log, share=0.5, most_rows=100)
    with pytest.raises(ValueError, match=r"should leave rows .* Found none with `share = 0`"):
        load_tiktok(log, share=0)


def test_a_batch_larger_than_the_buffer_is_refused(log: Log) -> None:
    with pytest.raises(ValueError, match=r"between 1 and `buffer_rows`, 8. Found `batch_size = 9`"):
        LogStream(log, ITEM, batch_size=9, buffer_rows=8)
