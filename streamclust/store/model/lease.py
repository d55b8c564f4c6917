"""The lease: one writer per model, and a fencing token that stops a paused writer."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import redis

from streamclust.errors import ServerError
from streamclust.formats.codecs.common import show
from streamclust.store.model.workers import is_live
from streamclust.store.server.cluster import ClusterClient
from streamclust.store.server.round_trip import round_trip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.store.model.keys import Keys

# If another program wrote one of these keys, the script returns the key and its value. If another
# worker holds the lease, it returns the lease's value. Lua's numbers represent a token of 15 digits
# exactly. ARGV[4] is the value of a lease that may be taken before it expires.
_TAKE = """
for i = 1, 2 do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'none' and found ~= 'string' then return {KEYS[i], '', found} end
end
local held, token = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if held and not string.match(held, '^%d+:.+$') then return {KEYS[1], held} end
if token and not string.match(token, '^%d+$') or #(token or '') > 15 then
  return {KEYS[2], token}
end
if held and held ~= ARGV[4] then
  local owner = string.match(held, ':(.*)$')
  if owner ~= ARGV[1] and owner ~= ARGV[1] .. ':asleep' then return held end
end
token = string.format('%.0f', redis.call('INCRBY', KEYS[2], ARGV[3]))
redis.call('SET', KEYS[1], token .. ':' .. ARGV[1], 'PX', ARGV[2])
return tonumber(token)
"""

_RENEW = """
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[2] .. ':' .. ARGV[1], 'PX', ARGV[3])
if ARGV[4] ~= '' then redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5]) end
return 1 + redis.call('EXISTS', KEYS[4])
"""

RENEWED_PAUSED = 2
"""Reply to a renewal of the lease of a model that a user has paused."""

_DROP = """
if ARGV[3] == '' and redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[3]) end
local held, own = redis.call('GET', KEYS[1]), ARGV[2] .. ':' .. ARGV[1]
if held ~= own and held ~= own .. ':asleep' then return 0 end
return redis.call('DEL', KEYS[1])
"""

# TYPE comes first, because another program may have written the key of the lease.
_REPORT = """
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  local owner = string.match(redis.call('GET', KEYS[1]), ':(.*)$')
  if owner ~= ARGV[1] and owner ~= ARGV[1] .. ':asleep' then return 0 end
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
"""

_ASLEEP = ":asleep"

ASLEEP_SECONDS = 900.0
"""Minimum lifetime of the lease and the report of a model that sleeps."""

_LARGEST_STEP = 1 << 24
"""Tokens grow by random steps, so that a server that lost the newest tokens (by a failover, or a
restart without persistence) doesn't issue the same token twice."""


class Lease:
    """The right to write one model, for `seconds` after each renewal.

    The key with its time to live decides which worker *may take* the model. The token, which only
    increases, decides which worker *may write*: the commit compares it. So a worker that was paused
    longer than its lease can't overwrite anything, whatever its clock shows.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    seconds : float
    owner : str, optional
        Unique name of the owner. A worker with the same name can take its own lease again.
    """

    def __init__(self, client: redis.Redis, keys: Keys, seconds: float, owner: str = "") -> None:
        self._client = client
        self._keys = keys
        self._ttl_ms = int(seconds * 1000)
        self._owner = owner or secrets.token_hex(8)
        self.token = 0

    @property
    def owner(self) -> str:
        """Name of the owner."""
        return self._owner

    @property
    def key(self) -> str:
        """The key of the lease."""
        return self._keys.lease

    def take(self) -> bool:
        """Take the lease if no other worker holds it; return whether it was taken.

        Taking the own lease again, after a lost connection, gives a new token. Then a commit under
        the old token that is still on its way is refused.

        Raises
        ------
        ServerError
            If the key of the lease or of the token holds a value that no worker wrote.
        """
        return self.was_taken(self._client.eval(*self.take_command()[1:]))

    def take_command(self, broken: str = "") -> tuple[Any, ...]:
        """Return the words of the command of `take`.

        Parameters
        ----------
        broken : str, optional
            The value of a lease that may be taken before it expires: the model sleeps, and its
            worker has ended.
        """
        names, step = (self._keys.lease, self._keys.token), 1 + secrets.randbelow(_LARGEST_STEP)
        return ("EVAL", _TAKE, 2, *names, self._owner, self._ttl_ms, step, broken)

    def was_taken(self, answer: Any) -> bool:
        """Return whether the lease was taken, from the reply to `take_command`."""
        if isinstance(answer, list):
            raise ServerError(self._foreign(*answer))
        if isinstance(answer, bytes):
            return False
        self.token = int(answer)
        return True

    def _foreign(self, key: bytes, value: bytes, kind: bytes = b"") -> str:
        name = key.decode(errors="backslashreplace")
        found = f"a {kind.decode()}" if kind else show(value)
        wanted = "a token and its owner" if name == self._keys.lease else "a whole number"
        return (
            f"key {name} holds {found}, expected {wanted}: another program wrote it. Stop the "
            "model's workers, delete the key, and start them again; the next worker creates the key"
        )

    def renew(self, health: str = "", seconds: float = 0.0) -> bool:
        """Renew the lease. Return False, and write nothing, if another worker has taken it.

        The same script writes `health` to the health key for `seconds`, so that a worker that was
        paused can't report for the worker that took over.
        """
        return bool(self._client.eval(*self.renew_command(health, seconds)[1:]))

    def renew_command(self, health: str, seconds: float) -> tuple[Any, ...]:
        """Return the words of the command of `renew`.

        The reply is 0 if another worker has taken the lease, `RENEWED_PAUSED` if a user has paused
        the model, else 1.
        """
        keys, ms = self._keys, int(seconds * 1000)
        return (
            "EVAL",
            _RENEW,
            4,
            *_renewed(keys),
            self._owner,
            self.token,
            self._ttl_ms,
            health,
            ms,
        )

    def sleep_command(self, health: str, seconds: float) -> tuple[Any, ...]:
        """Return the words that renew the lease, and write the report, of a model that sleeps.

        The lease lasts for `seconds`, but other workers may take it as soon as its worker has
        ended.
        """
        keys, ms = self._keys, int(seconds * 1000)
        owner = self._owner + _ASLEEP
        return ("EVAL", _RENEW, 4, *_renewed(keys), owner, self.token, ms, health, ms)

    def report(self, health: str, seconds: float) -> bool:
        """Write the health key without the lease; return False if another worker holds the lease.

        For a worker that can't continue the model, and so leaves the lease to other workers.
        """
        return bool(self._client.eval(*self.report_command(health, seconds)[1:]))

    def report_command(self, health: str, seconds: float) -> tuple[Any, ...]:
        """Return the words of the command of `report`."""
        keys, ms = self._keys, int(seconds * 1000)
        return ("EVAL", _REPORT, 2, keys.lease, keys.health, self._owner, health, ms)

    def drop(self, *, keeps_report: bool = False) -> None:
        """Release the lease, so that a standby need not wait until it expires.

        Parameters
        ----------
        keeps_report : bool, default=False
            Whether to leave the health key as it is; otherwise it is deleted.
        """
        keys, kept = self._keys, "kept" if keeps_report else ""
        words = (self._owner, self.token, kept)
        self._client.eval(_DROP, 3, keys.lease, keys.token, keys.health, *words)
        self.token = 0


def _renewed(keys: Keys) -> tuple[str, ...]:
    """Return the keys of the script that renews a lease."""
    return keys.lease, keys.token, keys.health, keys.paused


class LeaseValue(NamedTuple):
    """The value of a lease.

    Parameters
    ----------
    value : str
    owner : str
    asleep : bool
        Whether the model has left the memory of its worker.
    """

    value: str
    owner: str
    asleep: bool


_VALUE = re.compile(rb"[0-9]+:(.+)", re.DOTALL)


def decode_lease(value: Any) -> LeaseValue | None:
    """Return the parts of a lease's value; None without a lease, or if no worker wrote it."""
    found = _VALUE.fullmatch(value) if isinstance(value, bytes) else None
    if found is None:
        return None
    owner = found[1].decode(errors="replace")
    text = value.decode(errors="replace")
    return LeaseValue(text, owner.removesuffix(_ASLEEP), owner.endswith(_ASLEEP))


_RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"


def release_ended(client: redis.Redis, keys: Keys) -> None:
    """Remove the lease of a model that sleeps and whose worker has ended without returning it."""
    with suppress(redis.ResponseError):  # a key of another type, or a missing right
        held = decode_lease(client.get(keys.lease))
        if held is not None and held.asleep and not is_live(client, keys.namespace, held.owner):
            client.eval(_RELEASE, 1, keys.lease, held.value)


# Values of other types are no leases; the script that takes a lease refuses them.
_READ = """
local found = {}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  found[i] = type(value) == 'string' and value or false
end
return found
"""

_READ_TOGETHER = 1024
"""Leases per script."""


def read_leases(client: redis.Redis, keys: Sequence[str]) -> list[Any]:
    """Return the values of leases; None for a lease that doesn't exist.

    Raises
    ------
    redis.ConnectionError, redis.TimeoutError
        If a connection is lost.
    """
    cluster: Any = client
    if isinstance(cluster, ClusterClient):
        replies = round_trip(client, [(key, ("GET", key)) for key in keys])
        return [None if isinstance(reply, Exception) else reply for reply in replies]
    found: list[Any] = []
    for start in range(0, len(keys), _READ_TOGETHER):
        chunk = keys[start : start + _READ_TOGETHER]
        found += cast("list[Any]", client.eval(_READ, len(chunk), *chunk))
    return found
