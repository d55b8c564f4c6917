"""The lease: one writer a model, and a fencing token that a paused writer can't get around."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from streamclust.errors import ServerError
from streamclust.store.codecs.common import show

if TYPE_CHECKING:
    import redis

    from streamclust.store.keys import Keys

# What another program wrote under these keys is returned with its key. Lua's numbers hold a token
# of 15 digits exactly.
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

# TYPE comes first: another program's key may stand where the lease should.
_REPORT = """
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  local held = redis.call('GET', KEYS[1])
  if string.match(held, ':(.*)$') ~= ARGV[1] then return 0 end
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
"""

_LARGEST_STEP = 1 << 24
"""Tokens grow by random steps, so that a server that lost the newest ones (a failover, a restart
without persistence) doesn't give a token away for the second time."""


class Lease:
    """The right to write one model, for `seconds` from each renewal.

    The key with its time to live decides who *may take* the model; the token, which only ever
    counts up, decides who *may write*: the commit compares it. So a worker that slept past its
    lease can't do harm, whatever its clock says.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    seconds : float
    owner : str, optional
        A name that nobody else has; who comes back with it takes his own lease again.
    """

    def __init__(self, client: redis.Redis, keys: Keys, seconds: float, owner: str = "") -> None:
        self._client = client
        self._keys = keys
        self._ttl_ms = int(seconds * 1000)
        self._owner = owner or secrets.token_hex(8)
        self.token = 0

    def take(self) -> bool:
        """Take the lease if nobody else holds it; say whether that went well.

        Taking one's own again, after a lost connection, gives a new token: what was sent under
        the old one and is still under way can't land any more.

        Raises
        ------
        ServerError
            If the key of the lease or of the token holds what no worker wrote.
        """
        answer: Any = self._client.eval(
            _TAKE,
            2,
            self._keys.lease,
            self._keys.token,
            self._owner,
            self._ttl_ms,
            1 + secrets.randbelow(_LARGEST_STEP),
        )
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
            f"model's workers, delete the key, and start them again; the next one writes it anew"
        )

    def renew(self, health: str = "", seconds: float = 0.0) -> bool:
        """Hold on to the lease; False if another worker has taken it, and nothing was written.

        `health` goes to the health key for `seconds`, in the same breath: a worker that slept just
        before it says so must not speak for the one that took over.
        """
        answer = self._client.eval(
            _RENEW,
            3,
            self._keys.lease,
            self._keys.token,
            self._keys.health,
            self._owner,
            self.token,
            self._ttl_ms,
            health,
            int(seconds * 1000),
        )
        return bool(answer)

    def report(self, health: str, seconds: float) -> bool:
        """Write the health key without the lease; False if another worker holds that.

        For a worker that can't go on with the model, and so leaves the lease to others.
        """
        keys, ms = self._keys, int(seconds * 1000)
        answer = self._client.eval(_REPORT, 2, keys.lease, keys.health, self._owner, health, ms)
        return bool(answer)

    def drop(self) -> None:
        """Give the lease back, so that a standby need not wait for it to lapse."""
        keys = self._keys
        self._client.eval(_DROP, 3, keys.lease, keys.token, keys.health, self._owner, self.token)
        self.token = 0
