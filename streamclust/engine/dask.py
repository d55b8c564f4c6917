"""The engine that computes on a Dask cluster, and in this process if the cluster doesn't answer."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from math import ceil
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from streamclust.engine.base import Engine, check, compute, never
from streamclust.engine.connection import Connection, Task, import_distributed
from streamclust.engine.dask_worker import unbundle
from streamclust.engine.deadlines import Deadlines
from streamclust.engine.parts import ArrayPart
from streamclust.engine.wire import decode_result, encode_part, encode_task
from streamclust.errors import EngineError, StreamclustError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from streamclust.engine import tasks
    from streamclust.engine.base import Done, Numbered
    from streamclust.engine.connection import Answer, Certificates
    from streamclust.engine.reader import Reader

R = TypeVar("R")

FIRST_WORKERS = 5.0
"""Seconds that the first map waits for workers."""

REQUIRED_WORKERS = 15.0
"""Seconds that each map waits for workers, if the engine is required."""

_LOOK = 0.1
"""Seconds between checks for a request to stop."""

_ROOM = 0.005
"""Seconds between checks whether another fold has left room at the workers."""

_AHEAD = 4
"""Bundles per slot that are submitted, or wait for an earlier result. This bounds the memory."""

_BUNDLE_SECONDS = 0.2
"""Parts are sent to a worker in bundles that take approximately this time at most. A bundle costs
some milliseconds. A worker holds two, and both must arrive before the shortest deadline."""

_BUNDLE_BYTES = 1 << 20
"""Maximum bytes of the results of a bundle of several parts."""

_BUNDLE = 32
"""Maximum number of parts in a bundle."""

_PAUSE = 30.0
"""Seconds without new parts for workers after they answered only with errors."""


@dataclass
class Counts:
    """How many parts were computed by workers and by this process.

    Parameters
    ----------
    workers : int
        Parts whose result came from workers, in time.
    here : int
        Parts that this process computed, because no worker did.
    late : int
        Results that arrived after this process had computed the part.
    """

    workers: int = 0
    here: int = 0
    late: int = 0


class Dask(Engine):
    """Sends parts to the workers of a Dask cluster.

    A part that isn't done before its deadline (see `Deadlines`) is computed here, and so are all
    parts while there are no workers. Several threads may fold at the same time.

    Parameters
    ----------
    address : str
        Address of the scheduler: tcp://host:8786 or tls://host:8786.
    certificates : Certificates, optional
        Files for TLS.
    required : bool, default=False
        Raise an error, instead of computing all parts here, if no worker can be used.
    report : callable, optional
        Called with a sentence if workers are lost, refused or found again.

    Attributes
    ----------
    counts : Counts
    """

    name = "dask"
    remote = True

    def __init__(
        self,
        address: str,
        certificates: Certificates | None = None,
        *,
        required: bool = False,
        report: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.counts = Counts()
        self.required = required
        self.deadlines = Deadlines(0)
        self.connection = Connection(address, certificates, report)
        self._report = report
        self._reported: set[str] = set()
        self._waited = False
        self._failures, self._paused_until = 0, 0.0
        self._sizes: dict[Hashable, int] = {}

    @property
    def workers(self) -> int:  # type: ignore[override]
        """The number of parts that workers compute at the same time; at least 1."""
        return max(1, self.connection.slots)

    def map(
        self,
        task: tasks.Task[R],
        reader: Reader,
        parts: Iterable[Numbered],
        stop: Callable[[], bool] = never,
    ) -> Iterator[Done[R]]:
        """Yield the result of each part; see `Engine.map`."""
        self._await_workers(stop)
        fold = _Fold(self, task, reader, iter(parts))
        try:
            while (done := fold.next(stop)) is not None:
                yield done
        finally:
            self.deadlines.end(fold)

    def room(self) -> bool:
        """Return whether a part can be submitted now.

        Raises
        ------
        EngineError
            If no worker can be used, and the engine is required.
        """
        deadlines, slots = self.deadlines, self.connection.slots
        deadlines.slots = slots
        paused = time.monotonic() < self._paused_until
        full = deadlines.room <= 0
        if self.required and (not slots or paused or (full and not deadlines.outstanding)):
            problem = self.connection.problem or "the workers don't answer"
            raise EngineError(
                f"{problem}; engine.required is true, so this process computes nothing; check "
                "engine.address and the workers, or set engine.required: false"
            )
        return slots > 0 and not paused and not full

    def failed(self, reason: str) -> None:
        """Report, once, why workers have not computed a part."""
        self._failures += 1
        if self._failures >= 2 * self.workers:
            self._paused_until, self._failures = time.monotonic() + _PAUSE, 0
        if reason not in self._reported:
            self._reported.add(reason)
            self._report(f"this process computes a part, because its worker has failed: {reason}")

    def succeeded(self, kind: Hashable, parts: int, seconds: float, size: int) -> None:
        """Record the results of a bundle, and choose the size of the next bundles of this kind."""
        self.counts.workers += parts
        self._failures = 0
        fitting = min(_BUNDLE_SECONDS * parts / max(seconds, 1e-6), _BUNDLE_BYTES * parts / size)
        self._sizes[kind] = max(1, min(_BUNDLE, int(fitting)))

    def bundle_size(self, kind: Hashable) -> int:
        """Return the number of parts per bundle; 1 until the first results have arrived."""
        return self._sizes.get(kind, 1)

    def summary(self) -> dict[str, object]:
        """Return the kind, and the numbers of parts that workers and this process computed."""
        return {"kind": self.name, **asdict(self.counts)}

    def close(self) -> None:
        """Leave the cluster, and report how many parts workers and this process computed."""
        counts = self.counts
        if counts.workers + counts.here and not self.connection.closed:
            self._report(
                f"the engine dask: workers computed {counts.workers:,} parts, this process "
                f"{counts.here:,}"
            )
        self.connection.close()

    def _await_workers(self, stop: Callable[[], bool]) -> None:
        """Wait for the first workers, which need some seconds for their imports."""
        end = time.monotonic() + (REQUIRED_WORKERS if self.required else FIRST_WORKERS)
        while not self.connection.slots and time.monotonic() < end:
            check(stop)
            if not self.required and (self._waited or self.connection.wait(0.0)):
                break
            time.sleep(_LOOK)
        self._waited = True


CHEAPER = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
"""Settings with which Dask's own processes need less processor time; `deploy/` has them too."""


class LocalDask(Dask):
    """The engine `dask` on a cluster of this machine, for a command that a person waits for.

    The workers have the environment and the current folder of this process.

    Parameters
    ----------
    workers : int
        Number of processes.
    required, report
        See `Dask`.
    """

    def __init__(self, workers: int, *, required: bool, report: Callable[[str], object]) -> None:
        import_distributed()
        import dask
        from distributed import LocalCluster

        with dask.config.set(CHEAPER):
            self._cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=50
            )
        super().__init__(self._cluster.scheduler_address, required=required, report=report)

    def close(self) -> None:
        """End the cluster."""
        super().close()
        self._cluster.close(timeout=5.0)


class _Fold(Generic[R]):
    """One map: the bundles that workers have, and the results that wait for earlier ones.

    The number of a bundle is that of its first part.
    """

    def __init__(
        self,
        engine: Dask,
        task: tasks.Task[R],
        reader: Reader,
        parts: Iterator[Numbered],
    ) -> None:
        self._engine, self._task, self._reader, self._parts = engine, task, reader, parts
        message = encode_task(task, reader.scaling)
        self._message = Task(message)
        # Tasks of the same kind and size take similar times per point.
        self._kind = (task.kind, len(message))
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._submitted: dict[int, list[Numbered]] = {}
        self._keys: dict[int, str] = {}
        self._done: dict[int, Done[R]] = {}
        self._ahead: deque[Numbered] = deque()
        self._next = self._taken = self._bundles = self._planned = 0
        self._ended = False

    def next(self, stop: Callable[[], bool]) -> Done[R] | None:
        """Return the result of the next part; None after the last one."""
        while self._next not in self._done:
            check(stop)
            self._submit()
            if self._ended and self._next == self._taken:
                return None
            if self._submitted:
                self._wait()
            elif self._engine.deadlines.outstanding:
                time.sleep(_ROOM)  # another fold has all workers
            else:
                self._compute(self._taken, self._take(1))
        self._next += 1
        return self._done.pop(self._next - 1)

    def _submit(self) -> None:
        engine, most = self._engine, self._engine.bundle_size(self._kind)
        bundles: dict[int, list[bytes]] = {}
        while engine.room() and self._taken - self._next < _AHEAD * engine.workers * most:
            first, bundle = self._taken, self._take(self._size(most))
            if not bundle:
                break
            self._submitted[first] = bundle
            engine.deadlines.submitted(self, first, time.monotonic(), self._kind_of(bundle))
            bundles[first] = [encode_part(*each) for each in bundle]
        if bundles:
            self._keys |= engine.connection.submit(self._deliver, self._message, bundles)

    def _kind_of(self, bundle: list[Numbered]) -> Hashable:
        """Return the kind of a bundle: points in memory are in smaller parts than files."""
        return (
            (*self._kind, bundle[0][1].kind) if isinstance(bundle[0][1], ArrayPart) else self._kind
        )

    def _size(self, most: int) -> int:
        """Return the number of parts of the next bundle.

        The last parts are divided among all slots: each slot gets the same number of bundles of
        equal sizes, and as few as possible. So all workers end at the same time. If sizes differ by
        1, the last bundles are larger, because the last part of a file is often short.
        """
        slots, before = self._engine.workers, self._bundles
        self._bundles += 1
        self._look(_AHEAD * slots * most)
        known = len(self._ahead)
        if known in (0, _AHEAD * slots * most):
            return most
        if not self._planned:
            least = before + ceil(known / most)
            self._planned = least + -least % slots
        return max(1, min(most, known // max(1, self._planned - before)))

    def _look(self, count: int) -> None:
        """Look ahead in the iterator until `count` parts are known; their points aren't read."""
        self._ahead.extend(islice(self._parts, max(0, count - len(self._ahead))))

    def _take(self, most: int) -> list[Numbered]:
        """Return the next parts; points in memory are large, so each such part is a bundle."""
        self._look(most + 1)
        bundle: list[Numbered] = []
        while len(bundle) < most and self._ahead:
            bundle.append(self._ahead.popleft())
            if isinstance(bundle[-1][1], ArrayPart):
                break
        self._taken += len(bundle)
        self._ended = not self._ahead
        return bundle

    def _wait(self) -> None:
        """Wait shortly for an answer; compute a bundle here if its deadline has passed."""
        deadlines = self._engine.deadlines
        deadline = deadlines.next(self)
        now = time.monotonic()
        with suppress(Empty):
            self._receive(self._answers.get(timeout=max(0.0, min(_LOOK, (deadline or now) - now))))
            return
        late = deadlines.overdue(self, time.monotonic())
        if late is not None:
            self._engine.connection.locate(
                self._keys.pop(late), lambda: deadlines.located(self, late)
            )
            self._compute(late, self._submitted.pop(late))

    def _deliver(self, answer: Answer) -> None:
        """Queue an answer if it is still needed; the thread of the connection calls this."""
        engine, (first, data, _) = self._engine, answer
        if data is None:
            if engine.deadlines.lost(self, first):
                self._answers.put(answer)
        elif engine.deadlines.arrived(self, first, time.monotonic()):
            self._answers.put(answer)
        else:
            engine.counts.late += 1

    def _receive(self, answer: Answer) -> None:
        """Store the results of a bundle; if there are none, compute it in this process."""
        engine, (first, data, reason) = self._engine, answer
        bundle = self._submitted.pop(first)
        self._keys.pop(first)
        try:
            if data is None:
                raise EngineError(reason)  # "" if the connection was lost, which is reported
            seconds, results = unbundle(data)
            done = [decode_result(self._task, each, "a Dask worker") for each in results]
        except StreamclustError as error:
            if str(error):
                engine.failed(str(error))
            self._compute(first, bundle)
            return
        if any(each.notes.lost for each in done):
            self._compute(first, bundle)  # the worker may use another server; this shows it
            return
        self._done.update(enumerate(done, first))
        engine.succeeded(self._kind_of(bundle), len(bundle), seconds, len(data))

    def _compute(self, first: int, bundle: list[Numbered]) -> None:
        """Compute parts in this process."""
        for place, numbered in enumerate(bundle, first):
            self._engine.counts.here += 1
            self._done[place] = compute(self._task, self._reader, *numbered)
