"""What the README tells readers to type: every target of make resolves, `make lab` serves the notebooks and stops."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from companion.store import paths

NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "build", "failed", "figures", "__pycache__", ".*_cache")
SECONDS_TO_START = 120


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without its history, environment and figures, for make to write into."""
    copy = tmp_path_factory.mktemp("make") / "checkout"
    shutil.copytree(paths.ROOT, copy, ignore=NOT_COPIED)
    return copy


def variables(**more: str) -> dict[str, str]:
    """The environment of a command: this interpreter's is the active one, and what an outer make set is left out."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "CONDA"))}
    return kept | {"VIRTUAL_ENV": sys.prefix} | more


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", *arguments]
    return subprocess.run(command, cwd=checkout, env=variables(), capture_output=True, text=True, check=False)


def targets() -> list[str]:
    makefile = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    return re.findall(r"^\.PHONY: ([a-z]+)$", makefile, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments", [*((target,) for target in targets()), ("-j2", "full", "NOTEBOOK=03", "DEVICE=cuda")]
)
def test_make_knows_how_to_make_it(checkout: Path, arguments: tuple[str, ...]) -> None:
    before = sorted(checkout.rglob("*"))
    dry = make(checkout, "-n", *arguments)
    assert dry.returncode == 0, dry.stderr
    modules = re.findall(r"-m (mtlcore[\w.]*)|(?<= )((?:tests|benchmarks|mtlcore)/\w+\.py)", dry.stdout)
    for module, script in modules:
        assert (checkout / (script or module.replace(".", "/") + ".py")).exists(), (module, script)
    assert sorted(checkout.rglob("*")) == before, "a dry run writes nothing"


def test_a_dry_run_of_one_notebook_names_it_and_its_device(checkout: Path) -> None:
    text = make(checkout, "-n", "full", "NOTEBOOK=03", "DEVICE=cuda").stdout
    assert "run notebooks/03_credit_default.ipynb" in text
    assert "device=cuda -p profile" in text
    assert "04_mortality" not in text


def test_notebooks_that_sum_up_others_run_last(checkout: Path) -> None:
    ran = re.findall(r"run notebooks/(\w+)\.ipynb", make(checkout, "-n", "full").stdout)
    assert ran[-2:] == ["10_cost", "00_overview"]
    assert sorted(ran) == [path.stem for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))]
    one = make(checkout, "-n", "full", "NOTEBOOK=00").stdout
    assert re.findall(r"run notebooks/(\w+)\.ipynb", one) == ["00_overview"]


@pytest.mark.parametrize("notebook", ["3", "1", "0", "credit", "03_cred", "99", "%", "02 03"])
def test_a_notebook_that_is_not_exactly_one_is_refused_with_those_there_are(checkout: Path, notebook: str) -> None:
    for target in ("figures", "full", "record"):
        done = make(checkout, "-n", target, f"NOTEBOOK={notebook}")
        assert done.returncode == 2
        assert f"Found NOTEBOOK={notebook}. There are: 00_overview 01_hydalearn_by_hand " in done.stderr
        assert done.stdout == ""


def test_a_notebook_is_named_by_number_or_name(checkout: Path) -> None:
    for notebook in ("03", "03_credit_default"):
        text = make(checkout, "-n", "record", f"NOTEBOOK={notebook}").stdout
        assert re.findall(r"notebooks/(\w+)\.ipynb", text) == ["03_credit_default"]
    everything = make(checkout, "-n", "record", "NOTEBOOK=").stdout
    stems = [path.stem for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))]
    assert re.findall(r"notebooks/(\w+)\.ipynb", everything) == stems


def test_make_in_another_folder_is_refused(checkout: Path, tmp_path: Path) -> None:
    done = make(tmp_path, "-f", str(checkout / "Makefile"), "figures")
    assert done.returncode == 2
    assert "should run in the folder of the project" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_colon_in_the_path_is_refused(checkout: Path, tmp_path: Path) -> None:
    project = tmp_path / "c:d"
    (project / "notebooks").mkdir(parents=True)
    (project / "notebooks" / "toy.ipynb").touch()
    done = make(project, "-f", str(checkout / "Makefile"), "figures")
    assert done.returncode == 2
    assert f"should hold no colon, at which Python divides lists of folders. Found {project}." in done.stderr


def test_make_without_a_target_lists_each_with_its_seconds(checkout: Path) -> None:
    text = make(checkout).stdout
    listed = re.findall(r"^ {2}([a-z]+) +\d+ s {2}\S", text, re.MULTILINE)
    assert sorted(listed) == sorted(set(targets()) - {"environment"})


def test_an_unknown_target_is_refused(checkout: Path) -> None:
    assert make(checkout, "-n", "figurs").returncode == 2


@pytest.fixture
def lab(checkout: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`make lab` on a free port, for whoever runs the tests, without opening a browser."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = {"port": port, "port_retries": 0, "open_browser": False, "allow_root": True}
    (tmp_path / "jupyter_server_config.json").write_text(
        json.dumps({"ServerApp": server, "IdentityProvider": {"token": "open"}})
    )
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path) for kind in ("CONFIG", "DATA", "RUNTIME")}
    command = ["make", "lab"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=checkout, env=variables(**folders), stdout=log, stderr=log, text=True, start_new_session=True
        )
    yield process, port
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def served(port: int, path: str) -> bytes:
    """What the server answers, waiting until it is up."""
    until = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/{path}?token=open") as answer:
                return bytes(answer.read())
        except URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_lab_serves_every_notebook_and_stops(lab: tuple[subprocess.Popen[str], int], tmp_path: Path) -> None:
    process, port = lab
    found = {entry["name"] for entry in json.loads(served(port, "api/contents/notebooks"))["content"]}
    assert {path.name for path in paths.NOTEBOOKS.glob("*.ipynb")} <= found
    assert b"JupyterLab" in served(port, "lab")
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=60)
    with pytest.raises(URLError):
        urlopen(f"http://127.0.0.1:{port}/api")
