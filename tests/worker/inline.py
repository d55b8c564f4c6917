"""A model's worker in a thread of the test: as `streamclust worker` runs it, without a process."""

from __future__ import annotations

import threading
from functools import partial
from types import TracebackType
from typing import Any, Self

import structlog
from structlog.testing import LogCapture

from streamclust.config import load_settings
from streamclust.errors import StreamclustError
from streamclust.runtime.job import Job
from streamclust.store.server.connect import Address, Server, open_server
from streamclust.worker.together import run_model
from tests.waiting import wait_until
from tests.worker.harness import LIMIT, Site


class InlineWorker:
    """Works on one model of a site for as long as the block lasts.

    An answer of the server may take `timeout` seconds.

    Attributes
    ----------
    failure : StreamclustError or None
        What ended it, if anything did.
    """

    def __init__(
        self, site: Site, model: str = "m", *, until_idle: bool = False, timeout: float = LIMIT
    ) -> None:
        self._settings = load_settings(site.folder / "config.yaml", ())
        self._model = model
        self._until_idle = until_idle
        self._timeout = timeout
        self._logged = LogCapture()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"inline {model}", daemon=True)
        self.failure: StreamclustError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def _run(self) -> None:
        log = structlog.wrap_logger(structlog.PrintLogger(), [self._logged], structlog.BoundLogger)
        with open_server(Address(self._settings.redis.url)) as server:
            job = Job(
                self._model, self._settings, self._timed(server), self._stop, self._until_idle, log
            )
            try:
                run_model(job)
            except StreamclustError as failure:
                self.failure = failure

    def _timed(self, server: Server) -> Server:
        """Give the clients of a server, and those of its sessions, their timeout."""
        begin = server.session
        server.client = partial(server.client, timeout=self._timeout)  # type: ignore[method-assign]
        server.session = lambda: self._timed(begin())  # type: ignore[method-assign]
        return server

    def leave(self) -> None:
        """Ask it to leave, and wait until it has."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), f"it doesn't leave; {self.log}"

    @property
    def log(self) -> list[dict[str, Any]]:
        return [dict(entry) for entry in self._logged.entries]

    def events(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.log if entry["event"] == event]

    def says(self, event: str, times: int = 1) -> dict[str, Any]:
        """Wait for a line of the log; return the newest of its kind."""
        self.wait(lambda: len(self.events(event)) >= times)
        return self.events(event)[-1]

    def wait(self, condition: Any) -> None:
        """Wait for what this worker is to bring about; show its log if it doesn't."""
        try:
            wait_until(condition, LIMIT)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.failure}; its log:\n{self.log}") from None


def drain(site: Site, model: str = "m") -> InlineWorker:
    """Learn all that is there."""
    with InlineWorker(site, model, until_idle=True) as worker:
        worker.join()
    assert worker.failure is None, worker.failure
    return worker
