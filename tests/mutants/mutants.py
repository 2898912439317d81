"""`make mutants`: plant each known defect in a copy of the code and require that its named checks turn red.

A check that no defect turns red checks nothing. So every check is first seen green on the copy as it is; then one
defect at a time is planted, and **each** of its checks has to fail by an assertion. A defect that breaks the import,
makes a test crash or run out of time was not noticed but tripped over: its mutant does not count as killed.

    python tests/mutants/mutants.py                # all of them, and the table tests/mutants/MUTANTS.md
    python tests/mutants/mutants.py "leaked column"  # some of them, by name; no table
"""

import os
import queue
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import ModuleType
from unittest.mock import patch
from xml.etree import ElementTree

import pytest
from mutant import Mutant
from mutants_list import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "mutants" / "MUTANTS.md"
# What the checks read; figures/full is the evidence that the ledger and the notebooks show.
NEEDED = ("mtlcore", "tests", "notebooks", "benchmarks", "figures/full")
AT_ONCE = 2
SECONDS = 600  # for one mutant's checks; an idle machine needs less than 30
IMPORTED = ["pytest", "torch._dynamo", "pandas", "matplotlib.pyplot", "scipy.stats", "sklearn.ensemble", "seaborn"]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
GREEN, RED = "green", "red"
# How an assertion's message begins in pytest's report; anything else is a crash.
ASSERTION = re.compile(r"AssertionError|assert |Failed: DID NOT RAISE|Failed: DID NOT WARN")
# nbval's word for a cell that ran and gave something else, and for one that did not run.
OTHER_OUTPUT, CRASHED_CELL = "Cell outputs differ", "caused an exception"


def copy_tree(root: Path, folder: Path) -> Path:
    """Copies what the checks need, without caches and what was built; the environment stays where it is."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in NEEDED:
        if (root / name).is_dir():
            shutil.copytree(root / name, folder / name, ignore=ignored)
    for path in root.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, folder / path.name)
    return folder


def mutated(source: str, mutant: Mutant) -> str:
    """Returns the file's text with the defect; raises ValueError where a text to replace is not there exactly once."""
    for text, replacement in mutant.edits:
        if source.count(text) != 1:
            raise ValueError(
                f"Mutant `{mutant.name}` should replace a text that {mutant.file} holds once. Found it "
                f"{source.count(text)} times: {text!r}. Follow that file's change in tests/mutants/."
            )
        source = source.replace(text, replacement)
    return source


@cache
def forks() -> ForkServerContext:
    """A server that has imported what the checks import, half of a short run's time, and nothing of the project."""
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with patch.dict(os.environ, ONE_THREAD):
        forkserver.ensure_running()
    return context


def run_checks(folder: Path, checks: Sequence[str]) -> dict[str, str]:
    """Runs the checks in a copy and says of each "green", "red" or what happened instead."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    arguments = [*checks, "-q", "--tb=short", "--maxfail=1000", f"--junitxml={report}", "-p", "no:cacheprovider"]
    process = forks().Process(target=_pytest, args=(folder, arguments))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)  # distributed ranks too; kernels end themselves
        process.join()
        return dict.fromkeys(checks, f"no result after {SECONDS} s")
    if process.exitcode not in (0, 1) or not report.exists():
        return dict.fromkeys(checks, f"no result: pytest ended with exit status {process.exitcode}")
    cases = ElementTree.parse(report).getroot().findall(".//testcase")
    return {check: _outcome([case for case in cases if _belongs(case, check)]) for check in checks}


def _pytest(folder: Path, arguments: list[str]) -> None:
    """What a fork does: pytest in a copy, as if it had been started there."""
    os.setsid()
    os.chdir(folder)
    here = [str(folder), str(folder / "notebooks")]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MTLCORE"))}
    os.environ.clear()
    os.environ |= kept | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(here)}
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # byte code is found by second and size: a mutant could run as another
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none of them is needed, and they take half of a short run
    sys.dont_write_bytecode = True
    sys.path[:] = here + [p for p in sys.path if p.startswith(sys.prefix) or not Path(p).is_relative_to(ROOT)]
    sys.modules["__main__"] = ModuleType("__main__")  # which processes that a test spawns would import: this file
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.exit(int(pytest.main(arguments)))


def _belongs(case: ElementTree.Element, check: str) -> bool:
    file, function = check.split("::")
    name = case.get("name", "")
    same = name == function or ("[" not in function and name.split("[")[0] == function)
    return same and case.get("classname", "") == file.removesuffix(".py").replace("/", ".")


def _outcome(cases: Sequence[ElementTree.Element]) -> str:
    """Red where a parametrised check fails in some of its cases, and in none by anything but an assertion."""
    if not cases or all(case.find("skipped") is not None for case in cases):
        return "not run"
    failed = False
    for case in cases:
        for problem in [*case.findall("error"), *case.findall("failure")]:
            message, text = problem.get("message", ""), problem.text or ""
            crashed = problem.tag == "error" or not ASSERTION.match(message)
            if crashed or (CRASHED_CELL in text and OTHER_OUTPUT not in text):
                return f"crashed: {message.splitlines()[0] if message else case.get('name')}"
            failed = True
    return RED if failed else GREEN


def run_mutant(folder: Path, mutant: Mutant) -> dict[str, str]:
    """Plants one defect in a copy, runs its checks there and takes it out again."""
    path = folder / mutant.file
    source = path.read_text(encoding="utf-8")
    path.write_text(mutated(source, mutant), encoding="utf-8")
    try:
        return run_checks(folder, mutant.killers)
    finally:
        path.write_text(source, encoding="utf-8")


def run_all(root: Path, mutants: Sequence[Mutant]) -> list[str]:
    """Runs the mutants, two at a time, and says what survived and which checks can kill nothing; empty is good."""
    with tempfile.TemporaryDirectory() as temporary:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(AT_ONCE):
            folder = Path(temporary, str(number))
            folder.mkdir()
            copies.put(copy_tree(root, folder))

        def in_a_copy(mutant: Mutant) -> dict[str, str]:
            folder = copies.get()
            try:
                return run_mutant(folder, mutant)
            finally:
                copies.put(folder)

        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            checks = sorted({killer for mutant in mutants for killer in mutant.killers})
            print(f"{len(checks)} checks without a defect ...", flush=True)
            halves = [[c for c in checks if _is_slow(c)], [c for c in checks if not _is_slow(c)]]
            as_it_is = [Mutant("none", "", mutants[0].file, (), tuple(half)) for half in halves if half]
            before = [item for found in pool.map(in_a_copy, as_it_is) for item in found.items()]
            if problems := [f"{check} is {how} without any defect" for check, how in before if how != GREEN]:
                return problems
            slowest_first = sorted(mutants, key=lambda mutant: -sum(map(_is_slow, mutant.killers)))
            waiting = {pool.submit(in_a_copy, mutant): mutant for mutant in slowest_first}
            for number, future in enumerate(as_completed(waiting), start=1):
                mutant, outcome = waiting[future], future.result()
                survived = [f"`{mutant.name}` survives {k}: {how}" for k, how in outcome.items() if how != RED]
                problems += survived
                state = "SURVIVED" if survived else f"killed by {len(outcome)}"
                print(f"[{number:2}/{len(mutants)}] {mutant.name}: {state}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
    return problems


def _is_slow(check: str) -> bool:
    return "test_notebooks" in check


def as_markdown(mutants: Iterable[Mutant]) -> str:
    """The table of planted defects and the checks that notice them."""
    rows = [
        f"| **{m.name}**<br>[{m.file}](../../{m.file}) | {m.defect} "
        f"| {'<br>'.join(_in_words(killer) for killer in m.killers)} |"
        for m in mutants
    ]
    head = (
        "# Tests that can fail",
        "",
        f"`make mutants` plants each of these {len(rows)} defects, one at a time, in a copy of the code. Every check",
        "named beside it is green without the defect and has to fail with it, by an assertion and not by a crash. This",
        "table is written by a run in which all of them did.",
        "",
        "| planted defect | what it would do | the checks that turn red |",
        "|---|---|---|",
    )
    return "\n".join([*head, *rows, ""])


def _in_words(killer: str) -> str:
    file, function = killer.removeprefix("tests/").split("::")
    name, _, parameters = function.partition("[")
    what = parameters.removesuffix("]")
    if file == "notebooks/test_notebooks.py":
        return f"the outputs of notebook [{what[:2]}](../../notebooks/{what}.ipynb)"
    if file == "notebooks/test_published_runs.py":
        return f"a published run of notebook [{what[:2]}](../../figures/full/{what[:2]}_runs.json): {what[3:]}"
    return f"[{file}](../{file}): {name.removeprefix('test_').replace('_', ' ')}"


def main(names: Sequence[str]) -> int:
    """Runs the named mutants, or all of them and writes the table; returns the exit status."""
    unknown = sorted(set(names) - {mutant.name for mutant in MUTANTS})
    if unknown:
        print(f"Mutants should be named as in tests/mutants/mutants_list.py. Found {unknown[0]!r}. Mend the name.")
        return 2
    problems = run_all(ROOT, [mutant for mutant in MUTANTS if not names or mutant.name in names])
    for problem in problems:
        print(problem)
    if problems:
        return 1
    if not names:
        temporary = TABLE.with_name(f".{TABLE.name}")
        temporary.write_text(as_markdown(MUTANTS), encoding="utf-8")
        temporary.replace(TABLE)
        print(f"All {len(MUTANTS)} mutants were killed. Table: tests/mutants/{TABLE.name}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
