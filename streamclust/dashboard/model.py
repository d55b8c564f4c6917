"""The endpoints that read one model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from streamclust.dashboard.diff import difference
from streamclust.dashboard.errors import ApiError, Json
from streamclust.dashboard.overview import check_visitors, event_stream
from streamclust.dashboard.payload import version_row
from streamclust.dashboard.points import MOST
from streamclust.dashboard.query import model_name, whole
from streamclust.dashboard.stored import read_version
from streamclust.store.model.version_heads import read_heads
from streamclust.store.model.versions import read_model

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.responses import Response

    from streamclust.dashboard.context import Context
    from streamclust.dashboard.source import Source

LARGEST_VERSION = (1 << 53) - 1


def _axes(query: QueryParams) -> tuple[str, str] | None:
    """Return the two features of the plane; None for the principal plane.

    Raises
    ------
    ApiError
        If only one is given.
    """
    x, y = query.get("x"), query.get("y")
    if x is None and y is None:
        return None
    if x is None or y is None:
        name = "x" if x is None else "y"
        raise ApiError(400, "bad_query", f"{name} is missing; give both x and y, or neither", name)
    return x, y


async def get_model(request: Request) -> Response:
    """Return all data that the page of a model shows."""
    context: Context = request.app.state.context
    query = request.query_params
    axes, most = _axes(query), whole(query, "points", 500, 0, MOST)
    return Json(await context.feeds.get(model_name(request)).detail(axes, most))


async def get_model_updates(request: Request) -> Response:
    """Return a stream of updates of a model."""
    context: Context = request.app.state.context
    query = request.query_params
    known = request.headers.get("last-event-id") or query.get("last_event_id", "")
    check_visitors(context)
    box, view = await context.feeds.get(model_name(request)).open(_axes(query), known)
    return event_stream(box, view)


async def get_versions(request: Request) -> Response:
    """Return the facts of the stored versions, newest first."""
    context: Context = request.app.state.context
    query = request.query_params
    limit = whole(query, "limit", 100, 1, 500)
    before = whole(query, "before", 0, 1, LARGEST_VERSION) or None
    name, loop = model_name(request), asyncio.get_running_loop()
    return Json(await context.source.run(loop, _versions, context.source, name, limit, before))


def _versions(source: Source, name: str, limit: int, before: int | None) -> dict[str, Any]:
    client, keys = source.client(), source.keys(name)
    heads = read_heads(client, keys, limit, before=before)
    oldest: Any = client.xrange(keys.models, count=1)
    if not oldest:
        read_model(client, keys)  # raises the error that lists the models
    newest: Any = client.xrevrange(keys.models, count=1) if before else None
    last = heads[-1].version if heads else None
    return {
        "versions": [version_row(head) for head in reversed(heads)],
        "oldest": int(oldest[0][0].partition(b"-")[0]),
        "newest": int(newest[0][0].partition(b"-")[0]) if newest else last,
    }


async def get_version(request: Request) -> Response:
    """Return one stored version."""
    context: Context = request.app.state.context
    query = request.query_params
    number = whole(request.path_params, "version", 0, 1, LARGEST_VERSION)
    arrays = whole(query, "arrays", 0, 0, 1) == 1
    feed, loop = context.feeds.get(model_name(request)), asyncio.get_running_loop()
    await feed.look()
    return Json(await context.source.run(loop, feed.reading.version, number, _axes(query), arrays))


async def get_diff(request: Request) -> Response:
    """Return the moves of the components between two stored versions."""
    context: Context = request.app.state.context
    query = request.query_params
    old, new = (whole(query, name, 0, 1, LARGEST_VERSION) for name in ("from", "to"))
    for name, value in (("from", old), ("to", new)):
        if not value:
            raise ApiError(400, "bad_query", f"{name} is missing; expected a version", name)
    source, loop, name = context.source, asyncio.get_running_loop(), model_name(request)

    def read() -> dict[str, Any]:
        return difference(read_version(source, name, old), read_version(source, name, new))

    return Json(await source.run(loop, read))
