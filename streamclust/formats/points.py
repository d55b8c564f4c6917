"""Points in stream entries: bytes to arrays and back, without a connection.

`detect` returns the layout of all entries from one entry. `decode` converts a chunk of entries into
arrays, and reports the points that can't be learned. `encode` is the inverse of `decode`. An entry
is ``(entry_id, [field, value, field, value, ...])``, as in the server's raw reply. The ID can be
any value by which the caller identifies the entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Points, are_weights, are_within
from streamclust.errors import DataError
from streamclust.formats.codecs import CODECS
from streamclust.formats.codecs.common import (
    NOT_PERFECT,
    Array,
    Columns,
    Flat,
    Judge,
    are_good,
    read_point,
    unify_gaps,
)
from streamclust.formats.dead import EXCERPT_BYTES, DeadBlock, DeadPoint, DeadPoints
from streamclust.formats.detection import guess_layout
from streamclust.formats.layout import Layout, PointsFormat

__all__ = [
    "EXCERPT_BYTES",
    "DeadPoint",
    "DeadPoints",
    "Decoded",
    "Entry",
    "Layout",
    "PointsFormat",
    "dead_entry",
    "decode",
    "decode_flats",
    "detect",
    "detect_first",
    "encode",
    "join",
]

PARTS = 8
"""A chunk with a bad point is cut into this number of parts, again and again."""

FEW = 16
"""A part of at most this number of entries is decoded entry by entry."""

Entry = tuple[Any, Flat]


@dataclass(frozen=True)
class Decoded:
    """The points of a chunk of entries.

    Parameters
    ----------
    X
        Good points, (n, D), C order, finite; NaN for missing values. Points of the format float32
        can be float32.
    w
        Weights of the points, (n,), each 0 or from 1e-100 to 1e100; None without a weight field.
    counts
        Number of good points of each entry, (n_entries,).
    dead
        Bad points, in the order of the stream.
    """

    X: Points
    w: Array | None
    counts: NDArray[np.int64]
    dead: DeadPoints = field(default_factory=DeadPoints)


def detect(flat: Flat, spec: PointsFormat) -> Layout:
    """Return the layout of a stream from an entry with a good point.

    Raises
    ------
    DataError
        If this entry doesn't determine the layout; the message is the reason.
    """
    layout = guess_layout(flat, spec)
    decoded = decode([(b"", flat)], layout)
    if not len(decoded.X):
        raise DataError(decoded.dead[0].reason)
    return layout


def detect_first(entries: Iterable[Entry], spec: PointsFormat) -> tuple[Layout | None, DeadPoints]:
    """Return the layout from the first entry with a good point, and the bad entries before it."""
    dead: list[DeadPoint] = []
    for entry_id, flat in entries:
        try:
            return detect(flat, spec), DeadPoints(dead)
        except DataError as error:
            dead.append(dead_entry(entry_id, flat, str(error)))
    return None, DeadPoints(dead)


def dead_entry(entry_id: Any, flat: Flat, reason: str) -> DeadPoint:
    """Return a whole entry as a dead point."""
    pairs = zip(flat[:EXCERPT_BYTES:2], flat[1:EXCERPT_BYTES:2], strict=True)
    data = b" ".join(
        b"%b=%b" % (name[:EXCERPT_BYTES], value[:EXCERPT_BYTES]) for name, value in pairs
    )
    return DeadPoint(entry_id, -1, reason, data[:EXCERPT_BYTES])


def decode(entries: Sequence[Entry], layout: Layout) -> Decoded:
    """Return the good points of a chunk of entries, in order, and the bad points.

    A chunk without bad points is decoded at once. Otherwise only the few entries around a bad point
    are decoded point by point.
    """
    whole = _decode_at_once([flat for _, flat in entries], layout)
    return _decode_in_parts(entries, layout) if whole is None else whole


def decode_flats(flats: Sequence[Flat], layout: Layout) -> Decoded:
    """Return the same as `decode` for entries whose IDs are their places in `flats`."""
    whole = _decode_at_once(flats, layout)
    return _decode_in_parts(list(enumerate(flats)), layout) if whole is None else whole


def _decode_in_parts(entries: Sequence[Entry], layout: Layout) -> Decoded:
    if len(entries) <= FEW:
        judge = CODECS[layout.format].judge
        if judge is None or not entries:
            return _decode_carefully(entries, layout)
        return join([_decode_block(entry_id, flat, layout, judge) for entry_id, flat in entries])
    step = max(FEW, -(-len(entries) // PARTS))
    starts = range(0, len(entries), step)
    return join([decode(entries[start : start + step], layout) for start in starts])


def _decode_block(entry_id: Any, flat: Flat, layout: Layout, judge: Judge) -> Decoded:
    """Decode one entry with array operations, so that bad points are nearly as fast as others."""
    codec = CODECS[layout.format]
    try:
        X, w, bad, at = judge(_not_empty(flat), layout)
    except DataError as error:
        dead = [dead_entry(entry_id, flat, str(error))]
        w = None if layout.weight_key is None else np.empty(0)
        nothing = np.empty((0, layout.n_features))
        return Decoded(nothing, w, np.zeros(1, np.int64), DeadPoints(dead))

    def explain(places: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
        for point, weight in at(places):
            try:
                read_point(codec, point, weight, layout)
            except DataError as error:
                yield str(error), codec.excerpt(point, layout)

    if layout.learns_missing:
        unify_gaps(X)
    blocks = [DeadBlock(entry_id, bad, explain, sum(map(len, flat)))] if len(bad) else []
    return Decoded(X, w, np.array([len(X)]), DeadPoints(blocks))


def join(parts: list[Decoded]) -> Decoded:
    """Return the points of consecutive chunks; the names of dead points don't change."""
    weights = [part.w for part in parts if part.w is not None]
    return Decoded(
        np.concatenate([part.X for part in parts]),
        np.concatenate(weights) if weights else None,
        np.concatenate([part.counts for part in parts]),
        DeadPoints(point for part in parts for point in part.dead.parts),
    )


def _decode_at_once(flats: Sequence[Flat], layout: Layout) -> Decoded | None:
    """Return the points of entries without errors; None if any entry has an error."""
    try:
        columns = _columns(flats)
        X, counts, w = CODECS[layout.format].arrays(columns, layout)
    except NOT_PERFECT:
        return None
    if w is not None and len(w) and not are_weights(w):
        return None
    if not are_within(X, layout.max_magnitude):
        if not (layout.learns_missing and are_good(X, layout).all()):
            return None
        unify_gaps(X)
    if layout.directions and not X.any(axis=1).all():
        return None
    return Decoded(X, w, counts)


def _columns(flats: Sequence[Flat]) -> Columns:
    """Return field -> values, for entries with the same fields in the same order."""
    width = len(flats[0])
    names = list(flats[0][::2])
    everything: list[bytes] = []
    for flat in flats:
        everything += flat
    even = set(map(len, flats)) == {width} and everything[::2] == names * len(flats)
    if not even or len(set(names)) < len(names):
        raise ValueError("fields differ")
    return {name: everything[2 * i + 1 :: width] for i, name in enumerate(names)}


def _decode_carefully(entries: Sequence[Entry], layout: Layout) -> Decoded:
    rows: list[list[float]] = []
    weights: list[float] = []
    counts: list[int] = []
    dead: list[DeadPoint] = []
    for entry_id, flat in entries:
        good, bad = _judge(entry_id, flat, layout)
        rows += [row for row, _ in good]
        weights += [weight for _, weight in good]
        counts.append(len(good))
        dead += bad
    return Decoded(
        np.array(rows, np.float64).reshape(-1, layout.n_features),
        None if layout.weight_key is None else np.array(weights, np.float64),
        np.array(counts, np.int64),
        DeadPoints(dead),
    )


def _judge(
    entry_id: Any, flat: Flat, layout: Layout
) -> tuple[list[tuple[list[float], float]], list[DeadPoint]]:
    """Return the good (row, weight) pairs of an entry, and its dead points."""
    codec = CODECS[layout.format]
    try:
        points = codec.split(_not_empty(flat), layout)
    except DataError as error:
        return [], [dead_entry(entry_id, flat, str(error))]
    good, dead = [], []
    for index, (point, weight) in enumerate(points):
        try:
            good.append(read_point(codec, point, weight, layout))
        except DataError as error:
            excerpt = codec.excerpt(point, layout)[:EXCERPT_BYTES]
            dead.append(DeadPoint(entry_id, index, str(error), excerpt))
    return good, dead


def _not_empty(flat: Flat) -> Flat:
    if not flat:
        raise DataError("empty entry")
    return flat


def encode(
    X: NDArray[Any], layout: Layout, w: NDArray[Any] | None = None, block: int = 1
) -> Iterator[list[bytes]]:
    """Yield the fields and values of entries; `decode` returns the same bits.

    Parameters
    ----------
    X
        Points, (n, D).
    layout
        Layout of the entries.
    w
        Weights, (n,); required if the layout has a weight field, else None.
    block
        Points per entry; the last entry can have fewer. Raw blocks of more than one point have D in
        the field ``d``.
    """
    if X.ndim != 2 or X.shape[1] != layout.n_features:
        raise DataError(f"X has shape {X.shape}, expected (n, {layout.n_features})")
    if (w is None) != (layout.weight_field is None):
        raise DataError("only one of w and layout.weight_field is given; give both or neither")
    if w is not None and w.shape != (len(X),):
        raise DataError(f"w has shape {w.shape}, expected ({len(X)},)")
    if block < 1:
        raise DataError(f"block is {block}, expected 1 or more")
    return CODECS[layout.format].encode(X, w, layout, block)
