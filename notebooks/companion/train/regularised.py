"""Weight decay and dropout of many runs, each at its own strength, for methods that are compared at their best."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from companion.networks.shared_bottom import Masked
from companion.train.optimizers import per_run
from companion.train.stacked import Batch, StackedModel
from companion.train.weightings import WeightedStep, Weighting


class DecayedAdam(Adam):
    """Adam with decoupled weight decay, AdamW's, of a strength per run.

    Args:
        parameters: Stacked, `[R, *shape]`.
        decays: `[R]`; with the rates of `optimizers.step_per_run`, run r's weights shrink by rate times decay a step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decays: Tensor) -> None:
        super().__init__(parameters, lr=1.0)
        self._decays = decays

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Shrink the weights, then take Adam's step."""
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - per_run(self._decays, p).to(p.dtype))
        return super().step(closure)


class Dropout:
    """A weighting under dropout: each run drops units by masks that its seed draws, anew for every batch.

    Equal seeds have equal masks, whatever the method and whichever runs are beside them, and HydaLearn's trials see
    those of the step that they try.

    Args:
        weighting: Fills the gradients of a batch.
        model: Its `Masked` layers are set.
        seeds: One per run.
        shares: Of the units that are dropped, `[R]`.
    """

    def __init__(self, weighting: Weighting, model: StackedModel, seeds: Sequence[int], shares: Tensor) -> None:
        self._weighting, self._kept = weighting, (1 - shares)[:, None, None]  # [R, 1, 1]
        self._layers = [layer for layer in model.modules() if isinstance(layer, Masked)]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def backward(self, batch: Batch) -> WeightedStep:
        """Let the weighting fill the gradients under new masks; afterwards all units pass."""
        rows, all_pass = batch[0].shape[1], [layer.mask for layer in self._layers]
        for layer in self._layers:
            size = (rows, layer.mask.shape[-1])
            drawn = torch.stack([torch.rand(size, generator=g) for g in self._generators])  # [R, B, H]
            kept = self._kept.to(drawn)
            layer.mask = ((drawn < kept) / kept).to(layer.mask)
        step = self._weighting.backward(batch)
        for layer, mask in zip(self._layers, all_pass, strict=True):
            layer.mask = mask
        return step
