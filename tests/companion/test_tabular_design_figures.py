"""Figures across designs draw the numbers of their tables, aligned."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.studies.tabular.design_figures import (
    SHARE_PANELS,
    draw_designs,
    draw_share_measures,
    draw_switch_off,
    draw_tuning,
)
from matplotlib.axes import Axes


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def points(ax: Axes) -> set[tuple[float, float]]:
    """Places of the single marks that a panel draws."""
    pairs = [(np.ravel(line.get_xdata()), np.ravel(line.get_ydata())) for line in ax.lines]
    return {(float(x[0]), float(y[0])) for x, y in pairs if len(x) == 1}


def differences(references: list[str]) -> pd.DataFrame:
    means = np.arange(len(references)) / 100
    return pd.DataFrame(
        {
            "metric": "test log loss",
            "method": "HydaLearn",
            "reference": references,
            "mean": means,
            "low": means - 0.01,
            "high": means + 0.02,
            "plain low": means - 0.005,
            "plain high": means + 0.01,
        }
    )


def test_rows_of_one_reference_stand_at_one_height_in_every_panel() -> None:
    panels = {"all": differences(["single task", "equal weights", "DWA"]), "few": differences(["single task"])}
    one, two = draw_designs(panels, "test log loss", 0.001, "title").axes
    assert points(one) == {(0.0, 0), (0.01, 1), (0.02, 2)}
    assert points(two) == {(0.0, 0)}
    assert one.get_ylim() == two.get_ylim()
    assert [label.get_text() for label in one.get_yticklabels()] == ["single task", "equal weights", "DWA"]


def test_share_measures_have_a_row_per_design_and_step_and_the_population_as_a_cross() -> None:
    rows = [
        {"design": design, "step": step, "measure": measure, "mean": 0.1 * place, "low": 0.0, "high": 0.5}
        for place, (design, step) in enumerate([("a", 5), ("a", 10), ("b", 5)])
        for measure in (*SHARE_PANELS, "population")
    ]
    mean, *others = draw_share_measures(pd.DataFrame(rows)).axes
    assert [label.get_text() for label in mean.get_yticklabels()] == ["a, step 5", "a, step 10", "b, step 5"]
    assert sum(line.get_marker() == "x" for line in mean.lines) == 3
    assert all(points(ax) == {(0.0, 0), (0.1, 1), (0.2, 2)} for ax in others)


def test_switching_off_marks_the_chosen_epoch_and_always_on() -> None:
    curve = pd.DataFrame({"off_epoch": [0, 1, 2], "mean": [0.1, 0.2, 0.3], "low": 0.0, "high": 0.5})
    (ax,) = draw_switch_off({"a": curve.assign(chosen=[False, True, False])}, 4, 0.001).axes
    assert points(ax) == {(1.0, 0.2), (4.0, 0.0)}


def test_tuning_has_a_panel_per_method_and_a_line_per_scale() -> None:
    rows = [
        {"method": method, "scale": scale, "rate": rate, "validation loss": 1 + scale + rate}
        for method in ("single task", "HydaLearn")
        for scale in (0.1, 1.0)
        for rate in (0.01, 0.001)
    ]
    axes = draw_tuning(pd.DataFrame(rows), ["single task", "HydaLearn"], "title").axes
    assert [ax.get_title() for ax in axes] == ["single task", "HydaLearn"]
    assert [np.ravel(line.get_xdata()).tolist() for line in axes[0].lines] == [[0.001, 0.01]] * 2
    assert axes[0].get_ylim()[0] < 1.101 < axes[0].get_ylim()[1]
