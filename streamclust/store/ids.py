"""The IDs of entries, and their order."""

from __future__ import annotations

BEGINNING = "0-0"
"""The position before every entry."""

LESS = """
local function number_less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end
local function less(a, b)
  local ams, aseq = string.match(a, '(%d+)-?(%d*)')
  local bms, bseq = string.match(b, '(%d+)-?(%d*)')
  if ams ~= bms then return number_less(ams, bms) end
  return number_less(aseq, bseq)
end
local function named(reply)
  local fields = {}
  for i = 1, #reply, 2 do fields[reply[i]] = reply[i + 1] end
  return fields
end
"""
"""Functions for scripts. `less` compares two IDs as texts, since Lua's numbers have only 53 bits.
`named` converts a reply of XINFO to a table."""

LARGEST = (1 << 64) - 1
"""Largest value of each of the two numbers of an entry's ID."""


def order(entry_id: str | bytes) -> tuple[int, int]:
    """Return the two numbers of an entry ID, which compare in the order of the server."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


def id_before(entry_id: str) -> str:
    """Return the largest ID below this one. A read after this ID starts at `entry_id`."""
    milliseconds, sequence = order(entry_id)
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{milliseconds - 1}-{LARGEST}" if milliseconds else BEGINNING
