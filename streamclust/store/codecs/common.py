"""What the kinds of entry share.

Each kind is read in two ways. `Codec.arrays` takes a whole chunk at once; it knows only perfect
chunks and raises any of `NOT_PERFECT` on others. `split`, `row` and `weight` go point by point and
name each flaw by a `DataError`. Both ways agree on every perfect chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import MAX_MAGNITUDE, MIN_WEIGHT, Points
from streamclust.errors import DataError
from streamclust.store.layout import Layout

NOT_PERFECT = (LookupError, ValueError, TypeError, RecursionError)
SHOWN = 40

Flat = Sequence[bytes]
Columns = Mapping[bytes, list[bytes]]
Array = NDArray[np.float64]
Name = TypeVar("Name", str, bytes)


class Arrays(NamedTuple):
    """A chunk read at once: points, number of points an entry, weights."""

    X: Points
    counts: NDArray[np.int64]
    w: Array | None


class Judged(NamedTuple):
    """The points of one entry, judged by whole arrays.

    Attributes
    ----------
    X, w
        The good points, in order, and their weights; w is None without a weight field.
    bad
        Places of the others in the entry, ascending.
    at
        Returns the (point, weight) pairs at these places as they stand; see `Codec.split`.
    """

    X: Points
    w: Array | None
    bad: NDArray[np.int64]
    at: Callable[[NDArray[np.int64]], Iterable[tuple[Any, Any]]]


Judge = Callable[[Flat, Layout], Judged]


class Codec(NamedTuple):
    """How one kind of entry is read and written.

    Attributes
    ----------
    arrays
        Columns of a chunk (field -> its value in each entry) to arrays.
    split
        One entry to its (point, weight) pairs as they stand; the weight is None without a field.
    row, weight
        A point and a weight as they stand to floats, which need not be finite.
    excerpt
        A point as it stands to bytes that a person can find it by.
    encode
        Points, weights, layout and block to entries.
    judge
        One entry to what `split`, `row` and `weight` make of it, in a time and a memory that are
        small multiples of its size, whatever it holds. None where an entry is one point.
    """

    arrays: Callable[[Columns, Layout], Arrays]
    split: Callable[[Flat, Layout], Sequence[tuple[Any, Any]]]
    row: Callable[[Any, Layout], list[float]]
    weight: Callable[[Any], float]
    excerpt: Callable[[Any, Layout], bytes]
    encode: Callable[[NDArray[Any], NDArray[Any] | None, Layout, int], Iterator[list[bytes]]]
    judge: Judge | None = None


def show(value: bytes | str) -> str:
    """Return text for a message: quoted, escaped and short."""
    head = value[:SHOWN]
    text = head if isinstance(head, str) else head.decode(errors="backslashreplace")
    return repr(text) + ("..." if len(value) > SHOWN else "")


def pick(
    names: Sequence[Name], values: Sequence[Any], wanted: Sequence[Name], strict: bool
) -> list[Any]:
    """Return the wanted values in their order; refuse missing, double and unexpected names."""
    table = dict(zip(names, values, strict=True))
    for name in wanted:
        if name not in table:
            raise DataError(f"missing field {show(name)}")
    if strict and len(table) > len(wanted):
        extra = next(name for name in names if name not in wanted)
        raise DataError(f"unexpected field {show(extra)}")
    if len(table) < len(names):
        _refuse_double(names, wanted)
    return [table[name] for name in wanted]


def _refuse_double(names: Sequence[Name], wanted: Sequence[Name]) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise DataError(f"field {show(name)} appears twice")


def one_value(flat: Flat, key: bytes) -> bytes:
    """Return the value of a field that an entry must hold once, whatever else it holds."""
    value: bytes = pick(flat[::2], flat[1::2], [key], strict=False)[0]
    return value


def check_finite(row: list[float], layout: Layout) -> list[float]:
    """Return a row whose values are all finite, and small enough to be squared."""
    for index, value in enumerate(row):
        if not math.isfinite(value):
            raise DataError(f"not finite: {value} at feature {layout.feature(index)}")
        if abs(value) > MAX_MAGNITUDE:
            raise DataError(f"too large: {value:g} at feature {layout.feature(index)}")
    return row


def check_weight(weight: float) -> float:
    """Return a weight that is finite, not negative, and of a sane size."""
    if not math.isfinite(weight):
        raise DataError(f"weight is not finite: {weight}")
    if weight < 0:
        raise DataError(f"weight is negative: {weight:g}")
    if weight > MAX_MAGNITUDE:
        raise DataError(f"weight is too large: {weight:g}")
    if 0 < weight < MIN_WEIGHT:
        raise DataError(f"weight is too small: {weight:g}; send 0 or at least {MIN_WEIGHT:g}")
    return weight


def read_point(codec: Codec, point: Any, weight: Any, layout: Layout) -> tuple[list[float], float]:
    """Return the row and the weight of a point as it stands; say what is wrong with it."""
    row = check_finite(codec.row(point, layout), layout)
    return row, 1.0 if layout.weight_key is None else check_weight(codec.weight(weight))


def blocks(
    X: NDArray[Any], w: NDArray[Any] | None, block: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    """Cut points and weights into blocks; the last one may be short."""
    for start in range(0, len(X), block):
        part = slice(start, start + block)
        yield X[part], None if w is None else w[part]
