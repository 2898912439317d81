"""What the loan-level files of Fannie Mae and Freddie Mac share: months, outcomes, and the task made of them.

A loan is **observed** at some ages; the inputs are what its files say at that month or before. Within a window of
months after it, the **first** of two outcomes counts (our design, with the usual definitions):

- **default**, the main task: three or more payments behind (delinquency status 03 and above, or RA, acquired after
  foreclosure), or ended at a loss to the lender: zero-balance code 02 (third-party sale), 03 (short sale or
  charge-off), 09 (deed in lieu of foreclosure, property sold by the lender), 15 (sale of the unpaid note);
- **prepaid**, the auxiliary task: ended by code 01, prepaid or (rarely within a year of these ages) matured.

Any other code (06 bought back, 16 sold as performing again, 96 to 98 removed) ends the loan with its outcome unknown.
An observation is left out where the loan is in default or of unknown status, where its outcome is unknown, and where
the file ends before the window does: keeping those whose outcome came early would overstate both rates. Modifying a
loan restarts its age, so a loan may be observed twice at one age.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from companion.data.pipe_files import check_values
from companion.data.tabular import TabularTask

DEFAULT_CODES = ("02", "03", "09", "15")
PREPAID_CODE = "01"
DEFAULT, PREPAID, REMOVED = 1.0, 2.0, 3.0
BEHIND = 3  # monthly payments behind: 90 days and more
AGES = (12, 24, 36)  # months since the first payment at which a loan is observed (our design)
WINDOW = 12  # months after the observation (our design)
LABELS = ["default", "prepaid"]


def check_design(window: int, ages: Sequence[int]) -> None:
    """Refuse a window or ages of observation that are not positive numbers of months."""
    if window < 1 or not ages or min(ages) < 0:
        raise ValueError(
            "Parameter `window` should be at least 1 month and `ages` hold ages of 0 months or more. "
            f"Found `window = {window}`, `ages = {tuple(ages)}`. Pass for example 12 and (12, 24, 36)."
        )


def month_numbers(path: Path, months: pd.Series, year_first: bool) -> pd.Series:
    """Turn `YYYYMM` or `MMYYYY` into months since the year 0."""
    shape = "[12][0-9]{3}(0[1-9]|1[0-2])" if year_first else "(0[1-9]|1[0-2])[12][0-9]{3}"
    expected = "a month in the form " + ("YYYYMM" if year_first else "MMYYYY")
    check_values(path, months, months.str.fullmatch(shape), expected)
    year, month = (months.str[:4], months.str[4:]) if year_first else (months.str[2:], months.str[:2])
    return 12 * year.astype("int64") + month.astype("int64") - 1


def observe(path: Path, table: pd.DataFrame, window: int, ages: Sequence[int]) -> pd.DataFrame:
    """Return the observed lines of whole loans, with `default`, `prepaid`, `behind` and the window's `end` added.

    Args:
        path: The file, for messages.
        table: Lines of whole loans with `loan`, `period`, `age`, `status` and `ended` as strings, `month` as a number.
        window: Months after the observation in which an outcome counts.
        ages: Ages in months at which a loan is observed.

    Raises:
        ValueError: An age, a status or a code is none, or the months of a loan do not increase.
    """
    for column, shape, expected in (
        ("age", "(-?[0-9]{1,3})?", "an age in months"),
        ("status", "[0-9]{0,3}|RA|R|XX", "payments behind, RA or XX"),
        ("ended", "[0-9]{0,2}", "a zero-balance code or nothing"),
    ):
        check_values(path, table[column], table[column].str.fullmatch(shape), expected)
    loan, month, ended = table["loan"], table["month"], table["ended"].str.zfill(2)
    follows = (loan != loan.shift()) | (month > month.shift())
    check_values(path, table["period"], follows, "a later month than the line before")

    acquired = table["status"].isin(["RA", "R"])
    behind = pd.to_numeric(table["status"].mask(acquired | table["status"].isin(["XX", ""]))).astype("float64")
    event = pd.Series(np.nan, table.index)
    event[ended != "00"] = REMOVED
    event[ended == PREPAID_CODE] = PREPAID
    event[ended.isin(DEFAULT_CODES) | acquired | (behind >= BEHIND)] = DEFAULT

    # The first event strictly after each line: filled backwards inside a loan, then moved up by one line.
    events = pd.DataFrame({"event": event, "month": month.where(event.notna())})
    later = events.groupby(loan, sort=False).bfill().groupby(loan, sort=False).shift(-1)
    end = month + window
    outcome = later["event"].where(later["month"] <= end)
    last = month.groupby(loan, sort=False).transform("last")
    known = outcome.isin([DEFAULT, PREPAID]) | (outcome.isna() & (last >= end))
    observed = pd.to_numeric(table["age"]).isin(list(ages)) & (behind < BEHIND) & (ended == "00") & known
    labels = {"default": 1.0 * (outcome == DEFAULT), "prepaid": 1.0 * (outcome == PREPAID), "behind": behind}
    return table.assign(**labels, end=end)[observed]


def loans_task(
    name: str,
    path: Path,
    tables: Sequence[pd.DataFrame],
    last_month: int,
    inputs: Sequence[str],
    licence: str,
    checksum: str,
) -> TabularTask:
    """Join the observed lines of a file to one task; rows of a loan share a group, months are the periods.

    Args:
        name: What tables and figures call it.
        path: The file, for messages.
        tables: What `observe` returned, one or more, with the columns of `inputs`.
        last_month: Of any line of the file, observed or not.
        inputs: Names of the input columns.
        licence: Terms of the data.
        checksum: sha256 of what was read.

    Raises:
        ValueError: No line is observed with its whole window.
    """
    table = pd.concat(tables, ignore_index=True)
    table = table[table["end"] <= last_month].reset_index(drop=True)
    if table.empty:
        raise ValueError(
            f"File `{path.name}` should hold loans whose outcome is known. Found none observed at the ages asked for "
            "with the whole window after it. Pass another file, other `ages` or a smaller `window`."
        )
    return TabularTask(
        name=name,
        inputs=table[list(inputs)],
        targets={label: table[label].to_numpy(np.float64) for label in LABELS},
        groups=np.unique(table["loan"].astype(str), return_inverse=True)[1],
        checksum=checksum,
        licence=licence,
        stand_in=False,
        revealing=frozenset({"prepaid"}),  # the first outcome counts: a prepaid loan did not default
        periods=table["month"].to_numpy(np.int64),
    )
