"""The health key: what a worker reports of one model, and for how long that can be believed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from streamclust.errors import FormatError

if TYPE_CHECKING:
    import redis

    from streamclust.store.keys import Keys

FAILED, STALLED = "failed", "stalled"


@dataclass(frozen=True)
class Health:
    """A worker's report on one model. Each field has a default: another version may not write it.

    Parameters
    ----------
    pid : int
    host : str
    phase : str
        'warming' or 'learning'; 'failed' while the worker can't go on with the model and tries
        again after a pause; 'stalled' when it has made no progress for `worker.stall`.
    points : int
        Points learned ever, committed or not.
    rate : float
        Points per second since its last report.
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
    reason : str
        Why the model is failed or stalled; else empty.
    progress_age : float
        Seconds since the slowest thread of the model last made progress.
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

    @property
    def alive(self) -> bool:
        """Whether the worker makes progress with the model."""
        return self.phase not in (FAILED, STALLED)


def encode_health(health: Health) -> str:
    """Return what the health key holds."""
    return json.dumps(asdict(health))


def read_health(client: redis.Redis, keys: Keys) -> Health | None:
    """Return what the live worker of this model reported last; None if there is no live worker.

    Fields that this version doesn't know are left out. A field that is missing, or of another
    type, has its default: the report of an older or newer worker can be read.

    Raises
    ------
    FormatError
        If the key holds something else than a report.
    """
    data: Any = client.get(keys.health)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FormatError(
            f"key {keys.health} holds no worker's report: does another program use this key? "
            "Delete it; the worker writes it again"
        )
    known = {each.name: found[each.name] for each in fields(Health) if each.name in found}
    return Health(**{name: value for name, value in known.items() if _fits(name, value)})


_TEXTS = ("host", "phase", "kernels", "reason")
_FRACTIONS = ("rate", "loss", "time", "progress_age")
_LARGEST = 1e300


def _fits(name: str, value: Any) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if name in _FRACTIONS:
        return -_LARGEST < value < _LARGEST  # NaN is neither
    return isinstance(value, int) and 0 <= value < _LARGEST
