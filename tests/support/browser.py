"""A real Chromium, and a page of the dashboard in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Page,
        Request,
        ViewportSize,
    )

LIMIT_MS = 30_000

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
    """

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    expects_failures: bool = False

    def __post_init__(self) -> None:
        self.page.set_default_timeout(LIMIT_MS)
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.errors.append(f"error: {error}"))
        self.page.on("request", self._requested)

    def _logged(self, message: ConsoleMessage) -> None:
        lost = self.expects_failures and message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning") and not lost:
            self.errors.append(f"{message.type}: {message.text}")

    def _requested(self, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            self.hosts.add(urlsplit(request.url).netloc)

    def open(self, route: str = "") -> Page:
        """Open a route of the page."""
        self.page.goto(f"{self.url}{route}")
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
    own_cache: bool = False,
    viewport: ViewportSize | None = None,
    **media: Any,
) -> Iterator[Visit]:
    """A visit of the dashboard in a new tab, with `media` such as color_scheme.

    All visits are in one window: each new window takes a second of processor time. A visit leaves
    nothing in the storage of the browser. The visit has a window of its own if it has its own
    cache.
    """
    context = browser.new_context() if own_cache else _shared_context(browser)
    page = context.new_page()
    if viewport is not None:
        page.set_viewport_size(viewport)
    page.emulate_media(**media)
    found = Visit(page, url)
    try:
        yield found
        found.check()
    finally:
        if own_cache:
            context.close()
        else:
            page.evaluate("localStorage.clear()")
            page.close()
            context.clear_cookies()


def _shared_context(browser: Browser) -> BrowserContext:
    """Return the context of all visits; its first page keeps the window open."""
    if not browser.contexts:
        browser.new_context().new_page()
    return browser.contexts[0]
