"""The best weights of a step and HydaLearn's own at fixed parameters, batch by batch, beside what the batch holds.

Training stops at a few steps; at each, many mini-batches are weighed and none is trained on. What then differs from
one batch to the next is the batch alone.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from companion.problems.composed_batches import ListedBatches, list_batches, minor_counts
from companion.problems.synthetic import draw, prepare
from companion.studies.hydalearn_synthetic.best_weights import Directions
from companion.train.main_task import Configuration, train_to
from companion.train.problem import Problem
from companion.train.stacked import Batch
from mtlcore.hydalearn import HydaLearn
from mtlcore.task_gradients import zero_task_grad

CONSTANT = torch.linspace(0, 1, 21, dtype=torch.float64)[:, None]  # shares of a constant weight, [C, 1]


def probe(configuration: Configuration) -> pd.DataFrame:
    """Train with equal weights, and weigh many batches of one dose at each checkpoint.

    Equal weights train, not HydaLearn, so that all doses are probed at the same parameters.

    Args:
        configuration: As for `study.train_grid`, with design "composition", one rate, `scales` of the auxiliary loss
            in HydaLearn's gains (training has it unscaled), and `checkpoints` (steps), `probe_batches` (how many),
            `probe_size` (examples in each), `probe_dose` and `probe_minor` (the minor cluster's share of them all);
            `dose` and `batch_size` are those of the batches trained on.

    Returns:
        Tidy rows by seed, step, weights and metric. Weights are "best" (`best_weights`, with the noise-free test fold
        as the held-out data), HydaLearn's own at each scale ("HydaLearn x scale"; shares are those of the unscaled
        auxiliary loss), "main task" and "equal" (constant), and the "best constant" weight of the checkpoint, which is
        known in hindsight only. Metrics over batches: "mean" and "sd" of the share; "R squared", the part of its
        variance that a straight line in the batch's composition explains (NaN where that does not vary); "match", its
        correlation with the best share; "gain", the mean gain of a step.
    """
    begin = time.perf_counter()
    (rate,), seeds = configuration["rates"], configuration["seeds"]
    problem = prepare(configuration, seeds)
    batches, minor = probe_batches(configuration, problem)
    generator = torch.Generator().manual_seed(0)

    def drawn() -> Iterator[Batch]:
        while True:
            row = torch.randint(problem.train.num_rows, (1, 1), generator=generator)
            yield problem.train.batch(row.expand(len(seeds), 1).to(problem.train.source.device))

    rows = []
    for step in train_to(configuration["checkpoints"], problem, [rate] * len(seeds), drawn()):
        for (weights, metric), values in _measures(*_weigh(problem, configuration["scales"], batches), minor).items():
            rows += [(seed, step, weights, metric, value) for seed, value in zip(seeds, values.tolist(), strict=True)]
    table = pd.DataFrame(rows, columns=["seed", "step", "weights", "metric", "value"])
    return table.assign(seconds=(time.perf_counter() - begin) / len(seeds))


def probe_batches(configuration: Configuration, problem: Problem) -> tuple[ListedBatches, Tensor]:
    """List the batches to be weighed, and the minor cluster's share of each, `[M, R]`."""
    size, clusters = configuration["probe_size"], [draw(configuration, seed).clusters for seed in problem.seeds]
    dose, share = configuration["probe_dose"], configuration["probe_minor"]
    counts = minor_counts(dose, share, size, configuration["probe_batches"])
    pairs = zip(clusters, problem.seeds, strict=True)
    rows = [list_batches(c, counts, size, np.random.default_rng([seed, 5])) for c, seed in pairs]
    minor = np.stack([c[r].mean(1) for c, r in zip(clusters, rows, strict=True)], axis=1)
    return ListedBatches.of(problem.train, np.stack(rows)), torch.from_numpy(minor)


def _weigh(
    problem: Problem, scales: Sequence[float], batches: ListedBatches
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Shares of the auxiliary task in every batch, by weights, and gains of a step with them, `[M, R]` each."""
    parameters, num_runs = problem.shared, problem.model.num_runs
    scaled = {scale: problem.scaled_losses([scale] * num_runs) for scale in scales}
    weighings = {scale: HydaLearn(problem.model, losses_fn, parameters) for scale, losses_fn in scaled.items()}
    (everything,) = problem.test.chunks(problem.test.num_rows)
    main_loss = problem.losses_fn(problem.model, problem.test.batch(everything))[0]
    held_out = torch.cat([g.flatten(1) for g in torch.autograd.grad(main_loss.sum(), parameters)], dim=1)  # [R, D]
    shares: dict[str, list[Tensor]] = {}
    gains: dict[str, list[Tensor]] = {}
    for number in range(batches.num_rows):
        batch = batches.batch(torch.full((num_runs, 1), number, device=batches.source.device))
        found = {}
        for scale, hydalearn in weighings.items():
            zero_task_grad(parameters)
            main, auxiliary = hydalearn.backward(batch).weights  # of the losses as scaled
            found[f"HydaLearn x {scale:g}"] = scale * auxiliary / (main + scale * auxiliary)
            gradients = torch.cat([p.task_grad.flatten(2) for p in parameters], dim=2)  # type: ignore[attr-defined]
            directions = Directions.of(gradients / gradients.new_tensor([1.0, scale])[:, None, None], held_out)
        found["best"] = directions.best_share()
        found |= {"main task": torch.zeros_like(found["best"]), "equal": torch.full_like(found["best"], 0.5)}
        for name, share in found.items():
            shares.setdefault(name, []).append(share)
            gains.setdefault(name, []).append(directions.gain(share))
        gains.setdefault("constant", []).append(directions.gain(CONSTANT.to(found["best"])))  # [C, R]
    problem.model.zero_grad()
    return _stacked(shares), _stacked(gains)


def _stacked(values: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack(list(each)).cpu() for name, each in values.items()}


def _measures(
    shares: Mapping[str, Tensor], gains: Mapping[str, Tensor], minor: Tensor
) -> dict[tuple[str, str], Tensor]:
    """Weights and metric -> its value, `[R]`."""
    measures = {(name, "gain"): gain.mean(0) for name, gain in gains.items() if name != "constant"}
    measures["best constant", "gain"], where = gains["constant"].mean(0).max(0)
    measures["best constant", "mean"] = CONSTANT.flatten()[where]
    for name, share in shares.items():
        if name in ("main task", "equal"):
            continue
        measures[name, "mean"], measures[name, "sd"] = share.mean(0), share.std(0)
        measures[name, "R squared"] = _correlation(share, minor) ** 2
        measures[name, "match"] = _correlation(share, shares["best"])
    return measures


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Over batches, `[R]`; NaN where one of them is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    product = a.square().sum(0) * b.square().sum(0)
    return (a * b).sum(0) / torch.where(product > 1e-24, product, torch.nan).sqrt()
