"""Fannie Mae's Single-Family Loan Performance files: default, with prepayment as the auxiliary task.

One file a quarter of acquisition (`2005Q1.csv`), a line per loan and month, separated by `|`, no header: static facts
of the loan and its performance together. Positions are those of the published "Single-Family (SF) Glossary and File
Layout" for the combined files, in use since October 2020: 108 columns, since extended at the end to 110, 113 and 114,
which changes no position here. Definitions of the tasks: `companion.data.agency_loans`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from companion.data.agency_loans import AGES, WINDOW, check_design, loans_task, month_numbers, observe
from companion.data.pipe_files import numbers, read_chunks, whole_loans
from companion.data.tabular import TabularTask

WIDTHS = (108, 110, 113, 114)
SOURCE = "Fannie Mae's Single-Family Loan Performance Data, capitalmarkets.fanniemae.com"
LICENCE = "Fannie Mae's terms of use: registration, no redistribution of records"

KEYS = {"loan": 2, "period": 3, "age": 16, "status": 40, "ended": 44}
NUMBERS = {
    "original_rate": 8,
    "current_rate": 9,
    "original_balance": 10,
    "current_balance": 12,  # masked in the first six months
    "original_term": 13,
    "original_ltv": 20,
    "original_cltv": 21,
    "borrowers": 22,
    "debt_to_income": 23,
    "credit_score": 24,
    "co_borrower_credit_score": 25,
    "units": 29,
    "mortgage_insurance": 34,
}
LEVELS = {
    "channel": 4,
    "first_time_buyer": 26,
    "purpose": 27,
    "property_type": 28,
    "occupancy": 30,
    "state": 31,
    "modified": 42,
}
INPUTS = [*NUMBERS, "age", "behind", *LEVELS]


def load_fannie_mae(path: Path, *, window: int = WINDOW, ages: Sequence[int] = AGES) -> TabularTask:
    """Load one quarter's file; it is read by chunk, and only observed lines are kept.

    Args:
        path: The unpacked file.
        window: Months after the observation in which an outcome counts.
        ages: Ages in months at which a loan is observed; one row each.

    Raises:
        FileNotFoundError: The file is absent.
        ValueError: The file is empty, truncated or unsorted, a line has another number of fields, a field holds what
            it cannot, no loan is observed, or a parameter is not in its range.
    """
    check_design(window, ages)
    digest = hashlib.sha256()
    chunks = read_chunks(path, WIDTHS, {**KEYS, **NUMBERS, **LEVELS}, SOURCE, digest)
    tables, last_month = [], 0
    for table in whole_loans(path, chunks):
        months = month_numbers(path, table["period"], year_first=False)
        last_month = max(last_month, int(months.max()))
        tables.append(_inputs(path, observe(path, table.assign(month=months), window, ages)))
    return loans_task("Fannie Mae loans", path, tables, last_month, INPUTS, LICENCE, digest.hexdigest())


def _inputs(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    values = {name: numbers(path, table[name]) for name in (*NUMBERS, "age")}
    return table.assign(**values, **{name: table[name].replace("", "unknown") for name in LEVELS})
