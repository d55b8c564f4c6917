"""One encoder of one stream: its sessions, one after another, and pauses after faults."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import redis

from streamclust.encoder.job import Job, Tally
from streamclust.encoder.session import EncoderSession
from streamclust.encoder.waits import EncoderWaits
from streamclust.errors import StreamclustError, unexpected
from streamclust.runtime.backoff import Backoff
from streamclust.runtime.failures import clear_error, pause
from streamclust.runtime.log import warn_of_less
from streamclust.runtime.scheduler import Wait
from streamclust.store.server.faults import passes
from streamclust.store.stream.group import GroupMember, member_name
from streamclust.store.stream.read_size import ReadSize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.encoder.shared import Shared
    from streamclust.store.server.connect import Server

_SHARE = 1024
"""Maximum entries per read. The codes of all of them are written together, after the last."""

_STEADY = 1.0
"""Seconds without a failure after which a failed encoder counts as recovered."""


def run_encoder(job: Job) -> Tally:
    """Encode one stream in this thread, until the job stops or all entries have codes.

    Raises
    ------
    StreamclustError
        If the server can't be used at all, or with `until_idle` if there is no model.
    """
    life = EncoderLife(job)
    for wait in life.run():
        job.stop.wait(max((wait.until or 0.0) - time.monotonic(), 0.0))
    return life.tally


class EncoderLife:
    """One encoder of one stream: its sessions, and the data that they share.

    Parameters
    ----------
    job : Job
    shared : Shared, optional
        Objects that many encoders share; without them, the encoder has its own thread.

    Attributes
    ----------
    tally : Tally
    """

    def __init__(self, job: Job, shared: Shared | None = None) -> None:
        self.job = job
        self.tally = Tally(job.stream)
        self._shared = shared
        self._name = member_name()
        share = min(job.model.batch.least, _SHARE)
        self._size = ReadSize(most=share, on_less=warn_of_less(job.log))
        faults = None if shared is None else shared.faults
        self._backoff = Backoff(job.server.label, job.stop, job.log, faults=faults)
        self._failure = ""
        self._failed_at = 0.0
        self._tries = 0

    def run(self) -> Iterator[Wait]:
        """Encode until the job stops or, with `until_idle`, all entries have codes.

        An encoder that shares threads and can't continue retries after pauses that grow, except
        with `until_idle`: its failure must not end the others.

        Raises
        ------
        StreamclustError
            If the server can't be used, or its contents don't fit the settings.
        """
        while not self.job.stop.is_set():
            try:
                yield from self._sessions()
                break
            except Exception as error:
                if self._shared is None or self.job.until_idle:
                    raise
                self._fail(error)
            yield Wait(time.monotonic() + pause(self._tries))
            self._tries += 1
        self.log_often("encoder_stopped", **asdict(self.tally))

    def _sessions(self) -> Iterator[Wait]:
        job = self.job
        while not job.stop.is_set():
            job.activity.record_progress()
            try:
                with self._session() as session:
                    if (yield from session.work()):
                        return
                continue
            except redis.RedisError as error:
                if str(error).startswith("NOGROUP"):
                    job.log.warning("group_lost")
                    continue
                seconds = self._backoff.pause(error)
            yield Wait(time.monotonic() + seconds)

    @contextmanager
    def _session(self) -> Iterator[EncoderSession]:
        """Open a session; return unfinished entries at the end, except after a passing fault."""
        job, shared, continues = self.job, self._shared, False
        with ExitStack() as stack:
            if shared is None:
                server = stack.enter_context(job.server.session())
                member, waits = self._member(server), None
            else:
                server = session = stack.enter_context(shared.connections.session())
                member, wake = self._member(server), shared.wake(job)
                waits = EncoderWaits(job, member, session.news, wake, shared.poll)
                stack.callback(waits.forget)
                stack.enter_context(shared.takeovers.looking(waits))
            try:
                yield EncoderSession(self, server, member, waits)
            except redis.RedisError as error:
                continues = passes(error)
                raise
            finally:
                if not continues:
                    with suppress(redis.RedisError):
                        member.leave()

    def _member(self, server: Server) -> GroupMember:
        job = self.job
        reader = server.raw_client(job.model.batch.max_entry_bytes)
        return GroupMember(reader, job.stream, job.keys.encoders, self._size, self._name)

    def log_often(self, event: str, **fields: Any) -> None:
        """Log an event of normal work; of many encoders, only for the log level debug."""
        write = self.job.log.info if self._shared is None else self.job.log.debug
        write(event, **fields)

    def started(self, version: int) -> None:
        """Log the first version that is used."""
        self.log_often("encoding_started", version=version, codes=self.job.key)

    def record_success(self) -> None:
        """Record that the encoder works."""
        self._backoff.record_success()
        if self._failure and time.monotonic() - self._failed_at > _STEADY:
            self.job.log.info("encoder_recovered", after=self._failure)
            self._failure, self._tries = "", 0

    def _fail(self, error: Exception) -> None:
        """Log each reason of a failure once."""
        found = clear_error(error, self.job.server.label)
        trace = {} if isinstance(found, StreamclustError) else {"exc_info": error}
        reason = unexpected(error) if trace else str(found)
        if reason != self._failure:
            self.job.log.error("encoder_failed", error=reason, retrying=True, **trace)
        self._failure, self._failed_at = reason, time.monotonic()
