"""Reads the overviews of models: many in one round trip, and of each model only what is shown.

A script returns the report of the worker, the header of the state, the header of the newest version
and the number of refused points. So neither coresets nor centroids are sent. A second round trip
asks about the streams. A user without the right to run this script reads the models one by one.

A key that can't be read becomes a line of the overview, so that the other figures are still shown.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import redis

from streamclust.errors import NotPermittedError, StreamclustError, UnknownModelError
from streamclust.formats.checkpoint import Covered, decode_covered
from streamclust.formats.lost import Lost
from streamclust.store.ids import BEGINNING, LESS
from streamclust.store.model.health import decode_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.overview import Overview
from streamclust.store.model.versions import decode_entry_head, model_names, newest_entry
from streamclust.store.reply.limits import ReplyLostError
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes
from streamclust.store.server.round_trip import round_trip
from streamclust.store.server.wrong_type import is_wrong_type, with_key
from streamclust.store.stream.info import NO_ENTRY, StreamInfo, probe_command, probed
from streamclust.store.stream.lag import lag_of
from streamclust.store.stream.names import is_missing
from streamclust.store.stream.read_size import read_value, read_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from streamclust.formats.model_head import ModelHead
    from streamclust.store.model.health import Health

T = TypeVar("T")

TOGETHER = 128
"""Maximum number of models per round trip."""

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
  local dead = redis.pcall('XREVRANGE', keys[4], '+', '-', 'COUNT', 1)
  if not dead.err then dead = dead[1] and dead[1][1] or '' end
  return {health, state, size, version, dead}
end
local found = {}
for i = 1, #KEYS, 4 do table.insert(found, look({unpack(KEYS, i, i + 3)})) end
return found
"""
)


class _Stored(NamedTuple):
    """What the keys of a model hold; in place of a value that can't be read, the error.

    Attributes
    ----------
    health : bytes, None or Exception
    state : bytes, None or Exception
        At least the header of the state.
    state_bytes : int
        Of the whole state.
    version : list or Exception
        Empty, or: ID, payload or its header, its whole length, the array `mass` if only the header
        is there, time, model ID.
    dead : bytes or Exception
        ID of the newest dead letter; empty if there is none.
    """

    health: Any
    state: Any
    state_bytes: int
    version: Any
    dead: Any


class _Unfinished(NamedTuple):
    """The overview of a model, without its streams."""

    keys: Keys
    health: Health | None
    model: ModelHead | None
    covered: Covered | None
    gathered: int | None
    dead: int | None
    troubles: list[str]


def read_overviews(
    client: redis.Redis,
    namespace: str,
    configured: Mapping[str, Sequence[str]],
    names: Iterable[str] | None = None,
    warm_ups: Mapping[str, int] | None = None,
) -> Iterator[Overview]:
    """Yield the overviews of some models, in the order of the names.

    Parameters
    ----------
    client : redis.Redis
    namespace : str
    configured : mapping of str to sequence of str
        The streams of each model in the settings.
    names : iterable of str, optional
        Models to read. Default: all that are configured or exist in the namespace.
    warm_ups : mapping of str to int, optional
        The points of the warm-up of each model in the settings.

    Raises
    ------
    UnknownModelError
        If a model is neither configured nor on the server.
    redis.RedisError
        If the server can't be used.
    """
    if names is None:
        names = sorted({*configured, *model_names(client, namespace)})
    reader, rest = _Reader(client, namespace, configured, warm_ups or {}), iter(names)
    while chunk := list(islice(rest, TOGETHER)):
        yield from reader.read(chunk)


class _Reader:
    """Reads overviews, and remembers whether the user may run the script."""

    def __init__(
        self,
        client: redis.Redis,
        namespace: str,
        configured: Mapping[str, Sequence[str]],
        warm_ups: Mapping[str, int],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._configured = configured
        self._warm_ups = warm_ups
        self._may_run_script = True
        self._per_script = _PER_SCRIPT

    def read(self, names: Sequence[str]) -> Iterator[Overview]:
        """Yield the overviews of models, which are read in two round trips."""
        models = [Keys(self._namespace, name) for name in names]
        pairs = zip(models, self._stored(models), strict=True)
        found = [self._decoded(keys, stored) for keys, stored in pairs]
        streams = sorted({stream for each in found for stream in self._streams(each)})
        answers = round_trip(
            self._client, [(stream, probe_command(stream, NO_ENTRY)) for stream in streams]
        )
        infos = dict(zip(streams, answers, strict=True))
        for each in found:
            yield self._finished(each, infos)

    def _stored(self, models: Sequence[Keys]) -> list[_Stored]:
        if self._may_run_script:
            try:
                return self._stored_together(models)
            except redis.ResponseError as error:
                if not _is_forbidden(error):
                    raise
                self._may_run_script = False
        return [self._stored_of(keys) for keys in models]

    def _stored_together(self, models: Sequence[Keys]) -> list[_Stored]:
        groups = [models[n : n + self._per_script] for n in range(0, len(models), self._per_script)]
        commands = [(group[0].state, _look_command(group)) for group in groups]
        try:
            replies = read_whole(self._client, lambda: round_trip(self._client, commands))
        except ReplyLostError:  # the replies are larger than a limit of the server
            if len(models) == 1:
                return [self._stored_of(models[0])]
            half = len(models) // 2
            return [*self._stored_together(models[:half]), *self._stored_together(models[half:])]
        if self._per_script > 1 and any(map(_is_of_several_slots, replies)):
            self._per_script = 1  # in a cluster, a script has keys of one slot
            return self._stored_together(models)
        found = []
        for group, reply in zip(groups, replies, strict=True):
            for keys, values in zip(group, _raised(reply), strict=True):
                for value in values:
                    if isinstance(value, redis.RedisError) and _is_forbidden(value):
                        raise value
                named = (keys.health, keys.state, "", keys.models, keys.dead)
                found.append(_Stored(*map(self._with_key, values, named)))
        return found

    def _with_key(self, value: Any, key: str) -> Any:
        """Return a value, or the error of a script with the name of the key."""
        return with_key(value, ("GET", key), self._client.type) if is_wrong_type(value) else value

    def _stored_of(self, keys: Keys) -> _Stored:
        """Read the values of one model with plain commands."""
        client = self._client

        def version() -> list[Any]:
            for entry_id, fields in newest_entry(client, keys):
                payload = fields.get(b"payload", b"")
                more = fields.get(b"time", b""), fields.get(b"model_id")
                return [entry_id, payload, len(payload), b"", *more]
            return []

        def dead() -> bytes:
            newest: Any = client.xrevrange(keys.dead, count=1)
            return newest[0][0] if newest else b""

        state = _value(lambda: read_value(client, keys.state, lambda: client.get(keys.state)))
        return _Stored(
            _value(lambda: client.get(keys.health)),
            state,
            len(state) if isinstance(state, bytes) else 0,
            _value(version),
            _value(dead),
        )

    def _decoded(self, keys: Keys, stored: _Stored) -> _Unfinished:
        troubles: list[str] = []

        def covered() -> tuple[Covered, int | None]:
            state = _raised(stored.state)
            if state is None:
                return Covered(), None
            return decode_covered(state, f"key {keys.state}", stored.state_bytes)

        def health() -> Health | None:
            data = _raised(stored.health)
            return None if data is None else decode_health(data, keys.health)

        def model() -> ModelHead | None:
            if not _raised(stored.version):
                return None
            entry_id, payload, length, mass, published, model_id = stored.version
            fields = {b"payload": payload, b"time": published}
            fields |= {} if model_id is None else {b"model_id": model_id}
            return decode_entry_head(entry_id, fields, length, mass, keys)

        def dead() -> int:
            return int(_raised(stored.dead).partition(b"-")[0] or 0)

        report = _attempt(health, keys.health, troubles)
        version = _attempt(model, keys.models, troubles)
        state, gathered = _attempt(covered, keys.state, troubles) or (None, None)
        refused = _attempt(dead, keys.dead, troubles)
        unfinished = _Unfinished(keys, report, version, state, gathered, refused, troubles)
        self._refuse_unknown(unfinished, stored)
        return unfinished

    def _refuse_unknown(self, found: _Unfinished, stored: _Stored) -> None:
        """Raise an error for a model that neither the settings nor the server have."""
        keys = found.keys
        if "\\x" in keys.model:
            found.troubles.append("the name isn't UTF-8, so its keys can't be read")
        elif not (
            keys.model in self._configured
            or stored.health is not None
            or stored.state is not None
            or stored.version
            or keys.model in model_names(self._client, keys.namespace, keys.model)
        ):
            raise UnknownModelError(
                f"model {keys.model!r} doesn't exist in namespace {keys.namespace!r}", keys.model
            )

    def _streams(self, found: _Unfinished) -> tuple[str, ...]:
        if found.covered is None:
            return ()
        return tuple(found.covered.position) or tuple(self._configured.get(found.keys.model, ()))

    def _finished(self, found: _Unfinished, infos: Mapping[str, Any]) -> Overview:
        """Return the overview, with what the server answered about the streams."""
        streams, troubles, name = self._streams(found), found.troubles, found.keys.model
        covered = found.covered or Covered()

        def info(stream: str) -> StreamInfo | None:
            answer = probed(_raised(infos[stream]))
            return answer if isinstance(answer, StreamInfo) else None

        def lag() -> int | None:
            lags = [
                lag_of(
                    self._client,
                    stream,
                    info(stream),
                    covered.position.get(stream, BEGINNING),
                    covered.read.get(stream),
                )
                for stream in streams
            ]
            return None if None in lags else sum(filter(None, lags))

        behind = _attempt(lag, ", ".join(streams), troubles) if streams else None
        missing = {
            stream: covered.position.get(stream, BEGINNING) != BEGINNING
            for stream in (streams if behind == 0 else ())
            if is_missing(info(stream))
        }
        return Overview(
            name,
            found.model,
            found.health,
            behind,
            None if found.covered is None else sum(covered.lost.values(), Lost()),
            found.dead,
            tuple(troubles),
            missing,
            _warm_up(found.health, found.gathered, self._warm_ups.get(name, 0)),
        )


def _look_command(models: Sequence[Keys]) -> tuple[Any, ...]:
    keys = [key for each in models for key in (each.health, each.state, each.models, each.dead)]
    return ("EVAL", _SCRIPT, len(keys), *keys, _HEAD)


def _warm_up(health: Health | None, gathered: int | None, wanted: int) -> tuple[int, int] | None:
    """Return the points of an unfinished warm-up, and the number that ends it; None after it."""
    if health is not None and health.alive:
        return (health.gathered, health.warm_up) if health.phase == "warming" else None
    return None if gathered is None else (gathered, wanted)


def read_healths(
    client: redis.Redis, namespace: str, names: Iterable[str]
) -> Iterator[tuple[str, Health | None, str]]:
    """Yield the name, the report of the live worker, and why it can't be read, of each model."""
    rest = iter(names)
    while chunk := list(islice(rest, TOGETHER)):
        keys = [Keys(namespace, name).health for name in chunk]
        replies = round_trip(client, [(key, ("GET", key)) for key in keys])
        for name, key, reply in zip(chunk, keys, replies, strict=True):
            troubles: list[str] = []

            def decode(reply: Any = reply, key: str = key) -> Health | None:
                data = _raised(reply)
                return None if data is None else decode_health(data, key)

            yield name, _attempt(decode, key, troubles), "".join(troubles)


def _attempt(read: Callable[[], T], key: str, troubles: list[str]) -> T | None:
    """Return the result of `read`, or None after the reason is added to `troubles`.

    A fault of the server, or of the user's rights, is raised: it concerns more than this key.
    """
    try:
        return read()
    except StreamclustError as error:
        troubles.append(str(error))
    except redis.RedisError as error:
        if passes(error) or _is_forbidden(error):
            raise
        reason = str(error).removeprefix("WRONGTYPE ")
        troubles.append(reason if key in reason else f"key {key} can't be read: {reason}")
    except Exception as error:
        troubles.append(f"key {key} can't be decoded: {error!r}")
    return None


def _is_of_several_slots(reply: Any) -> bool:
    return isinstance(reply, redis.ResponseError) and "same slot" in str(reply)


def _is_forbidden(error: redis.RedisError) -> bool:
    return isinstance(translated(error, ""), NotPermittedError)


def _value(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except redis.RedisError as error:
        return error


def _raised(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value
