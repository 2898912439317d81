"""Functions that stay out of torch.compile's graphs: they run backward passes and look at what autograd left."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Result = TypeVar("Result")


def eager(function: Callable[P, Result]) -> Callable[P, Result]:
    """Makes a compiled caller break its graph around ``function``."""
    apart: Callable[P, Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return apart
