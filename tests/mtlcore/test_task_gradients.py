"""One backward pass per task: right gradients in the right place, and no leak from one task into another."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtlcore import clip_task_grad_norm_, combine, task_backward, unscale_task_grad_, zero_task_grad
from mtlcore.task_gradients import contributions


class TwoTasks(nn.Module):
    """A shared trunk and one head per task."""

    def __init__(self, num_tasks: int = 2) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4))
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(num_tasks))

    def losses(self, x: Tensor) -> list[Tensor]:
        z = self.trunk(x)
        return [(k + 1) * (head(z) - k).square().mean() for k, head in enumerate(list(self.heads))]


@pytest.fixture
def model(device: torch.device) -> TwoTasks:
    torch.manual_seed(0)
    return TwoTasks().to(device)


@pytest.fixture
def x(device: torch.device) -> Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(1)).to(device)


def plain_grads(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))


def task_grad(p: Tensor) -> Tensor:
    grad: Tensor = p.task_grad  # type: ignore[attr-defined]
    return grad


def test_shared_get_a_gradient_per_task_and_heads_their_ordinary_one(model: TwoTasks, x: Tensor) -> None:
    shared, heads = list(model.trunk.parameters()), list(model.heads.parameters())
    losses = model.losses(x)
    per_task = [plain_grads(loss, shared) for loss in losses]
    of_heads = plain_grads(losses[0] + losses[1], heads)

    task_backward(losses, shared)

    for i, p in enumerate(shared):
        torch.testing.assert_close(p.grad, per_task[0][i] + per_task[1][i], rtol=1e-5, atol=1e-7)  # type: ignore[operator]
        assert task_grad(p).shape == (2, *p.shape)
        for t in range(2):
            torch.testing.assert_close(task_grad(p)[t], per_task[t][i], rtol=1e-5, atol=1e-7)
    for p, expected in zip(heads, of_heads, strict=True):
        torch.testing.assert_close(p.grad, expected, rtol=1e-5, atol=1e-7)


def test_one_backward_pass_per_task(model: TwoTasks, x: Tensor) -> None:
    passes = []
    model.trunk[2].register_full_backward_hook(lambda *_: passes.append(1))
    losses = model.losses(x)
    task_backward(losses, model.trunk.parameters())
    assert len(passes) == 2


def test_it_adds_like_backward(model: TwoTasks, x: Tensor) -> None:
    shared, head = list(model.trunk.parameters()), next(model.heads.parameters())
    shared[0].grad = torch.ones_like(shared[0])  # of no task
    task_backward(model.losses(x), shared)
    once, head_once = task_grad(shared[0]).clone(), head.grad.clone()  # type: ignore[union-attr]
    task_backward(model.losses(x), shared)
    torch.testing.assert_close(task_grad(shared[0]), 2 * once)
    torch.testing.assert_close(head.grad, 2 * head_once)
    torch.testing.assert_close(shared[0].grad, 1 + 2 * once.sum(0))
    combine(shared, [2.0, 0.5])
    torch.testing.assert_close(shared[0].grad, 1 + 4 * once[0] + once[1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_task_spoils_no_other(model: TwoTasks, x: Tensor, bad: float) -> None:
    shared = list(model.trunk.parameters())
    clean = [plain_grads(loss, shared) for loss in model.losses(x)]
    good, spoilt = model.losses(x)
    task_backward([good, spoilt * bad], shared)
    for i, p in enumerate(shared):
        torch.testing.assert_close(task_grad(p)[0], clean[0][i])
        assert not task_grad(p)[1].isfinite().all()


def test_isolation_is_promised_for_sequences_only() -> None:
    """At 0 the square root has an infinite slope; a stacked tensor multiplies it by the other task's zero."""

    def losses(p: Tensor) -> list[Tensor]:
        return [2 * p, p.sqrt()]

    p = nn.Parameter(torch.zeros(()))
    task_backward(losses(p), [p])
    assert task_grad(p).tolist() == [2.0, float("inf")]
    zero_task_grad([p])
    task_backward(torch.stack(losses(p)), [p])
    assert task_grad(p)[0].isnan()


def test_a_task_that_does_not_reach_a_parameter_is_named() -> None:
    a, b, c = (nn.Parameter(torch.ones(2)) for _ in range(3))
    task_backward([a.sum(), (a * b).sum()], [a, b, c])
    assert getattr(a, "task_reached", None) is None
    assert b.task_reached == (False, True)  # type: ignore[attr-defined]
    assert task_grad(b).tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert getattr(c, "task_grad", None) is None
    task_backward([b.sum(), b.sum()], [a, b, c])  # a second micro-batch reaches it from the other task too
    assert getattr(b, "task_reached", None) is None
    assert task_grad(b).tolist() == [[1.0, 1.0], [2.0, 2.0]]


def test_frozen_tied_and_repeated_parameters_and_shared_buffers(device: torch.device) -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)).to(device)
    trunk[2].weight = trunk[0].weight  # tied
    trunk[0].bias.requires_grad_(False)  # frozen
    x = torch.randn(5, 3, device=device)

    def losses() -> list[Tensor]:
        z = trunk(trunk(x))  # used twice
        return [z.square().mean(), z.sum()]

    shared = [*trunk[0].parameters(), *trunk[2].parameters()]  # the tied weight is named twice
    trainable = [p for p in dict.fromkeys(shared) if p.requires_grad]
    expected = [plain_grads(loss, trainable) for loss in losses()]
    statistics = trunk[1].get_buffer("running_mean").clone()
    task_backward(losses(), shared)
    for i, p in enumerate(trainable):
        for t in range(2):
            torch.testing.assert_close(task_grad(p)[t], expected[t][i], rtol=1e-4, atol=1e-6)
    assert getattr(trunk[0].bias, "task_grad", None) is None
    assert not torch.equal(statistics, trunk[1].get_buffer("running_mean"))


def convolutional() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), torch.randn(2, 1, 4, 4)


def recurrent() -> tuple[nn.Module, Tensor]:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.lstm(x)[0]
            return output[:, -1]

    return Last(), torch.randn(2, 5, 3)


def attentive() -> tuple[nn.Module, Tensor]:
    return nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), torch.randn(2, 3, 4)


def checkpointed() -> tuple[nn.Module, Tensor]:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 4), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = checkpoint(self.inner, x, use_reentrant=False)
            return output

    return Checkpointed(), torch.randn(2, 3)


@pytest.mark.parametrize("make", [convolutional, recurrent, attentive, checkpointed])
def test_any_module(make: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    torch.manual_seed(0)
    trunk, x = make()
    shared = list(trunk.parameters())
    losses = [trunk(x).square().mean(), trunk(x).sin().mean()]
    expected = [plain_grads(loss, shared) for loss in losses]
    task_backward(losses, shared)
    for i, p in enumerate(shared):
        for t in range(2):
            torch.testing.assert_close(task_grad(p)[t], expected[t][i])


def test_sparse_gradients_of_other_than_rows_become_dense() -> None:
    p = nn.Parameter(torch.zeros(2, 3))
    places = torch.tensor([[1, 1], [2, 0]])
    out = torch.gather(p, 1, places, sparse_grad=True)
    task_backward([out.sum(), out[0].sum()], [p])
    assert task_grad(p).tolist() == [[[0, 2, 0], [1, 0, 1]], [[0, 2, 0], [0, 0, 0]]]


def test_bf16_autocast(model: TwoTasks, x: Tensor) -> None:
    shared = list(model.trunk.parameters())
    exact = [plain_grads(loss, shared) for loss in model.losses(x)]
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        losses = model.losses(x)
    task_backward(losses, shared)
    for i, p in enumerate(shared):
        assert task_grad(p).dtype == torch.float32
        for t in range(2):
            torch.testing.assert_close(task_grad(p)[t], exact[t][i], rtol=0.1, atol=0.1)
            assert (task_grad(p)[t] - exact[t][i]).abs().max() > 0  # type: ignore[operator]  # so autocast was on


def test_accumulation_over_micro_batches_is_the_gradient_of_the_whole(model: TwoTasks, x: Tensor) -> None:
    shared = list(model.trunk.parameters())
    task_backward(model.losses(x), shared)
    whole = [task_grad(p).clone() for p in shared]
    zero_task_grad(shared)
    for half in x.chunk(2):
        task_backward([loss / 2 for loss in model.losses(half)], shared)
    for p, expected in zip(shared, whole, strict=True):
        torch.testing.assert_close(task_grad(p), expected, rtol=1e-4, atol=1e-6)


def test_many_runs_equal_each_run_alone(device: torch.device) -> None:
    data = torch.randn(2, 5, 3, device=device)
    start = torch.randn(2, 3, device=device)
    stack = nn.Parameter(start.clone())
    stack.task_runs = 2  # type: ignore[attr-defined]
    z = (data * stack[:, None]).sum(-1)  # [R, B]
    task_backward([z.square().mean(1), z.sin().mean(1)], [stack])
    norms = clip_task_grad_norm_([stack], 0.1)
    assert norms.shape == (2, 2)
    for r in range(2):
        alone = nn.Parameter(start[r].clone())
        z = (data[r] * alone).sum(-1)
        task_backward([z.square().mean(), z.sin().mean()], [alone])
        alone_norms = clip_task_grad_norm_([alone], 0.1)
        torch.testing.assert_close(norms[:, r], alone_norms)
        torch.testing.assert_close(task_grad(stack)[:, r], task_grad(alone))


# -- combine ---------------------------------------------------------------------------------------------------------


def test_combine_is_the_gradient_of_the_weighted_loss(model: TwoTasks, x: Tensor) -> None:
    shared = list(model.trunk.parameters())
    losses = model.losses(x)
    expected = plain_grads(0.3 * losses[0] + 2.0 * losses[1], shared)
    task_backward(losses, shared)
    for weights in ([0.3, 2.0], torch.tensor([0.3, 2.0], device=x.device)):
        combine(shared, weights)
        for p, grad in zip(shared, expected, strict=True):
            torch.testing.assert_close(p.grad, grad, rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(contributions(p).sum(0), p.grad, rtol=1e-5, atol=1e-7)
    combine(shared)
    torch.testing.assert_close(shared[0].grad, task_grad(shared[0]).sum(0))
    torch.testing.assert_close(contributions(shared[0]), task_grad(shared[0]))


def test_combine_with_weights_per_run() -> None:
    p = nn.Parameter(torch.ones(2, 3))
    p.task_runs = 2  # type: ignore[attr-defined]
    task_backward([p.sum(1), 10 * p.sum(1)], [p])
    combine([p], torch.tensor([[1.0, 0.5], [0.0, 2.0]]))  # [T, R]
    assert p.grad.tolist() == [[1.0] * 3, [20.5] * 3]  # type: ignore[union-attr]


def test_a_task_of_weight_zero_is_left_out_even_if_not_finite() -> None:
    p = nn.Parameter(torch.ones(2))
    task_backward([p.sum(), p.sum() * float("nan")], [p])
    combine([p], [1.0, 0.0])
    assert p.grad.tolist() == [1.0, 1.0]  # type: ignore[union-attr]
    combine([p], [1.0, 1e-9])
    assert p.grad.isnan().all()  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (2, 3, 4), (0,), (3, 0)])
@pytest.mark.parametrize("zero", [[], [0], [1], [0, 2], [0, 1, 2]], ids=str)
def test_the_weighted_sum_reads_no_task_of_weight_zero(shape: tuple[int, ...], zero: list[int]) -> None:
    """Against the plain formula, for parameters of any shape; all weights may be zero."""
    grads, weights = torch.randn(3, *shape, dtype=torch.float64), torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    weights[zero] = 0.0
    expected = (grads * weights.reshape(3, *[1] * len(shape))).sum(0)
    grads[zero] = float("nan")
    p = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    p.task_grad = grads  # type: ignore[attr-defined]
    combine([p], weights)
    torch.testing.assert_close(p.grad, expected, rtol=1e-12, atol=1e-12)


def test_the_weighted_sum_reads_no_run_of_weight_zero() -> None:
    grads = torch.randn(2, 3, 4, 5, dtype=torch.float64)  # [T, R, 4, 5]
    weights = torch.tensor([[1.0, 0.0, 0.0], [2.0, 3.0, 0.0]], dtype=torch.float64)  # [T, R]
    expected = torch.stack([grads[0, 0] + 2 * grads[1, 0], 3 * grads[1, 1], torch.zeros(4, 5, dtype=torch.float64)])
    grads[0, 1], grads[:, 2] = float("nan"), float("inf")
    p = nn.Parameter(torch.zeros(3, 4, 5, dtype=torch.float64))
    p.task_grad, p.task_runs = grads, 3  # type: ignore[attr-defined]
    combine([p], weights)
    torch.testing.assert_close(p.grad, expected, rtol=1e-12, atol=1e-12)


# -- clipping, clearing, scaling -------------------------------------------------------------------------------------


def test_clipping_takes_one_norm_per_task_over_all_shared_parameters() -> None:
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(()))
    task_backward([3 * a.sum() * 0 + 3 * a[0] + 4 * b, 0.3 * a[1]], [a, b])  # norms 5 and 0.3
    norms = clip_task_grad_norm_([a, b], max_norm=1.0)
    torch.testing.assert_close(norms, torch.tensor([5.0, 0.3]))
    torch.testing.assert_close(task_grad(a), torch.tensor([[0.6, 0.0], [0.0, 0.3]]), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(task_grad(b), torch.tensor([0.8, 0.0]), rtol=1e-5, atol=1e-7)


def test_zero_task_grad_forgets_everything_but_grad() -> None:
    p = nn.Parameter(torch.ones(2))
    task_backward([p.sum()], [p])
    combine([p], [2.0])
    zero_task_grad([p])
    assert not [name for name in vars(p) if "task" in name]
    assert p.grad is not None


def test_kept_memory_is_written_again_where_it_fits() -> None:
    p = nn.Parameter(torch.ones(2))
    task_backward([p.sum(), 3 * p.sum()], [p])
    combine([p], [2.0, 1.0])
    first = task_grad(p)
    zero_task_grad([p], keep_memory=True)
    assert [name for name in vars(p) if "task" in name] == ["task_grad_memory"]
    task_backward([5 * p.sum(), 7 * p.sum()], [p])
    assert task_grad(p).tolist() == [[5.0, 5.0], [7.0, 7.0]]
    assert task_grad(p).data_ptr() == first.data_ptr()
    task_backward([p.sum(), p.sum()], [p])  # adds, for it was not cleared
    assert first.tolist() == [[6.0, 6.0], [8.0, 8.0]]
    zero_task_grad([p], keep_memory=True)
    task_backward([p.sum(), p.sum(), p.sum()], [p])  # of other tasks: new memory
    assert task_grad(p).shape == (3, 2)
    zero_task_grad([p], keep_memory=True)
    zero_task_grad([p])
    assert not [name for name in vars(p) if "task" in name]


def test_kept_memory_holds_no_row_of_the_step_before() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    task_backward([(a + b).sum(), (a + b).sum()], [a, b])
    zero_task_grad([a, b], keep_memory=True)
    task_backward([a.sum(), (a + b).sum()], [a, b])
    assert task_grad(b).tolist() == [[0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("bad_task", [None, 0, 1])
def test_gradient_scaler(bad_task: int | None) -> None:
    """One scale for all tasks; an inf in any of them skips the whole step."""
    p, head = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([p, head], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    losses = [p.sum() * head, p.square().sum()]
    if bad_task is not None:
        losses[bad_task] = losses[bad_task] * float("inf")
    task_backward([scaler.scale(loss) for loss in losses], [p])
    unscale_task_grad_(scaler, [p])
    if bad_task is None:
        torch.testing.assert_close(task_grad(p), torch.tensor([[1.0, 1.0], [2.0, 4.0]]))
    scaler.step(optimizer)
    scaler.update()
    skipped = head.item() == 1.0
    assert skipped == (bad_task is not None)
    assert (scaler.get_scale() < 1024.0) == (bad_task is not None)


def test_no_host_synchronisation_on_meta() -> None:
    model, x = TwoTasks().to("meta"), torch.randn(8, 3, device="meta")
    shared = list(model.trunk.parameters())
    task_backward(model.losses(x), shared)
    clip_task_grad_norm_(shared, 1.0)
    combine(shared, torch.ones(2, device="meta"))
    assert shared[0].grad is not None
    assert shared[0].grad.is_meta


# -- what is refused -------------------------------------------------------------------------------------------------


def one(p: Tensor) -> Tensor:
    return p.square().sum()


@pytest.mark.parametrize(
    ("losses", "sentence"),
    [
        (lambda p: [], "at least one loss"),
        (lambda p: one(p), "Found one scalar"),
        (lambda p: [one(p), 3.0], r"`losses\[1\]` of type float"),
        (lambda p: [one(p), torch.ones(2, 2) * p.sum()], r"`losses\[1\]` of shape \(2, 2\)"),
        (lambda p: [one(p), p.square()[:1]], r"`losses\[1\]` of shape \(1,\)"),
        (lambda p: [p.repeat(2), p.repeat(2)], r"losses of shape \(6,\) and a shared parameter of one run, \(3,\)"),
        (lambda p: [one(p), torch.tensor(1.0)], r"`losses\[1\]` without a graph"),
        (lambda p: [one(p), one(p.detach())], r"`losses\[1\]` without a graph"),
        (lambda p: [one(p), one(p), one(p)], "Found 3 losses"),
    ],
)
def test_bad_losses_are_refused_before_anything_changes(
    losses: Callable[[Tensor], list[Tensor]], sentence: str
) -> None:
    p = nn.Parameter(torch.ones(3))
    task_backward([one(p), one(p)], [p])
    before, grad = task_grad(p).clone(), p.grad.clone()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=sentence):
        task_backward(losses(p), [p])
    assert torch.equal(task_grad(p), before)
    assert torch.equal(p.grad, grad)  # type: ignore[arg-type]


def test_bad_shared_parameters_are_refused() -> None:
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match="Found none"):
        task_backward([one(p)], iter(()))
    with pytest.raises(ValueError, match="Found one tensor"):
        task_backward([one(p)], p)
    with pytest.raises(ValueError, match="a computed tensor"):
        task_backward([one(p)], [p * 2])
    with pytest.raises(ValueError, match="a complex tensor"):
        task_backward([one(p)], [nn.Parameter(torch.ones(1, dtype=torch.complex64))])
    with pytest.raises(ValueError, match=r"`shared\[0\]` of type str"):
        task_backward([one(p)], ["weight"])  # type: ignore[list-item]


@pytest.mark.parametrize("weights", [[1.0], [1.0, float("nan")], torch.ones(3), torch.ones(2, 4), torch.ones(())])
def test_bad_weights_are_refused_before_anything_changes(weights: list[float] | Tensor) -> None:
    p = nn.Parameter(torch.ones(3))
    task_backward([one(p), one(p)], [p])
    with pytest.raises(ValueError, match=r"`weights` should hold 2 finite numbers"):
        combine([p], weights)
    assert p.grad.tolist() == [4.0] * 3  # type: ignore[union-attr]


def test_combining_or_clipping_nothing_is_refused() -> None:
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match="Call `task_backward`"):
        combine([p])
    with pytest.raises(ValueError, match="Call `task_backward`"):
        clip_task_grad_norm_([p], 1.0)
    with pytest.raises(ValueError, match="`max_norm = 0`"):
        clip_task_grad_norm_([p], 0)
