"""The table that `make bench` writes, and the count of memory on cases counted by hand."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from companion.store import paths

from benchmarks import _table
from benchmarks._memory import StorageCounter, peak_bytes
from benchmarks._table import Row, arguments, machine, save


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "bench.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("value", "bar", "bound", "met"),
    [
        (1.25, 1.25, "at most", True),
        (1.26, 1.25, "at most", False),
        (3.0, 3.0, "at least", True),
        (2.9, 3.0, "at least", False),
        (9.0, None, "at most", None),
    ],
)
def test_a_bar_is_met_or_not(value: float, bar: float | None, bound: str, met: bool | None) -> None:
    assert Row("m", 2, "ratio", value, bar=bar, bound=bound).met is met


def test_the_table_has_every_row_its_bar_and_the_machine(tmp_path: Path) -> None:
    rows = [Row("fast", 2, "step", 0.12345, "ms"), Row("fast", 2, "step / plain", 1.5, runs=64, bar=1.25)]
    save("speed", "5 numbers", rows, "a machine, 2 cores", tmp_path / "new")
    found = read(tmp_path / "new")
    assert [list(entry) for entry in found] == [_table.COLUMNS] * 2
    assert [(e["benchmark"], e["setting"], e["machine"]) for e in found] == [
        ("speed", "5 numbers", "a machine, 2 cores")
    ] * 2
    assert [(e["value"], e["unit"], e["runs"], e["bar"], e["met"]) for e in found] == [
        ("0.12345", "ms", "1", "", ""),
        ("1.5", "ratio", "64", "1.25", "False"),
    ]
    text = (tmp_path / "new" / "bench.md").read_text()
    assert "5 numbers. a machine, 2 cores, 20" in text
    assert "| fast | 2 | 1 | step | 0.123 ms |  |  |" in text
    assert "| fast | 2 | 64 | step / plain | 1.5 | at most 1.25 | **no** |" in text


def test_a_benchmark_replaces_its_own_rows_only(tmp_path: Path) -> None:
    for name, value in (("b", 1.0), ("a", 2.0), ("b", 3.0)):
        save(name, "", [Row("m", 1, "x", value), Row("m", 1, "y", value)], "here", tmp_path)
    assert [(e["benchmark"], e["measure"], e["value"]) for e in read(tmp_path)] == [
        ("a", "x", "2.0"),
        ("a", "y", "2.0"),
        ("b", "x", "3.0"),
        ("b", "y", "3.0"),
    ]
    assert (tmp_path / "bench.md").read_text().count("## ") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.csv", "bench.md"]  # no temporary file stays


def test_where_the_table_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert arguments("").folder == paths.BUILD / "bench"
    assert arguments("").device == "cpu"
    monkeypatch.setattr(sys, "argv", ["bench", "--commit", "--device", "cuda"])
    assert arguments("").folder == paths.COMMITTED_FIGURES
    assert arguments("").device == "cuda"


def test_the_machine_is_described() -> None:
    words = machine("cpu")
    for part in ("cores", f"torch {torch.__version__}", f"{torch.get_num_threads()} threads", "Python 3."):
        assert part in words


def test_storages_count_once_while_they_are_alive() -> None:
    with StorageCounter() as counter:
        a = torch.ones(1000)  # 4000 bytes
        assert counter.live == 4000
        view = a.view(10, 100).t()
        assert counter.live == 4000
        b = a.double()  # 8000 more
        assert counter.live == 12000
        del a
        torch.ones(1)
        assert counter.live == 12004  # the view holds the storage, and the one number was alive at its count
        del view, b
        c = torch.ones(10)
        assert counter.live == 40
        assert counter.peak == 12004
    assert c.sum() == 10


def test_the_backward_pass_is_counted() -> None:
    """The forward pass keeps exp(p); the backward pass makes its seed, one number, and the gradient."""
    with StorageCounter() as counter:
        p = torch.ones(1000, requires_grad=True)
        y = p.exp().sum()
        assert counter.live == 4000 + 4000 + 4
        y.backward()  # type: ignore[no-untyped-call]
        assert counter.peak == 4000 + 4000 + 4 + 4 + 4000
        torch.ones(1)
        assert counter.live == 4000 + 4 + 4000 + 4  # p, y, p.grad and this one; exp(p) went with the graph
    assert p.grad is not None


@pytest.mark.parametrize(("amsgrad", "numbers"), [(False, 4), (True, 5)])
def test_peak_of_plain_adam(amsgrad: bool, numbers: int) -> None:
    """Parameter, gradient and two moments, with amsgrad three: whole multiples, and the few bytes of a step count."""

    def make() -> Callable[[], object]:
        p = torch.nn.Parameter(torch.zeros(100_000))
        optimizer = torch.optim.Adam([p], amsgrad=amsgrad, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            p.grad = torch.ones(100_000)
            optimizer.step()

        return step

    assert numbers * 400_000 <= peak_bytes(make, "cpu") < numbers * 400_000 + 100
