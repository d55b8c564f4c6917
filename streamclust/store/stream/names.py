"""The names of streams: which of them don't exist, and which exist instead."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING

import redis

from streamclust.store.ids import BEGINNING
from streamclust.store.server.wrong_type import is_wrong_type
from streamclust.store.stream.info import look

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamclust.store.stream.info import StreamInfo

_SEARCHED = 20_000
"""Maximum number of keys among which similar names are searched."""

_SHOWN = 5


def missing_streams(client: redis.Redis, streams: Iterable[str]) -> list[str]:
    """Return the streams that don't exist, or never had an entry.

    A consumer group can create the key of its stream, so the key alone doesn't show that a producer
    has written to the stream. A key of another type isn't missing; a read of the key reports it.
    """

    def is_absent(stream: str) -> bool:
        try:
            return is_missing(look(client, stream))
        except redis.ResponseError as error:
            if is_wrong_type(error):
                return False
            raise

    return list(filter(is_absent, streams))


def is_missing(info: StreamInfo | None) -> bool:
    """Return whether a stream doesn't exist, or never had an entry; see `missing_streams`."""
    return info is None or (info.length == 0 and info.last == BEGINNING)


def missing_text(stream: str, server: str, *, end: str = " yet") -> str:
    """Return a text for a stream that doesn't exist on a server: not yet, or not any more."""
    return f"stream {stream!r} doesn't exist{end} on {server}"


def similar_streams(client: redis.Redis, name: str) -> list[str]:
    """Return names of up to five existing streams that are similar to `name`, best first.

    Of a large database, only the first 20,000 keys are compared; keys of models are left out.
    Without the right to SCAN, the list is empty.
    """
    try:
        keys = {
            key.decode(errors="backslashreplace"): key
            for key in islice(client.scan_iter(count=1000), _SEARCHED)
        }
        others = [key for key in keys if key != name and not key.startswith("{")]
        near = get_close_matches(name, others, n=_SHOWN)
        return [found for found in near if client.type(keys[found]) == b"stream"]
    except redis.ResponseError:
        return []


def missing_hint(client: redis.Redis, name: str) -> str:
    """Return a text on what to do about a stream that doesn't exist."""
    near = similar_streams(client, name)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"fill it with: streamclust ingest FILE --stream {name}"
