"""Points in stream entries: bytes to arrays and back, without a connection.

`detect` looks at an entry and says how all of them are laid out, `decode` turns a chunk of entries
into arrays and names what could not be learned, `encode` is its inverse. An entry is
``(entry_id, [field, value, field, value, ...])``, as the server's raw reply has it; the
ID is anything that lets the caller know the entry again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Points, are_sane, are_weights
from streamclust.errors import DataError
from streamclust.store.codecs import CODECS
from streamclust.store.codecs.common import (
    NOT_PERFECT,
    Array,
    Columns,
    Flat,
    Judge,
    read_point,
)
from streamclust.store.dead import EXCERPT_BYTES, DeadBlock, DeadPoint, DeadPoints
from streamclust.store.detection import guess_layout
from streamclust.store.layout import Layout, PointsFormat

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

PARTS = 8  # a chunk that isn't perfect is cut into so many parts, and so on,
FEW = 16  # until so few entries are left that reading each point by point is as fast

Entry = tuple[Any, Flat]


@dataclass(frozen=True)
class Decoded:
    """What a chunk of entries held.

    Parameters
    ----------
    X
        Points, (n, D), C order, all finite; those of format float32 may be such.
    w
        Their weights, (n,), each 0 or from 1e-100 to 1e100; None without a weight field.
    counts
        How many good points each entry gave, (n_entries,).
    dead
        The rest, in the order of the stream; made into objects when somebody looks.
    """

    X: Points
    w: Array | None
    counts: NDArray[np.int64]
    dead: DeadPoints = field(default_factory=DeadPoints)


def detect(flat: Flat, spec: PointsFormat) -> Layout:
    """Return the layout of a stream from an entry that holds a good point.

    Raises
    ------
    DataError
        When this entry can't tell; its text is the reason.
    """
    layout = guess_layout(flat, spec)
    decoded = decode([(b"", flat)], layout)
    if not len(decoded.X):
        raise DataError(decoded.dead[0].reason)
    return layout


def detect_first(entries: Iterable[Entry], spec: PointsFormat) -> tuple[Layout | None, DeadPoints]:
    """Return the layout by the first entry that has a good point, and the bad ones before it."""
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
    """Return the good points of a chunk of entries, in order, and name the bad ones.

    A perfect chunk is read at once. Only the few entries around a bad one are read point by point.
    """
    whole = _decode_at_once([flat for _, flat in entries], layout)
    return _decode_in_parts(entries, layout) if whole is None else whole


def decode_flats(flats: Sequence[Flat], layout: Layout) -> Decoded:
    """Decode entries that are known by their numbers alone."""
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
    """Decode an entry by whole arrays, so that bad points cost little more than good ones."""
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

    blocks = [DeadBlock(entry_id, bad, explain, sum(map(len, flat)))] if len(bad) else []
    return Decoded(X, w, np.array([len(X)]), DeadPoints(blocks))


def join(parts: list[Decoded]) -> Decoded:
    """Return what consecutive chunks held as one; dead points are named as they are."""
    weights = [part.w for part in parts if part.w is not None]
    return Decoded(
        np.concatenate([part.X for part in parts]),
        np.concatenate(weights) if weights else None,
        np.concatenate([part.counts for part in parts]),
        DeadPoints(point for part in parts for point in part.dead.parts),
    )


def _decode_at_once(flats: Sequence[Flat], layout: Layout) -> Decoded | None:
    """Return what perfect entries hold; None when anything at all is wrong."""
    try:
        columns = _columns(flats)
        X, counts, w = CODECS[layout.format].arrays(columns, layout)
    except NOT_PERFECT:
        return None
    if not are_sane(X) or not _are_weights(w):
        return None
    return Decoded(X, w, counts)


def _columns(flats: Sequence[Flat]) -> Columns:
    """Return field -> values, for entries that have the same fields in the same order."""
    width = len(flats[0])
    names = list(flats[0][::2])
    everything: list[bytes] = []
    for flat in flats:
        everything += flat
    even = set(map(len, flats)) == {width} and everything[::2] == names * len(flats)
    if not even or len(set(names)) < len(names):
        raise ValueError("fields differ")
    return {name: everything[2 * i + 1 :: width] for i, name in enumerate(names)}


def _are_weights(w: Array | None) -> bool:
    return w is None or not len(w) or are_weights(w)


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
    """Yield the fields and values of entries that `decode` reads back bit for bit.

    Parameters
    ----------
    X
        Points, (n, D).
    layout
        How to write them.
    w
        Weights, (n,); given exactly when the layout has a weight field.
    block
        Points an entry; the last entry may hold fewer. Raw blocks of more than one carry their D
        in the companion field.
    """
    if X.ndim != 2 or X.shape[1] != layout.n_features:
        raise DataError(f"X has shape {X.shape}, expected (n, {layout.n_features})")
    if (w is None) != (layout.weight_field is None):
        raise DataError("weights and a weight field belong together; give both or neither")
    if w is not None and w.shape != (len(X),):
        raise DataError(f"w has shape {w.shape}, expected ({len(X)},)")
    if block < 1:
        raise DataError(f"block is {block}, expected 1 or more")
    return CODECS[layout.format].encode(X, w, layout, block)
