"""A refit that waits to be taken over: a checkpoint under a key of its own.

Its learner holds the refit's parameters and the statistics under them; its position and counts
are the model's own of when the refit began, or the position is empty where the refit is of other
data than the model's stream up to there.
"""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from streamclust.store.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.store.read_size import read_value
from streamclust.store.subscription import model_id_of, read_model_id

if TYPE_CHECKING:
    import redis

    from streamclust.models import Family
    from streamclust.store.keys import Keys
    from streamclust.store.published import Reason

_ROLLBACK = "rollback-"
"""How the IDs of older versions begin that are proposed again."""

_WITHDRAW = """
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


def new_id(reason: Reason = "refit") -> str:
    """Return an ID that no other proposal has."""
    start = _ROLLBACK if reason == "rollback" else ""
    return f"{start}{int(time.time() * 1000)}-{secrets.token_hex(6)}"


def reason_of(refit: str) -> Reason:
    """Return why a version is published that comes from this proposal."""
    return "rollback" if refit.startswith(_ROLLBACK) else "refit"


def propose(client: redis.Redis, keys: Keys, refit: Checkpoint, family: Family[Any]) -> None:
    """Put a refit (with an ID) where the model's worker finds it, in place of an older one."""
    value = {
        "id": refit.refit,
        "state": encode_checkpoint(refit, family),
        "model_id": read_model_id(client, keys),
    }
    client.hset(keys.proposal, mapping=value)  # type: ignore[arg-type]


def proposed(client: redis.Redis, keys: Keys) -> str:
    """Return the ID of the refit that waits; empty if none does."""
    found: Any = client.hget(keys.proposal, "id")
    return "" if found is None else found.decode(errors="replace")


def model_proposed_for(client: redis.Redis, keys: Keys) -> int:
    """Return the ID of the model that the waiting refit is of; 0 if that isn't known.

    Raises
    ------
    FormatError
        If it is no such number.
    """
    found: Any = client.hget(keys.proposal, "model_id")
    return 0 if found is None else model_id_of({b"model_id": found}, f"key {keys.proposal}")


def read_proposal(client: redis.Redis, keys: Keys, family: Family[Any]) -> Checkpoint | None:
    """Return the refit that waits, if one does.

    Raises
    ------
    FormatError
        If it is damaged, or of a model with other hyperparameters.
    """
    ask = partial(client.hget, keys.proposal, "state")
    data: Any = read_value(client, keys.proposal, ask)
    return None if data is None else decode_checkpoint(data, family, f"key {keys.proposal}")


def withdraw(client: redis.Redis, keys: Keys, refit: str) -> bool:
    """Remove this refit; False if it isn't there any more."""
    return bool(client.eval(_WITHDRAW, 1, keys.proposal, refit))


def under_way(client: redis.Redis, keys: Keys) -> bool:
    """Say whether a refit is at work, or waits to be taken over."""
    return bool(client.exists(keys.refitting, keys.proposal))
