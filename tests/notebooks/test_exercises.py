"""The self-checks: right answers turn green however they are written, each wrong one red where it is wrong."""

import ast
import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from companion.coursework import BY_NAME, EXERCISES, check
from companion.coursework.checking import Draw, Exercise, close
from companion.store import paths
from torch import Tensor
from wrong_answers import MISTAKES, RIGHT, wrong_answer

ALL = pytest.mark.parametrize("exercise", BY_NAME.values(), ids=BY_NAME.keys())


@ALL
def test_the_solution_is_green_at_every_property(exercise: Exercise) -> None:
    report = check(RIGHT[exercise.function])
    assert report.solved, str(report)
    assert str(report).count("✓") == len(exercise.properties) >= 5


@pytest.mark.parametrize("notebook", EXERCISES)
def test_notebook_and_solutions_name_functions_and_arguments_as_the_exercises_do(notebook: str) -> None:
    wanted = [(exercise.function, list(exercise.arguments)) for exercise in EXERCISES[notebook]]
    cells = json.loads((paths.NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    posed = "\n".join("".join(cell["source"]) for cell in cells if "exercise" in cell["metadata"].get("tags", []))
    for source in (posed, (paths.NOTEBOOKS / "solutions" / f"{notebook}.py").read_text(encoding="utf-8")):
        functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
        assert [(node.name, [argument.arg for argument in node.args.args]) for node in functions] == wanted


@ALL
@pytest.mark.parametrize("unsolved", [NotImplemented, None])
def test_an_unsolved_exercise_says_so(exercise: Exercise, unsolved: Any) -> None:
    report = exercise.check(lambda *arguments: unsolved)
    assert str(report) == f"{exercise.title}: not solved yet"
    assert not report.solved


@pytest.mark.parametrize(
    ("name", "mistake"), [pytest.param(name, said, id=f"{name}-{said}") for name in BY_NAME for said in MISTAKES[name]]
)
def test_a_wrong_answer_is_red_exactly_at_what_it_violates(name: str, mistake: str) -> None:
    exercise, (_, violated, says) = BY_NAME[name], MISTAKES[name][mistake]
    report = exercise.check(wrong_answer(name, mistake))
    found = zip(exercise.properties, report.findings, strict=False)
    red = {search.__name__: finding.problem for search, finding in found if finding.problem is not None}
    assert red.keys() == set(violated.split()), str(report)
    assert says in next(iter(red.values()))
    assert not report.solved


@ALL
def test_every_property_is_violated_by_some_wrong_answer(exercise: Exercise) -> None:
    violated = {name for _, red, _ in MISTAKES[exercise.function].values() for name in red.split()}
    assert violated == {search.__name__ for search in exercise.properties}


MINDLESS: dict[str, Callable[[tuple[int, ...]], Tensor]] = {
    "zeros": torch.zeros,
    "ones": torch.ones,
    "halves": lambda shape: torch.full(shape, 0.5),
    "one over the number": lambda shape: torch.full(shape, 1 / max(math.prod(shape), 1)),
    "only the first": lambda shape: torch.eye(max(math.prod(shape), 1))[0].reshape(shape),
    "NaN": lambda shape: torch.full(shape, math.nan),
    "infinite": lambda shape: torch.full(shape, math.inf),
    "uniform": torch.rand,
    "normal": torch.randn,
}


@ALL
@pytest.mark.parametrize("answer", MINDLESS.values(), ids=MINDLESS.keys())
def test_an_answer_that_looks_at_nothing_but_the_shape_is_red(
    exercise: Exercise, answer: Callable[[tuple[int, ...]], Tensor]
) -> None:
    report = exercise.check(lambda *arguments: answer(exercise.shape(*arguments)))
    assert report.findings[0].problem is None, "its form is right"
    assert not report.solved, str(report)


@ALL
def test_one_of_its_arguments_is_no_answer(exercise: Exercise) -> None:
    for i in range(len(exercise.arguments)):
        assert not exercise.check(lambda *arguments, i=i: arguments[i]).solved


def by_deep_copies(model: Any, losses_of: Any, main_task: int, trial_step: float) -> list[Tensor]:
    gains = []
    for t in range(len(losses_of(model))):
        trial = copy.deepcopy(model)
        losses_of(trial)[t].backward()
        torch.optim.SGD(trial.parameters(), lr=trial_step).step()
        gains.append(losses_of(model)[main_task] - losses_of(trial)[main_task])
    return gains


def pair_by_pair(main_gradients: Tensor, task_gradients: Tensor, trial_step: float) -> float:
    indices = range(len(main_gradients))
    pairs = [float(main_gradients[i] @ task_gradients[j]) for i in indices for j in indices if i != j]
    return trial_step * sum(pairs) / len(pairs)


def with_plain_numbers(gains: Tensor, main_task: int) -> list[float]:
    helpful = [max(gain, 0.0) for gain in gains.tolist()]
    if max(helpful) == 0:
        return [float(t == main_task) for t in range(len(helpful))]
    return [gain / sum(helpful) for gain in helpful]


def gradients_made_equally_long(gradients: Tensor, main_task: int) -> Tensor:
    main, rows = gradients[main_task], []
    for t, g in enumerate(gradients):
        if t == main_task or not g.any():
            rows.append(g.clone())
            continue
        g = g * main.norm() / g.norm()
        rows.append(torch.relu(g @ main) / (main @ main) * g)
    return torch.stack(rows)


def with_powers_of_rho(updates: Tensor, rho: float) -> Tensor:
    ages = torch.arange(len(updates) - 1, -1, -1)
    au = torch.einsum("s,stn->tn", rho**ages, updates**2)
    return au / au.sum(0)


def one_optimizer_per_task(
    theta: Tensor, gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float
) -> Tensor:
    moved = theta.clone()
    for k in range(gradients.shape[1]):
        p = torch.nn.Parameter(theta.clone())
        optimizer = torch.optim.Adam([p], lr=lr, betas=(beta1, beta2), eps=eps)
        for g in gradients[:, k]:
            p.grad = g.clone()
            optimizer.step()
        moved += p.detach() - theta
    return moved


OTHERWISE = {
    "exact_gains": by_deep_copies,
    "unbiased_gain": pair_by_pair,
    "weights_from_gains": with_plain_numbers,
    "scale_free_contributions": gradients_made_equally_long,
    "relative_updates": with_powers_of_rho,
    "adatask_adam": one_optimizer_per_task,
}


@pytest.mark.parametrize(("name", "answer"), OTHERWISE.items(), ids=OTHERWISE.keys())
def test_a_right_answer_found_in_another_way_is_green(name: str, answer: Callable[..., Any]) -> None:
    report = BY_NAME[name].check(answer)
    assert report.solved, str(report)


def test_the_same_batch_gain_is_too_large_by_the_covariance_over_the_batch_size() -> None:
    """What exercise 5 of notebook 01 says, over all mini-batches of 2 out of 4 examples, drawn with replacement."""
    draw, a = Draw(seed=1), 0.5
    main, task = draw.numbers(4, 3), draw.numbers(4, 3)
    batches = [[i, j] for i in range(4) for j in range(4)]
    same_batch = torch.stack([a * main[batch].mean(0) @ task[batch].mean(0) for batch in batches]).mean()
    covariance = ((main - main.mean(0)) * (task - task.mean(0))).sum(1).mean()
    torch.testing.assert_close(same_batch - a * main.mean(0) @ task.mean(0), a / 2 * covariance)
    assert abs(covariance) > 0.1


def test_a_check_says_the_same_every_time_and_leaves_torch_as_it_was() -> None:
    torch.manual_seed(3)
    state, default = torch.get_rng_state(), torch.get_default_dtype()
    function = wrong_answer("expected_share", "perfect balance")
    first, second = (str(BY_NAME["expected_share"].check(function)) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == default


def of_one_task(gains: Tensor, main_task: int) -> Any:
    """Right for one task; for more, what `then` does."""
    return torch.ones(1) if len(gains) == 1 else of_one_task.then(gains)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("then", "says"),
    [
        (lambda gains: gains[7], "raised IndexError: index 7 is out of bounds"),
        (lambda gains: None, "returned None. Every way through the function should end in a return."),
        (lambda gains: torch.ones(3, 3), "returned shape [3, 3]; it should be [2]"),
        (lambda gains: torch.ones(2, dtype=torch.float32), "numbers of type torch.float32. Keep the type"),
        (lambda gains: gains.mul_(2), "changed its argument gains in place. Work on a copy."),
        (lambda gains: "no", "returned a str, and no tensor can be made of it."),
    ],
)
def test_an_error_is_a_sentence_and_no_traceback(then: Callable[[Tensor], Any], says: str) -> None:
    of_one_task.then = then  # type: ignore[attr-defined]
    report = BY_NAME["weights_from_gains"].check(of_one_task)
    assert len(report.findings) == 1
    assert says in str(report)
    assert "weights_from_gains(gains=[" in str(report)
    assert "Traceback" not in str(report)
    assert "The other 6 properties are tried once this holds." in str(report)


def test_the_counterexample_is_the_shortest_of_the_smallest_size() -> None:
    exercise = Exercise(1, "largest", ("numbers",), lambda numbers: ())

    @exercise.property
    def at_most_two(answer: Any, draw: Draw, size: int) -> str | None:
        """At most two numbers."""
        return None if size <= 2 else f"{size}" + "x" * draw.index(1000)

    problem = exercise.check(lambda numbers: 0.0).findings[0].problem
    draw = Draw(seed=0)
    assert problem == "3" + "x" * min(draw.index(1000) for _ in range(12))


def test_a_function_of_another_name_is_refused() -> None:
    def my_weights() -> None:
        pass

    with pytest.raises(ValueError, match="Found `my_weights`"):
        check(my_weights)


def test_agreement_is_judged_by_the_largest_number_and_nan_agrees_with_nan_alone() -> None:
    def agree(got: list[float], wanted: list[float]) -> bool:
        return close(torch.tensor(got, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64))

    assert agree([1000.0, 1e-7], [1000.0, 0.0])
    assert not agree([1.0, 1e-7], [1.0, 0.0])
    assert agree([math.nan], [math.nan])
    assert not agree([math.nan], [0.0])
    assert not agree([math.inf], [1.0])
