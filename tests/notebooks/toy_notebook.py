"""A small notebook that keeps every rule, for the tests of the runner and of the guard."""

import json
from pathlib import Path
from typing import Any

PARAMETERS = (
    'profile = "published"  # or "fast", "full"\ndevice = "auto"\nsteps = 5\nlr = 1e-3\nseeds = [0, 1]\nlimit = None'
)
FIGURE = """import matplotlib.pyplot as plt
import pandas as pd

from companion.plots.figures import save_figure

table = pd.DataFrame({"step": range(steps), "loss": [0.5**k for k in range(steps)]})
fig, ax = plt.subplots()
ax.plot(table.step, table.loss)
provenance = {"parameters": {"steps": steps}, "seeds": [0], "data_checksums": {}}
save_figure(fig, "toy_loss", table, notebook="toy", profile=profile, **provenance)
plt.show()"""


def code(source: str, *tags: str) -> dict[str, Any]:
    """A code cell that was not executed."""
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"c{abs(hash(source)) % 10**8}",
        "metadata": {"tags": list(tags)} if tags else {},
        "outputs": [],
        "source": source,
    }


def toy(*cells: dict[str, Any], parameters: str = PARAMETERS) -> dict[str, Any]:
    """A notebook of a title, a parameters cell, a cell that prints numbers under check, and the given cells."""
    title = "# Toy\n\nThe paper has no such thing: it is our design."
    return {
        "cells": [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": title},
            code(parameters, "parameters"),
            code("print(f'{steps} steps, {lr:.4f}')", "nbval-check-output"),
            *cells,
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write(path: Path, notebook: dict[str, Any]) -> Path:
    """Write a notebook, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path
