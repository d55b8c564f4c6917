"""The stream `:alerts`: functions for the scripts that write it, and the alerts that it has.

An alert is written in the script that writes the codes of its entry, or in the commit that learns
its entry. So each alert is written once, in the order of the entries. IDs count up (``7-0``), so
the newest ID is the number of all alerts that were ever written.
`streamclust.formats.alerts` describes the fields of the entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.errors import FormatError
from streamclust.formats.alerts import decode_alert
from streamclust.store.stream.info import look

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from streamclust.formats.alerts import Alert
    from streamclust.store.model.keys import Keys

ALERTS = """
local function last_alert(alerts)
  if redis.call('EXISTS', alerts) == 0 then return 0 end
  local newest = named(redis.call('XINFO', 'STREAM', alerts))['last-generated-id']
  return tonumber(string.match(newest, '%d+'))
end
local function write_alerts(alerts, number, last, keep, rows)
  local i = 1
  while i <= #rows do
    local width = tonumber(rows[i + 1])
    if less(last, rows[i]) then
      number = number + 1
      redis.call('XADD', alerts, 'MAXLEN', '=', keep, string.format('%.0f-0', number),
                 unpack(rows, i + 2, i + 1 + width))
    end
    i = i + 2 + width
  end
end
"""
"""Functions for scripts that have `LESS`. `last_alert` returns the number of the newest alert. Call
it before the first write, because it fails if the key has another type. `write_alerts` writes the
rows of `alert_rows` whose entries come after the ID `last`."""

_PAGE = 500


def read_alerts(
    client: redis.Redis, keys: Keys, *, after: int = 0, newest_first: bool = False
) -> Iterator[Alert | FormatError]:
    """Yield the stored alerts, oldest first or newest first; an error for one that can't be read.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    after : int, default=0
        Number of the alert before the first one.
    newest_first : bool, default=False
    """
    first, last = f"{after + 1}-0", "+"
    while True:
        page: Any = (
            client.xrevrange(keys.alerts, last, first, count=_PAGE)
            if newest_first
            else client.xrange(keys.alerts, first, last, count=_PAGE)
        )
        yield from decoded(page, keys)
        if len(page) < _PAGE:
            return
        end = f"({page[-1][0].decode()}"
        first, last = (first, end) if newest_first else (end, last)


def decoded(page: Any, keys: Keys) -> Iterator[Alert | FormatError]:
    """Yield the alerts in entries of `:alerts`; an error for one that can't be read."""
    for alert_id, fields in page:
        try:
            yield decode_alert(alert_id.decode(), fields, f"key {keys.alerts}")
        except FormatError as error:
            yield error


def count_alerts(client: redis.Redis, keys: Keys) -> tuple[int, int]:
    """Return the number of stored alerts, and of all alerts that were ever written."""
    info = look(client, keys.alerts)
    return (0, 0) if info is None else (info.length, int(info.last.partition("-")[0]))
