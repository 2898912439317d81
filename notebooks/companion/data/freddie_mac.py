"""Freddie Mac's Single-Family Loan-Level files: default, with prepayment as the auxiliary task.

Two files a year or quarter, separated by `|`, no header: facts at origination (`sample_orig_2005.txt`, a line per
loan) and monthly performance (`sample_svcg_2005.txt`, a line per loan and month). Positions are those of the "Single
Family Loan-Level Dataset General User Guide", standard dataset: 32 columns each up to that of October 2025, 31 and 35
in Release 47 of July 2026, which moved none of the columns read here. Codes for "not available" (9999, 999, 99, 9)
become missing values. Definitions of the tasks: `companion.data.agency_loans`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from companion.data.agency_loans import AGES, WINDOW, check_design, loans_task, month_numbers, observe
from companion.data.pipe_files import check_values, numbers, read_chunks, whole_loans
from companion.data.tabular import TabularTask

ORIGINATION_WIDTHS, PERFORMANCE_WIDTHS = (32, 31), (32, 35)
SOURCE = "Freddie Mac's Single-Family Loan-Level Dataset, freddiemac.com/research/datasets"
LICENCE = "Freddie Mac's terms of use: registration, no redistribution of records"

KEYS = {"loan": 1, "period": 2, "status": 4, "age": 5, "ended": 9}
CURRENT = {"current_balance": 3, "current_rate": 11}
NUMBERS = {  # name -> position and the code of "not available"
    "credit_score": (1, "9999"),
    "mortgage_insurance": (6, "999"),
    "units": (7, "99"),
    "original_cltv": (9, "999"),
    "debt_to_income": (10, "999"),
    "original_balance": (11, ""),
    "original_ltv": (12, "999"),
    "original_rate": (13, ""),
    "original_term": (22, ""),
    "borrowers": (23, "99"),
}
LEVELS = {
    "first_time_buyer": (3, "9"),
    "occupancy": (8, "9"),
    "channel": (14, "9"),
    "state": (17, ""),
    "property_type": (18, "99"),
    "purpose": (21, "9"),
}
LOAN = 20
INPUTS = [*NUMBERS, *CURRENT, "age", "behind", *LEVELS]


def load_freddie_mac(
    origination: Path, performance: Path, *, window: int = WINDOW, ages: Sequence[int] = AGES
) -> TabularTask:
    """Load one pair of files; performance is read by chunk, and only observed lines are kept.

    Args:
        origination: The unpacked file of facts at origination.
        performance: The unpacked file of monthly performance of the same loans.
        window: Months after the observation in which an outcome counts.
        ages: Ages in months at which a loan is observed; one row each.

    Raises:
        FileNotFoundError: A file is absent.
        ValueError: A file is empty, truncated or unsorted, a line has another number of fields, a field holds what it
            cannot, a loan is twice in the first file or only in the second, no loan is observed, or a parameter
            is out of range.
    """
    check_design(window, ages)
    digest = hashlib.sha256()
    facts = _facts(origination, digest)
    chunks = read_chunks(performance, PERFORMANCE_WIDTHS, {**KEYS, **CURRENT}, SOURCE, digest)
    tables, last_month = [], 0
    for table in whole_loans(performance, chunks):
        check_values(performance, table["loan"], table["loan"].isin(facts.index), "a loan of the origination file")
        months = month_numbers(performance, table["period"], year_first=True)
        last_month = max(last_month, int(months.max()))
        observed = observe(performance, table.assign(month=months), window, ages)
        values = {name: numbers(performance, observed[name]) for name in (*CURRENT, "age")}
        tables.append(observed.assign(**values).join(facts, on="loan"))
    return loans_task("Freddie Mac loans", performance, tables, last_month, INPUTS, LICENCE, digest.hexdigest())


def _facts(path: Path, digest: "hashlib._Hash") -> pd.DataFrame:
    """Return the facts at origination by loan."""
    positions = {"loan": LOAN, **{name: position for name, (position, _) in {**NUMBERS, **LEVELS}.items()}}
    table = pd.concat(read_chunks(path, ORIGINATION_WIDTHS, positions, SOURCE, digest))
    check_values(path, table["loan"], ~table["loan"].duplicated(), "a loan not seen before")
    values = {name: numbers(path, table[name], missing) for name, (_, missing) in NUMBERS.items()}
    levels = {name: table[name].replace(["", missing], "unknown") for name, (_, missing) in LEVELS.items()}
    return table.assign(**values, **levels).set_index("loan")
