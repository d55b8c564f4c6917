"""Writes the centroids of a model as a vector set, a data type of Redis 8."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import redis

from streamclust.errors import DataError
from streamclust.text import printable

if TYPE_CHECKING:
    from streamclust.formats.model import Model

_TYPE = b"vectorset"

# ARGV: vector, name and attributes of each element.
_REPLACE = """
redis.call('UNLINK', KEYS[1])
for i = 1, #ARGV, 3 do
  redis.call('VADD', KEYS[1], 'FP32', ARGV[i], ARGV[i + 1], 'NOQUANT', 'SETATTR', ARGV[i + 2])
end
"""


def write_vector_set(client: redis.Redis, key: str, model: Model) -> None:
    """Replace the vector set `key` by the centroids of a model, in one script.

    An element has the number of its component as its name, and the attributes `share` (of the
    points) and `version`. The vectors are float32, without quantization.

    Parameters
    ----------
    client : redis.Redis
        A client that doesn't decode replies.
    key : str
    model : Model
        A model with the metric cosine, which is the metric of a vector set.

    Raises
    ------
    DataError
        If the model has another metric, the key holds something else, or the server has no vector
        sets.
    """
    if model.metric != "cosine":
        raise DataError(
            "a vector set compares directions: it needs a model with metric cosine; "
            "write a .faiss file instead"
        )
    found = client.type(key)
    if found not in (b"none", _TYPE):
        kind = printable(bytes(found).decode())  # type: ignore[arg-type]
        raise DataError(f"the key {printable(key)} holds a {kind}; choose another key")
    shares = model.mass / max(float(model.mass.sum()), np.finfo(np.float64).tiny)
    vectors = np.ascontiguousarray(model.means, "<f4")
    arguments: list[bytes | str] = []
    for number, vector, share in zip(model.numbers.tolist(), vectors, shares.tolist(), strict=True):
        attributes = json.dumps({"share": share, "version": model.version})
        arguments += [vector.tobytes(), str(number), attributes]
    try:
        client.eval(_REPLACE, 1, key, *arguments)
    except redis.ResponseError as error:
        if "unknown" not in str(error).lower():
            raise
        raise DataError("this server has no vector sets; they need Redis 8 or newer") from None
