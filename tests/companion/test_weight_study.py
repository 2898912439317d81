"""The weight study on tiny problems: pairing, controls and their identities."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from companion.claims.evidence import intervals_of
from companion.problems.composed_batches import ListedBatches
from companion.problems.synthetic import DESIGNS, prepare
from companion.store.results import Results
from companion.studies.hydalearn_synthetic.ablation import VARIANTS, ablate, trainer
from companion.studies.hydalearn_synthetic.batch_probe import probe, probe_batches
from companion.studies.hydalearn_synthetic.best_weights import Directions
from companion.studies.hydalearn_synthetic.controls import jump, swap, switch_off
from companion.studies.hydalearn_synthetic.report import after_burn_in, by_step
from companion.studies.hydalearn_synthetic.study import measure, train_grid, tune_grid, tune_listed
from companion.studies.hydalearn_synthetic.variants import train_variant
from companion.train.choice import Choice, choose
from companion.train.losses import select_tasks, squared_losses
from companion.train.main_task import configured
from companion.train.method_comparison import (
    Comparison,
    SecondStage,
    compare,
    differences,
    log_difference,
    tuned_differences,
)
from companion.train.problem import Problem
from companion.train.weightings import GainElsewhere, ScheduledWeights, StaticWeights, Switched

from mtlcore.hydalearn import HydaLearn
from mtlcore.task_gradients import zero_task_grad

BASE: dict[str, Any] = {
    "design": "composition",
    "dose": "homogeneous",
    "rows": [120, 60, 200],
    "noise": 1.0,
    "hidden": [8],
    "epochs": 3,
    "num_batches": 6,
    "batch_size": 20,
    "device": "cpu",
    "method": "HydaLearn",
    "rates": [0.01],
    "scales": [3.0],
    "seeds": [1, 2, 3],
}


def values(table: pd.DataFrame, metric: str, **where: object) -> list[float]:
    rows = table[table["metric"] == metric]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.sort_values("seed")["value"].to_list()


def test_a_run_in_a_crowd_equals_the_run_alone() -> None:
    crowd = train_grid({**BASE, "rates": [0.01, 0.03], "scales": [1.0, 3.0]})
    alone = train_grid({**BASE, "rates": [0.03], "seeds": [2]})
    for metric in ("validation loss", "test loss"):
        row = crowd[(crowd["rate"] == 0.03) & (crowd["scale"] == 3.0) & (crowd["seed"] == 2)]
        assert values(row, metric) == pytest.approx(values(alone, metric), abs=1e-10)
    assert len(set(np.round(values(crowd, "test loss"), 8))) == 12  # every setting and seed is another run


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("method", ["single task", "equal weights", "HydaLearn", "cosine gate", "DWA"])
def test_every_design_trains_with_every_kind_of_method(design: str, method: str) -> None:
    table = train_grid({**BASE, "design": design, "method": method, "seeds": [1]})
    assert values(table, "failed") == [0.0]
    assert 0 < values(table, "test loss")[0] < 3


@pytest.mark.parametrize(
    ("method", "knob"),
    [("static grid", "decay"), ("HydaLearn", "decay"), ("OL-AUX", "weight_lr"), ("GradNorm", "alpha"),
     ("PCD", "tau")],
)  # fmt: skip
def test_a_knob_is_a_further_dimension_of_the_grid(method: str, knob: str) -> None:
    base = {**BASE, "method": method, "seeds": [1, 2]}
    crowd = train_grid({**base, "rates": [0.01, 0.02], f"{knob}s": [0.1, 0.9]})
    alone = train_grid({**base, f"{knob}s": [0.9], "seeds": [2]})
    row = crowd[(crowd["rate"] == 0.01) & (crowd[knob] == 0.9) & (crowd["seed"] == 2)]
    assert values(row, "test loss") == pytest.approx(values(alone, "test loss"), abs=1e-10)
    assert len(set(np.round(values(crowd, "test loss"), 8))) == 8
    chosen = choose(crowd, method, ("scale", "rate", knob))
    means = crowd[crowd["metric"] == "validation loss"].groupby(["rate", knob])["value"].mean()
    assert (chosen.rate, chosen.setting[knob]) == means.idxmin()


def test_slgrad_pays_for_its_validation_rows() -> None:
    problem = prepare({**BASE, "method": "SLGrad"}, [1])
    assert isinstance(problem.train, ListedBatches)
    assert problem.train.batches.max() < 96  # of 120 rows
    assert values(train_grid({**BASE, "method": "SLGrad", "seeds": [1]}), "failed") == [0.0]


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_weight_decay_and_sgd_are_torchs(name: str) -> None:
    c = {**BASE, "method": "equal weights", "optimizer": name, "scales": [1.0], "seeds": [1], "epochs": 1}
    c |= {"decays": [0.3]} if name == "Adam" else {}
    problem = prepare(c, [1])
    parameters = list(problem.model.parameters())
    theirs: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
    if name == "Adam":
        theirs = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.3)
    for batch in next(problem.epochs(1)):
        theirs.zero_grad()
        torch.autograd.backward(squared_losses(problem.model, batch))
        theirs.step()
    assert values(train_grid(c), "test loss") == pytest.approx(measure(problem)["test loss"].tolist(), abs=1e-10)


def test_a_diverged_run_is_a_missing_number_not_a_good_one() -> None:
    table = train_grid({**BASE, "rates": [1e200], "seeds": [1]})
    assert values(table, "failed") == [1.0]
    assert np.isnan(values(table, "test loss")).all()


def test_the_single_task_ignores_the_auxiliary_and_its_scale() -> None:
    table = train_grid({**BASE, "method": "single task", "scales": [1.0, 30.0]})
    assert values(table, "test loss", scale=1.0) == values(table, "test loss", scale=30.0)


def test_replayed_weights_give_the_same_run_and_swapped_ones_another() -> None:
    table = swap(BASE)
    own, replayed, swapped, averaged = (
        np.array(values(table, "test loss", weights=name)) for name in ("own", "replayed", "swapped", "averaged")
    )
    assert np.abs(own - replayed).max() < 1e-10
    assert np.abs(own - swapped).min() > 1e-5
    assert np.abs(averaged - swapped).min() > 1e-5


def test_the_jump_changes_nothing_before_it_and_the_share_after_it() -> None:
    configuration = {**BASE, "design": "drift", "epochs": 4, "num_batches": 20}
    jumped, control = (jump({**configuration, "jump_epoch": epoch}) for epoch in (2, 4))
    a, b = (t.pivot(index="epoch", columns="seed", values="value").to_numpy() for t in (jumped, control))
    assert np.abs(a[:2] - b[:2]).max() < 1e-12
    assert (a[2:] < b[2:]).mean() > 0.5
    assert np.abs(a[2:] - b[2:]).max() > 1e-2


def test_never_off_is_a_static_weight_and_off_from_the_start_is_the_single_task() -> None:
    off = switch_off({**BASE, "off_epochs": [0, 1, 3]})
    static = train_grid({**BASE, "method": "static grid"})
    single = train_grid({**BASE, "method": "single task"})
    assert values(off, "test loss", off_epoch=3) == pytest.approx(values(static, "test loss"), abs=1e-10)
    assert values(off, "test loss", off_epoch=0) == pytest.approx(values(single, "test loss"), abs=1e-10)
    assert np.abs(np.subtract(values(off, "test loss", off_epoch=1), values(static, "test loss"))).max() > 1e-5


def test_the_last_epoch_is_no_better_than_the_best() -> None:
    names = ("validation loss", "last validation loss", "best epoch")
    for rate, stops in ((0.1, True), (0.0003, False)):
        off = switch_off({**BASE, "rates": [rate], "off_epochs": [1, 3]})
        best, last, when = (np.array(values(off, name)) for name in names)
        assert (when < 3).any() == stops
        assert np.array_equal(last > best, when < 3)
        assert (last >= best).all()


def test_after_the_jump_a_switched_off_task_cannot_matter() -> None:
    configuration = {**BASE, "design": "drift", "off_epochs": [1]}
    jumped, control = (switch_off({**configuration, "jump_epoch": epoch}) for epoch in (1, 3))
    assert values(jumped, "test loss") == values(control, "test loss")
    on = {**configuration, "off_epochs": [3]}
    jumped, control = (switch_off({**on, "jump_epoch": epoch}) for epoch in (1, 3))
    assert values(jumped, "test loss") != values(control, "test loss")


def test_the_best_weights_of_a_step_are_the_best_of_a_fine_grid() -> None:
    problem = prepare({**BASE, "rows": [400, 60, 400], "noise": 0.3}, list(range(12)))
    held_out = problem.test.batch(problem.test.chunks()[0])
    parameters = problem.shared

    def gradient(batch: Any, task: int) -> torch.Tensor:
        loss = squared_losses(problem.model, batch)[task].sum()
        return torch.cat([g.flatten(1) for g in torch.autograd.grad(loss, parameters)], dim=1)

    batch = problem.train.batch(torch.zeros(12, 1, dtype=torch.int64))
    gradients, along = torch.stack([gradient(batch, 0), gradient(batch, 1)]), gradient(held_out, 0)
    directions = Directions.of(gradients, along)
    best, grid = directions.best_share(), torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    steps = (1 - grid[..., None]) * gradients[0] + grid[..., None] * gradients[1]  # [1001, R, D]
    cosines = torch.nn.functional.cosine_similarity(steps, along[None], dim=-1)
    assert torch.allclose(directions.gain(grid), cosines, atol=1e-12)
    assert (grid.flatten()[cosines.argmax(0)] - best).abs().max() < 1e-3
    assert ((best > 0) & (best < 1)).any()  # the projection
    assert ((best == 0) | (best == 1)).any()  # and the corners
    # And the loss itself, after a small step of one length.
    before = [p.detach().clone() for p in parameters]
    losses = []
    for step in steps[::50]:
        unit, start = 1e-4 * step / step.norm(dim=-1, keepdim=True), 0
        with torch.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.copy_(old - unit[:, start : start + old[0].numel()].reshape(old.shape))
                start += old[0].numel()
            losses.append(squared_losses(problem.model, held_out)[0])
    assert (grid[::50].flatten()[torch.stack(losses).argmin(0)] - best).abs().max() <= 0.03


def test_probed_weights_are_hydalearns_and_the_best() -> None:
    configuration = {**BASE, "dose": "i.i.d.", "checkpoints": [0], "probe_dose": "homogeneous", "probe_batches": 8,
                     "probe_size": 30, "probe_minor": 0.5, "scales": [1.0, 3.0]}  # fmt: skip
    table = probe(configuration)
    # The same at step 0, where the model has its initial weights, from HydaLearn itself.
    problem = prepare(configuration, [1, 2, 3])
    listed, minor = probe_batches(configuration, problem)
    assert sorted(minor[:, 0].tolist()) == [0.0] * 4 + [1.0] * 4
    assert listed.batches.shape == (3, 8, 30)  # larger than those trained on
    hydalearn = HydaLearn(problem.model, problem.scaled_losses([3.0] * 3), problem.shared)
    shares = []
    for number in range(8):
        main, auxiliary = hydalearn.backward(listed.batch(torch.full((3, 1), number))).weights
        shares.append(3 * auxiliary / (main + 3 * auxiliary))
        zero_task_grad(problem.shared)
    own, cluster = torch.stack(shares), minor
    expected = [np.corrcoef(own[:, r], cluster[:, r])[0, 1] ** 2 for r in range(3)]
    assert values(table, "mean", weights="HydaLearn x 3") == pytest.approx(own.mean(0).tolist(), abs=1e-9)
    assert values(table, "R squared", weights="HydaLearn x 3") == pytest.approx(expected, abs=1e-9)
    gains = {name: np.array(values(table, "gain", weights=name)) for name in table["weights"].unique()}
    assert all((gains["best"] >= gain - 1e-12).all() for gain in gains.values())
    assert (gains["best constant"] >= np.maximum(gains["main task"], gains["equal"]) - 1e-12).all()
    assert values(table, "match", weights="best") == pytest.approx([1.0] * 3, abs=1e-9)


def test_composition_explains_the_best_weights_where_it_varies() -> None:
    configuration = {**BASE, "rows": [400, 60, 400], "noise": 0.1, "checkpoints": [60, 120], "num_batches": 20,
                     "dose": "i.i.d.", "scales": [1.0], "probe_batches": 40, "probe_size": 20,
                     "probe_minor": 0.25}  # fmt: skip
    probed = pd.concat(
        probe({**configuration, "probe_dose": dose}).assign(batches=dose) for dose in ("homogeneous", "fixed")
    )
    steps = by_step(probed, 0.95).set_index(["batches", "weights", "metric", "step"])["mean"]
    assert steps["homogeneous", "best", "R squared", 120] > 0.25  # 1 / 40 by chance
    assert ("fixed", "best", "R squared", 120) not in steps.index
    at_120 = probed.query("batches == 'homogeneous' and step == 120")
    late = after_burn_in(probed[probed["batches"] == "homogeneous"], "best", "R squared")
    assert late.to_list() == pytest.approx(values(at_120, "R squared", weights="best"))


def test_gains_can_be_measured_elsewhere() -> None:
    tables = {data: train_grid({**BASE, "gain_data": data}) for data in ("same", "other", "held out")}
    assert len({values(table, "test loss")[0] for table in tables.values()}) == 3
    with pytest.raises(ValueError, match="Parameter `gain_data`"):
        train_grid({**BASE, "gain_data": "elsewhere"})
    problem = prepare({**BASE, "gain_data": "held out"}, [1])
    assert isinstance(problem.train, ListedBatches)
    assert isinstance(problem.withheld, ListedBatches)
    assert problem.withheld.batches.shape == (1, 1, 24)
    assert set(problem.withheld.batches.flatten().tolist()).isdisjoint(problem.train.batches.flatten().tolist())


def test_weightings_do_what_they_say() -> None:
    problem = prepare(BASE, [1, 2])
    batch = problem.train.batch(torch.zeros(2, 1, dtype=torch.int64))
    plain = squared_losses(problem.model, batch)
    scaled = problem.scaled_losses([2.0, 5.0])
    main, auxiliary = scaled(problem.model, batch)
    assert torch.equal(main, plain[0])
    assert torch.allclose(auxiliary, torch.tensor([2.0, 5.0], dtype=torch.float64) * plain[1], atol=1e-14)
    swapped = select_tasks(squared_losses, [1, 0])(problem.model, batch)
    x, y = batch
    assert torch.equal(swapped[0], (problem.model(x)[0] - y[1]).square().mean(-1))
    weights = torch.arange(8, dtype=torch.float64).reshape(2, 2, 2)
    schedule = ScheduledWeights(problem.model, squared_losses, weights)
    late = StaticWeights(problem.model, squared_losses, -torch.ones(2, 2, dtype=torch.float64))
    switched = Switched(schedule, late, 2)
    found = [switched.backward(batch).weights for _ in range(3)]
    assert torch.equal(found[0], weights[0])
    assert torch.equal(found[1], weights[1])
    assert torch.equal(found[2], late.weights)
    assert isinstance(configured(problem, squared_losses, {**BASE, "gain_data": "other"}), GainElsewhere)


def tuning(losses: dict[tuple[float, float], list[float]]) -> pd.DataFrame:
    rows = [
        {"scale": scale, "rate": rate, "seed": seed, "metric": "validation loss", "value": value}
        for (scale, rate), seeds in losses.items()
        for seed, value in enumerate(seeds)
    ]
    return pd.DataFrame(rows)


def test_choosing_takes_the_least_mean_and_names_edges() -> None:
    grid = {(1.0, 0.1): [3.0, 3.0], (1.0, 0.2): [1.0, 2.0], (1.0, 0.3): [2.0, 2.0]}
    choice = choose(tuning(grid), "m")
    assert (choice.setting, choice.edges, choice.rivals) == ({"scale": 1.0, "rate": 0.2}, (), ())
    grid[(3.0, 0.2)] = [0.9, 1.9 + 1e-6]
    assert choose(tuning(grid), "m").edges == ("m: the best scale, 3, lies at an edge of its grid: widen it.",)


def test_smoothing_by_nothing_is_hydalearn() -> None:
    own, smoothed = train_grid(BASE), [train_variant({**BASE, "smoothing": decay}) for decay in (0.0, 0.9)]
    assert values(smoothed[0], "test loss") == pytest.approx(values(own, "test loss"), abs=1e-10)
    assert np.abs(np.subtract(values(smoothed[1], "test loss"), values(own, "test loss"))).min() > 1e-4
    one = {**BASE, "num_batches": 1, "epochs": 1, "dose": "i.i.d."}  # the average of one step is that step
    assert values(train_variant({**one, "smoothing": 0.9}), "test loss") == pytest.approx(
        values(train_grid(one), "test loss"), abs=1e-10
    )


def test_heads_that_start_equal_start_as_the_main_task_s(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, ...]] = []

    def look(problem: Problem, *_: Any) -> Any:
        seen.append(
            tuple(p.detach().clone() for n, p in problem.model.named_parameters() if "heads" in n and "weight" in n)
        )
        raise InterruptedError

    monkeypatch.setattr("companion.train.main_task.train", look)
    for equal in (True, False):
        with pytest.raises(InterruptedError):
            train_variant({**BASE, "equal_heads": equal})
    (main, auxiliary), (as_drawn, other) = seen
    assert torch.equal(main, as_drawn)
    assert torch.equal(main, auxiliary)
    assert not torch.equal(main, other)


def test_an_edge_on_a_plateau_says_so() -> None:
    grid = {(1.0, 0.1): [1.0, 2.2], (3.0, 0.1): [1.1, 2.0], (10.0, 0.1): [1.0, 2.05]}
    (edge,) = choose(tuning(grid), "m").edges
    # 3 minus 10 is +0.1 and -0.05: mean 0.025, spread 0.106, half-width 12.706 * 0.106 / sqrt(2) = 0.953
    assert edge == (
        "m: the best scale, 10, lies at an edge of its grid, but 2 tuning seeds do not tell it from 3: "
        "there the loss is higher by 0.025 [-0.928, 0.978]."
    )


def test_an_edge_is_held_against_its_neighbour_on_the_seeds_that_tried_both() -> None:
    """The neighbour, 3, was not on the shortlist that seed 2 tried."""
    nan = float("nan")
    grid = {(1.0, 0.1): [3.0, 3.0], (3.0, 0.1): [1.1, 2.0], (3.0, 0.2): [4.0, 4.0], (10.0, 0.1): [1.0, 2.05, 7.0]}
    edge = choose(tuning(grid), "m").edges[-1]
    assert edge == (
        "m: the best scale, 10, lies at an edge of its grid, but 2 tuning seeds do not tell it from 3: "
        "there the loss is higher by 0.025 [-0.928, 0.978]."
    )
    grid[3.0, 0.1] = [1.1, nan]  # failed
    assert choose(tuning(grid), "m").edges[-1].endswith("higher by 2.475 [-4.196, 9.146].")


def test_choosing_leaves_failed_settings_out() -> None:
    failed = {(1.0, 0.1): [1.0, float("nan")], (1.0, 0.2): [4.0, 4.0]}
    assert choose(tuning(failed), "m").rate == 0.2
    with pytest.raises(ValueError, match="Found none"):
        choose(tuning({(1.0, 0.1): [float("nan")]}), "m")


def test_log_differences_are_paired_and_failed_pairs_counted() -> None:
    runs = pd.DataFrame(
        [
            {"seed": seed, "method": method, "metric": "test loss", "value": value}
            for method, losses in {"a": [1.1, 2.2, 4.0, 1.0], "b": [1.0, 2.0, np.nan, 1.0]}.items()
            for seed, value in enumerate(losses)
        ]
    )
    late = pd.DataFrame([{"seed": 4, "method": "a", "metric": "test loss", "value": 9.0}])  # b never ran on seed 4
    interval, failed = log_difference(pd.concat([runs, late]), "method", "a", "b", 0.95)
    assert (interval.count, failed) == (3, 1)
    assert interval.mean == pytest.approx(2 / 3 * np.log(1.1), abs=1e-12)


def test_a_comparison_tunes_then_trains_fresh_seeds() -> None:
    found = compare(
        Results("90_toy", "fast"),
        {k: v for k, v in BASE.items() if k not in ("method", "rates", "scales", "seeds")},
        ["single task", "HydaLearn"],
        rates=[0.003, 0.01],
        scales=[1.0, 3.0],
        tuning_seeds=[10, 11],
        seeds=[1, 2, 3],
        tune=train_grid,
        train=train_grid,
        knobs={"HydaLearn": {"decay": [0.0, 0.1]}},
    )
    assert set(found.tuned["seed"]) == {10, 11}
    assert found.chosen["HydaLearn"].setting["decay"] == found.fresh["decay"].max()
    assert set(found.chosen["single task"].setting) == {"scale", "rate"}
    assert set(found.fresh["seed"]) == {1, 2, 3}
    assert found.chosen["single task"].scale == 1.0
    table = differences(found.fresh, "method", "HydaLearn", ["single task"], 0.95)
    assert list(table["reference"]) == ["single task"]
    logs = np.log(values(found.fresh, "test loss", method="HydaLearn")) - np.log(
        values(found.fresh, "test loss", method="single task")
    )
    assert [found.mean for found in intervals_of(table)] == list(table["mean"])
    assert table["mean"][0] == pytest.approx(logs.mean(), abs=1e-12)


def test_a_second_stage_tries_the_best_settings_on_more_seeds() -> None:
    """The first stage's best setting is the worse of its two best where all seeds count; the third is out."""
    first = {0.1: [1.0, 1.2], 0.2: [1.1, 1.2], 0.3: [9.0, 1.0], 0.4: [0.1, float("nan")]}  # 0.4 failed once
    asked: list[dict[str, Any]] = []

    def cell(configuration: Mapping[str, Any]) -> pd.DataFrame:
        asked.append(dict(configuration))
        losses = first if configuration["seeds"] == [1, 2] else {0.1: [2.0], 0.2: [1.0], 0.3: [3.0]}
        rows = [(rate, seed, loss) for rate in configuration["rates"]
                for seed, loss in zip(configuration["seeds"], losses[rate], strict=True)]  # fmt: skip
        return pd.DataFrame(rows, columns=["rate", "seed", "value"]).assign(scale=1.0, metric="validation loss")

    found = compare(
        Results("90_toy", "fast"), {}, ["single task"], rates=[0.1, 0.2, 0.3, 0.4], scales=[1.0], tuning_seeds=[1, 2],
        seeds=[3], tune=cell, train=lambda c: pd.DataFrame({"seed": [3], "metric": "test loss", "value": [1.0]}),
        second=SecondStage([5], 2, cell),
    )  # fmt: skip
    assert asked[1] == {**asked[0], "rates": [0.1, 0.2], "scales": [1.0, 1.0], "seeds": [5]}
    assert (found.chosen["single task"].rate, found.chosen["single task"].seeds) == (0.2, 3)


def test_listed_settings_train_as_in_a_grid() -> None:
    listed = tune_listed({**BASE, "rates": [0.003, 0.01], "scales": [3.0, 1.0], "decays": [0.0, 1.0]})
    grid = tune_grid({**BASE, "rates": [0.01], "scales": [1.0], "decays": [1.0]})
    assert listed.groupby(["rate", "scale", "decay"]).ngroups == 2
    assert values(listed, "validation loss", rate=0.01) == pytest.approx(values(grid, "validation loss"), rel=1e-9)


def test_differences_know_what_the_tuning_might_have_chosen() -> None:
    """HydaLearn's tuning was torn between two settings, whose fresh losses differ by a tenth; the other's was not."""
    rng = np.random.default_rng(0)
    losses = {"HydaLearn": np.exp(rng.normal(0, 0.1, 20)), "single task": np.exp(rng.normal(0, 0.1, 20))}

    def runs(method: str, factor: float = 1.0) -> pd.DataFrame:
        rows = {"method": method, "seed": range(20), "metric": "test loss", "value": factor * losses[method]}
        return pd.DataFrame(rows)

    torn = Choice({"rate": 0.1}, (), ({"rate": 0.2},), np.tile([0, 1], 100), 10)
    sure = Choice({"rate": 0.1}, (), (), np.zeros(200, dtype=np.int64), 10)
    fresh, beside = pd.concat([runs("HydaLearn"), runs("single task")]), runs("HydaLearn", 1.1).assign(rival=1)
    found = Comparison(pd.DataFrame(), fresh, {"HydaLearn": torn, "single task": sure}, beside)
    (row,) = tuned_differences(found, "HydaLearn", ["single task"], 0.95).to_dict("records")
    plain, _ = log_difference(fresh, "method", "HydaLearn", "single task", 0.95)
    assert row["mean"] == pytest.approx(plain.mean, abs=1e-12)
    assert row["rival"] == pytest.approx(plain.mean + np.log(1.1), abs=1e-12)
    within = (np.log(losses["HydaLearn"]) - np.log(losses["single task"])).var(ddof=1) / 20
    torn_part = (np.log(1.1) / 2) ** 2  # the variance of two settings, each chosen half the time
    assert row["tuning"] == pytest.approx(torn_part / (torn_part + within), abs=1e-9)
    assert row["high"] - row["low"] > plain.high - plain.low
    lost = fresh.assign(value=fresh["value"].where((fresh["method"] != "single task") | (fresh["seed"] != 3)))
    failed = tuned_differences(
        Comparison(pd.DataFrame(), lost, found.chosen, beside), "HydaLearn", ["single task"], 0.95
    )
    assert failed[["count", "failed"]].to_numpy().tolist() == [[19, 1]]


def test_options_are_compared_with_the_defaults_on_the_same_seeds() -> None:
    base = {k: v for k, v in BASE.items() if k not in ("dose", "method", "rates", "scales", "seeds")}
    what: dict[str, Any] = {"doses": ["fixed"], "rates": [0.01], "scale": 3.0, "seeds": [1, 2, 3], "confidence": 0.95}
    options = ["trial step = learning rate", "auxiliary scale x 10", "first order"]
    table = ablate(Results("90_toy", "fast"), base, options, **what).set_index("option")
    assert abs(table["mean"]["first order"]) < 1e-3 < abs(table["mean"]["auxiliary scale x 10"])
    scaled, plain = (
        values(train_grid({**BASE, "dose": "fixed", "scales": [scale]}), "test loss") for scale in (30.0, 3.0)
    )
    assert table["mean"]["auxiliary scale x 10"] == pytest.approx(np.mean(np.log(scaled) - np.log(plain)), abs=1e-12)
    own_rate, default = (
        values(train_grid({**BASE, "dose": "fixed", "trial_step": step}), "test loss") for step in (0.01, 1e-3)
    )
    step = np.mean(np.log(own_rate) - np.log(default))
    assert table["mean"]["trial step = learning rate"] == pytest.approx(step, abs=1e-12)


def test_every_option_departs_from_the_defaults() -> None:
    plain = values(train_grid(BASE), "test loss")
    for option, changes in VARIANTS.items():
        known = {k: 0.01 if v == "rate" else v for k, v in changes.items() if k != "factor"}
        if known:
            assert values(trainer(known)({**BASE, **known}), "test loss") != plain, option


def test_an_option_whose_runs_all_fail_is_shown_as_failed() -> None:
    base = {k: v for k, v in BASE.items() if k not in ("dose", "method", "rates", "scales", "seeds")}
    table = ablate(
        Results("90_toy", "fast"), base, ["first order"], doses=["fixed"], rates=[1e200], scale=1.0, seeds=[1, 2],
        confidence=0.95,
    )  # fmt: skip
    assert table["failed"].tolist() == [2]
    assert table["mean"].isna().all()
