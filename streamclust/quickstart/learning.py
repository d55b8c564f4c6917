"""Learning of a file: it is sent to a stream while a worker in this process learns the stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from streamclust.client.ingest import IngestReport, ingest
from streamclust.client.versions import VersionFollower
from streamclust.config.templates import Models
from streamclust.errors import DataError, StreamclustError
from streamclust.quickstart.proposal import Proposal
from streamclust.runtime.job import Job
from streamclust.runtime.log import command_log
from streamclust.store.model.inventory import take_inventory
from streamclust.store.model.removal import delete as delete_model
from streamclust.store.stream.info import look
from streamclust.tables import Chunk, read_table
from streamclust.worker.run_models import run_model

if TYPE_CHECKING:
    import redis

    from streamclust.config import Settings
    from streamclust.formats.model import Model
    from streamclust.store.model.keys import Keys
    from streamclust.store.server.connect import Server

_PUBLISH_SECONDS = 0.25
"""Seconds between two versions while the file is learned, so that progress is visible."""

_POLL_MS = 100
_CHUNK = 8192


@dataclass(eq=False)
class Progress:
    """The points that were sent, and the versions so far.

    Parameters
    ----------
    sent : int
        Number of points in the stream.
    models : list of Model
        The versions, oldest first.
    """

    sent: int = 0
    models: list[Model] = field(default_factory=list)

    @property
    def learned(self) -> int:
        """Number of points that the newest version has learned."""
        return self.models[-1].points if self.models else 0

    @property
    def scores(self) -> list[float]:
        """The score of each version that has one."""
        return [model.score for model in self.models if model.score is not None]


@dataclass(frozen=True, eq=False)
class Learned:
    """The result of `learn`.

    Parameters
    ----------
    model : Model
        The newest version, which has learned all points.
    report : IngestReport
    seconds : float
    progress : Progress
    """

    model: Model
    report: IngestReport
    seconds: float
    progress: Progress


def check_free(client: redis.Redis, keys: Keys, stream: str) -> None:
    """Refuse a stream or a model that exists: its points would be learned twice."""
    info = look(client, stream)
    if info is not None and info.length:
        raise DataError(
            f"stream {stream!r} has {info.length:,} entries already; --force deletes them, or give "
            "another name with --name"
        )
    if client.exists(keys.state):
        raise DataError(
            f"model {keys.model!r} exists already; --force deletes it, or give another name with "
            "--name"
        )


def delete(client: redis.Redis, keys: Keys, stream: str) -> None:
    """Delete the stream and the model.

    Raises
    ------
    BusyError
        If a worker or a refit uses the model.
    """
    delete_model(client, keys, take_inventory(client, keys, [stream]))
    client.delete(stream)


def learn(
    settings: Settings,
    server: Server,
    proposal: Proposal,
    path: Path,
    show: Callable[[Progress], None],
) -> Learned:
    """Send the file and learn it; call `show` several times per second.

    Raises
    ------
    StreamclustError
        If points can't be sent or learned.
    """
    stop, progress, started = threading.Event(), Progress(), time.monotonic()
    is_sent = threading.Event()  # the worker starts when the stream exists
    job = _job(settings, server, proposal.name, stop)
    client, name = server.client(), proposal.name
    follower = VersionFollower(client, job.keys, server.label, 0, None)
    has_committed = partial(_has_committed, client, name, job.keys.group)
    with ThreadPoolExecutor(2) as pool, threadpool_limits(limits=1, user_api="blas"):
        try:
            sender = pool.submit(_send, server, proposal, path, progress, stop, is_sent)
            sender.add_done_callback(lambda _: is_sent.set())
            is_sent.wait()
            if sender.done():
                sender.result()
            worker = pool.submit(run_model, job)
            _follow(follower, progress, worker, sender, show, has_committed)
            report = sender.result()
        finally:
            stop.set()
        worker.result()
    progress.models += follower.poll(None)
    if not progress.models:
        raise DataError(
            f"no model was published: too few of the {report.points:,} points can be learned; the "
            f"stream {job.keys.dead} has the reasons"
        )
    return Learned(progress.models[-1], report, time.monotonic() - started, progress)


def _job(settings: Settings, server: Server, name: str, stop: threading.Event) -> Job:
    model = settings.models[name]
    publish = model.publish.model_copy(update={"every": _PUBLISH_SECONDS})
    commit = model.commit.model_copy(update={"every": _PUBLISH_SECONDS})
    model = model.model_copy(update={"publish": publish, "commit": commit})
    worker = settings.worker.model_copy(update={"fail_fast": True})
    settings = settings.model_copy(update={"models": Models({name: model}), "worker": worker})
    return Job(name, settings, server, stop, False, command_log().bind(model=name))


def _send(
    server: Server,
    proposal: Proposal,
    path: Path,
    progress: Progress,
    stop: threading.Event,
    is_sent: threading.Event,
) -> IngestReport:
    """Send the points; set `is_sent` when the first points are in the stream."""

    def count(points: int) -> None:
        progress.sent = points
        is_sent.set()

    block = proposal.block
    chunk = max(_CHUNK // block, 1) * block
    chunks: Iterator[Chunk] = read_table(path, proposal.rows.options, chunk=chunk)
    return ingest(
        server.client(),
        proposal.name,
        chunks,
        format=proposal.format,
        block=block,
        weight_field=proposal.rows.options.weight_column or "w",
        on_progress=count,
        stop=stop,
        label=server.label,
    )


def _follow(
    follower: VersionFollower,
    progress: Progress,
    worker: Future[None],
    sender: Future[IngestReport],
    show: Callable[[Progress], None],
    has_committed: Callable[[str | None], bool],
) -> None:
    """Record the versions until the worker has committed the last entry."""
    while True:
        progress.models += follower.poll(_POLL_MS)
        show(progress)
        if worker.done():
            worker.result()
            raise StreamclustError("the worker ended before all points were learned")
        if sender.done() and has_committed(sender.result().last_id):
            return


def _has_committed(client: redis.Redis, stream: str, group: str, entry_id: str | None) -> bool:
    """Return whether the position of the worker, in its consumer group, is this entry."""
    if entry_id is None:
        return True
    groups: Any = client.xinfo_groups(stream)
    return any(
        info["name"] == group.encode() and info["last-delivered-id"] == entry_id.encode()
        for info in groups
    )
