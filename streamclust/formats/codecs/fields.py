"""Named fields: one point per entry, ``x 1.5 y 2``, numbers as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.formats.codecs.common import (
    Array,
    Arrays,
    Codec,
    Columns,
    Flat,
    missing_hint,
    pick_features,
    show,
)
from streamclust.formats.layout import Layout
from streamclust.number_text import is_missing, number_hint
from streamclust.text import printable


def number(text: bytes) -> float:
    """Return a number from text; refuse ``1_000``, which only Python accepts as a number.

    >>> number(b"1.5"), number(b"-2e3")
    (1.5, -2000.0)
    """
    if b"_" in text:
        raise ValueError("underscore in a number")
    return float(text)


def is_number(text: bytes) -> bool:
    """Return whether a text is a number, finite or not."""
    try:
        number(text)
    except ValueError:
        return False
    return True


def _numbers(texts: Sequence[bytes]) -> Array:
    if b"_" in b"".join(texts):
        raise ValueError("underscore in a number")
    return np.fromiter(map(float, texts), np.float64, len(texts))


def _values(texts: Sequence[bytes] | None, n: int, layout: Layout) -> Array:
    """Return the n values of a feature; NaN for missing ones."""
    if not layout.learns_missing:
        return _numbers(texts or [])
    if texts is None:
        return np.full(n, math.nan)
    try:
        return _numbers(texts)
    except ValueError:
        return np.fromiter(map(_value, texts), np.float64, n)


def _value(text: bytes) -> float:
    return math.nan if is_missing(text) else number(text)


def _arrays(columns: Columns, layout: Layout) -> Arrays:
    if not columns or (layout.strict and not columns.keys() <= set(layout.entry_keys)):
        raise ValueError("no field, or an unexpected one")
    w = None if layout.weight_key is None else _numbers(columns[layout.weight_key])
    n = len(next(iter(columns.values())))
    found = columns.get if layout.learns_missing else columns.__getitem__
    features = [_values(found(key), n, layout) for key in layout.feature_keys]
    X = np.ascontiguousarray(np.array(features).T)
    return Arrays(X, np.ones(len(X), np.int64), w)


def _split(flat: Flat, layout: Layout) -> list[tuple[Sequence[bytes], bytes | None]]:
    names, texts = flat[::2], flat[1::2]
    if names != layout.entry_keys:
        texts = pick_features(names, texts, layout.entry_keys, layout, b"")
    if layout.weight_key is None:
        return [(texts, None)]
    return [(texts[:-1], texts[-1])]


def _row(texts: Sequence[bytes], layout: Layout) -> list[float]:
    read, is_good = (_value, _is_value) if layout.learns_missing else (number, is_number)
    try:
        return list(map(read, texts))
    except ValueError:
        bad = next(index for index, text in enumerate(texts) if not is_good(text))
    text = texts[bad]
    name = printable(layout.features[bad])
    hint = number_hint(text) + (missing_hint(layout) if is_missing(text) else "")
    raise DataError(f"{name}={show(text)} is not a number{hint}")


def _is_value(text: bytes) -> bool:
    return is_missing(text) or is_number(text)


def _weight(text: bytes) -> float:
    try:
        return number(text)
    except ValueError:
        raise DataError(f"weight {show(text)} is not a number{number_hint(text)}") from None


def _excerpt(texts: Sequence[bytes], layout: Layout) -> bytes:
    return b" ".join(b"%b=%b" % pair for pair in zip(layout.feature_keys, texts, strict=True))


def _encode(
    X: NDArray[Any], w: NDArray[Any] | None, layout: Layout, block: int
) -> Iterator[list[bytes]]:
    if block != 1:
        raise DataError(
            f"block is {block}, but an entry of named fields holds one point; "
            "use format json, float32 or float64 for blocks"
        )
    table = X if w is None else np.column_stack([X, w])
    for values in table.tolist():
        texts = " ".join(map(repr, values)).encode().split(b" ")
        yield list(chain.from_iterable(zip(layout.entry_keys, texts, strict=True)))


CODEC = Codec(_arrays, _split, _row, _weight, _excerpt, _encode)
