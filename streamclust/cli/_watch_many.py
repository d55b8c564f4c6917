"""`watch` of a pattern: one line per announced version of any matching model."""

from __future__ import annotations

import json
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._render import number, say
from streamclust.cli._terminal import shorten, stdout_terminal
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from streamclust.cli._terminal import Terminal

_PING = 5.0
"""Seconds without a version after which the connection must answer a PING."""

_NAME = 24
_ROW = "{:<8}  {:<{}}  {:>7}  {:>13}  {:<8}  {:>10}"
_REST = 8 + 7 + 13 + 8 + 10 + 5 * 2


def watch_many(
    client: redis.Redis,
    namespace: str,
    is_wanted: Callable[[str], bool],
    *,
    count: int | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Print each version when it is published, until `count` or `timeout` is reached.

    Parameters
    ----------
    client : redis.Redis
    namespace : str
    is_wanted : callable
        Returns whether to show the versions of a model, given its name.
    count : int or None
        Maximum number of versions.
    timeout : float or None
        Maximum seconds without a version.
    as_json : bool
    """
    terminal = stdout_terminal()
    if not as_json:
        click.echo(_line(terminal, "TIME", "MODEL", "VERSION", "POINTS", "REASON", "SCORE"))
    for version in islice(_announced(client, namespace, is_wanted, timeout), count):
        click.echo(exact_json(version) if as_json else _row(terminal, version))


def _announced(
    client: redis.Redis, namespace: str, is_wanted: Callable[[str], bool], timeout: float | None
) -> Iterator[dict[str, Any]]:
    """Yield the announcements of versions; connect again after a fault that passes.

    One subscription serves any number of models: the server sends only what is published.
    """
    import redis

    from streamclust.store.server.faults import passes

    channel, pause = f"{{{namespace}:*}}:models", 0.1
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            with client.pubsub() as subscription:  # type: ignore[no-untyped-call]
                subscription.psubscribe(channel)
                for message in _messages(subscription, deadline):
                    pause = 0.1
                    version = _decoded(message, namespace)
                    if version is not None and is_wanted(version["model"]):
                        deadline = None if timeout is None else time.monotonic() + timeout
                        yield version
                return
        except redis.RedisError as error:
            if not passes(error):
                raise
            say("connection lost; versions that are published until it is back aren't shown")
            time.sleep(pause)
            pause = min(2.0 * pause, 5.0)


def _messages(subscription: Any, deadline: float | None) -> Iterator[dict[str, Any]]:
    """Yield messages; end at the deadline."""
    while True:
        timeout = _PING if deadline is None else min(deadline - time.monotonic(), _PING)
        if timeout <= 0.0:
            return
        message = subscription.get_message(timeout=timeout)
        if message is None:
            subscription.ping()
        elif message["type"] == "pmessage":
            yield message


def _decoded(message: dict[str, Any], namespace: str) -> dict[str, Any] | None:
    """Return the version that a message announces; None if the message isn't from a worker."""
    channel = message["channel"].decode(errors="backslashreplace")
    try:
        found = json.loads(message["data"])
        name = channel.removeprefix(f"{{{namespace}:").removesuffix("}:models")
        for key, kind in (("version", int), ("points", int), ("reason", str), ("kind", str)):
            if type(found[key]) is not kind:
                return None
        return {**found, "model": name}
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _row(terminal: Terminal, version: dict[str, Any]) -> str:
    score = next((version[key] for key in ("inertia", "log_likelihood") if key in version), None)
    return _line(
        terminal,
        time.strftime("%H:%M:%S"),
        printable(version["model"]),
        str(version["version"]),
        f"{version['points']:,}",
        printable(version["reason"]),
        number(score) if isinstance(score, float) else "-",
    )


def _line(terminal: Terminal, clock: str, name: str, *cells: str) -> str:
    width = _NAME if terminal.width is None else max(terminal.width - _REST, 8)
    if terminal.width is not None:
        name = shorten(name, width, terminal.ellipsis)
    return _ROW.format(clock, name, width, *cells).rstrip()
