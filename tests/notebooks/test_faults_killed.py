"""A run that is killed, at random or at a chosen write, ends after its restart as if nothing had happened."""

import contextlib
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from companion.store import tidy
from toy_project import copy_project, make, variables

CELLS = 8
STUDY = f"""import os, time
from pathlib import Path
import pandas as pd
import matplotlib.pyplot as plt
from companion.plots.figures import save_figure
from companion.store.results import Results

def walk(configuration):  # a tenth of a second of "training"
    begin, x = time.perf_counter(), configuration["seed"] / 7
    while configuration["seed"] > 4 and Path("wait").exists():
        time.sleep(0.1)
    for _ in range(1000):
        x = 3.9 * x * (1 - x)
    time.sleep(0.1)
    return pd.DataFrame({{"metric": ["x"], "value": [x], "seconds": [time.perf_counter() - begin]}})

Path("kernel").write_text(str(os.getpid()))
walk.__module__ = "companion.store.tidy"  # a study's functions are the companion's
cells = Results("90_toy", profile)
table = cells.cells([{{"seed": seed}} for seed in range(1, {CELLS + 1})], walk)
for stem in ("toy_x", "toy_half"):
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot(table["seed"], table["value"] / (1 + (stem == "toy_half")))
    provenance = {{"parameters": {{}}, "seeds": [0], "data_checksums": {{}}}}
    drawn = table.drop(columns="seconds")
    save_figure(fig, stem, drawn, notebook="toy", profile=profile, **provenance)
    plt.close(fig)
print(table["value"].sum())"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study run without a fault."""
    project = copy_project(tmp_path_factory.mktemp("undisturbed"), toy=STUDY)
    with started(project) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return project


# The full profile as make runs it.
RUN = [sys.executable, "-m", "companion.runner.notebooks", "run", "notebooks/toy.ipynb"]
RUN += ["--output", "build/full/toy.ipynb", "-p", "profile=full"]


@contextlib.contextmanager
def started(
    project: Path, command: Sequence[str] = RUN, *, background: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own that ends with the test, however that ends; its kernel notices and ends.

    Args:
        project: Where it runs.
        command: What runs.
        background: As a script's `command &`, which ignores SIGINT, or as in a terminal; these tests may run as either.
    """
    pipe, interrupt = subprocess.PIPE, signal.SIG_IGN if background else signal.SIG_DFL
    with subprocess.Popen(
        command,
        cwd=project,
        env=variables(project),
        start_new_session=True,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def finished_cells(project: Path) -> dict[str, bytes]:
    """The files of all cells that are finished."""
    return {path.name: path.read_bytes() for path in (project / "build" / "results" / "90").glob("[!.]*.json.gz")}


def has_cells(project: Path, number: int) -> bool:
    """Whether that many cells are finished."""
    return len(finished_cells(project)) >= number


def same_but_for_times(project: Path, other: Path) -> None:
    """Compare figures, manifest, cells and outputs of two finished runs; nothing else may lie there."""
    figures = [{p.name: p.read_bytes() for p in (run / "figures" / "full").iterdir()} for run in (project, other)]
    assert figures[0] == figures[1]
    assert len(figures[0]) == 2 * 3 + 1
    tables, said = [], []
    for run in (project, other):
        folder = run / "build" / "results" / "90"
        assert {path.name.split(".", 1)[-1] for path in folder.iterdir()} == {"json.gz", "lock"}
        records = [json.loads(gzip.decompress(path.read_bytes())) for path in sorted(folder.glob("*.json.gz"))]
        said.append([(record["cell"], record["columns"]) for record in records])
        read = [tidy.from_csv(record["table"].encode(), record["columns"]) for record in records]
        tables.append([table.drop(columns="seconds") for table in read])
    assert said[0] == said[1]
    assert len(said[0]) == CELLS
    for one, two in zip(*tables, strict=True):
        assert tidy.to_csv(one) == tidy.to_csv(two)
    outputs = [
        [cell.get("outputs") for cell in json.loads((run / "build/full/toy.ipynb").read_bytes())["cells"]]
        for run in (project, other)
    ]
    assert outputs[0] == outputs[1]
    assert [path for path in (project / "failed").rglob("*") if path.is_file()] == []


def kernel(project: Path) -> int:
    """The process id that the study's cell wrote beside its notebook."""
    return int((project / "notebooks" / "kernel").read_text())


def alive(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something happened; for a minute, while the process lives."""
    until = time.monotonic() + 60
    while not happened() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def kill_group(process: subprocess.Popen[str], project: Path) -> None:
    """What `kill -9` of the group or a closed terminal leaves: the kernel, in its own group, notices and ends."""
    os.killpg(process.pid, signal.SIGKILL)


def kill_all(process: subprocess.Popen[str], project: Path) -> None:
    """What a crash of the machine leaves: nothing."""
    os.killpg(process.pid, signal.SIGKILL)
    os.kill(kernel(project), signal.SIGKILL)


def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(tmp_path: Path, undisturbed: Path) -> None:
    project, draw = copy_project(tmp_path, toy=STUDY), random.Random(0)
    kills: list[Callable[[subprocess.Popen[str], Path], None]] = [kill_all, kill_group, kill_all]
    for number, kill in enumerate(kills):
        before = finished_cells(project)
        enough = partial(has_cells, project, draw.randint(2 * number, 2 * number + 3))  # later kills, later cells
        with started(project) as process:
            wait_for(enough, process)
            time.sleep(draw.uniform(0, 0.1))
            assert process.poll() is None, "it was killed in the midst of the study"
            kill(process, project)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (project / "figures").exists()
        assert finished_cells(project).items() >= before.items(), "what was finished is not computed again"
    before = finished_cells(project)
    assert before
    with started(project) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert finished_cells(project).items() >= before.items()
    same_but_for_times(project, undisturbed)


SMALL = """import pandas as pd
from companion.plots.figures import save_figure
from companion.store.results import Results

class Drawing:  # a figure that takes no time to draw
    def savefig(self, file, **_):
        file.write(b"drawn")
    def set_layout_engine(self, _):
        pass

def walk(configuration):
    return pd.DataFrame({"metric": ["x"], "value": [configuration["seed"] / 7]})

walk.__module__ = "companion.store.tidy"
table = Results("90_toy", profile).cells([{"seed": 1}, {"seed": 2}], walk)
provenance = {"notebook": "toy", "profile": profile, "parameters": {}, "seeds": [0], "data_checksums": {}}
save_figure(Drawing(), "toy_one", table, **provenance)"""


def test_a_run_that_dies_at_any_step_of_writing_ends_as_if_undisturbed(tmp_path: Path) -> None:
    project = copy_project(tmp_path, toy=SMALL)
    script = Path(__file__).with_name("dying_runs.py")
    done = subprocess.run(
        [sys.executable, script], cwd=project, env=variables(project), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.splitlines()[-1]) > 50, "steps"


@pytest.mark.parametrize(
    ("background", "stop"),
    [
        # As a terminal does, to all but the kernel, which has a group of its own.
        pytest.param(False, lambda make: os.killpg(make.pid, signal.SIGINT), id="Ctrl-C"),
        # As batch systems and `kill` do, which may know only make.
        pytest.param(True, lambda make: make.terminate(), id="SIGTERM in the background"),
    ],
)
def test_what_stops_make_stops_its_run_with_a_sentence_and_make_goes_on(
    tmp_path: Path, undisturbed: Path, background: bool, stop: Callable[[subprocess.Popen[str]], None]
) -> None:
    project = copy_project(tmp_path, toy=STUDY)
    wait = project / "notebooks" / "wait"  # so that there is something to stop, however busy the machine
    wait.touch()
    with started(project, ["make", "full"], background=background) as process:
        wait_for(partial(has_cells, project, 4), process)
        stop(process)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "toy: stopped; finished cells of studies are kept for the next run." in said
    assert "/companion/" not in said, "no traceback through the project; libraries may report the end of the kernel"
    assert not alive(kernel(project))
    before = finished_cells(project)
    assert len(before) == 4
    wait.unlink()
    assert make(project, "full").returncode == 0
    assert finished_cells(project).items() >= before.items()
    same_but_for_times(project, undisturbed)


def test_a_run_in_the_background_goes_on_when_another_is_interrupted(tmp_path: Path) -> None:
    project = copy_project(tmp_path, toy=STUDY)
    with started(project, background=True) as process:
        wait_for(partial(has_cells, project, 1), process)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C at the script that started it
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def test_a_dead_kernel_and_a_second_run_are_said(tmp_path: Path) -> None:
    project = copy_project(tmp_path, toy=STUDY.replace("sleep(0.1)", "sleep(60)"))
    with started(project) as process:
        wait_for((project / "notebooks" / "kernel").exists, process)
        with started(project) as second:
            _, said = second.communicate(timeout=60)
        assert second.returncode == 1
        assert said.strip() == (
            "toy failed: Notebook toy should run once at a time. Found another run of it going on. "
            "Wait for it or stop it, and run the same command again."
        )
        os.kill(kernel(project), signal.SIGKILL)  # as the system does that runs out of memory
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("toy failed: its kernel should live until the last cell. Found it dead")
    assert "Traceback" not in said
    assert not (project / "build" / "full" / "toy.ipynb").exists()


def test_a_kernel_that_does_not_start_is_said(tmp_path: Path) -> None:
    project = copy_project(tmp_path, toy=STUDY)
    (project / "notebooks" / "ipykernel_launcher.py").write_text("raise SystemExit('no kernel today')")
    with started(project) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no kernel today" in said
    assert said.splitlines()[-1].startswith("toy failed: its kernel should live until the last cell. Found it dead")
    assert "Traceback" not in said
