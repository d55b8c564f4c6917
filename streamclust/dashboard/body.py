"""The bodies of requests: JSON of limited size."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from streamclust.dashboard.errors import ApiError
from streamclust.dashboard.security import is_json

if TYPE_CHECKING:
    from starlette.requests import Request


async def read_body(request: Request, most: int) -> bytes:
    """Return the JSON body of a request; at most `most` bytes.

    Raises
    ------
    ApiError
        If the body is too large, or isn't JSON by its content type.
    """
    if not is_json(request.headers):
        text = "expected a body of JSON: send the header `Content-Type: application/json`"
        raise ApiError(415, "not_json", text)
    too_large = ApiError(413, "too_large", f"the body has more than {most:,} bytes; send less")
    length = request.headers.get("content-length", "")
    if length.isdigit() and (len(length) > 15 or int(length) > most):
        raise too_large
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise too_large
    return bytes(data)


def read_json(data: bytes) -> dict[str, Any]:
    """Return the object of JSON in a body.

    Raises
    ------
    ApiError
        If the body isn't a JSON object, or has NaN, infinity or a name twice in an object.
    """

    def refuse(word: str) -> float:
        raise ApiError(422, "bad_json", f"the body holds {word}, which isn't JSON; send null")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            name = counts.most_common(1)[0][0][:60]
            raise ApiError(422, "bad_json", f"duplicate key {name!r}; send each name once", name)
        return found

    try:
        found = json.loads(data, parse_constant=refuse, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        text = f"the body isn't JSON: {str(error)[:200]}"
        raise ApiError(422, "bad_json", text) from None
    if not isinstance(found, dict):
        raise ApiError(422, "bad_json", 'the body isn\'t an object; expected {"points": [...]}')
    return found
