"""Figures of the tabular study on made-up tables: what is drawn where, in which colour, and that nothing overlaps."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.plots.style import use_style
from companion.studies.tabular.figures import (
    SHARE_PANELS,
    draw_calibration,
    draw_labels,
    draw_share_measures,
    draw_shares,
    draw_weight_paths,
    metric_panel,
)
from companion.studies.tabular.report import paired_differences
from companion.studies.tabular.summaries import calibration_means, label_benefit, share_histogram
from companion.studies.tabular.summary_figure import Summary, draw_summary
from matplotlib.figure import Figure
from matplotlib.text import Text

METHODS = ["single task", "equal weights", "static grid", "cosine gate", "HydaLearn"]
SMALLEST = {"test log loss": 0.005, "test AUC": 0.01}


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def made_runs(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (method, split, metric, level + 0.01 * number + 0.004 * rng.normal())
        for number, method in enumerate(METHODS)
        for split in range(5)
        for metric, level in (("test log loss", 0.45), ("test AUC", 0.79))
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "metric", "value"])


def made_summary() -> Summary:
    rng = np.random.default_rng(0)
    runs = made_runs(0)
    course = [(s, e, 0.3 / e + 0.02 * s) for s in range(5) for e in range(1, 6)]
    shares = [(s, step, max(0.0, rng.normal(0.2, 0.2))) for s in range(5) for step in (25, 100) for _ in range(50)]
    bins = [
        (method, s, b, metric, value)
        for method in ("single task", "HydaLearn")
        for s in range(5)
        for b in range(1, 6)
        for metric, value in (("predicted", b / 6), ("observed", b / 6 + 0.01 * s), ("rows", 364.0))
    ]
    words = {
        "claim": "H1-match-mortality",
        "counts from": "at least 0.3",
        "comparisons": "2 of 14",
        "found, 95 % interval": "0.1 [0.0, 0.2]",
    }
    return Summary(
        differences=paired_differences(runs, "HydaLearn", METHODS[:-1], test_to_train=1 / 3),
        smallest=SMALLEST,
        curves=pd.DataFrame(course, columns=["seed", "epoch", "share"]),
        levels={"equal weights": 0.5, "static grid": 0.49},
        histogram=share_histogram(pd.DataFrame(shares, columns=["seed", "step", "share"])),
        bins=calibration_means(
            pd.DataFrame(bins, columns=["method", "seed", "bin", "metric", "value"]), test_to_train=1 / 3
        ),
        verdicts=pd.DataFrame([{**words, "verdict": v} for v in ("holds", "undecided")]),
        benefit=label_benefit({100: runs, 5463: made_runs(1)}, METHODS[1:], "single task", test_to_train=1 / 3),
    )


def texts(fig: Figure) -> list[str]:
    found = fig.findobj(lambda artist: isinstance(artist, Text))
    return [text.get_text() for text in found if isinstance(text, Text)]


def overlapping(fig: Figure, axes_number: int) -> list[tuple[str, str]]:
    """Pairs of annotations of an axes that cover each other."""
    fig.canvas.draw()
    ax = fig.axes[axes_number]
    boxes = [(t.get_text(), t.get_window_extent()) for t in ax.texts if t.get_text()]
    return [(a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[i + 1 :] if box.overlaps(other)]


def test_metric_panels_point_to_what_is_better() -> None:
    loss, auc = (metric_panel(metric, least) for metric, least in SMALLEST.items())
    assert (loss.unit, loss.lower_is_better) == ("difference in test log loss (nats)", True)
    assert (auc.unit, auc.lower_is_better, auc.smallest) == ("difference in test AUC", False, 0.01)


def test_share_measures_have_a_row_per_design_and_step() -> None:
    rows = [
        {"design": design, "step": step, "measure": measure, "mean": 0.1 * place, "low": 0.0, "high": 0.5}
        for place, (design, step) in enumerate([("a", 5), ("a", 10), ("b", 5)])
        for measure in SHARE_PANELS
    ]
    axes = draw_share_measures(pd.DataFrame(rows)).axes
    assert len(axes) == len(SHARE_PANELS)
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["a, step 5", "a, step 10", "b, step 5"]


def test_weight_paths_show_every_split_and_labels_stay_apart() -> None:
    summary = made_summary()
    fig = draw_weight_paths(summary.curves, summary.levels, "Made up")
    ax = fig.axes[0]
    thin = [line for line in ax.lines if line.get_linewidth() < 1]
    assert len(thin) == 5
    thick = max(ax.lines, key=lambda line: line.get_linewidth())
    assert np.asarray(thick.get_ydata()) == pytest.approx([0.3 / e + 0.04 for e in range(1, 6)])
    assert overlapping(fig, 0) == []  # equal weights 0.50 and static grid 0.49 would lie on each other


def test_distribution_has_a_line_and_a_point_at_zero_per_step() -> None:
    fig = draw_shares(made_summary().histogram, "Made up")
    legend = fig.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["step 25", "step 100"]


def test_calibration_says_how_many_rows_a_point_stands_for() -> None:
    fig = draw_calibration(made_summary().bins, "Made up")
    assert fig.axes[0].get_xlabel() == "predicted probability\n(364 test rows per point)"


def test_gains_by_labels_have_a_panel_per_metric_and_number_of_labels() -> None:
    benefit = made_summary().benefit
    assert benefit is not None
    fig = draw_labels(benefit, "Made up")
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["100 labels", "all 5,463 labels"] * 2
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == METHODS[1:]


@pytest.mark.parametrize("scarce", [True, False])
def test_summary_is_one_page_of_named_panels(scarce: bool) -> None:
    summary = made_summary()
    if not scarce:
        summary = Summary(**{**vars(summary), "benefit": None})
    fig = draw_summary(summary, "Made up")
    assert len(fig.axes) == (8 if scarce else 6)
    assert fig.get_figheight() < 14
    found = texts(fig)
    assert ("H3: gain over the single task by number of main labels" in found) == scarce
    assert {"holds", "undecided", "H1-match-mortality"} <= set(found)
    assert overlapping(fig, 0) == []
