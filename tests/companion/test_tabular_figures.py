"""Figures of the tabular study on made-up tables: what is drawn where."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.plots.style import METHOD_COLOURS, use_style
from companion.studies.tabular.figures import SHARES, draw_designs, draw_shares


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def test_designs_have_a_panel_each_in_per_cent_with_the_rival() -> None:
    rows = pd.DataFrame({"reference": ["single task"], "mean": [np.log(1.02)], "low": [0.0], "high": [np.log(1.05)]})
    fig = draw_designs({"a": rows.assign(rival=np.log(1.03)), "b": rows.assign(rival=np.nan)}, 0.01, "Made up")
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["a", "b"]
    marks = [[line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"] for ax in fig.axes]  # type: ignore[index]
    assert marks[0] == pytest.approx([3.0])
    assert marks[1] == []
    assert "diamond" in fig.get_suptitle()


def test_shares_have_a_line_per_measure_over_the_steps() -> None:
    rows = [
        {"design": design, "step": step, "measure": measure, "mean": 0.3, "low": 0.1, "high": 0.5}
        for design in ("a", "b")
        for step in (20, 80, 160)
        for measure in (*SHARES, "sd")
    ]
    axes = draw_shares(pd.DataFrame(rows), 80, 0.1).axes
    assert [len(ax.lines) for ax in axes] == [3, 3]
    assert axes[0].lines[0].get_xdata().tolist() == [20, 80, 160]  # type: ignore[union-attr]
    assert axes[0].lines[1].get_color() == METHOD_COLOURS["HydaLearn"]
    assert len(axes[0].figure.legends[0].get_texts()) == 3
