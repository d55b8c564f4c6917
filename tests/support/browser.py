"""A real Chromium, and a page of the dashboard in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import (
        Browser,
        ConsoleMessage,
        Error,
        Page,
        Request,
        ViewportSize,
    )

LIMIT_MS = 30_000
VIEWPORT: ViewportSize = {"width": 1280, "height": 720}

_numbers = count(1)

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window; or skip the tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on the PATH; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as running:
        # Chromium's sandbox needs rights that containers and root don't have; it only opens pages
        # of this repository.
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page, and all that a visit must not have: errors, violations, other hosts.

    Parameters
    ----------
    page : Page
    url : str
        Address of the dashboard.
    number : int
        In the address, so that the page of the visit before isn't taken for that of this one.
    """

    page: Page
    url: str
    number: int
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    expects_failures: bool = False

    def __post_init__(self) -> None:
        self.page.set_default_timeout(LIMIT_MS)
        for event, listener in self._listeners.items():
            self.page.on(event, listener)  # type: ignore[call-overload]

    def end(self) -> None:
        """Hear no more of the page."""
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)

    @cached_property
    def _listeners(self) -> dict[str, Callable[[Any], None]]:
        return {"console": self._logged, "pageerror": self._failed, "request": self._requested}

    def _failed(self, error: Error) -> None:
        self.errors.append(f"error: {error}")

    def _logged(self, message: ConsoleMessage) -> None:
        lost = self.expects_failures and message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning") and not lost:
            self.errors.append(f"{message.type}: {message.text}")

    def _requested(self, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            self.hosts.add(urlsplit(request.url).netloc)

    def open(self, route: str = "") -> Page:
        """Open a route of the page."""
        self.page.goto(f"{self.url}?visit={self.number}{route}")
        self.page.locator("h1").wait_for()
        return self.page

    def check(self) -> None:
        """No error on the console, nothing that the policy blocked, no request to another host."""
        assert self.errors == []
        assert self.hosts <= {urlsplit(self.url).netloc}


@contextmanager
def visit(
    browser: Browser,
    url: str,
    *,
    without_cache: bool = False,
    viewport: ViewportSize | None = None,
    **media: Any,
) -> Iterator[Visit]:
    """A visit of the dashboard, with `media` such as color_scheme, and without motion by default.

    All visits are in one tab: a new one takes half a second of processor time, and a new window a
    second. A visit leaves nothing in the storage of the browser.
    """
    page = _shared_page(browser)
    page.set_viewport_size(viewport or VIEWPORT)
    page.emulate_media(**{"color_scheme": "light", "reduced_motion": "reduce"} | media)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": without_cache})
    found = Visit(page, url, next(_numbers))
    try:
        yield found
        found.check()
    finally:
        found.end()
        session.detach()
        page.evaluate("localStorage.clear(), sessionStorage.clear()")
        page.context.clear_cookies()


def _shared_page(browser: Browser) -> Page:
    """Return the page of all visits."""
    if not browser.contexts:
        return browser.new_page()
    return browser.contexts[0].pages[0]
