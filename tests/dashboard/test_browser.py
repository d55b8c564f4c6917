"""The page in a real Chromium. All tests of this file share one browser, server and worker."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamclust import Client
from streamclust.dashboard.serve import Listen
from streamclust.store.server.connect import Address, open_server
from tests.support.browser import Visit, chromium, visit
from tests.support.dashboard import opened
from tests.support.publisher import Publisher
from tests.support.servers import OwnServer, own_server
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace

pytest.importorskip("playwright", reason="playwright isn't installed")
from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TOKEN = "a-token-of-the-test"
HOSTILE = "<script>globalThis.hacked=1</script>"
FEATURES = ("temperature", "<img src=x onerror=hacked=1>")

MODELS: dict[str, Any] = {
    "machines": {
        "kind": "kmeans",
        "n_clusters": 3,
        "streams": "machines",
        "init": {"points": 60},
        "publish": {"points": 1},
        "commit": {"points": 1},
        "points": {"features": list(FEATURES)},
    },
    "waiting": {"kind": "kmeans", "n_clusters": 3, "streams": HOSTILE, "init": {"points": 1000}},
}


@dataclass
class Site:
    """A dashboard of a server, and the worker whose models it shows."""

    url: str
    server: OwnServer
    workspace: Workspace
    worker: WorkerProcess

    def add(self, n: int, stream: str = "machines") -> None:
        X = np.random.default_rng(n).normal([[0.0, 0.0], [5.0, 5.0], [0.0, 9.0]], 0.5, (n, 3, 2))
        with Client(self.server.url, namespace=self.workspace.namespace) as client:
            client.add(stream, X.reshape(-1, 2), features=FEATURES)

    def has_learned(self, points: int) -> bool:
        return self.workspace.committed("machines") >= points


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with own_server(tmp_path_factory.mktemp("server")) as server:
        workspace = Workspace(folder, server.url, "site").write(MODELS)
        with (
            WorkerProcess(workspace) as worker,
            opened(workspace, Listen(token=TOKEN)) as api,
        ):
            found = Site(str(api.base_url), server, workspace, worker)
            found.add(20)
            found.add(140, HOSTILE)
            with workspace.client as raw:
                raw.xadd("machines", {FEATURES[0]: "hot", FEATURES[1]: "3"})
            while len(workspace.versions("machines")) < 3:
                learned = workspace.committed("machines")
                found.add(10)
                wait_until(partial(found.has_learned, learned + 30))
            yield found


def figure(page: Page, label: str) -> str:
    """A figure of the page, without its unit."""
    return page.locator(f"[data-figure='{label}'] dd").inner_text().split()[0]


def version(page: Page) -> int:
    return int(figure(page, "Version").replace(",", ""))


def pixels(page: Page) -> str:
    """What the plane shows."""
    layers = page.locator(".layer")
    return str(layers.evaluate_all("layers => layers.map(layer => layer.toDataURL()).join()"))


def open_model(found: Visit, name: str = "machines") -> Page:
    """Open the screen of a model, and wait until its charts are drawn."""
    page = found.open(f"#/m/{name}")
    page.locator(".u-over").wait_for()
    page.locator(".bars tbody tr").first.wait_for()
    return page


def violations(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_points_arrive_and_the_plane_and_the_figures_change(browser: Browser, site: Site) -> None:
    with visit(browser, site.url, reduced_motion="no-preference") as found:
        page = open_model(found)
        before, plane = version(page), pixels(page)
        site.add(100)
        wait_until(lambda: version(page) > before and figure(page, "Lag") == "0")
        wait_until(lambda: pixels(page) != plane)
        assert page.locator(".bars tbody tr").count() == 3
        assert "1 point was refused" in page.get_by_label("Dead letters", exact=True).inner_text()


@pytest.mark.parametrize(("width", "theme"), [(375, "dark"), (1440, "light")])
def test_every_screen_fits_and_is_accessible(
    browser: Browser, site: Site, theme: Any, width: int
) -> None:
    viewport: Any = {"width": width, "height": 900}
    with visit(browser, site.url, viewport=viewport, color_scheme=theme) as found:
        for route in ("#/", "#/m/machines", "#/m/waiting"):
            page = open_model(found) if route == "#/m/machines" else found.open(route)
            page.locator(".phase").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert violations(page) == []
            ink = page.evaluate("getComputedStyle(document.body).color")
            assert (max(map(int, re.findall(r"\d+", ink))) > 128) == (theme == "dark")


def test_the_keyboard_is_enough(browser: Browser, site: Site) -> None:
    with visit(browser, site.url) as found:
        page = found.open("#/")
        page.get_by_role("link", name="machines").wait_for()
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        press_tab_until(page, lambda: page.evaluate("document.activeElement.id") == "filter")
        page.keyboard.type("mach")
        wait_until(lambda: page.locator(".models tbody tr").count() == 1)
        press_tab_until(page, lambda: focused(page) == "machines")
        page.keyboard.press("Enter")
        page.locator(".u-over").wait_for()
        press_tab_until(page, lambda: page.evaluate("document.activeElement.type") == "range")
        page.keyboard.press("ArrowLeft")
        page.get_by_text("grey: points of now").wait_for()
        press_tab_until(page, lambda: focused(page) in ("0", "1", "2"))
        page.keyboard.press("Space")
        page.get_by_role("heading", name="of the points, mass").wait_for()


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim()"))


def press_tab_until(page: Page, there: Callable[[], bool]) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if there():
            ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert ring != "none", "the focus can't be seen"
            return
    raise AssertionError("the tab key never arrives there")


def test_a_model_without_a_version_shows_its_progress_and_foreign_names_as_text(
    browser: Browser, site: Site
) -> None:
    with visit(browser, site.url) as found:
        page = found.open("#/m/waiting")
        page.get_by_text("waiting for 1,000 points, 420 there").wait_for()
        page = open_model(found)
        page.locator("select").first.select_option("1")
        page.get_by_text("centroid, larger with more points").wait_for()
        assert FEATURES[1] in page.locator("select").first.inner_text()
        assert page.evaluate("globalThis.hacked") is None
        assert page.locator("main img, main script").count() == 0


def test_a_deleted_model_says_so_and_comes_back(browser: Browser, site: Site) -> None:
    with open_server(Address(site.server.url)) as server, visit(browser, site.url) as found:
        found.expects_failures = True  # requests for the deleted model
        publisher = Publisher(server, site.workspace.namespace)
        publisher.publish(1, 2)
        page = open_model(found, "m")
        with site.workspace.client as client:
            client.delete(*publisher.keys.fixed)
        page.get_by_text("This model was deleted.").wait_for()
        assert page.locator(".plane").count() == 0
        Publisher(server, site.workspace.namespace).publish(1, 2, model_id=7)
        page.locator(".u-over").wait_for()
        assert figure(page, "Version") == "2"


TEXTS = """
import("./static/format.js").then(({ digitsFor, number }) => {
  const texts = (values) => values.map((value) => number(value, digitsFor(values)));
  return [texts([1e8, 1e8 + 2]), texts([0.1058, 0.10585]), texts([1.5, -3e-9])];
})
"""


def test_numbers_have_the_digits_that_tell_them_apart(browser: Browser, site: Site) -> None:
    with visit(browser, site.url) as found:
        far, near, small = found.open("#/").evaluate(TEXTS)
    assert far == ["100,000,000", "100,000,002"]
    assert near == ["0.1058", "0.10585"]
    assert small == ["1.5", "-3e-9"]


def test_the_page_is_light(browser: Browser, site: Site) -> None:
    with visit(browser, site.url, without_cache=True) as found:
        sizes: list[int] = []
        found.page.on("requestfinished", lambda request: sizes.append(weight(request)))
        open_model(found)
        assert 50_000 < sum(sizes) < 150_000


def weight(request: Any) -> int:
    """Transferred bytes of a file of the page; data aren't counted."""
    body = request.sizes()["responseBodySize"] + request.sizes()["responseHeadersSize"]
    return 0 if "/api/" in request.url else int(body)


def test_an_action_asks_for_confirmation_and_the_token(browser: Browser, site: Site) -> None:
    with visit(browser, site.url) as found:
        found.expects_failures = True  # of the wrong token
        page = open_model(found)
        page.get_by_role("button", name="Roll back…").click()
        page.get_by_label("Version (the newest is").fill("1")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Roll back", exact=True).click()
        page.get_by_text("The token is wrong.").wait_for()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Roll back", exact=True).click()
        page.get_by_text("Roll back: done.").wait_for()
        page.get_by_text("rollback: 1").wait_for()


def test_a_model_is_paused_and_resumed(browser: Browser, site: Site) -> None:
    with visit(browser, site.url) as found:
        page = open_model(found)
        page.get_by_role("button", name="Pause…").click()
        page.get_by_label("Reason, for others").fill("a <b>new</b> sensor")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        page.get_by_text("Pause: done. the model is paused; the worker has confirmed it").wait_for()
        page.locator(".phase-paused").first.wait_for()
        page.get_by_text("a <b>new</b> sensor; 0 entries wait").wait_for()
        assert violations(page) == []
        site.add(30)
        wait_until(lambda: figure(page, "Lag") not in ("0", "–"))
        page.get_by_role("button", name="Resume…").click()
        page.get_by_role("dialog").get_by_role("button", name="Resume").click()
        page.get_by_role("button", name="Pause…").wait_for()
        wait_until(lambda: figure(page, "Lag") == "0")


def test_the_page_survives_a_restart_of_server_and_worker(browser: Browser, site: Site) -> None:
    with visit(browser, site.url) as found:
        found.expects_failures = True
        page = open_model(found)
        site.worker.kill()
        site.server.kill()
        page.locator(".connection.bad", has_text="retrying since").wait_for()
        site.server.start()
        with WorkerProcess(site.workspace):
            page.locator(".connection", has_text="Connected to").wait_for()
            before = version(page)
            site.add(50)
            wait_until(lambda: version(page) > before)
