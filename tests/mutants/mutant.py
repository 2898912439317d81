"""One planted defect of `make mutants`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One defect.

    Attributes:
        name: A few words.
        defect: What it would do to the science, one sentence.
        file: Where it is planted.
        edits: Pairs of a text that occurs once in the file and what takes its place.
        killers: Tests, as `file::function` or with parameters in brackets; **each** has to turn red.
    """

    name: str
    defect: str
    file: str
    edits: tuple[tuple[str, str], ...]
    killers: tuple[str, ...]
