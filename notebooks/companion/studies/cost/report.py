"""Tables of notebook 10: what a step needs, how it grows, and what more than one gradient a step has bought."""

import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from companion.claims.lines import in_units
from companion.claims.register import Claim
from companion.claims.words import row_in_words
from companion.store import paths
from companion.studies.cost.counts import cost, count, products

BENCH = "bench.csv"


def read_bench(benchmark: str) -> pd.DataFrame:
    """Read one benchmark's rows of the committed table, which `make bench COMMIT=1` writes.

    Raises:
        ValueError: There are none.
    """
    table = pd.read_csv(paths.COMMITTED_FIGURES / BENCH, keep_default_na=False)
    rows = table[table["benchmark"] == benchmark]
    if rows.empty:
        raise ValueError(
            f"Benchmark {benchmark!r} should have rows in figures/full/{BENCH}. Found none. Run make bench COMMIT=1."
        )
    return rows


def machine(bench: pd.DataFrame) -> str:
    """Say on what and when the rows of one benchmark were measured."""
    first = bench.iloc[0]
    return f"{first['machine']}, {first['date']}"


def counted(methods: Iterable[str], tasks: Sequence[int], widths: Sequence[int], batch_size: int) -> pd.DataFrame:
    """Count passes, numbers and operations of a step and set the formulas beside them.

    Args:
        methods: Of `steps.METHODS`.
        tasks: Numbers of tasks.
        widths: Of inputs and shared layers.
        batch_size: Examples.

    Returns:
        One row per method and T: the counted `forwards`, `gradients`, `numbers` and `operations`, `as said` whether the
        first three are the formulas', and `rest`, the operations that the formula leaves out.
    """
    rows = []
    for method in methods:
        for t in tasks:
            forwards, gradients, numbers, operations = count(method, t, widths, batch_size)
            formula = cost(method, t)
            said = (forwards, gradients, numbers) == (formula.forwards, formula.gradients, formula.numbers)
            rest = operations - products(method, t, widths, batch_size)
            values = {"forwards": forwards, "gradients": gradients, "numbers": numbers, "operations": operations}
            rows.append({"method": method, "T": t, **values, "as said": said, "rest": rest})
    return pd.DataFrame(rows)


# Methods of one gradient evaluation per step, by what a comparison or a row's name says of them.
CHEAP = {"constant weights": re.compile(r"(tuned )?(static|constants?)( grid| weights)?"),
         "equal weights": re.compile(r"equal weights|(joint )?1 ?: ?1\b|balanced")}  # fmt: skip
PAPERS = {"H3": "HydaLearn", "A4": "AdaTask-Adam"}  # claim of a benefit -> the method that it is about


def bought(claims: Mapping[str, Claim], found: pd.DataFrame) -> pd.DataFrame:
    """List the primary comparisons of the papers' methods with methods of one gradient evaluation per step.

    Args:
        claims: The register.
        found: Evidence, of `companion.claims.ledger.evidence`.

    Returns:
        One row per comparison: `method`, `rival`, `data`, `verdict`, and in units of the smallest effect that counts,
        positive where the paper's method is better, `mean`, `low` and `high`.
    """
    rows = []
    for claim in claims.values():
        own = found[found["claim"] == claim.id]
        if claim.kind != "primary" or claim.group not in PAPERS or own.empty:
            continue
        for row in in_units(claim, own).to_dict("records"):
            text = str(row.pop("comparison"))
            rivals = [name for name, words in CHEAP.items() if words.search(text)]
            rivals += [name for name, words in CHEAP.items() if words.search(claim.id)]
            if rivals:
                rest = CHEAP[rivals[0]].sub("", text).strip(" ,:")
                data = f"{claim.notebook[:2]} {claim.domain}" + (f", {rest}" if rest else "")
                names = {"method": PAPERS[claim.group], "rival": rivals[0], "data": data}
                rows.append(
                    {**names, "asked": row_in_words(claim), **{str(name): value for name, value in row.items()}}
                )
    table = pd.DataFrame(rows)
    several = table.duplicated(["method", "rival", "data"], keep=False)  # then the row's question tells them apart
    table.loc[several, "data"] += ", " + table.loc[several, "asked"]
    return table.drop(columns="asked").sort_values(["method", "data"], ascending=[False, True], ignore_index=True)


def growth(bench: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """Arrange one sweep of the benchmark "scaling".

    Returns:
        One row per method and point: `tasks`, `parameters`, `runs`, `step ms` and `floor ms` per run, and the time in
        `joint steps`, those of equal weights at the point.
    """
    rows = bench[bench["problem"] == sweep].astype({"parameters": int})
    keys = ["method", "tasks", "parameters", "runs"]
    wide = rows.pivot(index=keys, columns="measure", values="value").reset_index()
    wide = wide.rename(columns={"step per run": "step ms", "floor per run": "floor ms"}).rename_axis(columns=None)
    joint = wide[wide["method"] == "equal weights"].set_index(keys[1:])["step ms"]
    return wide.assign(
        **{"joint steps": wide["step ms"] / joint.loc[pd.MultiIndex.from_frame(wide[keys[1:]])].to_numpy()}
    )


def memory(bench: pd.DataFrame) -> pd.DataFrame:
    """Arrange the benchmark "memory": the counted peak of a step in units of the shared parameters, and its ideal.

    Returns:
        One row per method and number of `tasks`: `units` and `ideal`.
    """
    rows = bench[bench["unit"] == "units"]
    wide = rows.pivot(index=["method", "tasks"], columns="measure", values="value").reset_index()
    wide = wide.rename(columns={"peak / shared parameters": "units"}).rename_axis(columns=None)
    ideal = (wide["units"] - wide["peak - ideal"]).round()
    return wide.assign(ideal=ideal.astype(int)).drop(columns="peak - ideal")


def by_device(benches: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Arrange the whole steps of networks of four layers, in plain steps, of the benchmark "training_step".

    Args:
        benches: Device -> what was measured there.

    Returns:
        One row per network, number of tasks T and method, one column per device.
    """
    columns = {}
    for device, bench in benches.items():
        rows = bench[(bench["measure"] == "step / plain step") & bench["problem"].str.startswith("4 x ")]
        network = rows["problem"].str.replace(r", threads \d+$", "", regex=True)
        index = pd.MultiIndex.from_arrays([network, rows["tasks"], rows["method"]], names=["network", "T", "method"])
        columns[device] = rows.set_axis(index)["value"]
    return pd.DataFrame(columns)
