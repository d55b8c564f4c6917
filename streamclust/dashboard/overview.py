"""The endpoints about all models, and about the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import redis
from starlette.responses import StreamingResponse

from streamclust.dashboard.actions import KINDS
from streamclust.dashboard.errors import ApiError, Json
from streamclust.dashboard.predict import BODY_BYTES, POINTS
from streamclust.dashboard.query import choice, whole
from streamclust.dashboard.rate_limit import PREDICTIONS_PER_MINUTE, REQUESTS_PER_MINUTE
from streamclust.dashboard.rows import groups, in_order, phases, select, totals
from streamclust.dashboard.source import now_ms
from streamclust.errors import StreamclustError
from streamclust.store.model.ordering import SORTS
from streamclust.store.model.workers import read_workers
from streamclust.text import printable
from streamclust.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from streamclust.dashboard.context import Context
    from streamclust.dashboard.mailbox import Mailbox, Mailboxes

MAX_VISITORS = 256
"""Maximum number of open streams of updates."""


async def get_models(request: Request) -> Response:
    """Return a part of the rows, in an order, and the sums over all rows that match."""
    context: Context = request.app.state.context
    query = request.query_params
    sort = choice(query, "sort", "problems", SORTS)
    limit, offset = whole(query, "limit", 50, 0, 500), whole(query, "offset", 0, 0, 10**9)
    wanted = query.getlist("phase")
    rows = await context.snapshot.look()
    matched = select(rows.values(), query.get("filter", ""), query.get("group"))
    shown = [row for row in matched if not wanted or row.phase in wanted]
    page = await context.snapshot.with_scores(in_order(shown, sort)[offset : offset + limit])
    return Json(
        {
            "time_ms": now_ms(),
            "snapshot_ms": context.snapshot.read_ms,
            "server": vars(context.source.state),
            "total": len(rows),
            "matched": len(shown),
            "offset": offset,
            "phases": phases(matched),
            "totals": totals(shown),
            "groups": groups(matched),
            "models": [row.as_dict() for row in page],
        }
    )


async def get_updates(request: Request) -> Response:
    """Return a stream of updates of all models."""
    context: Context = request.app.state.context
    updates = context.snapshot.updates
    check_visitors(context)
    await context.snapshot.look()
    box = updates.open()
    box.put("overview", context.snapshot.event([], ()))
    return event_stream(box, updates)


def check_visitors(context: Context) -> None:
    """Refuse a further stream of updates if there are too many.

    Raises
    ------
    ApiError
        If there are too many visitors.
    """
    if context.visitors >= MAX_VISITORS:
        text = f"{MAX_VISITORS} streams of updates are open, the maximum; close other pages"
        raise ApiError(503, "too_many_visitors", text, retry_after=10)


def event_stream(box: Mailbox, boxes: Mailboxes) -> StreamingResponse:
    """Return the reply that sends the events of a mailbox until the visitor leaves."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return _EventStream(box, boxes, headers)


class _EventStream(StreamingResponse):
    """Sends the events of a mailbox, and removes the mailbox at the end."""

    def __init__(self, box: Mailbox, boxes: Mailboxes, headers: Mapping[str, str]) -> None:
        super().__init__(box.stream(), headers=headers, media_type="text/event-stream")
        self._box = box
        self._boxes = boxes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the visitor leaves or the mailbox is closed."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._boxes.remove(self._box)


async def get_server(request: Request) -> Response:
    """Return the health of the server, the workers, and what the API permits."""
    context: Context = request.app.state.context
    info: dict[str, Any] = dict.fromkeys(_INFO)
    workers: list[dict[str, Any]] | None = None
    try:
        loop = asyncio.get_running_loop()
        info, workers = await context.source.run(loop, _read_server, context)
    except StreamclustError:
        pass  # the state has the error
    return Json(
        {
            "release": __version__,
            "time_ms": now_ms(),
            "namespace": context.source.settings.namespace,
            "server": vars(context.source.state),
            **info,
            "workers": workers,
            "actions": {"allowed": context.token is not None, "kinds": list(KINDS)},
            "limits": {
                "requests_per_minute": REQUESTS_PER_MINUTE,
                "predict_body_bytes": BODY_BYTES,
                "predict_points": POINTS,
                "predict_per_minute": PREDICTIONS_PER_MINUTE,
            },
            "visitors": context.visitors,
        }
    )


_INFO = ("product", "memory_bytes", "memory_limit_bytes", "clients", "uptime_s")


def _read_server(context: Context) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
    """Read the figures of the server; None for those that the user may not read."""
    client = context.source.client()
    client.ping()
    try:
        facts: Any = client.info()
    except redis.ResponseError:
        facts = {}
    if facts and not {"redis_version", "valkey_version"} & facts.keys():
        facts = next(iter(facts.values()))  # in a cluster: the facts of the first node
    version = facts.get("valkey_version") or facts.get("redis_version")
    name = "valkey" if "valkey_version" in facts else "redis"
    values = (
        None if version is None else printable(f"{name} {version}"),
        facts.get("used_memory"),
        facts.get("maxmemory"),
        facts.get("connected_clients"),
        facts.get("uptime_in_seconds"),
    )
    try:
        workers = [
            {
                "host": printable(each.host),
                "pid": each.pid,
                "release": printable(each.release),
                "started_ms": int(each.started * 1000),
                **{name: getattr(each, name) for name in _COUNTS},
            }
            for each in read_workers(client, context.source.settings.namespace)
        ]
    except redis.ResponseError:
        workers = None
    return dict(zip(_INFO, values, strict=True)), workers


_COUNTS = ("models", "held", "awake", "asleep", "waiting", "failed", "stalled", "paused")
