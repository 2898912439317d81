"""The primary rows in one picture: a line per question, HydaLearn's and AdaTask's in two blocks."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from companion.claims.register import OURS
from companion.plots.effects import draw_rows, height_of
from companion.plots.style import head


def draw_verdicts(lines: pd.DataFrame) -> Figure:
    """Draw the primary rows.

    Args:
        lines: Of `companion.claims.lines.lines`.
    """
    blocks = {"H": "HydaLearn", "A": "AdaTask", OURS[0]: "The two together"}
    rows = lines[lines["kind"] == "primary"]
    rows = rows.assign(block=[blocks[group[0]] for group in rows["group"]], label=rows["domain"] + ": " + rows["label"])
    fig, ax = plt.subplots(figsize=(9.9, 1.1 + height_of(rows)))
    draw_rows(ax, rows, (205, 205))
    return head(
        fig,
        "Do the papers' claims hold? One line per question and kind of data\n"
        "mark and line: mean and 95 % interval, of several comparisons those of the one that decides",
    )
