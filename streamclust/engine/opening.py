"""Opens the engine that the settings name; `auto` chooses another engine for each fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from streamclust.config.size import AUTO
from streamclust.engine.base import Engine, Inline, never
from streamclust.engine.parts import FilePart
from streamclust.engine.processes import Processes
from streamclust.engine.reader import StreamServer
from streamclust.engine.threads import Threads
from streamclust.kernels.threads import threads_of_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streamclust.config.engine import EngineSettings
    from streamclust.config.settings import RedisSettings
    from streamclust.engine.base import Done, Numbered
    from streamclust.engine.reader import Reader
    from streamclust.engine.tasks import Task

R = TypeVar("R")

WORTH_A_PROCESS = 1 << 26
"""Bytes of text that take longer to read than processes take to start: 64 MiB."""


class Auto(Engine):
    """Uses processes for large texts, otherwise threads; for one part, the calling thread.

    Parameters
    ----------
    workers : int
        Number of threads or processes.
    """

    name = "auto"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._inline, self._threads = Inline(), Threads(workers)
        self._processes = Processes(workers)

    def map(
        self,
        task: Task[R],
        reader: Reader,
        parts: Iterable[Numbered],
        stop: Callable[[], bool] = never,
    ) -> Iterator[Done[R]]:
        """Yield the result of each part; see `Engine.map`."""
        known = list(parts)
        return self.choose(known).map(task, reader, known, stop)

    def choose(self, parts: Sequence[Numbered]) -> Engine:
        """Return the engine for these parts."""
        if self.workers == 1 or len(parts) < 2:
            return self._inline
        text = sum(_text_bytes(part) for _, part in parts if isinstance(part, FilePart))
        return self._processes if text > WORTH_A_PROCESS else self._threads

    def close(self) -> None:
        """End the threads and the processes."""
        self._threads.close()
        self._processes.close()


def _text_bytes(part: FilePart) -> int:
    """Return the number of bytes of text in a part; compressed text counts as stored."""
    from streamclust.tables.options import TEXT_KINDS
    from streamclust.tables.read import kind_of

    if part.span.unit == "bytes":
        return part.span.stop - part.span.start
    is_text = part.span.unit == "table" and kind_of(part.path, part.options) in TEXT_KINDS
    return part.stamp.size if is_text else 0


def open_engine(
    settings: EngineSettings, report: Callable[[str], object] = lambda _: None
) -> Engine:
    """Return the engine of the settings. Threads and processes are started when there is work.

    Parameters
    ----------
    settings : EngineSettings
    report : callable, optional
        Called with a sentence whenever an engine on other machines is lost or found again.

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
