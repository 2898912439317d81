"""The log of the ICME 2019 short-video challenge (TikTok): did a user finish a video, did they like it.

The layout is that of the public sample of 200 lines. The AdaTask paper names TikTok; that it means this challenge is
inferred. A reader who has the log puts `final_track1_train.txt` or `final_track2_train.txt` into the folder that the
variable `MTLCORE_DATA` names. What the paper took from it is not known to us: columns and splits are our design.
"""

from companion.data.interaction_log import Log, LogLayout, official_path
from companion.data.interactions import Interactions, read_users
from companion.data.log_stream import Field

FILES = {1: "final_track1_train.txt", 2: "final_track2_train.txt"}
SOURCE = "the organisers of the ICME 2019 short video understanding challenge"
LICENCE = "the challenge's terms: never redistributed"
LAYOUT = LogLayout(
    separator="\t",
    columns=(
        "uid", "user_city", "item_id", "author_id", "item_city", "channel", "finish", "like", "music_id", "device",
        "time", "duration",
    ),
    header=False,
    labels=("like", "finish"),
    source=SOURCE,
)  # fmt: skip
# Table sizes for streaming are powers of 2, all hashed, for no list of the ids was published with the sample.
FIELDS = (
    Field("uid", 1 << 17),
    Field("item_id", 1 << 20),
    Field("author_id", 1 << 18),
    Field("music_id", 1 << 16),
    Field("user_city", 1 << 10),
    Field("item_city", 1 << 10),
    Field("channel", 1 << 4),
    Field("duration", 1 << 10),
)


def tiktok_log(track: int = 2) -> Log:
    """The log of a track (1 the larger, 2 the smaller) in the folder that `MTLCORE_DATA` names, to be streamed.

    Raises:
        FileNotFoundError: The variable is unset or the file is absent.
    """
    return Log(official_path(FILES[track], SOURCE), LAYOUT)


def load_tiktok(log: Log | None = None, *, share: float = 0.01, most_rows: int = 1_000_000) -> Interactions:
    """Read the rows of a share of the users into memory; `log` is by default that of track 2.

    Raises:
        FileNotFoundError: The variable `MTLCORE_DATA` is unset or the file is absent.
        ValueError: A line is wrong, or the share leaves no row or too many.
    """
    log = log or tiktok_log()
    return read_users(
        log,
        [field.column for field in FIELDS],
        "time",
        name="TikTok",
        licence=LICENCE,
        share=share,
        most_rows=most_rows,
        checksum=f"unknown ({log.path.stat().st_size} bytes)",
    )
