"""The walk-throughs of CONTRIBUTING.md, made on a copy of the project and tried there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from companion.claims.register import FOLDER, load_claims
from companion.runner.parameters import parse_assignments, read_parameters
from companion.store.paths import NOTEBOOKS, ROOT

SECTIONS = {
    part.splitlines()[0]: part for part in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## ")[1:]
}
MOST_LINES = 30

TRIED = {
    "A weighting method": """
import torch
from companion.baselines import make_baseline
model = torch.nn.Linear(3, 2)
losses_fn = lambda model, x: list(model(x).square().mean(0))
options = dict(kinds=["regression"] * 2, steps_per_epoch=4)
weighting = make_baseline("random weights", model, losses_fn, model.parameters(), **options)
x = torch.randn(8, 3)
first, second = (weighting.backward(x).weights for _ in range(2))
assert torch.isclose(first.sum(), torch.tensor(2.0)) and not torch.equal(first, second)
grads = [torch.autograd.grad(losses_fn(model, x)[t], model.weight)[0] for t in range(2)]
expected = sum(w * g for w, g in zip(first + second, grads))
torch.testing.assert_close(model.weight.grad, expected)
""",
    "An optimizer": """
import copy, torch
from mtlcore import task_backward
from mtlcore.adamax import AdaTaskAdamax
model = torch.nn.Linear(3, 2)
twin, many = copy.deepcopy(model), copy.deepcopy(model)
ours, torchs = AdaTaskAdamax(model.parameters(), num_tasks=1), torch.optim.Adamax(twin.parameters())
two = AdaTaskAdamax(many.parameters(), num_tasks=2)
for _ in range(5):
    x = torch.randn(8, 3)
    for optimizer in (ours, torchs, two):
        optimizer.zero_grad()
    task_backward([model(x).square().sum()], model.parameters())
    twin(x).square().sum().backward()
    task_backward([1000 * many(x)[:, 0].square().sum(), many(x)[:, 1].square().sum()], many.parameters())
    for optimizer in (ours, torchs, two):
        optimizer.step()
assert torch.equal(model.weight, twin.weight)
assert two.state[many.weight]["exp_inf"].shape == (2, 2, 3)
AdaTaskAdamax(many.parameters(), num_tasks=2).load_state_dict(two.state_dict())
""",
    "A data set": """
import numpy as np
from companion.data import TABULAR_TASKS, fold_arrays, splits
task = TABULAR_TASKS["crashes"]()
assert (len(task.inputs), task.main, task.targets[task.main].sum()) == (26217, "died", 1180)
train, validation, test = fold_arrays(task, splits(task, [0]))
assert np.isfinite(train.inputs).all()
""",
}


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], flags=re.DOTALL)


def change(section: str, project: Path) -> int:
    """Make the change of a section on a copy; returns how many lines it adds."""
    lines = 0
    for code in blocks(section, "python"):
        name = code.splitlines()[0].removeprefix("# ")
        (project / name).write_text(code, encoding="utf-8")
        lines += sum(bool(line.strip()) for line in code.splitlines()[1:])
    for diff in blocks(section, "diff"):
        header, *hunks = re.split(r"^@@\n", diff, flags=re.MULTILINE)
        path = project / header.split("+++ b/")[1].strip()
        text = path.read_text(encoding="utf-8")
        for hunk in hunks:
            old, new = ("\n".join(line[1:] for line in hunk.splitlines() if line[0] == sign) for sign in "-+")
            assert text.count(old) == 1, f"{path.name} should hold {old!r} once"
            text = text.replace(old, new)
            lines += new.count("\n") - old.count("\n")
        path.write_text(text, encoding="utf-8")
    return lines


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("mtlcore", "notebooks/companion"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "companion").mkdir(parents=True)
    for file in ("pyproject.toml", "tests/companion/test_data_fold_only.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def python(project: Path, *arguments: str) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project), str(project / "notebooks")])}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=env, cwd=project, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("section", TRIED)
def test_the_change_works_on_a_copy(section: str, project: Path) -> None:
    assert 0 < change(section, project) < MOST_LINES
    python(project, "-c", TRIED[section])
    python(project, "-m", "ruff", "check", "mtlcore", "notebooks", "tests")
    if section == "A data set":
        python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/companion", "-k", "crashes")


def test_the_command_is_one_that_its_notebook_takes() -> None:
    (command,) = re.findall(r"runner.notebooks run (.*)\n", SECTIONS["A weighting method"])
    path, *_, assignment = shlex.split(command)
    parse_assignments(ROOT / path, [assignment])
    for name, numbers in re.findall(r"`(\w+)` \(([\d, and]+)\)", SECTIONS["A weighting method"]):
        for number in re.findall(r"\d+", numbers):
            (notebook,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
            assert name in read_parameters(notebook), f"{notebook.name} should have a parameter {name}"


def test_the_claim_is_one_that_the_register_takes(tmp_path: Path) -> None:
    (text,) = blocks("A claim", "toml")
    whole = (FOLDER / "02.toml").read_text(encoding="utf-8") + "\n" + text
    file = tmp_path / "02.toml"
    file.write_text(whole, encoding="utf-8")
    with pytest.raises(ValueError, match="row `H3-random`, field `fingerprint`") as said:
        load_claims(folder=tmp_path)
    named = re.findall(r'fingerprint = "(\w+)"', str(said.value))
    file.write_text(whole.replace('"?"', f'"{named[-1]}"'), encoding="utf-8")
    assert load_claims(folder=tmp_path)["H3-random"].kind == "secondary"


def test_commands_and_places_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for target in set(re.findall(r"`make (\w+)", text)):
        assert f"\n{target}:" in makefile, target
    for name in set(re.findall(r"`((?:notebooks|mtlcore|tests)/[\w/.]*)`", text)) - {"notebooks/claims/NN.toml"}:
        assert (ROOT / name).exists(), name
