"""Points, and how they get into a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray

from streamclust.formats.layout import Layout
from streamclust.formats.points import encode

Points = NDArray[np.float64]


def blobs(n: int, seed: int = 0, D: int = 2) -> Points:
    """Points of three clusters at -10, 0 and 10, in turn, so that any stretch has all."""
    rng = np.random.default_rng(seed)
    centres = np.array([-10.0, 0.0, 10.0])[np.arange(n) % 3]
    return np.asarray(centres[:, None] + rng.normal(size=(n, D)))


def add_blocks(
    client: redis.Redis, stream: str, X: Points, block: int = 30, w: Points | None = None
) -> None:
    """Append points as raw entries of their type, `block` points in each, with weights `w`."""
    weight_field = None if w is None else "w"
    field = "f4" if X.dtype == np.float32 else "f8"
    name: Any = X.dtype.name
    layout = Layout(name, field, weight_field, (), X.shape[1], strict=False)
    with client.pipeline(transaction=False) as pipe:
        for entry in encode(X, layout, w, block):
            pipe.execute_command("XADD", stream, "*", *entry)  # type: ignore[no-untyped-call]
        pipe.execute()


def add_points(client: redis.Redis, stream: str, X: Points, first_id: int | None = None) -> None:
    """Append points as named fields `x0`, `x1`, ...; with IDs a second apart from `first_id` on."""
    with client.pipeline(transaction=False) as pipe:
        for number, point in enumerate(X.tolist()):
            fields = {f"x{d}": repr(value) for d, value in enumerate(point)}
            entry_id = "*" if first_id is None else f"{first_id + 1000 * number}-0"
            pipe.xadd(stream, fields, id=entry_id)  # type: ignore[arg-type]
        pipe.execute()


def add_entry(client: redis.Redis, stream: str, **fields: str | bytes) -> str:
    """Append one entry; return its ID."""
    added: Any = client.xadd(stream, fields)  # type: ignore[arg-type]
    return str(added.decode())
