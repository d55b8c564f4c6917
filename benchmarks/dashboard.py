"""What visitors of the dashboard cost: processor time of the worker, the dashboard and the server.

    python benchmarks/dashboard.py [--seconds 10] [--visitors 0,1,50] [--paint] [--page]

A worker learns the models of `dashboard_feed.py`; three of them get 60 points per second each. Half
of the visitors look at the model `machines`, the others at the overview. Each one fetches what the
page fetches, then reads its server-sent events. The table has the share of one core that each
process uses. `--paint` opens the page in Chromium and measures the first paint and the transferred
bytes.
`--page` writes the table of docs/dashboard.md.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from dashboard_feed import Site, running_site
from page import table, write_section

PAGE = Path(__file__).parent.parent / "docs" / "dashboard.md"
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Visitor(threading.Thread):
    """Fetches what a screen fetches, then reads its events until it is stopped."""

    def __init__(self, netloc: str, first: str, updates: str) -> None:
        super().__init__(daemon=True)
        self._netloc, self._first, self._updates = netloc, first, updates
        self._connection = http.client.HTTPConnection(netloc)
        self.events = 0
        self.bytes = 0
        self.stopped = False

    def run(self) -> None:
        get(self._netloc, self._first)
        self._connection.request("GET", self._updates)
        reply = self._connection.getresponse()
        while not self.stopped and (line := reply.readline()):
            self.events += line.startswith(b"event:")
            self.bytes += len(line)


def get(netloc: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(netloc)
    connection.request("GET", path)
    return connection.getresponse().read()


def measure(site: Site, visitors: int, seconds: float) -> list[str]:
    """Return a row of the table."""
    found: list[Visitor] = []
    netloc, pids = urlsplit(site.url).netloc, site.pids
    for number in range(visitors):
        name = "api/models/machines" if number % 2 == 0 else "api/models"
        updates = f"/{name}/updates" if number % 2 == 0 else "/api/updates"
        found.append(Visitor(netloc, f"/{name}", updates))
        found[-1].start()
    time.sleep(3.0)
    before = {name: processor_seconds(pid) for name, pid in pids.items()}
    events, began = sum(each.events for each in found), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    shares = [(processor_seconds(pid) - before[name]) / took for name, pid in pids.items()]
    arrived = (sum(each.events for each in found) - events) / took
    kilobytes = sum(each.bytes for each in found) / 1e3 / (took + 3.0)
    for each in found:
        each.stopped = True
    cells = [f"{share:.1%}" for share in shares]
    return [f"{visitors}", *cells, f"{arrived:.0f}", f"{kilobytes:.0f}"]


def paint(url: str) -> str:
    """Return the sentence about the first paint and the weight of the page."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.support.browser import chromium, visit

    sizes: list[int] = []
    times = []
    with chromium() as browser:
        for attempt in range(5):
            with visit(browser, url) as found:
                if attempt == 0:
                    found.page.on(
                        "requestfinished",
                        lambda request: (
                            "/api/" in request.url
                            or sizes.append(sum(map(request.sizes().get, _SIZES)))
                        ),
                    )
                page = found.open("#/m/machines")
                page.locator(".u-over").wait_for()
                times.append(
                    page.evaluate(
                        "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                    )
                )
                frames = page.evaluate(_COUNT_FRAMES)
    kilobytes, milliseconds = sum(sizes) / 1e3, sorted(times)[2]
    return (
        f"The page of a model transfers {kilobytes:.0f} kB without its data. Its first content is "
        f"painted after {milliseconds:.0f} ms (median of five visits). While 60 points per second "
        f"arrive, it draws {frames:.0f} frames per second."
    )


_COUNT_FRAMES = """
new Promise((resolve) => {
  const layer = document.querySelectorAll(".layer")[1].getContext("2d");
  const clear = layer.clearRect;
  let frames = 0;
  layer.clearRect = (...area) => { frames += 1; clear.apply(layer, area); };
  setTimeout(() => resolve(frames / 3), 3000);
})
"""

_SIZES = ("responseBodySize", "responseHeadersSize")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--visitors", default="0,1,50")
    parser.add_argument("--paint", action="store_true")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    with running_site() as site:
        time.sleep(10.0)  # warm-ups are over
        counts = map(int, given.visitors.split(","))
        rows = [measure(site, count, given.seconds) for count in counts]
        text = paint(site.url) if given.paint else ""
    header = ["visitors", *site.pids, "events per second", "kB per second"]
    print(table(header, rows), text, sep="\n\n")
    if given.page:
        write_section("load", f"{table(header, rows)}\n\n{text}", PAGE)


if __name__ == "__main__":
    main()
