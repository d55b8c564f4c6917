"""Reading published versions: one, all retained ones, and those to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.errors import DamagedVersionError, FormatError, UnknownModelError
from streamclust.store.published import Model, decode_model
from streamclust.store.streams import order

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from streamclust.store.keys import Keys


def read_model(client: redis.Redis, keys: Keys, version: int | None = None) -> Model:
    """Return the newest version, or the one asked for.

    Raises
    ------
    UnknownModelError
        If nothing has been published under this name, or that version is no longer kept.
    """
    if version is None:
        entries: Any = client.xrevrange(keys.models, count=1)
    else:
        entries = client.xrange(keys.models, f"{version}-0", f"{version}-0")
    if not entries:
        raise UnknownModelError(_missing(client, keys, version))
    return _decode(entries[0], keys)


def newer(client: redis.Redis, keys: Keys, than: int) -> Model | None:
    """Return the newest version if it is newer than the version `than`."""
    return newest_of(client.execute_command(*newer_call(keys, than)), keys)  # type: ignore[no-untyped-call]


def newer_call(keys: Keys, than: int) -> tuple[str | int, ...]:
    """Return the command that `newer` sends."""
    return ("XREVRANGE", keys.models, "+", f"({than}-0", "COUNT", 1)


def newest_of(reply: Any, keys: Keys) -> Model | None:
    """Return what `newer` makes of its reply."""
    return _decode(reply[0], keys) if reply else None


def follow(
    client: redis.Redis, keys: Keys, after: int, *, block_ms: int | None = None
) -> Iterator[Model]:
    """Yield the versions after `after`, waiting up to `block_ms` for the first of them.

    Raises
    ------
    DamagedVersionError
        At one that can't be read; those before it have been yielded.
    """
    reply: Any = client.xread({keys.models: f"{after}-0"}, count=16, block=block_ms)
    for _, entries in reply or ():
        for entry in entries:
            yield _decode(entry, keys)


def model_names(client: redis.Redis, namespace: str) -> list[str]:
    """Return the names of all models that have been published or begun in a namespace."""
    start = f"{{{namespace}:"
    found = set()
    for key in client.scan_iter(match=f"{start}*}}:*", count=1000):
        text = key.decode(errors="backslashreplace")  # another program may choose any bytes
        name, _, _ = text.removeprefix(start).partition("}:")
        found.add(name)
    return sorted(found)


def dead_count(client: redis.Redis, keys: Keys) -> int:
    """Return how many points were ever refused: their entries are numbered."""
    newest: Any = client.xrevrange(keys.dead, count=1)
    return int(newest[0][0].partition(b"-")[0]) if newest else 0


def _decode(entry: tuple[bytes, dict[bytes, bytes]], keys: Keys) -> Model:
    entry_id, fields = entry
    try:
        return decode_model(fields.get(b"payload", b""), f"{keys.models} entry {entry_id.decode()}")
    except FormatError as error:
        raise DamagedVersionError(str(error), order(entry_id)[0]) from None


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
