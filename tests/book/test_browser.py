"""The built book in a real browser, as a reader meets it; skipped where there is no book, browser or playwright."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from companion.store.paths import BUILD

BOOK = BUILD / "book" / "html"
pytestmark = pytest.mark.skipif(not (BOOK / "index.html").exists(), reason="there is no book: make book")
PAGES = [
    path.relative_to(BOOK).as_posix() for path in sorted(BOOK.glob("*.html")) + sorted(BOOK.glob("notebooks/*.html"))
]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(BOOK)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    contexts = []

    def visit(page: str, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        shown = contexts[-1].new_page()
        shown.problems = []
        shown.on("console", lambda said: shown.problems.append(said.text) if said.type == "error" else None)
        shown.on("pageerror", lambda error: shown.problems.append(str(error)))
        shown.goto(address + page)
        return shown

    yield visit
    for context in contexts:
        context.close()


def test_no_page_has_an_error(visit: Callable[..., Any]) -> None:
    first = visit("api.html")
    for page in PAGES:
        first.goto(first.url.rsplit("/", 1)[0].removesuffix("/notebooks") + "/" + page)
        first.wait_for_load_state("networkidle")
        images = first.locator("article img").evaluate_all("all => all.map(i => [i.src.slice(0, 60), i.naturalWidth])")
        assert [source for source, width in images if width == 0] == [], page
    assert first.problems == []


@pytest.mark.parametrize("page", ["notebooks/01_hydalearn_by_hand.html", "api.html"])
def test_mathematics_is_rendered(visit: Callable[..., Any], page: str) -> None:
    shown = visit(page)
    shown.wait_for_selector("mjx-container svg")
    assert shown.locator("mjx-container").count() == shown.locator(".math").count() > 0
    assert shown.locator("mjx-merror").count() == 0


def test_search_finds_the_erased_weight(visit: Callable[..., Any]) -> None:
    shown = visit("search.html?q=erased+weight")
    shown.wait_for_selector("#search-results li a")
    found = shown.locator("#search-results li a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert any("05_adatask_by_hand" in link or "09_composed" in link for link in found)
    shown.locator("#search-results li a").first.click()
    shown.wait_for_selector("article")
    assert "erased" in shown.locator("article").inner_text().lower()


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("notebooks/0")][2:5])
def test_links_under_figures_lead_to_their_files(visit: Callable[..., Any], page: str, address: str) -> None:
    shown = visit(page)
    origin = shown.locator(".origin").first
    stem = origin.locator("b").inner_text()
    assert stem[:2] == page.split("/")[1][:2]
    numbers = origin.locator("a", has_text="numbers").get_attribute("href")
    answer = shown.request.get(address + f"notebooks/{numbers}")
    assert answer.ok
    assert answer.url.endswith(f"figures/{stem}.csv")
    assert "," in answer.text().splitlines()[0]
    origin.locator("a", has_text="cell").click()
    assert "#cell-" in shown.url


@pytest.mark.parametrize("width", [390, 800, 1320, 1400, 1900])
@pytest.mark.parametrize("page", ["index.html", "notebooks/02_hydalearn_synthetic.html", "api.html", "claims.html"])
def test_a_page_of_any_width_scrolls_one_way(visit: Callable[..., Any], page: str, width: int) -> None:
    shown = visit(page, viewport={"width": width, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_in_the_dark_figures_keep_a_white_ground(visit: Callable[..., Any]) -> None:
    shown = visit("notebooks/02_hydalearn_synthetic.html", color_scheme="dark")
    ground = "e => getComputedStyle(e).backgroundColor"
    assert shown.locator("article img").first.evaluate(ground) == "rgb(255, 255, 255)"
    red, *_ = (int(part) for part in shown.locator("body").evaluate(ground).strip("rgba()").split(",")[:3])
    assert red < 60
