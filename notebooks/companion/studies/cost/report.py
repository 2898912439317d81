"""Tables of notebook 10: what each method costs in a study, which are worth it, and how a step grows."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from companion.claims.statistics import Interval
from companion.store import paths
from companion.studies.cost.counts import cost, count, products
from companion.studies.cost.studies import STUDIES

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


def gains(quality: pd.DataFrame) -> pd.DataFrame:
    """Add `gain`, `gain low` and `gain high` to rows of `quality.quality`: per cent of the reference's loss saved."""
    relative = quality[["mean", "low", "high"]].astype(float)
    logs = quality["study"].map({study.name: study.kind != "scenes" for study in STUDIES})
    relative = relative.where(~logs, relative.map(math.expm1))  # Delta_m is relative already
    turned = {"gain": "mean", "gain low": "high", "gain high": "low"}
    return quality.assign(**{name: 0.0 - 100 * relative[column] for name, column in turned.items()})


def price(quality: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Set what the papers' methods gain over one-pass methods beside what they take in their place.

    Args:
        quality: Of `quality.quality`, one-pass methods being the reference.
        costs: Of `study_costs`.

    Returns:
        The rows with their `gain`, `passes ratio` (gradient evaluations of one training over the reference's) and
        `seconds ratio`.
    """
    by = costs.set_index(["study", "method"])[["passes", "training seconds"]]
    own, other = (
        by.loc[pd.MultiIndex.from_frame(quality[["study", name]])].to_numpy() for name in ("method", "reference")
    )
    ratios = pd.DataFrame(own / other, quality.index, ["passes ratio", "seconds ratio"])
    return gains(quality).join(ratios)


def study_costs(quality: pd.DataFrame, bench: pd.DataFrame) -> pd.DataFrame:
    """Add to the quality of methods what they cost.

    Args:
        quality: Of `quality.quality`, several studies, single-task training being the reference.
        bench: Rows of the benchmark "study_step".

    Returns:
        The same rows with `gain`, `gain low` and `gain high` (per cent of the single-task loss, positive is better),
        `passes` (evaluations of the shared layers' gradient in one training), `passes with tuning` (every setting
        trained once), `training seconds` (a step's least time, as measured, times the steps) and `peak mib` (tensors
        of one step). NaN where a method was not measured.
    """
    studies = {study.name: study for study in STUDIES}
    measured = bench.pivot(index=["problem", "method"], columns="measure", values="value").astype(float)
    measured = measured.reindex(pd.MultiIndex.from_frame(quality[["study", "method"]]))
    steps = quality["study"].map({name: study.steps for name, study in studies.items()})
    each = [
        cost(method, studies[study].num_tasks).gradients
        for study, method in quality[["study", "method"]].itertuples(index=False, name=None)
    ]
    return gains(quality).assign(
        **{
            "passes": steps * each,
            "passes with tuning": steps * each * quality["settings"],
            "training seconds": steps * measured["step"].to_numpy() / 1e3,
            "peak mib": measured["peak"].to_numpy() * 1e6 / 2**20,
        }
    )


def front(rows: pd.DataFrame, axis: str, equal: float = 0.0) -> list[str]:
    """Name the methods of a study that are not beaten: none with a higher mean gain costs as little.

    Args:
        rows: Of `study_costs`, one study.
        axis: The column with the cost.
        equal: Costs that differ by no more than this part count as equal, since measured ones differ by chance.

    Returns:
        From the cheapest to the best.
    """
    names: list[str] = []
    least = float("inf")
    ordered = rows.dropna(subset=[axis]).sort_values(["gain", axis], ascending=[False, True])
    for row in ordered.to_dict("records"):
        if row[axis] < least * (1 - equal):
            least = row[axis]
            names.insert(0, str(row["method"]))
    return names


def worth(rows: pd.DataFrame, method: str) -> str:
    """Say in a sentence what a method gains over single-task training in a study, and who is cheaper and no worse."""
    own = rows[rows["method"] == method].to_dict("records")[0]
    interval = Interval(own["gain"], own["gain low"], own["gain high"], own["count"])
    told = interval.verdict(lower_is_better=False)
    cheaper = rows[(rows["passes"] < own["passes"]) & (rows["gain"] >= own["gain"]) & (rows["method"] != method)]
    names = ", ".join(cheaper.sort_values("gain", ascending=False)["method"]) or "none"
    return (
        f"{own['study']}: {method} {interval.mean:+z.1f} % [{interval.low:+z.1f}, {interval.high:+z.1f}], {told}, "
        f"{int(own['passes'])} passes; fewer passes and no lower mean: {names}"
    )


def bought(prices: pd.DataFrame) -> list[str]:
    """Say of each of the papers' methods how often its gain over methods of one pass is told apart, and where.

    Args:
        prices: Of `price`.
    """
    sentences = []
    for method, rows in prices.groupby("method", sort=False):
        found: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
        for row in rows.to_dict("records"):
            interval = Interval(row["gain"], row["gain low"], row["gain high"], row["count"])
            found[interval.verdict(lower_is_better=False)].append(f"{row['study']} over {row['reference']}")
        told = ", ".join(f"{name} {len(where)}" for name, where in found.items())
        sentences.append(f"{method}, {len(rows)} comparisons at 95 % each: {told}")
        sentences += [f"  {name}: {'; '.join(found[name])}" for name in ("better", "worse") if found[name]]
    return sentences


def growth(bench: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """Arrange one sweep of the benchmark "scaling".

    Returns:
        One row per method and point: `tasks`, `parameters`, `runs`, `step ms` and `floor ms` per run, and the
        `seconds ratio` of the two.
    """
    rows = bench[bench["problem"] == sweep].astype({"parameters": int})
    keys = ["method", "tasks", "parameters", "runs"]
    wide = rows.pivot(index=keys, columns="measure", values="value").reset_index()
    wide = wide.rename(columns={"step per run": "step ms", "floor per run": "floor ms"}).rename_axis(columns=None)
    return wide.assign(**{"seconds ratio": wide["step ms"] / wide["floor ms"]})


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


def versus(grown: pd.DataFrame, method: str, reference: str, sweep: str, at: int) -> float:
    """How many steps of a reference a step of a method takes at one point of a sweep.

    Args:
        grown: Of `growth`, with the column `sweep`.
        method: The one.
        reference: The other.
        sweep: Name of the column that varies.
        at: Its value.
    """
    rows = grown[(grown["sweep"] == sweep) & (grown[sweep] == at)].set_index("method")["step ms"]
    return float(rows[method] / rows[reference])
