"""The commit: state (with position), version and refused points are written together or not at all.

The commit is one Lua script, not MULTI/EXEC under WATCH. The server runs the script as one
transaction too, and the script can check before it writes. All checks come before the first write:
the fencing token, the types of the keys, and that the version and the numbers of the dead letters
are new to their streams (a stream remembers its newest ID after the entry is removed). After these
checks the script can't fail halfway, and the server refuses the whole script when memory is short.
The entries are written first, so that nothing changes if the user has no right to add them. The
lease has already shown that SET is permitted, and an APPEND of an empty text shows that APPEND is
permitted. The proposal of an accepted refit is removed before the entries for the same reason. It
must not be lost if the entries are refused, so an XADD that writes nothing comes before.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamclust.errors import LeaseLostError, ServerError
from streamclust.failpoints import passing
from streamclust.formats.codecs.common import show
from streamclust.formats.dead import MAX_DEAD
from streamclust.formats.state_points import Change
from streamclust.store.ids import BEGINNING, LESS
from streamclust.store.model.alert_stream import ALERTS
from streamclust.store.model.code_stream import WRITE_CODES
from streamclust.store.model.keys import VALUE_BYTES
from streamclust.store.reply.packed_codes import alert_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from streamclust.formats.dead import DeadLetter
    from streamclust.formats.model import Model
    from streamclust.store.model.code_stream import CodesCall
    from streamclust.store.model.keys import Keys
    from streamclust.store.reply.raw_entries import Entry

# `other_streams` are the streams that `write_others` writes.
_BODY = """
local state, models, dead, token, proposal, id, coreset = unpack(KEYS)
local own_token, blob, version, payload, now, keep, note = unpack(ARGV, 1, 7)
local first_dead, keep_dead, refit, model_id = tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11]
local change, old_length, points = unpack(ARGV, 12, 14)

local newest = redis.call('GET', token)
if newest ~= own_token then return 'FENCED ' .. tostring(newest) end
local types = {[state]='string', [models]='stream', [dead]='stream', [proposal]='hash',
               [id]='string', [coreset]='string'}
for key, wanted in pairs(types) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= wanted then return 'TYPE ' .. key .. ' ' .. found end
end
local function is_old(key, number)
  if redis.call('EXISTS', key) == 0 then return false end
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return tonumber(number) <= tonumber(string.match(info[i + 1], '%d+'))
    end
  end
end
if version ~= '0' and is_old(models, version) then return 'STALE ' .. models .. ' ' .. version end
if #ARGV > 14 and is_old(dead, ARGV[8]) then return 'STALE ' .. dead .. ' ' .. ARGV[8] end
local length = redis.call('STRLEN', coreset)
if change ~= 'set' and length ~= tonumber(old_length) then return 'POINTS' end
if change ~= 'set' and old_length ~= '0' then redis.call('APPEND', coreset, '') end  -- permitted?

if refit ~= '' and redis.call('HGET', proposal, 'id') == refit then
  for _, key in ipairs({models, dead, unpack(other_streams)}) do
    -- The server checks rights and memory first. Then it refuses the ID.
    local refusal = redis.pcall('XADD', key, '0-0', 'x', '1').err
    if not string.find(refusal, 'greater than 0-0', 1, true) then return {err=refusal} end
  end
  redis.call('DEL', proposal)
end
write_others()
for i = 15, #ARGV, 5 do
  local number = string.format('%.0f-0', first_dead + (i - 15) / 5)
  redis.call('XADD', dead, 'MAXLEN', '=', keep_dead, number, 'stream', ARGV[i], 'id', ARGV[i + 1],
             'index', ARGV[i + 2], 'reason', ARGV[i + 3], 'data', ARGV[i + 4])
end
if version ~= '0' then
  local entry = {'payload', payload, 'time', now}
  if model_id ~= '0' then
    entry[5], entry[6] = 'model_id', model_id
  end
  redis.call('XADD', models, 'MAXLEN', '=', keep, version .. '-0', unpack(entry))
  if model_id ~= '0' then redis.call('SET', id, model_id) end
end
redis.call('SET', state, blob)
if change == 'append' then
  redis.call('APPEND', coreset, points)
elseif change == 'set' and points ~= '' then
  redis.call('SET', coreset, points)
elseif change == 'set' then
  redis.call('DEL', coreset)
end
if version ~= '0' then redis.call('PUBLISH', models, note) end
return 'OK'
"""

_SCRIPT = f"""
local other_streams, write_others = {{}}, function() end
{_BODY}
"""

# The two scripts become the bodies of functions. The parameters replace the scripts' KEYS and ARGV.
# The last key is that of the alerts, if there are any.
_WITH_CODES = f"""
local function commit(KEYS, ARGV, other_streams, write_others)
{_BODY}
end
local function write(KEYS, ARGV)
{WRITE_CODES}
end
{LESS}
{ALERTS}
local function part(from, first, last)
  local found = {{}}
  for i = first, last do found[#found + 1] = from[i] end
  return found
end
for i = 8, #KEYS do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'none' and found ~= 'stream' then return 'TYPE ' .. KEYS[i] .. ' ' .. found end
end
local keep_alerts, skipped, alerts, stop = ARGV[1], ARGV[2], ARGV[3], 4 + ARGV[4]
local function write_others()
  for i = 8, #KEYS - (alerts == '' and 0 or 1) do
    local first = stop + 2
    stop = stop + 1 + ARGV[stop + 1]
    write({{KEYS[i]}}, part(ARGV, first, stop))
  end
  if alerts ~= '' then
    local key = KEYS[#KEYS]
    local number = last_alert(key) + skipped
    write_alerts(key, number, '{BEGINNING}', keep_alerts, cmsgpack.unpack(alerts))
  end
end
return commit(part(KEYS, 1, 7), part(ARGV, 5, stop), part(KEYS, 8, #KEYS), write_others)
"""


class PointsChangedError(ServerError):
    """Raised when another program has changed or deleted `:coreset`; set the whole value then."""


@dataclass(frozen=True)
class Commit:
    """The data that is written together.

    Parameters
    ----------
    token : int
        Fencing token of the writer.
    state : bytes
        The checkpoint, without its points.
    model : Model or None
        The version to publish.
    payload : bytes
        The bytes of this version.
    dead : sequence of DeadLetter
        Points refused since the last commit. Only the newest are written, up to the kept number.
    first_dead : int
        Number of the first of them.
    refit : str
        ID of the accepted refit, whose proposal is removed.
    model_id : int
        The model ID; see `Keys.id`. 0 writes none.
    codes : sequence of tuple
        Codes to write in the same transaction; see `code_stream.codes_call`.
    points : Change
        How the value of `:coreset` changes.
    alerts : sequence of (ID of the point's entry, fields and values)
        Alerts to write in the same transaction; see `formats.alerts`.
    skipped_alerts : int
        Number of earlier alerts since the last commit that are only counted, because the stream
        would not keep them.
    """

    token: int
    state: bytes
    model: Model | None = None
    payload: bytes = b""
    dead: Sequence[DeadLetter] = ()
    first_dead: int = 1
    refit: str = ""
    model_id: int = 0
    codes: Sequence[CodesCall] = ()
    points: Change = field(default_factory=Change)
    alerts: Sequence[Entry] = ()
    skipped_alerts: int = 0


def commit(
    client: redis.Redis,
    keys: Keys,
    contents: Commit,
    *,
    keep: int = 100,
    keep_dead: int = 10_000,
    keep_alerts: int = 10_000,
) -> None:
    """Write `contents` in one transaction.

    Raises
    ------
    LeaseLostError
        If another worker has a newer token; nothing was written.
    PointsChangedError
        If `:coreset` has another size than the change expects; nothing was written.
    ServerError
        If a key has another type or newer versions than the state, or if the state is larger than
        the maximum size of a value; nothing was written.
    """
    _check_size(contents)
    version = 0 if contents.model is None else contents.model.version
    note = ""
    if contents.model is not None:
        facts = {**contents.model.summary(), "model_id": contents.model_id or None}
        note = json.dumps(facts, sort_keys=True)
    dead = contents.dead[-min(keep_dead, MAX_DEAD) :]
    letters = (
        part
        for letter in dead
        for part in (letter.stream, letter.entry_id, letter.index, letter.reason, letter.data)
    )
    passing("committing")
    answer = _evaluated(
        client,
        keys,
        contents,
        keep_alerts,
        contents.token,
        contents.state,
        version,
        contents.payload,
        int(time.time() * 1000),
        keep,
        note,
        contents.first_dead + len(contents.dead) - len(dead),
        keep_dead,
        contents.refit,
        contents.model_id,
        contents.points.how,
        contents.points.before,
        contents.points.data,
        *letters,
    )
    _check(answer.decode(errors="backslashreplace"))
    passing("landed")


def _evaluated(
    client: redis.Redis, keys: Keys, contents: Commit, keep_alerts: int, *arguments: Any
) -> bytes:
    """Run the script; with codes or alerts, run the script that also writes these."""
    codes, alerts = contents.codes, contents.alerts
    names = (
        *(keys.state, keys.models, keys.dead, keys.token, keys.proposal, keys.id, keys.coreset),
        *(call[2] for call in codes),
        *((keys.alerts,) if alerts else ()),
    )
    if not codes and not alerts:
        alone: Any = client.eval(_SCRIPT, len(names), *names, *arguments)
        return bytes(alone)
    rows = alert_rows(alerts) if alerts else b""
    words = [keep_alerts, contents.skipped_alerts, rows, len(arguments), *arguments]
    for call in codes:
        words += [len(call) - 3, *call[3:]]
    answer: Any = client.eval(_WITH_CODES, len(names), *names, *words)
    return bytes(answer)


def _check(answer: str) -> None:
    verdict, _, detail = answer.partition(" ")
    if verdict == "OK":
        return
    if verdict == "FENCED":
        if detail == "false":  # the token was deleted
            raise LeaseLostError("the model's keys were deleted; wrote nothing")
        newest = detail if detail.isdecimal() else show(detail)
        raise LeaseLostError(f"another worker took the model over (token {newest}); wrote nothing")
    if verdict == "POINTS":
        raise PointsChangedError
    key, _, found = detail.rpartition(" ")
    if verdict == "TYPE":
        raise ServerError(
            f"key {key} holds a {found}, not the type that streamclust stores there; move it"
        )
    raise ServerError(
        f"{key} already had an entry {found}-0, which is newer than the state: was the state "
        "deleted or restored from a backup? Move the key, or restore :state and :coreset of the "
        "same time"
    )


def _check_size(contents: Commit) -> None:
    """Refuse a value for which the server would close the connection at each retry."""
    points = contents.points.before + len(contents.points.data)
    size = max(len(contents.state), len(contents.payload), points)
    if size > VALUE_BYTES:
        raise ServerError(
            f"the model's state has {size >> 20} MB, and one value of the server holds "
            f"{VALUE_BYTES >> 20} MB (proto-max-bulk-len): take fewer clusters or features, or a "
            "smaller init.points"
        )
