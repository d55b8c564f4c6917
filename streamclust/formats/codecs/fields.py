"""Named fields: one point per entry, ``x 1.5 y 2``, numbers as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.formats.codecs.common import Array, Arrays, Codec, Columns, Flat, pick, show
from streamclust.formats.layout import Layout
from streamclust.number_text import number_hint
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


def _arrays(columns: Columns, layout: Layout) -> Arrays:
    if layout.strict and len(columns) > len(layout.entry_keys):
        raise ValueError("unexpected field")
    w = None if layout.weight_key is None else _numbers(columns[layout.weight_key])
    features = [_numbers(columns[key]) for key in layout.feature_keys]
    X = np.ascontiguousarray(np.array(features).T)
    return Arrays(X, np.ones(len(X), np.int64), w)


def _split(flat: Flat, layout: Layout) -> list[tuple[Sequence[bytes], bytes | None]]:
    names, texts = flat[::2], flat[1::2]
    if names != layout.entry_keys:
        texts = pick(names, texts, layout.entry_keys, layout.strict)
    if layout.weight_key is None:
        return [(texts, None)]
    return [(texts[:-1], texts[-1])]


def _row(texts: Sequence[bytes], layout: Layout) -> list[float]:
    try:
        return list(map(number, texts))
    except ValueError:
        bad = next(index for index, text in enumerate(texts) if not is_number(text))
    text = texts[bad]
    name = printable(layout.features[bad])
    raise DataError(f"{name}={show(text)} is not a number{number_hint(text)}")


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
