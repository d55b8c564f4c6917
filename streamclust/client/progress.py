"""The progress of ingestion, stored beside the stream, so that a second run sends only new rows.

The progress of a file is the number of its rows that are in the stream, and a digest of these rows.
On one server it is written in one transaction with the points, so it is exact after `kill -9` too.
In a cluster it is written after the points: a crash between both writes repeats one pipeline.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import redis

from streamclust.errors import DataError
from streamclust.store.ids import BEGINNING, order
from streamclust.store.stream.keys import progress_key
from streamclust.tables import Chunk

_NO_RIGHT = ("no permissions", "EXEC without MULTI")

KEEP_SECONDS = 30 * 24 * 3600
"""Lifetime of the progress of a run that isn't continued."""


@dataclass(frozen=True)
class Mark:
    """The part of a file that is in the stream.

    Parameters
    ----------
    points
        Number of its points in the stream.
    bad
        Number of its bad rows that were skipped or stored.
    digest
        Digest of these points.
    last_id
        ID of an entry with some of these points; "0-0" if it isn't known yet.
    """

    points: int = 0
    bad: int = 0
    digest: str = ""
    last_id: str = BEGINNING

    def to_json(self) -> str:
        """Return the mark as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Self | None:
        """Return a mark, or None if this isn't one."""
        try:
            mark = cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
        return mark if mark.points >= 0 and mark.bad >= 0 else None


class Progress:
    """The progress of the files of one run.

    Parameters
    ----------
    client
        A client that doesn't decode replies.
    stream
        The stream of the points.
    restart
        Whether to ignore the progress of earlier runs.
    warn
        Called with a sentence if an earlier run is continued, or if progress can't be stored.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        *,
        restart: bool = False,
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.key = progress_key(stream)
        self.enabled = True
        self.resumed = 0
        self._client = client
        self._stream = stream
        self._warn = warn
        self._paths: list[str] = []
        self._in_file = False
        self._mark = Mark()
        self._hash = hashlib.blake2b(digest_size=16)
        self._hash_before = self._hash
        self._earlier = {} if restart else self._read()

    @property
    def is_recording(self) -> bool:
        """Whether the points that are sent now come from a file whose progress is stored."""
        return self.enabled and self._in_file

    def _read(self) -> Mapping[str, Mark]:
        """Return the marks of earlier runs whose points are in the stream."""
        try:
            found: Any = self._client.hgetall(self.key)
            marks = {
                path.decode(errors="replace"): Mark.from_json(each) for path, each in found.items()
            }
            return {path: mark for path, mark in marks.items() if mark and self._holds(mark)}
        except redis.exceptions.NoPermissionError as error:
            self._disable(error)
            return {}

    def _holds(self, mark: Mark) -> bool:
        """Return whether the stream is the same as for the mark, not a new one of the same name."""
        newest = last_id(self._client, self._stream)
        if not mark.points or newest == BEGINNING or order(newest) < order(mark.last_id):
            return False
        if mark.last_id == BEGINNING or self._client.xrange(
            self._stream, mark.last_id, mark.last_id, count=1
        ):
            return True
        info: Any = self._client.xinfo_stream(self._stream)
        return bool(info.get("entries-added", math.inf) > info["length"])  # some were trimmed

    def _disable(self, error: redis.RedisError) -> None:
        self.enabled = False
        self._warn(
            f"the progress can't be stored in {self.key} ({error}): after an interruption, the "
            "next run sends all points again"
        )

    def unsent_chunks(self, path: str, label: str, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield the chunks of a file without the rows that an earlier run has sent.

        Raises
        ------
        DataError
            If the first rows of the file differ from the rows that were sent.
        """
        if not self.enabled:
            yield from chunks
            return
        times = sum(each.partition("\0")[0] == path for each in self._paths)
        path = f"{path}\0{times}" if times else path  # the run names this file again
        self._paths.append(path)
        self._in_file = True
        earlier = self._earlier.get(path, Mark())
        self._mark, self._hash = Mark(), hashlib.blake2b(digest_size=16)
        skipped = 0
        if earlier.points:
            self._warn(
                f"{label}: {earlier.points:,} points are in stream {self._stream!r} from an "
                "earlier run; this run sends the rest (--restart sends all)"
            )
        else:
            self._store()
        bad = earlier.bad
        for chunk in chunks:
            n = min(earlier.points - skipped, len(chunk.X))
            self._add(chunk, 0, n)
            skipped += n
            if n and skipped == earlier.points:
                if self._hash.hexdigest() != earlier.digest:
                    raise _differs(label, self._stream)
                self._mark = earlier
                self.resumed += earlier.points
            passed = min(bad, len(chunk.bad))
            bad -= passed
            rest = drop_first(chunk, n, passed)
            if len(rest.X) or rest.bad:
                yield rest
        if skipped < earlier.points:
            raise _differs(label, self._stream)
        self._in_file = False

    def _add(self, chunk: Chunk, start: int, stop: int) -> None:
        if stop > start:
            self._hash.update(np.ascontiguousarray(chunk.X[start:stop]).data.cast("B"))

    def advance(
        self, chunk: Chunk, start: int, stop: int, bad: int, newest: str
    ) -> tuple[Any, ...]:
        """Return the command that stores the progress after some rows of a chunk."""
        self._hash_before = self._hash.copy()
        self._mark_before = self._mark
        self._add(chunk, start, stop)
        self._mark = Mark(
            self._mark.points + stop - start,
            self._mark.bad + bad,
            self._hash.hexdigest(),
            newest or self._mark.last_id,
        )
        return ("HSET", self.key, self._paths[-1], self._mark.to_json())

    def retreat(self, chunk: Chunk, start: int, stop: int) -> None:
        """Store that only these rows of the latest step are in the stream."""
        mark, self._hash = self._mark_before, self._hash_before
        self._add(chunk, start, stop)
        points = mark.points + stop - start
        self._mark = replace(mark, points=points, digest=self._hash.hexdigest())
        self._store()

    def _store(self) -> None:
        pipeline = self._client.pipeline(transaction=True)  # as for the points
        pipeline.execute_command("HSET", self.key, self._paths[-1], self._mark.to_json())  # type: ignore[no-untyped-call]
        pipeline.execute_command("EXPIRE", self.key, KEEP_SECONDS)  # type: ignore[no-untyped-call]
        try:
            pipeline.execute()
        except redis.ResponseError as error:
            if not any(words in str(error) for words in _NO_RIGHT):
                raise
            self._disable(error)

    def finish(self) -> None:
        """Delete the progress of the files: all points are sent."""
        if not self.enabled or not self._paths:
            return
        try:
            self._client.hdel(self.key, *self._paths)
        except redis.exceptions.NoPermissionError as error:
            self._disable(error)


def drop_first(chunk: Chunk, points: int, bad: int) -> Chunk:
    """Return a chunk without its first points and its first bad rows."""
    if not points and not bad:
        return chunk
    return replace(
        chunk,
        X=chunk.X[points:],
        w=None if chunk.w is None else chunk.w[points:],
        labels={name: texts[points:] for name, texts in chunk.labels.items()},
        times=None if chunk.times is None else chunk.times[points:],
        bad=tuple(replace(row, place=max(row.place - points, 0)) for row in chunk.bad[bad:]),
    )


def last_id(client: redis.Redis, stream: str) -> str:
    """Return the largest ID that a stream has had; "0-0" if it doesn't exist."""
    try:
        info: Any = client.xinfo_stream(stream)
    except redis.ResponseError as error:
        if "no such key" in str(error):
            return BEGINNING
        raise
    found = info["last-generated-id"]
    return found.decode() if isinstance(found, bytes) else str(found)


def _differs(label: str, stream: str) -> DataError:
    return DataError(
        f"{label}: its first points differ from those that an earlier run sent to {stream!r}; "
        "--restart sends the whole file"
    )
