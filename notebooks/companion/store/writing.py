"""Files appear whole or not at all: what the project keeps is written here, whoever writes it.

Content goes into hidden files beside its place, is forced onto the disk and then takes its name in one step. A full
disk, a folder that is read-only or a process that is killed thus leaves at each name what was there before.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from companion.store import paths

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def write(contents: Mapping[Path, bytes]) -> None:
    """Put files in place together, replacing those that are there; their folders are made.

    No file takes its name before all of them are on the disk. They do so in the order of the mapping, so that the one
    which vouches for the others, a description or a manifest, comes last. A process that dies in the midst of it
    leaves hidden files, which the next writing of the same files uses up. Two processes that may write the same files
    at once need a `lock`.

    Args:
        contents: The content of each file.

    Raises:
        OSError: A file cannot be written. No content has changed and no hidden file is left.
    """
    hidden = {path: path.with_name(f".{path.name}") for path in contents}
    try:
        for path, content in contents.items():
            with explained(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with hidden[path].open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
        for path, temporary in hidden.items():
            with explained(path):
                temporary.replace(path)
        for folder in dict.fromkeys(path.parent for path in contents):
            _keep_names(folder)
    finally:
        for temporary in hidden.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _keep_names(folder: Path) -> None:
    """Force the names of a folder onto the disk; without it a power cut may bring back an older file, still whole."""
    with contextlib.suppress(OSError):  # not every file system lets a folder be opened or forced
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


@contextlib.contextmanager
def lock(path: Path, otherwise: str | None = None) -> Iterator[None]:
    """Keep other processes out that ask for the same lock; the system takes it from a process that dies.

    Args:
        path: The lock's own file, which stays.
        otherwise: What to say at once where another process has the lock; None waits for it.

    Raises:
        BlockingIOError: Another process has the lock, and `otherwise` says so.
        OSError: The lock's file cannot be written.
    """
    held = FileLock(path, timeout=-1 if otherwise is None else 0)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire()
        except Timeout:
            raise BlockingIOError(otherwise) from None
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Give the system's errors about a file that is to be written as one sentence with the remedy, still an OSError."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # it has its sentence
            raise
        raise OSError(sentence(error, path)) from error


def sentence(error: OSError, path: Path | None = None) -> str:
    """Say in one sentence which file could not be written, what was found and what to do.

    Args:
        error: Of the system, or one that has its sentence already.
        path: The file; the one that the system names by default.
    """
    if error.errno is None:
        return str(error)
    name = shown(Path(path if path is not None else error.filename or "of unknown name"))
    remedy = "Mend that"
    if error.errno in _NO_SPACE:
        remedy = "Free some space there, or raise the limit,"
    elif error.errno in _READ_ONLY:
        remedy = "Make it writable"
    found = (error.strerror or str(error)).lower()
    return (
        f"File `{name}` should be written. Found: {found} ({errno.errorcode.get(error.errno, error.errno)}). "
        f"{remedy} and run the same command again; what was finished before is kept."
    )


def shown(path: Path) -> Path:
    """The path as a reader of the checkout knows it: relative to its root where it is inside."""
    return path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path
