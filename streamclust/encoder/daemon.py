"""The encoder's process: one thread per stream, signals that set a flag, a clean end."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from threadpoolctl import threadpool_limits

from streamclust.encoder.loop import Job, Tally, run_encoder
from streamclust.errors import ConfigError
from streamclust.runtime.backoff import wait_for_server
from streamclust.runtime.log import configure_log, warn_of_slow_kernels
from streamclust.runtime.signals import stop_on_signals
from streamclust.runtime.threads import run_together
from streamclust.store.model.keys import Keys
from streamclust.text import known_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamclust.config import Settings
    from streamclust.store.server.connect import Server


def encode_streams(
    settings: Settings,
    server: Server,
    name: str,
    *,
    wait: float = 0.0,
    until_idle: bool = False,
) -> list[Tally]:
    """Encode the streams of a model until SIGTERM or Ctrl-C; return the counts of each stream.

    At the start, wait up to `wait` seconds for a server that can't be used yet.

    Raises
    ------
    ConfigError
        If the settings don't have the model.
    StreamclustError
        If the server can't be used; else the first error that ended a stream, after a clean end of
        the other streams.
    """
    if name not in settings.models:
        known = known_names(name, settings.models, "configured models")
        raise ConfigError(f"model {name!r} isn't configured; {known}")
    configure_log(settings.log.level, settings.log.format)
    log = structlog.get_logger().bind(model=name)
    stop = threading.Event()
    with stop_on_signals(stop), threadpool_limits(limits=1, user_api="blas"):
        jobs = encoder_jobs(settings, server, name, stop, until_idle, log)
        log.info("encoder_started", server=server.label, streams=[job.stream for job in jobs])
        warn_of_slow_kernels(log)
        if not wait_for_server(server, stop, log, wait):
            return []
        with _short_pauses():
            watch = StallWatch(jobs, float(settings.worker.stall))
            return run_together(jobs, run_encoder, "encoder_failed", look=watch.look)


class StallWatch:
    """Logs encoders without progress. Other encoders take over the entries of a stalled encoder.

    Parameters
    ----------
    jobs : sequence of Job
    stall : float
        Seconds without progress.
    """

    def __init__(self, jobs: Sequence[Job], stall: float) -> None:
        self._jobs = jobs
        self._stall = stall
        self._stalled: set[str] = set()

    def look(self) -> None:
        """Log the encoders that have stalled or resumed since the last call."""
        for job in self._jobs:
            _, age = job.activity.slowest()
            if age > self._stall and job.stream not in self._stalled:
                self._stalled.add(job.stream)
                reason = f"the encoder has made no progress for {age:.0f} s (worker.stall)"
                job.log.error("encoder_stalled", error=reason)
            elif age <= self._stall and job.stream in self._stalled:
                self._stalled.remove(job.stream)
                job.log.info("encoder_resumed")


@contextmanager
def _short_pauses() -> Iterator[None]:
    """Exclude the existing objects from garbage collection.

    Most objects are modules, classes and settings. A full collection would search them for tens of
    milliseconds, in which no entry gets its codes.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def encoder_jobs(
    settings: Settings,
    server: Server,
    name: str,
    stop: threading.Event,
    until_idle: bool,
    log: structlog.typing.FilteringBoundLogger,
) -> list[Job]:
    """Return one job for each stream of a model."""
    keys, model = Keys(settings.namespace, name), settings.models[name]
    streams = model.encode.streams or model.streams
    one = len(streams) == 1
    return [
        Job(
            name=name,
            settings=settings,
            server=server,
            stop=stop,
            until_idle=until_idle,
            log=log.bind(stream=stream),
            stream=stream,
            key=keys.codes(None if one else stream),
        )
        for stream in streams
    ]
