"""A worker whose batches all are costly, so that its engine computes them in parts.

As a program: a worker until it is idle. With KILL_AT=INSTANT:N, it gets a kill -9 when it comes by
the instant for the N-th time.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from streamclust import failpoints
from tests.support.forked import ForkedProgram
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.waiting import LIMIT
from tests.support.workspace import Workspace, environment

K, D, BATCH, BATCHES = 6, 4, 2000, 6
PARTS = 4
"""Parts of a batch."""


def add_feed(workspace: Workspace) -> list[str]:
    """Add points to two streams; return their names."""
    streams = [workspace.stream(name) for name in "ab"]
    with workspace.client as client:
        for seed, stream in enumerate(streams):
            add_blocks(client, stream, blobs(BATCHES * BATCH // 2, seed, D), 100)
    return streams


def of_engine(workspace: Workspace, streams: list[str], **engine: Any) -> Workspace:
    """Return a workspace with a model of these streams, and this engine."""
    name = str(engine["kind"])
    own = Workspace(workspace.folder / name, workspace.url, f"{workspace.namespace}-{name}")
    own.folder.mkdir()
    options = {"batch": {"size": BATCH}, "commit": {"points": BATCH}}
    return own.write({"m": kmeans(*streams, K=K, **options)}, engine=engine)


def learn(workspace: Workspace, kills: Sequence[str] = ()) -> str:
    """Run workers that are killed at these instants, and one to its end; return their log."""
    log = workspace.folder / "worker.log"
    for kill_at in (*kills, ""):
        words, own = [__file__], environment(KILL_AT=kill_at)
        process = ForkedProgram(words, workspace.folder, own, log, log)
        assert process.wait(LIMIT) == (-signal.SIGKILL if kill_at else 0), log.read_text()
        with workspace.client as client:
            client.delete(workspace.keys("m").lease)
    assert workspace.committed("m") == BATCHES * BATCH
    return log.read_text()


def main() -> None:
    """Be the worker."""
    from streamclust.cli.main import cli
    from streamclust.engine import base, batch_step, deadlines, threads
    from streamclust.online import batch_parts

    batch_parts.COSTLY = 1
    batch_parts._PART = BATCH * K * D // PARTS
    batch_step.WORTH_SENDING = 0
    deadlines.SHORTEST = deadlines.UNKNOWN = LIMIT  # no part of a worker that answers is late
    instant, _, times = os.environ["KILL_AT"].partition(":")
    passed = Counter[str]()

    def watcher(here: failpoints.Instant) -> None:
        passed[here] += 1
        if here == instant and passed[here] == int(times):
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(*arguments: Any) -> Any:
        passed["part"] += 1
        return base.compute(*arguments)

    threads.compute = counted  # type: ignore[attr-defined, assignment]
    failpoints.watch(watcher)
    cli.main(["worker", "--until-idle"], standalone_mode=False)
    click.echo(f"threads computed {passed['part']} parts")


if __name__ == "__main__":
    main()
