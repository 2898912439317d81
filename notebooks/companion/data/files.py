"""Bytes that may be trusted: a file is compared with its known sha256 before anything opens it."""

import hashlib
import os
from collections.abc import Iterable, Set
from importlib import resources
from pathlib import Path


def checked_bytes(path: Path, sha256: str, source: str) -> bytes:
    """Read a file whose content is known in advance.

    Some bundled data sets are pickles, which run code when opened; so the bytes are compared first and the same
    bytes, not the file a second time, are handed on.

    Args:
        path: The file.
        sha256: The digest that its content should have, 64 hexadecimal digits.
        source: Where a reader gets the right file, a phrase that follows "Get it from".

    Returns:
        The content of the file.

    Raises:
        FileNotFoundError: The file is absent.
        ValueError: The content has another digest.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"File `{path.name}` should be there. Found nothing at `{path}`. Get it from {source} (sha256 {sha256})."
        )
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        again = source.replace("pip install ", "pip install --force-reinstall --no-deps ")  # else pip keeps it
        raise ValueError(
            f"File `{path.name}` should have sha256 {sha256}. Found {found} at `{path}`. Get it from {again}."
        )
    return content


def packaged_file(package: str, name: str, sha256: str, source: str) -> bytes:
    """Read a data file that came with an installed package; `name` is its path inside the package."""
    try:
        folder = Path(str(resources.files(package)))
    except ModuleNotFoundError:
        folder = Path(package)
    return checked_bytes(folder / name, sha256, source)


def bundled_file(name: str, sha256: str) -> bytes:
    """Read a data file of the folder `bundled` beside this module."""
    path = Path(__file__).parent / "bundled" / name
    return checked_bytes(path, sha256, f"the repository: git checkout notebooks/companion/data/bundled/{name}")


def official_file(name: str, sha256: str, source: str) -> bytes:
    """Read a data file that the reader has put under the folder named by the variable `MTLCORE_DATA`."""
    folder = os.environ.get("MTLCORE_DATA")
    if not folder:
        raise FileNotFoundError(
            f"File `{name}` should lie in the folder named by the environment variable MTLCORE_DATA. "
            f"Found the variable unset. Get the file from {source} (sha256 {sha256}) and set the variable."
        )
    return checked_bytes(Path(folder) / name, sha256, source)


def check_columns(name: str, found: Iterable[str], needed: Set[str], source: str) -> None:
    """Refuse a table that lacks columns, naming all that are missing."""
    missing = sorted(needed - set(found))
    if missing:
        raise ValueError(
            f"File `{name}` should have the columns {', '.join(sorted(needed))}. "
            f"Found no {', '.join(missing)}. Get it from {source}."
        )
