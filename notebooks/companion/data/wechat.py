"""The logs of the WeChat Big Data Challenge 2021: four kinds of feedback on videos.

`user_action.csv` has a line per user and video, `feed_info.csv` one per video with its author, length and music. They
are not public; a reader who has them puts both into the folder that the variable `MTLCORE_DATA` names. The AdaTask
paper names WeChat; that it means this challenge is inferred, and columns and splits are our design.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from companion.data.interaction_log import UNKNOWN, Block, Log, LogLayout, existing, line_error, official_path
from companion.data.interactions import Interactions, read_users
from companion.data.log_stream import Field

FILE, FEEDS = "user_action.csv", "feed_info.csv"
SOURCE = "the organisers of the WeChat Big Data Challenge 2021"
LICENCE = "the challenge's terms: never redistributed"
LAYOUT = LogLayout(
    separator=",",
    columns=(
        "userid", "feedid", "date_", "device", "read_comment", "comment", "like", "play", "stay", "click_avatar",
        "forward", "follow", "favorite",
    ),
    header=True,
    labels=("forward", "click_avatar", "like", "read_comment"),  # the rarest first
    source=SOURCE,
)  # fmt: skip
OF_FEED = ("authorid", "videoplayseconds", "bgm_song_id")  # columns that `feed_info.csv` adds
FIELDS = (
    Field("userid", 1 << 16),
    Field("feedid", 1 << 18),
    Field("authorid", 1 << 16),
    Field("bgm_song_id", 1 << 16),
    Field("videoplayseconds", 1 << 10),
    Field("device", 4, hashed=False),  # 1 or 2, the phone's system
)


def read_feeds(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read what is known of the videos; memory is a few numbers per video.

    Args:
        path: `feed_info.csv`, with at least the columns feedid and `OF_FEED`; the texts are passed over.

    Returns:
        The videos' ids in order `[K]`, and their columns `OF_FEED`, `[K, 3]`, -1 where the file says nothing.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing, something is no number, a line is too short, or a video stands there twice.
    """
    feeds, rows, seen = [], [], set()
    with existing(path, SOURCE).open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        missing = [name for name in ("feedid", *OF_FEED) if name not in header]
        if missing:
            raise line_error(path, 1, f"name the columns feedid, {', '.join(OF_FEED)}", f"no {', '.join(missing)}")
        places = [header.index(name) for name in ("feedid", *OF_FEED)]
        for fields in reader:
            if len(fields) != len(header):
                raise line_error(path, reader.line_num, f"have {len(header)} columns", f"{len(fields)}")
            feed, *values = (_number(fields[i], header[i], path, reader.line_num) for i in places)
            if feed in seen:
                raise line_error(path, reader.line_num, "name a video once", f"`feedid = {feed}` again")
            seen.add(feed)
            feeds.append(feed)
            rows.append(values)
    if not feeds:
        raise ValueError(f"File `{path.name}` should hold videos. Found no line. Get it from {SOURCE}.")
    order = np.argsort(feeds)
    return np.array(feeds, dtype=np.int64)[order], np.array(rows, dtype=np.int64)[order]


def _number(text: str, name: str, path: Path, line: int) -> int:
    """A whole number, which the file may write as 12 or 12.0; -1 where it writes nothing."""
    if not text:
        return UNKNOWN
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise line_error(path, line, f"have a number as `{name}`", f"`{name} = {text[:40]!r}`") from None


class WeChatLog(Log):
    """`user_action.csv` with the columns of each line's video beside its own.

    Args:
        actions: `user_action.csv`.
        feeds: `feed_info.csv`, which is read at once.
    """

    def __init__(self, actions: Path, feeds: Path) -> None:
        """Read the videos."""
        super().__init__(actions, LAYOUT)
        self.columns = (*LAYOUT.columns, *OF_FEED)
        self._feeds, self._of_feed = read_feeds(feeds)

    def blocks(self) -> Iterator[Block]:
        """Read the actions once; a video that is not among the known ones is refused, by line."""
        for block in super().blocks():
            feeds = block.rows[:, self.index("feedid")]
            place = np.searchsorted(self._feeds, feeds)
            strange = np.take(self._feeds, place, mode="clip") != feeds
            if strange.any():
                row = int(strange.argmax())
                should = f"have a `feedid` of the {len(self._feeds)} in `{FEEDS}`"
                raise line_error(self.path, block.first_line + row, should, f"`feedid = {feeds[row]}`")
            yield Block(np.concatenate([block.rows, self._of_feed[place]], axis=1), block.first_line)


def wechat_log() -> WeChatLog:
    """The log in the folder that `MTLCORE_DATA` names, to be streamed.

    Raises:
        FileNotFoundError: The variable is unset or a file is absent.
    """
    return WeChatLog(official_path(FILE, SOURCE), official_path(FEEDS, SOURCE))


def load_wechat(log: Log | None = None, *, share: float = 0.02, most_rows: int = 1_000_000) -> Interactions:
    """Read the rows of a share of the users into memory; `log` is by default the official one. Days order users' rows.

    Raises:
        FileNotFoundError: The variable `MTLCORE_DATA` is unset or a file is absent.
        ValueError: A line is wrong, or the share leaves no row or too many.
    """
    log = log or wechat_log()
    return read_users(
        log,
        [field.column for field in FIELDS],
        "date_",
        name="WeChat",
        licence=LICENCE,
        share=share,
        most_rows=most_rows,
        checksum=f"unknown ({log.path.stat().st_size} bytes)",
    )
