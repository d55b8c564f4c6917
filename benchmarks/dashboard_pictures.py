"""The pictures of docs/dashboard.md, from a real Chromium.

    python benchmarks/dashboard_pictures.py [--out docs/pictures] [--wait 130]

Runs the models of `dashboard_feed.py`, waits until they have a history, then takes a picture of
each screen and a short animation of a moving model.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboard_feed import running_site
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.support.browser import chromium, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FRAMES, FRAME_MS = 48, 125
LARGEST = 1_000_000
"""Maximum bytes of the animation."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--wait", type=float, default=130.0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with running_site("--allow-actions") as site, chromium() as browser:
        time.sleep(given.wait)
        url = site.url.partition("#")[0]
        wide = {"viewport": {"width": 1440, "height": 900}}
        phone = {"viewport": {"width": 375, "height": 812}, "device_scale_factor": 2}
        picture(browser, url, given.out / "dashboard-overview.png", "#/", **wide)
        picture(browser, url, given.out / "dashboard-model.png", "#/m/machines", **wide)
        dark = {**wide, "color_scheme": "dark"}
        picture(browser, url, given.out / "dashboard-mixture.png", "#/m/turbines", **dark)
        picture(browser, url, given.out / "dashboard-palette.png", "#/m/palette", **wide)
        picture(browser, url, given.out / "dashboard-phone.png", "#/m/adapting", **phone)
        animate(browser, url, given.out / "dashboard.gif")


def open_page(page: Page, url: str, route: str) -> None:
    """Open a screen, and wait until its charts are there."""
    page.goto(f"{url}{route}")
    page.locator(".models tbody tr, .u-over").first.wait_for()
    page.wait_for_timeout(2000)


def picture(browser: Browser, url: str, path: Path, route: str, **options: Any) -> None:
    """Take a picture of the first screen of a route, in at most 256 colours."""
    with visit(browser, url, **options) as found:
        open_page(found.page, url, route)
        image = Image.open(io.BytesIO(found.page.screenshot())).convert("RGB")
        image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def animate(browser: Browser, url: str, path: Path) -> None:
    """Film the plane of a model that moves, in fewer colours until the file is small enough."""
    options = {"viewport": {"width": 900, "height": 900}, "color_scheme": "light"}
    frames = []
    with visit(browser, url, **options) as found:
        open_page(found.page, url, "#/m/turbines")
        plane = found.page.locator(".plane")
        for _ in range(FRAMES):
            began = time.monotonic()
            frames.append(Image.open(io.BytesIO(plane.screenshot())).convert("RGB"))
            time.sleep(max(0.0, 0.25 - (time.monotonic() - began)))
    for colours in (64, 32, 16):
        first, *more = [
            frame.quantize(colours, dither=Image.Dither.NONE, palette=None) for frame in frames
        ]
        first.save(
            path, save_all=True, append_images=more, duration=FRAME_MS, loop=0, optimize=True
        )
        if path.stat().st_size < LARGEST:
            return


if __name__ == "__main__":
    main()
