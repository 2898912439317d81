"""The published runs belong to the code: a sample of them is trained again, and comes out number by number."""

import functools
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import pandas as pd
import pytest
from companion.claims.register import load_claims
from companion.store import paths, tidy
from companion.store.published import Cell, files, read

# Where the functions of each study's cells are.
STUDIES = {
    "02_hydalearn_synthetic": [
        f"hydalearn_synthetic.{name}" for name in ("study", "controls", "batch_probe", "variants")
    ],
    "03_credit_default": [f"tabular.{name}" for name in ("study", "controls", "facts", "shares")],
    "04_mortality": [f"tabular.{name}" for name in ("study", "controls", "facts", "shares")],
    "06_adatask_synthetic": ["adatask_synthetic.study"],
    "07_scenes": ["scenes.study", "scenes.colours"],
    "08_recommendation": [f"recommendation.{name}" for name in ("study", "shares", "sparse")],
    "09_composed": ["composed.study", "tabular.facts"],
}
# One method of a family: ordinary training, weights that follow losses, weights that follow gradients, TorchJD's
# aggregators, and the papers' own. A study is sampled for each of them that it has.
FAMILIES = (
    {"equal weights", "joint"},
    {"DWA"},
    {"cosine gate"},
    {"PCGrad"},
    {"HydaLearn"},
    {"AdaTask"},
    {"HydaLearn on updates"},
)
# A run of "swap" takes the weights of other runs, so it cannot be trained without them; the others train as some do.
NOT_SAMPLED = {"swap", "predict", "tune_listed"}
LONG = "07_scenes"  # whose reported runs train for a minute each: those of its tuning are shorter
DRAWS = "08_recommendation"  # where PCGrad draws the order of three tasks, for one run after another
EVERY_OPTIMIZER = "06_adatask_synthetic"  # which is quick; elsewhere Adam alone
TRAINING = ("train_grid", "tune_grid", "train_cell")
# Where seeds are splits of one data set that are encoded together, all of them train.
ALONE = ("02_hydalearn_synthetic", "06_adatask_synthetic", "07_scenes", "08_recommendation")
# Largest difference, in units of the metric's largest value where that is above 1. Rounding differs between processors
# and training amplifies it; what would change a conclusion is a thousand times larger. The scenes train in float32: a
# seed that trains alone ends elsewhere than in the crowd, so there only a gross change is noticed.
CLOSE, CLOSE_IN_FLOAT32 = 1e-5, 0.1


def function(notebook: str, kind: str) -> Callable[[Mapping[str, Any]], pd.DataFrame]:
    """The function whose cells are of that kind."""
    modules = [import_module(f"companion.studies.{name}") for name in STUDIES[notebook]]
    (found,) = {getattr(module, kind) for module in modules if hasattr(module, kind)}
    computed: Callable[[Mapping[str, Any]], pd.DataFrame] = found
    return computed


def few_settings(notebook: str, cell: Cell) -> tuple[dict[str, Any], pd.DataFrame]:
    """A cell's configuration with its first setting, seed and (where it can be) initialisation, and their rows."""
    reduced, rows = dict(cell.configuration), cell.table
    for name, column in (("seeds", "seed"), ("rates", "rate"), ("scales", "scale"), ("spreads", "spread")):
        if name in reduced and column in rows and (name != "seeds" or notebook in ALONE):
            reduced[name] = reduced[name][:1]
            rows = rows[rows[column] == reduced[name][0]]
    if "initialisation" in rows and notebook != DRAWS:
        reduced["inits"], rows = 1, rows[rows["initialisation"] == 0]
    return {**reduced, "device": "cpu"}, rows


def sample() -> dict[str, tuple[str, int]]:
    """Name of a cell -> its notebook and number: the first reported one of every family of a study, and of every kind.

    What is no training is sampled once for the notebooks that share its function.
    """
    chosen: dict[str, tuple[str, int]] = {}
    sampled: set[tuple[str, str]] = set()
    for notebook, modules in STUDIES.items():
        listed = json.loads(files(paths.COMMITTED_FIGURES, notebook)[1].read_bytes())["cells"]
        for number, cell in enumerate(listed):
            kind, method = cell["kind"], str(cell["configuration"].get("method"))
            optimizer = cell["configuration"].get("optimizer", "Adam")
            if kind in TRAINING:
                reported = (min(cell["configuration"]["seeds"]) < 1000) != (notebook == LONG)
                here = optimizer == "Adam" or notebook == EVERY_OPTIMIZER
                wanted = reported and here and any(method in family for family in FAMILIES)
            else:
                wanted = kind not in NOT_SAMPLED and (modules[0], kind) not in sampled
                sampled.add((modules[0], kind))
            if wanted:
                name = f"{notebook[:2]} {kind} {method}".removesuffix(" None")
                chosen.setdefault(name if optimizer == "Adam" else f"{name} {optimizer}", (notebook, number))
    return chosen


SAMPLE = sample()
cells_of = functools.cache(functools.partial(read, paths.COMMITTED_FIGURES))


@pytest.mark.parametrize("name", SAMPLE)
def test_a_published_run_comes_out_again(name: str) -> None:
    notebook, number = SAMPLE[name]
    cell = cells_of(notebook)[number]
    configuration, expected = few_settings(notebook, cell)
    try:
        found = function(notebook, cell.kind)(configuration)
    except FileNotFoundError as absent:
        pytest.skip(str(absent))
    close = CLOSE_IN_FLOAT32 if cell.configuration.get("dtype") == "float32" else CLOSE
    if close == CLOSE_IN_FLOAT32:  # a parameter on the edge of two bins of a histogram counts as one more or less
        expected = expected[~expected["metric"].str.contains("bin ")]
    sizes = expected["value"].abs().groupby(expected["metric"]).max().fillna(0)
    allowed = {str(metric): close * max(1.0, float(size)) for metric, size in sizes.items()}
    assert tidy.differences(found[found["metric"].isin(allowed)], expected, allowed) == []


@pytest.mark.parametrize("notebook", STUDIES)
def test_the_sample_has_every_studys_ordinary_training_and_a_method_of_the_papers(notebook: str) -> None:
    trained = [name.split(" ", 2)[2] for name in SAMPLE if name.startswith(notebook[:2]) and name.count(" ") > 1]
    assert {"equal weights", "joint"} & set(trained)
    assert {"HydaLearn", "AdaTask", "HydaLearn on updates"} & set(trained)


def test_what_is_allowed_to_differ_is_far_less_than_what_counts() -> None:
    assert min(claim.smallest for claim in load_claims().values()) / 10 > CLOSE
