"""The three lists of requirements agree, and make installs exactly when it has to."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from companion.runner import environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from toy_project import copy_project, make

ROOT = Path(__file__).resolve().parents[2]
# What conda-forge calls otherwise than the package index of Python, and what it has to bring besides packages.
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
CONDA_ONLY = {"python", "make", "pip"}


def declared() -> dict[str, Requirement]:
    return {str(canonicalize_name(r.name)): r for r in map(Requirement, environment.declared())}


def pinned() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def installs_here(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def test_conda_asks_for_the_same_as_pyproject() -> None:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    from_pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    requirements = [Requirement(entry) for entry in [*from_pip, *(e for e in listed if isinstance(e, str))]]
    conda = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in requirements if r.name not in CONDA_ONLY}
    assert conda == {name: r.specifier for name, r in declared().items()}
    python = next(r for r in requirements if r.name == "python")
    assert f'requires-python = "{python.specifier}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_lock_pins_every_requirement_within_its_range() -> None:
    pins: dict[str, Requirement] = {canonicalize_name(r.name): r for r in pinned()}
    for name, requirement in declared().items():
        assert name in pins, f"{name} is not in requirements.lock"
        (pin,) = pins[name].specifier
        assert requirement.specifier.contains(pin.version), f"{pin} is outside of {requirement}"
        assert pins[name].marker == requirement.marker, f"{name} is pinned for other platforms than it is required on"


def test_lock_holds_exact_versions_and_nothing_else() -> None:
    for requirement in pinned():
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert "+" not in pin.version, f"{requirement} is the build of one machine"
    names = [canonicalize_name(r.name) for r in pinned()]
    assert len(names) == len(set(names))


def promised() -> list[Version]:
    """The oldest Python of `pyproject.toml`, and the newest that make looks for by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (oldest,) = SpecifierSet(project["requires-python"])
    named = re.findall(r"python(3\.\d+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    return [Version(f"{oldest.version}.0"), max(map(Version, named))]


def test_lock_installs_on_every_python_that_is_promised() -> None:
    refused = []
    for pin in filter(installs_here, pinned()):
        try:
            package = metadata.distribution(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if pin.specifier.contains(package.version):  # else this environment was not made from requirements.lock
            pythons = SpecifierSet(package.metadata["Requires-Python"] or "")
            refused += [f"{pin} needs Python {pythons}" for python in promised() if not pythons.contains(python)]
    assert refused == []


def test_lock_is_what_the_requirements_need_and_no_more() -> None:
    here = {canonicalize_name(r.name): r for r in pinned() if installs_here(r)}
    for name, requirement in here.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"this environment lacks {name}, so it was not made from requirements.lock")
        if not requirement.specifier.contains(version):
            pytest.skip(f"this environment has {name} {version}, so it was not made from requirements.lock")
    needed: set[tuple[str, frozenset[str]]] = set()
    waiting = list(declared().values())
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset({"", *requirement.extras})
        if (name, extras) in needed:
            continue
        needed.add((name, extras))
        for further in map(Requirement, metadata.requires(name) or []):
            cuda = name == "torch" and re.match("nvidia|cuda|triton", further.name)  # torch pins these itself
            if not cuda and (further.marker is None or any(further.marker.evaluate({"extra": e}) for e in extras)):
                waiting.append(further)
    assert {name for name, _ in needed} == set(here)


def test_running_a_notebook_does_not_begin_with_reading_a_grammar() -> None:
    (pin,) = (pin for pin in pinned() if pin.name == "jsonschema")
    if not pin.specifier.contains(metadata.version("jsonschema")):
        pytest.skip("this environment was not made from requirements.lock")
    script = "import sys, companion.runner.notebooks; print('lark' in sys.modules)"
    path = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'notebooks'}"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "False\n", done.stderr


def test_lacking_names_what_is_absent_or_of_another_version() -> None:
    requirements = ["pytest>=8", "pytest<1", "no-such-package>=1"]
    assert environment.lacking(requirements) == ["pytest<1", "no-such-package>=1"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a lock, a `.venv` whose Python says yes to every question, and pip replaced by a diary."""
    (tmp_path / "requirements.lock").write_text("pytest==9.2.0\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(environment, "STAMP", tmp_path / ".venv" / "installed")
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    return tmp_path


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(environment, "pip", lambda arguments, what, steps: calls.append(arguments[0]))
    return calls


def test_active_environment_is_used_when_it_suffices(
    checkout: Path, installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "lacking", lambda requirements: [])
    environment.main()
    assert (checkout / "build" / "python").read_text() == sys.executable
    assert installed == []


def test_insufficient_active_environment_is_left_alone(
    checkout: Path, installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "lacking", lambda requirements: ["torch>=99"])
    environment.main()
    assert (checkout / "build" / "python").read_text() == str(checkout / ".venv" / "bin" / "python")
    assert installed == ["-r", "--no-deps"]


def test_changed_lock_is_installed_once(checkout: Path, installed: list[str]) -> None:
    environment.install()
    environment.install()
    assert installed == ["-r", "--no-deps"]
    (checkout / "requirements.lock").write_text("pytest==9.2.1\n")
    environment.install()
    assert installed == ["-r", "--no-deps"] * 2


def test_interrupted_installation_is_taken_up_again(
    checkout: Path, installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.install()
    (checkout / "requirements.lock").write_text("pytest==9.2.1\n")

    def interrupted(arguments: list[str], what: str, steps: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "pip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            environment.install()
    (checkout / "requirements.lock").write_text("pytest==9.2.0\n")  # even back at the lock that was installed in full
    environment.install()
    assert installed == ["-r", "--no-deps"] * 2


def test_half_unpacked_package_is_unpacked_again(checkout: Path, installed: list[str]) -> None:
    packages = checkout / ".venv" / "lib" / "python3.11" / "site-packages"
    for name, file in (("whole", "RECORD"), ("half", "METADATA")):
        (packages / f"{name}-1.0.dist-info").mkdir(parents=True)
        (packages / f"{name}-1.0.dist-info" / file).touch()
    environment.install()
    assert [path.name for path in packages.iterdir()] == ["whole-1.0.dist-info"]
    assert installed == ["-r", "--no-deps"]


# Answers as this Python does, but for its version.
OTHER_PYTHON = f"""#!/bin/sh
exec {sys.executable} -c "import sys; sys.version_info = (3, 11, 2, 'final', 0); exec(sys.argv[2])" "$@"
"""
REPLACED: dict[str, Callable[[Path], object]] = {
    "its Python was removed": lambda python: python.unlink(),
    "its Python is of another machine": lambda python: python.write_bytes(b"\x7fELF of another machine"),
    "its Python is too old, or lacks pip": lambda python: python.write_text("#!/bin/sh\nexit 1\n"),
    "another Python began it": lambda python: python.write_text(OTHER_PYTHON),
}


@pytest.mark.parametrize("fault", REPLACED)
def test_unusable_environment_is_made_anew(
    checkout: Path, installed: list[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    REPLACED[fault](checkout / ".venv" / "bin" / "python")
    newer = checkout / "newer"
    newer.write_text(f"#!/bin/sh\necho $@ > {checkout}/made\n")
    newer.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(newer))
    environment.install()
    assert (checkout / "made").read_text() == f"-m venv --clear {checkout}/.venv\n"
    assert installed == ["-r", "--no-deps"]


def test_finished_environment_of_another_python_is_kept(checkout: Path, installed: list[str]) -> None:
    environment.install()
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(OTHER_PYTHON)
    environment.install()
    assert installed == ["-r", "--no-deps"]


@pytest.mark.parametrize("finished", [False, True])
def test_make_asks_the_python_of_a_finished_environment_only(tmp_path: Path, finished: bool) -> None:
    project = copy_project(tmp_path, toy="1")
    (project / "notebooks" / "companion" / "runner" / "environment.py").write_text("")
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho asked\n")
    python.chmod(0o755)
    if finished:
        (project / ".venv" / "installed").touch()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = make(project, "environment", VIRTUAL_ENV="", PATH=path)
    assert done.returncode == 0, done.stderr
    assert ("asked" in done.stdout) == finished


def test_failure_of_pip_is_shown_with_its_last_lines(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\necho 'No matching distribution found for pytest==9.2.0'\nexit 1\n")
    with pytest.raises(SystemExit, match=r"No matching distribution found(.|\n)*run make again"):
        environment.pip(["-r", "requirements.lock"], "Installing", 1)
