"""Try the exercises of a notebook that was handed in, and print each result as soon as it is there."""

import contextlib
import io
import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from companion.coursework import BY_NAME
from companion.coursework.checking import Report
from companion.coursework.submission import Submitted, read

SECONDS = 60  # for one exercise; its check takes about one


def print_grade(path: Path, seconds: float = SECONDS) -> None:
    """Print what the self-checks say about a notebook.

    Args:
        path: The notebook; where it is none with one of the exercises, that is said.
        seconds: After which an exercise is given up.
    """
    try:
        exercises = read(path)
    except ValueError as error:
        print(f"{path}: {error}", flush=True)
        return
    print(path, flush=True)
    tried = solved = 0
    while tried < len(exercises):
        for result in _try(exercises[tried:], seconds):
            said = f"{BY_NAME[exercises[tried].function].title}: {result}" if isinstance(result, str) else str(result)
            print("\n".join(line for line in said.splitlines() if not line.startswith("  ✓")), flush=True)
            solved += isinstance(result, Report) and result.solved
            tried += 1
    print(f"{path}: {solved} of {len(exercises)} exercises solved", flush=True)


def _try(exercises: Sequence[Submitted], seconds: float) -> Iterator[Report | str]:
    """The exercises' reports from a process of their own, up to the first that has none, with the reason."""
    context = multiprocessing.get_context("spawn")
    reports, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(exercises, sender), daemon=True)
    process.start()
    sender.close()  # so that the process has the only one, and its end is seen
    try:
        reports.recv()  # it has started, which takes some seconds
        for _ in exercises:
            if not reports.poll(seconds):
                yield f"not finished after {seconds:g} seconds. Look for a loop without an end."
                return
            yield reports.recv()
    except EOFError:
        process.join()
        yield f"its code ended the process, with status {process.exitcode}."
    finally:
        process.kill()
        process.join()
        reports.close()


def _send(exercises: Sequence[Submitted], reports: Connection) -> None:
    reports.send(None)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for exercise in exercises:
            reports.send(exercise.report())
