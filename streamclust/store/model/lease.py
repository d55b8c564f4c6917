"""The lease: one writer per model, and a fencing token that stops a paused writer."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from streamclust.errors import ServerError
from streamclust.formats.codecs.common import show

if TYPE_CHECKING:
    import redis

    from streamclust.store.model.keys import Keys

# If another program wrote one of these keys, the script returns the key and its value. Lua's
# numbers represent a token of 15 digits exactly.
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
if held and string.match(held, ':(.*)$') ~= ARGV[1] then return 0 end
token = string.format('%.0f', redis.call('INCRBY', KEYS[2], ARGV[3]))
redis.call('SET', KEYS[1], token .. ':' .. ARGV[1], 'PX', ARGV[2])
return tonumber(token)
"""

_RENEW = """
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[2] .. ':' .. ARGV[1], 'PX', ARGV[3])
if ARGV[4] ~= '' then redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5]) end
return 1
"""

_DROP = """
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[3]) end
if redis.call('GET', KEYS[1]) ~= ARGV[2] .. ':' .. ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

# TYPE comes first, because another program may have written the key of the lease.
_REPORT = """
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  local held = redis.call('GET', KEYS[1])
  if string.match(held, ':(.*)$') ~= ARGV[1] then return 0 end
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
"""

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
        return self.taken(self._client.eval(*self.taking()[1:]))

    def taking(self) -> tuple[Any, ...]:
        """Return the words of the command of `take`."""
        names, step = (self._keys.lease, self._keys.token), 1 + secrets.randbelow(_LARGEST_STEP)
        return ("EVAL", _TAKE, 2, *names, self._owner, self._ttl_ms, step)

    def taken(self, answer: Any) -> bool:
        """Return what `take` returns, from the reply to its command."""
        if isinstance(answer, list):
            raise ServerError(self._foreign(*answer))
        self.token = int(answer)
        return self.token > 0

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
        return bool(self._client.eval(*self.renewal(health, seconds)[1:]))

    def renewal(self, health: str, seconds: float) -> tuple[Any, ...]:
        """Return the words of the command of `renew`."""
        keys, ms = self._keys, int(seconds * 1000)
        names = (keys.lease, keys.token, keys.health)
        return ("EVAL", _RENEW, 3, *names, self._owner, self.token, self._ttl_ms, health, ms)

    def report(self, health: str, seconds: float) -> bool:
        """Write the health key without the lease; return False if another worker holds the lease.

        For a worker that can't continue the model, and so leaves the lease to other workers.
        """
        return bool(self._client.eval(*self.reporting(health, seconds)[1:]))

    def reporting(self, health: str, seconds: float) -> tuple[Any, ...]:
        """Return the words of the command of `report`."""
        keys, ms = self._keys, int(seconds * 1000)
        return ("EVAL", _REPORT, 2, keys.lease, keys.health, self._owner, health, ms)

    def drop(self) -> None:
        """Release the lease, so that a standby need not wait until it expires."""
        keys = self._keys
        self._client.eval(_DROP, 3, keys.lease, keys.token, keys.health, self._owner, self.token)
        self.token = 0
