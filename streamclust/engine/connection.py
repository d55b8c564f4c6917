"""A connection to a Dask scheduler, held by a thread; no call waits without a limit."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from pydoc import locate
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from streamclust.engine.dask_worker import carry, compute, identity
from streamclust.errors import MissingExtraError
from streamclust.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client

CONNECT = 5.0
"""Seconds for one attempt to connect, and between two attempts."""

_LOOK = 1.0
"""Seconds between two looks at the scheduler and its workers."""

_FIRST_LOOK = 0.05
"""The same, until all workers have reported their version and kernels."""

_LARGE = 1 << 20
"""A task of at least this many bytes is sent once, not with each part."""

_NAMED = 64
"""Up to this many workers are named with each part, so that no other worker gets the part."""

_RETRIES = 5
"""How often Dask repeats a part that fails."""


@dataclass(frozen=True)
class Certificates:
    """Files for TLS: the CA, and this side's certificate and key."""

    ca: Path
    cert: Path
    key: Path


class Answer(NamedTuple):
    """The end of a part: its result, or why there is none ("" if the connection was lost)."""

    part: int
    result: bytes | None
    reason: str = ""


Deliver = Callable[[Answer], object]
"""Receives an answer, in any thread, and returns at once."""


class Task:
    """The bytes of a task, which is the same for all parts of a fold.

    A large task is sent to the scheduler once. Workers copy it from each other. If all workers
    with a copy are lost, Dask creates it again.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._sent: dict[int, Any] = {}

    def argument_for(self, client: Client) -> Any:
        """Return the argument of a submission by `client`."""
        if len(self._data) < _LARGE:
            return self._data
        if id(client) not in self._sent:
            key = f"streamclust-task-{uuid4()}"
            self._sent = {
                id(client): client.submit(carry, self._data, key=key, pure=False, retries=_RETRIES)
            }
        return self._sent[id(client)]


class Connection:
    """A scheduler, its workers that can be used, and answers that arrive.

    A worker is used if it has the version and the kernels of this process. A thread connects,
    connects again after a fault, and asks new workers for both.

    Parameters
    ----------
    address : str
        tcp://host:8786 or tls://host:8786.
    certificates : Certificates or None
    report : callable
        Called with a sentence whenever workers are lost, refused, or found again; once per reason.
    """

    def __init__(
        self, address: str, certificates: Certificates | None, report: Callable[[str], object]
    ) -> None:
        import_distributed()
        self.address = address
        self.problem = "no connection yet"
        self._certificates, self._report = certificates, report
        self._client: Client | None = None
        self._slots: dict[str, int] = {}
        self._asked: dict[str, Future[str]] = {}
        self._refused: set[str] = set()
        self._suspects: dict[str, str] = {}
        self._last_report = ""
        self._running: dict[str, tuple[int, Deliver]] = {}
        self._lock = threading.Lock()
        self._looked = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="engine")
        self._thread.start()

    @property
    def slots(self) -> int:
        """Return the number of threads of all workers that can be used."""
        return sum(self._usable_slots().values())

    def _usable_slots(self) -> dict[str, int]:
        """Return the threads of each worker that can be used now."""
        suspects = set(self._suspects.values())
        return {name: n for name, n in self._slots.items() if name not in suspects}

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    @property
    def unanswered(self) -> int:
        """The number of parts that workers have and haven't answered."""
        return len(self._running)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether all workers have answered, or none will soon."""
        return self._looked.wait(seconds)

    def submit(
        self, deliver: Deliver, task: Task, bundles: Mapping[int, list[bytes]]
    ) -> dict[int, str]:
        """Send bundles of parts to workers, in one message to the scheduler.

        An answer for each bundle is delivered with its number, unless its worker is silent.
        Returns the key of each answer.
        """
        client, slots = self._client, self._usable_slots()
        keys = {number: f"streamclust-part-{uuid4()}" for number in bundles}
        if client is None:
            for number in bundles:
                deliver(Answer(number, None))
            return keys
        with self._lock:
            self._running.update({key: (number, deliver) for number, key in keys.items()})
        named = self._refused or self._suspects or len(slots) <= _NAMED
        only = list(slots) if named else None
        found = {keys[number]: parts for number, parts in bundles.items()}
        self._start(client, self._compute(client, task, found, only))
        return keys

    def locate(self, key: str, found: Callable[[], object]) -> None:
        """Find the worker that has a late part; it gets no other part until this one has ended."""
        client = self._client
        if client is not None:
            self._start(client, self._locate(client, key, found))

    async def _locate(self, client: Client, key: str, found: Callable[[], object]) -> None:
        with suppress(Exception):
            processing = await asyncio.wait_for(client.scheduler.processing(workers=None), CONNECT)
            for worker, keys in processing.items():
                if key in keys and key in self._running:
                    self._suspects[key] = worker
                    found()

    def close(self) -> None:
        """Leave the scheduler, which then discards its remaining tasks."""
        self._closed.set()
        if self._client is not None:  # else the thread ends by itself after its attempt to connect
            self._thread.join(2 * CONNECT)
            self._drop("closed")

    async def _compute(
        self, client: Client, task: Task, bundles: dict[str, list[bytes]], only: list[str] | None
    ) -> None:
        try:
            futures = client.map(
                compute,
                [task.argument_for(client)] * len(bundles),
                list(bundles.values()),
                key=list(bundles),
                pure=False,
                retries=_RETRIES,
                workers=only,
            )
        except Exception as error:
            for key in bundles:
                self._end(key, None, _reason(error))
            return
        await asyncio.gather(*map(self._answer, bundles, futures))

    async def _answer(self, key: str, future: Any) -> None:
        """Wait for an answer, and deliver it."""
        try:
            try:
                self._end(key, await future)
            finally:
                future.release()
        except (CancelledError, asyncio.CancelledError):
            self._end(key, None)
        except Exception as error:
            self._end(key, None, _reason(error))

    def _end(self, key: str, result: bytes | None, reason: str = "") -> None:
        """Deliver the answer for a part, unless it was delivered before."""
        with self._lock:
            known = self._running.pop(key, None)
            self._suspects.pop(key, None)
        if known is not None:
            number, deliver = known
            deliver(Answer(number, result, reason))

    def _start(self, client: Client, coroutine: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, client.loop.asyncio_loop)

    def _keep(self) -> None:
        """Connect, check the workers, and connect again after a fault, until closed."""
        while not self._closed.is_set():
            try:
                if self._client is None:
                    self._client = self._connect()
                self._look(self._client)
                pause = _LOOK if self._looked.is_set() else _FIRST_LOOK
            except Exception as error:
                address = f"the Dask scheduler {self.address}"
                self._drop(f"no connection to {address}: {_reason(error)}")
                self._report_once(self.problem)
                self._looked.set()
                pause = CONNECT
            self._closed.wait(pause)
        self._drop("closed")

    def _connect(self) -> Client:
        from distributed import Client, Security

        files = self._certificates
        security = files and Security(
            tls_ca_file=str(files.ca),
            tls_client_cert=str(files.cert),
            tls_client_key=str(files.key),
            require_encryption=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions of Python: the kernels count here
            return Client(
                self.address,
                timeout=CONNECT,
                security=security,
                set_as_default=False,
                name="streamclust",
            )

    def _look(self, client: Client) -> None:
        """Ask new workers for their version and kernels, and forget workers that are gone."""
        if client.status != "running":
            raise ConnectionError("the connection was lost")
        found = self._start(client, client.scheduler.identity(n_workers=-1)).result(CONNECT)
        threads = {name: worker["nthreads"] for name, worker in found["workers"].items()}
        for name in threads.keys() - self._asked.keys():
            self._asked[name] = self._start(client, self._ask(client, name))
        self._asked = {name: asked for name, asked in self._asked.items() if name in threads}
        self._refused &= threads.keys()
        answered = [name for name, asked in self._asked.items() if asked.done()]
        slots = {name: threads[name] for name in answered if self._usable(name)}
        self._slots = slots
        if slots:
            self.problem = ""
            self._report_once(
                f"the Dask scheduler {self.address} has workers for {self.slots} parts at a time"
            )
        elif not threads:
            self.problem = f"the Dask scheduler {self.address} has no workers"
            self._report_once(self.problem)
        if len(answered) == len(threads):
            self._looked.set()

    async def _ask(self, client: Client, name: str) -> str:
        """Return the version and the kernels of a worker.

        A worker ends when it is given a function that it can't import. So the first question is a
        function of the standard library: the version, or None without streamclust.
        """
        version = await _on(client, name, locate, f"{identity.__module__}.__version__")
        if version is None:
            return "no streamclust with this engine"
        if version != __version__:
            return f"streamclust {version}"
        return str(await _on(client, name, identity))

    def _usable(self, name: str) -> bool:
        """Compare a worker with this process; report a difference once."""
        try:
            has = self._asked[name].result(0)
        except Exception as error:
            has = f"no streamclust that answers ({_reason(error)})"
        if has == identity():
            return True
        if name not in self._refused:
            self._refused.add(name)
            self.problem = (
                f"the worker {name} has {has}; this process has {identity()}; "
                "install the same version and build on the worker"
            )
            self._report(f"{self.problem}. This worker isn't used")
        return False

    def _report_once(self, sentence: str) -> None:
        if sentence != self._last_report:
            self._last_report = sentence
            self._report(sentence)

    def _drop(self, reason: str) -> None:
        """Discard the connection: no outstanding answer will arrive."""
        client, self._client, self._slots, self._asked = self._client, None, {}, {}
        self._refused.clear()
        self.problem = reason
        for key in list(self._running):
            self._end(key, None)
        if client is not None:
            try:
                client.close(timeout=1.0)
            except Exception:
                client.status = "closed"  # so that its finalizer doesn't try and fail again


async def _on(client: Client, worker: str, function: Callable[..., Any], *arguments: str) -> Any:
    """Return the result of a function on one worker."""
    key = f"streamclust-question-{uuid4()}"
    future = client.submit(function, *arguments, key=key, pure=False, workers=[worker])
    try:
        return await future
    finally:
        future.release()


def import_distributed() -> None:
    """Import Dask and silence its log, which would repeat the reports of this module."""
    if "distributed" in sys.modules:
        return  # a program that uses Dask itself wants its log
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "the engine dask needs Dask: pip install dask distributed"
        ) from None
    for name in [
        name for name in logging.root.manager.loggerDict if name.startswith("distributed")
    ]:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _reason(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
