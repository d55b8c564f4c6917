"""Reads some of the newest points of a stream repeatedly, with one small read each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.formats.points import decode
from streamclust.store.ids import order
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.stream.info import newest_up_to

if TYPE_CHECKING:
    import redis

    from streamclust.arrays import Array
    from streamclust.formats.layout import Layout

LARGEST_REPLY = 4 << 20
"""Maximum bytes of a read."""

_FIRST = 16
"""Entries of the first read, while the number of points per entry is unknown."""

_MAX_ENTRIES = 2_000

_EMPTY = 16
"""Number of reads without a new entry after which the newest ID is compared."""


@dataclass(frozen=True, eq=False)
class RecentPoints:
    """Points of a stream, oldest first.

    Parameters
    ----------
    ids : list of str
        ID of the entry of each point.
    X : array of shape (N, D)
    skipped : bool
        Whether the stream had further new points, which were left out.
    """

    ids: list[str]
    X: Array
    skipped: bool = False


class RecentReader:
    """Reads the newest points of a stream that were not read before.

    Parameters
    ----------
    client : redis.Redis
        A raw client with a limit of `LARGEST_REPLY`; see `Server.raw_client`.
    stream : str
    """

    def __init__(self, client: redis.Redis, stream: str) -> None:
        self._client = client
        self._stream = stream
        self._last = ""
        self._per_entry = 0.0
        self._empty = 0

    def read(self, layout: Layout, most: int) -> RecentPoints:
        """Return at most `most` new points, without those that can't be read.

        If there are more, the points of the newest entries are returned; of large entries, every
        n-th point.

        Raises
        ------
        ReplyTooLargeError
            If the newest entry is too large.
        """
        wanted = _FIRST if not self._per_entry else most / self._per_entry
        count = int(min(max(wanted, 1), most, _MAX_ENTRIES))
        start = f"({self._last}" if self._last else "-"
        entries = self._read(start, count)
        if not entries:
            self._empty += 1
            if self._last and self._empty % _EMPTY == 0:
                newest = newest_up_to(self._client, self._stream, "+")
                if order(newest) < order(self._last):  # the stream was deleted and starts again
                    self._last = ""
            return RecentPoints([], np.empty((0, layout.n_features)))
        self._empty = 0
        entries.reverse()
        is_first, self._last = not self._last, entries[-1][0].decode()
        decoded = decode(entries, layout)
        n = len(decoded.X)
        unknown, self._per_entry = not self._per_entry, max(n / len(entries), 1.0)
        if is_first and unknown and len(entries) == count and n < most:
            self._last = ""
            return self.read(layout, most)  # now with the right number of entries
        names = np.repeat(np.arange(len(entries)), decoded.counts)
        rows = np.unique(np.linspace(0, max(n - 1, 0), min(n, most)).round().astype(np.intp))
        ids = [entries[int(names[row])][0].decode() for row in rows]
        X = np.asarray(decoded.X[rows], np.float64)
        return RecentPoints(ids, X, len(entries) == count or n > most)

    def _read(self, start: str, count: int) -> list[tuple[bytes, list[bytes]]]:
        """Return the newest entries, newest first; fewer if they are large."""
        while True:
            try:
                found: Any = self._client.xrevrange(self._stream, "+", start, count=count)
                return [(entry_id, flat) for entry_id, flat in found if flat is not None]
            except ReplyTooLargeError:
                if count == 1:
                    raise
                count = max(1, count // 8)
