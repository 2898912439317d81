"""What the AdaTask optimizers share: groups, checks, and one update per task by torch's own kernels."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtlcore._adatask_checks import (
    Group,
    check_distinct,
    check_gradients,
    check_group,
    check_loaded,
    check_step,
    fit_fused,
    needs_float_lr,
)
from mtlcore._eager import eager
from mtlcore._sharded import local, none_sharded, parts_of
from mtlcore._task_record import contributions, forget, record_of
from mtlcore._task_state import Columns, Kernel, OptimizerByTask, joined, memory, picked
from mtlcore._telling import tell
from mtlcore._touched import numbers, with_numbers
from mtlcore._weighted_sums import surely_nonzero, task_weight_view
from mtlcore.task_grad_scaling import divide

TaskWeights = list[float] | tuple[float, ...] | Tensor | str | None
"""T non-negative numbers, or a tensor [T] or [T, R]; None stands for all ones, "gradients" and "updates" for the
weights that `HydaLearn.backward` or `combine` left, on the tasks' gradients or on their updates."""


def hyper_parameters(arguments: dict[str, Any]) -> Group:
    """Returns a constructor's arguments as the defaults of its parameter groups."""
    return {name: value for name, value in arguments.items() if name not in ("self", "params", "__class__")}


class AdaTaskOptimizer(OptimizerByTask):
    """Base of the optimizers; a subclass names its state and calls its torch function."""

    _step_supports_amp_scaling = True  # a gradient scaler hands its scale over, for p.task_grad has it too
    _told = False

    layout: ClassVar[torch.layout] = torch.strided
    """Of the gradients."""

    fused_op: ClassVar[str | None] = None
    """The operator of torch's fused kernel; None where torch has none."""

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], state: Columns, options: Group) -> None:
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
                check_group({**self.defaults, **param_group, "params": tensors}, self.fused_op, self.layout)
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over loaded groups and state; `load_state_dict` changes nothing before it comes here."""
        if "param_groups" in self.__dict__:  # absent while unpickling
            name = type(self).__name__
            check_loaded(name, self.defaults, self.param_groups, state["param_groups"], state["state"])
        super().__setstate__(state)

    @eager
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears ``p.grad`` as torch does, and forgets the task gradients of every parameter."""
        if not set_to_none:
            super().zero_grad(set_to_none)
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                if set_to_none or record_of(p) is None:  # else the zeros in `p.grad` say so, and memory is kept
                    forget(p)

    def task_gradients_and_weights(self, p: Any, group: Group) -> tuple[Tensor, Tensor | tuple[float, ...] | None]:
        """Returns what the step of a parameter is made of: gradients [T, *shape], and weights of their updates."""
        mode = group["task_weights"]
        if mode == "gradients":
            return contributions(p), None
        weights = getattr(p, "task_weights", None) if mode == "updates" else mode
        grads: Tensor = local(p.task_grad)
        if weights is not None:  # a task of weight 0 is left out: nothing of its gradient that is not finite gets in
            zero, values = None, numbers(grads)
            if isinstance(weights, Tensor):
                zero = None if surely_nonzero(weights) else weights == 0
            elif 0 in weights:
                zero = torch.tensor([w == 0 for w in weights]).to(p.device, non_blocking=True)
            if zero is not None:
                out = task_weight_view(zero, grads).bool() & ~values.isfinite()
                grads = with_numbers(grads, torch.where(out, 0, values))
        return grads, weights

    @eager
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
        found_inf = getattr(self, "found_inf", None)  # both set by a gradient scaler, only while it takes the step
        scale: Tensor | None = getattr(self, "grad_scale", None)
        scaler = None if found_inf is None else ("unscaled" if scale is None else "scaled")
        check_gradients((p for group in self.param_groups for p in group["params"]), scaler)
        split = [check_step(group, self.state, self.fused_op, scaler, self.layout) for group in self.param_groups]
        self._tell_of_ordinary_steps(any(per_task for per_task, _ in split))
        if found_inf is not None and bool(found_inf):
            return loss
        with torch.no_grad():
            for group, (per_task, ordinary) in zip(self.param_groups, split, strict=True):
                if scale is not None:
                    _divide(per_task, ordinary, scale)
                kernel = self._kernel(group)
                together: dict[Any, list[Any]] = {}
                for p in per_task if group["task_weights"] == "updates" else ():
                    together.setdefault(id(getattr(p, "task_weights", None)), []).append(p)
                for params in together.values() if together else [per_task]:  # those that were weighted alike
                    ordinary = self._step_tasks(group, params, kernel, ordinary)
                if ordinary:
                    options = {name: group.get(name, 0.0) for name in ("lr", "weight_decay", "maximize")} | kernel
                    self.update(group, *self._ordinary(group, ordinary, kernel), options)
        return loss

    def _tell_of_ordinary_steps(self, any_task: bool) -> None:
        """Warns, once, where no parameter has task gradients: this is then the ordinary optimizer, or does nothing."""
        if any_task or self._told or all(group["num_tasks"] == 1 for group in self.param_groups):
            return
        self._told = True
        tell(
            f"No parameter of {type(self).__name__} has task gradients, so this step is the ordinary one of `p.grad` "
            "(nothing where there is none). Call task_backward(losses, shared) in place of loss.backward().",
        )

    def _ordinary(
        self, group: Group, params: list[Tensor], kernel: Kernel
    ) -> tuple[list[Tensor], list[Tensor], Columns]:
        """Returns what the ordinary step of parameters is made of: their parts, gradients and states."""
        parts, grads = list(parts_of(params)), list(parts_of([p.grad for p in params]))
        if kernel["fused"]:
            grads = [_ordered(grad, p, ()) for p, grad in zip(parts, grads, strict=True)]
        (state,) = self.columns(params, group, (), kernel)
        return parts, grads, state

    def _step_tasks(self, group: Group, params: list[Any], kernel: Kernel, ordinary: list[Tensor]) -> list[Tensor]:
        """Takes the step by task of some parameters, and in its first call, where that fits, the ordinary ones'.

        Returns:
            The ordinary ones that are left. They share a call because one costs more than the few numbers of a head.
        """
        num_tasks, lr, weight_decay = (group[k] for k in ("num_tasks", "lr", "weight_decay"))
        everyone = (True,) * num_tasks
        flags = [vars(p).get("task_reached") or everyone for p in params]
        params = [p for p, reached in zip(params, flags, strict=True) if True in reached]
        if not params:
            return ordinary
        flags = [reached for reached in flags if True in reached]
        parts = list(parts_of(params))
        pairs = [self.task_gradients_and_weights(p, group) for p in params]
        weights = pairs[0][1]  # the same for all
        grads = [task_grad for task_grad, _ in pairs]  # [T, *shape] each
        if kernel["fused"]:
            grads = [_ordered(grad, p, (num_tasks,)) for p, grad in zip(parts, grads, strict=True)]
        rows = [grad.unbind() for grad in grads]
        columns = self.columns(params, group, (num_tasks,), kernel)

        # One task without weights is torch's own optimizer, to the bit, if torch does the decay itself. Otherwise it is
        # done here, from the parameters at the start of the step: they move between the calls below.
        decay: Sequence[Tensor] | None = None
        if weight_decay != 0 and not (num_tasks == 1 and weights is None):
            if group.get("decoupled_weight_decay", False):
                torch._foreach_mul_(parts, 1 - lr * weight_decay)
            else:
                sign = -1 if group["maximize"] else 1  # torch flips the gradient, and with it this, back
                decay = torch._foreach_mul(parts, sign * weight_decay / num_tasks)
            weight_decay = 0.0

        # In half precision an addition loses most of a small update, so the tasks' updates are summed up apart first.
        halves = [p for p in parts if p.dtype.itemsize < 4 and num_tasks > 1]
        sums = {id(p): torch.zeros_like(p) for p in halves}
        places = [sums.get(id(p), p) for p in parts] if halves else parts

        for t in range(num_tasks):
            now = [i for i, reached in enumerate(flags) if reached[t]]
            if not now:
                continue
            state = columns[t] if len(now) == len(params) else picked(columns[t], now)
            task_grads = [rows[i][t] for i in now]
            task_places = [places[i] for i in now]
            if decay is not None:
                task_grads = list(torch._foreach_add(task_grads, [decay[i] for i in now]))
            options = {"lr": lr, "weight_decay": weight_decay, "maximize": group["maximize"], **kernel}
            if isinstance(weights, Tensor):  # not read: the update is taken from zero, multiplied, then added
                updates = [torch.zeros_like(place) for place in task_places]
                self.update(group, updates, task_grads, state, options)
                views = [task_weight_view(weights, params[i].task_grad)[t] for i in now]
                torch._foreach_addcmul_(task_places, updates, views)
                continue
            if weights is not None:  # every one of these updates is proportional to lr
                options["lr"] = lr * weights[t]
            elif ordinary and weight_decay == group.get("weight_decay", 0.0):
                own_places, own_grads, own_state = self._ordinary(group, ordinary, kernel)
                task_places, task_grads = task_places + own_places, task_grads + own_grads
                state, ordinary = joined(state, own_state), []
            self.update(group, task_places, task_grads, state, options)
        if halves:
            torch._foreach_add_(halves, list(sums.values()))
        return ordinary

    def _kernel(self, group: Group) -> Kernel:
        """Returns the flags for torch's function: the user's where given, else fused where it exists, else foreach.

        Without a fused kernel at all, torch chooses itself: foreach where that pays, which on a CPU it does not.
        """
        foreach, fused = group["foreach"], group["fused"]
        if foreach is None and fused is None and self.fused_op is not None:
            params = parts_of(group["params"])
            if none_sharded(params):
                fused = fit_fused(params, self.fused_op)
                foreach = not fused and not needs_float_lr(group)
        return {"foreach": foreach, "fused": fused}


def _ordered(grad: Tensor, p: Tensor, leading: tuple[int, ...]) -> Tensor:
    """Returns a gradient [*leading, *p.shape] in the order of ``p``: fused kernels pair numbers by place in memory."""
    return grad if grad.stride()[len(leading) :] == p.stride() else memory(p, leading).copy_(grad)


def _divide(per_task: Sequence[Tensor], ordinary: Sequence[Tensor], scale: Tensor) -> None:
    """Divides all gradients by a gradient scaler's scale, but for task gradients that the user unscaled."""
    for p in per_task:
        record = record_of(p)
        if record is None or not record.unscaled:
            divide(p, scale)
    dense = [local(p.grad) for p in ordinary if p.grad is not None and not p.grad.is_sparse]
    if dense:
        torch._foreach_div_(dense, scale)
    for p in ordinary:
        if p.grad is not None and p.grad.is_sparse:  # autograd may hand the same numbers to two embedding tables
            p.grad = with_numbers(p.grad, p.grad._values() / scale)
