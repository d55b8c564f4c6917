"""Codes in `:codes`: the entries' fields, and the script that writes each of them once.

An entry of one point is plain text::

    code 3  distance 1.25  version 42

An entry of a block of n points has arrays, raw and little-endian, in the order of the block::

    n 1024  code <n int32>  distance <n float32>  version 42

With ``encode.top`` m > 1 there are also ``m``, ``top`` (the m best components, best first) and, by
the model's kind, their ``top_distance`` or ``top_responsibility``: text with spaces between, or
``<n x m int32>`` and ``<n x m float32>``, row by row. `version` is the model's. A point that can't
be read has code -1 and distance NaN; `reason` says why (the first, in a block). An entry that
can't be read as a whole counts as one such point. Fields that ``encode.labels`` names follow as
they came. Where an earlier model of the same name has codes in the stream, those of the later one
have the field ``model_id`` too: versions of both have the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import redis
from numpy.typing import NDArray

from streamclust.arrays import Array
from streamclust.errors import FormatError, ServerError
from streamclust.store.keys import CODE_FIELDS
from streamclust.store.packed_codes import as_rows
from streamclust.store.streams import LESS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamclust.models.quantize import Codes

CodesCall: TypeAlias = tuple[Any, ...]

NO_CODE = -1
"""The code of a point that can't be read."""

_INTEGERS = np.dtype("<i4")
_NUMBERS = np.dtype("<f4")

# As their IDs rise, all after one that is new are new.
WRITER = (
    LESS
    + """
local function last_code(codes)
  local found = redis.call('TYPE', codes).ok
  if found == 'none' then return '0-0' end
  if found ~= 'stream' then return nil, found end
  return named(redis.call('XINFO', 'STREAM', codes))['last-generated-id']
end
local function first_id(rows) return rows[4 + tonumber(rows[2])] end
local function write(codes, last, keep, rows)
  local written, is_new, ids, i = 0, false, {}, 1
  while i <= #rows do
    local entries, width, row = tonumber(rows[i]), tonumber(rows[i + 1]), {}
    for field = 1, width do row[2 * field] = rows[i + 1 + field] end
    i = i + 3 + width
    local last_place = 2 * width + 1
    if rows[i - 1] ~= '0' then
      row[last_place + 1], row[last_place + 2] = 'model_id', rows[i - 1]
      last_place = last_place + 2
    end
    for _ = 1, entries do
      row[1] = rows[i]
      for field = 1, width do row[2 * field + 1] = rows[i + field] end
      i = i + 1 + width
      ids[#ids + 1] = row[1]
      is_new = is_new or less(last, row[1])
      if is_new and width > 0 then
        written = written + 1
        if i <= #rows then
          redis.call('XADD', codes, unpack(row, 1, last_place))
        else
          redis.call('XADD', codes, 'MAXLEN', '~', keep, unpack(row, 1, last_place))
        end
      end
    end
  end
  return written, ids
end
"""
)
"""For scripts: the newest ID that `:codes` has had, or nil and the key's type if it is no stream;
and the writing of what `as_rows` has packed. The last one trims the stream."""

WRITE_CODES = (
    WRITER
    + """
local last, other = last_code(KEYS[1])
if other then return other end
local written = write(KEYS[1], last, ARGV[1], cmsgpack.unpack(ARGV[2]))
return written
"""
)


@dataclass(frozen=True, eq=False)
class CodedEntry:
    """The codes of one entry of the points' stream.

    Parameters
    ----------
    entry_id : str
        The ID in both streams.
    version : int
        Of the model that was used.
    code : array of int32, shape (n,)
    distance : array of shape (n,)
    top : array of int32, shape (n, m), or None
    top_values : array of shape (n, m) or None
        Distances or responsibilities.
    reason : str or None
        Why a code is -1.
    labels : dict of bytes to bytes
        What was repeated from the points' entry.
    model_id : int
        ID of the model, where an earlier one of the same name has codes in the stream; else 0.
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


def encode_fields(codes: Codes, version: int, values: str, reason: str | None) -> list[bytes]:
    """Return the fields and values of one entry.

    Parameters
    ----------
    codes : Codes
        Of the entry's points; one point gives text, more give arrays.
    version : int
    values : str
        The field of `codes.top_values`: ``top_distance`` or ``top_responsibility``.
    reason : str or None
    """
    one = len(codes) == 1
    integers, numbers = (_text, _text) if one else (_raw_integers, _raw_numbers)
    flat = [] if one else [b"n", b"%d" % len(codes)]
    flat += [b"code", integers(codes.index), b"distance", numbers(codes.distance)]
    flat += [b"version", b"%d" % version]
    if codes.top is not None and codes.top_values is not None:
        flat += [b"m", b"%d" % codes.top.shape[1], b"top", integers(codes.top)]
        flat += [values.encode(), numbers(codes.top_values)]
    return flat if reason is None else [*flat, b"reason", reason.encode()]


def encode_points(codes: Codes, version: int) -> list[list[bytes]]:
    """Return what `encode_fields` does for entries of one point each, without `top`."""
    said = b"%d" % version
    numbers, distances = codes.index.tolist(), codes.distance.tolist()
    return [
        [b"code", b"%d" % number, b"distance", repr(distance).encode(), b"version", said]
        for number, distance in zip(numbers, distances, strict=True)
    ]


def _text(values: NDArray[Any]) -> bytes:
    return " ".join(map(repr, values.ravel().tolist())).encode()


def _raw_integers(values: NDArray[Any]) -> bytes:
    return values.astype(_INTEGERS).tobytes()


def _raw_numbers(values: NDArray[Any]) -> bytes:
    return values.astype(_NUMBERS).tobytes()


def decode_fields(entry_id: str, fields: Mapping[bytes, bytes], where: str) -> CodedEntry:
    """Return what `encode_fields` wrote.

    Raises
    ------
    FormatError
        If the fields are something else; `where` (the key) is named.
    """
    try:
        return _decoded(entry_id, fields)
    except (LookupError, ValueError) as error:
        raise FormatError(f"{where} entry {entry_id} holds no codes: {error!r}") from None


def _decoded(entry_id: str, fields: Mapping[bytes, bytes]) -> CodedEntry:
    raw = b"n" in fields
    n = int(fields.get(b"n", 1))
    top = values = None
    if b"m" in fields:
        shape = n, int(fields[b"m"])
        name = b"top_distance" if b"top_distance" in fields else b"top_responsibility"
        top = _array(fields[b"top"], _INTEGERS, shape, raw)
        values = _array(fields[name], _NUMBERS, shape, raw)
    reason = fields.get(b"reason")
    return CodedEntry(
        entry_id,
        int(fields[b"version"]),
        _array(fields[b"code"], _INTEGERS, (n,), raw),
        _array(fields[b"distance"], _NUMBERS, (n,), raw),
        top,
        values,
        None if reason is None else reason.decode(),
        {name: value for name, value in fields.items() if name.decode() not in CODE_FIELDS},
        int(fields.get(b"model_id", 0)),
    )


def _array(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], raw: bool) -> NDArray[Any]:
    kind = np.int32 if dtype == _INTEGERS else np.float64
    values = np.frombuffer(data, dtype) if raw else np.array(data.split(), kind)
    return values.astype(kind).reshape(shape)


def codes_call(key: str, entries: Sequence[tuple[bytes, list[bytes]]], keep: int) -> CodesCall:
    """Return the arguments of the EVAL that `write_codes` sends, for a transaction."""
    return (WRITE_CODES, 1, key, keep, as_rows(entries))


def write_codes(
    client: redis.Redis, key: str, entries: Sequence[tuple[bytes, list[bytes]]], keep: int
) -> int:
    """Add entries under their IDs, all in one step; return how many were new.

    Parameters
    ----------
    client : redis.Redis
    key : str
    entries : sequence of (ID, fields and values)
        IDs rise. Those up to the newest that the stream has had are left out: they were written
        before. So are those without fields.
    keep : int
        About how many entries the stream keeps.

    Raises
    ------
    ServerError
        If the key is of another type.
    """
    return how_many(client.eval(*codes_call(key, entries, keep)), key)


def how_many(written: Any, key: str) -> int:
    """Return how many entries a script has written to a key.

    Raises
    ------
    ServerError
        If it found another type there.
    """
    if isinstance(written, bytes):
        raise ServerError(f"key {key} holds a {written.decode()}, expected a stream; move it")
    return int(written)


def last_code(client: redis.Redis, key: str) -> str:
    """Return the ID of the newest codes ever written, ``0-0`` before the first."""
    try:
        info: Any = client.xinfo_stream(key)
    except redis.ResponseError as error:
        if "no such key" not in str(error):
            raise
        return "0-0"
    last: bytes = info["last-generated-id"]
    return last.decode()
