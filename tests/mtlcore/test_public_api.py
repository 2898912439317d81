"""What `from mtlcore import ...` gives: described, with an example that runs, named in book/use.md, torch alone."""

import doctest
import inspect
import re
import subprocess
import sys

import pytest
from companion.store import paths

import mtlcore

RESULTS = {"HydaLearnStep"}  # what a call returns: described by its fields, shown in that call's example


@pytest.mark.parametrize("name", mtlcore.__all__)
def test_every_public_name_is_described_with_an_example(name: str) -> None:
    public = getattr(mtlcore, name)
    text = inspect.getdoc(public) or ""
    assert text.splitlines()[0].endswith(".")
    examples = [example for example in doctest.DocTestParser().get_examples(text) if example.want]
    assert examples or name in RESULTS
    documented = set(re.findall(r"^ {4}(\w+): ", text, re.MULTILINE))
    if name not in RESULTS and "as :class:" not in text.lower():  # one class refers to its parent's arguments
        assert set(inspect.signature(public).parameters) <= documented


def test_the_text_on_use_lists_every_public_name_and_no_other() -> None:
    text = (paths.ROOT / "book" / "use.md").read_text(encoding="utf-8")
    table = text.split("| `from mtlcore import ...` |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"`(\w+)`", table)) == sorted(mtlcore.__all__)


def test_the_methods_import_torch_alone() -> None:
    companions = ["matplotlib", "pandas", "scipy", "sklearn", "seaborn", "papermill", "torchjd"]
    program = f"import sys, mtlcore; print([name for name in {companions} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], cwd=paths.ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
