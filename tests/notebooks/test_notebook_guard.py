"""The guard passes a notebook that keeps the rules, and names each rule that one breaks; nbval sees a wrong number."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy_notebook
from companion.runner.guard import guard
from companion.runner.inputs import cells_digest
from test_notebooks import nbval
from toy_notebook import code, toy

Notebook = dict[str, Any]


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def recorded() -> Notebook:
    """The toy notebook as `make record` leaves it."""
    notebook = toy(code("total = 6 * 7"), code("# not compared: it names the device\ntotal", "nbval-ignore-output"))
    for number, cell in enumerate(notebook["cells"][1:], start=1):
        cell["execution_count"] = number
    notebook["cells"][2]["outputs"] = [stream("5 steps, 0.0010\n")]
    notebook["cells"][4]["outputs"] = [
        {"output_type": "execute_result", "execution_count": 4, "metadata": {}, "data": {"text/plain": "42"}}
    ]
    return sign(notebook)


def sign(notebook: Notebook) -> Notebook:
    notebook["metadata"]["mtlcore"] = {"source_digest": cells_digest(notebook, ["code"])}
    return notebook


def problems(notebook: Notebook, folder: Path) -> list[str]:
    return guard(toy_notebook.write(folder / "toy.ipynb", notebook))


def test_notebook_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    assert problems(recorded(), tmp_path) == []


def change_tags(number: int, *tags: str) -> Callable[[Notebook], object]:
    return lambda notebook: notebook["cells"][number]["metadata"].update(tags=list(tags))


def change_output(output: dict[str, Any]) -> Callable[[Notebook], object]:
    return lambda notebook: notebook["cells"][2].update(outputs=[stream("5"), output])


def change_source(number: int, text: str) -> Callable[[Notebook], object]:
    return lambda notebook: notebook["cells"][number].update(source=text)


PNG_AND_SVG = {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": "<svg/>"}}
BREAKS: dict[str, tuple[Callable[[Notebook], object], str]] = {
    "never executed": (
        lambda n: [c.update(execution_count=None, outputs=[]) for c in n["cells"][1:]],
        "executed 1 to 4",
    ),
    "out of order": (lambda n: n["cells"][1].update(execution_count=9), "Found [9, 2, 3, 4]"),
    "outputs cleared": (lambda n: n["cells"][2].update(outputs=[]), "Code cell 2 shows something"),
    "value not recorded": (lambda n: n["cells"][4].update(outputs=[]), "Code cell 4 shows something"),
    "no parameters": (change_tags(1), "tagged `parameters`. Found 0"),
    "two parameters": (change_tags(3, "parameters"), "tagged `parameters`. Found 2"),
    "no profile": (change_source(1, 'device = "auto"'), '`profile = "published"`'),
    "another device": (change_source(1, 'profile = "published"\ndevice = "cuda"'), '`device = "auto"`'),
    "nothing checked": (change_tags(2), "should print numbers"),
    "another kernel": (lambda n: n["metadata"]["kernelspec"].update(name="my-env"), "`python3`"),
    "papermill left": (lambda n: n["metadata"].update(papermill={}), "papermill"),
    "papermill left in a cell": (lambda n: n["cells"][1]["metadata"].update(papermill={}), "papermill"),
    "stderr": (change_output(stream("Warning!", "stderr")), "Warning!"),
    "path of a machine": (change_output(stream("saved to /data/of/me.csv")), "`/data/of`"),
    "drive of a machine": (change_output(stream("saved to 'C:\\Users\\me'")), "of one machine"),
    "svg": (change_output(PNG_AND_SVG), "SVG or PDF"),
    "marker as a comment": (change_source(3, "# NBVAL_CHECK_OUTPUT: yes\ntotal = 42"), "marker of nbval"),
    "ignored without a reason": (change_tags(2, "nbval-check-output", "nbval-ignore-output"), "without a reason"),
    "expects an error": (change_tags(3, "raises-exception"), "raises-exception"),
    "no title": (change_source(0, "The paper and our design."), "should be the title"),
    "whose idea it is": (change_source(0, "# Toy\n\nThe paper."), "never says `our design`"),
    "dead link": (change_source(0, "# Toy\n\npaper, our design, [text](nowhere.md#part)"), "`nowhere.md`"),
    "dead image": (change_source(0, '# Toy\n\npaper, our design <img src="gone.png">'), "`gone.png`"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_rule_is_named(name: str, tmp_path: Path) -> None:
    change, message = BREAKS[name]
    notebook = recorded()
    change(notebook)
    assert any(message in problem for problem in problems(sign(notebook), tmp_path))


def test_outputs_of_another_source_are_refused(tmp_path: Path) -> None:
    notebook = recorded()
    notebook["cells"][3]["source"] = "total = 6 * 8"
    assert problems(notebook, tmp_path) == ["The outputs do not belong to this source. Run make record."]


def test_prose_may_change_without_a_new_run(tmp_path: Path) -> None:
    notebook = recorded()
    notebook["cells"][0]["source"] += " [Here](https://example.org), [there](#toy) and 1/2 of it: [self](toy.ipynb)."
    assert problems(notebook, tmp_path) == []


def test_outputs_that_only_look_like_paths_pass(tmp_path: Path) -> None:
    notebook = recorded()
    harmless = "5 of 1/2/3, loss/step/task, https://example.org/a/b, </td></tr>, 3 / 4 / 5"
    notebook["cells"][2]["outputs"] = [stream(harmless)]
    assert problems(notebook, tmp_path) == []


def test_nbval_passes_what_comes_out_again_and_fails_on_a_wrong_number(tmp_path: Path) -> None:
    good = recorded()
    wrong = copy.deepcopy(good)
    wrong["cells"][2]["outputs"] = [stream("5 steps, 0.0011\n")]
    for name, notebook, failures in (("good", good, 0), ("wrong", wrong, 1)):
        folder = tmp_path / name
        path = toy_notebook.write(folder / "source" / f"{name}.ipynb", notebook)
        result = nbval(path, folder)
        assert result.returncode == failures, json.dumps([result.stdout, result.stderr])
