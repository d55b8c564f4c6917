"""The stream `:alerts`: functions for the scripts that write it.

An alert is written in the script that writes the codes of its entry, or in the commit that learns
its entry. So each alert is written once, in the order of the entries. IDs count up (``7-0``), so
the newest ID is the number of all alerts that were ever written.
`streamclust.formats.alerts` describes the fields of the entries.
"""

from __future__ import annotations

ALERTS = """
local function last_alert(alerts)
  if redis.call('TYPE', alerts).ok == 'none' then return 0 end
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
