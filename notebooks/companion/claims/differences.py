"""One table of a run against the same table of another run, number by number."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from companion.claims.register import Claim

OF_EFFECT, OF_SPREAD = 0.1, 0.01  # shares that still agree
INTERVAL = ("mean", "low", "high")
COST = re.compile(r"(^|[ _(])(seconds?|ms|mib|gib)([ _)]|$)", re.IGNORECASE)
UNITS = ("s", "ms", "MiB", "GiB")  # in a column `unit`


@dataclass
class Comparison:
    """What became of the numbers of one table.

    Attributes:
        numbers: How many the committed table has, costs apart.
        identical: How many are the same to the last digit.
        within: How many differ and agree.
        absent: How many your table lacks.
        largest: The largest difference, in units of what agrees: 1 and more does not.
        largest_of: The same in words, as a share of what it is measured by; empty when there is none.
        beyond: A line about each number that does not agree, the worst first.
        costs: Your costs over the committed ones.
    """

    numbers: int = 0
    identical: int = 0
    within: int = 0
    absent: int = 0
    largest: float = 0.0
    largest_of: str = ""
    beyond: list[str] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)


def _labelled(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The table by what its rows are called, those of one name in their order; it must find its counterpart so."""
    key = pd.Series(
        [", ".join("" if pd.isna(cell) else str(cell) for cell in row) for row in table[list(names)].to_numpy()],
        index=table.index,
        dtype=object,
    )
    return table.set_index(pd.MultiIndex.from_arrays([key, key.groupby(key).cumcount()]))


def _units(column: str, table: pd.DataFrame, stem: str, claims: Mapping[str, Claim]) -> tuple[pd.Series, float, str]:
    """By what a column's differences are measured, row by row, which share of it agrees, and its name."""
    if column in INTERVAL:
        if stem.endswith("_claims"):
            smallest = [claims[name].smallest if name in claims else np.nan for name in table["claim"]]
            return pd.Series(smallest, table.index), OF_EFFECT, "the least effect"
        shown = [claim.smallest for claim in claims.values() if claim.figure == stem]
        if shown:
            return pd.Series(min(shown), table.index), OF_EFFECT, "the least effect"
    values = table[column].to_numpy(dtype=float)
    finite = values[np.isfinite(values)]
    spread = float(np.ptp(finite)) if finite.size else 0.0
    return pd.Series(spread or float(np.abs(finite).max(initial=0.0)) or 1.0, table.index), OF_SPREAD, "the spread"


def compare(own: pd.DataFrame, reference: pd.DataFrame, stem: str, claims: Mapping[str, Claim]) -> Comparison:
    """Hold one table against the committed one.

    Rows find each other by their words. What a row's words are called "verdict" follows from its numbers and is left
    to the claims. Rows that only yours has do not agree.

    Args:
        own: Your table.
        reference: The committed one.
        stem: The figure's.
        claims: The register.
    """
    numeric = [str(name) for name, values in reference.items() if pd.api.types.is_numeric_dtype(values)]
    words = [str(name) for name in reference if name not in (*numeric, "verdict") and name in own]
    yours, theirs = _labelled(own, words), _labelled(reference, words)
    found = Comparison()
    beyond: list[tuple[float, str]] = []
    extra = yours.index.difference(theirs.index, sort=False)
    beyond += [(np.inf, f"row {name!r} of yours is not among the committed ones") for name, _ in extra]
    measured = theirs["unit"].isin(UNITS) if "unit" in theirs else pd.Series(False, theirs.index)
    for column in numeric:
        unit, share, what = _units(column, theirs, stem, claims)
        old = theirs[column].astype(float)
        new = yours[column] if column in yours else pd.Series(np.nan, yours.index)
        new = pd.to_numeric(new, errors="coerce").astype(float).reindex(theirs.index)
        here = theirs.index.isin(yours.index) & (column in yours)
        costly = measured.to_numpy() | bool(COST.search(column))
        found.costs += [n / o for n, o in zip(new[costly & here], old[costly & here], strict=True) if o > 0 and n == n]
        counted = ~costly & ~(old.isna() & (new.isna() | ~here)).to_numpy()  # an empty cell is no number
        judged = counted & here
        found.numbers += int(counted.sum())
        found.absent += int((counted & ~here).sum())
        same = new == old
        shares = ((new - old).abs() / unit).where(~same, 0.0).fillna(np.inf)
        found.identical += int((same & judged).sum())
        found.within += int((~same & judged & (shares < share)).sum())
        greatest = float(shares[judged].max()) if judged.any() else 0.0
        if greatest / share > found.largest:
            found.largest, found.largest_of = greatest / share, f"{greatest:.2g} of {what}"
        for name, number in theirs.index[judged & (shares >= share)]:
            at = (name, number)
            line = f"{column} of {name or 'row'} ({number + 1}): {old[at]:.6g} is {new[at]:.6g} in yours, "
            beyond.append((shares[at] / share, line + f"{shares[at]:.2g} of {what}"))
    found.beyond = [line for _, line in sorted(beyond, key=lambda pair: -pair[0])]
    return found
