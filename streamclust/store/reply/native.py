"""The native code for stream reads: it finds the entries in a reply and decodes their points.

It is part of the library of the kernels (`streamclust/kernels/src/redis_reply.cpp`) and handles
only plain and correct entries; Python handles all others. Without the library, or with
`STREAMCLUST_KERNELS=numpy`, hiredis makes lists of the replies, and Python decodes them.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.formats.codecs.common import Arrays
from streamclust.formats.layout import DIMENSION_FIELD, ENTRY_FORMATS, RAW_DTYPE
from streamclust.kernels import choice
from streamclust.kernels.native import address_of
from streamclust.store.reply.point_buffer import PointBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streamclust.formats.layout import Layout
    from streamclust.models.quantize import Codes

    Rows = NDArray[np.int64]
    """Entries, (n, 5): the two numbers of the ID (as uint64), address, number of bytes, and number
    of fields and values; -1 for an entry that is gone."""

BODY, SIZE, TEXTS = 2, 3, 4
COLUMNS = 5

PART, WHOLE, ODD, _FULL, OTHER = range(5)
"""Results of a scan; see src/redis_reply.hpp. `_FULL`: a table has no room for the next row."""

_SCAN = 8
"""Length of a scan's state. The second number is the scanned size; the last two are the numbers of
streams and entries."""

_ENTRIES = 1024
"""Minimum number of rows in the table of a reply's entries."""

_IGNORED, _WEIGHT, _BLOCK, _DIMENSION = -1, -2, -3, -4
_LABEL = 1

_SPANS = 4096
"""Number of places of texts that are converted to Python integers at a time, to save memory."""

_CODE_BYTES, _NUMBER_BYTES = 96, 33
"""Maximum bytes of an entry's ID, its code and the text before the version; and of a number.
Native code checks the room too, and never writes beyond it."""

_NO_ROOM = -2
"""Result of native code if the room may be too small."""


def available() -> bool:
    """Return whether native code is available and enabled."""
    return choice.library() is not None


_NUMBER, _ARRAY, _FLAG, _BYTES = ctypes.c_int64, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p

_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "scan_reply": (_ARRAY, _ARRAY, _NUMBER, *2 * (_ARRAY, _NUMBER)),
    "cut_texts": (_ARRAY, _NUMBER, _ARRAY, _NUMBER),
    "cut_names": (_ARRAY, _ARRAY, _NUMBER),
    "decode_entries": (
        *(_ARRAY, _NUMBER, _FLAG, _NUMBER, _BYTES, _ARRAY, _ARRAY, _NUMBER, *3 * (_FLAG,)),
        *(_BYTES, ctypes.c_double, *2 * (_NUMBER,), *4 * (_ARRAY,)),
    ),
    "write_codes": (
        *(_ARRAY, _NUMBER, _NUMBER, _BYTES, *4 * (_ARRAY,)),
        *(_NUMBER, _BYTES, _ARRAY, _NUMBER),
    ),
}
"""As in src/redis_reply.cpp."""


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
        raise AssertionError("packed entries need the native library, which isn't loaded")
    return _functions(library)[name]


class ReplyScan:
    """The scan of successive replies.

    A reply often arrives in pieces, and most replies are short. So the tables and their addresses
    are reused until a complete reply takes the tables.

    Parameters
    ----------
    rows : int, default=1024
        Initial number of rows in the table of entries.
    """

    def __init__(self, rows: int = _ENTRIES) -> None:
        self._scan = _function("scan_reply")
        self._state = np.zeros(_SCAN, np.int64)
        self._state_address = address_of(self._state)
        self._use(np.empty((1, 3), np.int64), np.empty((rows, COLUMNS), np.int64))

    def _use(self, streams: NDArray[np.int64], rows: Rows) -> None:
        self._streams, self._rows = streams, rows
        self._tables = address_of(streams), len(streams), address_of(rows), len(rows)

    @property
    def scanned(self) -> int:
        """Number of bytes that were scanned."""
        return int(self._state[1])

    def __call__(self, address: int, size: int) -> int:
        """Continue the scan; return the result: PART, WHOLE, ODD or OTHER.

        Parameters
        ----------
        address : int
            Address of the received bytes; they may move between two calls.
        size : int
            Number of received bytes.
        """
        while True:
            found = self._scan(self._state_address, address, size, *self._tables)
            if found != _FULL:
                return found
            self._use(
                *(
                    np.concatenate([table, np.empty_like(table)]) if used == len(table) else table
                    for table, used in zip(
                        (self._streams, self._rows), self._state[-2:].tolist(), strict=True
                    )
                )
            )

    def take(self) -> tuple[list[list[int]], Rows]:
        """Return the result of a whole reply, and start the next scan with other tables.

        Returns
        -------
        streams : list of [place of the stream's name, its size, index of the first entry]
        rows : array of shape (entries, COLUMNS)
            With places in the received bytes instead of addresses.
        """
        n_streams, n_entries = self._state[-2:].tolist()
        streams, rows = self._streams[:n_streams].tolist(), self._rows[:n_entries]
        self._use(self._streams, np.empty((max(_ENTRIES, n_entries + 1), COLUMNS), np.int64))
        self.reset()
        return streams, rows

    def reset(self) -> None:
        """Start the scan of the next reply."""
        self._state.fill(0)


def texts(rows: Rows) -> list[Any]:
    """Return the list of fields and values of each entry; None for an entry that is gone."""
    rows = np.ascontiguousarray(rows)
    sizes = rows[:, TEXTS].tolist()
    spans = np.empty((sum(max(size, 0) for size in sizes), 2), np.int64)
    _checked(_function("cut_texts")(address_of(rows), len(rows), address_of(spans), spans.size))
    parts = (spans[start : start + _SPANS].tolist() for start in range(0, len(spans), _SPANS))
    found = (ctypes.string_at(at, size) for part in parts for at, size in part)
    return [None if n < 0 else [next(found) for _ in range(n)] for n in sizes]


def heads_of(row: Rows) -> bytes:
    """Return the names of an entry's fields in the form of the reply; empty if it is gone."""
    out = np.empty(int(row[0, SIZE]), np.uint8)
    size = _checked(_function("cut_names")(address_of(row), address_of(out), len(out)))
    return out[:size].tobytes()


def _checked(result: int) -> int:
    if result < 0:
        raise AssertionError(
            "the rows of entries don't match their bytes: the rows aren't from a scan"
        )
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


class _Plan:
    """The role of each field of an entry, as native code takes it in `arguments`."""

    def __init__(self, heads: bytes, roles: list[int]) -> None:
        sizes = [len(b"$%d\r\n%b\r\n" % (len(name), name)) for name in _split(heads)]
        self._arrays = np.array([sizes, roles], np.int64)
        self.arguments = (len(sizes), heads, *map(address_of, self._arrays))


@lru_cache(maxsize=64)
def _plan(heads: bytes, layout: Layout) -> _Plan | None:
    """Return the plan to decode entries of these fields; None if native code can't decode them."""
    wanted, names = _roles(layout), _split(heads)
    known = dict.fromkeys(names)
    missing = {name for name, role in wanted.items() if role != _DIMENSION} - known.keys()
    unexpected = layout.strict and not known.keys() <= wanted.keys()
    if unexpected or len(known) < len(names):
        return None
    optional = layout.format == "fields" and layout.learns_missing
    if missing and optional and layout.weight_key not in missing:
        names = _completed(names, layout)
        heads = b"".join(b"$%d\r\n%b\r\n" % (len(name), name) for name in names)
    elif missing:
        return None
    return _Plan(heads, [wanted.get(name, _IGNORED) for name in names])


def _completed(names: Sequence[bytes], layout: Layout) -> tuple[bytes, ...]:
    """Return the fields of an entry with all features, each after the one before it.

    Entries without some of these fields, in the same order, are decoded by the same plan.
    """
    whole, place = list(names), 0
    for name in layout.feature_keys:
        if name in whole:
            place = whole.index(name) + 1
        else:
            whole.insert(place, name)
            place += 1
    return tuple(whole)


def _roles(layout: Layout) -> dict[bytes, int]:
    if layout.format == "fields":
        roles = {key: index for index, key in enumerate(layout.feature_keys)}
    else:
        roles = {DIMENSION_FIELD.encode(): _DIMENSION} if layout.format in RAW_DTYPE else {}
        roles[layout.field_key] = _BLOCK
    return roles if layout.weight_key is None else {**roles, layout.weight_key: _WEIGHT}


def decode(
    rows: Rows,
    layout: Layout,
    *,
    single: bool = False,
    buffer: PointBuffer | None = None,
    heads: bytes | None = None,
) -> Arrays | None:
    """Return the points of the first entries, up to the first entry that native code can't decode.

    The result is None if native code can't decode the first entry. Points are float64, except that
    points of the format float32 stay float32 if `single`. With a `buffer`, the points are written
    to the buffer, until it has the number of points that it needs. `heads` is the result of
    `heads_of` for the first entry, if it is known.
    """
    plan = _plan(heads_of(rows[:1]) if heads is None else heads, layout)
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
        *(address_of(rows), len(rows), ENTRY_FORMATS.index(layout.format), *plan.arguments),
        *(D, w is not None, single, layout.learns_missing),
        *(b"%d" % D, layout.max_magnitude),
        *(buffer.batch_points, len(X), address_of(X), None if w is None else address_of(w)),
        *(address_of(counts), ctypes.addressof(used)),
    )
    if not taken:
        return None
    buffer.used += used.value
    return Arrays(X[: used.value], counts[:taken], None if w is None else w[: used.value])


def _points(rows: Rows, layout: Layout) -> tuple[int, int]:
    """Return the maximum number of points of all entries, and of one entry."""
    if layout.format == "fields":
        return len(rows), 1
    number = RAW_DTYPE[layout.format].itemsize if layout.format in RAW_DTYPE else len("0,")
    sizes, point = rows[:, SIZE], number * layout.n_features
    return int(sizes.sum()) // point, int(sizes.max()) // point


@lru_cache(maxsize=64)
def _repeated(heads: bytes, labels: frozenset[bytes]) -> tuple[_Plan, tuple[bytes, ...]]:
    """Return the plan to find the labels in entries of these fields, and the labels' names."""
    names = _split(heads)
    plan = _Plan(heads, [_LABEL if name in labels else _IGNORED for name in names])
    return plan, tuple(name for name in names if name in labels)


def write_codes(
    rows: Rows, codes: Codes, version: int, labels: frozenset[bytes], heads: bytes
) -> tuple[tuple[bytes, ...], bytes] | None:
    """Return the names of the labels, and the codes as MessagePack texts.

    The texts of each entry are the ID, code, distance, the numbers of `Codes.more`, version and
    labels. The result is None if native code can't write them, for example if the entries have
    different fields. `heads` is the result of `heads_of` for the first entry.
    """
    plan, names = _repeated(heads, labels)
    rows, index = np.ascontiguousarray(rows), np.ascontiguousarray(codes.index, np.int32)
    columns = [codes.distance, *codes.more.values()]
    numbers = np.asarray(columns if len(columns) > 1 else columns[0], np.float64, order="C")
    if not len(rows) == len(index) == len(codes.distance):
        raise ValueError(f"{len(index)} codes for {len(rows)} entries")
    version_text = b"%d" % version
    entry = _CODE_BYTES + _NUMBER_BYTES * len(columns) + len(version_text)
    room = len(rows) * entry + int(rows[:, SIZE].sum())
    out = np.empty(room, np.uint8)
    size = _function("write_codes")(
        *(address_of(rows), len(rows), *plan.arguments),
        *(address_of(index), address_of(numbers), len(columns)),
        *(version_text, address_of(out), room),
    )
    if size == _NO_ROOM:
        raise AssertionError(f"{room} bytes may be too few for the codes of {len(rows)} entries")
    return None if size < 0 else (names, out[:size].tobytes())
