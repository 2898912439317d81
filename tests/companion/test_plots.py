"""Each kind of figure draws what its table says."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.plots.forest import Panel, draw_forest
from companion.plots.over_scale import draw_over_scale
from companion.plots.style import METHOD_COLOURS, colour, end_labels, task_colours, use_style
from companion.plots.switch_off import draw_switch_off
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
