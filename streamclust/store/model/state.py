"""Reads the committed state of a model: both values, of one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from streamclust.store.stream.read_size import read_value

if TYPE_CHECKING:
    import redis

    from streamclust.store.model.keys import Keys

_BOTH = "return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}"


class StateValues(NamedTuple):
    """The values of `:state` and `:coreset`.

    Parameters
    ----------
    state : bytes
    coreset : bytes
        Empty if the key doesn't exist.
    """

    state: bytes
    coreset: bytes


def read_state(client: redis.Redis, keys: Keys) -> StateValues | None:
    """Return the values of a model's state; None if it has none.

    Raises
    ------
    UnreadableError
        If the connection is lost at each try, as with an output-buffer limit below their size.
    """

    def describe() -> str:
        sizes = [client.strlen(key) for key in (keys.state, keys.coreset)]
        return f"{keys.state} and {keys.coreset} ({sizes[0]:,} and {sizes[1]:,} bytes)"

    found: Any = read_value(
        client, keys.state, lambda: client.eval(_BOTH, 2, keys.state, keys.coreset), describe
    )
    state, coreset = found
    return None if state is None else StateValues(state, coreset or b"")
