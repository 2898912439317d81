"""Many runs in one program: each equals itself alone, and equals an ordinary torch loop."""

from collections.abc import Callable

import pytest
import torch
from companion.networks.shared_bottom import SharedBottom, binary_losses
from companion.train.problem import Problem
from companion.train.runs import History, train_runs
from companion.train.stacked import RunData, StackedModel, evaluate, predict
from companion.train.weightings import StaticWeights, Weighting
from torch import Tensor, nn

from mtlcore.hydalearn import HydaLearn
from mtlcore.task_gradients import runs_of

Factory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Factory] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1.0),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1.0, weight_decay=0.1),
}
SEEDS, SOURCE = [7, 8, 7, 9], [0, 1, 0, 1]
RATES = torch.tensor([0.01, 0.02, 0.005, 0.1], dtype=torch.float64)
WEIGHTS = torch.tensor([[1.0, 1, 1, 0.5], [1.0, 0, 0.3, 2]], dtype=torch.float64)  # [T, R]


def made_model(seed: int) -> SharedBottom:
    return SharedBottom(6, [8, 8], 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made_data(rows: int, seed: int, source: list[int]) -> RunData:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2, rows, 6, generator=g, dtype=torch.float64)
    y = torch.stack([(x[..., 0] + x[..., 1] > 0), (x[..., 0] - x[..., 2] > 0)], dim=1)
    return RunData(x, y.to(torch.float64), torch.tensor(source))


def made_problem(
    model: StackedModel, seeds: list[int], train: RunData, validation: RunData, batch_size: int = 16
) -> Problem:
    return Problem(model, seeds, ["classification"] * 2, binary_losses, train, validation, validation, batch_size)


def trained(
    runs: list[int], make: Factory, weights: Tensor = WEIGHTS, hydalearn: bool = False
) -> tuple[StackedModel, History]:
    """Train some of the four runs, with HydaLearn where a kind of look-ahead is named."""
    model = StackedModel([made_model(SEEDS[r]) for r in runs])
    source = [SOURCE[r] for r in runs]
    weighting: Weighting = StaticWeights(model, binary_losses, weights[:, runs])
    if hydalearn:
        shared = [p for name, p in model.named_parameters() if "trunk" in name]
        weighting = HydaLearn(model, binary_losses, shared)
    problem = made_problem(model, [SEEDS[r] for r in runs], made_data(50, 0, source), made_data(30, 1, source))
    return model, train_runs(problem, weighting, make(list(model.parameters())), rates=RATES[runs], epochs=3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_in_a_crowd_equals_the_run_alone(name: str) -> None:
    together, history = trained([0, 1, 2, 3], OPTIMIZERS[name])
    for r in range(4):
        alone, history_alone = trained([r], OPTIMIZERS[name])
        for p, q in zip(together.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p[r], q[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(history.validation[:, r], history_alone.validation[:, 0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_an_ordinary_torch_loop(name: str) -> None:
    """One run by the book: an unstacked model, the optimizer's own lr, losses summed with their weights."""
    together, history = trained([0, 1, 2, 3], OPTIMIZERS[name])
    run = 3
    model = made_model(SEEDS[run])
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    for group in optimizer.param_groups:
        group["lr"] = float(RATES[run])
    data, validation = made_data(50, 0, [SOURCE[run]]), made_data(30, 1, [SOURCE[run]])
    order = torch.Generator().manual_seed(SEEDS[run])
    kept, curve = [], []
    for _ in range(3):
        permutation = torch.randperm(50, generator=order)
        for rows in (permutation[:16], permutation[16:32], permutation[32:48]):
            optimizer.zero_grad()
            x, y = data.batch(rows[None])
            losses = binary_losses(model, (x[0], y[:, 0]))
            torch.autograd.backward(WEIGHTS[0, run] * losses[0] + WEIGHTS[1, run] * losses[1])
            optimizer.step()
        x, y = validation.batch(torch.arange(30)[None])
        curve.append(binary_losses(model, (x[0], y[:, 0]))[0].item())
        kept.append([p.detach().clone() for p in model.parameters()])
    best = min(range(3), key=curve.__getitem__)
    assert history.best_epoch[run] == best
    assert history.validation[:, run].tolist() == pytest.approx(curve, abs=1e-10)
    for p, q in zip(together.parameters(), kept[best], strict=True):
        torch.testing.assert_close(p[run], q, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_hydalearn_in_a_crowd_equals_hydalearn_alone(name: str) -> None:
    together, history = trained([0, 1, 2, 3], OPTIMIZERS[name], hydalearn=True)
    assert history.weights.shape == (9, 2, 4)
    assert history.weights[:, 1].std() > 0.05  # the weights do move, so equality says something
    for r in range(4):
        alone, history_alone = trained([r], OPTIMIZERS[name], hydalearn=True)
        torch.testing.assert_close(history.weights[..., r], history_alone.weights[..., 0], rtol=0, atol=1e-10)
        for p, q in zip(together.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p[r], q[0], rtol=0, atol=1e-10)


def test_zero_weight_is_the_single_task() -> None:
    together, _ = trained([0, 1], OPTIMIZERS["adam"])
    start = made_model(SEEDS[1])
    for name in ("heads.1.weight", "heads.1.bias"):
        found = together.stack.get_parameter(name)
        torch.testing.assert_close(found[1], start.get_parameter(name), rtol=0, atol=0)  # its loss has weight 0
        assert not torch.equal(found[0], made_model(SEEDS[0]).get_parameter(name))


def test_a_diverging_run_is_counted_and_spoils_no_other() -> None:
    weights = WEIGHTS.clone()
    weights[0, 1] = torch.nan
    broken, history = trained([0, 1, 2, 3], OPTIMIZERS["sgd"], weights)
    sound, _ = trained([0, 1, 2, 3], OPTIMIZERS["sgd"])
    assert history.failed.tolist() == [False, True, False, False]
    for p, q in zip(broken.parameters(), sound.parameters(), strict=True):
        torch.testing.assert_close(p[[0, 2, 3]], q[[0, 2, 3]], rtol=0, atol=0)
        torch.testing.assert_close(p[1], p[1].nan_to_num(), rtol=0, atol=0)  # it holds its initial weights, finite


def test_the_model_left_is_that_of_least_validation_loss() -> None:
    model, history = trained([0, 1, 2, 3], OPTIMIZERS["sgd"])
    found = evaluate(model, binary_losses, made_data(30, 1, SOURCE))[0]
    torch.testing.assert_close(found, history.validation.min(0).values, rtol=0, atol=1e-12)
    assert history.weights.shape == (9, 2, 4)


def test_chunks_do_not_change_evaluation() -> None:
    model = StackedModel([made_model(0), made_model(1)])
    data = made_data(4500, 0, [0, 1])  # three chunks, the last one shorter
    x, y = data.batch(torch.arange(4500).expand(2, -1))
    whole = torch.stack(binary_losses(model, (x, y)))
    torch.testing.assert_close(evaluate(model, binary_losses, data), whole.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(predict(model, data), torch.stack(model(x)).detach(), rtol=0, atol=1e-12)


def test_stacking_buffers_and_marking_runs() -> None:
    models = [nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval() for _ in range(3)]
    models[1].get_buffer("1.running_mean").fill_(5.0)
    stacked = StackedModel(models)
    x = torch.randn(3, 4, 2)
    for r, model in enumerate(models):
        torch.testing.assert_close(stacked(x)[r], model(x[r]))
    assert {runs_of(p) for p in stacked.parameters()} == {3}


def test_seeds_and_batch_size_are_checked_before_training() -> None:
    model = StackedModel([made_model(0)])

    def attempt(seeds: list[int], batch_size: int) -> None:
        data = made_data(50, 0, [0])
        made_problem(model, seeds, data, data, batch_size)

    with pytest.raises(ValueError, match=r"one integer per run, 1. Found 2"):
        attempt([0, 1], 16)
    with pytest.raises(ValueError, match=r"training rows, 50. Found `batch_size = 51`"):
        attempt([0], 51)


@pytest.mark.parametrize("method", ["static", "HydaLearn"])
def test_training_never_waits_for_the_device(method: str) -> None:
    """Tensors on `meta` have no values: a branch on one, or a copy to the host, would raise."""
    with torch.device("meta"):
        model = StackedModel([SharedBottom(6, [8], 2) for _ in range(3)])
        data = RunData(torch.empty(2, 50, 6), torch.empty(2, 2, 50), torch.empty(3, dtype=torch.long))
        weighting: Weighting = StaticWeights(model, binary_losses, torch.empty(2, 3))
        if method == "HydaLearn":
            shared = [p for name, p in model.named_parameters() if "trunk" in name]
            weighting = HydaLearn(model, binary_losses, shared)
        problem = made_problem(model, [0, 1, 2], data, data)
        optimizer = OPTIMIZERS["adam"](list(model.parameters()))
        history = train_runs(problem, weighting, optimizer, rates=torch.empty(3), epochs=2)
    assert history.validation.shape == (2, 3)
    assert history.weights.shape == (6, 2, 3)
