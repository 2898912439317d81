"""30,000 holders of a credit card in Taiwan in 2005: default in October, with September's delay as an auxiliary task.

Yeh and Lien's data, of the UCI repository. They stand in for the credit data of the HydaLearn paper, which were not
published: they test the claim on real accounts and cannot reproduce the paper's table.

The task is set at the **end of August**: inputs are who the holder is, the bills of April to August, what was paid in
those months, and the repayment states that follow from these payments. The file's name for a state is a month ahead of
it: the state called August's (`PAY_2`) already tells whether August's bill was paid in September (of "-1", paid duly,
98 % have `PAY_AMT1 >= BILL_AMT2`), so it is left out with September's own columns.
"""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd

from companion.data.files import bundled_file, check_columns
from companion.data.tabular import TabularTask, check_auxiliaries

FILE = "uci_credit_card.csv.gz"
SHA256 = "de30cfc36a450cc0c4e7cca3c42a7b84ebc0e0061140141e4a9db27df82c5ef2"
SOURCE = "the UCI Machine Learning Repository, doi 10.24432/C55S3H"

LABEL = "default-payment-next-month"
# What September's bill, September's payment, or a state after that payment tells.
LEAKS = (LABEL, "PAY_0", "PAY_2", "BILL_AMT1", "PAY_AMT1")
UNUSED = "ID"
STATES = ("PAY_3", "PAY_4", "PAY_5", "PAY_6")  # codes, not numbers: -2 no use, -1 paid duly, 0 revolving, else months
ONE_HOT = {"EDUCATION": range(7), "MARRIAGE": range(4)}
LATE, UNPAID = "late in September", "nothing paid in September"


def load_credit_cards(auxiliaries: Sequence[str] = (LATE,)) -> TabularTask:
    """Load the bundled accounts: 30,000 rows, 6,636 defaults.

    Args:
        auxiliaries: Any of "late in September" (6,818: the state called September's is a delay) and "nothing paid in
            September" (5,249, of whom some owed nothing). Neither tells the default.

    Raises:
        FileNotFoundError: The file is absent.
        ValueError: The file is not the known one, or an auxiliary task is not among the choices.
    """
    check_auxiliaries(auxiliaries, (LATE, UNPAID))
    return credit_cards_task(pd.read_csv(io.BytesIO(bundled_file(FILE, SHA256)), compression="gzip"), auxiliaries)


def credit_cards_task(table: pd.DataFrame, auxiliaries: Sequence[str]) -> TabularTask:
    """Turn the table of accounts into inputs and targets; leaks and identifiers are dropped, codes become strings."""
    one_hot = {name: [f"{name}_{level}" for level in levels] for name, levels in ONE_HOT.items()}
    dropped = {*LEAKS, UNUSED, *(column for columns in one_hot.values() for column in columns)}
    check_columns(FILE, table.columns, {*dropped, *STATES, "SEX"}, SOURCE)
    inputs = table.drop(columns=list(dropped)).astype(dict.fromkeys((*STATES, "SEX"), "str"))
    for name, columns in one_hot.items():
        inputs[name] = table[columns].idxmax(axis="columns").astype("str")
    targets = {"default": table[LABEL] == 1, LATE: table["PAY_0"] > 0, UNPAID: table["PAY_AMT1"] == 0}
    return TabularTask(
        name="UCI credit cards",
        inputs=inputs,
        targets={name: targets[name].to_numpy().astype(np.float64) for name in ("default", *auxiliaries)},
        groups=None,
        checksum=SHA256,
        licence="CC BY 4.0: Yeh (2009), Default of Credit Card Clients, UCI Machine Learning Repository",
        stand_in=True,
    )
