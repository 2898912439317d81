"""Networks of the experiments: small, with the shared part and the task heads told apart."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss


class Masked(nn.Module):
    """Units times a mask `[1 or B, H]` that is set from outside and is 1 until then, see `train.regularised`."""

    mask: Tensor

    def __init__(self, width: int, dtype: torch.dtype | None = None) -> None:
        """Let every unit pass."""
        super().__init__()
        self.register_buffer("mask", torch.ones(1, width, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply the units `[B, H]`."""
        return x * self.mask


class SharedBottom(nn.Module):
    """A multilayer perceptron that all tasks share, with one linear head per task (hard parameter sharing).

    Args:
        inputs: Number of input features F.
        hidden: Widths of the shared layers, each followed by a ReLU.
        num_tasks: Number of tasks T.
        generator: Source of the initial weights; `None` takes torch's global one.
        dtype: Type of the parameters.
        masked: Whether `Masked` units follow every layer, for dropout.

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
        masked: bool = False,
    ) -> None:
        """Build the layers and draw their initial weights."""
        super().__init__()
        widths = [inputs, *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out, dtype=dtype), nn.ReLU(inplace=True)]
            if masked:
                layers.append(Masked(fan_out, dtype))
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


def task_losses(kinds: Sequence[str]) -> Callable[[nn.Module, tuple[Tensor, Tensor]], list[Tensor]]:
    """Make the losses of tasks of several kinds, some of whose labels are not available (NaN).

    Args:
        kinds: One per task: "classification" (cross-entropy in nats of a 0/1 label) or "regression" (squared error).

    Returns:
        `losses_fn(model, (x, y))` as `binary_losses`: the mean over the available labels of a task in the batch. Where
        a batch has none of a task's labels, its loss is 0 and so is the gradient.

    Raises:
        ValueError: A kind is neither.

    Example:
        >>> model = SharedBottom(2, [3], num_tasks=1)
        >>> losses_fn = task_losses(["classification"])
        >>> losses_fn(model, (torch.zeros(4, 2), torch.full((1, 4), torch.nan)))[0].item()
        0.0
    """
    per_example: dict[str, Callable[..., Tensor]] = {
        "classification": binary_cross_entropy_with_logits,
        "regression": mse_loss,
    }
    for kind in kinds:
        if kind not in per_example:
            raise ValueError(
                f"Parameter `kinds` should hold {' and '.join(per_example)} only. Found {kind!r}. Pass one per task."
            )

    def losses_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> list[Tensor]:
        x, y = batch
        losses = []
        for kind, output, labels in zip(kinds, model(x), y, strict=True):
            available = ~labels.isnan()
            loss = per_example[kind](output, labels.nan_to_num(), reduction="none")
            total = torch.where(available, loss, 0).sum(-1)
            losses.append(total / available.sum(-1).clamp(min=1))
        return losses

    return losses_fn
