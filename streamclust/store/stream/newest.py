"""Reads the newest entries of a stream, without reading one that is too large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.formats.points import decode, detect_first
from streamclust.store.ids import BEGINNING, id_before
from streamclust.store.stream.info import newest_up_to, next_size

if TYPE_CHECKING:
    import redis

    from streamclust.arrays import Array
    from streamclust.formats.layout import Layout, PointsFormat

LARGEST = 1 << 24
"""Maximum bytes of an entry that is read."""


@dataclass(frozen=True)
class SeenPoint:
    """A point of an entry, or the reason why it can't be read.

    Parameters
    ----------
    entry_id : str
    index : int
        Place in the entry; -1 for the whole entry.
    row : array of shape (D,) or None
    weight : float
    reason : str
        Empty for a good point.
    data : bytes
        The beginning of a point that can't be read.
    """

    entry_id: str
    index: int
    row: Array | None = None
    weight: float = 1.0
    reason: str = ""
    data: bytes = b""


def newest_entries(
    client: redis.Redis, stream: str, count: int
) -> tuple[list[tuple[str, list[bytes]]], dict[str, int]]:
    """Return the newest entries, oldest first, and the sizes of those that are too large to read.

    Parameters
    ----------
    client : redis.Redis
        A raw client; see `Server.raw_client`.
    stream : str
    count : int
    """
    entries: list[tuple[str, list[bytes]]] = []
    too_large: dict[str, int] = {}
    end = "+"
    while len(entries) + len(too_large) < count:
        entry_id = newest_up_to(client, stream, end)
        if entry_id == BEGINNING:
            break
        _, size = next_size(client, stream, id_before(entry_id))
        if size > LARGEST:
            too_large[entry_id] = size
        else:
            found: Any = client.xrange(stream, entry_id, entry_id)
            entries += [(entry_id, flat) for _, flat in found]
        end = id_before(entry_id)
    entries.reverse()
    return entries, too_large


def newest_points(
    client: redis.Redis, stream: str, count: int, spec: PointsFormat
) -> tuple[Layout | None, list[SeenPoint]]:
    """Return the layout of the newest entries, and their newest `count` points, oldest first.

    The layout is None if no entry has a good point.
    """
    entries, too_large = newest_entries(client, stream, count)
    layout, refused = detect_first(entries, spec)
    seen = [
        SeenPoint(point.entry_id, point.index, reason=point.reason, data=point.data)
        for point in refused
    ]
    if layout is not None:
        seen = []
        for entry in entries:
            seen += _points_of(entry, layout, count)
    limit = f"at most {LARGEST:,} are read"
    seen += [SeenPoint(i, -1, reason=f"{size:,} bytes; {limit}") for i, size in too_large.items()]
    seen.sort(key=_place)
    return layout, seen[max(len(seen) - count, 0) :]


def _points_of(entry: tuple[str, list[bytes]], layout: Layout, count: int) -> list[SeenPoint]:
    """Return the newest points of an entry, good or bad."""
    entry_id, _ = entry
    decoded = decode([entry], layout)
    bad = decoded.dead.newest(count)
    total = len(decoded.X) + len(decoded.dead)
    places = np.setdiff1d(np.arange(total), decoded.dead.places())[-count:].tolist()
    rows, first = decoded.X[-count:], max(len(decoded.X) - count, 0)
    good = [
        SeenPoint(entry_id, index, row, 1.0 if decoded.w is None else float(decoded.w[first + i]))
        for i, (index, row) in enumerate(zip(places, rows, strict=True))
    ]
    points = [*good, *(SeenPoint(entry_id, p.index, reason=p.reason, data=p.data) for p in bad)]
    return sorted(points, key=_place)[max(len(points) - count, 0) :]


def _place(point: SeenPoint) -> tuple[int, int, int]:
    milliseconds, _, sequence = point.entry_id.partition("-")
    return int(milliseconds), int(sequence), point.index
