"""Lay out `build/book/source` for Sphinx: the committed notebooks and texts, with links that lead within the book.

Nothing is executed. Below each figure stands where it comes from: its numbers, the runs behind it, seeds, checksums of
data, and the cell that made it. What a text links to and is no page (a claims file, code) comes along as a file.

    python book/stage.py
"""

import json
import re
import shutil
from html import escape
from os.path import relpath
from pathlib import Path
from typing import Any

import launch
from links import relinked

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "book" / "source"
FIGURES = ROOT / "figures" / "full"
PAGES = {  # text of the project -> page of the book
    "README.md": "index.md",
    "RECIPES.md": "recipes.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "figures/full/bench.md": "bench.md",
    "notebooks/claims/README.md": "claims.md",
    "notebooks/companion/data/README.md": "data.md",
    "notebooks/companion/data/bundled/README.md": "bundled.md",
    **{f"book/{name}.md": f"{name}.md" for name in ("guide", "use", "api", "teach", "replicate")},
    "tests/mutants/MUTANTS.md": "mutants.md",
}
CONTENTS = {  # part of the book -> its pages, in reading order
    "Start": ["guide"],
    "The evidence": ["notebooks/*", "Register of claims <claims>", "data", "bundled"],
    "Use": ["use", "recipes", "api", "Benchmarks <bench>"],
    "Teach, replicate, contribute": ["teach", "replicate", "contributing", "mutants", "changelog"],
}
SHORT = 3  # lines of code up to which a cell stays unfolded
TEACHING = ("01_", "05_")  # notebooks that unfold all code but imports and drawing


def page_of(path: Path) -> str | None:
    """The page that a file of the project is, from the book's root; None where it is none."""
    name = path.relative_to(ROOT).as_posix()
    return name if path.parent == ROOT / "notebooks" and path.suffix == ".ipynb" else PAGES.get(name)


def with_links(text: str, origin: Path, page: str) -> str:
    """A Markdown text whose relative links lead to pages and files of the book.

    Args:
        text: Markdown; what stands in code is left alone.
        origin: The file that it comes from, or one beside it.
        page: The page that it becomes.

    Raises:
        ValueError: A link leads to nothing.
    """

    def changed(bang: str, words: str, target: str) -> str:
        name, sign, fragment = target.partition("#")
        place = sign + re.sub(r"[^\w-]", "", fragment.lower())  # JupyterLab keeps capitals and signs, Sphinx does not
        if not name:
            return f"{bang}[{words}]({place})"
        path = (origin.parent / name).resolve()
        if not path.exists():
            raise ValueError(f"{origin.relative_to(ROOT)} should link to what there is. Found {target!r}. Mend it.")
        if path.is_dir() and (path / "README.md").exists():
            path /= "README.md"
        other = page_of(path)
        if other is not None:
            return f"{bang}[{words}]({relpath(other, Path(page).parent)}{place})"
        if path.is_dir():
            return words
        file = path.relative_to(ROOT).as_posix()
        if bang:
            _copy(path, SOURCE / "images" / path.name)
            return f"![{words}]({relpath(f'images/{path.name}', Path(page).parent)})"
        _copy(path, SOURCE / "_extra" / "files" / file)
        return f'<a href="{relpath(f"files/{file}", Path(page).parent)}">{words.replace("`", "")}</a>'

    return relinked(text, changed)


def notebook_page(path: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """A notebook as a page: links within the book, long code folded, and each figure's origin below it."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    page = f"notebooks/{path.name}"
    cells = []
    for number, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            cells.append({**cell, "source": with_links(source, path, page)})
            continue
        shown = [(output, output.get("metadata", {}).get("figure")) for output in cell["outputs"]]
        if any(stem for _, stem in shown):
            anchor = f'<a id="cell-{number}"></a>'
            cells.append({"cell_type": "markdown", "id": f"origin-{number}", "metadata": {}, "source": anchor})
        metadata = cell["metadata"]
        tags = list(metadata.get("tags", []))
        what = folded(source)
        if source.count("\n") >= SHORT and (what != "code" or not path.name.startswith(TEACHING)):
            tags.append("hide-input")
        alt = next((output["metadata"]["alt"] for output, _ in shown if "alt" in output.get("metadata", {})), None)
        shown_as: dict[str, Any] = {"mystnb": {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}}
        if alt:
            shown_as["mystnb"]["image"] = {"alt": alt}
        outputs = []
        for output, stem in shown:
            outputs.append(output)
            if stem:
                html = origin_of(stem, figures[stem], number)
                outputs.append({"output_type": "display_data", "metadata": {}, "data": {"text/html": html}})
        cells.append({**cell, "outputs": outputs, "metadata": {**metadata, **shown_as, "tags": tags}})
    return {**notebook, "cells": cells}


def folded(source: str) -> str:
    """What a cell's code is, in the words of the bar that unfolds it."""
    if "sys.path" in source:
        return "imports and settings"
    return "the code that draws this" if "save_figure(" in source else "code"


def origin_of(stem: str, entry: dict[str, Any], cell: int) -> str:
    """Where a figure comes from, as HTML on the page of its notebook."""
    runs = f"{stem[:2]}_runs.csv.xz"
    parts = [f'<a href="#cell-{cell}">the cell that made it</a>']
    files = (f"{stem}.png", f"{stem}.csv", f"{stem}.pdf", runs)
    for what, file in zip(("full size", "numbers (CSV)", "PDF", "runs, seed by seed"), files, strict=True):
        if (FIGURES / file).exists():
            _copy(FIGURES / file, SOURCE / "_extra" / "figures" / file)
            parts.append(f'<a href="../figures/{file}">{what}</a>')
    seeds = entry["seeds"]
    parts.append(f"{len(seeds)} seed{'s' * (len(seeds) != 1)}")
    parts += [f"{escape(name)} <code>{value[:12]}</code>" for name, value in entry["data"].items()]
    parts.append(f"numbers <code>{entry['digest'][:12]}</code>")
    return f'<p class="origin"><b>{stem}</b>: {", ".join(parts)}</p>'


def contents() -> str:
    """The tables of contents, for the sidebar."""
    lines = []
    for part, pages in CONTENTS.items():
        lines += ["", "```{toctree}", ":hidden:", f":caption: {part}", ":glob:", "", *pages, "```"]
    return "\n".join(lines) + "\n"


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)


def _write(notebook: dict[str, Any], to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    """Write the source anew."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "book" / "_static", SOURCE / "_static")
    (SOURCE / "_extra").mkdir()
    _copy(ROOT / "book" / "conf.py", SOURCE / "conf.py")
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = with_links(text, ROOT / name, page) + (contents() if page == "index.md" else "")
        (SOURCE / page).write_text(text, encoding="utf-8")
    figures = json.loads((FIGURES / "manifest.json").read_text(encoding="utf-8"))["figures"]
    repository = launch.address()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = notebook_page(path, figures)
        if repository:
            line = launch.links(path.name, repository)
            notebook["cells"].insert(1, {"cell_type": "markdown", "id": "launch", "metadata": {}, "source": line})
            _write(launch.hosted(path, repository), SOURCE / "_extra" / "hosted" / path.name)
        _write(notebook, SOURCE / "notebooks" / path.name)


if __name__ == "__main__":
    main()
