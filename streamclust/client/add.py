"""Points of arrays and data frames as chunks for a stream, for `Client.add`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Missing, as_points_as_given, as_sample_weight
from streamclust.client.arguments import check_text
from streamclust.errors import DataError
from streamclust.formats.layout import ENTRY_FORMATS, EntryFormat
from streamclust.hyperparameters import as_integer, check_choice
from streamclust.store.model.keys import is_own, raw_key
from streamclust.tables import Chunk
from streamclust.text import has_control

Labels: TypeAlias = "Mapping[str, Any] | Sequence[str] | str"

BLOCK_POINTS = 1024
"""Maximum points of a block."""

BLOCK_BYTES = 1 << 20
"""Maximum bytes of a block, unless one point is larger; a worker accepts 16 times as many."""

_CHUNK_POINTS = 1 << 14

_LONGEST = (1 << 63) - 1
"""Largest length of a stream that the server accepts."""

_FIRST_TIME, _LAST_TIME = 0, 1 << 62
"""Event times that entry IDs can have, in milliseconds since 1970."""


@dataclass(frozen=True, eq=False)
class Points:
    """Points to add, checked.

    Parameters
    ----------
    X : array of shape (N, D)
        float32 or float64.
    features : tuple of str
        Names of the columns; empty without names.
    w : array of shape (N,), or None
    labels : dict of str to list of str
    times : array of shape (N,), or None
        Milliseconds since 1970.
    """

    X: NDArray[Any]
    features: tuple[str, ...]
    w: NDArray[np.float64] | None
    labels: dict[str, list[str]]
    times: NDArray[np.int64] | None

    @property
    def format(self) -> EntryFormat:
        """The default format: named fields if the columns have names, else raw blocks."""
        if self.features:
            return "fields"
        return "float32" if self.X.dtype == np.float32 else "float64"

    def block(self, format: EntryFormat) -> int:
        """Return the default number of points per entry."""
        if format == "fields" or self.labels or self.times is not None:
            return 1
        row = int(self.X.shape[1]) * (4 if format == "float32" else 8)
        return max(1, min(BLOCK_POINTS, BLOCK_BYTES // row))

    def chunks(self, block: int) -> Iterator[Chunk]:
        """Yield the points in parts of whole blocks."""
        names = self.features or tuple(f"x{index}" for index in range(self.X.shape[1]))
        step = max(_CHUNK_POINTS // block, 1) * block
        for start in range(0, len(self.X), step):
            rows = slice(start, start + step)
            yield Chunk(
                names,
                self.X[rows],
                None if self.w is None else self.w[rows],
                start + 1,
                {name: texts[rows] for name, texts in self.labels.items()},
                None if self.times is None else self.times[rows],
            )


def check_stream(stream: str, namespace: str) -> None:
    """Refuse a key that can't be a stream of points.

    Raises
    ------
    DataError
        If the name isn't a text, is empty, has a control character, or is a key that streamclust
        writes.
    """
    check_text("stream", stream)
    if not stream:
        raise DataError("stream is empty; name a stream")
    if has_control(stream):
        raise DataError(f"stream {stream!r} has a control character; name another stream")
    if is_own(stream, namespace):
        raise DataError(f"stream {stream!r} is a key that streamclust writes; name another stream")


def check_entries(points: Points, format: str, block: int, maxlen: int | None) -> None:
    """Refuse a length of the stream below 1, and blocks that can't hold the points.

    Raises
    ------
    DataError
    """
    if maxlen is not None and as_integer("maxlen", maxlen, 1) > _LONGEST:
        raise DataError(f"maxlen is {maxlen}; expected at most {_LONGEST}")
    if format == "fields" and block > 1:
        raise DataError(f"block is {block}, but an entry of named fields holds one point")
    if points.labels and block > 1:
        raise DataError(f"block is {block}, but an entry has the labels of one point; give block=1")


def as_points(
    X: Any,
    labels: Labels | None,
    weights: Any,
    times: Any,
    features: Sequence[str] | None,
    missing: Missing = "reject",
    format: EntryFormat | None = None,
) -> Points:
    """Return the points of an array or a data frame; see `Client.add`.

    Raises
    ------
    DataError
        If a value can't be used.
    """
    check_choice("missing", missing, get_args(Missing))
    if format is not None:
        check_choice("format", format, ENTRY_FORMATS)
    if features is not None and (isinstance(features, str) or not isinstance(features, Iterable)):
        raise DataError(f"features is {features!r}; expected a list of names")
    names = () if features is None else tuple(features)
    if _is_frame(X):
        from streamclust.client.frames import read_frame

        X, names, labels, weights, times = read_frame(
            X, labels, weights, times, None if features is None else names, missing
        )
    elif names and format not in (None, "fields"):
        raise DataError(
            f"features are given, but entries of the format {format} hold no names; leave out "
            "features, or choose the format fields"
        )
    for name, value in (("weights", weights), ("times", times)):
        if isinstance(value, str):
            raise DataError(f"{name} is {value!r}, but X is an array; give {name} as an array")
    found = as_points_as_given(X, missing=missing)
    _check_names(names, found.shape[1])
    return Points(
        found,
        names,
        None if weights is None else as_sample_weight(weights, len(found)),
        _label_texts(labels, len(found)),
        None if times is None else _milliseconds(times, len(found)),
    )


def _is_frame(X: Any) -> bool:
    if isinstance(X, np.ndarray | list | tuple):
        return False
    from narwhals.dependencies import is_into_dataframe

    return is_into_dataframe(X)


def _check_names(names: tuple[str, ...], D: int) -> None:
    for name in names:
        if not isinstance(name, str) or not name or has_control(name):
            raise DataError(f"feature {name!r} isn't a name; give text without control characters")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"feature {twice!r} is given twice; name each column once")
    if names and len(names) != D:
        raise DataError(f"features has {len(names)} names for {D} columns of X")


def _label_texts(labels: Any, n: int) -> dict[str, list[str]]:
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise DataError("labels isn't a mapping; give {'host': one text, or one text per point}")
    found = {}
    for name, values in labels.items():
        if not isinstance(name, str) or not name or has_control(name):
            raise DataError(f"label {name!r} isn't a name; give text without control characters")
        single = isinstance(values, str | bytes) or not hasattr(values, "__len__")
        single = single or getattr(values, "ndim", 1) == 0
        if not single and len(values) != n:
            raise DataError(f"label {name!r} has {len(values)} values for {n} points")
        try:
            found[name] = [_text(values)] * n if single else [_text(value) for value in values]
        except UnicodeEncodeError:
            raise DataError(f"label {name!r} holds a lone surrogate; give valid text") from None
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)
    raw_key(text)  # an error if it can't be sent
    return text


def _milliseconds(times: Any, n: int) -> NDArray[np.int64]:
    """Return times as milliseconds since 1970. Times without a zone are in UTC."""
    array = times if isinstance(times, np.ndarray) else _time_array(times)
    if array.shape != (n,):
        raise DataError(f"times have shape {array.shape}; expected ({n},)")
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            raise DataError(
                f"times hold NaT at row {int(np.isnat(array).argmax())}; drop these rows"
            )
        array = array.astype("datetime64[ms]").astype(np.int64)
    if array.dtype.kind not in "iu":
        raise DataError(
            f"times hold {array.dtype}; give datetimes, or milliseconds since 1970 as integers"
        )
    found = array.astype(np.int64)
    if n and not (found.min() >= _FIRST_TIME and found.max() < _LAST_TIME):
        raise DataError("times are before 1970 or too late for the ID of an entry")
    back = np.flatnonzero(found[1:] < found[:-1])
    if len(back):
        raise DataError(f"times go back at row {int(back[0]) + 1}; sort the points by time")
    return found


def _time_array(times: Any) -> NDArray[Any]:
    if not isinstance(times, Iterable):
        raise DataError(f"times is {times!r}; expected one time per point")
    values = list(times)
    try:
        if values and all(isinstance(value, datetime) for value in values):
            aware = [value if value.tzinfo else value.replace(tzinfo=UTC) for value in values]
            return np.array([round(value.timestamp() * 1e3) for value in aware], np.int64)
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:  # such as NaT
        raise DataError(f"times can't be read: {error}; give one time per point") from None
