"""Self-checks by properties: what has to hold of a right answer, tried on small random problems in float64.

A property is a function that calls the student's answer and returns a counterexample in a sentence, or None. Its
docstring is the sentence that the student reads. No answer is stored here.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

SIZES = (1, 2, 3, 4)  # of a problem: of tasks, examples or steps, as the property says; the smallest first
DRAWS = 12  # problems of each size
SCALES = (0.001, 0.5, 3.0, 1000.0)  # by which losses are multiplied
TOLERANCE = 1e-9  # how far float64 results may lie apart, relative to the largest number wanted or to 0.001

Property = Callable[["Answer", "Draw", int], str | None]


class Unsolved(Exception):
    """The function still returns NotImplemented (or None)."""


class Wrong(Exception):
    """A counterexample that the call itself is: an error, or a result of another form."""


class Finding(NamedTuple):
    """What came out of one property.

    Attributes:
        property: Its sentence.
        problem: The smallest counterexample found, or None.
    """

    property: str
    problem: str | None


class Report(NamedTuple):
    """What a self-check says; print it.

    Attributes:
        title: The exercise.
        findings: One per property; only the first where that one, the form of the result, does not hold. Empty while
            the exercise is not solved.
        properties: How many properties the exercise has.
    """

    title: str
    findings: Sequence[Finding]
    properties: int

    @property
    def solved(self) -> bool:
        """Whether every property holds."""
        return len(self.findings) == self.properties and all(finding.problem is None for finding in self.findings)

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.title}: not solved yet"
        lines = [
            f"  ✓ {name}" if problem is None else f"  ✗ {name}\n      {problem}" for name, problem in self.findings
        ]
        held = sum(finding.problem is None for finding in self.findings)
        if len(self.findings) < self.properties:
            lines.append(f"  The other {self.properties - 1} properties are tried once this holds.")
        return "\n".join([f"{self.title}: {held} of {self.properties} properties hold", *lines])


class Draw:
    """Random numbers of one decimal, so that a counterexample can be followed with a pencil."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def positive(self, *shape: int) -> Tensor:
        """0.1 to 2.0, of the given shape."""
        return torch.randint(1, 21, shape, generator=self.generator).double() / 10

    def numbers(self, *shape: int) -> Tensor:
        """-2.0 to 2.0 without 0, of the given shape."""
        return self.positive(*shape) * (2 * torch.randint(0, 2, shape, generator=self.generator).double() - 1)

    def index(self, size: int) -> int:
        """0 to size - 1."""
        return int(torch.randint(size, (), generator=self.generator))

    def choice(self, values: Sequence[float]) -> float:
        """One of the values."""
        return values[self.index(len(values))]

    def order(self, size: int) -> Tensor:
        """A permutation [size]."""
        return torch.randperm(size, generator=self.generator)


def show(value: object, digits: int = 4) -> str:
    """A value as a student would write it down."""
    if isinstance(value, Tensor):
        return show(value.tolist(), digits)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show(element, digits) for element in value) + "]"
    return f"{value + 0.0:.{digits}g}" if isinstance(value, float) else str(value)


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}{'s' * (number != 1)}"


def close(got: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether two tensors agree, up to `tolerance` of the largest number wanted, or of 0.001; NaN agrees with NaN."""
    scale = max(float(wanted.nan_to_num().abs().max()), 1e-3)
    return torch.allclose(got, wanted.double(), rtol=0.0, atol=scale * tolerance, equal_nan=True)


class Answer:
    """A student's function. It is called with copies, and what it returns is held against the form asked for."""

    def __init__(self, function: Callable[..., Any], exercise: "Exercise") -> None:
        self._function, self._exercise, self._answered = function, exercise, False
        self.call, self.returned = "", torch.empty(0)

    def __call__(self, *arguments: Any) -> Tensor:
        """What the function returns for these arguments, as a float64 tensor without a graph."""
        exercise = self._exercise
        written = zip(exercise.arguments, arguments, strict=True)
        self.call = f"{exercise.function}({', '.join(f'{name}={show(value)}' for name, value in written)})"
        given = [_copy(argument) for argument in arguments]
        try:
            result = self._function(*given)
        except NotImplementedError:
            result = NotImplemented
        except Exception as error:
            said = str(error).partition("\n")[0]
            raise Wrong(f"{self.call} raised {type(error).__name__}: {said}") from error
        if result is None or result is NotImplemented:
            if not self._answered:
                raise Unsolved
            raise Wrong(f"{self.call} returned {result}. Every way through the function should end in a return.")
        self._answered = True
        for name, before, after in zip(exercise.arguments, arguments, given, strict=True):
            if show(before, 17) != show(after, 17):
                raise Wrong(f"{self.call} changed its argument {name} in place. Work on a copy.")
        self.returned = self._tensor(result, exercise.shape(*arguments))
        return self.returned

    def should_be(self, wanted: Tensor, reason: str, tolerance: float = TOLERANCE) -> str | None:
        """None where the last result is the wanted one, else a sentence that says both and the reason."""
        if close(self.returned, wanted, tolerance):
            return None
        digits = next((d for d in (4, 8, 12) if show(self.returned, d) != show(wanted, d)), 17)
        return f"{self.call} returned {show(self.returned, digits)}; it should be {show(wanted, digits)}: {reason}"

    def _tensor(self, result: Any, shape: tuple[int, ...]) -> Tensor:
        if isinstance(result, list | tuple) and any(isinstance(element, Tensor) for element in result):
            result = [element.tolist() if isinstance(element, Tensor) else element for element in result]
        try:
            tensor = result.detach() if isinstance(result, Tensor) else torch.tensor(result, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise Wrong(f"{self.call} returned a {type(result).__name__}, and no tensor can be made of it.") from None
        if tensor.dtype != torch.float64:
            raise Wrong(
                f"{self.call} returned numbers of type {tensor.dtype}. Keep the type of what comes in, float64."
            )
        if tuple(tensor.shape) != shape:
            raise Wrong(f"{self.call} returned shape {list(tensor.shape)}; it should be {list(shape)}.")
        return tensor


def _copy(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_copy(element) for element in argument]
    return argument.clone() if isinstance(argument, Tensor) else argument


class Exercise:
    """One exercise: a function to write, and the properties that a right one has.

    Args:
        number: Of the exercise within its notebook, from 1.
        function: The function's name.
        arguments: The names of its arguments, for the sentences.
        shape: From the arguments to the shape that the result should have.
    """

    def __init__(
        self, number: int, function: str, arguments: Sequence[str], shape: Callable[..., tuple[int, ...]]
    ) -> None:
        self.title, self.function = f"Exercise {number}, {function}", function
        self.arguments, self.shape = arguments, shape
        self.properties: list[Property] = []

    def property(self, search: Property) -> Property:
        """Decorator: add a property. The first is the form of the result, without which no other is tried."""
        self.properties.append(search)
        return search

    def check(self, function: Callable[..., Any]) -> Report:
        """Try every property on the function."""
        answer, findings = Answer(function, self), []
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # torch.zeros(...) in an answer is what the problem is
        try:
            for search in self.properties:
                findings.append(Finding(inspect.getdoc(search) or "", _smallest(search, answer)))
                if findings[0].problem is not None:
                    break
        except Unsolved:
            findings = []
        finally:
            torch.set_default_dtype(default)
        return Report(self.title, findings, len(self.properties))


def _smallest(search: Property, answer: Answer) -> str | None:
    """The shortest counterexample among the problems of the smallest size that has any."""
    draw = Draw(seed=0)
    for size in SIZES:
        problems = []
        for _ in range(DRAWS):
            try:
                problem = search(answer, draw, size)
            except Wrong as wrong:
                problem = str(wrong)
            if problem is not None:
                problems.append(problem)
        if problems:
            return min(problems, key=len)
    return None
