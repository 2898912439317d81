"""Tables and figures of the scene study, on made-up runs whose answers are known."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.claims.statistics import paired_interval
from companion.metrics.scene_tables import scores, with_delta_m
from companion.studies.scenes import report
from companion.studies.scenes.figures import draw_curves, draw_dominance, draw_predictions
from companion.studies.scenes.predictions import Picture

JOINT, ADATASK = ("Adam", "joint", 1.0), ("Adam", "AdaTask", 1.0)
TASKS = {"mIoU": 0, "pixel accuracy": 0, "cross-entropy": 0, "absolute error": 1, "relative error": 1}
SINGLE = {"mIoU": 0.5, "pixel accuracy": 0.8, "cross-entropy": 1.0, "absolute error": 0.5, "relative error": 0.4}


def rows(
    method: str, seed: int, values: dict[str, float], fold: str = "test", rate: float = 0.1
) -> list[dict[str, object]]:
    where = {"optimizer": "Adam", "method": method, "spread": 1.0, "rate": rate, "seed": seed, "fold": fold}
    return [{**where, "epoch": 0, "layer": 0, "metric": name, "value": value} for name, value in values.items()]


@pytest.fixture
def final() -> pd.DataFrame:
    table = []
    for seed in range(3):
        table += rows("first task alone", seed, SINGLE) + rows("second task alone", seed, SINGLE)
        table += rows("joint", seed, SINGLE | {"mIoU": 0.6, "cross-entropy": 0.9 + seed / 10})  # 20 % more mIoU
        table += rows("AdaTask", seed, SINGLE | {"absolute error": 0.4 - seed / 100})  # 20, 22, 24 % less error
    return pd.DataFrame(table)


def test_single_tasks_have_their_own_measures_only(final: pd.DataFrame) -> None:
    found = scores(final)
    first, second = (found.xs(f"{which} task alone", level="method") for which in ("first", "second"))
    assert first.columns[np.asarray(first.isna().all())].tolist() == ["absolute error", "relative error"]
    assert second.columns[np.asarray(second.isna().all())].tolist() == ["cross-entropy", "mIoU", "pixel accuracy"]


def test_delta_m_is_against_the_single_tasks_of_the_seed(final: pd.DataFrame) -> None:
    values = with_delta_m(scores(final))
    assert set(values.index.get_level_values("method")) == {"joint", "AdaTask"}
    assert report.at(values, JOINT, "Delta_m, flat").tolist() == pytest.approx([-0.05] * 3)
    assert report.at(values, ADATASK, "Delta_m, flat").tolist() == pytest.approx([-0.05, -0.055, -0.06])
    assert report.at(values, ADATASK, "Delta_m, by task").tolist() == pytest.approx([0.05, 0.055, 0.06])


def test_differences_are_paired_first_minus_second_and_corrected_for_overlap(final: pd.DataFrame) -> None:
    values = with_delta_m(scores(final))
    found = report.difference(values, ADATASK, JOINT, "Delta_m, flat", 0.2)
    expected = paired_interval([0, -0.005, -0.01], [0, 0, 0], test_to_train=0.2)
    assert vars(found) == pytest.approx(vars(expected))
    plain = report.difference(values, ADATASK, JOINT, "Delta_m, flat", 0.0)
    assert found.high - found.low > 1.2 * (plain.high - plain.low)
    logs = report.difference(values, JOINT, ADATASK, "cross-entropy", 0.0, logs=True)
    assert logs.mean == pytest.approx(np.log([0.9, 1.0, 1.1]).mean())


class TestTuning:
    def table(self) -> pd.DataFrame:
        found = []
        for rate, entropy, error in [(0.1, 1.0, 1.0), (0.2, 0.5, 1.0), (0.4, 0.9, 0.9)]:
            for seed in (0, 1):
                losses = {"cross-entropy": entropy, "absolute error": error, "mIoU": 0.5}
                found += rows("joint", seed, losses, "validation", rate)
                found += rows("second task alone", seed, losses, "validation", rate)
                found += rows("joint", seed, {"cross-entropy": 0.001}, "test", rate)  # must not choose
        return pd.DataFrame(found)

    def test_the_mean_of_log_validation_losses_chooses(self) -> None:
        best = report.best_rates(self.table()).set_index("method")
        assert best.loc["joint", "rate"] == 0.2  # log 0.5 + log 1 is less than 2 log 0.9
        assert not best.loc["joint", "edge"]
        assert best.loc["joint", "loss"] == pytest.approx(np.log(0.5) / 2)

    def test_a_single_task_looks_at_its_own_loss(self) -> None:
        best = report.best_rates(self.table()).set_index("method")
        assert best.loc["second task alone", "rate"] == 0.4
        assert best.loc["second task alone", "edge"]

    def test_a_failed_run_rules_its_rate_out(self) -> None:
        table = self.table()
        failed = (table["rate"] == 0.2) & (table["seed"] == 1) & (table["metric"] == "cross-entropy")
        table.loc[failed & (table["fold"] == "validation"), "value"] = np.nan
        assert report.best_rates(table).set_index("method").loc["joint", "rate"] == 0.4


def test_dominance_by_layer() -> None:
    """By seed 0, 1, 2 it is 0.1 + seed / 10 in layer 1 and twice that in layer 2."""
    table = pd.concat(
        pd.DataFrame(rows("joint", seed, {"dominated, updates, mean": layer * (0.1 + seed / 10)}, "training")).assign(
            layer=layer
        )
        for seed in range(3)
        for layer in (0, 1, 2)
    )
    layers = report.by_layer(report.shares(table), {"joint 1:1": JOINT}, "dominated, updates, mean", ["a", "b"], 0.0)
    assert layers["mean"].tolist() == pytest.approx([0.2, 0.4])
    fig = draw_dominance(layers, "title")
    assert np.ravel(fig.axes[0].lines[0].get_ydata()).tolist() == layers["mean"].tolist()
    plt.close(fig)


def test_curves_are_means_and_the_best_epochs_are_each_runs_own() -> None:
    table = []
    for method in ("joint", "second task alone"):
        for seed in (0, 1):
            for epoch in (1, 2):
                losses = {"cross-entropy": 1.0 + seed, "absolute error": 2.0 * epoch}
                table += [{**row, "epoch": epoch} for row in rows(method, seed, losses, "validation")]
            table += rows(method, seed, {"cross-entropy": 1.0, "absolute error": 0.5, "best epoch": 1.0}, "validation")
    settings = {"joint 1:1": JOINT, "single task": ("Adam", "second task alone", 1.0)}
    lines, best = report.curves(pd.DataFrame(table), settings)
    assert lines.query("label == 'joint 1:1' and metric == 'cross-entropy'")["value"].tolist() == [1.5, 1.5]
    assert set(lines.query("label == 'single task'")["metric"]) == {"absolute error"}
    assert len(best) == 2 * 2 + 2
    assert set(best["epoch"]) == {1.0}
    fig = draw_curves(lines, best, {"cross-entropy": "classes", "absolute error": "distance"}, "title")
    assert [len(ax.lines) for ax in fig.axes] == [2, 4]
    plt.close(fig)


def test_predictions_figure_has_truth_and_prediction_of_both_tasks() -> None:
    rng = np.random.default_rng(0)
    planes = {"class": rng.integers(-1, 8, (4, 4)).astype(float), "number": rng.random((4, 4))}
    picture = Picture(3, rng.random((3, 4, 4)), planes, planes)
    fig = draw_predictions({"joint 1:1": picture, "AdaTask": picture}, [f"class {i}" for i in range(8)], "m", "title")
    titles = [ax.get_title(loc="center") for ax in fig.axes[:5]]
    assert titles == ["image", "classes: truth", "predicted", "distance: truth", "predicted"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [f"class {i}" for i in range(8)]
    plt.close(fig)
