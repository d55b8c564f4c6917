"""The pictures of docs/dashboard.md, from a real Chromium.

    python benchmarks/dashboard_pictures.py [--out docs/pictures] [--wait 130] [--url URL]

Runs the models of `dashboard_feed.py`, waits until they have a history, then takes a picture of
each screen and a short animation of a moving model.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections import deque
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboard_feed import running_site
from PIL import Image
from sklearn import datasets as sklearn_datasets

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.support.browser import chromium, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

datasets = Path(sklearn_datasets.__file__).parent

FRAMES, BEFORE, FRAME_SECONDS = 60, 12, 0.2
"""Frames of the animation, those before a drift, and the time between two of them."""

LARGEST = 1_000_000
"""Maximum bytes of the animation."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--wait", type=float, default=130.0)
    parser.add_argument("--url", help="a dashboard that dashboard_feed.py runs already")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with running_site() if given.url is None else nullcontext() as site:
        if site is not None:
            time.sleep(given.wait)
        with chromium() as browser:
            take(browser, given.url or site.url, given.out)


def take(browser: Browser, url: str, out: Path) -> None:
    """Take all pictures."""
    wide: Any = {"viewport": {"width": 1440, "height": 900}}
    dark = {**wide, "color_scheme": "dark"}
    phone: Any = {"viewport": {"width": 375, "height": 812}, "device_scale_factor": 2}
    picture(browser, url, out / "dashboard-overview.png", "#/", **wide)
    picture(browser, url, out / "dashboard-model.png", "#/m/machines", **wide)
    picture(browser, url, out / "dashboard-mixture.png", "#/m/turbines", **dark)
    picture_of_palette(browser, url, out / "dashboard-palette.png", **wide)
    picture(browser, url, out / "dashboard-phone.png", "#/m/adapting", **phone)
    animate(browser, url, out / "dashboard.gif")


def open_page(page: Page, url: str, route: str) -> None:
    """Open a screen, and wait until its charts are there."""
    page.goto(f"{url}{route}")
    page.locator(".models tbody tr, .u-over").first.wait_for()
    page.wait_for_timeout(2000)


def picture(browser: Browser, url: str, path: Path, route: str, **options: Any) -> None:
    """Take a picture of the first screen of a route."""
    with visit(browser, url, **options) as found:
        open_page(found.page, url, route)
        save(found.page, path)


def picture_of_palette(browser: Browser, url: str, path: Path, **options: Any) -> None:
    """Take a picture of a palette, and of a picture in its colours."""
    with visit(browser, url, **options) as found:
        open_page(found.page, url, "#/m/palette")
        found.page.locator("input[type=file]").set_input_files(
            Path(datasets, "images", "china.jpg")
        )
        found.page.get_by_text("PSNR").wait_for()
        found.page.mouse.wheel(0, 520)
        found.page.wait_for_timeout(1000)
        save(found.page, path)


def save(page: Page, path: Path) -> None:
    """Save what is on the screen; with photographs, in 256 colours."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > LARGEST / 4:
        image.quantize(256).save(path, optimize=True)


def animate(browser: Browser, url: str, path: Path) -> None:
    """Film the plane of a model before and after a drift."""
    options = {"viewport": {"width": 760, "height": 900}, "color_scheme": "light"}
    frames: deque[Image.Image] = deque(maxlen=FRAMES)
    with visit(browser, url, **options) as found:
        open_page(found.page, url, "#/m/turbines?x=1&y=3")
        plane, drifts = (found.page.locator(name) for name in (".plane", "[data-figure=Drifts] dd"))
        plane.scroll_into_view_if_needed()
        before, left = drifts.inner_text(), FRAMES - BEFORE
        while left:
            began = time.monotonic()
            frames.append(Image.open(io.BytesIO(plane.screenshot())).convert("RGB"))
            left -= drifts.inner_text() != before
            time.sleep(max(0.0, FRAME_SECONDS - (time.monotonic() - began)))
    for colours in (64, 40, 24, 16):
        palette = frames[-1].quantize(colours, dither=Image.Dither.NONE)
        first, *more = [
            frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
        ]
        milliseconds = round(FRAME_SECONDS * 1e3)
        first.save(path, save_all=True, append_images=more, duration=milliseconds, loop=0)
        if path.stat().st_size < LARGEST:
            return


if __name__ == "__main__":
    main()
