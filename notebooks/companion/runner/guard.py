"""The notebook guard: what nbval does not see.

nbval passes a notebook that was never executed, a misspelt marker, and outputs that belong to an earlier version of the
source. `guard` reads a committed notebook and names each thing that would let it be green while it tests nothing.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from companion.runner.inputs import cells_digest

CHECKED, IGNORED = "nbval-check-output", "nbval-ignore-output"
REASON = "# not compared:"  # the comment that says why an ignored cell's output may differ
# A slash (or a drive letter) that begins a word and leads through a folder: "/a/b", not "1/2" or "</td>".
ABSOLUTE_PATH = re.compile(r"""(?:^|[\s'"=(\[])((?:file:/)?/[\w.+~-]+/[\w.+~-]+|[A-Za-z]:\\\w+)""")
LINK = re.compile(r"""\]\(\s*<?([^)\s>]+)|(?:src|href)=["']([^"']+)""")


def guard(path: Path) -> list[str]:
    """Everything that is wrong with a committed notebook, one sentence each; an empty list when nothing is."""
    notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    return [*_whole(notebook), *_prose(notebook, Path(path).parent), *_parameters(notebook), *_cells(notebook)]


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _tags(cell: dict[str, Any]) -> list[str]:
    tags: list[str] = cell["metadata"].get("tags", [])
    return tags


def _code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _text(output: dict[str, Any]) -> str:
    """What an output shows as text: a stream, or the text forms of a displayed object."""
    data = output.get("data", {})
    parts = [output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")]
    return "\n".join("".join(part) for part in parts)


def _whole(notebook: dict[str, Any]) -> Iterator[str]:
    metadata = notebook["metadata"]
    if metadata.get("kernelspec", {}).get("name") != "python3":
        yield "The kernel should be `python3`, which every installation has."
    if "papermill" in metadata or any("papermill" in cell["metadata"] for cell in notebook["cells"]):
        yield "Metadata of papermill are left. Run make record."
    if metadata.get("mtlcore", {}).get("source_digest") != cells_digest(notebook, ["code"]):
        yield "The outputs do not belong to this source. Run make record."
    counts = [cell.get("execution_count") for cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"The code cells should be executed 1 to {len(counts)} in order. Found {counts}. Run make record."
    checked = [cell for cell in _code(notebook) if CHECKED in _tags(cell)]
    printed = "".join(_text(output) for cell in checked for output in cell["outputs"])
    if not re.search(r"\d", printed):
        yield f"At least one cell tagged `{CHECKED}` should print numbers."


def _prose(notebook: dict[str, Any], folder: Path) -> Iterator[str]:
    markdown = [_source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    if not (notebook["cells"] and notebook["cells"][0]["cell_type"] == "markdown" and markdown[0].startswith("# ")):
        yield "The first cell should be the title, a heading that begins with `# `."
    prose = "\n".join(markdown)
    for words in ("paper", "our design"):
        if words not in prose.lower():
            yield f"The text should say what is the paper's and what is our design. It never says `{words}`."
    for match in LINK.finditer(prose):
        target = (match[1] or match[2]).split("#")[0]
        elsewhere = re.match(r"[a-z]+:", target)
        if target and not elsewhere and not (folder / target).exists():
            yield f"The link to `{target}` leads nowhere."


def _parameters(notebook: dict[str, Any]) -> Iterator[str]:
    tagged = [_source(cell) for cell in _code(notebook) if "parameters" in _tags(cell)]
    if len(tagged) != 1:
        yield f"One cell should be tagged `parameters`. Found {len(tagged)}."
        return
    for name, default in (("profile", "published"), ("device", "auto")):
        if not re.search(rf"""^{name} = ["']{default}["']""", tagged[0], re.MULTILINE):
            yield f'The parameters should have `{name} = "{default}"`.'


def _cells(notebook: dict[str, Any]) -> Iterator[str]:
    for number, cell in enumerate(_code(notebook), start=1):
        source, tags, outputs = _source(cell), _tags(cell), cell["outputs"]
        where = f"Code cell {number}"
        if not outputs and (CHECKED in tags or _shows_something(source)):
            yield f"{where} shows something, but no output is recorded. Run make record."
        if "NBVAL_" in source:
            yield f"{where} has a marker of nbval as a comment, which is easily misspelt. Use a tag: `{CHECKED}`."
        if "raises-exception" in tags:
            yield f"{where} is tagged `raises-exception`, a failure to papermill. Show the error with try and print."
        if IGNORED in tags and REASON not in source:
            yield f"{where} is tagged `{IGNORED}` without a reason. Write one: `{REASON} ...`."
        for output in outputs:
            if output.get("name") == "stderr" or output["output_type"] == "error":
                yield f"{where} wrote to stderr or failed: {_text(output).strip()[:80] or output.get('evalue')}"
            if {"image/svg+xml", "application/pdf"} & output.get("data", {}).keys():
                yield f"{where} shows SVG or PDF, which nbval compares byte by byte. Show PNG."
            if "image/png" in output.get("data", {}) and not output["metadata"].get("alt"):
                yield f"{where} shows an image without words for who does not see it. Run make record."
            found = ABSOLUTE_PATH.search(_text(output))
            if found:
                yield f"{where} shows the path `{found[1]}` of one machine."


def _shows_something(source: str) -> bool:
    """Whether a cell certainly has an output: it prints outside any function, or ends in a value that no call makes."""
    body = ast.parse(re.sub(r"^[%!].*$", "pass", source, flags=re.MULTILINE)).body
    definitions = (ast.FunctionDef, ast.ClassDef)
    for node in (node for top in body if not isinstance(top, definitions) for node in ast.walk(top)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "display"):
            return True
    last = body[-1] if body else None
    ends_in_value = isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call | ast.Constant)
    return ends_in_value and not source.rstrip().endswith(";")
