"""Reads published versions: one version, all stored versions, or new versions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from streamclust.errors import DamagedVersionError, FormatError, UnknownModelError
from streamclust.formats.model import LARGEST_ID, Model, decode_model
from streamclust.formats.model_head import decode_head
from streamclust.store.ids import order
from streamclust.store.reply.raw_entries import ListEntries
from streamclust.store.stream.info import last_size
from streamclust.store.stream.read_size import ReadSize, read_value
from streamclust.text import ONE_MODEL, is_pattern, known_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from streamclust.formats.model_head import ModelHead
    from streamclust.store.model.keys import Keys

VERSIONS = 16
"""Maximum number of versions per read."""

_LARGEST = (1 << 64) - 1
"""The largest first and second number of an entry ID."""


def read_model(client: redis.Redis, keys: Keys, version: int | None = None) -> Model:
    """Return the given version, or the newest one.

    Raises
    ------
    UnknownModelError
        If no version has been published, or the given version isn't stored any more.
    """
    entries: Any = []
    if version is None:
        entries = newest_entry(client, keys)
    elif version <= _LARGEST:
        ask = partial(client.xrange, keys.models, f"{version}-0", f"{version}-0")
        entries = _read_entry(client, keys, ask, version)
    if not entries:
        raise UnknownModelError(_missing(client, keys, version))
    return _decode(entries[0], keys)


def newest_entry(client: redis.Redis, keys: Keys) -> Any:
    """Return a list with the entry of the newest version; an empty list if there is none."""
    return _read_entry(client, keys, partial(client.xrevrange, keys.models, count=1))


def read_newer(client: redis.Redis, keys: Keys, than: int) -> Model | None:
    """Return the newest version if its number is larger than `than`; else None."""
    ask = partial(client.execute_command, *newer_command(keys, than))
    return newest_in_reply(_read_entry(client, keys, ask), keys)


def _read_entry(
    client: redis.Redis, keys: Keys, ask: Callable[[], Any], version: int | None = None
) -> Any:
    """Return the result of `ask`, which reads the given version or the newest one."""

    def describe() -> str:
        end = "+" if version is None else f"{version}-0"
        entry_id, size = last_size(client, keys.models, end)
        return f"entry {entry_id.decode()} of {keys.models} ({size:,} bytes)"

    which = "the newest entry" if version is None else f"entry {version}-0"
    return read_value(client, f"{which} of {keys.models}", ask, describe)


def newest_unless(client: redis.Redis, keys: Keys, known: Model) -> Model | None:
    """Return the newest version, also with a lower number; None if it is the known version."""
    entries = newest_entry(client, keys)
    if not entries:
        return None
    entry_id, fields = entries[0]
    found = entry_id, model_id_of(fields, keys.models)
    return (
        None
        if found == (b"%d-0" % known.version, known.model_id or -1)
        else _decode(entries[0], keys)
    )


def newer_command(keys: Keys, than: int) -> tuple[str | int, ...]:
    """Return the command of `read_newer`."""
    return ("XREVRANGE", keys.models, "+", f"({than}-0", "COUNT", 1)


def newest_in_reply(reply: Any, keys: Keys) -> Model | None:
    """Return the version in the reply to `newer_command`; None if there is none."""
    return _decode(reply[0], keys) if reply else None


def follow(
    client: redis.Redis,
    keys: Keys,
    after: int,
    *,
    block_ms: int | None = None,
    size: ReadSize | None = None,
    most: int = VERSIONS,
) -> Iterator[Model]:
    """Yield up to `most` versions after `after`; wait up to `block_ms` for the first of them.

    A call can yield fewer versions than exist. Pass the same `size` to the next call, because it
    remembers how large reads may be.

    Raises
    ------
    DamagedVersionError
        At a version that can't be read, after the versions before it were yielded.
    """
    size = size or ReadSize(most=VERSIONS)
    last = f"{min(after, _LARGEST)}-{_LARGEST}"  # also after an entry 5-1, which is no version
    position = {keys.models: last}
    reply: Any = size.read(
        client,
        lambda count: client.xread(position, count=count, block=block_ms),  # type: ignore[arg-type]
        min(size.next_count, most),
        keys.models,
        last,
    )
    for _, entries in reply or ():
        flats = [(entry_id, [*chain(*fields.items())]) for entry_id, fields in entries]
        size.record(ListEntries(flats))
        for entry in entries:
            yield _decode(entry, keys)


def model_names(client: redis.Redis, namespace: str, pattern: str = "*") -> list[str]:
    """Return the names of all models that have keys in a namespace, and match a pattern.

    The server evaluates the pattern: ``*``, ``?`` and ``[...]``.
    """
    start = f"{{{namespace}:"
    found = set()
    for key in client.scan_iter(match=f"{start}{pattern}}}:*", count=1000):
        text = key.decode(errors="backslashreplace")  # another program may choose any bytes
        name, _, _ = text.removeprefix(start).partition("}:")
        found.add(name)
    return sorted(found)


def _decode(entry: tuple[bytes, dict[bytes, bytes]], keys: Keys) -> Model:
    """Return the version in an entry.

    Raises
    ------
    DamagedVersionError
        If the version is damaged, or has another number than the entry's ID.
    """
    entry_id, fields = entry
    where = f"{keys.models} entry {entry_id.decode()}"
    try:
        model = decode_model(fields.get(b"payload", b""), where)
        check_id(entry_id, model.version, keys)
        return replace(
            model,
            name=keys.model,  # a renamed model has versions with its earlier name
            model_id=model_id_of(fields, where),
            published_ms=_milliseconds(fields.get(b"time", b"")),
        )
    except FormatError as error:
        raise DamagedVersionError(str(error), order(entry_id)[0]) from None


def decode_entry_head(
    entry_id: bytes, fields: dict[bytes, bytes], length: int, mass: bytes, keys: Keys
) -> ModelHead:
    """Return the version in an entry, of whose payload only the first bytes were read.

    `length` is that of the whole payload, and `mass` the bytes of this array.

    Raises
    ------
    FormatError
        If the version is damaged, or has another number than the entry's ID.
    """
    where = f"{keys.models} entry {entry_id.decode()}"
    head = decode_head(
        fields.get(b"payload", b""),
        length,
        mass,
        keys.model,
        where,
        model_id=model_id_of(fields, where),
        published_ms=_milliseconds(fields.get(b"time", b"")),
    )
    check_id(entry_id, head.version, keys)
    return head


def check_id(entry_id: bytes, version: Any, keys: Keys) -> None:
    """Refuse a version that is stored under the ID of another one.

    Raises
    ------
    FormatError
    """
    if entry_id != f"{version}-0".encode():
        where = f"{keys.models} entry {entry_id.decode()}"
        raise FormatError(
            f"{where} holds version {version}, but the ID of an entry is its version: "
            f"remove it (XDEL {keys.models} {entry_id.decode()})"
        )


def _milliseconds(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) < 19 else None


def model_id_of(fields: dict[bytes, bytes], where: str) -> int:
    """Return the model ID of an entry of `:models`, or of a proposal; 0 if there is none.

    Raises
    ------
    FormatError
        If the value isn't a model ID. The message names `where`.
    """
    return _as_model_id(fields.get(b"model_id"), where)


def read_model_id(client: redis.Redis, keys: Keys) -> int:
    """Return the model ID in the key `:id`; 0 if there is none.

    Raises
    ------
    FormatError
        If the value of the key isn't a model ID.
    """
    found: Any = client.get(keys.id)
    return _as_model_id(found, f"key {keys.id}")


def _as_model_id(text: bytes | None, where: str) -> int:
    if text is None:
        return 0
    if not (text.isdigit() and len(text) <= len(str(LARGEST_ID)) and int(text) <= LARGEST_ID):
        raise FormatError(
            f"{where} holds the model ID {text[:40]!r}, expected a number up to {LARGEST_ID}: "
            "remove it"
        )
    return int(text)


def _missing(client: redis.Redis, keys: Keys, version: int | None) -> str:
    if version is not None and client.exists(keys.models):
        oldest: Any = client.xrange(keys.models, count=1)
        first = oldest[0][0].decode().partition("-")[0] if oldest else "none"
        what = f"version {version} of {keys.model!r}"
        return f"{what} isn't stored; the oldest stored version is {first}"
    there = model_names(client, keys.namespace)
    if keys.model not in there and (is_pattern(keys.model) or "{" in keys.model):
        return ONE_MODEL.format(keys.model)
    others = known_names(keys.model, there, "models there")
    if keys.model in there:
        others = "a worker publishes it after the warm-up"
    return f"model {keys.model!r} has not been published in namespace {keys.namespace!r}; {others}"
