"""Sparse tables: gradients, moments and updates of the rows that a batch touches alone, one run at a time.

The other runs of the study are stacked and have dense gradients; `nn.Embedding(sparse=True)` is for tables that are too
large for that. A row that no batch names keeps its moments as they are, so sparse training is another method, not
another way to compute the same one.
"""

import copy
import time
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.optim import Adam, Optimizer, SparseAdam

from companion.metrics.recommenders import auc
from companion.networks.recommenders import MMoE
from companion.networks.shared_bottom import binary_losses
from companion.problems.interactions import build, folds, prepare
from companion.problems.run_seeds import run_seed
from companion.train.problem import Problem
from companion.train.runs import falling
from companion.train.stacked import RunData, evaluate, predict
from mtlcore.adatask import AdaTaskAdam
from mtlcore.sparse_adam import AdaTaskSparseAdam
from mtlcore.task_gradients import task_backward

LR = 1e-3  # stands in the optimizers until a step sets its own


def _optimizers(model: MMoE, method: str, num_tasks: int) -> list[Optimizer]:
    """One for the tables, one for the rest."""
    tables = list(model.embeddings.parameters())
    rest = [p for p in model.parameters() if not any(p is table for table in tables)]
    if method == "AdaTask":
        return [AdaTaskSparseAdam(tables, num_tasks=num_tasks, lr=LR), AdaTaskAdam(rest, num_tasks=num_tasks, lr=LR)]
    return [SparseAdam(tables, lr=LR), Adam(rest, lr=LR)]


def _train(c: Mapping[str, Any], problem: Problem, rate: float) -> tuple[MMoE, float]:
    """Train one run; give the model of the best epoch, and its mean log validation loss."""
    sizes, _ = folds(c["dataset"], c["users"], c["split"], tuple(c["seeds"]), c["rare"])
    model = build(c, sizes, problem.num_tasks, problem.seeds[0], sparse=True)
    assert isinstance(model, MMoE)
    optimizers = _optimizers(model, c["method"], problem.num_tasks)
    factor = falling(problem.steps_per_epoch * c["epochs"])
    number, least, best = 0, np.inf, model
    for batches in problem.epochs(c["epochs"]):
        for x, y in batches:  # [1, B, fields] and [T, 1, B]
            model.zero_grad()
            losses = binary_losses(model, (x[0], y[:, 0]))
            if c["method"] == "AdaTask":
                task_backward(losses, model.shared_parameters())
            else:
                torch.autograd.backward(losses)
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = rate * factor(number)
                optimizer.step()
            number += 1
        loss = float(evaluate(model, binary_losses, problem.validation).log().mean())
        if loss < least:
            least, best = loss, copy.deepcopy(model)
    return best, least


def _areas(model: MMoE, fold: RunData) -> Tensor:
    """AUC of every task, `[T]`."""
    logits = predict(model, fold).cpu().numpy()  # [T, 1, N]
    labels = fold.targets[0].cpu().numpy()  # [T, N]
    return torch.tensor([auc(y[None], z)[0] for y, z in zip(labels, logits, strict=True)])


def sparse_grid(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train at equal weights with sparse tables, without weight decay and dropout, which they have not.

    Args:
        configuration: As of `study.train_grid`, with one run for each of `rates`, `seeds` and `inits`; `method` is
            "joint" (torch's SparseAdam, and Adam for the rest) or "AdaTask". `test` asks for the test fold.

    Returns:
        Tidy rows by seed, initialisation, rate and metric, with the seconds of a run.
    """
    c, rows = configuration, []
    for split, number, rate in product(c["seeds"], range(c["inits"]), c["rates"]):
        begin = time.perf_counter()
        here = {**c, "seeds": [split]}
        problem = prepare(here, [run_seed(split, number)])
        model, loss = _train(here, problem, rate)
        measures = {"validation loss": float(np.exp(loss))}
        if c["test"]:
            measures["AUC"] = float(_areas(model, problem.test).mean())
        seconds = time.perf_counter() - begin
        rows += [(split, number, rate, metric, value, seconds) for metric, value in measures.items()]
    return pd.DataFrame(rows, columns=["seed", "initialisation", "rate", "metric", "value", "seconds"])
