"""Write `build/datacite.json`: what an archive asks for before it gives a DOI, as DataCite 4.5 has it.

All of it is taken from CITATION.cff, but the publisher, which is the archive, and the year, which is the deposit's.

    python book/doi.py ARCHIVE
"""

import json
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SPDX = {"rightsIdentifierScheme": "SPDX", "schemeUri": "https://spdx.org/licenses/"}


def metadata(cited: Mapping[str, Any], archive: str, year: int) -> dict[str, Any]:
    """The metadata of a deposit.

    Args:
        cited: Of CITATION.cff.
        archive: Name of the archive.
        year: Of the deposit.
    """
    papers = []
    for paper in cited["references"]:
        arxiv = paper["notes"].split("arXiv ")[1]
        papers.append({"relatedIdentifier": f"arXiv:{arxiv}", "relatedIdentifierType": "arXiv"})
        if "doi" in paper:
            papers.append({"relatedIdentifier": paper["doi"], "relatedIdentifierType": "DOI"})
    return {
        "types": {"resourceTypeGeneral": "Software", "resourceType": "Code, runs and notebooks of a replication"},
        "creators": [{"name": author["name"], "nameType": "Organizational"} for author in cited["authors"]],
        "titles": [{"title": cited["title"]}],
        "publisher": {"name": archive},
        "publicationYear": str(year),
        "version": cited["version"],
        "language": "en",
        "subjects": [{"subject": word} for word in cited["keywords"]],
        "descriptions": [{"description": cited["abstract"], "descriptionType": "Abstract"}],
        "rightsList": [{"rights": "MIT licence", "rightsIdentifier": cited["license"], **SPDX}],
        "relatedIdentifiers": [paper | {"relationType": "References"} for paper in papers],
        "schemaVersion": "http://datacite.org/schema/kernel-4",
    }


def main(archive: str) -> None:
    """Write the file."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    written = ROOT / "build" / "datacite.json"
    written.parent.mkdir(exist_ok=True)
    text = json.dumps(metadata(cited, archive, date.today().year), indent=1, ensure_ascii=False)
    written.write_text(text + "\n", encoding="utf-8")
    print(f"For the DOI: {written}")


if __name__ == "__main__":
    main(*sys.argv[1:])
