"""The fields of the entries in `:codes`.

The entry of one point has plain text::

    code 3  distance 1.25  version 42

The entry of a block of n points has raw little-endian arrays, in the order of the block::

    n 1024  code <n int32>  distance <n float32>  version 42

`version` is the version of the model. Other fields are optional:

* ``encode.top`` m > 1: ``m``, ``top`` (the m best components, best first), and their
  ``top_distance`` (K-means) or ``top_responsibility`` (mixtures): text separated by spaces, or
  ``<n x m int32>`` and ``<n x m float32>``, row by row.
* Metric cosine: distances are 1 - cos, and ``similarity`` is the cosine of the point and its
  centroid, in the form of ``distance``.
* Each score in ``encode.score`` has a field of its name, in the form of ``distance``. Only
  ``quantile`` is ``<n float64>`` in a block, because float32 is too coarse near 1.
* A point that can't be read has code -1 and distance NaN, and ``reason`` is the reason for the
  first such point of the entry. An entry that can't be read as a whole counts as one such point.
* The fields in ``encode.labels`` are copied unchanged.
* ``model_id``: only if an earlier model of the same name has codes in the stream, because the
  versions of both models have the same numbers.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Array
from streamclust.errors import FormatError
from streamclust.formats.code_fields import CODE_FIELDS, SCORE_FIELDS, TOP_VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamclust.models.quantize import Codes

NO_CODE = -1
"""The code of a point that can't be read."""

_INTEGERS = np.dtype("<i4")
_NUMBERS = np.dtype("<f4")
_DOUBLES = np.dtype("<f8")
_OPTIONAL = ("similarity", *SCORE_FIELDS)
"""Optional fields with one number per point."""


@dataclass(frozen=True, eq=False)
class CodedEntry:
    """The codes of one entry of the points' stream.

    Parameters
    ----------
    entry_id : str
        The ID in both streams.
    version : int
        Version of the model.
    code : array of int32, shape (n,)
    distance : array of shape (n,)
    top : array of int32, shape (n, m), or None
    top_values : array of shape (n, m) or None
        Distances or responsibilities.
    reason : str or None
        Why a code is -1.
    labels : dict of bytes to bytes
        Fields that were copied from the points' entry.
    model_id : int
        Model ID, if an earlier model of the same name has codes in the stream; else 0.
    top_name : str
        Name of the field of `top_values`.
    similarity : array of shape (n,) or None
        Cosine of each point and its centroid; only for the metric cosine.
    scores : dict of str to array of shape (n,)
        The scores in `encode.score` except the distance.
    """

    entry_id: str
    version: int
    code: NDArray[np.int32]
    distance: Array
    top: NDArray[np.int32] | None
    top_values: Array | None
    reason: str | None
    labels: dict[bytes, bytes]
    model_id: int = 0
    top_name: str = "top_distance"
    similarity: Array | None = None
    scores: dict[str, Array] = field(default_factory=dict)


def score_type(name: str) -> np.dtype[Any]:
    """Return the type of a score in blocks and files."""
    return _DOUBLES if name == "quantile" else _NUMBERS


def with_bad_points(codes: Codes, good: NDArray[np.bool_]) -> Codes:
    """Return codes for all n points: those of the `good` ones, (n,), and -1 and NaN for others."""

    def placed(values: NDArray[Any], missing: float) -> NDArray[Any]:
        out = np.full((len(good), *values.shape[1:]), missing, values.dtype)
        out[good] = values
        return out

    return replace(
        codes,
        index=placed(codes.index, NO_CODE),
        distance=placed(codes.distance, np.nan),
        top=None if codes.top is None else placed(codes.top, NO_CODE),
        top_values=None if codes.top_values is None else placed(codes.top_values, np.nan),
        similarity=None if codes.similarity is None else placed(codes.similarity, np.nan),
        scores={name: placed(values, np.nan) for name, values in codes.scores.items()},
    )


def encode_fields(codes: Codes, version: int, values: str, reason: str | None) -> list[bytes]:
    """Return the fields and values of one entry.

    Parameters
    ----------
    codes : Codes
        Codes of the entry's points. One point is written as text, several as arrays.
    version : int
    values : str
        Name of the field of `codes.top_values`; see `code_fields.TOP_VALUES`.
    reason : str or None
    """
    one = len(codes) == 1
    integers, numbers = (_text, _text) if one else (_raw_integers, _raw_numbers)
    flat = [] if one else [b"n", b"%d" % len(codes)]
    flat += [b"code", integers(codes.index), b"distance", numbers(codes.distance)]
    for name, more in codes.more.items():
        flat += [name.encode(), _text(more) if one else more.astype(score_type(name)).tobytes()]
    flat += [b"version", b"%d" % version]
    if codes.top is not None and codes.top_values is not None:
        flat += [b"m", b"%d" % codes.top.shape[1], b"top", integers(codes.top)]
        flat += [values.encode(), numbers(codes.top_values)]
    return flat if reason is None else [*flat, b"reason", reason.encode()]


def encode_points(codes: Codes, version: int) -> list[list[bytes]]:
    """Return the fields of `encode_fields` for entries of one point each, without `top`."""
    text = b"%d" % version
    numbers, distances = codes.index.tolist(), codes.distance.tolist()
    if not codes.more:
        return [
            [b"code", b"%d" % number, b"distance", repr(distance).encode(), b"version", text]
            for number, distance in zip(numbers, distances, strict=True)
        ]
    columns = [
        [(name.encode(), repr(value).encode()) for value in values.tolist()]
        for name, values in ({"distance": codes.distance} | codes.more).items()
    ]
    return [
        [b"code", b"%d" % number, *chain.from_iterable(pairs), b"version", text]
        for number, *pairs in zip(numbers, *columns, strict=True)
    ]


def _text(values: NDArray[Any]) -> bytes:
    return " ".join(map(repr, values.ravel().tolist())).encode()


def _raw_integers(values: NDArray[Any]) -> bytes:
    return values.astype(_INTEGERS).tobytes()


def _raw_numbers(values: NDArray[Any]) -> bytes:
    return values.astype(_NUMBERS).tobytes()


def decode_fields(entry_id: str, fields: Mapping[bytes, bytes], where: str) -> CodedEntry:
    """Return the codes in the fields of `encode_fields`.

    Raises
    ------
    FormatError
        If the fields aren't codes. The message names `where` (the key).
    """
    try:
        return _decoded(entry_id, fields)
    except (LookupError, ValueError, ArithmeticError, StopIteration) as error:
        raise FormatError(f"{where} entry {entry_id} holds no codes: {error!r}") from None


def _decoded(entry_id: str, fields: Mapping[bytes, bytes]) -> CodedEntry:
    raw = b"n" in fields
    n = int(fields.get(b"n", 1))
    top, values, name = None, None, b"top_distance"
    if b"m" in fields:
        shape = n, int(fields[b"m"])
        name = next(
            field_name.encode()
            for field_name in TOP_VALUES.values()
            if field_name.encode() in fields
        )
        top = _array(fields[b"top"], _INTEGERS, shape, raw)
        values = _array(fields[name], _NUMBERS, shape, raw)
    reason, optional = fields.get(b"reason"), _optional(fields, n, raw)
    known = set(CODE_FIELDS) - (set(_OPTIONAL) - set(optional))
    return CodedEntry(
        entry_id,
        int(fields[b"version"]),
        _array(fields[b"code"], _INTEGERS, (n,), raw),
        _array(fields[b"distance"], _NUMBERS, (n,), raw),
        top,
        values,
        None if reason is None else reason.decode(),
        {name: value for name, value in fields.items() if name.decode() not in known},
        int(fields.get(b"model_id", 0)),
        name.decode(),
        optional.pop("similarity", None),
        optional,
    )


def _optional(fields: Mapping[bytes, bytes], n: int, raw: bool) -> dict[str, Array]:
    """Return the optional fields with one number per point.

    A field of such a name may be a label: an earlier release copied labels of any name.
    """
    values: dict[str, Array] = {}
    for name in _OPTIONAL:
        if (data := fields.get(name.encode())) is None:
            continue
        with suppress(ValueError):
            values[name] = _array(data, score_type(name), (n,), raw)
    return values


def _array(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], raw: bool) -> NDArray[Any]:
    kind = np.int32 if dtype == _INTEGERS else np.float64
    values = np.frombuffer(data, dtype) if raw else np.array(data.split(), kind)
    return values.astype(kind).reshape(shape)
