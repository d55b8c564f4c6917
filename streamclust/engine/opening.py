"""Opens the engine that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamclust.config.size import AUTO
from streamclust.engine.auto import Auto
from streamclust.engine.inline import Inline
from streamclust.engine.processes import Processes
from streamclust.engine.reader import StreamServer
from streamclust.engine.threads import Threads
from streamclust.kernels.threads import threads_of_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.config.engine import EngineSettings
    from streamclust.config.settings import RedisSettings
    from streamclust.engine.base import Engine


def open_engine(
    settings: EngineSettings, report: Callable[[str], object] = lambda _: None
) -> Engine:
    """Return the engine of the settings. Threads and processes are started when there is work.

    Parameters
    ----------
    settings : EngineSettings
    report : callable, optional
        Given a sentence whenever an engine on other machines is lost or found again.

    Raises
    ------
    ConfigError
        If `STREAMCLUST_THREADS` isn't a positive integer.
    """
    workers = threads_of_process() if settings.workers == AUTO else int(str(settings.workers))
    if settings.kind == "dask":
        return _dask(settings, workers, report)
    return _ENGINES[settings.kind](workers)


def _dask(settings: EngineSettings, workers: int, report: Callable[[str], object]) -> Engine:
    from streamclust.engine.connection import Certificates
    from streamclust.engine.dask import Dask, LocalDask

    if settings.address is None:
        return LocalDask(workers, required=settings.required, report=report)
    ca, cert, key = (
        file and file.expanduser()
        for file in (settings.ca_file, settings.cert_file, settings.key_file)
    )
    files = Certificates(ca, cert, key) if ca and cert and key else None
    return Dask(settings.address, files, required=settings.required, report=report)


_ENGINES: dict[str, Callable[[int], Engine]] = {
    "auto": Auto,
    "inline": lambda _: Inline(threads=1),
    "threads": Threads,
    "processes": Processes,
}


def stream_server(settings: RedisSettings, max_reply: int) -> StreamServer:
    """Return the server of the settings, for engines in other processes."""
    return StreamServer(
        url=settings.url,
        data_dir=str(settings.data_dir.expanduser().resolve()),
        max_reply=max_reply,
        username=settings.username,
        password=settings.read_password(),
        sentinel_username=settings.sentinel_username,
        sentinel_password=settings.read_sentinel_password(),
    )
