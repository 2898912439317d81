"""Choose the Python that `make` runs: the active environment when it suffices, else `.venv` from `requirements.lock`.

The Makefile runs this file as a script before anything is installed, so it needs the standard library only and is
quick: no package of the project is imported. The chosen interpreter's path is left in `build/python`.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections import deque
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "installed"  # written last: an interrupted installation has none and is taken up again


def declared(pyproject: Path = ROOT / "pyproject.toml", extras: Sequence[str] | None = None) -> list[str]:
    """The project's requirements, those of the methods and of all extras or some, as `pyproject.toml` spells them."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    listed: dict[str, list[str]] = project["optional-dependencies"]
    return [*project["dependencies"], *(text for name in extras or listed for text in listed[name])]


def lacking(requirements: list[str]) -> list[str]:
    """Those of the requirements that the running interpreter's environment does not satisfy."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # packaging is itself one of the requirements
        return requirements
    absent = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            absent.append(text)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            absent.append(text)
    return absent


def wanted() -> str:
    """What `.venv` should hold: a digest of the lock and of what decides how the project itself is installed."""
    return hashlib.sha256(LOCK.read_bytes() + repr(declared()).encode()).hexdigest()


def pip(arguments: list[str], what: str, steps: int) -> None:
    """Run pip in `.venv`, saying in one line how far it is; on failure show its last lines and stop."""
    print(f"Installing {what} ...", flush=True)
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--no-input", *arguments]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    last: deque[str] = deque(maxlen=15)
    seen = 0
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            last.append(line)
            if line.startswith(("Collecting ", "Requirement already satisfied")):
                seen += 1
                name = line.removeprefix("Collecting ").removeprefix("Requirement already satisfied: ").split("==")[0]
                progress = f"  {min(seen, steps)} of {steps} packages found: {name.split()[0]}"
            elif line.startswith("Installing collected"):
                progress = "  unpacking them (torch and JupyterLab are large)"
            else:
                continue
            if sys.stdout.isatty():
                print(f"\r\033[K{progress}", end="", flush=True)
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if process.returncode:
        sys.exit("".join(last) + "pip failed. Mend what its last lines say and run make again; it resumes.")


def install() -> None:
    """Make `.venv`, or bring it in line with the lock; nothing happens when it already is."""
    python = VENV / "bin" / "python"
    whole_pip = "from importlib.metadata import distribution as d; assert d('pip').read_text('RECORD')"
    # What was never finished goes on only with the Python that make would take for a new one.
    fits = "sys.version_info >= (3, 11)" if STAMP.exists() else f"sys.version_info == {tuple(sys.version_info)}"
    test = f"import sys; {whole_pip}; sys.exit(not {fits})"
    usable = False
    with contextlib.suppress(OSError):  # its Python is gone, or one of another machine
        usable = subprocess.run([python, "-c", test], capture_output=True, check=False).returncode == 0
    if usable and STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted():
        return
    if not usable:
        print(f"Making .venv with Python {sys.version_info[0]}.{sys.version_info[1]} ...", flush=True)
        command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            sys.exit(
                f"{made.stdout}{made.stderr}No virtual environment could be made. Install Python's venv module (on "
                "Debian and Ubuntu the package python3-venv), or activate the conda environment of environment.yml."
            )
    STAMP.unlink(missing_ok=True)
    for package in VENV.glob("lib/python*/site-packages/*.dist-info"):
        if not (package / "RECORD").exists():  # pip writes it last; what lacks it was being unpacked at an interruption
            shutil.rmtree(package)
    pins = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if "==" in line and not line.startswith("#")]
    pip(["-r", str(LOCK)], f"the {len(pins)} packages of requirements.lock into .venv, some minutes", len(pins))
    pip(["--no-deps", "--no-build-isolation", "-e", str(ROOT)], "mtlcore into .venv", 1)
    STAMP.write_text(wanted(), encoding="utf-8")


def main() -> None:
    """Leave the path of the interpreter to use in `build/python`."""
    chosen = ROOT / "build" / "python"
    chosen.parent.mkdir(exist_ok=True)
    active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    runs_in_active = active is not None and Path(sys.prefix).resolve() == Path(active).resolve() != VENV.resolve()
    if runs_in_active and not lacking(declared()):
        python = Path(sys.executable)
    else:
        with (ROOT / "build" / "environment.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second waits, then finds everything done
            install()
        python = VENV / "bin" / "python"
    if not chosen.exists() or chosen.read_bytes() != os.fsencode(python):
        chosen.write_bytes(os.fsencode(python))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Stopped. Run make again; it resumes.")
    except OSError as error:
        name = error.filename or "build/python"  # the system names none where the disk is full
        sys.exit(f"File `{name}` should be there for make. Found: {error.strerror}. Mend that and run it again.")
