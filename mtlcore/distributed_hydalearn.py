r"""HydaLearn on several ranks: gains and weights of the joined batch, the same everywhere.

A gain is a difference of losses, and the joined batch's loss is the mean of the ranks' losses; so its gain is the mean
of the ranks' gains, if every rank's trial step goes along the averaged task gradient (see :mod:`mtlcore.distributed`).
"""

from itertools import islice
from typing import Any

import torch
from torch import Tensor

from mtlcore.batch_gradients import Gradients
from mtlcore.distributed import Ranks
from mtlcore.gains import GainMeter
from mtlcore.hydalearn import HydaLearn, HydaLearnStep
from mtlcore.lookahead import LossesFn


class DistributedHydaLearn(HydaLearn):
    """HydaLearn with the gains and weights of the joined batch, the same on every rank.

    Beside the gradients' buckets it sends one message of losses and gains per call, and after it the heads' buckets.
    Do not call :meth:`Ranks.average_gradients` too. With ``trial_moves="shared+head"``, heads travel per task.

    Args:
        ranks: The processes, with their model and its shared parameters.
        losses_fn: As :class:`HydaLearn`'s; it gets this rank's part of the batch.
        options: Those of :class:`HydaLearn`; a gain batch is this rank's part too.

    Example:
        >>> import torch.distributed as dist
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> model = torch.nn.Linear(2, 2)
        >>> ranks = Ranks(model, model.parameters(), num_tasks=2)
        >>> hydalearn = DistributedHydaLearn(ranks, lambda model, x: list(model(x).square().mean(0)), main_task=1)
        >>> hydalearn.backward(torch.ones(4, 2)).weights.shape
        torch.Size([2])
        >>> dist.destroy_process_group()
    """

    def __init__(self, ranks: Ranks, losses_fn: LossesFn, **options: Any) -> None:
        super().__init__(ranks.model, losses_fn, ranks.shared, **options)
        self._ranks, self._moves_heads = ranks, options.get("trial_moves") == "shared+head"
        self._meter = _JoinedGainMeter(self._meter, ranks)

    def backward(self, batch: Any, gain_batch: Any = None) -> HydaLearnStep:
        """Adds averaged gradients to the parameters, as :meth:`HydaLearn.backward`; call it on every rank."""
        step = super().backward(batch, gain_batch)
        if not self._moves_heads:  # weighted by now, so each travels once, not once per task
            self._ranks.average_heads()
        return step


class _JoinedGainMeter(GainMeter):
    """Measures the joined batch's gains; averages the gradients and losses it is handed on the way."""

    def __init__(self, meter: GainMeter, ranks: Ranks) -> None:
        vars(self).update(vars(meter))
        self._ranks = ranks

    def exact(self, losses: Tensor, gradients: Gradients, *rest: Any, **named: Any) -> Tensor:
        self._average(losses, gradients)
        return self._joined(losses, super().exact(losses, gradients, *rest, **named))

    def first_order(self, losses: Tensor, gradients: Gradients, *rest: Any, **named: Any) -> Tensor:
        self._average(losses, gradients)
        return self._joined(losses, super().first_order(losses, gradients, *rest, **named))

    def _average(self, losses: Tensor, gradients: Gradients) -> None:
        if len(losses) != self._ranks.num_tasks:
            raise ValueError(
                f"Parameter `losses_fn` should return `num_tasks = {self._ranks.num_tasks}` losses. Found "
                f"{len(losses)}. Give `Ranks` their number."
            )
        heads = gradients.heads if self._moves_heads else {}
        flags = [flag for p in gradients.shared for flag in gradients.reached[p]]
        flags += [row is not None for rows in heads.values() for row in rows]
        # clones, for autograd may hand the same memory to two heads
        head_rows = [torch.zeros_like(p) if row is None else row.clone() for p, rows in heads.items() for row in rows]
        found = iter(self._ranks.average_rows([*gradients.shared.values(), *head_rows], flags))
        for p in gradients.shared:
            gradients.reached[p][:] = islice(found, len(losses))
        averaged = iter(head_rows)
        for rows in heads.values():
            pairs = zip(islice(averaged, len(losses)), islice(found, len(losses)), strict=True)
            rows[:] = [row if reached else None for row, reached in pairs]

    def _joined(self, losses: Tensor, gains: Tensor) -> Tensor:
        """Averages the losses in place, now that this rank's own are no longer needed, and returns the mean gains."""
        self._ranks.average_rows([losses, gains], [])
        return gains
