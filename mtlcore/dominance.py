r"""Dominance: how much of a parameter's movement each task is responsible for, under any of the usual optimizers.

Yang et al., *AdaTask*, `arXiv:2211.15055 <https://arxiv.org/abs/2211.15055>`_ measure it by the accumulated update, an
exponentially decaying average of the squared **updates** (what the optimizer adds to the parameter, after
preconditioning, not the gradient)

.. math:: \text{AU}_t \leftarrow \rho\, \text{AU}_t + (1-\rho)\, (\Delta\theta_t)^2, \qquad
          \text{rAU}_t = \frac{\text{AU}_t}{\sum_j \text{AU}_j} .

The abstract says so in words; the recursion, its beginning at 0 and :math:`\rho` = ``decay`` are our reading. An
AdaTask optimizer makes one :math:`\Delta\theta_t` per task. An ordinary optimizer makes one of the summed gradient, but
its numerator is linear in the gradients: with a first moment (or momentum) kept per task over the optimizer's own
denominator, the tasks' parts sum to the whole. So for Adam

.. math:: \Delta\theta_t = -\text{lr}\, \frac{\hat m_t}{\sqrt{\hat v_\text{joint}} + \epsilon} .
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlcore._adatask import AdaTaskOptimizer
from mtlcore._directions import DIRECTIONS, Group, State, exact
from mtlcore._eager import eager
from mtlcore._sharded import as_sharded, like, local, over_parts
from mtlcore._task_record import contributions, task_grad_of
from mtlcore._weighted_sums import task_weight_view
from mtlcore.adatask import AdaTaskAdagrad, AdaTaskRMSprop
from mtlcore.trial_steps import unwrapped


class LayerDominance(NamedTuple):
    """Dominance in one layer; the shapes with R where parameters stack R runs.

    Attributes:
        relative: Mean rAU of each task over live parameters, [T] or [T, R]; NaN where none is live.
        dominated: Share of live parameters whose largest rAU exceeds the threshold, [] or [R].
        dead: Number of parameters whose AU is 0 for every task, [] or [R].
        total: Number of parameters, of one run.
    """

    relative: Tensor
    dominated: Tensor
    dead: Tensor
    total: int


def _parts(state: Mapping[str, Tensor]) -> State:
    return {name: local(value) for name, value in state.items()}


class _Relative(Mapping[Tensor, Tensor]):
    """rAU, computed for the parameter that is asked for."""

    def __init__(self, au: Mapping[Tensor, Tensor]) -> None:
        self._au = au

    def __getitem__(self, p: Tensor) -> Tensor:
        return self._au[p] / self._au[p].sum(0)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._au)

    def __len__(self) -> int:
        return len(self._au)


class Dominance:
    r"""Records AU and rAU of every parameter with task gradients, at every ``optimizer.step()``.

    Create it before the first step: what an ordinary optimizer's moments hold from earlier steps belongs to no task.
    Nothing is read back from the device, and AU is float32 at least.

    - The weights in force count: those that ``combine`` or ``HydaLearn.backward`` left on the parameters for an
      ordinary optimizer, ``task_weights`` of the group for AdaTask.
    - The tasks' updates sum to the real change of the parameter. With AdaTask that includes coupled weight decay, of
      which each task's gradient carries a share; decay by AdamW, and any decay by an ordinary optimizer, is no task's.
    - A task that did not reach a parameter makes no update under AdaTask; under others its momentum goes on.
    - Clip per task, with ``clip_task_grad_norm_`` before ``combine``: a ``p.grad`` clipped (or changed otherwise)
      afterwards is no longer the sum of the tasks'. With a gradient scaler and an ordinary optimizer, AU is in units of
      the scaled gradients where these enter linearly; rAU does not mind.
    - Sparse task gradients, of embedding tables, are refused at the step.

    Args:
        optimizer: An AdaTask optimizer, or SGD, Adam, AdamW, Adagrad or RMSprop of torch.optim.
        decay: rho, in [0, 1); our default 0.99 remembers about 100 steps.

    Attributes:
        au: AU of each recorded parameter, [T, \*p.shape].
        relative: rAU of each recorded parameter, [T, \*p.shape]; NaN where all AU are 0.

    Raises:
        ValueError: If the optimizer is another one, or ``decay`` is out of range.

    Example:
        >>> from mtlcore.task_gradients import combine, task_backward
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> optimizer = torch.optim.SGD([p], lr=0.1)
        >>> dominance = Dominance(optimizer)
        >>> task_backward([3 * p[0], p[0] * p[1]], [p])
        >>> combine([p])
        >>> optimizer.step()
        >>> dominance.relative[p]
        tensor([[0.9000, 0.0000],
                [0.1000, 1.0000]])
    """

    def __init__(self, optimizer: Optimizer, decay: float = 0.99) -> None:
        """Hooks itself to the optimizer."""
        optimizer = unwrapped(optimizer)
        if not isinstance(optimizer, tuple(DIRECTIONS)):
            raise ValueError(
                "Parameter `optimizer` should be an AdaTask optimizer for dense gradients, or SGD, Adam, AdamW, "
                f"Adagrad or RMSprop of torch.optim. Found {type(optimizer).__name__}. Use one of those to measure "
                "dominance."
            )
        if not 0 <= decay < 1:
            raise ValueError(
                f"Parameter `decay` should be in [0, 1). Found `decay = {decay}`. Pass, for example, 0.99."
            )
        self.optimizer, self.decay = optimizer, decay
        self.au: dict[Tensor, Tensor] = {}
        self.relative: Mapping[Tensor, Tensor] = _Relative(self.au)
        self._direction = next(f for kind, f in DIRECTIONS.items() if isinstance(optimizer, kind))
        self._moments: dict[Tensor, State] = {}  # of ordinary optimizers: one first moment or momentum per task
        self._runs: dict[Tensor, int | None] = {}
        self._before: dict[Tensor, Tensor] = {}
        self._attach()

    def _attach(self) -> None:
        self._hooks: tuple[Any, ...] = (
            self.optimizer.register_step_pre_hook(self._remember),
            self.optimizer.register_step_post_hook(self._record),
        )
        # torch's own copy of an optimizer has no hooks, so it would be recorded by nobody.
        self.optimizer.__deepcopy__ = self._copied_optimizer  # type: ignore[attr-defined]

    def detach(self) -> None:
        """Stops recording; what was recorded stays."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = ()
        vars(self.optimizer).pop("__deepcopy__", None)

    def _copied_optimizer(self, memo: dict[int, Any]) -> Optimizer:
        """Copies the optimizer, and this beside it, which records the copy: its ``dominance``."""
        copied: Optimizer = object.__new__(type(self.optimizer))
        memo[id(self.optimizer)] = copied
        copied.__setstate__(copy.deepcopy(self.optimizer.__getstate__(), memo))
        copied.dominance = copy.deepcopy(self, memo)  # type: ignore[attr-defined]
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> "Dominance":
        """Copies what was recorded, for a copy of the optimizer and its parameters."""
        new = object.__new__(type(self))
        memo[id(self)] = new
        kept = {k: v for k, v in vars(self).items() if k not in ("_hooks", "relative")}
        vars(new).update(copy.deepcopy(kept, memo))
        new.relative = _Relative(new.au)
        new._hooks = ()
        if self._hooks:
            new._attach()
        return new

    @torch.no_grad()
    def layers(self, model: nn.Module, threshold: float = 0.9) -> dict[str, LayerDominance]:
        """Summarises each layer: the recorded parameters of one module, such as weight and bias, are one layer.

        Call it during training to follow dominance over time. Dead parameters (units that no task moves) are counted
        and left out of the other numbers. With sharded parameters each process calls it.

        Args:
            model: The module whose ``named_parameters`` name the layers ("" for parameters of the model itself).
            threshold: The rAU above which one task dominates a parameter. Ours: 0.9.
        """
        by_layer: dict[str, list[Tensor]] = {}
        names, params = zip(*model.named_parameters(), strict=True)
        for name, p in zip(names, as_sharded(params), strict=True):
            if p in self.au:
                by_layer.setdefault(name.rpartition(".")[0], []).append(p)
        return {name: self._layer(parameters, threshold) for name, parameters in by_layer.items()}

    def _layer(self, parameters: list[Tensor], threshold: float) -> LayerDominance:
        first, runs = parameters[0], self._runs[parameters[0]]
        parts = [local(self.au[p]) for p in parameters]
        au = torch.cat([part.reshape(len(part), runs or 1, -1) for part in parts], dim=2)  # [T, R, n]
        live = au.sum(0) != 0  # [R, n]
        relative = torch.where(live, au / au.sum(0), 0)  # [T, R, n]
        count = over_parts(live.sum(-1), first)  # [R]
        mean = over_parts(relative.sum(-1), first) / count
        dominated = over_parts((relative.amax(0) > threshold).sum(-1), first) / count
        dead = over_parts((~live).sum(-1), first)
        if runs is None:
            mean, dominated, dead = mean[:, 0], dominated[0], dead[0]
        return LayerDominance(mean, dominated, dead, sum(p.numel() for p in parameters) // (runs or 1))

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed training needs to go on, by position in the optimizer's groups."""
        return {
            "decay": self.decay,
            "parameters": {
                str(i): {"au": self.au[p], "runs": self._runs[p], "moments": dict(self._moments.get(p, {}))}
                for i, p in enumerate(self._parameters())
                if p in self.au
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a ``state_dict()``; raises ValueError, before anything changes, where it does not fit."""
        parameters = self._parameters()
        saved = {int(i): entry for i, entry in state_dict["parameters"].items()}  # torch's checkpoints have names only
        for i, entry in saved.items():
            if i >= len(parameters) or local(entry["au"]).shape[1:] != local(parameters[i]).shape:
                raise ValueError(
                    f"Parameter `state_dict` should be of the same parameters. Found `au` of shape "
                    f"{tuple(entry['au'].shape)} at position {i}. Load it beside an optimizer of the same model."
                )
        self.decay = state_dict["decay"]
        for kept in (self.au, self._moments, self._runs):
            kept.clear()
        for i, entry in saved.items():
            p = parameters[i]
            self.au[p], self._runs[p] = entry["au"].to(p.device, copy=True), entry["runs"]
            self._moments[p] = {name: value.to(p.device, copy=True) for name, value in entry["moments"].items()}

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @eager
    @torch.no_grad()
    def _remember(self, *_: object) -> None:
        """Keeps the parameters where AdaTask's update has their decay in it and its state no longer tells how much."""
        if any((task_grad := task_grad_of(p)) is not None and task_grad.is_sparse for p in self._parameters()):
            raise ValueError(
                "Dominance should be recorded of dense task gradients. Found sparse ones, of an embedding table. Pass "
                "sparse=False to it, or give it to an optimizer of its own."
            )
        self._before = {
            p: local(p).clone()
            for group in self.optimizer.param_groups
            if isinstance(self.optimizer, (AdaTaskAdagrad, AdaTaskRMSprop)) and group["weight_decay"] != 0
            for p in group["params"]
        }

    @eager
    @torch.no_grad()
    def _record(self, *_: object) -> None:
        per_task = isinstance(self.optimizer, AdaTaskOptimizer)
        skipped = getattr(self.optimizer, "found_inf", None)  # of a gradient scaler: torch's fused kernels skip by it
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                task_grad = task_grad_of(p)
                if task_grad is None or (p.grad is None and not per_task):
                    continue
                if per_task and not self.optimizer.state.get(p):  # a gradient scaler skipped the very first step
                    continue
                before = _parts(self._moments.get(p, {}))
                moments = dict(before)
                update = self._of_adatask(p, group) if per_task else self._of_joint(p, group, moments)
                old = local(self.au[p]) if p in self.au else torch.zeros_like(update)
                new = self.decay * old + (1 - self.decay) * update.square()
                if skipped is not None:
                    new = torch.where(skipped.to(p.device) > 0, old, new)
                    moments = {
                        k: torch.where(skipped.to(p.device) > 0, before.get(k, 0.0), v) for k, v in moments.items()
                    }
                self.au[p], self._runs[p] = like(p, new), getattr(p, "task_runs", None)
                self._moments[p] = {name: like(p, value) for name, value in moments.items()}

    def _of_adatask(self, p: Tensor, group: Group) -> Tensor:
        """Returns the update of each task [T, *shape], again from the state after the step."""
        state, reached = _parts(self.optimizer.state[p]), getattr(p, "task_reached", None)
        assert isinstance(self.optimizer, AdaTaskOptimizer)
        task_grads, weights = self.optimizer.task_gradients_and_weights(p, group)
        grads = exact(task_grads)
        grads = -grads if group["maximize"] else grads
        if p in self._before:
            grads = grads + group["weight_decay"] / len(grads) * self._before[p]
        if reached is not None and not any(reached):
            return torch.zeros_like(grads)
        update: Tensor = self._direction(group, state, state, grads) * -group["lr"]
        if weights is not None:
            if not isinstance(weights, Tensor):
                weights = torch.tensor(weights, dtype=update.dtype).to(p.device, non_blocking=True)
            update = update * task_weight_view(weights, update)
        for t, flag in enumerate(reached or ()):
            if not flag:
                update[t] = 0
        return update

    def _of_joint(self, p: Tensor, group: Group, moments: State) -> Tensor:
        """Returns each task's part of the update [T, *shape] by linearity, and moves the tasks' first moments on."""
        weighted = exact(contributions(p))
        grads = -weighted if group["maximize"] else weighted
        update: Tensor = self._direction(group, _parts(self.optimizer.state[p]), moments, grads) * -group["lr"]
        return update
