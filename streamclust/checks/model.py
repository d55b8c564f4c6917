"""Checks of one model: its start, its streams, its state, and the size of its versions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import redis

from streamclust.checks.check import Check
from streamclust.checks.server import size_text
from streamclust.config.learning import WarmUp
from streamclust.errors import StreamclustError
from streamclust.formats.points import detect_first
from streamclust.runtime.assemble import first_state, load_checkpoint, make_learner, points_format
from streamclust.store.ids import order
from streamclust.store.model.health import read_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.state import read_state
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes
from streamclust.store.stream.info import look
from streamclust.store.stream.names import missing_hint
from streamclust.store.stream.position import check_type

if TYPE_CHECKING:
    from streamclust.config import ModelSettings
    from streamclust.store.server.connect import Server

_FIRST_ENTRIES = 10
"""Number of entries from which the format is detected."""

_LARGE = 1e9
"""Bytes of all stored versions from which the check warns, if the server has no limit."""


def check_start(name: str, model: ModelSettings) -> Iterator[Check]:
    """Yield the check of given parameters; it needs no server."""
    if isinstance(model.init, WarmUp):
        return
    about = f"init of {name}"
    try:
        first_state(name, model, make_learner(model))
    except StreamclustError as error:
        yield Check("fail", about, str(error))
    else:
        yield Check("ok", about, f"given parameters, kind {model.init.kind}")


def check_model(
    server: Server, client: redis.Redis, keys: Keys, model: ModelSettings, memory_limit: int
) -> Iterator[Check]:
    """Yield the checks of a model's keys and streams.

    Parameters
    ----------
    server : Server
    client : redis.Redis
    keys : Keys
    model : KMeansSettings or GaussianMixtureSettings
    memory_limit : int
        Memory limit of the server in bytes; 0 without a limit.
    """
    for stream in dict.fromkeys((*model.streams, *model.encode.streams)):
        checks = _stream(server, client, stream, keys.model, model)
        yield from _guarded(f"stream {stream}", checks, server.label)
    yield from _guarded(
        f"model {keys.model}", _state(client, keys, model, memory_limit), server.label
    )


def _guarded(about: str, checks: Iterator[Check], label: str) -> Iterator[Check]:
    """Yield checks; an error becomes a failed check, except a lost connection."""
    try:
        yield from checks
    except StreamclustError as error:
        yield Check("fail", about, str(error))
    except redis.RedisError as error:
        if passes(error):
            raise
        yield Check("fail", about, str(translated(error, label)))


def _stream(
    server: Server, client: redis.Redis, stream: str, name: str, model: ModelSettings
) -> Iterator[Check]:
    about = f"stream {stream}"
    check_type(client, stream, "stream", f"models.{name}.streams")
    info = look(client, stream)
    if info is None:
        remedy = missing_hint(client, stream)
        yield Check("warn", about, f"it doesn't exist yet; the worker waits for it; {remedy}")
        return
    if not info.length:
        yield Check("warn", about, "it has no entry; the worker waits for new entries")
        return
    entries_word = "entry" if info.length == 1 else "entries"
    facts = f"{info.length:,} {entries_word}, the latest {_ago(info.last)}"
    with server.raw_client() as raw:
        entries: Any = raw.xrange(stream, count=_FIRST_ENTRIES)
    layout, dead = detect_first(entries, points_format(model))
    if layout is None:
        yield Check(
            "fail",
            about,
            f"{facts}; no point in the first entries: {dead[0].reason}; correct "
            f"models.{name}.points or the producer",
        )
        return
    features = f" ({', '.join(layout.features[:8])}{', ...' * (len(layout.features) > 8)})"
    yield Check(
        "ok",
        about,
        f"{facts}; format {layout.format}, {layout.n_features} "
        f"feature{'s' * (layout.n_features != 1)}{features * bool(layout.features)}",
    )
    if layout.learns_missing and layout.strict:
        yield Check(
            "warn",
            about,
            "the first entry names the features; if it lacks a field, all entries with this field "
            f"are refused; name all features in models.{name}.points.features",
        )


def _ago(entry_id: str) -> str:
    """Return the age of an entry by its ID, for people."""
    seconds = time.time() - order(entry_id)[0] / 1e3
    if seconds < 0.0:
        return "in the future"
    for unit, size in (("days", 172_800.0), ("hours", 7_200.0), ("minutes", 120.0)):
        if seconds >= size:
            return f"{seconds / (size / 2):.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _state(
    client: redis.Redis, keys: Keys, model: ModelSettings, memory_limit: int
) -> Iterator[Check]:
    about = f"model {keys.model}"
    check_type(client, keys.state, "string", "namespace or the name of the model")
    check_type(client, keys.models, "stream", "namespace or the name of the model")
    health = read_health(client, keys)
    if health is not None and not health.alive:
        reason = f"{health.phase}: {health.reason}"
        yield Check("fail", about, f"its worker on {health.host} reports: {reason}")
    values = read_state(client, keys)
    if values is None:
        yield Check("ok", about, "it has no state yet; the worker starts it")
        return
    found = load_checkpoint(values.state, model, f"key {keys.state}", values.coreset)
    points = f"{found.learner.points:,} points learned"
    yield Check("ok", about, f"the state fits the settings: {points}")
    yield from _versions(client, keys, model, memory_limit)


def _versions(
    client: redis.Redis, keys: Keys, model: ModelSettings, memory_limit: int
) -> Iterator[Check]:
    entries: Sequence[Any] = client.xrevrange(keys.models, count=1)  # type: ignore[assignment]
    if not entries:
        return
    size = sum(map(len, entries[0][1].values()))
    whole = size * model.publish.keep
    about = f"model {keys.model}"
    text = (
        f"publish.keep {model.publish.keep:,}: the stored versions of {size_text(size)} each need "
        f"up to {size_text(whole)}"
    )
    if whole > (memory_limit / 2 or _LARGE):
        yield Check("warn", about, f"{text}; reduce publish.keep")
    else:
        yield Check("ok", about, text)
