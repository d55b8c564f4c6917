"""Raw blocks: little-endian float32 or float64 of shape (n, D) in C order, in one field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import is_weight
from streamclust.errors import DataError
from streamclust.formats.codecs.common import (
    Array,
    Arrays,
    Codec,
    Columns,
    Flat,
    Judged,
    are_good,
    blocks,
    check_weight,
    one_value,
    show,
)
from streamclust.formats.layout import DIMENSION_FIELD, RAW_DTYPE, Layout

DIMENSION_KEY = DIMENSION_FIELD.encode()

_PIECE = 1 << 16
"""Number of bytes of a block that are checked at once."""


def _floats(values: Iterable[bytes], layout: Layout) -> Array:
    # A signalling NaN must not warn here; a later check finds all values that aren't finite.
    with np.errstate(invalid="ignore"):
        return np.frombuffer(b"".join(values), RAW_DTYPE[layout.format]).astype(np.float64)


def _sizes(values: Sequence[bytes]) -> NDArray[np.int64]:
    return np.fromiter(map(len, values), np.int64, len(values))


def _point_size(layout: Layout) -> int:
    return layout.n_features * RAW_DTYPE[layout.format].itemsize


def _arrays(columns: Columns, layout: Layout) -> Arrays:
    values = columns[layout.field_key]
    counts, rest = np.divmod(_sizes(values), _point_size(layout))
    if rest.any() or not counts.all():
        raise ValueError("truncated block")
    dimension = str(layout.n_features).encode()
    if set(columns.get(DIMENSION_KEY, [dimension])) != {dimension}:
        raise ValueError("another D")
    X = _floats(values, layout).reshape(-1, layout.n_features)
    return Arrays(X, counts, _weight_array(columns, counts, layout))


def _weight_array(columns: Columns, counts: NDArray[np.int64], layout: Layout) -> Array | None:
    if layout.weight_key is None:
        return None
    values = columns[layout.weight_key]
    sizes = _sizes(values)
    itemsize = RAW_DTYPE[layout.format].itemsize
    if np.array_equal(sizes, counts * itemsize):
        return _floats(values, layout)
    if (sizes != itemsize).any():
        raise ValueError("not one weight per point")
    return np.repeat(_floats(values, layout), counts)


def _checked(flat: Flat, layout: Layout) -> tuple[bytes, bytes]:
    """Return the block and its weights (none, one, or one per point); refuse a mismatch."""
    value = one_value(flat, layout.field_key)
    if not value:
        raise DataError("empty block")
    if DIMENSION_KEY in flat[::2]:
        dimension = one_value(flat, DIMENSION_KEY)
        if dimension != str(layout.n_features).encode():
            raise DataError(f"wrong length: d={show(dimension)}, expected {layout.n_features}")
    if layout.weight_key is None:
        return value, b""
    weights = one_value(flat, layout.weight_key)
    one = RAW_DTYPE[layout.format].itemsize
    all_ = -(-len(value) // _point_size(layout)) * one
    if len(weights) not in (one, all_):
        raise DataError(
            f"weights have {len(weights)} bytes, expected {one} (one for all) or {all_}"
        )
    if len(weights) < all_:
        check_weight(*_floats([weights], layout).tolist())
    return value, weights


def _split(flat: Flat, layout: Layout) -> list[tuple[bytes, float | None]]:
    value, weights = _checked(flat, layout)
    size = _point_size(layout)
    points = [value[start : start + size] for start in range(0, len(value), size)]
    if layout.weight_key is None:
        return [(point, None) for point in points]
    numbers: list[float] = _floats([weights], layout).tolist()
    each = numbers if len(numbers) == len(points) else numbers * len(points)
    return list(zip(points, each, strict=True))


def _judge(flat: Flat, layout: Layout) -> Judged:
    value, weights = _checked(flat, layout)
    size, D, dtype = _point_size(layout), layout.n_features, RAW_DTYPE[layout.format]
    n, w = -(-len(value) // size), _floats([weights], layout)
    good, parts = np.zeros(n, bool), [np.empty((0, D), dtype)]
    count = max(1, _PIECE // size)
    for start in range(0, len(value) // size, count):
        rows = slice(start, min(start + count, len(value) // size))
        X = np.frombuffer(value, dtype, (rows.stop - start) * D, start * size).reshape(-1, D)
        good[rows] = are_good(X, layout)
        if len(w) == n:
            good[rows] &= is_weight(w[rows])
        parts.append(X[good[rows]])
    each = w if len(w) == n else np.broadcast_to(w, n) if len(w) else None

    def at(places: NDArray[np.int64]) -> Iterator[tuple[bytes, float | None]]:
        for place in places.tolist():
            weight = None if each is None else float(each[place])
            yield value[place * size : (place + 1) * size], weight

    X = np.concatenate(parts, dtype=np.float64)
    return Judged(X, None if each is None else each[good], np.flatnonzero(~good), at)


def _row(point: bytes, layout: Layout) -> list[float]:
    if len(point) != _point_size(layout):
        raise DataError(
            f"truncated: the last point has {len(point)} of {_point_size(layout)} bytes"
        )
    row: list[float] = _floats([point], layout).tolist()
    return row


def _excerpt(point: bytes, _layout: Layout) -> bytes:
    return point


def _encode(
    X: NDArray[Any], w: NDArray[Any] | None, layout: Layout, block: int
) -> Iterator[list[bytes]]:
    dtype = RAW_DTYPE[layout.format]
    companion = [DIMENSION_KEY, str(layout.n_features).encode()] if block > 1 else []
    for rows, weights in blocks(_cast(X, dtype), None if w is None else _cast(w, dtype), block):
        flat = [layout.field_key, rows.tobytes(), *companion]
        if layout.weight_key is not None and weights is not None:
            flat += [layout.weight_key, weights.tobytes()]
        yield flat


def _cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(dtype)
    lost = np.isinf(cast) & np.isfinite(values)
    if lost.any():
        raise DataError(f"{values[lost][0]:g} is too large for float32; use format float64")
    return cast


CODEC = Codec(_arrays, _split, _row, float, _excerpt, _encode, _judge)
