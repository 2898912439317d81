"""What the AdaTask optimizers share: groups, state, and one update per task by torch's own kernels."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from mtlcore._adatask_checks import (
    Group,
    check_distinct,
    check_group,
    check_loaded,
    check_step,
    fits_fused,
    needs_float_lr,
)
from mtlcore.task_gradients import task_grad_of, task_weight_view, zero_task_grad

TaskWeights = list[float] | tuple[float, ...] | Tensor | None
"""T non-negative numbers, or a tensor [T] or [T, R]; None stands for all ones."""

Rows = list[dict[str, Tensor]]
"""Per parameter, its state of one task: name -> [*p.shape], "step" -> []."""

Kernel = dict[str, bool | None]
"""The flags ``foreach`` and ``fused`` for torch's functions."""


class AdaTaskOptimizer(Optimizer):
    """Base of the four optimizers; a subclass names its state and calls its torch function."""

    fused_op: ClassVar[str | None] = None
    """The operator of torch's fused kernel; None where torch has none."""

    def initial_state(self, group: Group) -> dict[str, float]:
        """Returns the names of a parameter's state beside ``step``, with the value that each begins at."""
        raise NotImplementedError

    def update(
        self, group: Group, params: list[Tensor], grads: list[Tensor], state: dict[str, list[Tensor]], options: Group
    ) -> None:
        """Calls the function of torch.optim; options are lr, weight_decay, maximize, foreach and fused."""
        raise NotImplementedError

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group with its own hyper-parameters where given; raises ValueError where one is out of range."""
        if isinstance(param_group, dict) and not isinstance(param_group["params"], set):  # torch refuses sets
            params = param_group["params"]
            params = [params] if isinstance(params, Tensor) else list(params)
            param_group = {**param_group, "params": params}
            tensors = [p[1] if isinstance(p, tuple) else p for p in params]  # named parameters are pairs
            check_distinct(tensors, self.param_groups)
            if all(isinstance(p, Tensor) for p in tensors):  # torch refuses others
                check_group({**self.defaults, **param_group, "params": tensors}, self.fused_op)
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over loaded groups and state; `load_state_dict` changes nothing before it comes here."""
        if "param_groups" in self.__dict__:  # absent while unpickling
            name = type(self).__name__
            check_loaded(name, self.defaults, self.param_groups, state["param_groups"], state["state"])
        super().__setstate__(state)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears ``p.grad`` as torch does, and forgets the task gradients of every parameter."""
        super().zero_grad(set_to_none)
        zero_task_grad(p for group in self.param_groups for p in group["params"])

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step: per task where there is ``p.task_grad``, the ordinary one from ``p.grad`` elsewhere.

        Args:
            closure: Clears, computes and fills the gradients; its result is returned.

        Raises:
            ValueError: If any gradient, weight or flag of any group does not fit; no parameter has moved then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            check_step(group, self.state, self.fused_op)
        with torch.no_grad():
            for group in self.param_groups:
                kernel = self._kernel(group)
                ordinary = [p for p in group["params"] if task_grad_of(p) is None and p.grad is not None]
                if ordinary:
                    rows = [self._prepared(p, group, (), kernel) for p in ordinary]
                    grads = [p.grad for p in ordinary]
                    self._update(group, ordinary, grads, rows, kernel, group["lr"], group["weight_decay"])
                self._step_tasks(group, [p for p in group["params"] if task_grad_of(p) is not None], kernel)
        return loss

    def _step_tasks(self, group: Group, params: list[Any], kernel: Kernel) -> None:
        num_tasks, weights, lr, weight_decay = (group[k] for k in ("num_tasks", "task_weights", "lr", "weight_decay"))
        everyone = (True,) * num_tasks
        reached = {p: getattr(p, "task_reached", None) or everyone for p in params}
        params = [p for p in params if any(reached[p])]
        if not params:
            return
        grads = {p: p.task_grad.unbind() for p in params}
        rows = {p: self._task_rows(p, group, kernel) for p in params}

        # One task without weights is torch's own optimizer, to the bit, if torch does the decay itself. Otherwise it is
        # done here, from the parameters at the start of the step: they move between the calls below.
        decay: dict[Tensor, Tensor] = {}
        if weight_decay != 0 and not (num_tasks == 1 and weights is None):
            if group.get("decoupled_weight_decay", False):
                torch._foreach_mul_(params, 1 - lr * weight_decay)
            else:
                sign = -1 if group["maximize"] else 1  # torch flips the gradient, and with it this, back
                shares = torch._foreach_mul(params, sign * weight_decay / num_tasks)
                decay = dict(zip(params, shares, strict=True))
            weight_decay = 0.0

        for t in range(num_tasks):
            now = [p for p in params if reached[p][t]]
            if not now:
                continue
            task_grads = [grads[p][t] for p in now]
            task_rows = [rows[p][t] for p in now]
            if decay:
                task_grads = list(torch._foreach_add(task_grads, [decay[p] for p in now]))
            if kernel["fused"]:
                task_grads = [_in_memory_order_of(p, g) for p, g in zip(now, task_grads, strict=True)]
            if isinstance(weights, Tensor):  # not read: the update is taken from zero, multiplied, then added
                updates = [torch.zeros_like(p) for p in now]
                self._update(group, updates, task_grads, task_rows, kernel, lr, weight_decay)
                torch._foreach_addcmul_(now, updates, [task_weight_view(weights, p.task_grad)[t] for p in now])
            else:  # every one of these updates is proportional to lr
                task_lr = lr if weights is None else lr * weights[t]
                self._update(group, now, task_grads, task_rows, kernel, task_lr, weight_decay)

    def _update(
        self,
        group: Group,
        params: list[Tensor],
        grads: list[Tensor],
        rows: Rows,
        kernel: Kernel,
        lr: float | Tensor,
        weight_decay: float,
    ) -> None:
        state = {name: [row[name] for row in rows] for name in rows[0]}
        options = {"lr": lr, "weight_decay": weight_decay, "maximize": group["maximize"], **kernel}
        self.update(group, params, grads, state, options)

    def _kernel(self, group: Group) -> Kernel:
        """Returns the flags for torch's function: the user's where given, else fused where it exists, else foreach.

        Without a fused kernel at all, torch chooses itself: foreach where that pays, which on a CPU it does not.
        """
        foreach, fused, params = group["foreach"], group["fused"], group["params"]
        known = all(type(p) in (Tensor, torch.nn.Parameter) for p in params)
        if foreach is None and fused is None and known and self.fused_op is not None:
            fused = all(fits_fused(p, self.fused_op) for p in params)
            foreach = not fused and not needs_float_lr(group)
        return {"foreach": foreach, "fused": fused}

    def _task_rows(self, p: Tensor, group: Group, kernel: Kernel) -> Rows:
        """Returns the state of ``p`` as one dictionary of views per task."""
        state = self._prepared(p, group, (group["num_tasks"],), kernel)
        return [
            dict(zip(state, views, strict=True)) for views in zip(*(v.unbind() for v in state.values()), strict=True)
        ]

    def _prepared(self, p: Tensor, group: Group, leading: tuple[int, ...], kernel: Kernel) -> dict[str, Tensor]:
        """Returns the state that a step of ``p`` needs, [*leading, *p.shape] each, made where it is not there yet."""
        state: dict[str, Tensor] = self.state[p]
        initial = self.initial_state(group)
        for name, value in initial.items():
            if name not in state:  # also a buffer asked for later, as momentum raised from 0 by a scheduler
                strides = (p.numel(),) * len(leading) + torch.empty_like(p).stride()  # p's memory order in each task
                state[name] = p.new_empty_strided((*leading, *p.shape), strides).fill_(value)
        if "step" not in state:
            # torch's own optimizers count in the default dtype; per task it is float32, whatever the default
            double = torch.get_default_dtype() == torch.float64 and not leading and not kernel["fused"]
            state["step"] = torch.zeros(leading, dtype=torch.float64 if double else torch.float32)
        # As in torch: kernels that read the count on the device find it there, the others on the host.
        device = p.device if kernel["fused"] or group.get("capturable", False) else torch.device("cpu")
        if state["step"].device != device:
            state["step"] = state["step"].to(device)
        return {name: state[name] for name in ("step", *initial)}


def _in_memory_order_of(p: Tensor, grad: Tensor) -> Tensor:
    """Returns ``grad`` with the strides of ``p``: the fused kernels pair numbers by their place in memory."""
    return grad if grad.stride() == p.stride() else torch.empty_like(p).copy_(grad)
