"""Runs a small study once per step of writing that it takes, dies at that step, runs it again and compares the ends.

A script for `test_faults_killed.py`, in a copy of the project: everything is the runner's own code, but the notebook's
cells are executed here in place of a kernel, so that one process takes all the steps. Each run is a fork, which
`os._exit` ends as a power cut would: no handler, no `finally`, nothing flushed.
"""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import papermill
from companion.runner import notebooks

ROOT = Path.cwd()
DIED = 9


class Steps:
    """Counts what changes a file: opening it to write, its content, forcing, renaming and deleting it."""

    def __init__(self, chosen: int | None) -> None:
        self.chosen, self.count = chosen, 0
        real_open = io.open

        def opened(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if not set(mode) & set("wax") or Path(file).suffix == ".lock":
                return real_open(file, mode, *arguments, **named)
            self.step()
            return Content(real_open(file, mode, *arguments, **named), self)

        io.open = opened
        for place, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
            setattr(place, name, self.before(getattr(place, name)))

    def before(self, function: Any) -> Any:
        def stepping(place: Any, *arguments: Any, **named: Any) -> Any:
            if isinstance(place, int) or place.exists():  # a file that is gone is not deleted
                self.step()
            return function(place, *arguments, **named)

        return stepping

    def step(self, content: bytes | str = b"", file: Any = None) -> None:
        self.count += 1
        if self.count == self.chosen:
            if file is not None:
                file.write(content[: len(content) // 2])
                file.flush()
            os._exit(DIED)


class Content:
    """A file of which half is written where that is the chosen step."""

    def __init__(self, file: Any, steps: Steps) -> None:
        self.file, self.steps = file, steps

    def write(self, content: bytes | str) -> None:
        self.steps.step(content, self.file)
        self.file.write(content)

    def __enter__(self) -> "Content":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def executed_here(path: Path, attempt: Path, parameters: dict[str, Any], **_: Any) -> None:
    """Stand in for papermill."""
    notebook = json.loads(path.read_text())
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            names |= parameters
    attempt.write_text(json.dumps(notebook))


def run(chosen: int | None) -> int:
    """Run the notebook in a fork that dies at the chosen step; give the steps that it took, or 0 when it died."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        steps = Steps(chosen)
        status = notebooks.main(
            ["run", "notebooks/toy.ipynb", "--output", "build/full/toy.ipynb", "-p", "profile=full"]
        )
        os.write(send, str(steps.count).encode())
        os._exit(status)
    os.close(send)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    steps_taken = int(os.read(receive, 20) or 0)
    os.close(receive)
    assert status == (DIED if chosen else 0), status
    return steps_taken


def files() -> dict[str, bytes]:
    """All that runs leave, locks apart."""
    found = [path for name in ("build", "failed", "figures") for path in (ROOT / name).rglob("*") if path.is_file()]
    return {p.relative_to(ROOT).as_posix(): p.read_bytes() for p in sorted(found) if p.suffix != ".lock"}


def restore(kept: dict[str, bytes]) -> None:
    for name in ("build", "failed", "figures"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for name, content in kept.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_bytes(content)


def main() -> None:
    """Print how many steps there are; any difference raises."""
    papermill.execute_notebook = executed_here
    notebook = ROOT / "notebooks" / "toy.ipynb"
    new = notebook.read_text()
    notebook.write_text(new.replace("toy_one", "toy_old"))  # an earlier version, one of whose figures has to go
    run(None)
    shutil.rmtree(ROOT / "build" / "results")
    notebook.write_text(new)
    before = files()
    steps = run(None)
    after = files()
    assert not any("toy_old" in name for name in after)
    for chosen in range(1, steps + 1):
        restore(before)
        run(chosen)
        for name, content in files().items():
            if not Path(name).name.startswith(".") and not name.startswith("failed/"):
                known = (before.get(name), after.get(name))
                whole = content in known or (name.endswith("manifest.json") and json.loads(content))
                assert whole, f"{name} is half written after step {chosen}"
        run(None)
        assert files() == after, f"step {chosen}: {set(files()) ^ set(after)}"
    print(steps)


if __name__ == "__main__":
    main()
