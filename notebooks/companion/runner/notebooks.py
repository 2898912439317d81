"""Run notebooks: execute a copy with papermill, record the committed outputs, each in one step or not at all.

A run happens below `failed/` and moves into place, with its figures, when it succeeded.
One that is stopped or killed loses nothing but the cells of its studies that it was computing
(`companion.store.results`).
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from traitlets import default
from traitlets.config import Config

from companion.runner.guard import guard
from companion.runner.inputs import cells_digest, read_notebook
from companion.runner.parameters import parse_assignments, profile_values, read_parameters, validate
from companion.store import paths
from companion.store.manifest import publish
from companion.store.writing import lock, sentence, write

# The type of what only a running notebook can show.
WIDGET = "application/vnd.jupyter.widget-view+json"
# What recorded outputs must not depend on: the number of threads, a GPU, optional data.
ON_ONE_CPU_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MTLCORE_DATA": None}


def own_settings(folder: Path) -> dict[str, str | None]:
    """Variables that keep from a kernel what the user has set for IPython, matplotlib and Python.

    Args:
        folder: Where IPython's and matplotlib's own folders are made; kept, for matplotlib lists all fonts there once.
    """
    return {
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "MATPLOTLIBRC": None,
        "MPLBACKEND": None,  # the kernel then takes its own, which shows figures in the notebook
        "PYTHONSTARTUP": None,  # kernels run it too
        "PYTHONUTF8": "1",
    }


class _OwnKernel(AsyncKernelManager):
    """The kernel of this interpreter, whatever a user's own kernel named `python3` would start."""

    @default("kernel_spec_manager")
    def _none_of_the_user(self) -> KernelSpecManager:
        return KernelSpecManager(parent=self, kernel_dirs=[])


@contextlib.contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set (or for None remove) environment variables, which kernels started meanwhile inherit."""

    def change(values: Mapping[str, str | None]) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    before = {name: os.environ.get(name) for name in variables}
    change(variables)
    try:
        yield
    finally:
        change(before)


def _attempt(path: Path, output: Path) -> Path:
    """Where a notebook runs, and stays when it fails."""
    return paths.FAILED / output.parent.name / path.name


def execute(
    path: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    variables: Mapping[str, str | None] | None = None,
    keep_figures: bool = True,
) -> None:
    """Execute a copy of a notebook; the executed copy and its figures appear only when every cell succeeded.

    Args:
        path: the notebook, which is not changed.
        output: where the executed copy goes. A failed run leaves what there is in `failed/<folder of output>/`.
        parameters: typed values that replace those of the profile, validated first.
        variables: environment variables of the kernel, None to remove one.
        keep_figures: move the run's figures into `figures/`, or leave that folder as it is. Figures of a run with
            parameters of its own never go there but beside the output, into `<output>.figures`.

    Raises:
        papermill.PapermillExecutionError: a cell raised an error.
        RuntimeError: the kernel did not start, or was killed, say for its memory.
        OSError: a file cannot be written, or the notebook is being run already.
    """
    parameters = dict(parameters or {})
    profile = parameters.get("profile", read_parameters(path).get("profile", "published"))
    published_values = set(parameters) <= {"profile", "device"}
    parameters = {**profile_values(path, profile), **parameters}
    validate(path, parameters)
    attempt = _attempt(path, output)
    twice = (
        f"Notebook {path.stem} should run once at a time. Found another run of it going on. "
        "Wait for it or stop it, and run the same command again."
    )
    with lock(paths.BUILD / "running" / f"{output.parent.name}-{path.stem}.lock", otherwise=twice):
        figures = attempt.with_suffix(".figures")
        shutil.rmtree(figures, ignore_errors=True)
        try:
            attempt.parent.mkdir(parents=True, exist_ok=True)
            own = {**own_settings(paths.BUILD), "MTLCORE_FIGURES": str(figures)}
            _run(path, attempt, parameters, {**(variables or {}), **own})
        except OSError as error:  # papermill's, of the attempt where the system names no other file
            raise OSError(sentence(error, Path(error.filename or attempt))) from error
        made = publish(figures, profile, path.stem) if keep_figures and published_values else []
        executed = read_notebook(attempt)
        executed["metadata"]["mtlcore"] = {"figures": made}  # inputs.py looks whether they are still there
        write({output: _as_jupyter(executed)})
        beside = output.with_suffix(".figures")
        shutil.rmtree(beside, ignore_errors=True)
        if keep_figures and not published_values and figures.exists():
            shutil.move(figures, beside)
        shutil.rmtree(figures, ignore_errors=True)
        attempt.unlink()


def _run(path: Path, attempt: Path, parameters: dict[str, Any], variables: Mapping[str, str | None]) -> None:
    """Execute a notebook into another file with papermill."""
    with _environment(variables), _sockets(attempt) as sockets:
        papermill.execute_notebook(
            path,
            attempt,
            parameters,
            kernel_name="python3",
            progress_bar=sys.stderr.isatty(),
            cwd=path.resolve().parent,  # as JupyterLab and nbval do
            # Files in place of ports, which two kernels that start at once may both choose; "auto", as each else warns.
            # A kernel is interrupted before it is told to end and may log that as an error; errors of cells are raised.
            config=Config(
                {
                    "KernelManager": {"transport": "ipc", "ip": f"{sockets}/socket", "transport_encryption": "auto"},
                    "NotebookClient": {
                        "kernel_manager_class": _OwnKernel,
                        "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"],
                    },
                }
            ),
        )


@contextlib.contextmanager
def _sockets(attempt: Path) -> Iterator[Path]:
    """A folder for the kernel's sockets, whose paths have to be short; it takes the place of one that a kill left."""
    name = hashlib.sha256(f"{os.getuid()} {attempt.resolve()}".encode()).hexdigest()[:16]
    try:
        folder = Path(tempfile.gettempdir()) / f"kernel-{name}"
    except FileNotFoundError as error:  # as Python says of folders that are full
        raise OSError(
            f"A folder for temporary files should have room. Found: {error.strerror}. Free some space there, or name "
            "another in the environment variable TMPDIR, and run the same command again; what was finished is kept."
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def record(path: Path) -> None:
    """Run a notebook's defaults on one CPU thread and replace it by the clean result, in one step."""
    recorded = _recorded(path)
    execute(path, recorded, variables=ON_ONE_CPU_THREAD, keep_figures=False)
    notebook = read_notebook(recorded)
    for position, cell in enumerate(notebook["cells"]):
        cell["metadata"] = {"tags": cell["metadata"]["tags"]} if cell["metadata"].get("tags") else {}
        if "outputs" in cell:
            cell["outputs"] = _merge_streams(cell["outputs"])
            for output in cell["outputs"]:
                output.get("data", {}).pop(WIDGET, None)  # without a kernel, sliders move nothing
                if "image/png" in output.get("data", {}):
                    named = {name: stem for name, stem in output["metadata"].items() if name == "figure"}
                    output["metadata"] = named | {"alt": _in_words(notebook["cells"], position)}  # for who does not see
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "file_extension": ".py"},  # nbconvert names scripts by it
        "mtlcore": {"source_digest": cells_digest(notebook, ["code"])},
    }
    write({path: _as_jupyter(notebook)})
    recorded.unlink()


def _recorded(path: Path) -> Path:
    return paths.BUILD / "record" / path.name


def _in_words(cells: list[dict[str, Any]], position: int) -> str:
    """What the figure of a cell shows: the first sentence of the caption below it, else the heading above it."""
    prose = [(i, "".join(cell["source"])) for i, cell in enumerate(cells) if cell["cell_type"] == "markdown"]
    caption = next((text for i, text in prose if i > position and text.startswith("*")), "")
    below = next((i for i, text in prose if text == caption), len(cells))
    headings = [line.strip("# ") for i, text in prose if i < position for line in text.splitlines() if line[:1] == "#"]
    own = caption and not any(position < i < below for i, _ in prose)
    words = re.split(r"(?<=[.:])\s", caption.replace("\n", " "))[:2] if own else [f"Figure: {headings[-1]}"]
    return re.sub(r"[*$`\\]|\[(.*?)\]\(.*?\)", r"\1", " ".join(words)).strip()


def _merge_streams(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join what a cell printed in a row: where the kernel cuts it into messages is a matter of time."""
    merged: list[dict[str, Any]] = []
    for output in outputs:
        if output["output_type"] == "stream" and merged and merged[-1].get("name") == output["name"]:
            text = "".join(merged[-1]["text"]) + "".join(output["text"])
            merged[-1] = output | {"text": text.splitlines(keepends=True)}
        else:
            merged.append(output)
    return merged


def _as_jupyter(notebook: dict[str, Any]) -> bytes:
    """The content of a notebook's file as Jupyter writes it, so that saving it there changes nothing."""
    return (json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: `python -m companion.runner.notebooks run | record | guard`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m companion.runner.notebooks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="execute a copy of a notebook")
    run.add_argument("notebooks", metavar="notebook", type=Path, nargs=1)
    run.add_argument("--output", type=Path, required=True, help="where the executed copy goes")
    run.add_argument("-p", dest="assignments", metavar="name=value", action="append", default=[], help="a parameter")
    for name, what in (("record", "replace notebooks by their clean run"), ("guard", "check notebooks")):
        commands.add_parser(name, help=what).add_argument(
            "notebooks", metavar="notebook", type=Path, nargs="*", default=sorted(paths.NOTEBOOKS.glob("*.ipynb"))
        )
    options = parser.parse_args(arguments)
    problems: list[str] = []
    for path in options.notebooks:
        begin = time.monotonic()
        try:
            if options.command == "run":
                execute(path, options.output, parse_assignments(path, options.assignments))
            elif options.command == "record":
                record(path)
            if options.command != "guard":
                print(f"{path.stem}: {time.monotonic() - begin:.0f} s", flush=True)
            if options.command != "run":
                read_notebook(path)
                problems += [f"{path.name}: {problem}" for problem in guard(path)]
        except (ValueError, TypeError) as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{path.stem} failed: {sentence(error)}")
        except PapermillExecutionError as error:
            attempt = _attempt(path, options.output if options.command == "run" else _recorded(path))
            where = attempt.relative_to(paths.FAILED.parent)
            what = str(error.evalue).rstrip().removesuffix(".")
            problems.append(f"{path.stem} failed: {error.ename}: {what}. See {where}.")
        except RuntimeError as error:  # nbclient's and jupyter_client's
            problems.append(
                f"{path.stem} failed: its kernel should live until the last cell. Found it dead, perhaps killed for "
                f"its memory ({error}). Run the same command again; finished cells of studies are kept."
            )
        except KeyboardInterrupt:
            print(f"{path.stem}: stopped; finished cells of studies are kept for the next run.", file=sys.stderr)
            return 130  # as a shell has it for what Ctrl-C ended
    print(*problems, sep="\n", file=sys.stderr, end="\n" if problems else "")
    return bool(problems)


def _stop(number: int, _: FrameType | None) -> None:
    """Take the SIGTERM of a batch system for Ctrl-C, once: make hands on the one that it gets as well."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # SIGINT stays ignored where it was, as the shell has it for background jobs
    sys.exit(main())
