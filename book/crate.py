"""Write `build/crate/`, an RO-Crate 1.1 of the evidence: each figure tied to its notebook, runs, parameters and data.

Sources are the manifest of `figures/full/`, the register of claims and CITATION.cff; nothing is typed here. A crate is
a folder with `ro-crate-metadata.json`, which archives such as Zenodo take as it is.

    python book/crate.py
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "figures" / "full"
CRATE = ROOT / "build" / "crate"
MIT = "https://spdx.org/licenses/MIT"
FORMATS = {
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".csv": "text/csv",
    ".xz": "application/x-xz",
    ".json": "application/json",
    ".ipynb": "application/x-ipynb+json",
    ".toml": "application/toml",
    ".md": "text/markdown",
}


class Evidence:
    """The crate in the making.

    Args:
        cited: Of CITATION.cff.
    """

    def __init__(self, cited: Mapping[str, Any]) -> None:
        """Begin with what is said of the whole."""
        self.crate = ROCrate(version="1.1")  # what archives read today
        self.crate.name, self.crate.description = cited["title"], cited["message"]
        self.crate.keywords = cited["keywords"]
        self.crate.license = self._entity(MIT, "CreativeWork", name="MIT licence")
        self.crate.creator = [self._entity(f"#{a['name']}", "Organization", name=a["name"]) for a in cited["authors"]]
        papers = [
            self._entity(paper.get("doi", f"#{paper['title']}"), "ScholarlyArticle", name=paper["title"])
            for paper in cited["references"]
        ]
        self.crate.root_dataset["citation"] = papers
        self.crate.root_dataset["version"] = cited["version"]

    def _entity(self, identifier: str, kind: str, **properties: Any) -> Any:
        known = self.crate.dereference(identifier)
        return known or self.crate.add(ContextEntity(self.crate, identifier, properties={"@type": kind, **properties}))

    def file(self, path: Path, kind: str | None = None) -> Any:
        """Take a file in, once, where it lies in the project."""
        place = path.relative_to(ROOT).as_posix()
        properties = {"name": path.name, "encodingFormat": FORMATS[path.suffix], "contentSize": path.stat().st_size}
        if kind:
            properties["@type"] = ["File", kind]
        return self.crate.dereference(place) or self.crate.add_file(path, place, properties=properties)

    def figure(self, stem: str, entry: Mapping[str, Any]) -> None:
        """Take in a figure with the action that made it: with which code, from which runs, parameters and data."""
        number = stem[:2]
        sources = [FIGURES / f"{number}_runs.csv.xz", FIGURES / f"{number}_runs.json"]
        sources += [ROOT / "notebooks" / "claims" / f"{number}.toml"]
        objects = [self.file(path) for path in sources if path.exists()]
        objects += [
            self._entity(f"#data-{name.replace(' ', '-')}", "Dataset", name=name, sha256=checksum)
            for name, checksum in entry["data"].items()
        ]
        values = {**entry["parameters"], "seeds": entry["seeds"]}
        objects += [
            self._entity(f"#{stem}-{name}", "PropertyValue", name=name, value=json.dumps(value))
            for name, value in values.items()
        ]
        software = [
            self._entity(f"#{name}-{version}", "SoftwareApplication", name=name, softwareVersion=version)
            for name, version in entry["versions"].items()
        ]
        notebook = self.file(ROOT / "notebooks" / f"{entry['notebook']}.ipynb", "SoftwareSourceCode")
        made = [self.file(FIGURES / name) for name in entry["files"]]
        name = f"{stem}, {entry['profile']} profile"
        tools = [notebook, *software]
        self._entity(f"#made-{stem}", "CreateAction", name=name, instrument=tools, object=objects, result=made)


def main() -> None:
    """Write the crate anew."""
    evidence = Evidence(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")))
    for name in ("README.md", "notebooks/claims/README.md", "notebooks/companion/data/README.md"):
        evidence.file(ROOT / name)
    figures = json.loads((FIGURES / "manifest.json").read_text(encoding="utf-8"))["figures"]
    for stem, entry in figures.items():
        evidence.figure(stem, entry)
    shutil.rmtree(CRATE, ignore_errors=True)
    evidence.crate.write(CRATE)
    size = sum(path.stat().st_size for path in CRATE.rglob("*") if path.is_file()) / 1e6
    print(f"{len(figures)} figures, {len(evidence.crate.data_entities)} files, {size:.0f} MB: {CRATE}")


if __name__ == "__main__":
    main()
