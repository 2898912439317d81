"""The register is sound, each kind of error is one sentence, and verdicts follow from intervals as by hand."""

import itertools
import math
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from companion.claims.evidence import evidence_table, rulings
from companion.claims.fields import Direction, fingerprint
from companion.claims.register import DOMAINS, FOLDER, load_claims, load_not_testable
from companion.claims.statistics import Interval
from companion.claims.verdicts import Verdict, combine, rule_on, sentence, verdict
from companion.claims.words import ROWS, without_domain
from companion.runner.parameters import parse_assignments
from companion.store import paths
from companion.store.manifest import read_manifest
from companion.studies.scenes.protocol import KNOWN_ROWS

ROW: dict[str, Any] = {
    "id": "H1-swap",
    "claim": "Weights depend on the batch.",
    "source": "abstract",
    "certainty": "V",
    "our_design": "All of it.",
    "notebook": "02_x",
    "kind": "primary",
    "control": "",
    "figure": "02_y",
    "measure": "difference of losses",
    "direction": "lower",
    "smallest": 0.05,
    "smallest_why": "Less is nothing.",
    "comparisons": 2,
    "confidence": 0.95,
    "tuning_seeds": {"first": 1000, "count": 5},
    "fresh_seeds": {"first": 0, "count": 20},
}


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower()


def written(folder: Path, *rows: dict[str, Any], changes: str = "", file: str = "02.toml", shared: str = "") -> Path:
    """Write rows, each with its fingerprint unless it has one, into one group; None leaves a field out."""
    text = [shared, "[[group]]"]
    for row in rows:
        mark = {} if "fingerprint" in row or set(ROW) - set(row) else {"fingerprint": _fingerprint(row)}
        lines = [f"{field} = {toml(value)}" for field, value in {**row, **mark}.items() if value is not None]
        text.append("\n".join(["[[group.test]]", "registered = 2026-11-21", *lines]))
    (folder / file).write_text("\n\n".join(text) + changes, encoding="utf-8")
    return folder


def _fingerprint(row: dict[str, Any]) -> str:
    try:
        return fingerprint(row)
    except (TypeError, ValueError):
        return "of a row that is wrong anyhow"


# The register itself.


def test_the_register_is_sound_and_covers_the_synthetic_notebooks() -> None:
    claims = load_claims()
    registered = {(claim.notebook, claim.id.split("-")[0]) for claim in claims.values()}
    assert {("02_hydalearn_synthetic", f"H{i}") for i in (1, 2, 3)} <= registered
    assert {("06_adatask_synthetic", f"A{i}") for i in (1, 2, 3, 4, 5)} <= registered
    for claim in claims.values():
        if claim.notebook[:2] in ("02", "06"):
            assert len(claim.fresh_seeds) >= 20, claim.id
            assert min(claim.tuning_seeds) >= 1000 > max(claim.fresh_seeds), claim.id
    assert {"H1-swap", "H2-jump", "H2-drift", "A2-separate", "A2-balance", "A2-rms"} <= set(claims)
    assert claims["H3-composition"].comparisons == 3


def test_rows_of_one_claim_state_it_alike() -> None:
    claims = [claim for claim in load_claims().values() if claim.certainty != "D"]  # what is derived here is no paper's
    for name in ("source", "certainty"):
        stated = {(claim.id.split("-")[0], getattr(claim, name)) for claim in claims}
        assert len(stated) == len({claim for claim, _ in stated}), name
    # H3 is one claim about several domains: a notebook states it for its own.
    texts = {(claim.id.split("-")[0], claim.notebook, claim.claim) for claim in claims}
    assert len(texts) == len({(claim, notebook) for claim, notebook, _ in texts})


def test_no_verdict_is_typed() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.toml"))
    assert not re.search(r'"(holds|does not hold|undecided|not testable)', text)


def test_a_named_text_is_used_twice() -> None:
    for path in FOLDER.glob("*.toml"):
        text = path.read_text(encoding="utf-8")
        assert [name for name in tomllib.loads(text)["texts"] if text.count(f"{{{name}}}") < 2] == [], path.name


def test_every_row_has_words_for_figures() -> None:
    names = {without_domain(name) for name in load_claims()}
    assert names == set(ROWS)


def test_every_claim_of_both_papers_is_registered_in_every_domain() -> None:
    rows = {(claim.id[:2], claim.domain) for claim in load_claims().values() if claim.certainty != "D"}
    assert {(claim, domain) for claim in ("H1", "H2", "H3") for domain in ("synthetic", "credit", "mortality")} <= rows
    asked = {(f"A{i}", domain) for i in range(1, 6) for domain in ("synthetic", "scenes", "recommendation")}
    # Other optimizers than Adam are tried on small networks.
    assert asked - {("A5", "scenes"), ("A5", "recommendation")} <= rows
    barred = {name[:2] for name in load_not_testable()}
    assert barred == {*(f"H{i}" for i in range(1, 4)), *(f"A{i}" for i in range(1, 7))}
    assert {"A4-tiktok", "A4-wechat", "H3-credit-official", "H3-mortality-official"} <= set(load_not_testable())


def test_a_row_names_the_domain_of_its_notebook() -> None:
    words = dict(
        zip(("02", "03", "04", "06", "07", "08"), ("synthetic", *DOMAINS[1:3], "synthetic", *DOMAINS[3:]), strict=True)
    )
    for claim in load_claims().values():
        assert claim.domain == words.get(claim.notebook[:2], claim.domain), claim.id


def test_every_figure_of_the_register_is_committed() -> None:
    figures = read_manifest(paths.COMMITTED_FIGURES)
    assert {claim.id: claim.figure for claim in load_claims().values() if claim.figure not in figures} == {}


def test_what_cannot_be_tested_says_what_the_source_reports() -> None:
    barred = load_not_testable()
    ours = KNOWN_ROWS["AdaTask"]
    for name, other in (("equal", KNOWN_ROWS["equal weights"]), ("gradnorm", KNOWN_ROWS["GradNorm"])):
        claim = barred[f"A4-cityscapes-{name}"]
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", claim.reported)]
        assert numbers == [number for pair in zip(ours, other, strict=True) for number in pair]
        assert claim.certainty == "2"
    for claim in barred.values():
        for command in re.findall(r"notebooks/\w+\.ipynb", claim.how):
            assert command == f"notebooks/{claim.notebook}.ipynb"


def test_the_commands_that_would_test_a_claim_name_parameters_that_there_are() -> None:
    found = 0
    for claim in load_not_testable().values():
        if "python -m companion.runner.notebooks run" in claim.how:
            words = shlex.split(claim.how[claim.how.index("python -m") :])
            assignments = [value for flag, value in itertools.pairwise(words) if flag == "-p"]
            given = parse_assignments(paths.NOTEBOOKS / f"{claim.notebook}.ipynb", assignments)
            assert {given.get("dataset"), *given.get("designs", [])} & {"cityscapes", "tiktok", "wechat", "MIMIC-III"}
            found += 1
    assert found >= 9


# The loader.


def test_a_sound_row_is_read(tmp_path: Path) -> None:
    claim = load_claims(folder=written(tmp_path, ROW))["H1-swap"]
    assert (claim.fresh_seeds, claim.tuning_seeds, claim.changes) == (range(20), range(1000, 1005), ())


def test_files_are_read_in_their_order_or_alone(tmp_path: Path) -> None:
    other = {**ROW, "id": "H2", "notebook": "04_x", "figure": "04_y"}
    written(tmp_path, other, file="04.toml")
    written(tmp_path, ROW)
    assert list(load_claims(folder=tmp_path)) == ["H1-swap", "H2"]
    assert list(load_claims("04", tmp_path)) == ["H2"]
    with pytest.raises(FileNotFoundError, match=r"`03\.toml`\. Found 02\.toml, 04\.toml\. Name one of these"):
        load_claims("03", tmp_path)
    with pytest.raises(FileNotFoundError, match="Found no such file"):
        load_claims(folder=tmp_path / "elsewhere")


def test_what_rows_share_is_stated_once_and_the_nearest_wins(tmp_path: Path) -> None:
    shared = 'smallest = 0.05\nwhy = "No data."\nmeasure = "of the file"\n[texts]\nloss = """the loss of\n  the task"""'
    row = {**ROW, "our_design": "{loss}, twice: {loss}"}
    whole = {**row, "our_design": "the loss of the task, twice: the loss of the task"}
    near = {**row, "id": "H1-near", "fingerprint": fingerprint({**whole, "smallest": 0.1}), "smallest": 0.1}
    far = {**row, "fingerprint": fingerprint(whole), "smallest": None}
    claims = load_claims(folder=written(tmp_path, near, far, shared=shared))
    assert [(claim.smallest, claim.measure) for claim in claims.values()] == [(s, ROW["measure"]) for s in (0.1, 0.05)]
    assert {claim.our_design for claim in claims.values()} == {whole["our_design"]}


@pytest.mark.parametrize(
    ("shared", "row", "sentence"),
    [
        ("smalest = 1", {}, "File `02.toml`, row `H1-swap`, field `smalest`, should be one of id, claim,"),
        ("", {"measure": "{loss}"}, "row `H1-swap`, field `measure`, should be made of [texts] (). Found 'loss' in"),
        ("[[group]]", {}, "File `02.toml` should hold rows in every group. Found none in {}."),
        ("[texts]\n[[group]]\n[group.test]", None, "should hold `test` in double brackets."),
        ("[group]", None, "should hold `group` in double brackets."),
    ],
)
def test_what_is_shared_wrongly_is_said(tmp_path: Path, shared: str, row: dict[str, Any] | None, sentence: str) -> None:
    if row is None:
        (tmp_path / "02.toml").write_text(shared, encoding="utf-8")
    else:
        written(tmp_path, {**ROW, **row}, shared=shared)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_claims(folder=tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("id", "swap", "row `swap`, field `id`, should be like H1 or H1-swap. Found `id = 'swap'`."),
        ("id", None, "row `number 1`, field `id`, should be like H1 or H1-swap. Found none. Add it."),
        ("claim", "", "field `claim`, should be text. Found `claim = ''`."),
        ("measure", 3, "field `measure`, should be text. Found `measure = 3`."),
        ("certainty", "W", "field `certainty`, should be one of V, 2, D, I, ?. Found `certainty = 'W'`."),
        ("notebook", "swap.ipynb", "field `notebook`, should be a stem like 02_name."),
        ("notebook", "03_x", "field `notebook`, should be that of the file, 02. Found `03_x`. Move the row."),
        ("figure", "03_y", "field `figure`, should be of notebook 02_x. Found `03_y`."),
        ("direction", "better", "field `direction`, should be one of higher, lower, within."),
        ("smallest", 0, "field `smallest`, should be a positive number. Found `smallest = 0`."),
        ("smallest", True, "field `smallest`, should be a positive number. Found `smallest = True`."),
        ("smallest", math.inf, "field `smallest`, should be a positive number. Found `smallest = inf`."),
        ("smallest", math.nan, "field `smallest`, should be a positive number. Found `smallest = nan`."),
        ("smallest_why", None, "field `smallest_why`, should be text. Found none."),
        ("comparisons", 0, "field `comparisons`, should be a whole number of at least 1."),
        ("comparisons", 2.0, "field `comparisons`, should be a whole number of at least 1."),
        ("confidence", 95, "field `confidence`, should be a level between 0.5 and 1. Found `confidence = 95`."),
        (
            "tuning_seeds",
            {"first": 1000},
            "field `tuning_seeds`, should be whole numbers { first = ..., count = ... }.",
        ),
        ("fresh_seeds", {"first": 0, "count": 0}, "field `fresh_seeds`, should be whole numbers"),
        ("fresh_seeds", {"first": 0, "count": True}, "field `fresh_seeds`, should be whole numbers"),
        (
            "fresh_seeds",
            {"first": 990, "count": 11},
            "field `fresh_seeds`, should be apart from the tuning seeds of H1-swap. Found seed 1000 in both.",
        ),
        ("verdict", "holds", "field `verdict`, should be one of id, claim,"),
    ],
)
def test_each_error_names_row_and_field(tmp_path: Path, field: str, value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        load_claims(folder=written(tmp_path, {**ROW, field: value}))
    assert str(error.value).startswith("File `02.toml`, row `")
    assert "\n" not in str(error.value)


def test_fresh_seeds_of_one_row_tune_no_other_row_of_the_notebook(tmp_path: Path) -> None:
    other = {**ROW, "id": "H2", "tuning_seeds": {"first": 19, "count": 1}, "fresh_seeds": {"first": 20, "count": 20}}
    with pytest.raises(ValueError, match=r"row `H1-swap`, field `fresh_seeds`, .* of H2\. Found seed 19 in both"):
        load_claims(folder=written(tmp_path, ROW, other))
    elsewhere = {**other, "notebook": "04_x", "figure": "04_y"}
    written(tmp_path, ROW)
    assert list(load_claims(folder=written(tmp_path, elsewhere, file="04.toml"))) == ["H1-swap", "H2"]
    written(tmp_path, {**elsewhere, "id": "H1-swap"}, file="04.toml")
    with pytest.raises(
        ValueError, match=r"`04\.toml`, row `H1-swap`, field `id`, should be that of one row\. Found it tw"
    ):
        load_claims(folder=tmp_path)


BARRED = {
    "id": "A4-tiktok", "claim": "Best.", "source": "abstract", "certainty": "V", "notebook": "02_x",
    "reported": "More.", "why": "No data.", "how": "Data.",
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("why", "", "row `A4-tiktok`, field `why`, should be text. Found `why = ''`."),
        ("how", None, "row `A4-tiktok`, field `how`, should be text. Found none. Add it."),
        ("smallest", 0.1, "row `A4-tiktok`, field `smallest`, should be one of id, claim, source,"),
        ("id", "H1-swap", "row `H1-swap`, field `id`, should be that of one row. Found it twice. Rename one."),
    ],
)
def test_rows_that_cannot_be_tested_have_fields_of_their_own(
    tmp_path: Path, field: str, value: Any, sentence: str
) -> None:
    path = written(tmp_path, ROW) / "02.toml"
    text = path.read_text(encoding="utf-8")

    def add(row: dict[str, Any]) -> None:
        lines = [f"{name} = {toml(content)}" for name, content in row.items() if content is not None]
        path.write_text(f"{text}\n\n[[group.not_testable]]\n" + "\n".join(lines), encoding="utf-8")

    add(BARRED)
    assert load_not_testable(tmp_path)["A4-tiktok"].why == "No data."
    assert list(load_claims(folder=tmp_path)) == ["H1-swap"]
    add({**BARRED, field: value})
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_not_testable(tmp_path)


def test_the_date_is_a_date(tmp_path: Path) -> None:
    path = written(tmp_path, ROW) / "02.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("2026-11-21", '"today"'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"field `registered`, should be a date such as .* `registered = 'today'`"):
        load_claims(folder=tmp_path)


def test_what_is_no_toml_is_said(tmp_path: Path) -> None:
    (tmp_path / "02.toml").write_text("[[group]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"should be TOML\. Found: .*line 1.*Mend that line"):
        load_claims(folder=tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "noticed"),
    [
        ("smallest", 0.04, True),
        ("direction", "higher", True),
        ("comparisons", 3, True),
        ("measure", "another", True),
        ("our_design", "other baselines", True),
        ("fresh_seeds", {"first": 0, "count": 30}, True),
        ("confidence", 0.9, True),
        ("figure", "02_z", False),
        ("smallest_why", "Better words.", False),
    ],
)
def test_what_decides_changes_only_when_listed(tmp_path: Path, field: str, value: Any, noticed: bool) -> None:
    changed = {**ROW, field: value}
    path = written(tmp_path, {**changed, "fingerprint": fingerprint(ROW)})
    if not noticed:
        load_claims(folder=path)
        return
    with pytest.raises(
        ValueError, match=r"field `fingerprint`, .* a change that is not listed\. Undo it, or list"
    ) as error:
        load_claims(folder=path)
    (mark,) = re.findall(r'fingerprint = "(\w+)"', str(error.value))
    entry = f'\n[[group.test.changes]]\ndate = 2026-11-22\nreason = "No result seen."\nfingerprint = "{mark}"\n'
    folder = written(tmp_path, {**changed, "fingerprint": fingerprint(ROW)}, changes=entry)
    (change,) = load_claims(folder=folder)["H1-swap"].changes
    assert (change.reason, str(change.date)) == ("No result seen.", "2026-11-22")
    for wrong, words in (
        (entry.replace("2026-11-22", "2026-11-20"), r"field `changes\.date`, should be in order"),
        (entry.replace("No result seen.", ""), r"field `changes\.reason`, should be text"),
        (entry.replace(mark, "0"), "a change that is not listed"),
        (entry + 'why = ""\n', r"field `changes\.why`, should be one of date, reason, fingerprint"),
    ):
        with pytest.raises(ValueError, match=words):
            load_claims(folder=written(tmp_path, {**changed, "fingerprint": fingerprint(ROW)}, changes=wrong))


# Verdicts.

HIGHER: list[tuple[float, float, Verdict]] = [
    (0.2, 0.3, "holds"),
    (0.1, 0.3, "holds"),  # all of it is at least 0.1
    (0.05, 0.3, "holds in part"),
    (0.05, 0.1, "holds in part"),
    (0.05, 0.09, "does not hold"),  # there is something, and it is too small to count
    (0.0, 0.3, "undecided"),
    (-0.2, 0.3, "undecided"),
    (-0.2, 0.1, "undecided"),
    (-0.2, 0.09, "does not hold"),
    (-0.3, -0.2, "does not hold"),
    (0.1, 0.1, "holds"),
    (0.0, 0.0, "does not hold"),
    (-math.inf, math.inf, "undecided"),
]


@pytest.mark.parametrize(("low", "high", "expected"), HIGHER)
def test_verdicts_by_hand(low: float, high: float, expected: Verdict) -> None:
    assert verdict(Interval(0, low, high, 20), "higher", 0.1) == expected
    assert verdict(Interval(0, -high, -low, 20), "lower", 0.1) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.05, 0.05, "holds"),
        (0.01, 0.05, "holds"),  # not 0, and too small to count
        (-0.1, 0.05, "undecided"),
        (-0.05, 0.1, "undecided"),
        (-0.3, 0.3, "undecided"),
        (0.05, 0.3, "undecided"),
        (0.1, 0.3, "does not hold"),
        (-0.3, -0.1, "does not hold"),
        (0.2, 0.3, "does not hold"),
    ],
)
def test_verdicts_on_no_difference_by_hand(low: float, high: float, expected: Verdict) -> None:
    assert verdict(Interval(0, low, high, 20), "within", 0.1) == expected


@pytest.mark.parametrize("direction", ["higher", "lower", "within"])
@pytest.mark.parametrize("limits", [(math.nan, 1.0), (0.0, math.nan), (1.0, 0.0)])
def test_no_verdict_without_limits(direction: Direction, limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="should have limits in order"):
        verdict(Interval(0, *limits, 20), direction, 0.1)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["holds"], "holds"),
        (["holds", "holds"], "holds"),
        (["holds", "holds in part"], "holds in part"),
        (["holds in part", "holds in part"], "holds in part"),
        (["holds", "undecided"], "undecided"),
        (["holds", "does not hold"], "does not hold"),
        (["undecided", "does not hold"], "does not hold"),
        (["does not hold", "does not hold"], "does not hold"),
    ],
)
def test_combined_verdicts(verdicts: list[Verdict], expected: Verdict) -> None:
    assert combine(verdicts) == expected


def test_a_control_is_a_sanity_row(tmp_path: Path) -> None:
    planted = {**ROW, "id": "H1-planted", "kind": "sanity"}
    claims = load_claims(folder=written(tmp_path, planted, {**ROW, "control": "H1-planted"}))
    assert claims["H1-swap"].control == "H1-planted"
    for control in ("H1-planted", "H1-none"):
        rows = {**planted, "kind": "secondary"}, {**ROW, "control": control}
        with pytest.raises(ValueError, match=f"field `control`, should be the id of a sanity row. Found `{control}`"):
            load_claims(folder=written(tmp_path, *rows))


def test_a_row_whose_control_fails_is_uninterpretable(tmp_path: Path) -> None:
    planted = {**ROW, "id": "H1-planted", "kind": "sanity"}
    claims = load_claims(folder=written(tmp_path, planted, {**ROW, "control": "H1-planted"}))
    good, poor = Interval(-0.2, -0.3, -0.1, 20), Interval(0.2, 0.1, 0.3, 20)
    for control, expected in ((good, "holds"), (poor, "uninterpretable")):
        table = evidence_table(claims, {"H1-swap": {"a": good}, "H1-planted": {"a": control}})
        assert rulings(claims, table)["H1-swap"] == expected


def test_a_sentence_says_how_many_of_the_registered_comparisons_it_rests_on(tmp_path: Path) -> None:
    claim = load_claims(folder=written(tmp_path, ROW))["H1-swap"]
    good, poor = Interval(-0.2, -0.3, -0.1, 20), Interval(-0.2, -0.3, 0.1, 20)
    assert rule_on(claim, [good, poor]) == "undecided"
    assert rule_on(claim, [good, good], "holds in part") == "holds"
    assert rule_on(claim, [good, good], "undecided") == "uninterpretable"
    assert sentence(claim, [good, poor], "Less") == "H1-swap: undecided. Less, asked at most -0.05"
    assert sentence(claim, [good], "Less") == "H1-swap: holds (1 of 2 comparisons here). Less, asked at most -0.05"
