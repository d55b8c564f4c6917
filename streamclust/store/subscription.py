"""Reading published versions: one, all retained ones, and those to come."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from streamclust.errors import UnknownModelError
from streamclust.store.published import Model, decode_model
from streamclust.store.read_size import ReadSize, read_value
from streamclust.store.streams import last_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from streamclust.store.keys import Keys

VERSIONS = 16
"""Versions that one read asks for at most."""


def read_model(client: redis.Redis, keys: Keys, version: int | None = None) -> Model:
    """Return the newest version, or the one asked for.

    Raises
    ------
    UnknownModelError
        If nothing has been published under this name, or that version is no longer kept.
    """
    if version is None:
        entries = newest_entry(client, keys)
    else:
        ask = partial(client.xrange, keys.models, f"{version}-0", f"{version}-0")
        entries = _read_entry(client, keys, ask, version)
    if not entries:
        raise UnknownModelError(_missing(client, keys, version))
    return _decode(entries[0], keys)


def newest_entry(client: redis.Redis, keys: Keys) -> Any:
    """Return the entry of the newest version, in a list; an empty one if there is none."""
    return _read_entry(client, keys, partial(client.xrevrange, keys.models, count=1))


def newer(client: redis.Redis, keys: Keys, than: int) -> Model | None:
    """Return the newest version if it is newer than the version `than`."""
    ask = partial(client.execute_command, *newer_call(keys, than))
    return newest_of(_read_entry(client, keys, ask), keys)


def _read_entry(
    client: redis.Redis, keys: Keys, ask: Callable[[], Any], version: int | None = None
) -> Any:
    """Return what `ask` reads, of one version or the newest."""

    def describe() -> str:
        end = "+" if version is None else f"{version}-0"
        entry_id, size = last_size(client, keys.models, end)
        return f"entry {entry_id.decode()} of {keys.models} ({size:,} bytes)"

    which = "the newest entry" if version is None else f"entry {version}-0"
    return read_value(client, f"{which} of {keys.models}", ask, describe)


def newer_call(keys: Keys, than: int) -> tuple[str | int, ...]:
    """Return the command that `newer` sends."""
    return ("XREVRANGE", keys.models, "+", f"({than}-0", "COUNT", 1)


def newest_of(reply: Any, keys: Keys) -> Model | None:
    """Return what `newer` makes of its reply."""
    return _decode(reply[0], keys) if reply else None


def follow(
    client: redis.Redis,
    keys: Keys,
    after: int,
    *,
    block_ms: int | None = None,
    size: ReadSize | None = None,
) -> Iterator[Model]:
    """Yield the versions after `after`, waiting up to `block_ms` for the first of them.

    A call may yield fewer than there are. With the `size` of earlier calls it asks for as many as
    the replies could hold.
    """
    size = size or ReadSize(most=VERSIONS)
    position = {keys.models: f"{after}-0"}
    reply: Any = size.read(
        client,
        lambda count: client.xread(position, count=count, block=block_ms),  # type: ignore[arg-type]
        size.next_count,
        keys.models,
        f"{after}-0",
    )
    for _, entries in reply or ():
        size.took([(entry_id, [*chain(*fields.items())]) for entry_id, fields in entries])
        for entry in entries:
            yield _decode(entry, keys)


def model_names(client: redis.Redis, namespace: str) -> list[str]:
    """Return the names of all models that have been published or begun in a namespace."""
    start = f"{{{namespace}:"
    found = set()
    for key in client.scan_iter(match=f"{start}*}}:*", count=1000):
        name, _, _ = key.decode().removeprefix(start).partition("}:")
        found.add(name)
    return sorted(found)


def dead_count(client: redis.Redis, keys: Keys) -> int:
    """Return how many points were ever refused: their entries are numbered."""
    newest: Any = client.xrevrange(keys.dead, count=1)
    return int(newest[0][0].partition(b"-")[0]) if newest else 0


def _decode(entry: tuple[bytes, dict[bytes, bytes]], keys: Keys) -> Model:
    entry_id, fields = entry
    return decode_model(fields.get(b"payload", b""), f"{keys.models} entry {entry_id.decode()}")


def _missing(client: redis.Redis, keys: Keys, version: int | None) -> str:
    if version is not None and client.exists(keys.models):
        oldest: Any = client.xrange(keys.models, count=1)
        first = oldest[0][0].decode().partition("-")[0] if oldest else "none"
        return f"version {version} of {keys.model!r} isn't kept; the oldest kept one is {first}"
    others = ", ".join(model_names(client, keys.namespace)) or "none"
    return (
        f"model {keys.model!r} has not been published in namespace {keys.namespace!r}; "
        f"models there: {others}"
    )
