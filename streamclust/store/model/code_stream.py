"""The stream `:codes`: the script that writes each entry once, and the newest ID.

`streamclust.formats.codes` describes the fields of the entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import redis

from streamclust.errors import ServerError
from streamclust.store.ids import LESS
from streamclust.store.model.alert_stream import ALERTS
from streamclust.store.reply.packed_codes import alert_rows, as_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.store.reply.raw_entries import Entry

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


_WRITE_BOTH = (
    WRITER
    + ALERTS
    + """
local last, other = last_code(KEYS[1])
if other then return other end
local number = last_alert(KEYS[2])
local written = write(KEYS[1], last, ARGV[1], cmsgpack.unpack(ARGV[2]))
write_alerts(KEYS[2], number, last, ARGV[3], cmsgpack.unpack(ARGV[4]))
return written
"""
)


def codes_call(key: str, entries: Sequence[tuple[bytes, list[bytes]]], keep: int) -> CodesCall:
    """Return the arguments of the EVAL of `write_codes`, for use in a transaction."""
    return (WRITE_CODES, 1, key, keep, as_rows(entries))


class Alerts(NamedTuple):
    """Alerts to write together with the codes of their entries.

    Attributes
    ----------
    key : str
    keep : int
        Number of alerts that the stream keeps.
    entries : sequence of (ID of the point's entry, fields and values)
        In the order of the points; see `formats.alerts`.
    """

    key: str
    keep: int
    entries: Sequence[Entry]


def write_codes(
    client: redis.Redis,
    key: str,
    entries: Sequence[tuple[bytes, list[bytes]]],
    keep: int,
    alerts: Alerts | None = None,
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
    alerts : Alerts, optional
        Alerts of these entries. If the codes of an entry were written before, its alerts are
        skipped.

    Raises
    ------
    ServerError
        If the key has another type.
    """
    call = codes_call(key, entries, keep)
    if alerts is not None and alerts.entries:
        more = alerts.keep, alert_rows(alerts.entries)
        call = (_WRITE_BOTH, 2, key, alerts.key, *call[3:], *more)
    return written_count(client.eval(*call), key)


def written_count(written: Any, key: str) -> int:
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
