"""Reads the keys of many models in one round trip; of large values, only the headers.

A script returns the report of the worker, the header of the state, the header of the newest version
and the numbers of refused points and of alerts. So neither coresets nor centroids are sent. A user
without the right to run this script reads the models one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from streamclust.store.ids import LESS
from streamclust.store.model.attempts import is_forbidden, raised
from streamclust.store.model.versions import newest_entry
from streamclust.store.reply.limits import ReplyLostError
from streamclust.store.server.round_trip import round_trip
from streamclust.store.server.wrong_type import is_wrong_type, with_key
from streamclust.store.stream.read_size import read_value, read_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamclust.store.model.keys import Keys

_PER_SCRIPT = 16
"""Maximum number of models per call of the script: other clients wait while it runs."""

_HEAD = 8192
"""A value of up to this many bytes is read whole; of a longer one, only the header."""

_SCRIPT = (
    LESS
    + """
local head = tonumber(ARGV[1])
local function header(first)
  return #first < 8 and 8 or 8 + struct.unpack('<I8', first)
end
local function look(keys)
  local health = redis.pcall('GET', keys[1])
  local state, size = redis.pcall('GETRANGE', keys[2], 0, head - 1), 0
  if type(state) == 'string' then
    size = redis.call('STRLEN', keys[2])
    local stop = math.min(header(state), size)
    if stop > head then state = redis.call('GETRANGE', keys[2], 0, stop - 1) end
    if size == 0 and redis.call('EXISTS', keys[2]) == 0 then state = false end
  end
  local newest, version = redis.pcall('XREVRANGE', keys[3], '+', '-', 'COUNT', 1), {}
  if newest.err then
    version = newest
  elseif newest[1] then
    local fields = named(newest[1][2])
    local payload, mass = fields['payload'] or '', ''
    local length = #payload
    if length > head then
      local stop = math.min(header(payload), length)
      payload = string.sub(payload, 1, stop)
      local first, last = string.match(payload, '"mass":{[^}]-"data_offsets":%[(%d+),(%d+)%]')
      if first then mass = string.sub(fields['payload'], stop + first + 1, stop + last) end
    end
    local more = {fields['time'] or '', fields['model_id'] or false}
    version = {newest[1][1], payload, length, mass, unpack(more)}
  end
  local function newest_id(key)
    local entries = redis.pcall('XREVRANGE', key, '+', '-', 'COUNT', 1)
    return entries.err and entries or entries[1] and entries[1][1] or ''
  end
  local pause = redis.pcall('GET', keys[6])
  return {health, state, size, version, newest_id(keys[4]), newest_id(keys[5]), pause}
end
local found = {}
for i = 1, #KEYS, 6 do table.insert(found, look({unpack(KEYS, i, i + 5)})) end
return found
"""
)


class StoredValues(NamedTuple):
    """The values of a model's keys; in place of a value that can't be read, the error.

    Attributes
    ----------
    health : bytes, None or Exception
    state : bytes, None or Exception
        At least the header of the state.
    state_bytes : int
        Size of the whole state.
    version : list or Exception
        Empty, or: ID, payload or its header, length of the whole payload, the array `mass` if
        only the header was read, time, model ID.
    dead : bytes or Exception
        ID of the newest dead letter; empty if there is none.
    alerts : bytes or Exception
        ID of the newest alert; empty if there is none.
    pause : bytes, None or Exception
    """

    health: Any
    state: Any
    state_bytes: int
    version: Any
    dead: Any
    alerts: Any
    pause: Any


class ValueReader:
    """Reads the values of models, and remembers whether the user may run the script.

    Parameters
    ----------
    client : redis.Redis
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._may_run_script = True
        self._per_script = _PER_SCRIPT

    def read(self, models: Sequence[Keys]) -> list[StoredValues]:
        """Return the values of each model."""
        if self._may_run_script:
            try:
                return self._together(models)
            except redis.ResponseError as error:
                if not is_forbidden(error):
                    raise
                self._may_run_script = False
        return [self._one_by_one(keys) for keys in models]

    def _together(self, models: Sequence[Keys]) -> list[StoredValues]:
        groups = [models[n : n + self._per_script] for n in range(0, len(models), self._per_script)]
        commands = [(group[0].state, _look_command(group)) for group in groups]
        try:
            replies = read_whole(self._client, lambda: round_trip(self._client, commands))
        except ReplyLostError:  # the replies are larger than a limit of the server
            if len(models) == 1:
                return [self._one_by_one(models[0])]
            half = len(models) // 2
            return [*self._together(models[:half]), *self._together(models[half:])]
        errors = [str(reply) for reply in replies if isinstance(reply, redis.ResponseError)]
        if self._per_script > 1 and any("same slot" in error for error in errors):
            self._per_script = 1  # in a cluster, a script has keys of one slot
            return self._together(models)
        found = []
        for group, reply in zip(groups, replies, strict=True):
            for keys, values in zip(group, raised(reply), strict=True):
                for value in values:
                    if isinstance(value, redis.RedisError) and is_forbidden(value):
                        raise value
                streams = keys.models, keys.dead, keys.alerts
                named = (keys.health, keys.state, "", *streams, keys.paused)
                found.append(StoredValues(*map(self._with_key, values, named)))
        return found

    def _with_key(self, value: Any, key: str) -> Any:
        """Return a value, or the error of a script with the name of the key."""
        return with_key(value, ("GET", key), self._client.type) if is_wrong_type(value) else value

    def _one_by_one(self, keys: Keys) -> StoredValues:
        """Read the values of one model with plain commands."""
        client = self._client

        def version() -> list[Any]:
            for entry_id, fields in newest_entry(client, keys):
                payload = fields.get(b"payload", b"")
                more = fields.get(b"time", b""), fields.get(b"model_id")
                return [entry_id, payload, len(payload), b"", *more]
            return []

        def newest_id(key: str) -> bytes:
            newest: Any = client.xrevrange(key, count=1)
            return newest[0][0] if newest else b""

        state = _value(lambda: read_value(client, keys.state, lambda: client.get(keys.state)))
        return StoredValues(
            _value(lambda: client.get(keys.health)),
            state,
            len(state) if isinstance(state, bytes) else 0,
            _value(version),
            _value(lambda: newest_id(keys.dead)),
            _value(lambda: newest_id(keys.alerts)),
            _value(lambda: client.get(keys.paused)),
        )


def _look_command(models: Sequence[Keys]) -> tuple[Any, ...]:
    keys = [
        key
        for each in models
        for key in (each.health, each.state, each.models, each.dead, each.alerts, each.paused)
    ]
    return ("EVAL", _SCRIPT, len(keys), *keys, _HEAD)


def _value(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except redis.RedisError as error:
        return error
