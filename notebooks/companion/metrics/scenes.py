"""Losses and measures of dense prediction, and Delta_m in both of its conventions.

Measures are accumulated over the whole fold: a mean of batches' mIoU is another number, for IoU is a ratio, and a class
that few images show would count in few batches.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from companion.train.stacked import Batch, LossesFn

# Measure -> whether more is better, by task.
MEASURES = ({"mIoU": True, "pixel accuracy": True}, {"absolute error": False, "relative error": False})
LOSSES = ("cross-entropy", "absolute error")  # what each task is trained on


def pixel_losses(outputs: Sequence[Tensor], targets: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Cross-entropy (nats) and absolute error of every pixel, 0 where the target is unknown, and what is known.

    Args:
        outputs: Class scores `[..., B, C, H, W]` and numbers `[..., B, H, W]`.
        targets: Classes, -1 unknown, and numbers, NaN unknown: `[2, ..., B, H, W]`.

    Returns:
        Two losses and two masks, each `[..., B, H, W]`.
    """
    scores, numbers = outputs
    classes, wanted = targets
    known = classes >= 0, ~wanted.isnan()
    entropy = cross_entropy(
        scores.flatten(0, -4), classes.long().flatten(0, -3), ignore_index=-1, reduction="none"
    ).view_as(classes)
    # The target is made known before the difference: the gradient of NaN * 0 would be NaN.
    error = (numbers - torch.where(known[1], wanted, numbers.detach())).abs()
    return [entropy, error], list(known)


def scene_losses(weights: Tensor) -> LossesFn:
    """Losses of a batch: mean over known pixels of cross-entropy and of absolute error, times constant weights.

    Args:
        weights: `[2, R]`, or `[2]` for one run.

    Returns:
        A function of model and batch (`x [R, B, planes, H, W]`, `y [2, R, B, H, W]`) that gives two losses `[R]`.
    """

    def losses_fn(model: nn.Module, batch: Batch) -> list[Tensor]:
        x, y = batch
        losses, known = pixel_losses(model(x), y)
        return [
            w * loss.sum((-3, -2, -1)) / mask.sum((-3, -2, -1)).clamp(min=1)
            for w, loss, mask in zip(weights, losses, known, strict=True)
        ]

    return losses_fn


class SceneScores:
    """Sums over the pixels of a fold, batch by batch, and the measures at the end.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        """Begin with no pixel."""
        self.num_classes = num_classes
        self._confusion: Tensor | None = None  # [R, C, C], rows are the truth
        self._sums: dict[str, Tensor] = {}  # [R] each

    @torch.no_grad()
    def update(self, outputs: Sequence[Tensor], targets: Tensor) -> None:
        """Take in one batch of R runs: scores `[R, B, C, H, W]`, numbers `[R, B, H, W]`, targets `[2, R, B, H, W]`."""
        (entropy, error), (has_class, has_number) = pixel_losses(outputs, targets)
        num_runs, classes, wanted = len(error), targets[0], targets[1]
        predicted = outputs[0].argmax(-3)
        place = (classes.clamp(min=0).long() * self.num_classes + predicted).flatten(1)  # [R, pixels]
        counts = torch.zeros(num_runs, self.num_classes**2, dtype=torch.float64, device=place.device)
        counts.scatter_add_(1, place, has_class.flatten(1).double())
        confusion = counts.view(num_runs, self.num_classes, self.num_classes)
        self._confusion = confusion if self._confusion is None else self._confusion + confusion
        positive = has_number & (wanted > 0)  # a relative error needs something to be relative to
        ratio = torch.where(positive, error, 0.0) / torch.where(positive, wanted, 1.0)
        batch = {
            "cross-entropy": entropy, "class pixels": has_class, "error": error, "number pixels": has_number,
            "ratio": ratio, "ratio pixels": positive,
        }  # fmt: skip
        for name, values in batch.items():
            total = values.double().sum((-3, -2, -1))
            self._sums[name] = self._sums.get(name, torch.zeros_like(total)) + total

    def measures(self) -> dict[str, Tensor]:
        """All measures, `[R]` each, as fractions; NaN for a run whose outputs are not finite.

        mIoU is the mean over the classes that occur in the fold, in the truth or in the prediction. Relative error is
        the mean of error / truth over pixels whose truth is positive.
        """
        assert self._confusion is not None
        s, confusion = self._sums, self._confusion
        hits = confusion.diagonal(dim1=-2, dim2=-1)  # [R, C]
        union = confusion.sum(-1) + confusion.sum(-2) - hits
        measures = {
            "mIoU": (hits / union).nanmean(-1),  # 0/0 for a class that is nowhere
            "pixel accuracy": hits.sum(-1) / s["class pixels"],
            "absolute error": s["error"] / s["number pixels"],
            "relative error": s["ratio"] / s["ratio pixels"],
            "cross-entropy": s["cross-entropy"] / s["class pixels"],
        }
        failed = ~(measures["cross-entropy"].isfinite() & measures["absolute error"].isfinite())
        return {name: values.masked_fill(failed, torch.nan) for name, values in measures.items()}


def delta_m_flat(method: Mapping[str, float], single: Mapping[str, float]) -> float:
    """Delta_m as the AdaTask authors' code has it: mean over all measures of the relative loss; **lower is better**.

    Args:
        method: The method's measures, as in `MEASURES`.
        single: Those of the single tasks.

    Example:
        >>> single = {"mIoU": 0.5, "pixel accuracy": 0.8, "absolute error": 0.1, "relative error": 0.4}
        >>> round(delta_m_flat(single | {"mIoU": 0.6}, single), 3)  # 20 % more mIoU, a quarter of the measures
        -0.05
    """
    losses = [loss for losses in _relative_losses(method, single) for loss in losses]
    return sum(losses) / len(losses)


def delta_m_by_task(method: Mapping[str, float], single: Mapping[str, float]) -> float:
    """Delta_m as LibMTL has it: mean of relative gains within each task, then over tasks; **higher is better**.

    With as many measures in each task it is the other convention's number with the other sign, else not even that.
    """
    gains = [-sum(losses) / len(losses) for losses in _relative_losses(method, single)]
    return sum(gains) / len(gains)


def _relative_losses(method: Mapping[str, float], single: Mapping[str, float]) -> list[list[float]]:
    """By task and measure: how much worse than the single task, relative to it; a task without measures is left out."""
    tasks = [
        [(-1) ** more_is_better * (method[name] - single[name]) / single[name] for name, more_is_better in task.items()
         if name in method]
        for task in MEASURES
    ]  # fmt: skip
    return [losses for losses in tasks if losses]
