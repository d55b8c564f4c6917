"""Runs all checks of ``streamclust config check --connect``, in the order of their causes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import redis

from streamclust.checks.check import Check
from streamclust.checks.model import check_model, check_start
from streamclust.checks.rights import check_rights
from streamclust.checks.server import check_server
from streamclust.errors import NotPermittedError
from streamclust.kernels import describe
from streamclust.runtime.discovery import Search, SearchResult
from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import translated

if TYPE_CHECKING:
    from streamclust.config import Settings
    from streamclust.config.templates import Template
    from streamclust.store.server.connect import Server

_CHECKED = 3
"""Models per template whose streams and states are checked."""

_MAX_NAMED = 5
"""Overrides without a stream that a check names."""


def check_offline(settings: Settings) -> Iterator[Check]:
    """Yield the checks that need no server."""
    kernels = describe()
    if kernels.startswith("numpy"):
        yield Check("warn", "kernels", "NumPy only, which is slower; install a wheel or a compiler")
    else:
        yield Check("ok", "kernels", kernels)
    if not settings.models:
        yield Check("fail", "models", "none is configured; write one with: streamclust init")
    for name, model in settings.models.entries.items():
        yield from check_start(name, model)


def check_online(settings: Settings, server: Server) -> Iterator[Check]:
    """Yield the checks of an open server, of its rights, and of each model's keys and streams.

    Raises
    ------
    redis.RedisError
        If the server can't be reached any more.
    """
    client = server.client()
    info: dict[str, Any] = {}
    try:
        # In a cluster, the reply of the first node.
        reply: Any = client.info()
        first = next(iter(reply.values()), None)
        info = first if isinstance(first, dict) and "redis_version" in first else reply
    except redis.RedisError as error:
        if not isinstance(translated(error, server.label), NotPermittedError):
            raise
        yield Check("ok", "server", f"{server.label}; its version isn't shown to this user")
    else:
        yield from check_server(server.label, info)
    yield from check_rights(client, settings.namespace, settings.models.entries)
    limit = int(info.get("maxmemory", 0))
    names = list(settings.models)
    for template in settings.models.templates:
        check, found = _check_template(template, settings, client)
        yield check
        names += found
    for name in names:
        model = settings.models[name]
        yield from check_model(server, client, Keys(settings.namespace, name), model, limit)


def _check_template(
    template: Template, settings: Settings, client: redis.Redis
) -> tuple[Check, list[str]]:
    """Return the check of a template's streams, and the models of it to check."""
    about, found = f"template {template.name.text}", SearchResult()
    for step in Search(template, settings.models, settings.namespace).run(client):
        found = step or found
    patterns = " or ".join(stream.text for stream in template.streams)
    if not found.models:
        return Check("warn", about, f"no stream matches {patterns} yet"), []
    facts = f"{len(found.models):,} models have streams that match {patterns}"
    if len(found.models) > _CHECKED:
        facts += f"; only the first {_CHECKED} are checked"
    if found.over_limit:
        facts += f"; {len(found.over_limit):,} more are left out by max_models"
    if found.left_out:
        stream, reason = next(iter(found.left_out.items()))
        facts += f"; {len(found.left_out):,} streams are left out, such as {stream[:100]}: {reason}"
    unused = _unused_overrides(template, {*found.models, *found.over_limit})
    if unused:
        names = ", ".join(unused[:_MAX_NAMED]) + ", ..." * (len(unused) > _MAX_NAMED)
        facts += f"; no stream has the overrides of {names}"
    is_complete = not found.over_limit and not found.left_out and not unused
    return Check("ok" if is_complete else "warn", about, facts), found.models[:_CHECKED]


def _unused_overrides(template: Template, models: set[str]) -> list[str]:
    """Return the keys of `overrides` that belong to none of these models."""
    *_, last = template.name.placeholders
    is_value = len(template.name.placeholders) == 1
    return [
        key
        for key in template.settings.overrides
        if (template.name.fill({last: key}) if is_value else key) not in models
    ]
