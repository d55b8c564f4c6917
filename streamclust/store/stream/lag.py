"""The lag: the number of entries of a stream that aren't learned yet.

The lag is computed from the stream and the committed position. The lag in ``XINFO GROUPS`` is not
used, because it is null after XDEL, and includes trimmed entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.store.ids import BEGINNING, order
from streamclust.store.stream.info import StreamInfo, look

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

_COUNTED = 100_000
"""Maximum number of entries that are counted one by one where the server has no count."""

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
    """Return the number of entries of all streams that aren't learned yet; None if unknown.

    Parameters
    ----------
    client : redis.Redis
    streams : iterable of str
    position : dict of str to str
        Committed positions. A stream without a position hasn't been read.
    read : dict of str to (int or None)
        Number of entries that each stream ever had up to its position, as in a checkpoint.
    """
    lags = [
        lag_of(
            client, stream, look(client, stream), position.get(stream, BEGINNING), read.get(stream)
        )
        for stream in streams
    ]
    known = [value for value in lags if value is not None]
    return sum(known) if len(known) == len(lags) else None


def lag_of(
    client: redis.Redis, stream: str, info: StreamInfo | None, position: str, read: int | None
) -> int | None:
    """Return the number of entries of one stream that aren't learned yet; None if unknown.

    Parameters
    ----------
    client : redis.Redis
        Used only if the entries must be counted.
    stream : str
    info : StreamInfo or None
        None if the stream doesn't exist.
    position : str
        Committed position.
    read : int or None
        Number of entries that the stream ever had up to `position`.
    """
    if info is None or info.length == 0 or info.last == position:
        return 0
    if order(info.last) < order(position):
        return None  # the stream was deleted and created again
    if info.trimmed_past(position):
        return info.length
    if info.deleted or info.added is None or read is None:  # the difference isn't the lag
        return _counted(client, stream, position)
    return info.added - read


def _counted(client: redis.Redis, stream: str, position: str) -> int | None:
    """Count the entries after a position; return None if there are too many."""
    total: int = 0
    while total < _COUNTED:
        answer: Any = client.eval(_COUNT, 1, stream, position, _PAGE)
        total += answer[0]
        if answer[0] < _PAGE:
            return total
        position = answer[1].decode()
    return None
