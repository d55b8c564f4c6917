"""Deletes or resets a model: all its keys in one script, which first checks that nobody uses them.

A worker that still runs can't write the model back: a deleted model has no fencing token, and a
reset increases it, so the commit and the renewal of the lease of the earlier session are refused.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis

from streamclust.errors import BusyError
from streamclust.store.model.keys import raw_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamclust.store.model.inventory import Inventory
    from streamclust.store.model.keys import Keys

# KEYS: lease, token, lock of refits, then the keys to remove. The token comes first, because the
# command fails if another program wrote that key.
_REMOVE = """
if ARGV[1] == '' then
  if redis.call('EXISTS', KEYS[1]) == 1 then return 'a worker' end
  if redis.call('EXISTS', KEYS[3]) == 1 then return 'a refit' end
end
if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('INCRBY', KEYS[2], ARGV[2])
end
local removed = 0
for i = 4, #KEYS do removed = removed + redis.call('UNLINK', KEYS[i]) end
return removed
"""

_LARGEST_STEP = 1 << 24


def delete(client: redis.Redis, keys: Keys, found: Inventory, *, force: bool = False) -> int:
    """Remove all keys of a model, and its consumer groups; return the number of removed keys.

    The groups are removed first: after a crash in between, the model is whole, and its worker and
    its encoders create the groups again.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    found : Inventory
    force : bool, default=False
        Whether to remove the model while a worker or a refit uses it.

    Raises
    ------
    BusyError
        If a worker or a refit uses the model; nothing was removed.
    """
    if not force and client.exists(keys.lease, keys.refitting):
        raise _busy(keys, "a worker or a refit")
    drop_groups(client, found.groups)
    return _remove(client, keys, (*keys.fixed, *(each.key for each in found.keys)), force, "")


def reset(client: redis.Redis, keys: Keys, *, force: bool = False) -> int:
    """Remove what a model has learned; return the number of removed keys.

    State, versions, dead letters and proposals are removed. The codes and the fencing token stay.
    The parameters and errors are those of `delete`.
    """
    step = str(1 + secrets.randbelow(_LARGEST_STEP))
    lost = (keys.lease, keys.refitting, keys.health)
    return _remove(client, keys, (*keys.learned, *lost), force, step)


def _remove(
    client: redis.Redis, keys: Keys, names: Iterable[str | bytes], force: bool, step: str
) -> int:
    unique = {raw_key(name) if isinstance(name, str) else name: None for name in names}
    checked = (keys.lease, keys.token, keys.refitting)
    answer: Any = client.eval(
        _REMOVE, 3 + len(unique), *checked, *unique, "force" if force else "", step
    )
    if isinstance(answer, bytes):
        raise _busy(keys, answer.decode())
    return int(answer)


def drop_groups(client: redis.Redis, groups: Iterable[tuple[bytes, str]]) -> None:
    """Remove consumer groups; a group or stream that doesn't exist is no error."""
    for stream, group in groups:
        with ignore_all_but_rights():
            client.xgroup_destroy(stream, group)


@contextmanager
def ignore_all_but_rights() -> Iterator[None]:
    """Ignore errors of the server, such as a missing group, except that the user lacks a right."""
    try:
        yield
    except redis.exceptions.NoPermissionError:
        raise
    except redis.ResponseError:
        pass


def _busy(keys: Keys, user: str) -> BusyError:
    return BusyError(f"{user} uses model {keys.model!r}; nothing was changed")
