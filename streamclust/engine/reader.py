"""Reads the points of parts, in the units that the model learns in."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from streamclust.engine.parts import ArrayPart, FilePart, check_unchanged
from streamclust.engine.points import BLOCK, Points, array_blocks, block_rows, in_blocks, points
from streamclust.errors import EngineError
from streamclust.formats.layout import PointsFormat
from streamclust.models.directions import ZERO, have_direction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import redis

    from streamclust.arrays import Array
    from streamclust.engine.parts import Part, StreamPart
    from streamclust.models.scaling import Scaling
    from streamclust.store.stream.ranges import OnFault
    from streamclust.store.stream.read_size import OnLess

CHUNK = 8192
"""Points per read of a stream, a text or a Parquet file."""

_SHOWN = 5
"""Maximum number of bad rows of a part whose reasons are reported."""


@dataclass(frozen=True)
class Notes:
    """The counts of a read of a part.

    Parameters
    ----------
    points : int
        Number of good points, also those of weight 0.
    lost : int
        Number of points of a stream that were trimmed or deleted after the part was cut.
    bad : int
        Number of rows of a file that can't be read and were skipped.
    reasons : tuple of str
        Why the first of these rows can't be read.
    """

    points: int = 0
    lost: int = 0
    bad: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class StreamServer:
    """The server of the streams, for another process that connects to it.

    Parameters
    ----------
    url, data_dir, username, sentinel_username : str
        See `streamclust.store.server.address.Address`.
    password, sentinel_password : str or None
    max_reply : int
        See `Server.raw_client`.
    """

    url: str = field(repr=False)  # it may contain a password
    data_dir: str
    max_reply: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Reader:
    """Reads parts.

    Parameters
    ----------
    scaling : Scaling or None
        The points are returned in its units.
    connect : callable or None
        Returns a new raw client (see `Server.raw_client`); None if no part is in a stream.
    server : StreamServer or None
        The same server, for other processes; None if they have their own settings.
    on_less : callable
        See `RangeReader`.
    on_fault : callable or None
        See `RangeReader`; None raises the error.
    """

    scaling: Scaling | None = None
    connect: Callable[[], redis.Redis] | None = None
    server: StreamServer | None = None
    on_less: OnLess = lambda _: None
    on_fault: OnFault | None = None
    _per_thread: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def blocks(
        self, part: Part, note: Callable[[Notes], object], *, stored: bool = False
    ) -> Iterable[Points]:
        """Return the points of a part in blocks; call `note` before the end.

        The blocks depend only on the part and its data. Points that can't be decoded are
        skipped, as a worker skips them. With `stored`, the points of a block may be `StoredPoints`,
        which aren't read yet.

        Raises
        ------
        DataError
            If a file can't be read, or was changed after the part was cut.
        redis.RedisError
            If a stream can't be read, and `on_fault` is None or doesn't wait.
        """
        found: Iterable[Points]
        if isinstance(part, ArrayPart):
            note(Notes(len(part.w)))
            found = array_blocks(Points(part.X, part.w))
        elif isinstance(part, FilePart):
            is_plain = stored and self.scaling is None and not part.directions
            found = (self._stored if is_plain else self._blocks_of_file)(part, note)
        else:
            found = in_blocks(self._of_stream(part, note))
        scaling = self.scaling
        if scaling is None:
            return found
        return (Points(scaling.apply(X), w) for X, w in found)

    def _stored(self, part: FilePart, note: Callable[[Notes], object]) -> Iterator[Points]:
        from streamclust.tables.split import stored_span

        check_unchanged(part)
        span, options = part.span, part.options
        with stored_span(part.path, options, span, part.name, part.model) as found:
            if found is None or len(found) > block_rows(found.shape[1]):
                yield from self._blocks_of_file(part, note)
                return
            yield Points(cast("Array", found), np.ones(len(found)))
            check_unchanged(part)
            note(Notes(len(found)))

    def _blocks_of_file(self, part: FilePart, note: Callable[[Notes], object]) -> Iterator[Points]:
        return in_blocks(self._of_file(part, note))

    def _of_file(self, part: FilePart, note: Callable[[Notes], object]) -> Iterator[Points]:
        from streamclust.tables.split import read_span  # few workers read files

        check_unchanged(part)
        good, bad, reasons = 0, 0, list[str]()
        options, model = part.options, part.model
        whole = part.span.unit in ("rows", "row groups")  # blocks that aren't copied again
        size = BLOCK if whole else CHUNK
        rows = read_span(part.path, options, part.span, part.name, chunk=size, model=model)
        for chunk in rows:
            good, bad = good + len(chunk.X), bad + len(chunk.bad)
            reasons += [row.reason for row in chunk.bad[: _SHOWN - len(reasons)]]
            if part.directions and (zeros := int((~have_direction(chunk.X)).sum())):
                good, bad = good - zeros, bad + zeros
                reasons += [ZERO] * min(zeros, _SHOWN - len(reasons))
            yield points(
                chunk.X,
                chunk.w,
                directions=part.directions,
                missing=options.missing,
                sane=chunk.in_range,
            )
        check_unchanged(part)
        note(Notes(good, 0, bad, tuple(reasons)))

    def _of_stream(self, part: StreamPart, note: Callable[[Notes], object]) -> Iterator[Points]:
        # Imported here: redis needs half of the time of all imports of a process that reads files.
        from streamclust.store.stream.batches import Batcher, batches
        from streamclust.store.stream.ranges import RangeReader, raise_fault

        after, until = {part.stream: part.after}, {part.stream: part.until}
        on_fault = self.on_fault or raise_fault
        reader = RangeReader(self._client(), after, until, self.on_less, on_fault)
        batcher = Batcher(PointsFormat(), part.layout, after, CHUNK, keep_dead=0)
        good = refused = 0
        for batch in batches(reader, batcher, linger=0.0, until_idle=True):
            good, refused = good + len(batch.X), refused + batch.refused
            layout = part.layout
            yield points(batch.X, batch.w, directions=layout.directions, missing=layout.missing)
        note(Notes(good, max(part.count - good - refused, 0)))

    def _client(self) -> redis.Redis:
        """Return this thread's client."""
        if self.connect is None:
            raise EngineError("a part of a stream can't be read without a server")
        if not hasattr(self._per_thread, "client"):
            self._per_thread.client = self.connect()
        client: redis.Redis = self._per_thread.client
        return client
