"""Regression problems made to test HydaLearn's claims: main function and use of each auxiliary task are known.

Every seed is a problem of its own: a function f, a small random network of tanh units with mean 0 and variance 1, and
fresh examples. All of it is our design; only the related and unrelated tasks of different scale follow the idea of a
published toy problem (Chen et al. 2018, GradNorm, arXiv 1711.02257, section 4: tasks share a component of a tanh).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
NUM_INPUTS = 10  # input features, independent standard normal
NUM_UNITS = 8  # tanh units of a function


@dataclass(frozen=True)
class Drawn:
    """One problem's folds.

    Attributes:
        inputs: Fold name -> `[N, F]`; the folds are "train", "validation" and "test".
        targets: Fold name -> `[T, N]`, the main task first. Its targets carry noise, except in the test fold: there
            the loss is the squared distance to f itself, without the constant that noise would add.
        clusters: True for the training examples of the smaller hidden cluster, `[N]`; no input tells them apart.
    """

    inputs: dict[str, Array]
    targets: dict[str, Array]
    clusters: NDArray[np.bool_]


Targets = Callable[[Generator, Array, NDArray[np.bool_]], Array]


def random_function(rng: Generator) -> Callable[[Array], Array]:
    """Draw a function `[N, F] -> [N]` of mean 0 and variance 1 over standard normal inputs (on 4,000 of them)."""
    directions = rng.normal(size=(NUM_INPUTS, NUM_UNITS)) * (2 / NUM_INPUTS**0.5)
    offsets, signs = rng.normal(size=NUM_UNITS), rng.normal(size=NUM_UNITS)

    def raw(x: Array) -> Array:
        values: Array = np.tanh(x @ directions + offsets) @ signs
        return values

    sample = raw(rng.normal(size=(4000, NUM_INPUTS)))
    mean, spread = float(sample.mean()), float(sample.std())
    return lambda x: (raw(x) - mean) / spread


def _problem(rng: Generator, rows: Sequence[int], noise: float, minor: float, targets: Targets) -> Drawn:
    inputs, labels = {}, {}
    clusters = np.zeros(0, dtype=np.bool_)
    for fold, count in zip(("train", "validation", "test"), rows, strict=True):
        x = rng.normal(size=(count, NUM_INPUTS))
        belongs = rng.permutation(count) < round(minor * count)  # an exact share, in random order
        y = targets(rng, x, belongs)
        disturbance = rng.normal(size=count)
        inputs[fold], labels[fold] = x, y
        if fold != "test":
            y[0] += noise * disturbance
        if fold == "train":
            clusters = belongs
    return Drawn(inputs, labels, clusters)


def composition(seed: int, rows: Sequence[int], noise: float, minor: float = 0.25) -> Drawn:
    """Make the composition design: main f + noise; auxiliary +f in one hidden cluster, -f in the smaller one.

    At a share of one half the auxiliary's mean given the inputs is 0, and its head would learn nothing.

    Args:
        seed: Names the problem.
        rows: Sizes of the training, validation and test fold.
        noise: Standard deviation of the main task's noise; f has 1.
        minor: Share of the smaller cluster.
    """
    rng = np.random.default_rng([seed, 1])
    f = random_function(rng)
    return _problem(rng, rows, noise, minor, lambda _, x, minor: np.stack([f(x), np.where(minor, -f(x), f(x))]))


def drift(seed: int, rows: Sequence[int], noise: float) -> Drawn:
    """Make the jump design and its control: main f + noise, then f itself, then an unrelated function.

    The control trains with tasks 0 and 1 throughout, the jump replaces task 1 by task 2 at a known step. A change of
    sign would be no such change: the auxiliary head would turn its sign and the shared layers stay useful.
    """
    rng = np.random.default_rng([seed, 2])
    f, other = random_function(rng), random_function(rng)
    return _problem(rng, rows, noise, 0.0, lambda _, x, __: np.stack([f(x), f(x), other(x)]))


def related(seed: int, rows: Sequence[int], noise: float, scales: Sequence[float], num_related: int) -> Drawn:
    """Make main f + noise with some auxiliaries related to f and the others not.

    A related auxiliary is half made of f and half of a function of its own (by variance), an unrelated one is a
    function of its own, each times its scale.

    Args:
        seed: Names the problem.
        rows: Sizes of the training, validation and test fold.
        noise: Standard deviation of the main task's noise.
        scales: One per auxiliary, in units of the main function's standard deviation.
        num_related: The first so many auxiliaries are related.
    """
    rng = np.random.default_rng([seed, 3])
    f, *others = (random_function(rng) for _ in range(1 + len(scales)))

    def targets(_: Generator, x: Array, __: NDArray[np.bool_]) -> Array:
        tasks = [f(x)]
        for t, (scale, other) in enumerate(zip(scales, others, strict=True)):
            tasks.append(scale * ((f(x) + other(x)) / 2**0.5 if t < num_related else other(x)))
        return np.stack(tasks)

    return _problem(rng, rows, noise, 0.0, targets)
