"""A proposed refit, which the model's worker can accept: a checkpoint under its own key.

The checkpoint has the parameters of the refit, and the statistics under these parameters. The
position and counts are those of the model at the start of the refit. The position is empty if the
refit used other data than the model's streams up to this position.
"""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from streamclust.errors import UnknownModelError
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.store.model.versions import model_id_of, read_model_id
from streamclust.store.stream.read_size import read_value

if TYPE_CHECKING:
    import redis

    from streamclust.formats.model import Reason
    from streamclust.models import Family
    from streamclust.store.model.keys import Keys

_ROLLBACK = "rollback-"
"""Prefix of the IDs of proposals that are older versions."""

# A refit that ends after its model was deleted must not create a key of the model again.
_PROPOSE = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'state', ARGV[2], 'model_id', ARGV[3])
return 1
"""

_WITHDRAW = """
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


def new_id(reason: Reason = "refit") -> str:
    """Return a unique ID for a proposal."""
    start = _ROLLBACK if reason == "rollback" else ""
    return f"{start}{int(time.time() * 1000)}-{secrets.token_hex(6)}"


def reason_of(refit: str) -> Reason:
    """Return the reason of a version that comes from this proposal."""
    return "rollback" if refit.startswith(_ROLLBACK) else "refit"


def propose(client: redis.Redis, keys: Keys, refit: Checkpoint, family: Family[Any]) -> None:
    """Propose a refit (with an ID) to the model's worker, in place of an earlier proposal.

    Raises
    ------
    UnknownModelError
        If the model was deleted since the start of the refit.
    """
    state, model_id = encode_checkpoint(refit, family), read_model_id(client, keys)
    words = refit.refit, state, model_id
    if not client.eval(_PROPOSE, 2, keys.proposal, keys.state, *words):
        raise UnknownModelError(f"model {keys.model!r} was deleted; the refit was discarded")


def proposal_id(client: redis.Redis, keys: Keys) -> str:
    """Return the ID of the proposed refit; empty if there is none."""
    found: Any = client.hget(*proposal_command(keys)[1:])
    return "" if found is None else found.decode(errors="replace")


def proposal_command(keys: Keys) -> tuple[str, str, str]:
    """Return the words of the command whose reply is the ID of the proposed refit, or None."""
    return "HGET", keys.proposal, "id"


def proposed_model_id(client: redis.Redis, keys: Keys) -> int:
    """Return the model ID of the proposed refit; 0 if unknown.

    Raises
    ------
    FormatError
        If the value isn't a model ID.
    """
    found: Any = client.hget(keys.proposal, "model_id")
    return 0 if found is None else model_id_of({b"model_id": found}, f"key {keys.proposal}")


def read_proposal(client: redis.Redis, keys: Keys, family: Family[Any]) -> Checkpoint | None:
    """Return the proposed refit; None if there is none.

    Raises
    ------
    FormatError
        If the proposal is damaged, or has other hyperparameters than `family`.
    """
    ask = partial(client.hget, keys.proposal, "state")
    data: Any = read_value(client, keys.proposal, ask)
    return None if data is None else decode_checkpoint(data, family, f"key {keys.proposal}")


def withdraw(client: redis.Redis, keys: Keys, refit: str) -> bool:
    """Remove this proposal; return False if it doesn't exist any more."""
    return bool(client.eval(_WITHDRAW, 1, keys.proposal, refit))


def has_refit(client: redis.Redis, keys: Keys) -> bool:
    """Return whether a refit is running or proposed."""
    return bool(client.exists(keys.refitting, keys.proposal))
