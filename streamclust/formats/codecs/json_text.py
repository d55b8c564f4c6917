"""JSON: a vector ``[1.5,2]``, an object by feature name, or a list of either, in one field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Missing, is_weight
from streamclust.errors import DataError
from streamclust.formats.codecs.common import (
    SHOWN,
    Array,
    Arrays,
    Codec,
    Columns,
    Flat,
    Judged,
    are_good,
    blocks,
    check_weight,
    missing_hint,
    one_value,
    pick_features,
    value_or_gap,
)
from streamclust.formats.codecs.json_array import JsonArray, loads, parse
from streamclust.formats.layout import Layout
from streamclust.number_text import is_missing, number_hint

_dumps = json.JSONEncoder(separators=(",", ":")).encode

_At = Callable[[NDArray[np.int64]], Iterable[Any]]

_AT_ONCE = 1 << 20
"""Maximum bytes of JSON that are parsed at once: Python objects need up to 40 times as much."""

_EXCERPT_VALUES = 1024
"""Number of values of a point that an excerpt is made from."""


def _load_all(texts: list[bytes]) -> list[Any]:
    """Parse all texts; in one call if the texts can be joined safely."""
    if sum(map(len, texts)) > _AT_ONCE:
        raise ValueError("too many to be parsed at once")
    inner = b"".join(texts)
    are_scalars = b"," not in inner and b"[" not in inner
    are_vectors = inner.count(b"[") == inner.count(b"]") == len(texts) and all(
        text[:1] == b"[" and text[-1:] == b"]"
        for text in texts  # the only brackets of each text
    )
    if not (are_vectors or are_scalars):
        return [loads(text.decode()) for text in texts]
    docs: list[Any] = loads(f"[{b','.join(texts).decode()}]")
    if len(docs) != len(texts):
        raise ValueError("texts ran into each other")
    return docs


def _flat_numbers(rows: Iterable[list[Any]], missing: Missing = "reject") -> Array:
    values = list(chain.from_iterable(rows))
    if set(map(type, values)) != {float}:
        if missing == "reject" or not values:
            raise ValueError("not only numbers")
        values = list(map(value_or_gap, values))
    return np.array(values)


def _arrays(columns: Columns, layout: Layout) -> Arrays:
    docs = _load_all(columns[layout.field_key])
    parts = [doc if type(doc[0]) is list else [doc] for doc in docs]
    rows = list(chain.from_iterable(parts))
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {layout.n_features}:
        raise ValueError("not only vectors of D values")
    counts = [len(part) for part in parts]
    X = _flat_numbers(rows, layout.missing).reshape(-1, layout.n_features)
    return Arrays(X, np.array(counts, np.int64), _weight_array(columns, counts, layout))


def _weight_array(columns: Columns, counts: list[int], layout: Layout) -> Array | None:
    if layout.weight_key is None:
        return None
    docs = _load_all(columns[layout.weight_key])
    parts = [
        doc if type(doc) is list else [doc] * count for doc, count in zip(docs, counts, strict=True)
    ]
    if list(map(len, parts)) != counts:
        raise ValueError("not a weight a point")
    return _flat_numbers(parts)


def points(text: bytes) -> list[Any]:
    """Return the undecoded points of a JSON text: one point, or the points of a block."""
    doc = parse(text)
    if isinstance(doc, tuple):
        return [doc]
    if not isinstance(doc, list):
        raise DataError(f"not a vector: {_show(doc)}")
    if not doc:
        raise DataError("empty vector")
    return doc if any(isinstance(value, list | tuple) for value in doc) else [doc]


def _dump(value: Any) -> str:
    """Return JSON of a value, or of a beginning that is longer than an excerpt."""
    if isinstance(value, list):
        value = value[:_EXCERPT_VALUES]
    try:
        return json.dumps(dict(value) if isinstance(value, tuple) else value)
    except RecursionError:
        return "nested too deeply"


def _show(value: Any) -> str:
    text = _dump(value)
    return text[:SHOWN] + ("..." if len(text) > SHOWN else "")


def _split(flat: Flat, layout: Layout) -> list[tuple[Any, Any]]:
    found = points(one_value(flat, layout.field_key))
    return list(zip(found, _weights(flat, len(found), layout), strict=True))


def _weights(flat: Flat, n: int, layout: Layout) -> list[Any]:
    if layout.weight_key is None:
        return [None] * n
    doc = parse(one_value(flat, layout.weight_key))
    if not isinstance(doc, list):
        return [check_weight(_weight(doc))] * n
    if len(doc) != n:
        raise DataError(f"wrong number of weights: {len(doc)}, expected {n}")
    return doc


def vector_length(text: bytes, missing: Missing = "reject") -> int:
    """Return the length of the first vector of numbers in a text; else of the first vector.

    With `missing` "learn", a vector of numbers can have missing values.
    """
    is_good = _are_values if missing == "learn" else _are_numbers
    array = JsonArray.of(text, 0)
    if array is None:
        points(text)  # raises an error for all values except an object
        return 1
    length, nested = 0, False
    for values in array.pieces():
        nested = nested or any(isinstance(value, list | tuple) for value in values)
        vectors = [value for value in values if isinstance(value, list) and value]
        good = next((len(v) for v in vectors if is_good(v)), 0)
        if good:
            return good
        length = length or (len(vectors[0]) if vectors else 0)
    if not array.n:
        raise DataError("empty vector")
    return length or (1 if nested else array.n)


def _are_numbers(values: Iterable[Any]) -> bool:
    return set(map(type, values)) == {float}


def _are_values(values: list[Any]) -> bool:
    """Return whether all values are numbers or missing, and some are numbers."""
    try:
        return not all(map(math.isnan, map(value_or_gap, values)))
    except ValueError:
        return False


def _judge(flat: Flat, layout: Layout) -> Judged:
    good, X, points_at = _judge_points(one_value(flat, layout.field_key), layout)
    if layout.weight_key is None:
        return Judged(X, None, np.flatnonzero(~good), lambda at: zip(points_at(at), repeat(None)))
    w, weights_at = _judge_weights(one_value(flat, layout.weight_key), len(good))
    sane = is_weight(w)
    X, good = X[sane[good]], good & sane
    bad = np.flatnonzero(~good)
    return Judged(X, w[good], bad, lambda at: zip(points_at(at), weights_at(at), strict=True))


def _judge_points(text: bytes, layout: Layout) -> tuple[NDArray[np.bool_], Array, _At]:
    """Return which points are good, their rows, and a function that returns the bad points."""
    array = JsonArray.of(text, layout.n_features)
    if array is None:
        return *_rows(points(text), layout), lambda _: points(text)
    judged: list[tuple[NDArray[np.bool_], Array]] = []
    head: list[Any] = []
    nested, most = False, max(layout.n_features, _EXCERPT_VALUES)
    for values in array.pieces():
        judged.append(_rows(values, layout))
        nested = nested or not {list, tuple}.isdisjoint(map(type, values))
        head += values[: most - len(head)]
    if not array.n:
        raise DataError("empty vector")
    if nested:
        return *map(np.concatenate, zip(*judged, strict=True)), array.values  # type: ignore[return-value]
    vector = head if len(head) == array.n else _Beginning(head, array.n)
    return *_rows([vector], layout), lambda _: [vector]


class _Beginning(list[Any]):
    """The first values of a vector of `n` values."""

    def __init__(self, values: list[Any], n: int) -> None:
        super().__init__(values)
        self._n = n

    def __len__(self) -> int:
        return self._n


def _judge_weights(text: bytes, n: int) -> tuple[Array, _At]:
    """Return the weights of n points, NaN for bad ones, and a function that returns them."""
    array = JsonArray.of(text, 0)
    if array is None:
        weight = check_weight(_weight(parse(text)))
        return np.full(n, weight), lambda at: [weight] * len(at)
    pieces = [
        np.array([value if type(value) is float else math.nan for value in values])
        for values in array.pieces()
    ]
    w = np.concatenate(pieces)
    if len(w) != n:
        raise DataError(f"wrong number of weights: {len(w)}, expected {n}")
    return w, array.values


def _rows(values: list[Any], layout: Layout) -> tuple[NDArray[np.bool_], Array]:
    """Return which of the values are good points, and the rows of these points."""
    D, rows, kinds = layout.n_features, values, set(map(type, values))
    lengths = set(map(len, values)) if kinds == {list} else {D}
    if kinds.isdisjoint({list, tuple}) or D not in lengths:
        return np.zeros(len(values), np.bool_), np.empty((0, D))
    if kinds != {list} or len(lengths) > 1:
        rows = [_row_of(value, layout) for value in values]
    if not _are_numbers(chain.from_iterable(rows)):
        rows = [_floats(row, layout) for row in rows]
    good = np.fromiter(map(bool, rows), np.bool_, len(rows))
    X = np.array(list(chain.from_iterable(rows)), np.float64).reshape(-1, D)
    sane = are_good(X, layout)
    good[good] = sane
    return good, X[sane]


def _floats(row: Sequence[Any], layout: Layout) -> Sequence[float]:
    """Return the values as floats; an empty sequence if they can't be learned."""
    if _are_numbers(row) or not layout.learns_missing:
        return row if _are_numbers(row) else ()
    try:
        return list(map(value_or_gap, row))
    except ValueError:
        return ()


def _row_of(value: Any, layout: Layout) -> Sequence[Any]:
    """Return the D values of a vector or an object; an empty sequence if it has other values."""
    if type(value) is list:
        return value if len(value) == layout.n_features else ()
    least = 0 if layout.learns_missing else layout.n_features
    if type(value) is not tuple or len(value) < least:
        return ()
    try:
        return row(value, layout)
    except DataError:
        return ()


def row(point: Any, layout: Layout) -> list[float]:
    """Return the numbers of a vector, or of an object with feature names as keys."""
    values = point
    if isinstance(point, tuple):
        if not layout.features:
            raise DataError("an object, but the features have no names; set points.features")
        names, values = [name for name, _ in point], [value for _, value in point]
        values = pick_features(names, values, layout.features, layout, None)
    if not isinstance(values, list):
        raise DataError(f"not a vector: {_show(point)}")
    if len(values) != layout.n_features:
        raise DataError(f"wrong length: {len(values)}, expected {layout.n_features}")
    if _are_numbers(values):
        return values
    numbers: list[float] = []
    for index, value in enumerate(values):
        is_gap = value is None or (isinstance(value, str) and is_missing(value))
        if type(value) is not float and not (is_gap and layout.learns_missing):
            hint = number_hint(value) if isinstance(value, str) else ""
            hint += missing_hint(layout) if is_gap else ""
            raise DataError(
                f"{_show(value)} at feature {layout.feature(index)} is not a number{hint}"
            )
        numbers.append(math.nan if is_gap else value)
    return numbers


def _weight(value: Any) -> float:
    if type(value) is not float:
        hint = number_hint(value) if isinstance(value, str) else ""
        raise DataError(f"weight {_show(value)} is not a number{hint}")
    return value


def _excerpt(point: Any, _layout: Layout) -> bytes:
    return _dump(point).encode()


def _encode(
    X: NDArray[Any], w: NDArray[Any] | None, layout: Layout, block: int
) -> Iterator[list[bytes]]:
    has_gaps = bool(np.isnan(X).any())  # asked once, since it takes as long as a short entry
    for rows, weights in blocks(X, w, block):
        flat = [layout.field_key, _compact(rows, block, has_gaps)]
        if layout.weight_key is not None and weights is not None:
            flat += [layout.weight_key, _compact(weights, block, True)]
        yield flat


def _compact(values: NDArray[Any], block: int, has_gaps: bool) -> bytes:
    shown = values if block > 1 else values[0]
    if has_gaps and (gaps := np.isnan(shown)).any():
        shown = shown.astype(object)
        shown[gaps] = None
    return _dumps(shown.tolist()).encode()


CODEC = Codec(_arrays, _split, row, _weight, _excerpt, _encode, _judge)
