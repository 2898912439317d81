"""The exercises at the end of notebooks 01 and 05: self-checks by properties, without the answers."""

from collections.abc import Callable
from typing import Any

from companion.coursework import (
    adatask_adam,
    adatask_adamw,
    exact_gains,
    expected_share,
    first_order_gains,
    joint_adam_parts,
    relative_updates,
    scale_free_contributions,
    unbiased_gain,
    weights_from_gains,
)
from companion.coursework.checking import Exercise, Report

_HYDALEARN = (weights_from_gains, first_order_gains, exact_gains, scale_free_contributions, unbiased_gain)
_ADATASK = (relative_updates, adatask_adam, joint_adam_parts, adatask_adamw, expected_share)
EXERCISES: dict[str, list[Exercise]] = {
    "01_hydalearn_by_hand": [module.exercise for module in _HYDALEARN],
    "05_adatask_by_hand": [module.exercise for module in _ADATASK],
}
BY_NAME = {exercise.function: exercise for exercises in EXERCISES.values() for exercise in exercises}


def check(function: Callable[..., Any]) -> Report:
    """Try a function on the properties of the exercise that bears its name; print what comes back.

    Args:
        function: The answer, under the name that the exercise gives it.

    Raises:
        ValueError: No exercise has a function of this name.

    Example:
        >>> def weights_from_gains(gains, main_task):
        ...     return NotImplemented
        >>> print(check(weights_from_gains))
        Exercise 1, weights_from_gains: not solved yet
    """
    name = getattr(function, "__name__", repr(function))
    if name not in BY_NAME:
        raise ValueError(
            f"The function should bear the name of an exercise: {', '.join(BY_NAME)}. Found `{name}`. "
            "Keep the name that stands in the notebook."
        )
    return BY_NAME[name].check(function)
