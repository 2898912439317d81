"""The planted defects fit the code as it is, and their runner tells a kill from a survival and from a crash."""

import ast
from pathlib import Path

import mutants
import pytest
from mutant import Mutant
from mutants import ROOT, TABLE, as_markdown, copy_tree, mutated, run_all, run_mutant
from mutants_list import MUTANTS

# What has to be among them, whatever else is.
ASKED_FOR = {
    "flipped gain ratio", "main and auxiliary swapped", "shared accumulator", "gradients in place of updates in AU",
    "bias correction missing", "weight decay T times", "tuning on test data", "leaked column", "seeds not paired",
    "interval without pairing", "mIoU averaged over batches", "stale result reused",
}  # fmt: skip
# These have to be seen in what a reader sees, too.
SEEN_IN_A_NOTEBOOK = (
    "flipped gain ratio", "main and auxiliary swapped", "shared accumulator", "gradients in place of updates in AU",
)  # fmt: skip


def test_all_that_were_asked_for_are_planted() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 12
    assert set(names) >= ASKED_FOR


def test_the_worst_are_seen_in_a_notebooks_outputs_and_in_a_published_run() -> None:
    killers = {mutant.name: " ".join(mutant.killers) for mutant in MUTANTS}
    for name in SEEN_IN_A_NOTEBOOK:
        assert "test_every_output_and_every_published_number_comes_out_again" in killers[name], name
        assert "test_a_published_run_comes_out_again" in killers[name], name


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_its_file_and_changes_what_it_does(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    changed = mutated(source, mutant)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
    compile(changed, mutant.file, "exec")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_killers_of_a_mutant_exist(mutant: Mutant) -> None:
    assert mutant.killers
    for killer in mutant.killers:
        file, name = killer.split("::")
        functions = {
            node.name: node
            for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        function, bracket, _ = name.partition("[")
        assert function in functions, killer
        assert function.startswith("test_")
        # Parameters in brackets are checked by the run itself: it sees every check green before it plants anything.
        decorators = " ".join(ast.unparse(decorator) for decorator in functions[function].decorator_list)
        assert not bracket or "parametrize" in decorators, killer


def test_a_text_that_is_gone_is_named_with_the_remedy() -> None:
    mutant = Mutant("gone", "-", "a.py", (("x = 1", "x = 2"),), ())
    with pytest.raises(ValueError, match=r"`gone` should replace a text that a\.py holds once\. Found it 0 times"):
        mutated("y = 1\n", mutant)
    with pytest.raises(ValueError, match="Found it 2 times"):
        mutated("x = 1\nx = 1\n", mutant)


def test_the_committed_table_is_that_of_the_list() -> None:
    assert TABLE.read_text(encoding="utf-8") == as_markdown(MUTANTS), "run make mutants"


CODE = 'def gain(before, after):\n    """Drop of the loss."""\n    return before - after\n'
CHECKS = """import pytest
from mtlcore.code import gain

def test_gain():
    assert gain(3.0, 1.0) == 2.0

@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_of_nothing(loss):
    assert gain(loss, 0.0) == loss

def test_refusal():
    with pytest.raises(TypeError):
        gain("a", "b")

@pytest.mark.skip(reason="never runs")
def test_skipped():
    assert gain(1.0, 1.0) == 1.0
"""


def planted(text: str, replacement: str, *checks: str) -> Mutant:
    return Mutant(
        replacement, "-", "mtlcore/code.py", ((text, replacement),), tuple(f"tests/test_toy.py::{c}" for c in checks)
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mtlcore").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "mtlcore" / "code.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "tests" / "test_toy.py").write_text(CHECKS, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n", encoding="utf-8")
    return tmp_path


def test_kills_survivals_and_crashes_are_told_apart(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flipped = planted("before - after", "after - before", "test_gain", "test_of_nothing")
    nothing = planted("Drop of the loss", "Loss before minus after", "test_gain")
    blind = planted("before - after", "before - after / 2", "test_gain", "test_of_nothing")
    no_import = planted("def gain(", "def loss(", "test_gain")
    crash = planted("before - after", "before - afterwards", "test_gain")
    too_lenient = planted("before - after", "0.0 if isinstance(before, str) else before - after", "test_refusal")
    problems = run_all(project, [flipped, nothing, blind, no_import, crash, too_lenient])
    assert sorted(problems) == sorted(
        [
            "`Loss before minus after` survives tests/test_toy.py::test_gain: green",
            "`before - after / 2` survives tests/test_toy.py::test_of_nothing: green",
            "`def loss(` survives tests/test_toy.py::test_gain: no result: pytest ended with exit status 4",
            "`before - afterwards` survives tests/test_toy.py::test_gain: crashed: NameError: name 'afterwards' is not "
            "defined",
        ]
    )
    printed = capsys.readouterr().out
    assert "after - before: killed by 2\n" in printed
    assert "before - after: killed by 1\n" in printed
    assert printed.count("SURVIVED") == 4
    assert (project / "mtlcore" / "code.py").read_text(encoding="utf-8") == CODE


@pytest.mark.parametrize(("check", "how"), [("test_skipped", "not run"), ("test_wrong", "red")])
def test_a_check_that_is_not_green_without_a_defect_kills_nothing(project: Path, check: str, how: str) -> None:
    with (project / "tests" / "test_toy.py").open("a", encoding="utf-8") as file:
        file.write("\ndef test_wrong():\n    assert gain(1.0, 1.0) == 1.0\n")
    problems = run_all(project, [planted("before - after", "after - before", check)])
    assert problems == [f"tests/test_toy.py::{check} is {how} without any defect"]


def test_a_check_without_an_end_is_no_kill(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutants, "SECONDS", 3)
    endless = planted("return before", "while True: pass\n    return before", "test_gain")
    assert run_mutant(project, endless) == {"tests/test_toy.py::test_gain": "no result after 3 s"}


def test_the_table_is_written_only_when_all_were_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "MUTANTS.md"
    monkeypatch.setattr(mutants, "TABLE", table)
    found: list[str] = ["`x` survives y: green"]
    monkeypatch.setattr(mutants, "run_all", lambda *_: found.copy())
    assert mutants.main([]) == 1
    assert not table.exists()
    found.clear()
    assert mutants.main(["leaked column"]) == 0
    assert mutants.main(["no such"]) == 2
    assert not table.exists()
    assert mutants.main([]) == 0
    assert table.read_text(encoding="utf-8") == as_markdown(MUTANTS)
    assert list(tmp_path.iterdir()) == [table]


def test_a_real_mutant_is_killed_in_a_copy_of_the_real_tree(tmp_path: Path) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == "threshold moved after the result")
    before = (ROOT / mutant.file).read_bytes()
    copy = copy_tree(ROOT, tmp_path)
    assert list(run_mutant(copy, mutant).values()) == ["red"]
    assert (copy / mutant.file).read_bytes() == (ROOT / mutant.file).read_bytes() == before
