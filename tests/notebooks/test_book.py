"""The book's pages: links lead within it, figures say where they come from, and what leads nowhere is told."""

import json
import runpy
from pathlib import Path
from typing import Any

import doi
import pytest
import yaml
from companion.store.paths import ROOT

import mtlcore

STAGE = runpy.run_path(str(ROOT / "book" / "stage.py"))
CRATE = runpy.run_path(str(ROOT / "book" / "crate.py"))
CHECK = runpy.run_path(str(ROOT / "book" / "check.py"))


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(STAGE["with_links"].__globals__, "SOURCE", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("origin", "page", "text", "expected"),
    [
        ("README.md", "index.md", "[x](notebooks/00_overview.ipynb)", "[x](notebooks/00_overview.ipynb)"),
        ("README.md", "index.md", "[x](RECIPES.md#torchcompile)", "[x](recipes.md#torchcompile)"),
        ("notebooks/02.ipynb", "notebooks/02.ipynb", "[x](../README.md)", "[x](../index.md)"),
        ("notebooks/02.ipynb", "notebooks/02.ipynb", "[x](claims/README.md)", "[x](../claims.md)"),
        ("notebooks/02.ipynb", "notebooks/02.ipynb", "[x](#What-is-it?)", "[x](#what-is-it)"),
        ("README.md", "index.md", "[a page](https://example.org/a)", "[a page](https://example.org/a)"),
        ("README.md", "index.md", "`[x](y)` and\n```python\nf[x](y)\n```", "`[x](y)` and\n```python\nf[x](y)\n```"),
    ],
)
def test_links_lead_to_pages(source: Path, origin: str, page: str, text: str, expected: str) -> None:
    assert STAGE["with_links"](text, ROOT / origin, page) == expected


def test_a_file_that_is_no_page_comes_along(source: Path) -> None:
    found = STAGE["with_links"]("[claims](claims/02.toml)", ROOT / "notebooks" / "02.ipynb", "notebooks/02.ipynb")
    assert found == '<a href="../files/notebooks/claims/02.toml">claims</a>'
    copied = source / "_extra" / "files" / "notebooks" / "claims" / "02.toml"
    assert copied.read_bytes() == (ROOT / "notebooks" / "claims" / "02.toml").read_bytes()


def test_a_link_to_nothing_is_refused(source: Path) -> None:
    with pytest.raises(ValueError, match=r"README.md should link to what there is. Found 'gone.md'"):
        STAGE["with_links"]("[x](gone.md)", ROOT / "README.md", "index.md")


def test_below_each_figure_stands_where_it_comes_from(source: Path) -> None:
    figures = json.loads((ROOT / "figures" / "full" / "manifest.json").read_text(encoding="utf-8"))["figures"]
    stem = next(stem for stem in figures if stem.startswith("02_"))
    image = {"output_type": "display_data", "data": {"image/png": ""}, "metadata": {"figure": stem, "alt": "A curve."}}
    cell: dict[str, Any] = {"cell_type": "code", "source": ["draw()"], "metadata": {}, "outputs": [image]}
    (source / "made.ipynb").write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    anchor, drawn = STAGE["notebook_page"](source / "made.ipynb", figures)["cells"]
    assert anchor["source"] == '<a id="cell-0"></a>'
    assert drawn["metadata"]["mystnb"]["image"]["alt"] == "A curve."
    origin = drawn["outputs"][1]["data"]["text/html"]
    for file in (f"{stem}.csv", f"{stem}.pdf", "02_runs.csv.xz"):
        assert f'href="../figures/{file}"' in origin
        assert (source / "_extra" / "figures" / file).exists()
    assert figures[stem]["digest"][:12] in origin
    assert 'href="#cell-0"' in origin


def test_what_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<h1 id="here">b</h1>', encoding="utf-8")
    links = ("b.html#here", "b.html#there", "c.html", "https://example.org", "b.html")
    (tmp_path / "a.html").write_text("".join(f'<a href="{link}">x</a>' for link in links), encoding="utf-8")
    assert CHECK["problems"](tmp_path) == [
        "a.html links to b.html#there, and there is no such place on that page.",
        "a.html links to c.html, and there is no such file.",
    ]


def test_the_crate_ties_each_figure_to_what_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CRATE["main"].__globals__, "CRATE", tmp_path / "crate")
    CRATE["main"]()
    graph = json.loads((tmp_path / "crate" / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    figures = json.loads((ROOT / "figures" / "full" / "manifest.json").read_text(encoding="utf-8"))["figures"]
    for stem, entry in figures.items():
        made = entities[f"#made-{stem}"]
        assert [result["@id"] for result in made["result"]] == [f"figures/full/{name}" for name in entry["files"]]
        assert {"@id": f"notebooks/{entry['notebook']}.ipynb"} in made["instrument"]
        objects = [entities[thing["@id"]] for thing in made["object"]]
        assert {thing["sha256"] for thing in objects if "sha256" in thing} == set(entry["data"].values())
        (seeds,) = (thing["value"] for thing in objects if thing.get("name") == "seeds")
        assert json.loads(seeds) == entry["seeds"]
    files = [entity for entity in graph if "File" in entity["@type"]]
    assert all((tmp_path / "crate" / entity["@id"]).stat().st_size == entity["contentSize"] for entity in files)


def test_what_a_doi_asks_for_comes_from_the_citation() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    made = doi.metadata(cited, "An archive", 2030)
    # What DataCite 4.5 makes obligatory, but for the DOI itself.
    obligatory = {"types", "creators", "titles", "publisher", "publicationYear", "schemaVersion"}
    assert obligatory <= {name for name, value in made.items() if value}
    assert made["titles"] == [{"title": cited["title"]}]
    assert (made["publisher"], made["publicationYear"], made["version"]) == ({"name": "An archive"}, "2030", "0.1.0")
    papers = [paper["relatedIdentifier"] for paper in made["relatedIdentifiers"]]
    assert papers == ["arXiv:2008.11643", "10.1007/s10489-022-03695-x", "arXiv:2211.15055"]


def test_the_version_is_the_same_everywhere() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version = "{cited["version"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_reference_has_all_that_is_public() -> None:
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    assert [name for name in mtlcore.__all__ if f":: mtlcore.{name}\n" not in text] == []
