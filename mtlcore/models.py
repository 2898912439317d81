"""Networks of the experiments: small, with the shared part and the task heads told apart."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class SharedBottom(nn.Module):
    """A multilayer perceptron that all tasks share, with one linear head per task (hard parameter sharing).

    Args:
        inputs: Number of input features F.
        hidden: Widths of the shared layers, each followed by a ReLU.
        num_tasks: Number of tasks T.
        generator: Source of the initial weights; `None` takes torch's global one.
        dtype: Type of the parameters.

    Every layer starts uniform in plus or minus `1 / sqrt(fan_in)`, weights and biases: torch's default for linear
    layers, drawn from an explicit generator so that paired runs start equal.

    Example:
        >>> model = SharedBottom(5, [8, 8], num_tasks=2)
        >>> [tuple(output.shape) for output in model(torch.zeros(3, 5))]
        [(3,), (3,)]
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        num_tasks: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Build the layers and draw their initial weights."""
        super().__init__()
        widths = [inputs, *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out, dtype=dtype), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(widths[-1], 1, dtype=dtype) for _ in range(num_tasks))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map inputs `[..., F]` to T outputs `[...]`, one logit or prediction per example and task."""
        features = self.trunk(x)  # [..., H]
        return [head(features).squeeze(-1) for head in self.heads]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that every task reaches; the rest belong to the heads."""
        return list(self.trunk.parameters())


def binary_losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Compute the mean cross-entropy of every binary task on a batch `(x, y)`.

    Args:
        model: Maps `x` to T tensors of logits.
        batch: `x [B, F]` and labels `y [T, B]`; for many runs `[R, B, F]` and `[T, R, B]`.

    Returns:
        T scalars; for many runs T tensors `[R]`.
    """
    x, y = batch
    return [
        binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)
        for logits, labels in zip(model(x), y, strict=True)
    ]
