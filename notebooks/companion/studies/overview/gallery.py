"""Committed figures of other notebooks, shown one by one."""

from IPython.display import Image, display

from companion.plots.figures import half_size
from companion.store import paths
from companion.store.manifest import read_manifest


def show(*stems: str) -> None:
    """Show committed full-profile figures, each below a line that names its numbers, so that a stale one is noticed.

    Args:
        stems: File stems, such as `"06_gap"`.

    Raises:
        KeyError: There is no committed figure of that name.
    """
    figures = read_manifest(paths.COMMITTED_FIGURES)
    for stem in stems:
        entry = figures[stem]
        print(f"{stem}, full profile, {len(entry['seeds'])} seeds, numbers {entry['digest'][:12]} ({stem}.csv)")
        display(Image(data=half_size(paths.COMMITTED_FIGURES / f"{stem}.png"), width=720), metadata={"figure": stem})
