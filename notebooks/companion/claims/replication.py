"""A replicator's run claim by claim beside the committed one, as a text to hand on: Markdown, and HTML of it."""

import platform
from collections.abc import Mapping
from importlib import metadata

import mistune
import pandas as pd

from companion.claims.evidence import intervals_of, rulings
from companion.claims.ledger import effect
from companion.claims.register import Claim
from companion.claims.verdicts import asked

PACKAGES = ("torch", "numpy", "pandas", "scipy")
STYLE = "body{font:16px sans-serif;max-width:75em;margin:2em auto}td,th{padding:.2em .7em;text-align:left}"


def replication(own: pd.DataFrame, reference: pd.DataFrame, claims: Mapping[str, Claim]) -> pd.DataFrame:
    """Set two evidence tables side by side.

    Args:
        own: The replicator's.
        reference: The committed one.
        claims: The register.

    Returns:
        One row per claim with committed evidence: claim, kind, what counts, and of both runs the effect (with its
        interval, or the least and the greatest of several) and the verdict; empty where a run has none.
    """
    ruled = [rulings(claims, table) for table in (reference, own)]
    rows = []
    for name, claim in claims.items():
        effects = [_text(claim, table[table["claim"] == name]) for table in (reference, own)]
        if effects[0]:
            texts = [text for effect, by in zip(effects, ruled, strict=True) for text in (effect, by.get(name, ""))]
            rows.append((name, claim.kind, asked(claim), *texts))
    columns = ["claim", "kind", "counts from", "committed", "its verdict", "yours", "your verdict"]
    return pd.DataFrame(rows, columns=columns)


def _text(claim: Claim, rows: pd.DataFrame) -> str:
    several = f" ({len(rows)})" if len(rows) > 1 else ""
    return effect(claim, intervals_of(rows)) + several


def as_markdown(table: pd.DataFrame, claims: Mapping[str, Claim]) -> str:
    """The report: what ran where, how many verdicts are alike, the table, and every claim in words."""
    known = table[table["your verdict"] != ""]
    same = int((known["its verdict"] == known["your verdict"]).sum())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    machine = f"Python {platform.python_version()}, {versions}, {platform.machine()} {platform.system()}"
    rows: list[list[str]] = [
        [str(name) for name in table],
        ["---"] * len(table.columns),
        *table.astype(str).to_numpy().tolist(),
    ]
    lines = [
        "# A replication, claim by claim",
        f"{same} of {len(known)} verdicts are as committed; {len(table) - len(known)} claims did not run. {machine}.",
        "An effect with brackets is one comparison with its 95 % interval; else the least and the greatest of several.",
        "\n".join(f"| {' | '.join(row)} |" for row in rows),
        "## The claims",
        "\n".join(f"- **{name}**: {claims[name].claim} *Measured:* {claims[name].measure}" for name in table["claim"]),
    ]
    return "\n\n".join(lines) + "\n"


def as_html(markdown: str) -> str:
    """The same as a page of its own."""
    body = mistune.html(markdown)
    return f'<!doctype html><meta charset="utf-8"><title>A replication</title><style>{STYLE}</style>{body}'
