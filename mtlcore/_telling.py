"""Warnings that point at the user's own line, whatever lies between it and the one who warns."""

import sys
import warnings


def tell(message: str) -> None:
    """Warns at the nearest caller outside torch and this package's methods."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("torch", "mtlcore"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
