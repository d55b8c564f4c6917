"""JSON: a vector ``[1.5,2]``, an object by feature name, or a list of either, in one field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.number_text import json_hint, number_hint
from streamclust.store.codecs.common import (
    SHOWN,
    Array,
    Arrays,
    Codec,
    Columns,
    Flat,
    blocks,
    check_weight,
    one_value,
    pick,
)
from streamclust.store.layout import Layout

# Integers are read as floats: a huge one is inf and not a crash, and true can't pass for 1.
# Objects are tuples of pairs: a key that is there twice is seen.
_loads = json.JSONDecoder(parse_int=float, object_pairs_hook=tuple).decode


def _load_all(texts: list[bytes]) -> list[Any]:
    """Parse every text; all in one go when none can run into its neighbour."""
    inner = b"".join(texts)
    if not (_are_vectors(texts, inner) or _are_scalars(inner)):
        return [_loads(text.decode()) for text in texts]
    docs: list[Any] = _loads(f"[{b','.join(texts).decode()}]")
    if len(docs) != len(texts):
        raise ValueError("texts ran into each other")
    return docs


def _are_vectors(texts: list[bytes], inner: bytes) -> bool:
    """Say whether each text has one bracket pair, around all of it."""
    return inner.count(b"[") == inner.count(b"]") == len(texts) and all(
        text[:1] == b"[" and text[-1:] == b"]" for text in texts
    )


def _are_scalars(inner: bytes) -> bool:
    return b"," not in inner and b"[" not in inner


def _flat_numbers(rows: Iterable[list[Any]]) -> Array:
    values = list(chain.from_iterable(rows))
    if set(map(type, values)) != {float}:
        raise ValueError("not only numbers")
    return np.array(values)


def _arrays(columns: Columns, layout: Layout) -> Arrays:
    docs = _load_all(columns[layout.field_key])
    parts = [doc if type(doc[0]) is list else [doc] for doc in docs]
    rows = list(chain.from_iterable(parts))
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {layout.n_features}:
        raise ValueError("not only vectors of D values")
    counts = [len(part) for part in parts]
    X = _flat_numbers(rows).reshape(-1, layout.n_features)
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


def parse(text: bytes) -> Any:
    """Return parsed JSON: numbers are floats, objects are tuples of pairs."""
    try:
        return _loads(text.decode())
    except RecursionError:
        raise DataError("JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise DataError(f"JSON is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"bad JSON: {error.msg} at character {error.pos}{json_hint(text)}"
        ) from None


def points(text: bytes) -> list[Any]:
    """Return the points of a JSON text as they stand: one, or those of a block."""
    doc = parse(text)
    if isinstance(doc, tuple):
        return [doc]
    if not isinstance(doc, list):
        raise DataError(f"not a vector: {_show(doc)}")
    if not doc:
        raise DataError("empty vector")
    return doc if any(isinstance(value, list | tuple) for value in doc) else [doc]


def _dump(value: Any) -> str:
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


def row(point: Any, layout: Layout) -> list[float]:
    """Return the numbers of a vector or of an object by feature name."""
    values = _by_name(point, layout) if isinstance(point, tuple) else point
    if not isinstance(values, list):
        raise DataError(f"not a vector: {_show(point)}")
    if len(values) != layout.n_features:
        raise DataError(f"wrong length: {len(values)}, expected {layout.n_features}")
    for index, value in enumerate(values):
        if type(value) is not float:
            hint = number_hint(value) if isinstance(value, str) else ""
            raise DataError(
                f"{_show(value)} at feature {layout.feature(index)} is not a number{hint}"
            )
    return values


def _by_name(point: tuple[tuple[str, Any], ...], layout: Layout) -> list[Any]:
    if not layout.features:
        raise DataError("an object, but the features have no names; set points.features")
    names, values = [name for name, _ in point], [value for _, value in point]
    return pick(names, values, layout.features, layout.strict)


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
    for rows, weights in blocks(X, w, block):
        flat = [layout.field_key, _compact(rows, block)]
        if layout.weight_key is not None and weights is not None:
            flat += [layout.weight_key, _compact(weights, block)]
        yield flat


def _compact(values: NDArray[Any], block: int) -> bytes:
    shown = values if block > 1 else values[0]
    return json.dumps(shown.tolist(), separators=(",", ":")).encode()


CODEC = Codec(_arrays, _split, row, _weight, _excerpt, _encode)
