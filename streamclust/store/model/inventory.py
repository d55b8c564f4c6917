"""All keys of a model on the server: their types, lengths and bytes, and who works on the model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from streamclust.errors import FormatError, StreamclustError
from streamclust.formats.checkpoint import decode_streams
from streamclust.store.model.health import read_health
from streamclust.store.model.keys import is_own, raw_key
from streamclust.store.stream.read_size import read_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamclust.store.model.keys import Keys

# MEMORY USAGE may be forbidden to the user; then the size is -1.
_SIZES = """
local found = {}
for i, key in ipairs(KEYS) do
  local kind, length = redis.call('TYPE', key).ok, 1
  if kind == 'stream' then length = redis.call('XLEN', key) end
  local bytes = redis.pcall('MEMORY', 'USAGE', key)
  if type(bytes) ~= 'number' then bytes = kind == 'none' and 0 or -1 end
  found[i] = {key, kind, length, bytes}
end
return found
"""

_ACTIVE_MS = 60_000
"""An encoder that read or wrote within this time counts as active."""


@dataclass(frozen=True)
class StoredKey:
    """A key of a model.

    Parameters
    ----------
    key : bytes
    kind : str
        Type of the key.
    length : int
        Number of entries of a stream; 1 for other types.
    size : int or None
        Approximate bytes in the server's memory; None if unknown.
    """

    key: bytes
    kind: str
    length: int
    size: int | None


@dataclass(frozen=True)
class Inventory:
    """Everything that the server stores of a model, outside of the points' streams.

    Parameters
    ----------
    keys : tuple of StoredKey
    groups : tuple of (bytes, str)
        Stream and name of each consumer group of the model.
    worker : str
        The worker that holds the lease; empty if there is none.
    encoders : int
        Encoders that were active in the last minute.
    is_refitting : bool
        Whether a refit is running.
    """

    keys: tuple[StoredKey, ...]
    groups: tuple[tuple[bytes, str], ...]
    worker: str
    encoders: int
    is_refitting: bool

    def length(self, key: str) -> int:
        """Return the number of entries of a key; 0 if it doesn't exist."""
        return next((each.length for each in self.keys if each.key == raw_key(key)), 0)

    @property
    def users(self) -> list[str]:
        """A text for each process that works on the model."""
        found = [f"a worker holds its lease ({self.worker})"] if self.worker else []
        if self.encoders:
            found.append(f"encoders write its codes ({self.encoders} active)")
        return [*found, *(["a refit of it is running"] if self.is_refitting else [])]


def take_inventory(client: redis.Redis, keys: Keys, streams: Iterable[str] = ()) -> Inventory:
    """Return what the server stores of a model.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    streams : iterable of str
        Streams of points that the settings name. The streams in the model's state are added.
    """
    names: list[Any] = [*keys.fixed, *_code_keys(client, keys)]
    sizes: Any = client.eval(_SIZES, len(names), *names)
    stored = tuple(
        StoredKey(key, kind.decode(), length, None if size < 0 else size)
        for key, kind, length, size in sizes
        if kind != b"none"
    )
    kinds = {each.key.decode(errors="surrogateescape"): each.kind for each in stored}
    groups, encoders = [], 0
    for stream in sorted({*streams, *_learned_streams(client, keys)}):
        for name, active in _groups(client, keys, stream):
            groups.append((raw_key(stream), name))
            encoders += active
    return Inventory(
        stored,
        tuple(groups),
        _worker(client, keys) if keys.lease in kinds else "",
        encoders,
        keys.refitting in kinds,
    )


def _code_keys(client: redis.Redis, keys: Keys) -> list[bytes]:
    """Return the keys of codes of several streams; their names are not known otherwise."""
    pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", keys.codes()) + ":*"
    found = client.scan_iter(match=pattern, count=1000)
    own = (key for key in found if is_own(key.decode(errors="surrogateescape"), keys.namespace))
    return sorted(set(own))


def _learned_streams(client: redis.Redis, keys: Keys) -> list[str]:
    """Return the streams in the model's state; none if the state can't be read."""
    try:
        data: Any = read_value(client, keys.state, lambda: client.get(keys.state))
        return [] if data is None else decode_streams(data, f"key {keys.state}")
    except (FormatError, redis.ResponseError):
        return []


def _groups(client: redis.Redis, keys: Keys, stream: str) -> list[tuple[str, int]]:
    """Return the model's groups of a stream, and the number of active members of each."""
    found = []
    try:
        existing = {
            group["name"].decode(errors="surrogateescape") for group in client.xinfo_groups(stream)
        }
        for name in sorted({keys.group, keys.encoders} & existing):
            members: Any = client.xinfo_consumers(stream, name)
            found.append((name, sum(member["idle"] < _ACTIVE_MS for member in members)))
    except redis.ResponseError:
        pass  # no such stream, or a key of another type
    return found


def _worker(client: redis.Redis, keys: Keys) -> str:
    try:
        health = read_health(client, keys)
    except (StreamclustError, redis.ResponseError):
        health = None
    return "unknown process" if health is None else f"process {health.pid} on {health.host}"
