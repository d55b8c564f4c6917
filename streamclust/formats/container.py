r"""The wire format of models and checkpoints: safetensors, with one metadata entry of JSON.

    {"streamclust": "{\"format\": \"streamclust.model/1\", ...}"}  +  named arrays

Equal contents have equal bytes. So the metadata is a single entry, because safetensors writes
several entries in any order. The ``crc32`` in the JSON is computed from the rest of the JSON and
the arrays, so that each damaged byte is detected.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from streamclust.errors import FormatError

_ENTRY = "streamclust"
_SUM = "crc32"
_LARGEST = 1 << 53
_DAMAGES = (SafetensorError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


@dataclass(frozen=True)
class Fields:
    """Named arrays, and values for JSON: the form in which objects are stored and sent.

    Parameters
    ----------
    arrays : dict of str to array
    values : dict of str to object
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def add_part(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add the arrays of a part as ``<name of the part>.<name of the array>``."""
        self.arrays.update({f"{name}.{array_name}": a for array_name, a in arrays.items()})

    def part(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of a part by their names without the name of the part."""
        start = f"{name}."
        return {
            full_name.removeprefix(start): array
            for full_name, array in self.arrays.items()
            if full_name.startswith(start)
        }


def pack(form: str, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> bytes:
    """Return `arrays` and `meta` (values for JSON) as safetensors bytes of the format `form`."""
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = {"format": form, **meta}
    return save(tensors, {_ENTRY: _text({**content, _SUM: _checksum(content, tensors)})})


def unpack(
    data: bytes, forms: str | tuple[str, ...], where: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the metadata of `pack`ed bytes.

    Parameters
    ----------
    data : bytes
    forms : str or tuple of str
        The expected formats, such as ``streamclust.model/1``; the current one first.
    where : str
        Key or file of the bytes, for the error.

    Raises
    ------
    FormatError
        If the bytes are truncated, damaged, not such a payload, or of another format version.
    """
    accepted = (forms,) if isinstance(forms, str) else forms
    form = accepted[0]
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        meta = json.loads(header["__metadata__"][_ENTRY])
        expected, form_found = meta.pop(_SUM), meta["format"]
        arrays = load(data)
        is_whole = _checksum(meta, arrays) == expected
    except _DAMAGES as error:
        raise FormatError(_damaged(where, form, type(error).__name__)) from None
    if not is_whole:
        raise FormatError(_damaged(where, form, "wrong checksum"))
    del meta["format"]
    _refuse_format(form_found, accepted, where)
    return arrays, meta


def _refuse_format(form: Any, accepted: tuple[str, ...], where: str) -> None:
    if form not in accepted:
        raise FormatError(
            f"{where} holds format {form!r}; this version of streamclust reads {accepted[0]!r}: "
            "use the version that wrote it, or move the key away"
        )


def unpack_meta(
    head: bytes, length: int, forms: tuple[str, ...], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metadata of `pack`ed bytes, and the descriptions of the arrays, from the head.

    The checksum is checked if all bytes are given; otherwise only the length is checked.

    Parameters
    ----------
    head : bytes
        The first bytes: at least the header of safetensors.
    length : int
        Number of all bytes.
    forms : tuple of str
        The expected formats; the current one first.
    where : str
        Key of the bytes, for the error.

    Raises
    ------
    FormatError
        If the bytes are truncated, damaged, not such a payload, or of another format version.
    """
    if len(head) >= length:
        arrays, meta = unpack(head, forms, where)
        return meta, {name: {"shape": [*array.shape]} for name, array in arrays.items()}
    try:
        size = 8 + int.from_bytes(head[:8], "little")
        described = json.loads(head[8:size])
        meta = json.loads(described.pop("__metadata__")[_ENTRY])
        form_found = meta.pop("format")
        ends = [entry["data_offsets"][1] for entry in described.values()]
        if size + max(ends, default=0) != length:
            raise ValueError("truncated")
    except (*_DAMAGES, IndexError) as error:
        raise FormatError(_damaged(where, forms[0], type(error).__name__)) from None
    _refuse_format(form_found, forms, where)
    meta.pop(_SUM, None)
    return meta, described


def whole(meta: Mapping[str, Any], name: str, *, least: int = 0) -> int:
    """Return a whole number of the metadata.

    Raises
    ------
    ValueError
        If the value isn't an integer from `least` to 2^53 - 1. The server's scripts compare numbers
        as doubles, which can't represent larger integers exactly.
    """
    value = meta[name]
    if type(value) is not int or not least <= value < _LARGEST:
        text = json.dumps(value)
        shown = text if len(text) <= 40 else f"{text[:40]}..."  # it may have thousands of digits
        raise ValueError(f"{name} is {shown}, expected {least} to {_LARGEST - 1}")
    return value


def _damaged(where: str, form: str, reason: str) -> str:
    return (
        f"{where} does not hold a {form} payload ({reason}); it is damaged, or another program "
        "wrote it: move it away, or name another namespace or model"
    )


def _text(meta: Mapping[str, Any]) -> str:
    return json.dumps(meta, sort_keys=True, separators=(",", ":"))


def _checksum(content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> int:
    crc = zlib.crc32(_text(content).encode())
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.data, crc)
    return crc
