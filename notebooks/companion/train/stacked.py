"""Many copies of a model as one module, and the data that each copy reads.

Parameters are stacked to `[R, *shape]` and the forward pass is a `vmap` over them. The copies never meet.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

Batch = tuple[Tensor, Tensor]
LossesFn = Callable[[nn.Module, Batch], Sequence[Tensor]]


class StackedModel(nn.Module):
    """R copies of one model whose parameters and buffers are stacked to `[R, *shape]`.

    The forward takes one input per run `[R, B, ...]` and gives the model's outputs with R in front. Random layers draw
    independently per run, from one stream, so a run with dropout is not bit-equal to the same run alone.

    Args:
        models: R models of one architecture; they are copied.

    Attributes:
        stack: The model's own module tree with stacked parameters, so that its methods, such as
            `stack.shared_parameters()`, name the stacked tensors.
        num_runs: R.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        """Stack copies of the models' parameters and buffers."""
        super().__init__()
        self.num_runs = len(models)
        self.stack = copy.deepcopy(models[0])
        modules = [dict(model.named_modules()) for model in models]
        for name, module in self.stack.named_modules():
            for key, parameter in module.named_parameters(recurse=False):
                stacked = torch.stack([m[name].get_parameter(key).detach() for m in modules])
                setattr(module, key, nn.Parameter(stacked, parameter.requires_grad))
                getattr(module, key).task_runs = self.num_runs
            for key, _ in module.named_buffers(recurse=False):
                setattr(module, key, torch.stack([m[name].get_buffer(key) for m in modules]))

    def forward(self, x: Tensor) -> Any:
        """Run every copy on its own input `[R, B, ...]`."""
        # Read at call time: inside `functional_call` (HydaLearn's look-ahead) these are the moved parameters.
        state = {**dict(self.stack.named_parameters()), **dict(self.stack.named_buffers())}

        def one_run(run_state: dict[str, Tensor], run_x: Tensor) -> Any:
            return functional_call(self.stack, run_state, (run_x,))

        return vmap(one_run, randomness="different")(state, x)


@dataclass(frozen=True)
class RunData:
    """A fold of S data sets (splits) and the one that each run reads.

    Attributes:
        inputs: `[S, N, ...]`.
        targets: `[S, T, N]`.
        source: `[R]` integers below S.
    """

    inputs: Tensor
    targets: Tensor
    source: Tensor

    @property
    def num_rows(self) -> int:
        """Number of rows N of each data set."""
        return self.inputs.shape[1]

    def batch(self, rows: Tensor) -> Batch:
        """Gather rows `[R, B]` into `x [R, B, ...]` and `y [T, R, B]`."""
        x = self.inputs[self.source[:, None], rows]
        tasks = torch.arange(self.targets.shape[1], device=rows.device)[:, None, None]  # [T, 1, 1]
        return x, self.targets[self.source[:, None], tasks, rows]

    def chunks(self, size: int = 2000) -> list[Tensor]:
        """Return row numbers `[R, <=size]` that cover every row in order: large folds are evaluated in parts."""
        rows = torch.arange(self.num_rows, device=self.source.device).expand(len(self.source), -1)
        return list(torch.split(rows, size, dim=1))


def evaluate(model: nn.Module, losses_fn: LossesFn, data: RunData) -> Tensor:
    """Compute the mean losses over a fold, `[T, R]`; each loss is a mean over the examples of its batch."""
    with torch.no_grad():
        parts = [
            torch.stack(list(losses_fn(model, data.batch(rows)))) * (rows.shape[1] / data.num_rows)
            for rows in data.chunks()
        ]
    return torch.stack(parts).sum(0)


def predict(model: nn.Module, data: RunData) -> Tensor:
    """Return the model's outputs over a fold, `[T, R, N]`."""
    with torch.no_grad():
        return torch.cat([torch.stack(list(model(data.batch(rows)[0]))) for rows in data.chunks()], dim=-1)
