"""Tables and figures of the scene study, on made-up runs whose answers are known."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.claims.statistics import paired_interval, tuned_difference
from companion.metrics.scene_tables import scores, with_delta_m
from companion.studies.scenes import report
from companion.studies.scenes.figures import draw_curves, draw_dominance, draw_predictions
from companion.studies.scenes.predictions import Picture
from companion.train.choice import Choice

JOINT, ADATASK = ("Adam", "joint", 1.0), ("Adam", "AdaTask", 1.0)
FIRST, SECOND = ("Adam", "first task alone", 1.0), ("Adam", "second task alone", 1.0)
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


RATES = dict.fromkeys([FIRST, SECOND, JOINT, ADATASK], 0.1)


def chosen(rate: float, *rivals: float, draws: Sequence[int] = (0,)) -> Choice:
    return Choice({"rate": rate}, (), tuple({"rate": rival} for rival in rivals), np.array(draws), 3)


def test_differences_are_paired_first_minus_second_and_corrected_for_overlap(final: pd.DataFrame) -> None:
    first, second = (report.retuned(final, RATES, one, chosen(0.1), "Delta_m, flat") for one in (ADATASK, JOINT))
    found = tuned_difference(first, second, test_to_train=0.2)[0]
    expected = paired_interval([0, -0.005, -0.01], [0, 0, 0], test_to_train=0.2)
    assert [found.mean, found.low, found.high] == pytest.approx([expected.mean, expected.low, expected.high])
    plain = tuned_difference(first, second)[0]
    assert found.high - found.low > 1.2 * (plain.high - plain.low)
    logs = report.retuned(final, RATES, JOINT, chosen(0.1), "cross-entropy")
    assert logs.values.mean() == pytest.approx(np.log([0.9, 1.0, 1.1]).mean())


class TestRivals:
    """Joint training at 0.2, where its error is 0.3, was chosen by half of the resampled tunings."""

    @pytest.fixture
    def every(self, final: pd.DataFrame) -> pd.DataFrame:
        more = [rows("joint", seed, SINGLE | {"absolute error": 0.3}, rate=0.2) for seed in range(3)]
        more += [rows("second task alone", seed, SINGLE | {"absolute error": 0.4}, rate=0.2) for seed in range(3)]
        return pd.concat([final, *map(pd.DataFrame, more)])

    def test_a_rival_lengthens_the_interval_and_leaves_the_mean(self, every: pd.DataFrame) -> None:
        half = [0, 1] * 500
        first = report.retuned(every, RATES, ADATASK, chosen(0.1, draws=[0] * 1000), "Delta_m, flat")
        sure, unsure = (
            tuned_difference(first, report.retuned(every, RATES, JOINT, choice, "Delta_m, flat"), test_to_train=0.2)[0]
            for choice in (chosen(0.1, draws=[0] * 1000), chosen(0.1, 0.2, draws=half))
        )
        assert unsure.mean == sure.mean
        assert unsure.high - unsure.low > 2 * (sure.high - sure.low)
        assert sure.tuning == 0 < unsure.tuning

    def test_a_choice_of_weight_and_rate_looks_where_it_chose(self, every: pd.DataFrame) -> None:
        at_three = every[every["method"] == "joint"].assign(spread=3.0, rate=0.1)
        at_three = at_three.drop_duplicates(["seed", "metric"])
        choice = Choice({"spread": 1.0, "rate": 0.2}, (), ({"spread": 3.0, "rate": 0.1},), np.array([0]), 3)
        found = report.retuned(pd.concat([every, at_three]), RATES, JOINT, choice, "Delta_m, flat")
        assert found.values[..., 0].tolist() == [pytest.approx([-0.1] * 3), pytest.approx([-0.05] * 3)]

    def test_rivals_of_the_single_tasks_move_what_is_compared_with_them(self, every: pd.DataFrame) -> None:
        choices = {setting: chosen(0.1, draws=[0, 0]) for setting in RATES} | {SECOND: chosen(0.1, 0.2, draws=[0, 1])}
        found = report.against_singles(every, RATES, ADATASK, choices)
        assert found.draws.tolist() == [0, 1]
        assert found.values[0].tolist() == [[0], [0], [0]]
        # an error of 0.40, 0.39, 0.38 against one of 0.5 or of 0.4, a quarter of the measures
        gains = [0.05, 0.055, 0.06] - np.array([0, 0.01, 0.02]) / 0.4 / 4
        assert found.values[1, :, 0].tolist() == pytest.approx((-gains).tolist())


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
        best = report.choose_rates(self.table())[JOINT]
        assert best.rate == 0.2  # log 0.5 + log 1 is less than 2 log 0.9
        assert not best.edges

    def test_a_single_task_looks_at_its_own_loss(self) -> None:
        best = report.choose_rates(self.table())[SECOND]
        assert best.rate == 0.4
        assert best.edges

    def test_a_failed_run_rules_its_rate_out(self) -> None:
        table = self.table()
        failed = (table["rate"] == 0.2) & (table["seed"] == 1) & (table["metric"] == "cross-entropy")
        table.loc[failed & (table["fold"] == "validation"), "value"] = np.nan
        assert report.choose_rates(table)[JOINT].rate == 0.4

    def test_rivals_are_looked_for_where_they_decide(self) -> None:
        table = self.table()
        table.loc[(table["rate"] == 0.4) & (table["seed"] == 1), "value"] /= 4  # the best one, on this seed
        assert report.choose_rates(table)[JOINT].rivals == ()
        choice = report.choose_rates(table, [JOINT])[JOINT]
        assert [choice.rate, choice.rivals] == [0.4, ({"rate": 0.2},)]

    def test_the_static_weight_is_chosen_together_with_its_rate(self) -> None:
        table = self.table()
        wide = table.assign(spread=3.0, value=table["value"] / 2)
        wide.loc[wide["rate"] == 0.2, "value"] *= 4
        both = pd.concat([table, wide])
        assert report.choose_static(both, [1.0, 3.0]).setting == {"spread": 3.0, "rate": 0.4}
        assert report.choose_static(both, [1.0]).setting == {"spread": 1.0, "rate": 0.2}


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
