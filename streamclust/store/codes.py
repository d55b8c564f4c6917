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
they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Array
from streamclust.errors import FormatError, ServerError
from streamclust.store.keys import CODE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis

    from streamclust.quantize import Codes

CodesCall: TypeAlias = tuple[Any, ...]

NO_CODE = -1
"""The code of a point that can't be read."""

_INTEGERS = np.dtype("<i4")
_NUMBERS = np.dtype("<f4")

# IDs are compared as text, by length first: they go up to 2^64, beyond Lua's numbers.
WRITE_CODES = """
local codes, keep = KEYS[1], ARGV[1]
local found = redis.call('TYPE', codes).ok
if found ~= 'none' and found ~= 'stream' then return found end
local last = '0-0'
if found == 'stream' then
  local info = redis.call('XINFO', 'STREAM', codes)
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
end
local function split(id) return string.match(id, '(%d+)-(%d+)') end
local function larger(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local last_ms, last_seq = split(last)
local function is_new(id)
  local ms, seq = split(id)
  if ms ~= last_ms then return larger(ms, last_ms) end
  return larger(seq, last_seq)
end
local i, written = 2, 0
while i <= #ARGV do
  local id, stop = ARGV[i], i + 1 + ARGV[i + 1]
  if is_new(id) then
    redis.call('XADD', codes, 'MAXLEN', '~', keep, id, unpack(ARGV, i + 2, stop))
    written = written + 1
  end
  i = stop + 1
end
return written
"""


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
    """

    entry_id: str
    version: int
    code: NDArray[np.int32]
    distance: Array
    top: NDArray[np.int32] | None
    top_values: Array | None
    reason: str | None
    labels: dict[bytes, bytes]


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
    )


def _array(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], raw: bool) -> NDArray[Any]:
    kind = np.int32 if dtype == _INTEGERS else np.float64
    values = np.frombuffer(data, dtype) if raw else np.array(data.split(), kind)
    return values.astype(kind).reshape(shape)


def codes_call(key: str, entries: Sequence[tuple[bytes, list[bytes]]], keep: int) -> CodesCall:
    """Return the arguments of the EVAL that `write_codes` sends, for a transaction."""
    arguments: list[bytes | int] = [keep]
    for entry_id, flat in entries:
        arguments += [entry_id, len(flat), *flat]
    return (WRITE_CODES, 1, key, *arguments)


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
        before.
    keep : int
        About how many entries the stream keeps.

    Raises
    ------
    ServerError
        If the key is of another type.
    """
    written: Any = client.eval(*codes_call(key, entries, keep))
    if isinstance(written, bytes):
        raise ServerError(f"key {key} holds a {written.decode()}, expected a stream; move it")
    return int(written)


def last_code(client: redis.Redis, key: str) -> str:
    """Return the ID of the newest codes ever written, ``0-0`` before the first."""
    if not client.exists(key):
        return "0-0"
    info: Any = client.xinfo_stream(key)
    last: bytes = info["last-generated-id"]
    return last.decode()
