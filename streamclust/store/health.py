"""The health key: what a worker says of itself, and for how long that can be believed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from streamclust.errors import FormatError

if TYPE_CHECKING:
    import redis

    from streamclust.store.keys import Keys


@dataclass(frozen=True)
class Health:
    """A worker's word on one model.

    Parameters
    ----------
    pid : int
    host : str
    phase : str
        'warming' or 'learning'.
    points : int
        Points learned ever, committed or not.
    rate : float
        Points a second since its last word.
    version : int
        Newest version; 0 before the first.
    dead : int
        Points refused ever.
    lost : int
        Entries that were gone before they were read, as far as their number is known.
    unknown_gaps : int
        Gaps of which it isn't known.
    loss : float or None
        Prequential loss per point.
    time : float
        Wall clock, seconds since the epoch.
    kernels : str
        The numerical kernels that it uses.
    drifts : int
        Drifts found ever.
    """

    pid: int
    host: str
    phase: str
    points: int
    rate: float
    version: int
    dead: int
    lost: int
    unknown_gaps: int
    loss: float | None
    time: float
    kernels: str = ""
    drifts: int = 0


def encode_health(health: Health) -> str:
    """Return what the health key holds."""
    return json.dumps(asdict(health))


def read_health(client: redis.Redis, keys: Keys) -> Health | None:
    """Return what the live worker of this model said last; None if there is no live worker.

    Raises
    ------
    FormatError
        If it is the word of a worker of another version.
    """
    data = client.get(keys.health)
    if data is None:
        return None
    try:
        return Health(**json.loads(data))
    except (TypeError, ValueError):
        raise FormatError(
            f"key {keys.health} holds the words of another version of streamclust: use the one "
            "that the worker has, or wait until they lapse"
        ) from None
