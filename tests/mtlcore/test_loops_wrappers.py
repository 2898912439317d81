"""What frameworks wrap around optimizers and models, and copies of all of it."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from loops_worlds import RATE, Tasks, cases, data, errors, observed, seeded, trunk_of
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mtlcore import (
    AdaTaskAdagrad,
    AdaTaskAdam,
    AdaTaskAdamW,
    AdaTaskRMSprop,
    Dominance,
    HydaLearn,
    combine,
    task_backward,
)

T = 2
OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda params: torch.optim.SGD(params, lr=RATE, momentum=0.9, nesterov=True),
    "Adam": lambda params: torch.optim.Adam(params, lr=RATE, amsgrad=True),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=RATE),
    "Adagrad": lambda params: torch.optim.Adagrad(params, lr=RATE),
    "RMSprop": lambda params: torch.optim.RMSprop(params, lr=RATE, momentum=0.5, centered=True),
    "AdaTaskAdam": lambda params: AdaTaskAdam(params, num_tasks=T, lr=RATE, task_weights="gradients"),
    "AdaTaskAdamW": lambda params: AdaTaskAdamW(params, num_tasks=T, lr=RATE, task_weights="updates"),
    "AdaTaskAdagrad": lambda params: AdaTaskAdagrad(params, num_tasks=T, lr=RATE, task_weights="gradients"),
    "AdaTaskRMSprop": lambda params: AdaTaskRMSprop(
        params, num_tasks=T, lr=RATE, momentum=0.5, centered=True, task_weights="updates"
    ),
}


class LikeAccelerate(Optimizer):
    """As Accelerate's: a subclass of Optimizer that never calls its constructor, and passes everything on."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.syncs, self.skipped = True, False

    @property
    def state(self) -> Any:
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, param_groups: Any) -> None:
        self.optimizer.param_groups = param_groups

    @property
    def defaults(self) -> Any:
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: Any) -> None:
        self.optimizer.defaults = defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.syncs:
            self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure) if self.syncs else None


class LikeLightning:
    """As Lightning's: takes the optimizer's attributes over, and becomes a subclass of its class."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.__dict__ = {k: v for k, v in vars(optimizer).items() if k not in ("step", "__del__")}
        self.__class__ = type("Lightning" + type(optimizer).__name__, (type(self), type(optimizer)), {})
        self._optimizer = optimizer

    @property
    def optimizer(self) -> Optimizer:
        return self._optimizer

    def step(self, closure: Any = None) -> Any:
        return self._optimizer.step(closure)


def by_accelerate(optimizer: Optimizer) -> Any:
    accelerate = pytest.importorskip("accelerate", reason="the extra `recipes` has it")
    return accelerate.Accelerator(cpu=True).prepare(optimizer)


def by_lightning(optimizer: Optimizer) -> Any:
    module = pytest.importorskip("lightning.pytorch.core.optimizer", reason="the extra `recipes` has it")
    return module.LightningOptimizer(optimizer)


WRAPPERS: dict[str, Callable[[Optimizer], Any]] = {
    "like Accelerate's": LikeAccelerate,
    "like Lightning's": LikeLightning,
    "twice": lambda optimizer: LikeAccelerate(LikeAccelerate(optimizer)),
    "Accelerate's": by_accelerate,
    "Lightning's": by_lightning,
}


def model_of(seed: int = 0) -> Tasks:
    seeded(seed)
    return Tasks(trunk_of([nn.Linear(6, 6)]), T)


def losses_fn(model: Any, batch: tuple[Tensor, list[Tensor]]) -> list[Tensor]:
    return list(errors(model(batch[0]), batch[1]))


def optimizer_of(name: str, model: Tasks) -> Optimizer:
    first, *rest = model.parameters()
    optimizer = OPTIMIZERS[name]([first])
    optimizer.add_param_group({"params": rest, "lr": RATE / 2})
    return optimizer


def numbers(optimizer: Optimizer) -> list[object]:
    """Groups, state and hooks of an optimizer as plain values, parameters by their place."""
    saved = optimizer.state_dict()
    hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    places = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    return [observed(saved["param_groups"]), observed(list(saved["state"].values())), places, [list(h) for h in hooks]]


# -- wrapped optimizers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("rule", ["sgd", "optimizer"])
def test_a_wrapped_optimizer_tries_as_the_bare_one_does_and_stays_untouched(wrapper: str, name: str, rule: str) -> None:
    model, bare_model = model_of(), model_of()
    bare, inner = optimizer_of(name, bare_model), optimizer_of(name, model)
    steps: list[int] = []
    inner.register_step_post_hook(lambda *_: steps.append(1))
    scheduler = torch.optim.lr_scheduler.StepLR(inner, 1, 0.5)
    wrapped = WRAPPERS[wrapper](inner)
    bare_scheduler = torch.optim.lr_scheduler.StepLR(bare, 1, 0.5)
    hydalearn = HydaLearn(model, losses_fn, model.trunk, trial_step=wrapped, trial_rule=rule, gain="exact")
    other = HydaLearn(bare_model, losses_fn, bare_model.trunk, trial_step=bare, trial_rule=rule)
    for k in range(3):
        before = numbers(inner)
        wrapped.zero_grad()
        bare.zero_grad()
        try:
            found = hydalearn.backward(data(k, T))
        finally:
            assert numbers(inner) == before
        torch.testing.assert_close(found, other.backward(data(k, T)), rtol=0, atol=0)
        assert len(steps) == k
        assert scheduler._step_count == k + 1  # torch's own count of steps
        (inner if wrapper == "Lightning's" else wrapped).step()  # which would call it, in a Trainer
        bare.step()
        scheduler.step()
        bare_scheduler.step()
    for p, q in zip(model.parameters(), bare_model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dominance_records_the_steps_of_a_wrapped_optimizer(wrapper: str, name: str) -> None:
    model, bare_model = model_of(), model_of()
    inner, bare = optimizer_of(name, model), optimizer_of(name, bare_model)
    wrapped = WRAPPERS[wrapper](inner)
    found, expected = Dominance(wrapped), Dominance(bare)
    for k in range(3):
        stepped = inner if wrapper == "Lightning's" else wrapped  # which would call it, in a Trainer
        for m, optimizer in ((model, stepped), (bare_model, bare)):
            optimizer.zero_grad()
            task_backward(losses_fn(m, data(k, T)), m.trunk)
            combine(m.trunk, [0.7, 0.3])
            optimizer.step()
    assert len(found.au) == len(list(model.trunk.parameters()))
    for p, q in zip(model.trunk.parameters(), bare_model.trunk.parameters(), strict=True):
        torch.testing.assert_close(found.au[p], expected.au[q], rtol=0, atol=0)
        assert found.au[p].amax() > 0


# -- copies ----------------------------------------------------------------------------------------------------------


def trained(name: str, k: int, model: Tasks, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    task_backward(losses_fn(model, data(k, T)), model.trunk)
    combine(model.trunk, [0.7, 0.3])
    optimizer.step()


def recorder_of(optimizer: Optimizer) -> Dominance:
    """The recorder that hangs on an optimizer's hooks."""
    hooks = optimizer._optimizer_step_post_hooks
    assert len(hooks) == 1
    (hook,) = hooks.values()
    recorder: Dominance = hook.__self__  # type: ignore[attr-defined]
    return recorder


COPIES = ("optimizer", "model and optimizer", "all", "dominance")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("what", COPIES)
@cases(4)
@given(before=st.integers(0, 2), after=st.integers(1, 2), both=st.booleans())
def test_a_copied_optimizer_goes_on_recording(name: str, what: str, before: int, after: int, both: bool) -> None:
    """The copy records its own steps after those that were recorded before; the original knows nothing of it."""
    model = model_of()
    optimizer = optimizer_of(name, model)
    dominance = Dominance(optimizer)
    for k in range(before):
        trained(name, k, model, optimizer)
    if what == "optimizer":
        new = copy.deepcopy(optimizer)
        new_model, recorder = None, recorder_of(new)
    elif what == "model and optimizer":
        new_model, new = copy.deepcopy((model, optimizer))
        recorder = recorder_of(new)
    elif what == "all":
        new_model, new, recorder = copy.deepcopy((model, optimizer, dominance))
        assert recorder is recorder_of(new)
    else:
        new_model, recorder = copy.deepcopy((model, dominance))
        new = recorder.optimizer
    assert recorder is not dominance
    assert recorder.optimizer is new
    kept = {p: au.clone() for p, au in dominance.au.items()}
    params = [p for group in new.param_groups for p in group["params"]]
    if new_model is None:
        new_model = model_of()
        for holder, p in zip(_places(new_model), params, strict=True):
            setattr(*holder, p)
    else:
        assert {id(p) for p in new_model.parameters()} == {id(p) for p in params}
    for k in range(after):
        trained(name, before + k, new_model, new)
    assert dominance.au.keys() == kept.keys()
    assert all(torch.equal(dominance.au[p], au) for p, au in kept.items())
    if both:
        for k in range(after):
            trained(name, before + k, model, optimizer)
        for p, q in zip(new_model.trunk.parameters(), model.trunk.parameters(), strict=True):
            torch.testing.assert_close(recorder.au[p], dominance.au[q], rtol=0, atol=0)
            torch.testing.assert_close(p, q, rtol=0, atol=0)
    assert set(recorder.au) == set(new_model.trunk.parameters())


def _places(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for name, _ in model.named_parameters():
        path, _, last = name.rpartition(".")
        yield model.get_submodule(path), last


# -- wrapped models --------------------------------------------------------------------------------------------------


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group(
        "gloo",
        store=dist.HashStore(),  # type: ignore[attr-defined]
        rank=0,
        world_size=1,
    )
    yield
    dist.destroy_process_group()


class Around(nn.Module):
    """A model with another inside."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = self.inner(x)
        return outputs


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("unused", [False, True])
def test_hydalearn_refuses_distributed_data_parallel(nested: bool, unused: bool) -> None:
    model = model_of()
    wrapped: nn.Module = DistributedDataParallel(model, find_unused_parameters=unused)
    wrapped = Around(wrapped) if nested else wrapped
    with pytest.raises(ValueError, match=r"Found DistributedDataParallel.*fully_shard"):
        HydaLearn(wrapped, losses_fn, model.trunk)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("unused", [False, True])
@pytest.mark.parametrize("call", ["task_backward", "HydaLearn"])
def test_losses_of_distributed_data_parallel_are_refused(nested: bool, unused: bool, call: str) -> None:
    """Also where only the losses know of it."""
    model = model_of()
    wrapped: nn.Module = DistributedDataParallel(model, find_unused_parameters=unused)
    wrapped = Around(wrapped) if nested else wrapped
    hydalearn = HydaLearn(model, lambda _, batch: losses_fn(wrapped, batch), model.trunk)
    message = r"Found DistributedDataParallel.*fully_shard\(model\)"
    with pytest.raises((ValueError, RuntimeError), match=message):
        hydalearn.backward(data(0, T)) if call == "HydaLearn" else task_backward(
            losses_fn(wrapped, data(0, T)), model.trunk
        )
    assert not any(hasattr(p, "task_grad") for p in model.parameters())


@cases(10)
@given(
    gain=st.sampled_from(["exact", "first_order"]),
    shared=st.sampled_from(["module", "list", "all"]),
    other=st.booleans(),
    seed=st.integers(0, 99),
)
def test_data_parallel_on_the_cpu_is_its_module(gain: str, shared: str, other: bool, seed: int) -> None:
    model, bare = model_of(seed), model_of(seed)
    parallel = nn.DataParallel(model)
    gain_batch = data(seed + 1, T) if other else None
    trunk: Any = {"module": model.trunk, "list": list(model.trunk.parameters()), "all": parallel}[shared]
    found = HydaLearn(parallel, losses_fn, trunk, trial_step=RATE, gain=gain).backward(data(seed, T), gain_batch)
    bare_trunk = bare if shared == "all" else bare.trunk
    expected = HydaLearn(bare, losses_fn, bare_trunk, trial_step=RATE, gain=gain).backward(data(seed, T), gain_batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for p, q in zip(parallel.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=0)
