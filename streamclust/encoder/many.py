"""Encoders of many streams in one process: few threads, few connections, and one end."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import redis
import structlog

from streamclust.encoder.loop import EncoderLife
from streamclust.encoder.shared import Shared
from streamclust.encoder.takeovers import Takeovers
from streamclust.errors import ModelsFailedError, StreamclustError, UnknownStreamError, unexpected
from streamclust.runtime.backoff import Faults
from streamclust.runtime.connections import Connections
from streamclust.runtime.pool import Pool
from streamclust.runtime.scheduler import Wait
from streamclust.runtime.threads import prepared_for_threads
from streamclust.system_limits import cores_of_process, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streamclust.encoder.job import Job, Tally
    from streamclust.encoder.reloading import Reloading
    from streamclust.runtime.scheduler import Turn
    from streamclust.store.server.connect import Server

    Find = Callable[[redis.Redis], Iterable[Job]]

_TAKEOVERS, _DISCOVERY = "takeovers", "discovery"
"""Names in the pool of what isn't an encoder; the name of an encoder has a space."""

_LOOK = 1.0
"""Seconds between two looks for encoders without progress."""

_SHOWN = 10
"""Models whose names are logged when they are found."""

LONGEST_CHANGE = 5.0
"""Maximum seconds until a reload is answered, if encoders still use their old settings."""

_LOG_SECONDS = 10.0
"""Seconds between two log lines with the counts of all encoders."""


class StallWatch:
    """Logs encoders without progress. Other encoders take over the entries of a stalled encoder.

    Parameters
    ----------
    jobs : sequence of Job
    stall : float
        Seconds without progress.
    stalled : callable, optional
        Called with an encoder that has stalled.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        stall: float,
        stalled: Callable[[Job], object] = lambda _: None,
    ) -> None:
        self._jobs = jobs
        self._stall = stall
        self._when_stalled = stalled
        self._stalled: set[str] = set()

    def look(self) -> None:
        """Log the encoders that have stalled or resumed since the last call."""
        for job in self._jobs:
            _, age = job.activity.slowest()
            if age > self._stall and job.id not in self._stalled:
                self._stalled.add(job.id)
                reason = f"the encoder has made no progress for {age:.0f} s (worker.stall)"
                job.log.error("encoder_stalled", error=reason)
                self._when_stalled(job)
            elif age <= self._stall and job.id in self._stalled:
                self._stalled.remove(job.id)
                job.log.info("encoder_resumed")


def run_encoders(
    server: Server,
    find: Find,
    stop: threading.Event,
    *,
    discover: float,
    stall: float,
    until_idle: bool,
    reloading: Reloading | None = None,
) -> list[tuple[Job, Tally]]:
    """Encode many streams until `stop` is set or, with `until_idle`, all entries have codes.

    A failure of one encoder doesn't end the others.

    Parameters
    ----------
    server : Server
    find : callable
        Given a client, returns the streams to encode; called again and again, for new streams. An
        encoder whose job was asked to stop leaves, and another job of its stream follows.
    stop : threading.Event
    discover : float
        Seconds between two calls.
    stall : float
        Seconds without progress after which an encoder is logged, and its thread is replaced.
    until_idle : bool
    reloading : Reloading, optional
        Lets `find` be called at once after a change of the settings.

    Raises
    ------
    UnknownStreamError
        With `until_idle`, if there is no stream to encode.
    ModelsFailedError
        With `until_idle`, if encoders failed.
    """
    connections = Connections(server)
    encoders = _Encoders(find, stop, discover, until_idle=until_idle)
    with prepared_for_threads():
        # Encoders mostly wait for the server.
        pool = Pool(encoders.run, 2 * cores_of_process(), encoders.left)
        encoders.shared = Shared(connections, pool, Takeovers(), Faults(), encoders.count)
        pool.add(_DISCOVERY)
        if reloading is not None:
            reloading.changed = encoders.change
        if not until_idle:
            pool.add(_TAKEOVERS)
        threading.Thread(target=encoders.watch, args=(stall,), name="watch", daemon=True).start()
        try:
            pool.wait(stop)
        except RuntimeError as error:
            raise StreamclustError(explained(error)) from error
        finally:
            encoders.ended.set()
            connections.close()
    if _DISCOVERY in encoders.failures:
        raise encoders.failures[_DISCOVERY]
    if encoders.failures:
        raise ModelsFailedError(encoders.failures)
    return encoders.tallies()


class _Encoders:
    """The lives of the encoders, and the errors that ended some of them."""

    def __init__(
        self, find: Find, stop: threading.Event, discover: float, *, until_idle: bool
    ) -> None:
        self._find = find
        self._stop = stop
        self._discover = discover
        self._until_idle = until_idle
        self._jobs: list[Job] = []
        self._lock = threading.Lock()  # of the following three
        self._encoders: dict[str, EncoderLife] = {}  # by the IDs of their jobs
        self._next: dict[str, Job] = {}  # follow encoders that leave
        self._ended: list[EncoderLife] = []
        self._changed = threading.Event()
        self._lives: dict[str, Iterator[Wait]] = {}
        self._log = structlog.get_logger()
        self.failures: dict[str, Exception] = {}
        self.ended = threading.Event()
        self.shared: Shared

    def count(self) -> int:
        """Return the number of encoders."""
        return len(self._jobs)

    def tallies(self) -> list[tuple[Job, Tally]]:
        """Return the counts of each encoder."""
        with self._lock:
            lives = [*self._ended, *self._encoders.values()]
        return merged([(life.job, life.tally) for life in lives])

    def run(self, turn: Turn) -> Wait | None:
        """Run one turn; log an error that ends an encoder."""
        name = turn.model
        if name not in self._lives:
            if name == _DISCOVERY:
                self._lives[name] = self._discovery()
            elif name == _TAKEOVERS:
                self._lives[name] = self.shared.takeovers.life(self._stop)
            else:
                self._lives[name] = self._encoders[name].run()
        try:
            wait = next(self._lives[name], None)
        except Exception as error:
            self._fail(name, error)
            wait = None
        if wait is None:
            del self._lives[name]
        return wait

    def _discovery(self) -> Iterator[Wait]:
        """Start the encoders of streams that are new, again and again."""
        awaited = False
        while not self._stop.is_set():
            try:
                with self.shared.connections.session() as server:
                    every = self._find(server.client())
                found = self._take(every)
            except (StreamclustError, redis.RedisError) as error:
                if self._until_idle:
                    raise
                self._log.error("discovery_failed", error=str(error))
                found = []
            if found:
                names = sorted({job.name for job in found})
                self._log.info("models_discovered", count=len(names), models=names[:_SHOWN])
            if self._until_idle:
                if not found:
                    raise UnknownStreamError("no stream exists yet of the models to encode")
                return
            if not (self._jobs or awaited):
                awaited = True
                seconds = f"{self._discover:g} s"
                reason = f"no stream exists yet of the models to encode; searching every {seconds}"
                self._log.warning("streams_awaited", reason=reason)
            yield Wait(time.monotonic() + self._discover)

    def _take(self, every: Iterable[Job]) -> list[Job]:
        """Start encoders, and let others leave; return the jobs of streams that are new."""
        pool, found = self.shared.pool, []
        with self._lock:
            for job_id, life in self._encoders.items():
                if life.job.stop.is_set():
                    pool.remove(job_id)
            for job in every:
                before = self._encoders.get(job.id)
                if before is None:
                    found.append(job)
                    self._start(job)
                elif before.job is not job and before.job.stop.is_set():
                    self._next[job.id] = job
            self._note_change()
        return found

    def _note_change(self) -> None:
        if not any(life.job.stop.is_set() for life in self._encoders.values()):
            self._changed.set()

    def change(self) -> None:
        """Apply new settings; return when no encoder uses its old ones any more."""
        self._changed.clear()
        self.shared.pool.news(_DISCOVERY)
        self._changed.wait(LONGEST_CHANGE)

    def _start(self, job: Job) -> None:
        self._encoders[job.id] = EncoderLife(job, self.shared)
        self._jobs.append(job)
        self.shared.pool.add(job.id)

    def left(self, name: str) -> None:
        """Start the next encoder of a stream, after the one before has left."""
        with self._lock:
            life, job = self._encoders.get(name), self._next.pop(name, None)
            if life is None or self._stop.is_set() or not life.job.stop.is_set():
                return
            self._ended.append(self._encoders.pop(name))
            self._jobs.remove(life.job)
            if job is not None:
                self._start(job)
            self._note_change()

    def _fail(self, name: str, error: Exception) -> None:
        job = self._encoders[name].job if name in self._encoders else None
        log = self._log if job is None else job.log
        if isinstance(error, StreamclustError):
            log.error("encoder_failed", error=str(error), retrying=False)
        else:
            log.exception("encoder_failed", error=unexpected(error), retrying=False)
        self.failures.setdefault(name if job is None else job.name, error)

    def watch(self, stall: float) -> None:
        """Log encoders without progress, and the counts of all encoders, until they have ended."""
        stalls = StallWatch(self._jobs, stall, lambda job: self.shared.pool.replace_thread(job.id))
        logged = time.monotonic()
        before = total(self.tallies())
        while not self.ended.wait(_LOOK):
            stalls.look()
            if time.monotonic() - logged >= _LOG_SECONDS:
                logged, now = time.monotonic(), total(self.tallies())
                if now != before:
                    self._log.info("entries_encoded", encoders=self.count(), **now)
                before = now


def merged(tallies: Iterable[tuple[Job, Tally]]) -> list[tuple[Job, Tally]]:
    """Return the counts of each stream: a stream can have had encoders one after another."""
    found: dict[str, tuple[Job, Tally]] = {}
    for job, tally in tallies:
        if job.id in found:
            before = found[job.id][1]
            sums = {name: getattr(before, name) + getattr(tally, name) for name in _SUMS}
            found[job.id] = job, replace(tally, **sums)
        else:
            found[job.id] = job, tally
    return list(found.values())


_SUMS = ("entries", "points", "bad", "repeated", "taken_over", "gone", "unknown_gaps", "flagged")


def total(tallies: Iterable[tuple[Job, Tally]]) -> dict[str, int]:
    """Return the sums of the counts of encoders."""
    counts = dict.fromkeys(_SUMS, 0)
    for _, tally in list(tallies):
        for name in counts:
            counts[name] += getattr(tally, name)
    return counts
