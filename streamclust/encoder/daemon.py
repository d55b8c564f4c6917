"""The encoder's process: it starts the encoders, and ends them on a signal."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from threadpoolctl import threadpool_limits

from streamclust.encoder.loop import run_encoder
from streamclust.encoder.many import LONGEST_CHANGE, StallWatch, merged, run_encoders
from streamclust.encoder.reloading import Reloading
from streamclust.encoder.roster import EncoderRoster
from streamclust.runtime.backoff import wait_for_server
from streamclust.runtime.log import configure_log, warn_of_slow_kernels
from streamclust.runtime.signals import ChildStop, StopEvent, reload_on_signal, stop_on_signals
from streamclust.runtime.threads import run_together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings
    from streamclust.encoder.job import Job, Tally
    from streamclust.store.server.connect import Server


_SHOWN = 10
"""Streams whose names are logged at the start."""

_DISCOVER = 10.0
"""Seconds between two looks for new models, without a template."""

_FEW = 4
"""Maximum number of streams that have one thread each. A thread in a blocking read gets entries
with less delay."""


def encode_streams(
    settings: Settings,
    server: Server,
    names: Sequence[str],
    *,
    wait: float = 0.0,
    until_idle: bool = False,
    load: Callable[[], Settings] | None = None,
) -> list[tuple[Job, Tally]]:
    """Encode the streams of models until SIGTERM or Ctrl-C; return the counts of each stream.

    At the start, wait up to `wait` seconds for a server that can't be used yet.

    Parameters
    ----------
    settings : Settings
    server : Server
    names : sequence of str
        Names of models, patterns such as ``clicks-*``, and names of templates.
    wait : float
    until_idle : bool
        Whether to end when all entries have codes.
    load : callable, optional
        Reads the settings again, on SIGHUP or on request of `streamclust reload`.

    Raises
    ------
    ConfigError
        If the settings don't have a model, or a pattern can match none.
    ModelsFailedError
        With `until_idle`, if encoders of many streams have failed.
    StreamclustError
        If the server can't be used; for a few streams also the first error that ended a stream,
        after a clean end of the other streams.
    """
    configure_log(settings.log.level, settings.log.format)
    log = structlog.get_logger()
    stop = StopEvent()
    roster = EncoderRoster(settings, server, names, stop, until_idle, log, load)
    with stop_on_signals(stop), threadpool_limits(limits=1, user_api="blas"):
        one = {"model": names[0]} if len(names) == 1 else {"models": list(names[:_SHOWN])}
        jobs = [] if roster.needs_search else roster.jobs()
        streams = [job.stream for job in jobs[:_SHOWN]]
        log.info("encoder_started", server=server.label, **one, streams=streams)
        warn_of_slow_kernels(log)
        if not wait_for_server(server, stop, log, wait):
            return []
        with _short_pauses(), _reloading(roster, server, stop, log, until_idle) as reloading:
            if not roster.needs_search and len(jobs) <= _FEW:
                return _encode_few(roster, stop, reloading)
            return run_encoders(
                server,
                roster.jobs,
                stop,
                discover=_interval(settings),
                stall=float(settings.worker.stall),
                until_idle=until_idle,
                reloading=reloading,
            )


@contextmanager
def _reloading(
    roster: EncoderRoster,
    server: Server,
    stop: threading.Event,
    log: FilteringBoundLogger,
    until_idle: bool,
) -> Iterator[Reloading | None]:
    """Reload the settings on SIGHUP and on request, except with `until_idle`."""
    if until_idle:
        yield None
        return
    with Reloading(roster, server, log) as found, reload_on_signal(stop, found.ask):
        yield found


def _encode_few(
    roster: EncoderRoster, stop: threading.Event, reloading: Reloading | None
) -> list[tuple[Job, Tally]]:
    """Encode a few streams, each in a thread; after a reload that changes models, start again."""
    done: list[tuple[Job, Tally]] = []
    stall, started = float(roster.settings.worker.stall), threading.Event()
    generation = ChildStop(stop)

    def change() -> None:
        """Return when no encoder uses its old settings any more."""
        started.clear()
        generation.set()
        started.wait(LONGEST_CHANGE)

    if reloading is not None:
        reloading.changed = change
    while True:
        started.set()
        jobs = [replace(job, stop=generation) for job in roster.jobs()]
        watch = StallWatch(jobs, stall)
        done += run_together(
            jobs, lambda job: (job, run_encoder(job)), "encoder_failed", look=watch.look
        )
        if stop.is_set() or not generation.is_set():
            return merged(done)
        generation = ChildStop(stop)


def _interval(settings: Settings) -> float:
    """Return the seconds between two looks for new models."""
    templates = settings.models.templates
    return min((float(each.settings.discover) for each in templates), default=_DISCOVER)


@contextmanager
def _short_pauses() -> Iterator[None]:
    """Exclude the existing objects from garbage collection.

    Most objects are modules, classes and settings. A full collection would search them for tens of
    milliseconds, in which no entry gets its codes.
    """
    is_frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not is_frozen:  # a program that has frozen its own objects wants them to stay so
            gc.unfreeze()
