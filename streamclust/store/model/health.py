"""The health key: a worker's report on one model."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from streamclust.errors import FormatError
from streamclust.store.model.workers import is_live

if TYPE_CHECKING:
    import redis

    from streamclust.store.model.keys import Keys

FAILED, STALLED, PAUSED = "failed", "stalled", "paused"


@dataclass(frozen=True)
class Health:
    """A worker's report on one model. Each field has a default, because other versions may omit it.

    Parameters
    ----------
    pid : int
    host : str
    phase : str
        'warming' or 'learning'; 'failed' while the worker can't continue the model, before it
        retries; 'stalled' after no progress for `worker.stall`; 'paused' after a user has paused
        the model (see `store.model.pause`).
    points : int
        Total number of points learned, committed or not.
    rate : float
        Points per second since the last report.
    version : int
        Newest version; 0 before the first.
    dead : int
        Total number of refused points.
    lost : int
        Number of entries that were removed before they were read, in gaps of known size.
    unknown_gaps : int
        Number of gaps of unknown size.
    loss : float or None
        Prequential loss per point.
    time : float
        Wall clock, seconds since the epoch.
    kernels : str
        The numerical kernels in use.
    drifts : int
        Total number of drifts found.
    reason : str
        Why the model is failed, stalled or paused; else empty.
    progress_age : float
        Seconds since the slowest thread of the model last made progress.
    gathered, warm_up : int
        Points of the warm-up sample, and the number that ends the warm-up; 0 after the warm-up.
    worker : str
        ID of the worker (see `store.model.workers`); empty in the report of an older worker.
    asleep : bool
        Whether the model has left the worker's memory. Such a report is renewed rarely; it is valid
        while the worker lives.
    paused_since : float
        Start of the pause that the worker has confirmed; 0 if unknown. See `store.model.pause`.
    missing : int
        Missing values of all points learned; see the setting `points.missing`.
    """

    pid: int = 0
    host: str = "?"
    phase: str = "unknown"
    points: int = 0
    rate: float = 0.0
    version: int = 0
    dead: int = 0
    lost: int = 0
    unknown_gaps: int = 0
    loss: float | None = None
    time: float = 0.0
    kernels: str = ""
    drifts: int = 0
    reason: str = ""
    progress_age: float = 0.0
    gathered: int = 0
    warm_up: int = 0
    worker: str = ""
    asleep: bool = False
    paused_since: float = 0.0
    missing: int = 0

    @property
    def alive(self) -> bool:
        """Whether the worker makes progress on the model, or keeps it paused as a user wants."""
        return self.phase not in (FAILED, STALLED)


def encode_health(health: Health) -> str:
    """Return the value of the health key."""
    return json.dumps(vars(health))


def read_health(client: redis.Redis, keys: Keys) -> Health | None:
    """Return the last report of the model's running worker; None if no worker is running.

    Unknown fields are ignored. A field that is missing, or has another type, gets its default. So
    the reports of older and newer workers can be read.

    Raises
    ------
    FormatError
        If the value of the key isn't a report.
    """
    data: Any = client.get(keys.health)
    health = None if data is None else decode_health(data, keys.health)
    if health and health.asleep and not is_live(client, keys.namespace, health.worker):
        return None
    return health


def decode_health(data: bytes, key: str) -> Health:
    """Return the report in the value of a health key.

    Raises
    ------
    FormatError
        If the value isn't a report.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FormatError(
            f"key {key} holds no worker's report: does another program use this key? "
            "Delete it; the worker writes it again"
        )
    known = {each.name: found[each.name] for each in fields(Health) if each.name in found}
    return Health(**{name: value for name, value in known.items() if _fits(name, value)})


_TEXTS = ("host", "phase", "kernels", "reason", "worker")
_FRACTIONS = ("rate", "loss", "time", "progress_age", "paused_since")
_LARGEST = 1e300


def _fits(name: str, value: Any) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    if name == "asleep":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if name in _FRACTIONS:
        return -_LARGEST < value < _LARGEST  # false for NaN
    return isinstance(value, int) and 0 <= value < _LARGEST
