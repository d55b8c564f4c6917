"""What the stories of all topologies share: a workspace, a feed that goes on, and its sum."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import count
from typing import Any, cast

import numpy as np
import redis
import structlog
from click.testing import CliRunner
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from streamclust.cli._server import opened_server
from streamclust.cli.main import cli
from streamclust.config import load_settings
from streamclust.errors import ServerUnreachableError
from streamclust.runtime.job import Job
from streamclust.store.model.workers import WorkerReport, read_workers
from streamclust.store.server.connect import Address, open_server
from streamclust.worker.run_models import run_model
from tests.support.model_settings import kmeans
from tests.support.points import Points, add_blocks, blobs
from tests.support.waiting import LIMIT
from tests.support.workspace import Workspace

BLOCK = 30
EAGER: dict[str, Any] = {
    "batch": {"size": BLOCK, "linger": "50ms"},
    "commit": {"points": BLOCK},
    "publish": {"points": 10 * BLOCK},
}


class FleetWorkspace(Workspace):
    """A folder whose config.yaml names several servers."""

    @property
    def client(self) -> redis.Redis:
        """A client that finds its way, to be closed by a `with`."""
        nodes = self.url.removeprefix("redis+cluster://")
        if nodes == self.url:
            return open_server(Address(self.url)).client(timeout=LIMIT)
        found: Any = redis.RedisCluster.from_url(f"redis://{nodes.partition(',')[0]}", protocol=2)
        return cast("redis.Redis", found)

    @cached_property
    def _kept(self) -> redis.Redis:
        """A client that tries again, since the primary may change between two polls."""
        client = self.client
        if not self.url.startswith("redis+cluster://"):  # a cluster's client does this itself
            client.set_retry(Retry(ExponentialBackoff(cap=0.5, base=0.02), 10))
        return client

    def workers(self) -> list[WorkerReport]:
        """Return the reports of all live workers."""
        return read_workers(self._kept, self.namespace)

    def learn(self) -> None:
        """Learn all that is there, as `worker --until-idle` does, without a process of its own."""
        settings = load_settings(self.folder / "config.yaml", (), {})
        log = structlog.wrap_logger(structlog.ReturnLogger())
        with opened_server(settings) as server:
            for name in settings.models:
                run_model(Job(name, settings, server, threading.Event(), True, log))

    def shows(self, *arguments: str) -> str:
        """Return what a command shows, run without a process of its own."""
        config = ("--config", str(self.folder / "config.yaml"))
        done = CliRunner().invoke(cli, [*arguments, *config], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    def last_ids(self, *streams: str) -> dict[str, str]:
        """Return the last ID of each stream."""
        with self.client as client:
            infos: list[Any] = [client.xinfo_stream(stream) for stream in streams]
        ids = (info["last-generated-id"].decode() for info in infos)
        return dict(zip(streams, ids, strict=True))

    def ids(self, stream: str) -> list[bytes]:
        """Return the IDs of a stream's entries."""
        with self.client as client:
            entries: Any = client.xrange(stream)
        return [entry_id for entry_id, _ in entries]

    def points(self, *streams: str) -> Points:
        """Return all points that the server has now."""
        with self.client as client:
            entries: list[Any] = [entry for name in streams for entry in client.xrange(name)]
        raw = b"".join(fields[b"f8"] for _, fields in entries)
        return np.frombuffer(raw, "<f8").reshape(-1, 2)


def eager(*streams: str) -> dict[str, Any]:
    """Settings of a model that forgets nothing and commits often."""
    return kmeans(*streams, **EAGER)


def learned_once(workspace: FleetWorkspace, *streams: str) -> None:
    """Check that the model is made of each point that is there, once, and of no other.

    K-means that forgets nothing has the points' sum in it: sum_k mass_k centroid_k.
    """
    model, X = workspace.newest("m"), workspace.points(*streams)
    assert model.points == len(X)
    assert model.position == workspace.last_ids(*streams)
    assert model.mass.sum() == len(X)
    np.testing.assert_allclose(model.mass @ model.means, X.sum(axis=0), rtol=1e-9, atol=1e-6)


@contextmanager
def feeding(workspace: FleetWorkspace, *streams: str) -> Iterator[None]:
    """A producer that goes on whatever happens to the servers, a block a stream at a time."""
    stop = threading.Event()
    thread = threading.Thread(target=_feed, args=(workspace, streams, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


_PASSING = (redis.ConnectionError, redis.exceptions.ClusterDownError, ServerUnreachableError)
"""What a producer meets while a server is away, or while a node still takes its cluster for down:
each node learns by itself that another is back."""


def _feed(workspace: FleetWorkspace, streams: tuple[str, ...], stop: threading.Event) -> None:
    blocks = (blobs(BLOCK, seed=number) for number in count())
    while not stop.wait(0.01):
        with suppress(*_PASSING), workspace.client as client:
            while not stop.wait(0.06):
                for stream in streams:
                    add_blocks(client, stream, next(blocks), BLOCK)
