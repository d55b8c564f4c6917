"""How many entries of a stream are still to be learned.

Counted from the stream and the committed position. What ``XINFO GROUPS`` calls the lag is not
used: it is null after XDEL, and counts entries that were trimmed away as if they could be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.store.streams import BEGINNING, StreamInfo, look, order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

_COUNTED = 100_000
"""Entries that are counted one by one at most, where the server doesn't know."""

_PAGE = 1_000

_COUNT = """
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
return {#found, #found > 0 and found[#found][1] or ''}
"""


def lag(
    client: redis.Redis,
    streams: Iterable[str],
    position: Mapping[str, str],
    read: Mapping[str, int | None],
) -> int | None:
    """Return the entries that are still to be learned, over all streams; None if not known.

    Parameters
    ----------
    client : redis.Redis
    streams : iterable of str
    position : dict of str to str
        Committed positions; of a stream that has none, all entries are to come.
    read : dict of str to (int or None)
        How many entries each stream ever had up to there, as in a checkpoint.
    """
    lags = [
        _stream_lag(client, stream, position.get(stream, BEGINNING), read.get(stream))
        for stream in streams
    ]
    known = [value for value in lags if value is not None]
    return sum(known) if len(known) == len(lags) else None


def _stream_lag(client: redis.Redis, stream: str, position: str, read: int | None) -> int | None:
    info = look(client, stream)
    if info is None or info.length == 0 or info.last == position:
        return 0
    if order(info.last) < order(position):
        return None  # begun again: what it has is not what comes after the position
    if info.trimmed_past(position):
        return info.length
    told = _told(info, read)
    return _counted(client, stream, position) if told is None else told


def _told(info: StreamInfo, read: int | None) -> int | None:
    """Return the difference of two counts, if no deleted entry is among what they count."""
    if info.deleted or info.added is None or read is None:
        return None
    return info.added - read


def _counted(client: redis.Redis, stream: str, position: str) -> int | None:
    """Count the entries after a position, or give up when they are too many."""
    total: int = 0
    while total < _COUNTED:
        answer: Any = client.eval(_COUNT, 1, stream, position, _PAGE)
        total += answer[0]
        if answer[0] < _PAGE:
            return total
        position = answer[1].decode()
    return None
