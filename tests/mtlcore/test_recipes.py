"""Each recipe runs as it stands on the page, with the real library, and walking into its trap is noticed."""

import ast
import importlib.util
import os
import random
import re
import socket
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch._functorch.config
from companion.store import paths
from packaging.requirements import Requirement

PAGE = paths.ROOT / "RECIPES.md"
LONGEST = 35  # lines of a block that are not blank

# What the libraries warn of in their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning"),  # Lightning 2.6
    pytest.mark.filterwarnings("ignore:GPU available but not used"),  # and its advice on a machine that has one
]


@dataclass(frozen=True)
class Recipe:
    """One section of the page."""

    title: str
    prose: str
    code: str
    line: int  # of the page, where the code begins

    def imported(self) -> set[str]:
        """Returns the packages that the code imports."""
        nodes = list(ast.walk(ast.parse(self.code)))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        return {name.partition(".")[0] for name in names}

    def changed(self, places: dict[str, str]) -> "Recipe":
        """Returns the recipe with some places changed, each of which it holds once."""
        code = self.code
        for old, new in places.items():
            assert code.count(old) == 1, f"the recipe holds this {code.count(old)} times: {old}"
            code = code.replace(old, new)
        return replace(self, code=code)

    def run(self) -> None:
        """Runs the code in a fresh module."""
        for package in sorted(self.imported() - {"mtlcore"}):
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"this environment lacks {package}, which the recipe is for")
        module = sys.modules["recipe"] = ModuleType("recipe")  # a class looks its module up by name
        exec(compile("\n" * self.line + self.code, str(PAGE), "exec"), module.__dict__)


def read() -> dict[str, Recipe]:
    text = PAGE.read_text(encoding="utf-8")
    found = {}
    for match in re.finditer(r"^## ([^\n]+)\n(.*?)^```python\n(.*?)^```\n", text, re.MULTILINE | re.DOTALL):
        title, prose, code = match.groups()
        found[title] = Recipe(title, prose, code, text[: match.start(3)].count("\n"))
    return found


RECIPES = read()


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, no network, and afterwards everything global as it was."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("a recipe asked for the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delitem(sys.modules, "recipe", raising=False)
    environment, donated = dict(os.environ), torch._functorch.config.donated_buffer
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    yield
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])
    torch._functorch.config.donated_buffer = donated
    torch.compiler.reset()
    os.environ.clear()
    os.environ.update(environment)
    if "accelerate" in sys.modules:  # it keeps one state per process
        sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("title", RECIPES)
def test_recipe_runs_as_it_stands(title: str) -> None:
    RECIPES[title].run()


@dataclass(frozen=True)
class Change:
    """A recipe with some places changed, and what then happens."""

    title: str
    what: str
    places: dict[str, str]
    error: type[Exception] | None = None
    message: str | None = None

    def __str__(self) -> str:
        return f"{self.title}: {self.what}"


FP16 = """        scaler = self.trainer.precision_plugin.scaler
        task_backward([scaler.scale(loss) for loss in losses], self.trunk)
        unscale_task_grad_(scaler, self.trunk)
"""
STILL_RIGHT = [
    Change(
        "Mixed precision and clipping",
        "unscaled in the other order",
        {
            "    scaler.unscale_(optimizer)\n    unscale_task_grad_(scaler, trunk)\n": (
                "    unscale_task_grad_(scaler, trunk)\n    scaler.unscale_(optimizer)\n"
            )
        },
    ),
    Change(
        "Lightning",
        "in float16",
        {
            "AdaTaskAdam, clip": "AdaTaskAdam, unscale_task_grad_, clip",
            'accelerator="cpu"': 'accelerator="cpu", plugins=[L.pytorch.plugins.MixedPrecision("16-mixed", "cpu")]',
            "        task_backward(losses, self.trunk)\n": FP16,
            "        optimizer.step()\n": (
                "        optimizer.step()\n"
                "        moments = optimizer.state[self.trunk[0].weight].get('exp_avg', torch.zeros(1))\n"
                "        assert scaler.get_scale() > 1000 and moments.abs().max() < 1\n"
            ),
        },
    ),
    Change(
        "HydaLearn in a plain loop",
        "trials by the optimizer's own step",
        {"trial_step=optimizer)": 'trial_step=optimizer, trial_rule="optimizer")'},
    ),
    Change(
        "Frozen parts and LoRA",
        "a list made after the adapters",
        {'losses_fn, model["backbone"]': 'losses_fn, list(model["backbone"].parameters())'},
    ),
    Change(
        "Uncertainty weights outside the model",
        "inside the model",
        {
            '{"params": model.parameters()}': '{"params": [*trunk.parameters(), *heads.parameters()]}',
            "log_variances = nn": "log_variances = model.log_variances = nn",
            "(model(batch[0])": "(heads(trunk(batch[0]))",
        },
    ),
]
NOTICED = [
    Change(
        "AdaTask in a plain loop",
        "the ordinary backward pass",
        {"task_backward(losses, trunk)": "sum(losses).backward()"},
        UserWarning,
        "has task gradients",
    ),
    Change(
        "HydaLearn in a plain loop",
        "a batch changed in place",
        {"y_aux = batch\n": "y_aux = batch\n    x.mul_(2)\n"},
        ValueError,
        "changed in place",
    ),
    Change(
        "Gradient accumulation",
        "undivided losses",
        {"[loss / micro_batches for": "[loss for"},
        AssertionError,
    ),
    Change(
        "Gradient accumulation",
        "clipped in the loop",
        {"\nnorms = clip": "\n    norms = clip"},
        AssertionError,
    ),
    Change(
        "Mixed precision with a gradient scaler",
        "a step without the scaler",
        {"scaler.step(optimizer)": "scaler.unscale_(torch.optim.SGD(heads.parameters())); optimizer.step()"},
        AssertionError,
    ),
    Change(
        "Mixed precision and clipping",
        "only the scaler unscales",
        {"    unscale_task_grad_(scaler, trunk)\n": ""},
        ValueError,
        "unscale_task_grad_",
    ),
    Change(
        "Mixed precision with HydaLearn",
        "exact gains",
        {', gain="first_order"': ""},
        UserWarning,
        "rounding of the losses",
    ),
    Change(
        "Mixed precision with HydaLearn",
        "losses scaled by hand too",
        {
            "return [errors[:, 0].square().mean(), errors[:, 1].square().mean()]": (
                "return [scaler.scale(error.square().mean()) for error in errors.T]"
            )
        },
        AssertionError,
    ),
    Change(
        "Activation checkpointing",
        "an input without gradient",
        {"checkpoint(block, hidden,": "checkpoint(block, hidden.detach(),"},
        UserWarning,
        "None of the inputs have requires_grad",
    ),
    Change(
        "A ResNet in channels_last",
        "a model left as it was",
        {"heads]).to(memory_format=torch.channels_last)": "heads])"},
        AssertionError,
    ),
    Change(
        "torch.compile",
        "buffers given away",
        {"donated_buffer = False": "donated_buffer = True"},
        RuntimeError,
        "donated_buffer = False",
    ),
    Change(
        "Lightning",
        "another order after the checkpoint",
        {"sampler=DistributedSampler(data, num_replicas=1, rank=0)": "shuffle=True"},
        AssertionError,
    ),
    Change(
        "Lightning",
        "the trainer's clipping",
        {'accelerator="cpu"': 'accelerator="cpu", gradient_clip_val=1.0'},
        Exception,
        "not supported for manual optimization",
    ),
    Change(
        "Accelerate",
        "undivided losses",
        {" / accelerator.gradient_accumulation_steps": ""},
        AssertionError,
    ),
    Change(
        "Transformers' Trainer",
        "the trainer's clipping",
        {'"max_grad_norm": 0,': '"max_grad_norm": 1, "disable_tqdm": True,'},
        ValueError,
        "by clipping",
    ),
    Change(
        "Missing labels, one task per batch",
        "a loss of 0 in place of None",
        {"if n else None": "if n else 0 * errors.sum()"},
        AssertionError,
    ),
    Change(
        "Frozen parts and LoRA",
        "a list made before the adapters",
        {
            "backbone = get_peft": "listed = list(backbone.parameters())\nbackbone = get_peft",
            'losses_fn, model["backbone"]': "losses_fn, listed",
        },
        ValueError,
        "`shared`",
    ),
    Change(
        "Averaged weights (EMA)",
        "averaged before the step",
        {
            "    average.update_parameters(model)\n": "",
            "    optimizer.step()\n": "    average.update_parameters(model)\n    optimizer.step()\n",
        },
        AssertionError,
    ),
    Change(
        "HydaLearn together with AdaTask",
        "weights that would count nowhere",
        {"task_weights=where": "task_weights=None"},
        ValueError,
        "where the weights of HydaLearn count",
    ),
    Change(
        "Beside TorchJD",
        "the plain sum",
        {"combine(shared, weighting(jacobian @ jacobian.T))": "combine(shared)"},
        AssertionError,
    ),
    Change(
        "TorchJD for one part, AdaTask for another",
        "the plain sum left in place",
        {"    adam.zero_grad()\n": "", "adatask.zero_grad()": "adatask.zero_grad(), adam.zero_grad()"},
        AssertionError,
    ),
    Change(
        "TorchJD for one part, AdaTask for another",
        "a graph freed too early",
        {", retain_graph=True": ""},
        RuntimeError,
        "second time",
    ),
    Change(
        "Uncertainty weights outside the model",
        "not given to the optimizer",
        {', {"params": [log_variances], "weight_decay": 0.0, "lr": 3e-2}': ""},
        AssertionError,
    ),
]


@pytest.mark.parametrize("change", STILL_RIGHT, ids=str)
def test_what_the_text_allows_is_right_too(change: Change) -> None:
    RECIPES[change.title].changed(change.places).run()


@pytest.mark.parametrize("change", NOTICED, ids=str)
def test_walking_into_the_trap_is_noticed(change: Change) -> None:
    assert change.error is not None
    recipe = RECIPES[change.title].changed(change.places)
    with pytest.raises(change.error, match=change.message) as caught:
        recipe.run()
    if change.error is AssertionError:  # of the recipe's own check, no other
        last = [entry.lineno for entry in caught.traceback if entry.path == PAGE][-1]
        assert "assert" in recipe.code.splitlines()[last - recipe.line]


def test_every_recipe_has_a_trap_that_is_walked_into() -> None:
    assert {change.title for change in NOTICED} == set(RECIPES)
    assert [recipe.title for recipe in RECIPES.values() if "trap" not in recipe.prose] == []


@pytest.mark.parametrize("title", RECIPES)
def test_recipe_is_short_and_ends_in_a_check(title: str) -> None:
    code = RECIPES[title].code
    assert len([line for line in code.splitlines() if line]) <= LONGEST
    assert code.splitlines()[-1].strip().startswith(("assert ", "torch.testing.assert_close("))


def test_contents_of_the_page_name_every_recipe() -> None:
    linked = re.findall(r"\]\(#([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in RECIPES)


def test_extras_bring_what_the_recipes_import() -> None:
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: {Requirement(text).name for text in texts} for name, texts in project["optional-dependencies"].items()
    }
    imported = set().union(*(recipe.imported() for recipe in RECIPES.values()))
    third_party = imported - set(sys.stdlib_module_names) - {"mtlcore", "torch"}
    assert extras["recipes"] <= third_party <= extras["recipes"] | extras["baselines"]


def test_recipe_of_an_absent_library_is_skipped_with_the_reason() -> None:
    recipe = Recipe("absent", "", "import no_such_library\n", 0)
    with pytest.raises(pytest.skip.Exception, match="lacks no_such_library"):
        recipe.run()
