"""Trial steps: where the parameters would be after a step on one task's gradient alone; nothing is changed."""

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from mtlcore._sharded import like, local


def unwrapped(optimizer: Optimizer) -> Optimizer:
    """Returns the optimizer that a framework's wrapper, such as Accelerate's or Lightning's, holds."""
    inner = getattr(optimizer, "optimizer", None)
    return unwrapped(inner) if isinstance(inner, Optimizer) and inner is not optimizer else optimizer


def check_trial_optimizer(optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
    """Raises ValueError unless the optimizer holds all these parameters and steps without a closure."""
    if isinstance(optimizer, LBFGS):
        raise ValueError(
            "Parameter `trial_step` should step without a closure. Found LBFGS. Pass a float or another optimizer."
        )
    held = {p for group in optimizer.param_groups for p in group["params"]}
    missing = sum(p not in held for p in parameters)
    if missing:
        raise ValueError(
            f"Parameter `trial_step` should be an optimizer of all parameters that a trial step moves. Found "
            f"{missing} of "
            f"{len(parameters)} missing. Add them to a group, or pass a float."
        )


def _missing(p: Tensor) -> ValueError:
    return ValueError(
        "Parameter `trial_step` should be an optimizer of all parameters that a trial step moves. Found one of shape "
        f"{tuple(p.shape)} missing, added or unfrozen since. Add it to a group, or pass a float."
    )


class _Rates(dict[Tensor, float | Tensor]):
    def __missing__(self, p: Tensor) -> float:
        raise _missing(p)


def learning_rates(trial_step: float | Optimizer) -> Mapping[Tensor, float | Tensor]:
    """Returns the step size of each parameter: the float, or the optimizer's current lr of the parameter's group."""
    if not isinstance(trial_step, Optimizer):
        return defaultdict(lambda: trial_step)
    return _Rates({p: group["lr"] for group in trial_step.param_groups for p in group["params"]})


@torch.no_grad()
def optimizer_trial(
    optimizer: Optimizer, grads: dict[Tensor, Tensor], task: int, shared: Collection[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Returns where the optimizer's own step on the gradients of ``task`` alone would put the parameters.

    A shadow of the optimizer steps on copies of parameters and state, without hooks (a learning-rate scheduler or
    `Dominance` sees nothing). An optimizer with moments per task moves by this task's moments only, at weight 1.

    Args:
        optimizer: Any torch optimizer whose step needs no closure.
        grads: The task's gradient [*shape] of each parameter to move, of a sharded one this process's part.
        task: Its index.
        shared: The parameters that have a gradient per task.

    Raises:
        ValueError: If a gradient is sparse, for then the copies would cost what whole embedding tables cost.
    """
    if any(grad.is_sparse for grad in grads.values()):
        raise ValueError(
            'Parameter `trial_rule` should be "sgd" where gradients are sparse, for "optimizer" copies whole embedding '
            'tables. Found "optimizer". Pass trial_rule="sgd", or nn.Embedding(sparse=False).'
        )
    held = {p for group in optimizer.param_groups for p in group["params"]}
    for p in grads:
        if p not in held:
            raise _missing(p)
    clones = {p: p.detach().clone() for p in grads}
    shadow = object.__new__(type(optimizer))  # `copy.copy` would drop what an optimizer keeps outside its state_dict
    shadow.__dict__ = {
        k: v for k, v in vars(optimizer).items() if k not in ("step", "_columns")
    }  # a scheduler's `step` is bound to the original, and AdaTask's views are of its own state
    shadow._optimizer_step_pre_hooks = OrderedDict()
    shadow._optimizer_step_post_hooks = OrderedDict()
    shadow.param_groups, shadow.state = [], defaultdict(dict)
    for group in optimizer.param_groups:
        members = [p for p in group["params"] if p in clones]
        shadow.param_groups.append({**group, "params": [clones[p] for p in members]})
        if "task_weights" in group:
            shadow.param_groups[-1]["task_weights"] = None
        for p in members:
            state = optimizer.state.get(p, {})
            shadow.state[clones[p]] = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}
            if "num_tasks" in group and p in shared:
                num_tasks: int = group["num_tasks"]
                clones[p].task_grad = like(p, grads[p].expand(num_tasks, *grads[p].shape))  # type: ignore[attr-defined]
                clones[p].task_reached = tuple(t == task for t in range(num_tasks))  # type: ignore[attr-defined]
            else:
                clones[p].grad = like(p, grads[p])
    type(optimizer).step(shadow)
    return [(p, local(clone)) for p, clone in clones.items()]
