"""Fixtures that the tests share."""

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import matplotlib as mpl
import pytest
import torch

# Each of their tests takes seconds and shares nothing, so both processes of `make test` take them one by one.
SPREAD = {"test_notebooks.py", "test_published_runs.py"}

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of a module in one process, for they share fixtures, but spread the slow ones."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if item.path.name not in SPREAD:
                item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))


@pytest.fixture(autouse=True)
def figure_settings() -> Iterator[None]:
    """Give every test matplotlib's defaults, whatever the user's own are or another test set."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


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


@pytest.fixture
def no_synchronisation(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """A context in which reading back from a CUDA device is an error; elsewhere it does nothing."""

    @contextmanager
    def context() -> Iterator[None]:
        if device.type != "cuda":
            yield
            return
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
                torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return context


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; skipped where it or playwright is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()
