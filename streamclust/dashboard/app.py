"""The application: its routes, its errors and its static files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from streamclust.dashboard.change import (
    get_action,
    post_pause,
    post_refit,
    post_requeue,
    post_resume,
    post_rollback,
)
from streamclust.dashboard.errors import Json, on_error, on_http_error, on_unexpected_error
from streamclust.dashboard.model import (
    get_diff,
    get_model,
    get_model_updates,
    get_version,
    get_versions,
)
from streamclust.dashboard.overview import get_models, get_server, get_updates
from streamclust.dashboard.predict import post_predict
from streamclust.dashboard.security import Guard
from streamclust.errors import StreamclustError

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Scope
    from structlog.typing import FilteringBoundLogger

    from streamclust.dashboard.context import Context

STATIC = Path(__file__).parent / "static"


class _Files(StaticFiles):
    """The files of the page; a browser asks each time whether they have changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def get_page(_: Request) -> Response:
    """Return the page."""
    headers = {"Cache-Control": "no-cache"}
    if not (STATIC / "index.html").is_file():
        raise HTTPException(404, "this installation has no page, only the API")
    return FileResponse(STATIC / "index.html", headers=headers, media_type="text/html")


async def get_openapi(_: Request) -> Response:
    """Return the description of the API."""
    return Json(await asyncio.to_thread(_description))


def _description() -> dict[str, Any]:
    from streamclust.dashboard.openapi import description  # 3 MB of memory; few clients ask for it

    return description()


ROUTES = [
    Route("/api/server", get_server),
    Route("/api/models", get_models),
    Route("/api/updates", get_updates),
    Route("/api/models/{name:path}/updates", get_model_updates),
    Route("/api/models/{name:path}/versions/{version}", get_version),
    Route("/api/models/{name:path}/versions", get_versions),
    Route("/api/models/{name:path}/diff", get_diff),
    Route("/api/models/{name:path}/predict", post_predict, methods=["POST"]),
    Route("/api/models/{name:path}/refit", post_refit, methods=["POST"]),
    Route("/api/models/{name:path}/rollback", post_rollback, methods=["POST"]),
    Route("/api/models/{name:path}/pause", post_pause, methods=["POST"]),
    Route("/api/models/{name:path}/resume", post_resume, methods=["POST"]),
    Route("/api/models/{name:path}/requeue", post_requeue, methods=["POST"]),
    Route("/api/models/{name:path}", get_model),
    Route("/api/actions/{action}", get_action),
]
"""The API. Each route is described in `openapi`."""


def make_app(context: Context, hosts: Collection[str], log: FilteringBoundLogger) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    context : Context
    hosts : collection of str
        Names of hosts that requests may have; empty allows every name.
    log : structlog logger
        Log for unexpected errors.
    """
    app = Starlette(
        routes=[
            Route("/", get_page),
            Route("/openapi.json", get_openapi),
            *ROUTES,
            *([Mount("/static", _Files(directory=STATIC))] if STATIC.is_dir() else []),
        ],
        exception_handlers={
            StreamclustError: on_error,
            HTTPException: on_http_error,
            Exception: on_unexpected_error,
        },
    )
    app.state.context = context
    return Guard(GZipMiddleware(app, minimum_size=2_000, compresslevel=5), hosts, log)
