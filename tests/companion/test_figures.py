"""Figures are saved whole, with their numbers and their provenance, the same bytes each time."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.plots import figures
from companion.plots.sliders import Sliders
from companion.plots.style import use_style
from companion.store import manifest, paths
from matplotlib.figure import Figure
from PIL import Image

TABLE = pd.DataFrame({"step": [0, 1, 2], "loss": [1.0, 0.5, 0.25]})


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test writes below its own folder, without a window."""
    mpl.use("agg")
    monkeypatch.setenv("MTLCORE_FIGURES", str(tmp_path))
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    return tmp_path


def save(stem: str = "toy", table: pd.DataFrame = TABLE, notebook: str = "90_toy", profile: str = "fast") -> Path:
    use_style()
    fig, ax = plt.subplots()
    ax.plot(table["step"], table["loss"], label="loss")
    ax.set_title("Loss")
    try:
        return figures.save_figure(
            fig,
            stem,
            table,
            notebook=notebook,
            profile=profile,
            parameters={"steps": 3},
            seeds=[0, 1],
            data_checksums={"loans": "ab"},
        )
    finally:
        plt.close(fig)


def test_files_and_manifest_entry(place: Path) -> None:
    assert save() == place / "fast" / "toy.png"
    entry = json.loads((place / "fast" / "manifest.json").read_text())["figures"]["toy"]
    assert sorted(path.name for path in (place / "fast").iterdir()) == sorted([*entry["files"], "manifest.json"])
    assert entry["files"] == ["toy.png", "toy.pdf", "toy.csv"]
    assert entry["digest"] == hashlib.sha256((place / "fast" / "toy.csv").read_bytes()).hexdigest()
    assert {key: entry[key] for key in ("notebook", "profile", "parameters", "seeds", "data")} == {
        "notebook": "90_toy",
        "profile": "fast",
        "parameters": {"steps": 3},
        "seeds": [0, 1],
        "data": {"loans": "ab"},
    }
    assert entry["versions"].keys() == {"python", "torch", "numpy", "pandas", "matplotlib"}
    pd.testing.assert_frame_equal(pd.read_csv(place / "fast" / "toy.csv"), TABLE)


def test_same_figure_has_the_same_bytes(place: Path) -> None:
    save()
    first = {path.name: path.read_bytes() for path in (place / "fast").iterdir()}
    save()
    assert {path.name: path.read_bytes() for path in (place / "fast").iterdir()} == first
    save(table=TABLE.assign(loss=TABLE["loss"] + 1e-3))
    changed = {path.name: path.read_bytes() for path in (place / "fast").iterdir()}
    assert all(changed[name] != content for name, content in first.items())


def test_profiles_do_not_touch_each_other(place: Path) -> None:
    save(profile="full")
    before = (place / "full" / "manifest.json").read_bytes()
    save(table=TABLE.tail(2))
    assert (place / "full" / "manifest.json").read_bytes() == before


def test_records_and_empty_tables_are_refused_before_anything_is_written(place: Path) -> None:
    records = pd.DataFrame({"step": range(2001), "loss": 0.0})
    for table in (records, records.head(0)):
        with pytest.raises(ValueError, match="Summarise"):
            save(table=table)
    assert list(place.iterdir()) == []


def test_stem_of_another_notebook_is_refused(place: Path) -> None:
    save()
    before = {path.name: path.read_bytes() for path in (place / "fast").iterdir()}
    with pytest.raises(ValueError, match="a figure of notebook 90_toy"):
        save(notebook="91_other")
    assert {path.name: path.read_bytes() for path in (place / "fast").iterdir()} == before


def test_two_processes_at_once_lose_no_entry(place: Path) -> None:
    script = """
import sys, matplotlib; matplotlib.use("agg")
import matplotlib.pyplot as plt, pandas as pd
from companion.plots.figures import save_figure
fig, ax = plt.subplots(figsize=(1, 1))
for k in range(5):
    table = pd.DataFrame({"k": [k]})
    provenance = {"notebook": sys.argv[1], "profile": "fast", "parameters": {}, "seeds": [], "data_checksums": {}}
    save_figure(fig, f"{sys.argv[1]}_{k}", table, **provenance)
"""
    running = [subprocess.Popen([sys.executable, "-c", script, name], cwd=paths.NOTEBOOKS) for name in ("one", "two")]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert set(manifest.read_manifest(place / "fast")) == {f"{name}_{k}" for name in ("one", "two") for k in range(5)}


def test_publish_replaces_the_figures_of_the_notebook_and_of_no_other(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("gone")
    save("kept")
    save("others", notebook="91_other")
    monkeypatch.setenv("MTLCORE_FIGURES", str(place / "staged"))
    save("kept", TABLE.head(2))
    (place / "staged" / "fast" / "90_runs.json").write_text("{}")
    made = manifest.publish(place / "staged", "fast", "90_toy")
    assert [Path(name).name for name in made] == ["kept.png", "kept.pdf", "kept.csv", "90_runs.json"]
    assert set(manifest.read_manifest(place / "fast")) == {"kept", "others"}
    assert len(pd.read_csv(place / "fast" / "kept.csv")) == 2
    assert not list((place / "fast").glob("gone.*"))


def test_run_that_saves_under_another_profile_is_refused(place: Path) -> None:
    save(profile="full")
    with pytest.raises(ValueError, match="Pass the parameter `profile` on"):
        manifest.publish(place, "fast", "90_toy")


def test_the_published_runs_are_drawn_into_the_full_runs_folder(place: Path) -> None:
    save(profile="published")
    assert manifest.read_manifest(place / "full")["toy"]["profile"] == "full"


def test_a_notebook_run_by_hand_leaves_the_figures_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTLCORE_FIGURES")
    monkeypatch.setattr(paths, "BUILD", place / "build")
    assert save(profile="full") == place / "build" / "figures" / "full" / "toy.png"


def test_shown_images_are_small_and_look_alike(place: Path) -> None:
    image = save()
    shown = figures.half_size(image)
    small, full = Image.open(io.BytesIO(shown)), Image.open(image)
    assert small.size == (full.width // 2, full.height // 2)
    off = np.abs(np.asarray(small.convert("L"), float) - np.asarray(full.convert("L").reduce(2), float))
    assert off.mean() < 1  # of 255: 256 colours are enough for a figure
    assert len(shown) < image.stat().st_size / 2


def test_a_notebook_shows_the_saved_image_by_its_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[dict[str, str], dict[str, str]]] = []
    monkeypatch.setattr(figures, "get_ipython", object)
    monkeypatch.setattr(figures, "display", lambda bundle, raw, metadata: shown.append((bundle, metadata)))
    before = plt.get_fignums()
    image = save()
    ((bundle, metadata),) = shown
    assert base64.b64decode(bundle["image/png"]) == figures.half_size(image)
    assert bundle.keys() == {"image/png", "text/plain"}
    assert metadata == {"figure": "toy"}
    assert plt.get_fignums() == before  # nothing is left for plt.show() to draw once more


def test_sliders_begin_with_the_saved_image_and_draw_what_they_are_moved_to() -> None:
    use_style()
    drawn: list[tuple[float, int]] = []

    def draw(size: float, seed: int) -> Figure:
        drawn.append((size, seed))
        return plt.subplots()[0]

    before = plt.get_fignums()
    sliders = Sliders(draw, {"size": ([0.1, 0.2], 0.2), "seed": (range(3), 0)})
    size, seed, image = sliders.above(b"the saved image").children
    assert (size.value, seed.value, image.value, drawn) == (0.2, 0, b"the saved image", [])
    size.value, seed.value = 0.1, 2
    assert drawn == [(0.1, 0), (0.1, 2)]
    assert Image.open(io.BytesIO(image.value)).format == "PNG"
    assert plt.get_fignums() == before


def test_the_users_own_settings_change_nothing(place: Path) -> None:
    before = save().read_bytes()
    mpl.rcParams.update({"text.usetex": True, "font.family": "serif", "lines.marker": "x", "axes.facecolor": "red"})
    assert save().read_bytes() == before


def test_committed_figures_are_those_of_their_manifest() -> None:
    folder = paths.ROOT / "figures" / "full"
    entries = manifest.read_manifest(folder)
    listed = {name for entry in entries.values() for name in entry["files"]}
    found = {path.name for path in folder.glob("*")} if folder.exists() else set()
    runs = {name for name in found if re.fullmatch(r"\d\d_runs\.(csv\.xz|json)", name)}  # each with its own digest
    assert (
        found - runs - {"manifest.json", "bench.csv", "bench.md"} == listed
    )  # the benchmarks' table says itself how it came
    for stem, entry in entries.items():
        assert entry["profile"] == "full"
        assert hashlib.sha256((folder / f"{stem}.csv").read_bytes()).hexdigest() == entry["digest"], stem
        assert (paths.NOTEBOOKS / f"{entry['notebook']}.ipynb").exists(), stem
