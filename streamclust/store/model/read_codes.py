"""Reads the codes of a model: the newest ones, those after an ID, and new ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import redis

from streamclust.errors import FormatError
from streamclust.formats.codes import CodedEntry, decode_fields
from streamclust.store.ids import BEGINNING, id_before, order
from streamclust.store.stream.info import newest_up_to, next_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streamclust.store.model.keys import Keys

_READ_BYTES = 4 << 20
"""Approximate bytes per read."""

_MOST = 1000
"""Maximum entries per read."""

StoredCodes = tuple[str, str, CodedEntry | FormatError]
"""Key, ID of the entry, and its codes, or the reason why they can't be read."""


def code_keys(client: redis.Redis, keys: Keys, streams: Sequence[str]) -> list[str]:
    """Return the keys that exist and have codes of a model.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    streams : sequence of str
        The streams that the settings name. If there are none, all keys of the server are searched.
    """
    wanted = [keys.codes(), *(keys.codes(stream) for stream in streams)]
    found = [key for key in wanted if client.exists(key)]
    if found or streams:
        return found
    escaped = re.sub(r"([*?\[\]\\^])", r"\\\1", keys.codes())
    names = client.scan_iter(match=f"{escaped}:*", count=1000)
    return sorted(name.decode(errors="surrogateescape") for name in names)


def newest_codes(client: redis.Redis, key: str, points: int, end: str = "+") -> list[StoredCodes]:
    """Return the newest entries up to `end` that have so many points together, oldest first."""
    entries: list[StoredCodes] = []
    missing = points
    while missing > 0:
        entry_id = newest_up_to(client, key, end)
        if entry_id == BEGINNING:
            break
        _, size = next_size(client, key, id_before(entry_id))
        count = max(1, min(missing, _MOST, _READ_BYTES // max(size, 1)))
        found: Any = client.xrevrange(key, entry_id, "-", count=count)
        for each, fields in found:
            entries.append(_coded(key, each, fields))
            missing -= n_points(entries[-1])
            end = id_before(each.decode())
    entries.reverse()
    return entries


def codes_after(
    client: redis.Redis, position: Mapping[str, str], block_ms: int | None
) -> Iterator[list[StoredCodes]]:
    """Yield the entries after a position in the order of the streams; then wait for new ones.

    An empty list means that no entry came within `block_ms`. Without `block_ms` the iteration ends
    when all entries were read.

    Parameters
    ----------
    client : redis.Redis
    position : mapping of str to str
        Key -> ID after which to read.
    block_ms : int or None
    """
    position, size = dict(position), _READ_BYTES // 16
    while True:
        count = max(1, min(_MOST, _READ_BYTES // max(size, 1) // max(len(position), 1)))
        reply: Any = client.xread(position, count=count, block=block_ms)  # type: ignore[arg-type]
        found = []
        for name, entries in reply or ():
            key = name.decode(errors="surrogateescape")
            found += [_coded(key, entry_id, fields) for entry_id, fields in entries]
            position[key] = entries[-1][0].decode()
            size = sum(map(len, entries[-1][1].values()))
        if not found and block_ms is None:
            return
        found.sort(key=lambda each: order(each[1]))
        yield found


def n_points(coded: StoredCodes) -> int:
    """Return the number of points of an entry; 1 if it can't be read."""
    return 1 if isinstance(coded[2], FormatError) else len(coded[2].code)


def _coded(key: str, entry_id: bytes, fields: dict[bytes, bytes]) -> StoredCodes:
    text = entry_id.decode()
    try:
        return key, text, decode_fields(text, fields, f"key {key}")
    except FormatError as error:
        return key, text, error
