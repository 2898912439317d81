"""Fixtures that every test of the methods shares."""

import pytest
import torch


@pytest.fixture(params=["cpu", "cuda", "mps"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each kind of device in turn; an absent one is skipped with the reason."""
    kind: str = request.param
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[kind]:
        pytest.skip(f"this machine has no {kind} device")
    return torch.device(kind)
