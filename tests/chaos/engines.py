"""A worker and refits on a Dask cluster of which everything is killed or paused at random.

python -m tests.chaos.engines --seconds 600

The state must be that of a worker that computed everything itself, byte for byte.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from tests.chaos.__main__ import _BINARIES, _server
from tests.support.dask_cluster import DaskCluster
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.waiting import wait_until
from tests.support.workspace import STREAMCLUST, Workspace, environment

K, D, BATCH, BATCHES = 2048, 16, 32_768, 6
"""So large that a batch is costly: each is computed in four parts."""

_DONE = re.compile(r"workers computed ([\d,]+) parts, this process ([\d,]+)")


class Cluster:
    """A Dask cluster with a supervisor that starts again what has ended."""

    def __init__(self, cluster: DaskCluster, workers: int) -> None:
        self.cluster, self.workers = cluster, workers
        self.lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    def _supervise(self) -> None:
        while not self._ended.wait(0.2):
            with self.lock:
                for process in list(self.cluster.workers):
                    if process.poll() is not None:
                        self.cluster.end_worker(process)
                while len(self.cluster.workers) < self.workers:
                    self.cluster.start_worker()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def kill_worker(self, rng: random.Random) -> None:
        with self.lock:
            rng.choice(self.cluster.workers).kill()

    def pause_worker(self, rng: random.Random) -> None:
        with self.lock:
            process = rng.choice(self.cluster.workers)
        process.send_signal(signal.SIGSTOP)
        time.sleep(rng.uniform(0.5, 3.0))
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)

    def kill_scheduler(self, rng: random.Random) -> None:
        with self.lock:
            self.cluster.kill_scheduler()
            time.sleep(rng.uniform(0.0, 1.0))
            self.cluster.start_scheduler()

    def pause_scheduler(self, rng: random.Random) -> None:
        self.cluster.pause_scheduler(paused=True)
        time.sleep(rng.uniform(0.5, 3.0))
        self.cluster.pause_scheduler(paused=False)


class Feed:
    """Two partitions, and a model that has finished its warm-up on their first points."""

    def __init__(self, folder: Path, url: str, seed: int) -> None:
        self.url, self.points = url, 2 * BATCHES * BATCH
        self.streams = [f"feed-{part}" for part in "ab"]
        workspace = self.workspace(folder / "warm-up", "warm-up", {"kind": "inline"})
        with workspace.client as client:
            self._add(client, seed, BATCH // 2)
            assert run(workspace, "worker", "--until-idle").wait(300) == 0
            self._add(client, seed + 1, BATCHES * BATCH - BATCH // 2)
            keys = sorted(client.scan_iter(workspace.keys("m").state.replace("state", "*")))
            self._keys = {key.decode(): client.dump(key) for key in keys}

    def _add(self, client: Any, seed: int, points: int) -> None:
        for number, stream in enumerate(self.streams):
            add_blocks(client, stream, blobs(points, 2 * seed + number, D), 256)

    def workspace(self, folder: Path, namespace: str, engine: dict[str, str]) -> Workspace:
        folder.mkdir(parents=True)
        init = {"kind": "warm_up", "points": K, "restarts": 1}
        options = {"batch": {"size": BATCH}, "coreset": {"points": 0}, "commit": {"points": BATCH}}
        model = kmeans(*self.streams, K=K, **{**options, "init": init})
        return Workspace(folder, self.url, namespace).write({"m": model}, engine=engine)

    def after_warm_up(self, folder: Path, namespace: str, engine: dict[str, str]) -> Workspace:
        """A workspace whose model has finished its warm-up."""
        workspace = self.workspace(folder, namespace, engine)
        with workspace.client as client:
            for key, value in self._keys.items():
                client.restore(key.replace("warm-up:", f"{namespace}:"), 0, value)
        return workspace


def run(workspace: Workspace, *arguments: str, stdout: Any = None) -> subprocess.Popen[bytes]:
    log = (workspace.folder / f"{arguments[0]}.log").open("ab")
    return subprocess.Popen(
        [STREAMCLUST, *arguments],
        cwd=workspace.folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout or log,
        stderr=log,
    )


class Round:
    """A calm worker and a disturbed one, on the same feed."""

    def __init__(self, folder: Path, feed: Feed, cluster: Cluster, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311
        self.cluster, self.happened, self.feed = cluster, Counter[str](), feed
        self.refit_seconds = 0.0
        address = cluster.cluster.address
        self.calm = feed.after_warm_up(folder / "calm", f"calm-{seed}", {"kind": "inline"})
        self.disturbed = feed.after_warm_up(
            folder / "disturbed", f"disturbed-{seed}", {"kind": "dask", "address": address}
        )

    def run(self) -> list[str]:
        """Return what differs from the calm worker."""
        click.echo("the calm worker learns", err=True)
        run(self.calm, "worker", "--until-idle").wait(300)
        click.echo("the disturbed worker learns", err=True)
        self._learn()
        click.echo("refits", err=True)
        wrong = []
        if self.disturbed.state("m") != self.calm.state("m"):
            wrong.append("the states differ")
        if self.disturbed.committed("m") != self.feed.points:
            wrong.append(f"{self.disturbed.committed('m')} points of {self.feed.points}")
        if self._refit(self.calm) != self._refit(self.disturbed):
            wrong.append("the refits differ")
        return wrong

    def _learn(self) -> None:
        """Let workers learn that are killed at random, with everything else."""
        while self.disturbed.committed("m") < self.feed.points:
            process = run(self.disturbed, "worker", "--until-idle")
            with self._disturbance():
                self._wait_for_start(process)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(self.rng.uniform(0.2, 8.0))
                if process.poll() is None:
                    self.happened["kill of the worker"] += 1
                process.kill()
                process.wait()
            with self.disturbed.client as client:
                client.delete(self.disturbed.keys("m").lease)

    def _wait_for_start(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the newest worker has loaded the model, or ended."""
        log = self.disturbed.folder / "worker.log"

        def started() -> bool:
            return "model_resumed" in log.read_text().rpartition("worker_started")[2]

        wait_until(lambda: process.poll() is not None or started(), 120.0)

    def _refit(self, workspace: Workspace) -> dict[str, Any]:
        """Kill one refit that would change the model, then return the result of a whole one."""
        with ExitStack() as stack:
            if workspace is self.disturbed:
                stack.enter_context(self._disturbance())
                killed, before = run(workspace, "refit", "m", "--force"), workspace.state("m")
                time.sleep(self.rng.uniform(0.3, 1.2) * self.refit_seconds)
                if killed.poll() is None:
                    self.happened["kill of a refit"] += 1
                killed.kill()
                killed.wait()
                with workspace.client as client:
                    client.delete(workspace.keys("m").refitting, workspace.keys("m").proposal)
                assert workspace.state("m") == before
            started = time.monotonic()
            words = ("refit", "m", "--dry-run", "--restarts", "0", "--max-iter", "5", "--json")
            process = run(workspace, *words, stdout=subprocess.PIPE)
            found: dict[str, Any] = json.loads(process.communicate(timeout=300)[0])
            self.refit_seconds = time.monotonic() - started
        engine = found.pop("engine")
        self.happened["parts by Dask"] += engine.get("workers", 0)
        self.happened["parts here"] += engine.get("here", 0)
        return found

    @contextmanager
    def _disturbance(self) -> Iterator[None]:
        """Kill or pause a part of the cluster, again and again, until the block ends."""
        ended, rng = threading.Event(), random.Random(self.rng.random())  # noqa: S311
        acts: list[Callable[[random.Random], None]] = [
            self.cluster.kill_worker,
            self.cluster.pause_worker,
            self.cluster.kill_scheduler,
            self.cluster.pause_scheduler,
        ]

        def disturb() -> None:
            while not ended.wait(rng.uniform(1.0, 8.0)):
                act = rng.choices(acts, (4, 3, 1, 1))[0]
                act(rng)
                self.happened[act.__name__.replace("_", " of a ")] += 1

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def count_parts(self) -> None:
        """Count who computed the parts of the workers that were not killed."""
        log = (self.disturbed.folder / "worker.log").read_text()
        for by_workers, here in _DONE.findall(log):
            self.happened["parts by Dask"] += int(by_workers.replace(",", ""))
            self.happened["parts here"] += int(here.replace(",", ""))


@click.command()
@click.option(
    "--seconds", type=float, default=600.0, show_default=True, help="Begin no round after."
)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="Of every choice.  [default: a new one]")
def engines(seconds: float, workers: int, seed: int | None) -> None:
    """Kill and pause workers, schedulers and coordinators; compare states byte for byte."""
    seed = secrets.randbelow(10**9) if seed is None else seed
    end, happened, wrong, rounds = time.monotonic() + seconds, Counter[str](), list[str](), 0
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        url = stack.enter_context(_server(_BINARIES["Valkey 9"](), folder / "server"))
        (folder / "dask").mkdir()
        shared = {"STREAMCLUST_REDIS__URL": url}
        dask = stack.enter_context(DaskCluster(folder / "dask", environment=shared))
        cluster = Cluster(dask, workers)
        stack.callback(cluster.close)
        wait_until(lambda: len(dask.workers) == workers)
        feed = Feed(folder, url, seed)
        while not rounds or (time.monotonic() < end and not wrong):
            one = Round(folder / str(rounds), feed, cluster, seed + rounds)
            wrong += [f"round {rounds}: {line}" for line in one.run()]
            one.count_parts()
            click.echo(f"round {rounds}: {dict(one.happened)}", err=True)
            happened += one.happened
            rounds += 1
    click.echo(f"seed {seed}: {rounds} rounds, {dict(happened)}")
    if not happened["parts by Dask"]:
        wrong.append("the workers of Dask computed nothing")
    click.echo("\n".join(wrong) or "all as without a cluster, byte for byte")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    engines()
