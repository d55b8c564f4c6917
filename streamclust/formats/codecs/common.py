"""The parts that the codecs share.

Each format has two decoders. `Codec.arrays` decodes a whole chunk at once, and raises one of
`NOT_PERFECT` if the chunk has any error. `split`, `row` and `weight` decode point by point, and
raise a `DataError` for each error. Both decoders give equal results for each chunk without errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import MAX_MAGNITUDE, MIN_WEIGHT, Points
from streamclust.errors import DataError
from streamclust.formats.layout import Layout
from streamclust.models.directions import ZERO
from streamclust.number_text import is_missing

NOT_PERFECT = (LookupError, ValueError, TypeError, RecursionError)
SHOWN = 40

ALL_MISSING = "all features are missing"
"""Why a point without any value is refused."""

LEARN_MISSING = "; points.missing: learn accepts missing values"

Flat = Sequence[bytes]
Columns = Mapping[bytes, list[bytes]]
Array = NDArray[np.float64]
Name = TypeVar("Name", str, bytes)


class Arrays(NamedTuple):
    """A decoded chunk: points, number of points per entry, weights."""

    X: Points
    counts: NDArray[np.int64]
    w: Array | None


class Judged(NamedTuple):
    """The good and the bad points of one entry.

    Attributes
    ----------
    X, w
        The good points, in order, and their weights; w is None without a weight field.
    bad
        Places of the bad points in the entry, ascending.
    at
        Returns the undecoded (point, weight) pairs at the given places; see `Codec.split`.
    """

    X: Points
    w: Array | None
    bad: NDArray[np.int64]
    at: Callable[[NDArray[np.int64]], Iterable[tuple[Any, Any]]]


Judge = Callable[[Flat, Layout], Judged]


class Codec(NamedTuple):
    """The decoders and the encoder of one entry format.

    Attributes
    ----------
    arrays
        Converts the columns of a chunk (field -> its value in each entry) to arrays.
    split
        Returns the undecoded (point, weight) pairs of one entry; the weight is None without a
        weight field.
    row, weight
        Convert an undecoded point, or weight, to floats, which may be infinite or NaN.
    excerpt
        Returns bytes of an undecoded point by which a user can find it.
    encode
        Converts points, weights, layout and block size to entries.
    judge
        Returns the same points as `split`, `row` and `weight` for one entry, in time and memory
        proportional to its size. None if an entry has one point.
    """

    arrays: Callable[[Columns, Layout], Arrays]
    split: Callable[[Flat, Layout], Sequence[tuple[Any, Any]]]
    row: Callable[[Any, Layout], list[float]]
    weight: Callable[[Any], float]
    excerpt: Callable[[Any, Layout], bytes]
    encode: Callable[[NDArray[Any], NDArray[Any] | None, Layout, int], Iterator[list[bytes]]]
    judge: Judge | None = None


def show(value: bytes | str) -> str:
    """Return a quoted, escaped and short text of a value for a message."""
    head = value[:SHOWN]
    text = head if isinstance(head, str) else head.decode(errors="backslashreplace")
    return repr(text) + ("..." if len(value) > SHOWN else "")


def pick(
    names: Sequence[Name], values: Sequence[Any], wanted: Sequence[Name], strict: bool
) -> list[Any]:
    """Return the values of the wanted names; refuse missing, duplicate and unexpected names."""
    table = dict(zip(names, values, strict=True))
    for name in wanted:
        if name not in table:
            raise DataError(f"missing field {show(name)}")
    if strict and len(table) > len(wanted):
        extra = next(name for name in names if name not in wanted)
        raise DataError(f"unexpected field {show(extra)}")
    if len(table) < len(names):
        for name in wanted:
            if names.count(name) > 1:
                raise DataError(f"field {show(name)} appears twice")
    return [table[name] for name in wanted]


def pick_features(
    names: Sequence[Name],
    values: Sequence[Any],
    wanted: Sequence[Name],
    layout: Layout,
    absent: Any,
) -> list[Any]:
    """Return the values of the wanted names, of which the features come first; see `pick`.

    If points with missing values are learned, a feature without a field has the value `absent`.
    """
    known = set(names)
    gone: list[Name] = [name for name in wanted[: layout.n_features] if name not in known]
    if gone and not layout.learns_missing:
        raise DataError(f"missing field {show(gone[0])}{missing_hint(layout)}")
    whole = [*values, *[absent] * len(gone)]
    try:
        return pick(list(names) + gone, whole, wanted, layout.strict)
    except DataError as error:
        if layout.learns_missing and layout.strict and known - set(wanted):
            hint = "the first entry named the features; set points.features to name all"
            raise DataError(f"{error}: {hint}") from None
        raise


def one_value(flat: Flat, key: bytes) -> bytes:
    """Return the value of a field that must be exactly once in an entry."""
    value: bytes = pick(flat[::2], flat[1::2], [key], strict=False)[0]
    return value


def check_finite(row: list[float], layout: Layout) -> list[float]:
    """Return the row; refuse values that are not finite, or too large to be squared.

    If only the direction counts, refuse a zero vector instead of large values. If points with
    missing values are learned, NaN is a missing value; refuse a point without any value.
    """
    most = layout.max_magnitude
    for index, value in enumerate(row):
        if math.isnan(value) and layout.learns_missing:
            row[index] = math.nan  # with the same bits everywhere
            continue
        if not math.isfinite(value):
            hint = missing_hint(layout) if math.isnan(value) else ""
            raise DataError(f"not finite: {value} at feature {layout.feature(index)}{hint}")
        if abs(value) > most:
            raise DataError(f"too large: {value:g} at feature {layout.feature(index)}")
    if layout.learns_missing and all(map(math.isnan, row)):
        raise DataError(ALL_MISSING)
    if layout.directions and not any(row):
        raise DataError(ZERO)
    return row


def missing_hint(layout: Layout) -> str:
    """Return how points with missing values can be learned, to append to an error message."""
    return "" if layout.learns_missing or layout.directions else LEARN_MISSING


def are_good(X: NDArray[Any], layout: Layout) -> NDArray[np.bool_]:
    """Return which rows `check_finite` accepts, shape (N,)."""
    most = min(layout.max_magnitude, float(np.finfo(X.dtype).max))
    with np.errstate(invalid="ignore"):  # a signalling NaN
        fits = np.abs(X) <= X.dtype.type(most)
    if layout.learns_missing:
        gaps = np.isnan(X)
        return np.asarray((fits | gaps).all(axis=1) & ~gaps.all(axis=1))
    good = fits.all(axis=1)
    return good & X.any(axis=1) if layout.directions else np.asarray(good)


def unify_gaps(X: NDArray[Any]) -> None:
    """Give each NaN the same bits, in place."""
    gaps = np.isnan(X)
    if gaps.any():
        X[gaps] = math.nan


def value_or_gap(text: Any) -> float:
    """Return the number of a value of JSON, or NaN for null and for a text without a value.

    Raises
    ------
    ValueError
        If it is another value.
    """
    if type(text) is float:
        return text
    if text is None or (type(text) is str and is_missing(text)):
        return math.nan
    raise ValueError("neither a number nor a missing value")


def check_weight(weight: float) -> float:
    """Return the weight; refuse one that is not finite, negative, too large or too small."""
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
    """Return the row and the weight of an undecoded point; raise DataError with the reason."""
    row = check_finite(codec.row(point, layout), layout)
    return row, 1.0 if layout.weight_key is None else check_weight(codec.weight(weight))


def blocks(
    X: NDArray[Any], w: NDArray[Any] | None, block: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    """Yield blocks of points and weights; the last block may be short."""
    for start in range(0, len(X), block):
        part = slice(start, start + block)
        yield X[part], None if w is None else w[part]
