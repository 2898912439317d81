"""The runs of one full run against those of another: every cell, number by number."""

from pathlib import Path

from companion.store import tidy
from companion.store.published import Cell, files, key, read

OF_SPREAD = 0.01  # share of a metric's spread over a cell that still agrees, as for the figures' numbers
SHOWN = 3  # cells that are named of a notebook


def compare_runs(own: Path, reference: Path) -> tuple[list[str], bool]:
    """Compare two folders' published runs.

    Returns:
        Lines of a report, and whether every cell of the reference is in yours and agrees.
    """
    lines = [f"{'runs':<32}{'cells':>9}{'identical':>10}{'agree':>8}{'beyond':>8}{'absent':>8}"]
    agrees = True
    for description in sorted(reference.glob("[0-9][0-9]_runs.json")):
        notebook = description.name[:2]
        theirs, own_runs = read(reference, notebook), files(own, notebook)[1]
        yours = {key(c.kind, c.configuration): c for c in (read(own, notebook) if own_runs.exists() else [])}
        counts = dict.fromkeys(("identical", "agree", "beyond", "absent"), 0)
        named: list[str] = []
        for cell in theirs:
            verdict, sentence = _judge(yours.get(key(cell.kind, cell.configuration)), cell)
            counts[verdict] += 1
            named += [f"    {_name(cell)}: {sentence}"] if sentence else []
        agrees = agrees and not counts["beyond"] + counts["absent"]
        numbers = f"{counts['identical']:>10}{counts['agree']:>8}{counts['beyond']:>8}{counts['absent']:>8}"
        lines += [f"{description.stem:<32}{len(theirs):>9}{numbers}", *named[:SHOWN]]
        lines += [f"    and {len(named) - SHOWN} more"] if len(named) > SHOWN else []
    return lines, agrees


def _judge(own: Cell | None, reference: Cell) -> tuple[str, str]:
    """What became of a cell, and a sentence where it does not agree."""
    if own is None:
        return "absent", "no such cell in yours."
    values = reference.table.groupby("metric")["value"]
    spread = (values.max() - values.min()).where(lambda s: s > 0, values.max().abs()).fillna(0.0)
    for share, verdict in ((0.0, "identical"), (OF_SPREAD, "agree")):
        differ = tidy.differences(
            own.table, reference.table, {str(name): share * float(size) for name, size in spread.items()}
        )
        if not differ:
            return verdict, ""
    return "beyond", differ[0]


def _name(cell: Cell) -> str:
    """A cell in a few words: its kind and what is text in its configuration."""
    words = [value for value in cell.configuration.values() if isinstance(value, str)]
    seeds = cell.configuration.get("seeds", [])
    return " ".join([cell.kind, *words, *([f"seeds {min(seeds)} to {max(seeds)}"] if seeds else [])])
