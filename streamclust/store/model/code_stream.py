"""The stream `:codes`: the script that writes each entry once, and the newest ID.

`codes` describes the fields of the entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import redis

from streamclust.errors import ServerError
from streamclust.store.ids import LESS
from streamclust.store.reply.packed_codes import as_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

CodesCall: TypeAlias = tuple[Any, ...]
"""Arguments of an EVAL that writes codes."""

# The IDs rise, so all entries after a new one are new too.
WRITER = (
    LESS
    + """
local function last_code(codes)
  local found = redis.call('TYPE', codes).ok
  if found == 'none' then return '0-0' end
  if found ~= 'stream' then return nil, found end
  return named(redis.call('XINFO', 'STREAM', codes))['last-generated-id']
end
local function first_id(rows) return rows[4 + tonumber(rows[2])] end
local function write(codes, last, keep, rows)
  local written, is_new, ids, i = 0, false, {}, 1
  while i <= #rows do
    local entries, width, row = tonumber(rows[i]), tonumber(rows[i + 1]), {}
    for field = 1, width do row[2 * field] = rows[i + 1 + field] end
    i = i + 3 + width
    local last_place = 2 * width + 1
    if rows[i - 1] ~= '0' then
      row[last_place + 1], row[last_place + 2] = 'model_id', rows[i - 1]
      last_place = last_place + 2
    end
    for _ = 1, entries do
      row[1] = rows[i]
      for field = 1, width do row[2 * field + 1] = rows[i + field] end
      i = i + 1 + width
      ids[#ids + 1] = row[1]
      is_new = is_new or less(last, row[1])
      if is_new and width > 0 then
        written = written + 1
        if i <= #rows then
          redis.call('XADD', codes, unpack(row, 1, last_place))
        else
          redis.call('XADD', codes, 'MAXLEN', '~', keep, unpack(row, 1, last_place))
        end
      end
    end
  end
  return written, ids
end
"""
)
"""Functions for scripts. `last_code` returns the newest ID ever written to `:codes`, or nil and the
key's type if the key isn't a stream. `write` writes the rows of `as_rows`; the last row trims the
stream."""

WRITE_CODES = (
    WRITER
    + """
local last, other = last_code(KEYS[1])
if other then return other end
local written = write(KEYS[1], last, ARGV[1], cmsgpack.unpack(ARGV[2]))
return written
"""
)


def codes_call(key: str, entries: Sequence[tuple[bytes, list[bytes]]], keep: int) -> CodesCall:
    """Return the arguments of the EVAL of `write_codes`, for use in a transaction."""
    return (WRITE_CODES, 1, key, keep, as_rows(entries))


def write_codes(
    client: redis.Redis, key: str, entries: Sequence[tuple[bytes, list[bytes]]], keep: int
) -> int:
    """Write entries under their IDs in one step; return how many were new.

    Parameters
    ----------
    client : redis.Redis
    key : str
    entries : sequence of (ID, fields and values)
        The IDs rise. Entries up to the newest ID ever in the stream are skipped, because they were
        written before. Entries without fields are skipped too.
    keep : int
        Approximate number of entries that the stream keeps.

    Raises
    ------
    ServerError
        If the key has another type.
    """
    return how_many(client.eval(*codes_call(key, entries, keep)), key)


def how_many(written: Any, key: str) -> int:
    """Return how many entries a script wrote to a key.

    Raises
    ------
    ServerError
        If the key has another type.
    """
    if isinstance(written, bytes):
        raise ServerError(f"key {key} holds a {written.decode()}, expected a stream; move it")
    return int(written)


def last_code(client: redis.Redis, key: str) -> str:
    """Return the ID of the newest codes ever written, ``0-0`` before the first."""
    try:
        info: Any = client.xinfo_stream(key)
    except redis.ResponseError as error:
        if "no such key" not in str(error):
            raise
        return "0-0"
    last: bytes = info["last-generated-id"]
    return last.decode()
