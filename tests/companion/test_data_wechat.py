"""The WeChat layout: two files that are joined line by line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from companion.data.log_stream import LogStream
from companion.data.wechat import FIELDS, LAYOUT, WeChatLog, load_wechat, read_feeds, wechat_log

HEADER = ",".join(LAYOUT.columns) + "\n"
FEED_HEADER = "feedid,authorid,videoplayseconds,description,ocr,asr,bgm_song_id,bgm_singer_id\n"
FEED_LINES = '30,900,12,"1 2, 3",,,55.0,7.0\n10,901,7,,,,,\n20,900,9,"two\nlines",,,,\n'


def action(user: int, feed: int, day: int = 1, **others: int) -> str:
    values = {"userid": user, "feedid": feed, "date_": day, "device": 2, **others}
    return ",".join(str(values.get(name, 0)) for name in LAYOUT.columns) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feed_info.csv").write_text(FEED_HEADER + FEED_LINES)
    lines = [action(1, 10, like=1), action(1, 30, day=2, forward=1, read_comment=1), action(2, 20), action(2, 30)]
    (tmp_path / "user_action.csv").write_text(HEADER + "".join(lines))
    return tmp_path


def log(folder: Path) -> WeChatLog:
    return WeChatLog(folder / "user_action.csv", folder / "feed_info.csv")


def test_videos_are_read_in_order_without_their_texts(folder: Path) -> None:
    feeds, columns = read_feeds(folder / "feed_info.csv")
    assert feeds.tolist() == [10, 20, 30]
    assert columns.tolist() == [[901, 7, -1], [900, 9, -1], [900, 12, 55]]


def test_lines_are_joined_with_their_video(folder: Path) -> None:
    (block,) = log(folder).blocks()
    assert block.first_line == 2
    names = log(folder).columns
    assert block.rows[:, names.index("authorid")].tolist() == [901, 900, 900, 900]
    assert block.rows[:, names.index("bgm_song_id")].tolist() == [-1, 55, -1, 55]
    ids, targets = next(LogStream(log(folder), FIELDS, batch_size=4).batches(torch.Generator().manual_seed(0)))
    assert ids.shape == (4, 6)
    assert sorted(ids[:, 3].tolist())[:2] == [0, 0]  # unknown music
    assert ids[:, 5].tolist() == [3] * 4  # device 2, not hashed
    assert dict(zip(LAYOUT.labels, targets.sum(1).tolist(), strict=True)) == {
        "forward": 1,
        "click_avatar": 0,
        "like": 1,
        "read_comment": 1,
    }


def test_all_users_are_read_into_memory(folder: Path) -> None:
    data = load_wechat(log(folder), share=1.0)
    assert data.users.tolist() == [1, 1, 2, 2]
    assert data.times.tolist() == [1, 2, 1, 1]
    assert list(data.ids) == [field.column for field in FIELDS]
    assert np.array_equal(data.targets["forward"], [0, 1, 0, 0])


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("1,10,1\n", r"_action.csv`, line 6, should have 13 columns. Found 3"),
        (action(1, 11), r"line 6, should have a `feedid` of the 3 in `feed_info.csv`. Found `feedid = 11`"),
        (action(1, 10, device=3), r"_action.csv`, line 6, should have a `device` from 0 to 2, .* Found `device = 3`"),
        (action(1, 10, forward=7), r"_action.csv`, line 6, should have a `forward` of 0 or 1. Found `forward = 7`"),
    ],
)  # fmt: skip
def test_a_bad_action_is_named(folder: Path, bad: str, sentence: str) -> None:
    with (folder / "user_action.csv").open("a") as file:
        file.write(bad)
    with pytest.raises(ValueError, match=sentence):
        list(LogStream(log(folder), FIELDS, batch_size=1).batches(torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("40,1\n", r"`feed_info.csv`, line 6, should have 8 columns. Found 2"),
        ("40,one,9,,,,,\n", r"`feed_info.csv`, line 6, should have a number as `authorid`. Found `authorid = 'one'`"),
        ("40,nan,9,,,,,\n", r"`feed_info.csv`, line 6, should have a number as `authorid`. Found `authorid = 'nan'`"),
        ("10,1,9,,,,,\n", r"`feed_info.csv`, line 6, should name a video once. Found `feedid = 10` again"),
    ],
)
def test_a_bad_video_is_named(folder: Path, bad: str, sentence: str) -> None:
    with (folder / "feed_info.csv").open("a") as file:
        file.write(bad)
    with pytest.raises(ValueError, match=sentence):
        log(folder)


def test_other_headers_are_refused(folder: Path) -> None:
    (folder / "user_action.csv").write_text(HEADER.replace("read_comment,", "") + action(1, 10))
    with pytest.raises(
        ValueError, match=r"`user_action.csv`, line 1, should name the columns userid, .* Found `userid, "
    ):
        list(log(folder).blocks())
    (folder / "feed_info.csv").write_text("feedid,authorid\n")
    with pytest.raises(ValueError, match=r"`feed_info.csv`, line 1, .* Found no videoplayseconds, bgm_song_id"):
        log(folder)


def test_files_without_lines_are_named(folder: Path) -> None:
    (folder / "user_action.csv").write_text(HEADER)
    with pytest.raises(ValueError, match=r"`user_action.csv` should hold interactions. Found no line"):
        list(log(folder).blocks())
    (folder / "feed_info.csv").write_text(FEED_HEADER)
    with pytest.raises(ValueError, match=r"`feed_info.csv` should hold videos. Found no line"):
        log(folder)


def test_absent_files_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTLCORE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"`user_action.csv` .* Found the variable unset"):
        wechat_log()
    monkeypatch.setenv("MTLCORE_DATA", str(folder))
    (folder / "feed_info.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"`feed_info.csv` should be there. Found nothing at"):
        wechat_log()
