"""Commits to try out, and what they leave on the server."""

from __future__ import annotations

from typing import Any

import numpy as np
import redis

from streamclust.formats.dead import DeadLetter
from streamclust.formats.model import Model, encode_model
from streamclust.models import KMeans, KMeansParams
from streamclust.store.model.commit import Commit
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease


def take(client: redis.Redis, keys: Keys) -> int:
    lease = Lease(client, keys, 60.0)
    assert lease.take()
    return lease.token


def a_model(version: int, K: int = 2) -> Model:
    return Model(
        name="m",
        version=version,
        reason="step",
        family=KMeans(K),
        params=KMeansParams(np.arange(2.0 * K).reshape(K, 2) + version),
        mass=np.ones(K),
        position={"points": f"{version}-0"},
        points=100 * version,
        loss=0.5,
        time_ms=12.0,
    )


def of_version(token: int, version: int, **more: Any) -> Commit:
    model = a_model(version)
    return Commit(token, b"state %d" % version, model, encode_model(model), **more)


def letters(count: int, start: int = 1) -> tuple[DeadLetter, ...]:
    return tuple(
        DeadLetter("points", f"{number}-0", number % 3 - 1, f"why {number}", b"\x00\xff data")
        for number in range(start, start + count)
    )


def dump(client: redis.Redis, keys: Keys) -> dict[bytes, Any]:
    """All keys of the model, as the server would save them."""
    found = client.scan_iter(match=f"{{{keys.namespace}:{keys.model}}}:*", count=1000)
    return {key: client.dump(key) for key in found}


def ids(client: redis.Redis, key: str) -> list[str]:
    entries: Any = client.xrange(key)
    return [entry_id.decode() for entry_id, _ in entries]
