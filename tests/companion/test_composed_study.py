"""The composed study: every method on every problem, its controls, tables and figures."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from companion.claims.register import load_claims
from companion.claims.statistics import Interval
from companion.studies.composed import report
from companion.studies.composed.figures import draw_fluctuation, draw_shares
from companion.studies.composed.problems import prepare
from companion.studies.composed.study import cost_per_step, train_grid, tune_grid, tune_listed
from companion.studies.composed.variants import DIRECTIONS, MEAN, METHODS, make_variant
from companion.train.choice import Choice
from companion.train.method_comparison import Comparison
from matplotlib import pyplot as plt

COMMON = {
    "device": "cpu", "gap": 1.0, "main": True, "record": True, "inits": 1, "at_once": 50, "rates": [0.01],
    "scales": [10.0],
}  # fmt: skip
SYNTHETIC: dict[str, Any] = {
    **COMMON, "study": "weights", "design": "composition", "dose": "Beta-mixed", "rows": [200, 60, 60], "noise": 1.0,
    "hidden": [6], "num_batches": 5, "batch_size": 20, "epochs": 2, "seeds": [0, 1],
}  # fmt: skip
CREDIT: dict[str, Any] = {
    **COMMON, "study": "tabular", "dataset": "lending_club", "train_rows": 1024, "hidden": [8], "batch_size": 256,
    "epochs": 1, "seeds": [0, 1], "record": False,
}  # fmt: skip
MOVIES: dict[str, Any] = {
    **COMMON, "study": "recommendation", "dataset": "movielens", "users": 8, "split": "random", "rare": 10,
    "network": "shared bottom", "width": 2, "hidden": [6], "batch_size": 128, "epochs": 2, "seeds": [0, 1],
}  # fmt: skip
GAP: dict[str, Any] = {
    **COMMON, "study": "scale gap", "noise": [0.3, 0.3], "own_part": 1.0, "hidden": [6, 6], "steps": 20,
    "batch_size": 16, "held_out": 60, "epochs": 1, "seeds": [0, 1], "main": False, "record": False, "scales": [1.0],
}  # fmt: skip


def values(table: pd.DataFrame, metric: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return table.loc[table["metric"] == metric, "value"].to_numpy()


@pytest.mark.parametrize("method", METHODS)
def test_following_the_share_changes_no_result(method: str) -> None:
    followed, plain = (train_grid({**SYNTHETIC, "method": method, "record": record}) for record in (True, False))
    for metric in ("test loss", "test loss, task 2", "validation loss"):
        np.testing.assert_allclose(values(followed, metric), values(plain, metric), rtol=1e-7)
    assert ("auxiliary share" in set(followed["metric"])) == (method != "single task")
    assert not values(plain, "failed").any()


def test_listed_settings_train_as_in_a_grid() -> None:
    listed = tune_listed({**SYNTHETIC, "method": "HydaLearn", "rates": [0.003, 0.01], "scales": [1.0, 10.0]})
    grid = tune_grid({**SYNTHETIC, "method": "HydaLearn"})  # the second of the two settings
    assert listed.groupby(["rate", "scale"]).ngroups == 2
    assert values(listed[listed["rate"] == 0.01], "validation loss") == pytest.approx(
        values(grid, "validation loss"), rel=1e-9
    )


def test_methods_differ_and_share_their_start() -> None:
    losses = {m: values(train_grid({**SYNTHETIC, "method": m}), "test loss") for m in METHODS}
    del losses["static grid"]  # at scale 10 it is one of its own, at 1 equal weights
    ordered = sorted(losses.values(), key=lambda v: float(v[0]))
    assert all(abs(a[0] - b[0]) > 1e-6 for a, b in pairwise(ordered))
    first = prepare(SYNTHETIC, [0, 1, 0])
    assert all(torch.equal(p[0], p[2]) and not torch.equal(p[0], p[1]) for p in first.model.parameters())


def test_runs_are_the_same_in_any_company() -> None:
    cell = {**SYNTHETIC, "method": MEAN, "scales": [1.0, 100.0]}
    keys = ["metric", "scale", "seed"]
    together, alone = (train_grid({**cell, "at_once": n}).sort_values(keys)["value"] for n in (50, 1))
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-12)


def test_the_control_has_the_mean_weights_of_the_run_and_no_spread() -> None:
    own = train_grid({**SYNTHETIC, "method": "HydaLearn on updates"})
    control = train_grid({**SYNTHETIC, "method": MEAN})
    np.testing.assert_allclose(values(own, "mean auxiliary weight"), values(control, "mean auxiliary weight"))
    assert (values(own, "spread of the auxiliary weight") > 0.01).all()
    assert (values(control, "spread of the auxiliary weight") < 1e-12).all()


def test_a_scale_is_a_loss_weight_in_the_grid_and_a_weight_on_updates() -> None:
    scaled = prepare(SYNTHETIC, [0])
    scales = scaled.loss_scales([4.0], 1.0)
    assert scales.tolist() == [[1.0], [4.0]]
    assert prepare(MOVIES, [0]).loss_scales([2.0], 9.0)[:, 0].tolist() == pytest.approx([1.0, 6.0, 18.0])
    _, optimizer = make_variant("static on updates", scaled, scaled.losses_fn, scales)
    assert optimizer.param_groups[0]["task_weights"].tolist() == [[1.0], [4.0]]
    tables = [train_grid({**SYNTHETIC, "method": "static on updates", "scales": [s]}) for s in (1.0, 4.0)]
    adatask = train_grid({**SYNTHETIC, "method": "AdaTask"})
    np.testing.assert_allclose(values(tables[0], "test loss"), values(adatask, "test loss"), rtol=1e-6)
    assert (np.abs(values(tables[1], "test loss") - values(adatask, "test loss")) > 1e-4).all()
    assert values(tables[1], "mean auxiliary weight") == pytest.approx(0.8)


def test_in_front_the_share_minds_the_level_less_than_on_the_updates() -> None:
    def moved(method: str) -> float:
        table = train_grid({**SYNTHETIC, "method": method, "scales": [1.0, 100.0]})
        share = table[table["metric"] == "auxiliary share"].groupby("scale")["value"].mean()
        return float(share[100.0] - share[1.0])

    assert moved("HydaLearn on updates") > 0.3
    assert abs(moved("HydaLearn in front")) < 0.1


def test_projection_with_adatask_erases_constant_weights_and_with_adam_does_not() -> None:
    for method, erases in (("PCGrad + AdaTask", True), ("AdaTask", True), ("PCGrad", False), ("equal weights", False)):
        tables = [train_grid({**GAP, "method": method, "gap": gap}) for gap in (1.0, 10.0)]
        gap = np.abs(values(tables[0], "test loss") - values(tables[1], "test loss")).max()
        assert gap < 1e-5 if erases else gap > 1e-3, method
        assert ("conflicts" in set(tables[0]["metric"])) == method.startswith("PCGrad")
    assert set(DIRECTIONS) == {"PCGrad + AdaTask", "AdaTask", "PCGrad", "equal weights"}


def test_without_a_main_task_all_count_alike() -> None:
    table = train_grid({**GAP, "method": "AdaTask"})
    tasks = np.stack([values(table, f"test loss, task {t}") for t in (1, 2)])
    np.testing.assert_allclose(values(table, "test loss"), np.exp(np.log(tasks).mean(0)))
    movies = train_grid({**MOVIES, "main": False, "record": False, "method": "AdaTask"})
    assert ((values(movies, "test AUC") > 0.3) & (values(movies, "test AUC") < 0.9)).all()


@pytest.mark.parametrize("cell", [CREDIT, MOVIES], ids=["credit", "recommendation"])
def test_real_data_train_and_have_an_auc(cell: dict[str, Any]) -> None:
    table = train_grid({**cell, "method": "HydaLearn on updates"})
    assert np.isfinite(values(table, "test AUC")).all()
    assert not values(table, "failed").any()


def test_tuning_leaves_the_test_fold_alone() -> None:
    assert set(tune_grid({**SYNTHETIC, "method": "AdaTask"})["metric"]) == {"validation loss", "failed"}


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Parameter `method` should be one of single task, .*Found 'HydaTask'"):
        train_grid({**SYNTHETIC, "method": "HydaTask"})


def test_the_work_of_a_step_is_counted() -> None:
    work = cost_per_step(SYNTHETIC, METHODS).set_index("method")
    assert work["gradients"].to_dict() == {m: 1 if m in METHODS[:3] else 2 for m in METHODS}
    mflop = work["Mflop"].to_dict()
    assert mflop["HydaLearn on updates"] == mflop["HydaLearn"] > mflop["AdaTask"]


def test_a_split_has_several_initialisations_in_the_final_runs_alone() -> None:
    cell = {**CREDIT, "method": "equal weights", "inits": 2}
    found = train_grid(cell).query("metric == 'test loss'")
    assert found[["seed", "initialisation"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert found["value"].nunique() == 4
    first = train_grid({**cell, "inits": 1}).query("metric == 'test loss'")
    assert first["value"].tolist() == found.query("initialisation == 0")["value"].tolist()
    assert "initialisation" not in tune_grid(cell)
    assert len(tune_grid(cell)) == len(tune_grid({**cell, "inits": 1}))


def compared(**losses: list[float]) -> Comparison:
    rows = [(m, seed, v) for m, row in losses.items() for seed, v in enumerate(row)]
    table = pd.DataFrame(rows, columns=["method", "seed", "value"]).assign(metric="test loss")
    chosen = dict.fromkeys(losses, Choice({"rate": 0.1}, (), (), np.zeros(10, dtype=np.int64), 2))
    return Comparison(pd.DataFrame(), table, chosen, pd.DataFrame())


def test_differences_are_paired_logarithmic_and_corrected() -> None:
    found = compared(a=[1.0, 2.0, 4.0, np.nan], b=[2.0, 2.0, 4.0, 1.0], c=[1.0, 2.0, 8.0, 1.0])
    table = report.differences(found, "a", ["b", "c"], report.RELATIVE, 0.0)
    assert table["reference"].tolist() == ["b", "c"]
    assert table["mean"][0] == pytest.approx(-np.log(2) / 3)
    assert (table["count"][0], table["failed"][0]) == (3, 1)
    wider = report.differences(found, "a", ["b"], report.RELATIVE, 1 / 3)
    widths = [(rows["high"] - rows["low"])[0] for rows in (wider, table)]
    assert widths[0] / widths[1] == pytest.approx((1 / 3 + 1 / 3) ** 0.5 * 3**0.5)
    assert report.differences(found, "a", ["b"], report.NATS, 0.0)["mean"][0] == pytest.approx(-1 / 3)
    assert report.in_words(table, report.RELATIVE).splitlines()[0].strip().startswith("b")
    assert "-20.6 %" in report.in_words(table, report.RELATIVE)
    evidence = report.evidence_of(table, "x, ")
    assert set(evidence) == {"x, b", "x, c"}
    assert evidence["x, b"].split == 1


def test_the_worst_scale_is_compared_with_the_best_at_their_own_best_rates() -> None:
    grid = [(0.1, 1.0, 3.0), (0.1, 2.0, 1.0), (0.2, 1.0, 2.0), (0.2, 2.0, 4.0)]
    rows = pd.DataFrame(grid, columns=["rate", "scale", "value"]).assign(method="m", metric="validation loss")
    assert report.at_worst_scale(rows).to_dict() == {"m": 100.0}  # 2 at scale 1, 1 at scale 2


def test_the_sentence_follows_the_registered_rule() -> None:
    claim = load_claims()["H3-composed-synthetic"]
    good, poor = Interval(-0.10, -0.14, -0.06, 20), Interval(0.02, -0.01, 0.05, 20)
    text = report.sentence(claim, [good, poor], 2)
    assert text == (
        "H3-composed-synthetic: does not hold. Mean \N{MINUS SIGN}0.10 to 0.02, 95 % within "
        "[\N{MINUS SIGN}0.14, 0.05], asked at most \N{MINUS SIGN}0.05"
    )
    assert "holds (1 of 2 comparisons here)" in report.sentence(claim, [good], 2)


def test_figures_draw_what_their_tables_hold() -> None:
    dose = pd.DataFrame({"method": ["HydaLearn", "HydaLearn"], "scale": [1.0, 9.0], "level": [0.1, 0.5],
                         "mean": [0.2, 0.6], "low": [0.1, 0.5], "high": [0.3, 0.7], "problem": "p"})  # fmt: skip
    (axes,) = draw_shares(dose, {"p": 0.5}, "title").axes
    assert np.asarray(axes.lines[-1].get_ydata()).tolist() == [0.2, 0.6]
    assert {text.get_text() for text in axes.texts} == {"HydaLearn with Adam", "AdaTask without weights"}
    passed = pd.DataFrame({"kind": "gate", "level": [1.0, 9.0], "variation": 1.0, "ratio": 0.7})
    (axes,) = draw_fluctuation(passed, "title").axes
    assert axes.get_legend_handles_labels()[1] == ["open or shut", "the same x 9"]
    plt.close("all")
