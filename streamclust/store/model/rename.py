"""Renames a model. Its keys get another hash tag, so they can move to another node.

If one slot has both names, or the server is no cluster, one script renames all keys. Otherwise the
keys are copied, under the leases of both names, and then one script removes the old keys: only if
no worker has taken the old lease, and no codes were written, since the copy. After a crash before
that script, the old model is whole, and the copy is incomplete.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import redis

from streamclust.errors import BusyError, StreamclustError
from streamclust.store.ids import id_before
from streamclust.store.model.keys import Keys, raw_key
from streamclust.store.model.lease import Lease
from streamclust.store.model.removal import drop_groups, ignore_all_but_rights
from streamclust.store.server.cluster import ClusterClient
from streamclust.store.stream.info import newest_up_to

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamclust.store.model.inventory import Inventory

# KEYS: old lease, old lock of refits, old health, then pairs of an old and a new key.
_RENAME = """
if ARGV[1] == '' then
  if redis.call('EXISTS', KEYS[1]) == 1 then return 'a worker' end
  if redis.call('EXISTS', KEYS[2]) == 1 then return 'a refit' end
end
for i = 5, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then return 'TAKEN' end
end
for i = 4, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('RENAME', KEYS[i], KEYS[i + 1]) end
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return 'OK'
"""

# KEYS: old token, then the keys to remove. ARGV: token, number of streams, their newest IDs.
_FINISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
for i = 1, tonumber(ARGV[2]) do
  local found = redis.call('XREVRANGE', KEYS[1 + i], '+', '-', 'COUNT', 1)
  if (found[1] and found[1][1] or '0-0') ~= ARGV[2 + i] then return 'CHANGED' end
end
for i = 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 'OK'
"""

_LEASE_SECONDS = 60.0
"""Life of the leases; they are renewed after each key."""

_TRIES = 20


def rename(
    client: redis.Redis, old: Keys, new: Keys, found: Inventory, *, force: bool = False
) -> None:
    """Give a model another name: all keys move, and the encoders' groups keep their positions.

    Parameters
    ----------
    client : redis.Redis
        Its timeout must allow for a copy of the largest key.
    old, new : Keys
    found : Inventory
        Inventory of the model under the old name.
    force : bool, default=False
        Whether to rename the model while a worker or a refit uses it. They lose the model.

    Raises
    ------
    BusyError
        If a worker or a refit uses the model, or another process changed it during the copy.
        Nothing was changed.
    StreamclustError
        If the new name has keys.
    """
    names = {each.key: new_key(each.key, old, new) for each in found.keys}
    for key in (old.lease, old.refitting, old.health):
        names.pop(raw_key(key), None)
    if client.exists(*new.fixed):
        raise _taken(new)
    is_cluster = isinstance(cast("object", client), ClusterClient)
    if is_cluster and _slot(client, old) != _slot(client, new):
        _copy(client, old, new, names, force=force)
    else:
        pairs = [key for pair in names.items() for key in pair]
        words: tuple[Any, ...] = (old.lease, old.refitting, old.health, *pairs)
        answer: Any = client.eval(_RENAME, len(words), *words, "force" if force else "")
        if answer == b"TAKEN":
            raise _taken(new)
        if answer != b"OK":
            raise BusyError(f"{answer.decode()} uses model {old.model!r}; nothing was changed")
    _move_groups(client, old, new, found)


def new_key(key: bytes, old: Keys, new: Keys) -> bytes:
    """Return the key of the renamed model."""
    start = len(raw_key(f"{{{old.namespace}:{old.model}}}"))
    return raw_key(f"{{{new.namespace}:{new.model}}}") + key[start:]


def _slot(client: Any, keys: Keys) -> int:
    return int(client.keyslot(keys.state))


def _taken(new: Keys) -> StreamclustError:
    return StreamclustError(
        f"the server already has keys of a model {new.model!r}; choose another name, or delete "
        f"that model: streamclust models delete {new.model}"
    )


def _copy(
    client: redis.Redis, old: Keys, new: Keys, names: Mapping[bytes, bytes], *, force: bool
) -> None:
    """Copy the keys to another slot, and remove the old ones, under the leases of both names."""
    lease, target = _take(client, old, force=force), Lease(client, new, _LEASE_SECONDS)
    copied = [key for key in names if key != raw_key(old.token)]
    made: list[Any] = [new.token, new.lease, *(names[key] for key in copied)]
    try:
        if not target.take():
            raise _taken(new)
        streams = [key for key in copied if client.type(key) == b"stream"]
        newest = [newest_up_to(client, key, "+") for key in streams]  # type: ignore[arg-type]
        for key in copied:
            value: Any = client.dump(key)
            if value is not None:
                client.restore(names[key], 0, value, replace=True)
            if not (lease.renew() and target.renew()):
                raise BusyError(f"another process took model {old.model!r}; nothing was changed")
        others = [key for key in (*map(raw_key, old.fixed), *copied) if key not in streams]
        words: tuple[Any, ...] = (old.token, *streams, *others)
        arguments: tuple[Any, ...] = (lease.token, len(streams), *newest)
        answer: Any = client.eval(_FINISH, len(words), *words, *arguments)
        if answer != b"OK":
            raise BusyError(
                f"another process wrote to model {old.model!r} during the copy; nothing was changed"
            )
    except BaseException:
        with suppress(redis.RedisError):
            client.delete(*made)
            lease.drop()
        raise
    target.drop()


def _take(client: redis.Redis, keys: Keys, *, force: bool) -> Lease:
    """Take the lease of a model; with `force` also from a worker, which can't write any more."""
    lease = Lease(client, keys, _LEASE_SECONDS)
    for _ in range(_TRIES if force else 1):
        if force:  # a worker may renew its lease until the token is increased
            client.delete(keys.lease, keys.refitting)
        if not client.exists(keys.refitting) and lease.take():
            return lease
    raise BusyError(f"a worker or a refit uses model {keys.model!r}; nothing was changed")


def _move_groups(client: redis.Redis, old: Keys, new: Keys, found: Inventory) -> None:
    """Create the encoders' groups under the new name, at their positions; remove the old groups.

    An entry that has no codes yet is read again. The worker creates its own group.
    """
    for stream, name in found.groups:
        if name != old.encoders:
            continue
        with ignore_all_but_rights():
            groups: Any = client.xinfo_groups(stream)
            [group] = [each for each in groups if each["name"] == raw_key(name)]
            pending: Any = client.xpending(stream, name)
            start = group["last-delivered-id"].decode()
            if pending["pending"]:
                start = id_before(pending["min"].decode())
            client.xgroup_create(stream, new.encoders, start)
    drop_groups(client, found.groups)
