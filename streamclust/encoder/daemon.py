"""The encoder's process: a thread a stream, signals that set a flag, a clean end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog
from threadpoolctl import threadpool_limits

from streamclust.encoder.loop import Job, Tally, run_encoder
from streamclust.errors import ConfigError, StreamclustError
from streamclust.store.keys import Keys
from streamclust.worker.log import configure_log
from streamclust.worker.signals import stop_on_signals

if TYPE_CHECKING:
    from streamclust.config import Settings
    from streamclust.store.connect import Server

_LOOK = 0.2
"""Seconds between looks for a signal."""


def encode_streams(
    settings: Settings, server: Server, name: str, *, until_idle: bool = False
) -> list[Tally]:
    """Encode the streams of a model until SIGTERM or Ctrl-C; return what was done for each.

    Raises
    ------
    ConfigError
        If the settings don't have the model.
    StreamclustError
        The first error that ended a stream; the others are brought to a clean end first.
    """
    if name not in settings.models:
        known = ", ".join(settings.models) or "none"
        raise ConfigError(f"models.{name}: is not configured; models: {known}")
    configure_log(settings.log.level, settings.log.format)
    log = structlog.get_logger().bind(model=name)
    stop = threading.Event()
    results: list[Tally | Exception] = []
    with stop_on_signals(stop), threadpool_limits(limits=1, user_api="blas"):
        jobs = encoder_jobs(settings, server, name, stop, until_idle, log)
        log.info("encoder started", server=server.label, streams=[job.stream for job in jobs])
        threads = [threading.Thread(target=_guarded, args=(job, results)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a signal that another thread was given wakes nobody
                thread.join(_LOOK)
    failures = [result for result in results if isinstance(result, Exception)]
    if failures:
        raise failures[0]
    return [result for result in results if isinstance(result, Tally)]


def encoder_jobs(
    settings: Settings,
    server: Server,
    name: str,
    stop: threading.Event,
    until_idle: bool,
    log: structlog.typing.FilteringBoundLogger,
) -> list[Job]:
    """Return what is to be done for each stream of a model."""
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


def _guarded(job: Job, results: list[Tally | Exception]) -> None:
    """Encode a stream; an error that ends it ends the others."""
    try:
        results.append(run_encoder(job))
    except StreamclustError as error:
        job.log.error("encoder failed", error=str(error))
        results.append(error)
        job.stop.set()
    except Exception as error:
        job.log.exception("unexpected error")
        results.append(error)
        job.stop.set()
