"""Each kind of figure draws what its table says."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.plots.dominance import draw_distributions, draw_dominance
from companion.plots.forest import Panel, draw_forest
from companion.plots.over_scale import draw_over_scale
from companion.plots.style import METHOD_COLOURS, colour, end_labels, task_colours, use_style
from companion.plots.switch_off import draw_switch_off
from companion.plots.tuning import draw_grids, draw_rates
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

LEFT, RIGHT = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def interval_rows(**columns: list[Any]) -> pd.DataFrame:
    """Every combination of the columns, with a mean of its own and limits beside it."""
    rows = [dict(zip(columns, values, strict=True)) for values in product(*columns.values())]
    means = np.linspace(0.1, 0.9, len(rows))
    return pd.DataFrame(rows).assign(mean=means, low=means - 0.15, high=means + 0.05)


def marks(ax: Axes) -> list[tuple[float, float]]:
    """Places of the single marks that a panel draws."""
    pairs = [(np.ravel(line.get_xdata()), np.ravel(line.get_ydata())) for line in ax.lines]
    return [(float(x[0]), float(y[0])) for x, y in pairs if len(x) == 1]


def labels(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_yticklabels()]


def test_a_forest_draws_each_reference_in_its_colour_with_both_intervals() -> None:
    table = interval_rows(design=["loss", "AUC"], reference=["single task", "DWA", "OL-AUX"])
    table = table.assign(**{"plain low": table["mean"] - 0.02, "plain high": table["mean"] + 0.01})
    panels = {"loss": Panel("Loss", "nats", smallest=0.05), "AUC": Panel("AUC", "AUC", lower_is_better=False)}
    loss, auc = draw_forest(table, panels, "title").axes
    assert labels(loss) == ["single task", "DWA", "OL-AUX"]
    rows = table[table["design"] == "loss"].to_dict("records")
    for y, row in enumerate(rows):
        plain, corrected, dot = loss.lines[1 + 3 * y : 4 + 3 * y]  # the first one marks 0
        assert np.ravel(plain.get_xdata()).tolist() == [row["plain low"], row["plain high"]]
        assert np.ravel(corrected.get_xdata()).tolist() == [row["low"], row["high"]]
        assert (np.ravel(dot.get_xdata())[0], np.ravel(dot.get_ydata())[0]) == (row["mean"], y)
        assert {to_hex(line.get_color()) for line in (plain, corrected)} == {METHOD_COLOURS[row["reference"]].lower()}
        assert (to_hex(dot.get_markerfacecolor()) == "#ffffff") == (row["low"] <= 0 <= row["high"])
    assert loss.get_xlabel() == f"nats\n{LEFT} HydaLearn better"
    assert auc.get_xlabel() == f"AUC\nHydaLearn better {RIGHT}"


def test_rows_of_a_forest_are_aligned_and_log_differences_become_per_cent() -> None:
    table = interval_rows(design=["all"], reference=["single task", "DWA"])
    table = pd.concat([table, table.tail(1).assign(design="few")])
    panels = {name: Panel(name, "%", percent=True) for name in ("all", "few")}
    one, two = draw_forest(table, panels, "title").axes
    assert [x for x, _ in marks(one)] == pytest.approx(100 * np.expm1(table["mean"][:2]).to_numpy())
    assert [y for _, y in marks(one)] == [0, 1]
    assert marks(two) == [marks(one)[1]]
    failed = table.assign(mean=np.nan).head(1)
    (ax,) = draw_forest(failed, {"all": Panel("all", "%")}, "title").axes
    assert [text.get_text() for text in ax.texts] == [" failed"]


def test_methods_that_share_a_row_of_a_forest_stand_beside_one_another() -> None:
    table = interval_rows(task=[1], second=["DWA", "GradNorm"], optimizer=["Adagrad", "Adam"]).head(3)
    panels = {1: Panel("task 1", "log loss")}
    fig = draw_forest(table, panels, "title", panel="task", row="second", hue="optimizer", first="AdaTask")
    assert [y for _, y in marks(fig.axes[0])] == pytest.approx([-0.12, 0.12, 1])
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["Adagrad", "Adam"]
    assert [line.get_color() for line in fig.axes[0].lines[1::2]] == [colour(o) for o in table["optimizer"]]


def test_rates_ring_the_least_mean_of_every_line() -> None:
    table = interval_rows(optimizer=["Adam"], label=["DWA", "AdaTask"], rate=[0.1, 0.2, 0.4])
    (ax,) = draw_rates(table, "loss").axes
    assert marks(ax) == [(0.1, row["mean"]) for row in table.iloc[[0, 3]].to_dict("records")]
    assert np.ravel(ax.lines[0].get_ydata()).tolist() == table["mean"][:3].tolist()
    assert ax.get_ylim()[0] < table["mean"].min()
    knobs = table.assign(value=table["rate"])
    below = draw_rates(pd.concat([knobs.assign(knob="learning rate"), knobs.assign(knob="scale")]), "loss").axes
    assert [ax.get_xlabel() for ax in below] == ["learning rate", "scale"]


def test_grids_ring_the_chosen_setting_of_every_method() -> None:
    rows = list(product(("single task", "HydaLearn"), (0.1, 1.0), (0.01, 0.001)))
    table = pd.DataFrame(rows, columns=["method", "scale", "rate"])
    table["validation loss"] = 1 + abs(table["scale"] - 1) + table["rate"]
    table = table[(table["method"] == "HydaLearn") | (table["scale"] == 1)]
    one, two, _ = draw_grids(table, ["single task", "HydaLearn"], "title").axes
    assert [ax.get_title(loc="left") for ax in (one, two)] == ["single task\n1.0010", "HydaLearn\n1.0010"]
    assert set(marks(one)) == set(marks(two)) == {(0, 1)}  # rate 0.001, scale 1
    shown: Any = one.images[0].get_array()
    assert shown.compressed() == pytest.approx([0, 100 * (1.01 / 1.001 - 1)])


def test_over_scale_has_a_named_line_per_method() -> None:
    table = interval_rows(task=[1, 0], label=["joint", "AdaTask"], spread=[0.1, 1.0, 10.0])
    one, two = draw_over_scale(table, {1: "task 1", 0: "mean"}, "weight", "loss").axes
    assert [text.get_text() for text in two.texts] == ["joint", "AdaTask"]
    assert [text.get_text() for text in one.get_xticklabels()] == ["0.1", "1", "10"]
    assert np.ravel(one.lines[0].get_ydata()).tolist() == table["mean"][:3].tolist()


def test_labels_at_the_end_of_curves_stay_apart() -> None:
    fig, ax = plt.subplots()
    end_labels(ax, {"a": 0.5, "b": 0.49, "c": 0.1}, dict.fromkeys("abc", "black"))
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == ["c", "b", "a"]
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[i + 1 :])


def test_dominance_has_a_row_by_updates_and_one_by_gradients() -> None:
    optimizers, kinds = ["Adagrad", "Adam"], ["updates", "gradients"]
    table = interval_rows(optimizer=optimizers, label=["joint 1:1", "AdaTask"], what=kinds, layer=["a", "b"])
    fig = draw_dominance(table)
    rows = table.query("optimizer == 'Adam' and what == 'gradients' and label == 'AdaTask'")
    line = next(line for line in fig.axes[3].lines if line.get_color() == colour("AdaTask"))
    assert np.ravel(line.get_ydata()).tolist() == rows["mean"].tolist()
    named = [text.get_text() for text in fig.legends[0].get_texts()]
    assert named == ["joint 1:1, the null level", "AdaTask"]


def test_distributions_have_a_ridge_per_layer_and_a_row_per_optimizer() -> None:
    table = interval_rows(optimizer=["Adagrad", "Adam"], label=["joint 1:10", "AdaTask"], layer=["a", "b"], rAU=[0, 1])
    table = table.assign(parameters=table["mean"])
    fig = draw_distributions(table, "the last task", "title", equal=1 / 3)
    assert [ax.get_title(loc="left") for ax in fig.axes][1:3] == ["Adagrad, AdaTask", "Adam, joint 1:10"]
    assert labels(fig.axes[0]) == ["a", "b"]
    heights = np.ravel(fig.axes[3].lines[1].get_ydata())  # layer a, drawn after b
    expected = 1.6 * (table["parameters"].iloc[-4:-2] / table["parameters"].max()) ** 0.5
    assert heights.tolist() == pytest.approx(expected.tolist())


def test_switching_off_marks_the_chosen_epoch_and_always_on() -> None:
    table = interval_rows(design=["a"], off_epoch=[0, 1, 2])
    chosen = table.assign(chosen=[False, True, False])
    (ax,) = draw_switch_off(chosen, {"a": "A"}, 4, 0.001, "title").axes
    assert marks(ax) == [(1.0, table["mean"][1]), (4.0, 0.0)]
    both = pd.concat([table.assign(kept="best epoch"), table.assign(kept="last epoch")])
    (ax,) = draw_switch_off(both, {"a": "A"}, 4, 0.001, "title", relative=True).axes
    assert ax.get_legend_handles_labels()[1] == ["best epoch", "last epoch"]
    assert marks(ax) == [(4.0, 1.0)]
    assert np.ravel(ax.lines[1].get_ydata()).tolist() == pytest.approx(np.exp(table["mean"]).tolist())


def test_colours_are_distinct_where_they_meet() -> None:
    rivals = [shade for method, shade in METHOD_COLOURS.items() if not method.startswith("joint")]
    assert len(set(rivals)) == len(rivals)
    assert colour("AdaTask") == colour("Adam") == METHOD_COLOURS["AdaTask-Adam"]
    assert len(set(task_colours("abcdefgh").values())) == 8
    with pytest.raises(ValueError, match="at most 8 tasks"):
        task_colours("abcdefghi")
