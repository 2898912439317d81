"""Exercise 5 of notebook 05: how far AdaTask-Adam balances, from the tasks' signal-to-noise ratios."""

from functools import cache

import torch

from companion.coursework.checking import Answer, Draw, Exercise, show

exercise = Exercise(5, "expected_share", ("snr_a", "snr_b", "beta1"), lambda *_: ())
MOMENTA = (0.5, 0.8, 0.9)  # beta1
RATIOS = (0.0, 0.1, 0.5, 1.0, 2.0, 10.0)  # signal-to-noise ratios
SAMPLES = 20_000  # of the simulation: its share is then off by about 0.005
TOLERANCE = 0.03


@exercise.property
def one_share(answer: Answer, draw: Draw, size: int) -> str | None:
    """Returns one number."""
    answer(draw.choice(RATIOS), draw.choice(RATIOS), draw.choice(MOMENTA))
    return None


@exercise.property
def equal_tasks(answer: Answer, draw: Draw, size: int) -> str | None:
    """Two tasks with the same ratio share equally."""
    snr = draw.choice(RATIOS)
    answer(snr, snr, draw.choice(MOMENTA))
    return answer.should_be(torch.tensor(0.5), "nothing tells the tasks apart.")


@exercise.property
def swapped(answer: Answer, draw: Draw, size: int) -> str | None:
    """With the tasks swapped, the share is what was missing to 1."""
    first, second, beta1 = draw.choice(RATIOS), draw.choice(RATIOS), draw.choice(MOMENTA)
    before = answer(first, second, beta1)
    answer(second, first, beta1)
    return answer.should_be(1 - before, f"the other way round it was {show(before.item())}.")


@exercise.property
def more_signal(answer: Answer, draw: Draw, size: int) -> str | None:
    """A task with more signal has the greater share."""
    low, high, beta1 = draw.choice((0.0, 0.1, 0.5)), draw.choice((1.0, 2.0, 10.0)), draw.choice(MOMENTA)
    found = float(answer(high, low, beta1))
    return None if 0.5 < found <= 1 else f"{answer.call} returned {show(found)}; it should be above 1/2."


@exercise.property
def no_momentum(answer: Answer, draw: Draw, size: int) -> str | None:
    """Without momentum, beta1 = 0, the balance is perfect whatever the ratios."""
    answer(draw.choice(RATIOS), draw.choice(RATIOS), 0.0)
    return answer.should_be(torch.tensor(0.5), "each update is then a gradient over its own root mean square.")


@exercise.property
def bound(answer: Answer, draw: Draw, size: int) -> str | None:
    """All signal (ratio 1e15) against all noise (ratio 0) is the most that is possible: (1 + beta1) / 2."""
    beta1 = draw.choice(MOMENTA)
    answer(1e15, 0.0, beta1)
    return answer.should_be(torch.tensor((1 + beta1) / 2), "no task can have a greater share.")


@exercise.property
def simulation(answer: Answer, draw: Draw, size: int) -> str | None:
    """It is what a simulation finds, in which Adam averages random gradients."""
    if size > 1:
        return None
    first, second, beta1 = draw.choice(RATIOS), draw.choice(RATIOS), draw.choice(MOMENTA)
    of_first, of_second = _squared_update(first, beta1), _squared_update(second, beta1)
    simulated = of_first / (of_first + of_second)
    found = float(answer(first, second, beta1))
    if abs(found - simulated) < TOLERANCE:
        return None
    return f"{answer.call} returned {show(found)}; {SAMPLES} simulated parameters give {show(simulated, 2)}."


@cache
def _squared_update(snr: float, beta1: float) -> float:
    """The mean square of Adam's quotient, for gradients of mean sqrt(snr) and variance 1, beta2 close to 1."""
    generator, m = torch.Generator().manual_seed(0), torch.zeros(SAMPLES)
    for _ in range(60):
        g = snr**0.5 + torch.randn(SAMPLES, generator=generator)
        m = beta1 * m + (1 - beta1) * g
    return float(m.square().mean()) / (snr + 1)
