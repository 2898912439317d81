"""Embedding tables with sparse gradients: their task gradients, AdaTask on touched rows, and all that goes with them.

The oracles are the same tables with dense gradients, torch's own optimizers, and the float64 reference.
"""

import copy
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mtlcore import (
    AdaTaskAdagrad,
    AdaTaskAdam,
    AdaTaskSparseAdam,
    Dominance,
    HydaLearn,
    clip_task_grad_norm_,
    combine,
    reference,
    task_backward,
    unscale_task_grad_,
    zero_task_grad,
)
from mtlcore.task_gradients import contributions

SMALL, LARGE = 50, 20_000  # rows: the first shares a table of small parameters, the second has one of its own
Batch = tuple[Tensor, Tensor, Tensor]  # ids of the first table [B], of the second [B, 3], targets [T, B]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Recommender(nn.Module):
    """Two shared tables, a shared layer, and per task a head with a table of its own."""

    def __init__(self, rows: int = SMALL, sparse: bool = True, num_tasks: int = 3) -> None:
        super().__init__()
        self.table: Any = nn.Embedding(rows, 4, sparse=sparse)
        self.bag: Any = nn.EmbeddingBag(rows, 4, sparse=sparse, mode="sum")
        self.layer = nn.Linear(8, 6)
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(num_tasks))
        self.biases: Any = nn.ModuleList(nn.Embedding(rows, 1, sparse=sparse) for _ in range(num_tasks))

    def tables(self) -> list[Any]:
        return [self.table.weight, self.bag.weight]

    def shared(self) -> list[Any]:
        return [*self.tables(), *self.layer.parameters()]

    def all_tables(self) -> list[Any]:
        return [*self.tables(), *(bias.weight for bias in self.biases)]

    def losses(self, batch: Batch, present: Sequence[bool] = (True, True, True)) -> list[Tensor | None]:
        """Task t sees the examples t, t + 1, ... only, so the tasks touch different rows."""
        ids, bags, y = batch
        losses: list[Tensor | None] = []
        for t, (head, bias) in enumerate(zip(self.heads, self.biases, strict=True)):
            own = slice(t, None)
            z = torch.cat([self.table(ids[own]), self.bag(bags[own])], 1)
            out = head(self.layer(z).tanh()) + bias(ids[own])
            losses.append(10.0**t * (out[:, 0] - y[t, own]).square().mean() if present[t] else None)
        return losses


def losses_fn(model: Any, batch: Batch) -> list[Tensor | None]:
    losses: list[Tensor | None] = model.losses(batch)
    return losses


def twins(rows: int = SMALL, dtype: torch.dtype = torch.float64) -> tuple[Recommender, Recommender]:
    """The same model with sparse and with dense gradients."""
    torch.manual_seed(0)
    sparse, dense = Recommender(rows).to(dtype), Recommender(rows, sparse=False).to(dtype)
    dense.load_state_dict(sparse.state_dict())
    return sparse, dense


def batch(seed: int = 1, rows: int = SMALL, size: int = 12, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids, bags = (torch.randint(rows, shape, generator=generator) for shape in ((size,), (size, 3)))
    return ids, bags, torch.randn(3, size, generator=generator, dtype=dtype)


def dense_of(x: Tensor | None) -> Tensor | None:
    return x.to_dense() if x is not None and x.is_sparse else x


def assert_alike(sparse: nn.Module, dense: nn.Module, rtol: float = 1e-12) -> None:
    """Parameters, p.grad, p.task_grad, contributions and flags of two models are the same numbers."""
    for p, q in zip(sparse.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=rtol, atol=1e-14)
        torch.testing.assert_close(dense_of(p.grad), q.grad, rtol=rtol, atol=1e-14)
        assert hasattr(p, "task_grad") == hasattr(q, "task_grad")
        if hasattr(p, "task_grad"):
            for function in (lambda x: x.task_grad, contributions):
                torch.testing.assert_close(dense_of(function(p)), function(q), rtol=rtol, atol=1e-14, equal_nan=True)
            assert p.task_reached == q.task_reached  # type: ignore[attr-defined]


def assert_sparse(tables: Sequence[Any]) -> None:
    for p in tables:
        assert p.grad.is_sparse
        assert p.task_grad.is_sparse
        assert p.task_grad.is_coalesced()
        assert (p.task_grad.sparse_dim(), p.task_grad.dense_dim()) == (2, 1)


class NothingLarge(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails where an operation makes a tensor of at least ``limit`` numbers that was not there before."""

    def __init__(self, limit: int, known: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit, self.known = limit, {x.untyped_storage().data_ptr() for x in known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(x, Tensor) and x.layout is torch.strided:
                storage = x.untyped_storage()
                large = storage.nbytes() // x.dtype.itemsize >= self.limit
                assert not large or storage.data_ptr() in self.known, f"{func} made {tuple(x.shape)}"
        return result


# ------------------------------------------------------------------------------------------------- task gradients


@pytest.mark.parametrize("rows", [SMALL, LARGE])
@pytest.mark.parametrize("present", [(True, True, True), (True, False, True), (False, True, False)])
def test_task_gradients_are_those_of_dense_tables_on_the_rows_each_task_touches(
    rows: int, present: tuple[bool, ...]
) -> None:
    sparse, dense = twins(rows)
    for model in (sparse, dense):
        task_backward(model.losses(batch(rows=rows), present), model.shared())
    assert_sparse(sparse.tables())
    assert_alike(sparse, dense)
    ids = batch(rows=rows)[0]
    tasks, touched = sparse.table.weight.task_grad.indices()
    for t in range(3):
        assert touched[tasks == t].tolist() == (sorted(set(ids[t:].tolist())) if present[t] else [])


def test_p_grad_is_what_the_sum_of_losses_would_leave() -> None:
    sparse, _ = twins()
    plain = copy.deepcopy(sparse)
    task_backward(sparse.losses(batch()), sparse.shared())
    torch.autograd.backward([loss for loss in plain.losses(batch()) if loss is not None])
    for p, q in zip(sparse.parameters(), plain.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        assert p.grad.is_sparse is q.grad.is_sparse
        torch.testing.assert_close(dense_of(p.grad), dense_of(q.grad), rtol=1e-12, atol=1e-14)
        if p.grad.is_sparse:
            assert set(p.grad._indices()[0].tolist()) == set(q.grad._indices()[0].tolist())


def test_padding_is_no_touched_row() -> None:
    table: Any = nn.Embedding(9, 2, padding_idx=3, sparse=True)
    out = table(torch.tensor([3, 5, 3, 1]))
    task_backward([out.sum(), out.square().sum()], table.parameters())
    assert table.weight.task_grad.indices().tolist() == [[0, 0, 1, 1], [1, 5, 1, 5]]


def test_tables_in_one_model_may_be_of_any_number_and_kind() -> None:
    """Small tables leave the table that small parameters share; the others, and only they, stay in it."""
    torch.manual_seed(0)
    tables = nn.ModuleList(nn.Embedding(7, 2, sparse=i % 2 == 0) for i in range(5))
    layer = nn.Linear(2, 1)
    ids = torch.tensor([0, 6, 6])
    z = layer(torch.stack([table(ids) for table in tables]).sum(0)).sum()
    task_backward([z, z.square()], [*tables.parameters(), *layer.parameters()])
    for i, table in enumerate(tables):
        weight: Any = table.weight
        assert weight.task_grad.is_sparse is (i % 2 == 0)
        expected = torch.tensor([1.0, 0, 0, 0, 0, 0, 2]) * layer.weight[0, 0]
        torch.testing.assert_close(weight.task_grad.to_dense()[0, :, 0], expected)


@pytest.mark.parametrize("rows", [7, LARGE])
def test_a_tied_table_is_dense_where_any_task_uses_it_densely(rows: int) -> None:
    """Its output layer's gradient is dense; torch adds the sparse one to it, and so do tasks and micro-batches."""
    torch.manual_seed(0)
    table: Any = nn.Embedding(rows, 2, sparse=True, dtype=torch.float64)
    ids = torch.tensor([0, 6, 6])

    def looked_up() -> Any:
        return table(ids).square().sum()

    def both() -> Any:
        return (table(ids) @ table.weight.t()).square().sum()

    for first, second in ((looked_up, looked_up), (looked_up, both), (both, looked_up), (looked_up, looked_up)):
        zero_task_grad(table.parameters(), keep_memory=True)
        table.zero_grad()
        expected = [torch.autograd.grad(f(), table.weight)[0].to_dense() for f in (first, second)]
        task_backward([first(), second()], table.parameters())
        assert table.weight.task_grad.is_sparse is (first is second)
        torch.testing.assert_close(table.weight.task_grad.to_dense(), torch.stack(expected))
        torch.testing.assert_close(table.weight.grad.to_dense(), expected[0] + expected[1])
        # the same over micro-batches: of one layout now, of another then
        table.zero_grad()
        task_backward([first(), first()], table.parameters())
        task_backward([second(), second()], table.parameters())
        torch.testing.assert_close(table.weight.task_grad.to_dense(), torch.stack([sum(expected)] * 2))
        torch.testing.assert_close(table.weight.grad.to_dense(), 2 * (expected[0] + expected[1]))


def test_two_tables_that_share_their_gradients_numbers_do_not_change_each_other() -> None:
    """Autograd hands the same numbers to both summands."""
    torch.manual_seed(0)
    one: Any = nn.Embedding(9, 2, sparse=True)
    two: Any = nn.Embedding(9, 2, sparse=True)
    out = one(torch.tensor([4])) + two(torch.tensor([4]))
    task_backward([out.sum(), 3 * out.sum()], [one.weight, two.weight])
    clip_task_grad_norm_([one.weight], 1e-3)
    one.weight.grad._values().mul_(0)
    assert two.weight.task_grad.to_dense()[:, 4].tolist() == [[1, 1], [3, 3]]
    assert two.weight.grad.to_dense()[4].tolist() == [4, 4]


@pytest.mark.parametrize("rows", [SMALL, LARGE])
def test_micro_batches_add_up(rows: int) -> None:
    sparse, dense = twins(rows)
    for seed, present in ((1, (True, True, False)), (2, (False, True, True)), (3, (True, True, True))):
        for model in (sparse, dense):
            task_backward(model.losses(batch(seed, rows), present), model.shared())
    assert_sparse(sparse.tables())
    assert_alike(sparse, dense)


def test_micro_batches_add_up_after_weights_were_set() -> None:
    sparse, dense = twins()
    for model in (sparse, dense):
        task_backward(model.losses(batch(1)), model.shared())
        combine(model.shared(), [0.5, 0.0, 2.0])
        task_backward(model.losses(batch(2)), model.shared())
        clip_task_grad_norm_(model.shared(), 3.0)
    assert_sparse(sparse.tables())
    assert_alike(sparse, dense)


CLEARINGS: list[Callable[[Any, Any], object]] = [
    lambda model, optimizer: optimizer.zero_grad(),
    lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
    lambda model, optimizer: model.zero_grad(),
    lambda model, optimizer: model.zero_grad(set_to_none=False),
    lambda model, optimizer: [p.__setattr__("grad", None) for p in model.parameters()],
    lambda model, optimizer: zero_task_grad(model.shared()) or model.zero_grad(),
    lambda model, optimizer: zero_task_grad(model.shared(), keep_memory=True) or model.zero_grad(),
]


@pytest.mark.parametrize("clear", CLEARINGS)
@pytest.mark.parametrize("rows", [SMALL, LARGE])
def test_each_ordinary_clearing_clears(clear: Callable[..., object], rows: int) -> None:
    sparse, dense = twins(rows)
    optimizer = AdaTaskSparseAdam(sparse.all_tables(), num_tasks=3)
    for seed in (1, 2):
        clear(sparse, optimizer)
        task_backward(sparse.losses(batch(seed, rows)), sparse.shared())
    task_backward(dense.losses(batch(2, rows)), dense.shared())
    assert_sparse(sparse.tables())
    torch.testing.assert_close(sparse.table.weight.task_grad.to_dense(), dense.table.weight.task_grad)
    torch.testing.assert_close(dense_of(sparse.table.weight.grad), dense.table.weight.grad)


def test_a_changed_p_grad_is_told_and_an_unchanged_one_is_not() -> None:
    table: Any = nn.Embedding(9, 2, sparse=True)
    out = table(torch.tensor([1, 1, 4]))
    (out * torch.arange(6.0).view(3, 2)).sum().backward()  # of no task
    out = table(torch.tensor([4, 2, 2]))
    task_backward([out.sum(), out.square().sum()], table.parameters())
    table.weight.grad.mul_(1.0)  # a measurement, such as a gradient norm that nothing exceeds
    combine(table.parameters())
    table.weight.grad.mul_(0.5)
    with pytest.raises(ValueError, match="was changed since"):
        combine(table.parameters())
    table.weight.grad.mul_(2.0)
    combine(table.parameters())  # as it was
    table.weight.grad._values()[0].mul_(2.0)  # one of two entries of row 1
    with pytest.raises(ValueError, match="was changed since"):
        combine(table.parameters())
    table.weight.grad._values()[0].mul_(0.5)
    table.weight.grad.add_(sparse(torch.tensor([[7]]), torch.ones(1, 2), table.weight))
    with pytest.raises(ValueError, match="was changed since"):
        clip_task_grad_norm_(table.parameters(), 1.0)


# ------------------------------------------------------------------------------------- combined, clipped, unscaled


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 2.0], [0.0, 1.0, 0.0], torch.tensor([0.3, 0.0, 0.7])])
@pytest.mark.parametrize("rows", [SMALL, LARGE])
def test_combine_leaves_a_sparse_weighted_sum(weights: Any, rows: int) -> None:
    sparse, dense = twins(rows)
    for model in (sparse, dense):
        model.table(batch(7, rows)[0]).sum().backward()  # of no task, and stays in the sum
        task_backward(model.losses(batch(rows=rows)), model.shared())
        combine(model.shared(), weights)
    assert_sparse(sparse.tables())
    assert_alike(sparse, dense)


def test_a_dense_gradient_of_no_task_stays_in_the_sum() -> None:
    """As of a penalty on the whole table: p.grad is dense then, however often weights are set."""
    table: Any = nn.Embedding(9, 2, sparse=True)
    table.weight.square().sum().backward()
    out = table(torch.tensor([4, 2, 2]))
    task_backward([out.sum(), 3 * out.sum()], table.parameters())
    assert table.weight.task_grad.is_sparse
    counts = torch.tensor([0, 0, 2, 0, 1, 0, 0, 0, 0])[:, None]
    for weights in ([1.0, 1.0], [0.5, 2.0], [0.0, 1.0]):
        combine(table.parameters(), weights)
        expected = 2 * table.weight.detach() + (weights[0] + 3 * weights[1]) * counts
        torch.testing.assert_close(table.weight.grad, expected)


def test_a_task_of_weight_zero_is_left_out_even_if_it_holds_nan() -> None:
    sparse, dense = twins()
    for model in (sparse, dense):
        losses = model.losses(batch())
        assert losses[1] is not None
        losses[1] = losses[1] * torch.nan
        task_backward(losses, model.shared())
        combine(model.shared(), torch.tensor([1.0, 0.0, 0.5]))
    assert sparse.table.weight.task_grad.to_dense().isnan().any()
    for p, q in zip(sparse.tables(), dense.tables(), strict=True):
        torch.testing.assert_close(p.grad.to_dense(), q.grad)
        assert p.grad.to_dense().isfinite().all()


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=0.1), lambda p: torch.optim.SparseAdam(p, lr=0.1)])
def test_after_combine_torchs_own_optimizers_train_on_the_weighted_sum(make: Callable[..., Any]) -> None:
    ours, _ = twins()
    plain = copy.deepcopy(ours)
    optimizers = [make(model.tables()) for model in (ours, plain)]
    for seed in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        task_backward(ours.losses(batch(seed)), ours.shared())
        combine(ours.shared(), [0.5, 1.0, 2.0])
        losses: list[Any] = plain.losses(batch(seed))
        (0.5 * losses[0] + losses[1] + 2.0 * losses[2]).backward()
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(ours.tables(), plain.tables(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rows", [SMALL, LARGE])
@pytest.mark.parametrize("weights", [None, [0.5, 0.0, 1.0]])
def test_tasks_are_clipped_by_their_norm_over_sparse_and_dense_parameters(rows: int, weights: Any) -> None:
    sparse, dense = twins(rows)
    norms = []
    for model in (sparse, dense):
        task_backward(model.losses(batch(rows=rows)), model.shared())
        if weights is not None:
            combine(model.shared(), weights)
        norms.append(clip_task_grad_norm_(model.shared(), 0.5))
    torch.testing.assert_close(norms[0], norms[1])
    assert (norms[0] > 0.5).any()
    assert_sparse(sparse.tables())
    assert_alike(sparse, dense)


@pytest.mark.parametrize("order", ["step", "unscaled", "clipped"])
def test_a_gradient_scaler_changes_nothing_but_the_range(order: str) -> None:
    """A power of two scales exactly, so the two trainings are the same to the bit."""
    scaled, _ = twins(dtype=torch.float32)
    plain = copy.deepcopy(scaled)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=100)
    for model in (scaled, plain):
        tables = model.all_tables()
        optimizer = AdaTaskSparseAdam(tables, num_tasks=3, lr=0.1)
        for seed in range(3):
            model.zero_grad()
            losses = model.losses(batch(seed, dtype=torch.float32))
            if model is plain:
                task_backward(losses, model.tables())
                if order == "clipped":
                    clip_task_grad_norm_(model.tables(), 0.5)
                optimizer.step()
                continue
            task_backward([loss if loss is None else scaler.scale(loss) for loss in losses], model.tables())
            if order != "step":
                scaler.unscale_(optimizer)
                unscale_task_grad_(scaler, model.tables())
            if order == "clipped":
                clip_task_grad_norm_(model.tables(), 0.5)
            scaler.step(optimizer)
            scaler.update()
    for p, q in zip(scaled.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p, q)


def test_an_overflow_in_one_task_skips_the_step() -> None:
    table: Any = nn.Embedding(9, 2, sparse=True)
    before = table.weight.detach().clone()
    optimizer = AdaTaskSparseAdam(table.parameters(), num_tasks=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    out = table(torch.tensor([1, 4]))
    task_backward([scaler.scale(out.sum()), scaler.scale(out.sum() * torch.inf)], table.parameters())
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(table.weight, before)
    assert scaler.get_scale() == 2.0**9


def test_combine_and_sparse_adam_work_with_a_gradient_scaler() -> None:
    scaled, _ = twins(dtype=torch.float32)
    plain = copy.deepcopy(scaled)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for model in (scaled, plain):
        optimizer: Any = torch.optim.SparseAdam(model.tables(), lr=0.1)
        losses = model.losses(batch(dtype=torch.float32))
        if model is scaled:
            losses = [loss if loss is None else scaler.scale(loss) for loss in losses]
        task_backward(losses, model.tables())
        combine(model.tables(), [0.5, 1.0, 2.0])
        scaler.step(optimizer) if model is scaled else optimizer.step()
    assert torch.equal(scaled.table.weight, plain.table.weight)


# ------------------------------------------------------------------------------------------------------- HydaLearn

OPTIONS: list[dict[str, Any]] = [
    {"gain": "exact"},
    {"gain": "first_order"},
    {"gain": "exact", "trial_moves": "shared+head"},
    {"gain": "first_order", "trial_moves": "shared+head"},
    {"gain": "exact", "negative": "keep", "scale_heads": False},
]


@pytest.mark.parametrize("rows", [SMALL, LARGE])
@pytest.mark.parametrize("other_gain_batch", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_gains_and_gradients_are_those_of_dense_tables(
    options: dict[str, Any], other_gain_batch: bool, rows: int
) -> None:
    sparse, dense = twins(rows)
    steps = []
    for model in (sparse, dense):
        others = [*model.layer.parameters(), *model.heads.parameters()]
        groups: Any = [{"params": model.all_tables(), "lr": 0.03}, {"params": others}]
        optimizer = torch.optim.SGD(groups, lr=0.01)
        hydalearn = HydaLearn(model, losses_fn, model.shared(), trial_step=optimizer, **options)
        for seed in (1, 2):  # two micro-batches
            gain_batch = batch(seed + 10, rows) if other_gain_batch else None
            steps.append(hydalearn.backward(batch(seed, rows), gain_batch))
    for ours, theirs in zip(steps[:2], steps[2:], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        assert (ours.gains != 0).all()
    assert_sparse(sparse.tables())
    assert all(bias.weight.grad.is_sparse for bias in sparse.biases)
    assert_alike(sparse, dense, rtol=1e-9)


def test_gains_are_what_a_copy_of_the_model_gains() -> None:
    """With a task that does not reach one of the tables, and another that this batch does not have."""
    model, _ = twins()
    alone: Any = nn.Embedding(SMALL, 4, sparse=True, dtype=torch.float64)
    model.alone = alone

    def losses(m: Any, b: Batch) -> list[Tensor | None]:
        first, _, third = m.losses(b)
        return [first + m.alone(b[0]).square().sum(), None, third]

    shared = [*model.shared(), alone.weight]
    step = HydaLearn(model, losses, shared, trial_step=0.01).backward(batch())
    for t in (0, 2):
        trial = copy.deepcopy(model)
        moved: list[Any] = [*trial.shared(), trial.get_parameter("alone.weight")]
        before, loss = (losses(trial, batch())[i] for i in (0, t))
        assert before is not None
        assert loss is not None
        grads = torch.autograd.grad(loss, moved, allow_unused=True)
        with torch.no_grad():
            for p, grad in zip(moved, grads, strict=True):
                p.sub_(0.01 * (torch.zeros_like(p) if grad is None else grad.to_dense()))
        after = losses(trial, batch())[0]
        assert after is not None
        assert step.gains[t].item() == pytest.approx((before - after).item(), rel=1e-9)
    assert step.gains[1] == 0
    assert alone.weight.task_reached == (True, False, False)


@pytest.mark.parametrize("fails", [False, True])
def test_a_trial_gives_the_table_back_to_the_bit_and_in_its_place(fails: bool) -> None:
    model, _ = twins(dtype=torch.float32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    places = [p.data_ptr() for p in model.tables()]
    calls, seen = 0, []

    def losses(m: Any, b: Batch) -> list[Tensor | None]:
        nonlocal calls
        calls += 1
        seen.append(m.table.weight.detach().clone())
        if fails and calls > 3:
            raise KeyError("a trial that fails")
        return losses_fn(m, b)

    hydalearn = HydaLearn(model, losses, model.shared(), trial_step=0.1)
    with pytest.raises(KeyError) if fails else nullcontext():
        hydalearn.backward(batch(dtype=torch.float32))
    assert calls > 3
    moved = torch.stack([(table != before["table.weight"]).any(1) for table in seen]).any(0)
    assert moved.nonzero().flatten().tolist() == sorted(set(batch()[0].tolist()))  # touched rows, and no others
    assert [p.data_ptr() for p in model.tables()] == places
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])


@pytest.mark.parametrize("gain", ["exact", "first_order"])
def test_a_table_that_the_gain_batch_does_not_reach_gains_nothing(gain: str) -> None:
    torch.manual_seed(0)
    model: Any = nn.ModuleList(nn.Embedding(9, 2, sparse=True, dtype=torch.float64) for _ in range(2))

    def losses(m: Any, reaches: bool) -> list[Tensor | None]:
        one, two = (table(torch.tensor([4, 2, 2])).square().sum() for table in m)
        return [one + two if reaches else one, two]

    step = HydaLearn(model, losses, model, gain=gain).backward(True, False)
    assert step.gains[0] > 0
    assert step.gains[1] == 0


def test_weights_of_a_batch_that_does_not_reach_a_table_are_not_its_weights() -> None:
    """The second micro-batch has no loss of the only task that reaches `alone`."""
    model, _ = twins()
    alone: Any = nn.Embedding(SMALL, 4, sparse=True, dtype=torch.float64)
    model.alone = alone

    def losses(m: Any, b: tuple[Batch, bool]) -> list[Tensor | None]:
        first, second, third = m.losses(b[0])
        return [first, second, third + m.alone(b[0][0]).square().sum() if b[1] else None]

    hydalearn = HydaLearn(model, losses, [*model.shared(), alone.weight], gain="first_order")
    weights = hydalearn.backward((batch(1), True)).weights
    hydalearn.backward((batch(2), False))
    assert 0 < weights[2] < 1
    torch.testing.assert_close(alone.weight.grad.to_dense(), weights[2] * alone.weight.task_grad.to_dense()[2])
    torch.testing.assert_close(contributions(alone.weight).to_dense().sum(0), alone.weight.grad.to_dense())


@pytest.mark.parametrize("by", ["HydaLearn", "AdaTask"])
def test_tables_that_share_their_gradients_numbers_are_unscaled_once(by: str) -> None:
    torch.manual_seed(0)
    models: list[Any] = [nn.ModuleList(nn.Embedding(9, 2, sparse=True) for _ in range(3)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ids = torch.tensor([4])
    for model, scaler in zip(models, (torch.amp.GradScaler("cpu", init_scale=2.0**10), None), strict=True):

        def losses(m: Any, _: object) -> list[Tensor | None]:
            return [(m[0](ids) * (m[1](ids) + m[2](ids))).sum(), m[0](ids).sum()]

        if by == "HydaLearn":
            HydaLearn(model, losses, [model[0].weight], gain="first_order").backward(None, scaler=scaler)
            optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.1)
        else:
            loss = losses(model, None)[0]
            assert loss is not None
            torch.autograd.backward(loss if scaler is None else scaler.scale(loss))
            optimizer = AdaTaskSparseAdam(model.parameters(), num_tasks=1, eps=1.0)
        optimizer.step() if scaler is None else scaler.step(optimizer)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("gain", ["exact", "first_order"])
def test_hydalearn_with_a_gradient_scaler(gain: str) -> None:
    scaled, _ = twins()
    plain = copy.deepcopy(scaled)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for model in (scaled, plain):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        hydalearn = HydaLearn(model, losses_fn, model.shared(), trial_step=0.01, gain=gain)
        hydalearn.backward(batch(), scaler=scaler if model is scaled else None)
        scaler.step(optimizer) if model is scaled else optimizer.step()
    for p, q in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", ["gradients", "updates"])
def test_hydalearn_in_front_of_adatask(mode: str) -> None:
    """The weights of HydaLearn count where the optimizer says; a task of weight 0 with NaN spoils nothing."""
    model, _ = twins()
    optimizer = AdaTaskSparseAdam(model.tables(), num_tasks=3, lr=0.1, task_weights=mode)

    def losses(m: Any, b: Batch) -> list[Tensor | None]:
        first, second, third = m.losses(b)
        return [first, second * torch.nan, third]

    hydalearn = HydaLearn(model, losses, model.shared(), trial_step=1e-4)
    theta = [p.detach().clone() for p in model.tables()]
    state: list[dict[int, Any]] = [{}, {}]
    for seed in range(3):
        model.zero_grad()
        weights = hydalearn.backward(batch(seed)).weights.tolist()
        assert weights[1] == 0
        for i, p in enumerate(model.tables()):
            g = rows_of_tasks(p.task_grad)
            g[1] = sparse(g[1].indices(), torch.zeros_like(g[1].values()), p)
            if mode == "gradients":
                g, w = [w * g_k for w, g_k in zip(weights, g, strict=True)], [1.0, 1.0, 1.0]
            else:
                w = weights
            theta[i], _ = reference.adatask_adam(theta[i], g, state[i], lr=0.1, w=w)
        optimizer.step()
    for p, expected in zip(model.tables(), theta, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-10, atol=1e-12)


def test_the_optimizers_own_step_as_trial_is_refused_before_anything_changes() -> None:
    model, _ = twins()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hydalearn = HydaLearn(model, losses_fn, model.shared(), trial_step=optimizer, trial_rule="optimizer")
    with pytest.raises(ValueError, match="copies whole embedding tables"):
        hydalearn.backward(batch())
    assert all(p.grad is None and not hasattr(p, "task_grad") for p in model.parameters())


# --------------------------------------------------------------------------------------------- AdaTaskSparseAdam


def sparse(indices: Tensor, values: Tensor, p: Tensor) -> Tensor:
    return torch.sparse_coo_tensor(indices, values, p.shape, check_invariants=False).coalesce()


def rows_of_tasks(task_grad: Tensor) -> list[Tensor]:
    """The sparse gradient [*shape] of each task, by hand."""
    (tasks, rows), values = task_grad.coalesce().indices(), task_grad.coalesce().values()
    shape = torch.empty(task_grad.shape[1:], device="meta")
    return [sparse(rows[tasks == t][None], values[tasks == t], shape) for t in range(len(task_grad))]


def table_and_gradients(
    seed: int, num_tasks: int, dtype: torch.dtype = torch.float64, rows: int = 30
) -> tuple[Any, list[list[Tensor | None]]]:
    """A table and the gradients of five steps: tasks in different scales, on rows of their own, that may be missing."""
    generator = torch.Generator().manual_seed(seed)
    p = nn.Parameter(torch.randn(rows, 3, generator=generator, dtype=dtype))
    steps: list[list[Tensor | None]] = []
    for step in range(5):
        grads: list[Tensor | None] = []
        for t in range(num_tasks):
            ids = torch.randint(rows, (int(torch.randint(0, 8, (), generator=generator)),), generator=generator)
            values = 10.0**t * torch.randn(len(ids), 3, generator=generator, dtype=dtype)
            missing = num_tasks > 1 and (step + t) % 4 == 3
            grads.append(None if missing else sparse(ids[None], values, p))
        steps.append(grads)
    return p, steps


def give(p: Any, grads: Sequence[Tensor | None]) -> None:
    """Puts task gradients there by hand, not coalesced."""
    entries = [(t, grad) for t, grad in enumerate(grads) if grad is not None]
    indices = torch.cat([torch.cat([torch.full_like(g.indices(), t), g.indices()]) for t, g in reversed(entries)], 1)
    values = torch.cat([g.values() for _, g in reversed(entries)])
    p.task_grad = torch.sparse_coo_tensor(indices, values, (len(grads), *p.shape), check_invariants=False)
    p.task_reached = tuple(g is not None for g in grads)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_tasks", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"betas": (0.5, 0.75), "eps": 1e-3}, {"maximize": True}, {"betas": (0.0, 0.0)}],
    ids=["defaults", "betas", "maximize", "no memory"],
)
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 2.0], [0.0, 1.0, 1.0], torch.tensor([0.5, 0.0, 2.0]).double()])
def test_each_step_is_the_references(seed: int, num_tasks: int, options: dict[str, Any], weights: Any) -> None:
    p, steps = table_and_gradients(seed, num_tasks)
    weights = None if weights is None else weights[:num_tasks]
    optimizer = AdaTaskSparseAdam([p], num_tasks=num_tasks, lr=0.1, task_weights=weights, **options)
    theta, state = p.detach().clone(), dict[int, Any]()
    beta1, beta2 = options.get("betas", (0.9, 0.999))
    others = {"lr": 0.1, "beta1": beta1, "beta2": beta2, "w": weights}
    others |= {name: value for name, value in options.items() if name != "betas"}
    for grads in steps:
        give(p, grads)
        optimizer.step()
        theta, _ = reference.adatask_adam(theta, grads, state, **others)
        torch.testing.assert_close(p.detach(), theta, rtol=1e-12, atol=1e-14)
    for t, (step, m, v, _) in state.items():
        assert optimizer.state[p]["step"][t] == step
        torch.testing.assert_close(optimizer.state[p]["exp_avg"][t], m, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(optimizer.state[p]["exp_avg_sq"][t], v, rtol=1e-12, atol=1e-14)


def test_one_step_by_hand() -> None:
    """Two tasks, two rows, betas 0.5 and 0.75, eps 1; a row of gradient zero is touched all the same."""
    p: Any = nn.Parameter(torch.zeros(3, 1, dtype=torch.float64))
    optimizer = AdaTaskSparseAdam([p], num_tasks=2, lr=1.0, betas=(0.5, 0.75), eps=1.0)
    two, zero = torch.tensor([[2.0]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    give(p, [sparse(torch.tensor([[0]]), two, p), sparse(torch.tensor([[0]]), -two, p)])
    optimizer.step()  # m = 1, v = 1, sqrt(1 - 0.75) / (1 - 0.5) = 1, so each moves by 1 / (1 + 1), against the other
    assert p.tolist() == [[0], [0], [0]]
    give(p, [sparse(torch.tensor([[0]]), zero, p), sparse(torch.tensor([[1]]), two, p)])
    optimizer.step()  # the correction is sqrt(1 - 0.75^2) / (1 - 0.5^2); row 0 of task 1 rests
    correction = (1 - 0.75**2) ** 0.5 / 0.75
    assert p[0].item() == pytest.approx(-correction * 0.5 / (0.75**0.5 + 1), rel=1e-14)
    assert p[1].item() == pytest.approx(-correction * 1.0 / (1.0 + 1), rel=1e-14)
    assert p[2].item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("ordinary", [False, True])
@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.75), "eps": 1e-3, "maximize": True}])
def test_one_task_is_torchs_sparse_adam_to_the_bit(dtype: torch.dtype, ordinary: bool, options: dict[str, Any]) -> None:
    """Whether its gradient comes as p.task_grad or as p.grad alone."""
    p, steps = table_and_gradients(0, 1, dtype)
    q = nn.Parameter(p.detach().clone())
    ours = AdaTaskSparseAdam([p], num_tasks=3 if ordinary else 1, lr=0.1, **options)
    ours._told = True
    theirs: Any = torch.optim.SparseAdam([q], lr=0.1, **options)
    for (grad,) in steps:
        assert grad is not None
        q.grad = grad
        if ordinary:
            p.grad = grad.clone()
        else:
            give(p, [grad])
        ours.step()
        theirs.step()
        assert torch.equal(p, q)


@pytest.mark.parametrize("ordinary", [False, True])
def test_one_task_trains_a_model_as_torchs_sparse_adam_to_the_bit(ordinary: bool) -> None:
    ours, theirs = (Recommender(num_tasks=1) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizers = [
        AdaTaskSparseAdam(ours.tables(), num_tasks=1, lr=0.1),
        torch.optim.SparseAdam(theirs.tables(), lr=0.1),
    ]
    for seed in range(4):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (loss,) = model.losses(batch(seed, dtype=torch.float32))
            assert loss is not None
            if model is ours and not ordinary:
                task_backward([loss], model.tables())
            else:
                torch.autograd.backward(loss)
            optimizer.step()
    for p, q in zip(ours.tables(), theirs.tables(), strict=True):
        assert torch.equal(p, q)


def test_half_precision_loses_one_addition_not_one_per_task() -> None:
    """Eight tasks that pull alike by less than half of the parameter's last digit: alone, each would be lost."""
    dtype = torch.bfloat16
    p: Any = nn.Parameter(torch.full((6, 2), 1.0, dtype=dtype))
    small = torch.finfo(dtype).eps / 8
    optimizer = AdaTaskSparseAdam([p], num_tasks=8, lr=small)
    give(p, [sparse(torch.tensor([[4]]), torch.ones(1, 2, dtype=dtype), p)] * 8)
    optimizer.step()
    assert p[4, 0].item() == pytest.approx(1 - 8 * small, abs=small)
    assert p[3, 0] == 1


def test_a_permutation_of_the_tasks_permutes_their_state_and_nothing_else() -> None:
    results = []
    for order in ([0, 1, 2], [2, 0, 1]):
        p, steps = table_and_gradients(3, 3)
        optimizer = AdaTaskSparseAdam([p], num_tasks=3, lr=0.1)
        for grads in steps:
            give(p, [grads[t] for t in order])
            optimizer.step()
        results.append((p.detach(), optimizer.state[p]["exp_avg"][[order.index(t) for t in range(3)]]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-13, atol=1e-15)


def test_a_tasks_scale_is_erased_and_its_weight_is_not() -> None:
    steps_of = []
    for factor, weight in ((1.0, 1.0), (1e4, 1.0), (1.0, 3.0)):
        p, steps = table_and_gradients(1, 2)
        optimizer = AdaTaskSparseAdam([p], num_tasks=2, lr=0.1, eps=1e-300, task_weights=[1.0, weight])
        before = p.detach().clone()
        for first, second in steps[:1]:
            give(p, [None if first is None else 0 * first, None if second is None else factor * second])
            p.task_reached = (False, True)
            optimizer.step()
        steps_of.append(p.detach() - before)
    torch.testing.assert_close(steps_of[1], steps_of[0])
    torch.testing.assert_close(steps_of[2], 3 * steps_of[0])


def test_a_whole_training_moves_the_model_as_the_reference_does() -> None:
    """Tables by AdaTaskSparseAdam, the layer by AdaTaskAdam, heads and their tables by torch's."""
    model, _ = twins()
    tables, optimizers = (
        model.tables(),
        [
            AdaTaskSparseAdam(model.all_tables(), num_tasks=3, lr=0.1),
            AdaTaskAdam([*model.layer.parameters(), *model.heads.parameters()], num_tasks=3, lr=0.01),
        ],
    )
    theta, state = [p.detach().clone() for p in tables], [dict[int, Any](), dict[int, Any]()]
    first_loss = last_loss = 0.0
    for step in range(20):
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses = model.losses(batch())
        task_backward(losses, model.shared())
        for i, p in enumerate(tables):
            theta[i], _ = reference.adatask_adam(theta[i], rows_of_tasks(p.task_grad), state[i], lr=0.1)
        for optimizer in optimizers:
            optimizer.step()
        last_loss = sum(loss.item() for loss in losses if loss is not None)
        first_loss = first_loss if step else last_loss
    for p, expected in zip(tables, theta, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-10, atol=1e-12)
    assert last_loss < 0.1 * first_loss


# ------------------------------------------------------------------------------------ torch's manners and memory


def test_groups_schedulers_and_closures_work_as_with_torch() -> None:
    (p, steps), (q, _) = table_and_gradients(0, 2), table_and_gradients(9, 2)
    own = {"lr": torch.tensor(0.5), "betas": (0.5, 0.5), "task_weights": [1.0, 3.0]}
    groups: Any = [{"params": [("p", p)]}, {"params": [("q", q)], **own}]
    optimizer = AdaTaskSparseAdam(groups, num_tasks=2, lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    thetas, states = [p.detach().clone(), q.detach().clone()], [dict[int, Any](), dict[int, Any]()]
    for step, grads in enumerate(steps):

        def closure(grads: Sequence[Tensor | None] = grads) -> float:
            give(p, grads)
            give(q, grads)
            return 4.5

        assert optimizer.step(closure) == 4.5
        scheduler.step()
        rate = 0.5**step
        thetas[0], _ = reference.adatask_adam(thetas[0], grads, states[0], lr=0.1 * rate)
        thetas[1], _ = reference.adatask_adam(
            thetas[1], grads, states[1], lr=0.5 * rate, beta1=0.5, beta2=0.5, w=[1.0, 3.0]
        )
    torch.testing.assert_close([p.detach(), q.detach()], thetas, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("copied", ["saved", "contiguous", "deep copy"])
def test_training_goes_on_from_a_checkpoint_to_the_bit(copied: str) -> None:
    p, steps = table_and_gradients(2, 3)
    optimizer = AdaTaskSparseAdam([p], num_tasks=3, lr=0.1)
    for grads in steps[:2]:
        give(p, grads)
        optimizer.step()
    if copied == "deep copy":
        q, other = copy.deepcopy((p, optimizer))
    else:
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file)
        if copied == "contiguous":
            for state in loaded["state"].values():
                state.update({name: value.contiguous() for name, value in state.items()})
        q = nn.Parameter(p.detach().clone())
        other = AdaTaskSparseAdam([q], num_tasks=3, lr=7.0)
        other.load_state_dict(loaded)
    if copied == "deep copy":
        q = other.param_groups[0]["params"][0]
    for grads in steps[2:]:
        for parameter, trained in ((p, optimizer), (q, other)):
            give(parameter, grads)
            trained.step()
    assert torch.equal(p, q)


def test_checkpoints_of_other_optimizers_and_shapes_are_refused() -> None:
    p, steps = table_and_gradients(2, 2)
    optimizer = AdaTaskSparseAdam([p], num_tasks=2)
    give(p, steps[0])
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    others = [
        AdaTaskAdam([p], num_tasks=2).state_dict(),
        AdaTaskSparseAdam([p], num_tasks=3).state_dict(),
        torch.optim.SparseAdam([p]).state_dict(),
    ]
    for other in others:
        with pytest.raises(ValueError, match="`state_dict` should be"):
            optimizer.load_state_dict(other)
    with pytest.raises(ValueError, match="`state_dict` should be a checkpoint of AdaTaskAdam"):
        AdaTaskAdam([p], num_tasks=2).load_state_dict(before)
    torch.testing.assert_close(optimizer.state_dict(), before, rtol=0, atol=0)


def test_one_tasks_moments_stay_where_only_others_touch_a_row() -> None:
    p, _ = table_and_gradients(0, 2)
    optimizer = AdaTaskSparseAdam([p], num_tasks=2, lr=0.1)
    one = torch.ones(1, 3, dtype=torch.float64)
    give(p, [sparse(torch.tensor([[4]]), one, p), sparse(torch.tensor([[7]]), one, p)])
    optimizer.step()
    moved = optimizer.state[p]["exp_avg"].abs().sum(2) > 0
    assert moved.nonzero().tolist() == [[0, 4], [1, 7]]


def everything(model: Recommender, optimizer: torch.optim.Optimizer, rows: int) -> None:
    """Each public function once."""
    tables, b = model.tables(), batch(rows=rows)
    optimizer.zero_grad()
    for _ in range(2):
        task_backward(model.losses(b), tables)
    combine(tables, [1.0, 0.0, 2.0])
    clip_task_grad_norm_(tables, 1.0)
    model.table.weight.grad.mul_(1.0)
    optimizer.step()
    model.zero_grad()
    hydalearn = HydaLearn(model, losses_fn, tables, trial_step=optimizer)
    hydalearn.backward(b)
    hydalearn.backward(b, tuple(x.clone() for x in b))
    optimizer.step()
    task_backward(model.losses(b), tables)
    scaler = torch.amp.GradScaler("cpu")
    unscale_task_grad_(scaler, tables)


@pytest.mark.parametrize(
    "make", [lambda p: AdaTaskSparseAdam(p, num_tasks=3, task_weights="gradients"), torch.optim.SparseAdam]
)
def test_nothing_but_the_state_is_as_large_as_the_table(make: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = Recommender(LARGE).double()
    optimizer = make(model.all_tables())
    everything(model, optimizer, LARGE)
    state = [x for of_p in optimizer.state.values() for x in of_p.values() if isinstance(x, Tensor)]
    with NothingLarge(LARGE, [*model.parameters(), *state]):
        everything(model, optimizer, LARGE)


def test_the_counter_of_large_tensors_counts() -> None:
    with NothingLarge(100, []):
        torch.zeros(99)
        with pytest.raises(AssertionError, match="made"):
            torch.zeros(100)


def test_a_table_that_no_task_reaches_costs_nothing() -> None:
    table: Any = nn.Embedding(LARGE, 4, sparse=True)
    other: Any = nn.Embedding(LARGE, 4, sparse=True)
    model = nn.ModuleList([table, other])
    ids = torch.tensor([0, 6, 6])
    with NothingLarge(LARGE, list(model.parameters())):
        out = table(ids).sum()
        task_backward([out, 2 * out], model.parameters())
        model.zero_grad()
        HydaLearn(model, lambda m, b: [m[0](b).sum(), m[0](b).square().sum()], model, gain="first_order").backward(ids)
    assert not hasattr(other.weight, "task_grad")
    assert other.weight.grad is None


# --------------------------------------------------------------------------------------------- what is refused


def dense_task_grad(p: Any) -> None:
    p.task_grad = torch.ones(2, *p.shape, dtype=p.dtype)


def dense_grad(p: Any) -> None:
    del p.task_grad, p.task_reached
    p.grad = torch.ones_like(p)


def too_many_tasks(p: Any) -> None:
    give(p, [sparse(torch.tensor([[1]]), torch.ones(1, 3, dtype=p.dtype), p)] * 3)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (dense_task_grad, {}, r"real and sparse. Found one of .*strided. Give .* AdaTaskAdam, .* sparse=True"),
        (dense_grad, {}, r"real and sparse. Found one of .*strided. Give .* AdaTaskAdam, .* sparse=True"),
        (too_many_tasks, {}, r"should have shape \(2, 30, 3\) for `num_tasks = 2`"),
        (None, {"task_weights": torch.ones(2, 30)}, r"should be for the R runs"),
        (None, {"task_weights": [1.0, -1.0]}, r"Found `task_weights = \[1.0, -1.0\]`"),
    ],
)
def test_a_step_that_does_not_fit_is_refused_before_any_parameter_moves(
    change: Callable[[Any], None] | None, options: dict[str, Any], message: str
) -> None:
    (p, steps), (q, _) = table_and_gradients(0, 2), table_and_gradients(1, 2)
    optimizer = AdaTaskSparseAdam([{"params": [q]}, {"params": [p]}], num_tasks=2)
    optimizer.param_groups[1].update(options)
    for parameter in (p, q):
        give(parameter, steps[0])
    if change is not None:
        change(p)
    before = [p.detach().clone(), q.detach().clone()]
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert torch.equal(p, before[0])
    assert torch.equal(q, before[1])
    assert not optimizer.state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "`lr` should be non-negative"),
        ({"eps": 0.0}, "`eps` should be positive"),
        ({"eps": -1.0}, "`eps` should be non-negative"),
        ({"betas": (0.9, 1.0)}, "`betas` should be two floats"),
        ({"num_tasks": 0}, "`num_tasks` should be a positive integer"),
        ({"task_weights": [1.0]}, "`task_weights` should hold 2"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    p, _ = table_and_gradients(0, 2)
    with pytest.raises(ValueError, match=message):
        AdaTaskSparseAdam([p], **{"num_tasks": 2, **options})


def test_dense_optimizers_refuse_sparse_task_gradients_with_the_remedy() -> None:
    for kind in (AdaTaskAdam, AdaTaskAdagrad):
        p, steps = table_and_gradients(0, 2)
        give(p, steps[0])
        before = p.detach().clone()
        with pytest.raises(ValueError, match=r"and dense. Found .*sparse_coo. Give .* AdaTaskSparseAdam"):
            kind([p], num_tasks=2).step()
        assert torch.equal(p, before)


def test_weights_per_run_are_refused_for_a_table() -> None:
    table: Any = nn.Embedding(9, 2, sparse=True)
    out = table(torch.tensor([1, 4]))
    task_backward([out.sum(), out.square().sum()], table.parameters())
    before = table.weight.grad.to_dense()
    with pytest.raises(ValueError, match="`weights` should hold 2 finite numbers"):
        combine(table.parameters(), torch.ones(2, 9))
    assert torch.equal(table.weight.grad.to_dense(), before)


def test_dominance_of_a_table_is_refused_before_it_moves() -> None:
    p, steps = table_and_gradients(0, 2)
    for optimizer in (AdaTaskSparseAdam([p], num_tasks=2), torch.optim.SparseAdam([p])):
        with pytest.raises(ValueError, match="should be an AdaTask optimizer for dense gradients"):
            Dominance(optimizer)
    sgd = torch.optim.SGD([p], lr=0.1)
    Dominance(sgd)
    give(p, steps[0])
    combine([p])
    before = p.detach().clone()
    with pytest.raises(ValueError, match="should be recorded of dense task gradients"):
        sgd.step()
    assert torch.equal(p, before)
