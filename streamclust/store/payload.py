r"""The wire format of models and checkpoints: safetensors, with one metadata entry of JSON.

    {"streamclust": "{\"format\": \"streamclust.model/1\", ...}"}  +  named float64 arrays

One JSON entry instead of many strings, because safetensors writes its metadata in no fixed order:
so equal contents are equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from streamclust.arrays import Array
from streamclust.errors import FormatError

_ENTRY = "streamclust"


def pack(form: str, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> bytes:
    """Return `arrays` and JSON-able `meta` as safetensors bytes of the given format name."""
    text = json.dumps({"format": form, **meta}, sort_keys=True, separators=(",", ":"))
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(tensors, {_ENTRY: text})


def unpack(data: bytes, form: str, where: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and the metadata of `pack`ed bytes.

    Parameters
    ----------
    data : bytes
    form : str
        The format that is expected, such as ``streamclust.model/1``.
    where : str
        The key or file that the bytes are from, for the error's text.

    Raises
    ------
    FormatError
        If the bytes are truncated, damaged, something else, or of another format version.
    """
    try:
        meta = json.loads(_metadata(data)[_ENTRY])
        found = meta.pop("format")
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise FormatError(
            f"{where} does not hold a {form} payload ({type(error).__name__}); it is damaged or "
            "something else: move it away, or name another namespace or model"
        ) from None
    if found != form:
        raise FormatError(
            f"{where} holds format {found!r}; this version of streamclust reads {form!r}: "
            "use the version that wrote it, or move the key away"
        )
    return arrays, meta


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata
