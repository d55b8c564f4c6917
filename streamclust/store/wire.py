"""Replies of stream reads as the server sends them: native code finds entries and decodes points.

It is part of the library of the kernels (`streamclust/kernels/src/wire.cpp`), and takes what is
plain and perfect only; all else is left to Python. Where the library isn't there or wanted
(`STREAMCLUST_KERNELS=numpy`), hiredis makes lists of the replies, which Python decodes.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.arrays import MAX_MAGNITUDE
from streamclust.kernels import choice
from streamclust.store.codecs.common import Arrays
from streamclust.store.layout import DIMENSION_FIELD, ENTRY_FORMATS, RAW_DTYPE
from streamclust.store.point_buffer import PointBuffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streamclust.models.quantize import Codes
    from streamclust.store.layout import Layout

    Rows = NDArray[np.int64]
    """Entries, (n, 5): both parts of the ID (as uint64), address and bytes of fields and values,
    and how many these are; -1 for an entry that is gone."""

BODY, SIZE, TEXTS = 2, 3, 4
COLUMNS = 5

PART, WHOLE, ODD, NO_ROOM, OTHER = range(5)
"""What a scan finds: see src/resp.hpp."""

SCAN = 8
"""Numbers that a scan keeps between its calls: in second place how far it is; the last two count
streams and entries."""

_IGNORED, _WEIGHT, _BLOCK, _DIMENSION = -1, -2, -3, -4
_LABEL = 1

_SPANS = 4096
"""Places of texts that are Python's numbers at the same time: these are larger than most texts."""

_CODE_BYTES = 128
"""Bytes of an entry's ID, code and distance at most, and of what is before the version; native
code has a bound of its own, and writes nothing beyond the room."""

_NO_ROOM = -2
"""What native code returns where the room may be too small."""


def available() -> bool:
    """Say whether native code is there, and wanted."""
    return choice.library() is not None


_NUMBER, _ARRAY, _FLAG, _BYTES = ctypes.c_int64, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p

_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "scan_reply": (_ARRAY, _ARRAY, _NUMBER, *2 * (_ARRAY, _NUMBER)),
    "cut_texts": (_ARRAY, _NUMBER, _ARRAY, _NUMBER),
    "cut_names": (_ARRAY, _ARRAY, _NUMBER),
    "decode_entries": (
        *(_ARRAY, _NUMBER, _FLAG, _NUMBER, _BYTES, _ARRAY, _ARRAY, _NUMBER, _FLAG, _FLAG),
        *(_BYTES, ctypes.c_double, *2 * (_NUMBER,), *4 * (_ARRAY,)),
    ),
    "write_codes": (_ARRAY, _NUMBER, _NUMBER, _BYTES, *4 * (_ARRAY,), _BYTES, _ARRAY, _NUMBER),
}
"""As in src/wire.cpp."""


@lru_cache(maxsize=1)
def _functions(library: ctypes.CDLL) -> dict[str, Callable[..., int]]:
    functions: dict[str, Callable[..., int]] = {}
    for name, types in _ARGUMENTS.items():
        function = library[name]
        function.argtypes, function.restype = types, _NUMBER
        functions[name] = function
    return functions


def _function(name: str) -> Callable[..., int]:
    library = choice.library()
    if library is None:
        raise AssertionError("nothing is packed where there is no library")
    return _functions(library)[name]


def scan(
    state: NDArray[np.int64], data: NDArray[np.uint8], size: int, streams: Any, rows: Any
) -> int:
    """Go on with a reply of which `size` bytes are there; say what was found.

    Parameters
    ----------
    state : array of shape (SCAN,)
        All 0 for a new reply.
    data : array of bytes
    size : int
    streams : array of shape (_, 3)
        Receives place and size of each stream's name, and the number of its first entry.
    rows : array of shape (_, COLUMNS)
        Receives the entries, with places in `data` for addresses.
    """
    return _function("scan_reply")(
        state.ctypes.data,
        data.ctypes.data,
        size,
        streams.ctypes.data,
        len(streams),
        rows.ctypes.data,
        len(rows),
    )


def texts(rows: Rows) -> list[Any]:
    """Return a list of fields and values for each entry; None for one that is gone."""
    rows = np.ascontiguousarray(rows)
    sizes = rows[:, TEXTS].tolist()
    spans = np.empty((sum(max(size, 0) for size in sizes), 2), np.int64)
    _checked(_function("cut_texts")(rows.ctypes.data, len(rows), spans.ctypes.data, spans.size))
    parts = (spans[start : start + _SPANS].tolist() for start in range(0, len(spans), _SPANS))
    found = (ctypes.string_at(at, size) for part in parts for at, size in part)
    return [None if n < 0 else [next(found) for _ in range(n)] for n in sizes]


def _heads(row: Rows) -> bytes:
    """Return the names of an entry's fields as the reply has them; none if it is gone."""
    out = np.empty(int(row[0, SIZE]), np.uint8)
    size = _checked(_function("cut_names")(row.ctypes.data, out.ctypes.data, len(out)))
    return out[:size].tobytes()


def _checked(result: int) -> int:
    if result < 0:
        raise AssertionError("entries are not what their rows say: these are not of a scan")
    return result


@lru_cache(maxsize=64)
def _split(heads: bytes) -> tuple[bytes, ...]:
    names, at = [], 0
    while at < len(heads):
        start = heads.index(b"\n", at) + 1
        stop = start + int(heads[at + 1 : start])
        names.append(heads[start:stop])
        at = stop + len(b"\r\n")
    return tuple(names)


@dataclass(frozen=True)
class _Plan:
    """What each field of an entry is for."""

    names: bytes
    sizes: NDArray[np.int64]
    roles: NDArray[np.int64]


@lru_cache(maxsize=64)
def _plan(heads: bytes, layout: Layout) -> _Plan | None:
    """Return how to read entries of these fields; None where they can't be perfect."""
    wanted, names = _roles(layout), _split(heads)
    known = dict.fromkeys(names)
    missing = {name for name, role in wanted.items() if role != _DIMENSION} - known.keys()
    unexpected = layout.strict and len(known) > len(wanted)
    if missing or unexpected or len(known) < len(names):
        return None
    return _planned(heads, [wanted.get(name, _IGNORED) for name in names])


def _planned(heads: bytes, roles: list[int]) -> _Plan:
    sizes = [len(b"$%d\r\n%b\r\n" % (len(name), name)) for name in _split(heads)]
    return _Plan(heads, np.array(sizes, np.int64), np.array(roles, np.int64))


def _roles(layout: Layout) -> dict[bytes, int]:
    if layout.format == "fields":
        roles = {key: index for index, key in enumerate(layout.feature_keys)}
    else:
        roles = {DIMENSION_FIELD.encode(): _DIMENSION} if layout.format in RAW_DTYPE else {}
        roles[layout.field_key] = _BLOCK
    return roles if layout.weight_key is None else {**roles, layout.weight_key: _WEIGHT}


def decode(
    rows: Rows, layout: Layout, *, single: bool = False, buffer: PointBuffer | None = None
) -> Arrays | None:
    """Return the points of the first entries, up to the first entry that native code can't decode.

    The result is None if that is the very first entry. Points are float64, except that points of
    the format float32 stay float32 if `single`. With a `buffer`, the points are written to the
    buffer, until it has as many as it wants.
    """
    plan = _plan(_heads(rows[:1]), layout)
    if plan is None:
        return None
    rows = np.ascontiguousarray(rows)
    most, largest = _points(rows, layout)
    buffer, D = buffer or PointBuffer(most), layout.n_features
    single = single and layout.format == "float32"
    X = buffer.room(most, largest, D, np.float32 if single else np.float64)
    w = None if layout.weight_key is None else np.empty(len(X))
    counts, used = np.empty(len(rows), np.int64), ctypes.c_int64()
    taken = _function("decode_entries")(
        *(rows.ctypes.data, len(rows), ENTRY_FORMATS.index(layout.format)),
        *(len(plan.sizes), plan.names, plan.sizes.ctypes.data, plan.roles.ctypes.data),
        *(D, w is not None, single, str(D).encode(), MAX_MAGNITUDE),
        *(buffer.wanted, len(X), X.ctypes.data, None if w is None else w.ctypes.data),
        *(counts.ctypes.data, ctypes.addressof(used)),
    )
    if not taken:
        return None
    buffer.used += used.value
    return Arrays(X[: used.value], counts[:taken], None if w is None else w[: used.value])


def _points(rows: Rows, layout: Layout) -> tuple[int, int]:
    """Return how many points all entries, and one of them, can hold at most."""
    if layout.format == "fields":
        return len(rows), 1
    number = RAW_DTYPE[layout.format].itemsize if layout.format in RAW_DTYPE else len("0,")
    sizes, point = rows[:, SIZE], number * layout.n_features
    return int(sizes.sum()) // point, int(sizes.max()) // point


@lru_cache(maxsize=64)
def _repeated(heads: bytes, labels: frozenset[bytes]) -> tuple[_Plan, tuple[bytes, ...]]:
    """Return how to find the labels in entries of these fields, and which are there."""
    names = _split(heads)
    plan = _planned(heads, [_LABEL if name in labels else _IGNORED for name in names])
    return plan, tuple(name for name in names if name in labels)


def write_codes(
    rows: Rows, codes: Codes, version: int, labels: frozenset[bytes]
) -> tuple[tuple[bytes, ...], bytes] | None:
    """Return the names of labels; and ID, code, distance, version and labels as MessagePack texts.

    None where that is left to Python: where entries have other fields than the first, say.
    """
    plan, names = _repeated(_heads(rows[:1]), labels)
    rows, index = np.ascontiguousarray(rows), np.ascontiguousarray(codes.index, np.int32)
    distance = np.ascontiguousarray(codes.distance, np.float64)
    if not len(rows) == len(index) == len(distance):
        raise ValueError(f"{len(index)} codes for {len(rows)} entries")
    said = b"%d" % version
    room = len(rows) * (_CODE_BYTES + len(said)) + int(rows[:, SIZE].sum())
    out = np.empty(room, np.uint8)
    size = _function("write_codes")(
        *(rows.ctypes.data, len(rows), len(plan.sizes), plan.names),
        *(plan.sizes.ctypes.data, plan.roles.ctypes.data),
        *(index.ctypes.data, distance.ctypes.data, said, out.ctypes.data, room),
    )
    if size == _NO_ROOM:
        raise AssertionError(f"{room} bytes may be too few for the codes of {len(rows)} entries")
    return None if size < 0 else (names, out[:size].tobytes())
