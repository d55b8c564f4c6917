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
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

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
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A visit of the dashboard with a fresh profile."""
    context = browser.new_context(**options)
    found = Visit(context.new_page(), url)
    try:
        yield found
        found.check()
    finally:
        context.close()
