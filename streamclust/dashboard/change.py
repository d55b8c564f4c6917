"""The endpoints that change a model; they need the token."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from streamclust.dashboard.actions import (
    run_pause,
    run_refit,
    run_requeue,
    run_resume,
    run_rollback,
)
from streamclust.dashboard.body import read_body, read_json
from streamclust.dashboard.errors import ApiError, Json
from streamclust.dashboard.query import model_name
from streamclust.dashboard.security import check_token
from streamclust.store.model.pause import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from streamclust.dashboard.context import Context
    from streamclust.runtime.job import Job

_BODY_BYTES = 1 << 16


async def post_refit(request: Request) -> Response:
    """Start a refit to the points that the streams still hold."""
    return await _start(request, "refit", (), lambda _: run_refit)


async def post_rollback(request: Request) -> Response:
    """Start the rollback to an older version."""

    def choose(body: dict[str, Any]) -> Callable[[Job], str]:
        version = body.get("version")
        if type(version) is not int or not 0 < version < 1 << 53:
            text = "version is missing or isn't a whole number above 0"
            raise ApiError(422, "bad_field", text, "version")

        return lambda job: run_rollback(job, version)

    return await _start(request, "rollback", ("version",), choose)


async def post_pause(request: Request) -> Response:
    """Start the pause of a model."""

    def choose(body: dict[str, Any]) -> Callable[[Job], str]:
        reason = body.get("reason", "")
        if not isinstance(reason, str) or len(reason) > LONGEST:
            text = f"reason isn't a text of at most {LONGEST} characters"
            raise ApiError(422, "bad_field", text, "reason")
        return lambda job: run_pause(job, reason)

    return await _start(request, "pause", ("reason",), choose)


async def post_resume(request: Request) -> Response:
    """End the pause of a model."""
    return await _start(request, "resume", (), lambda _: run_resume)


async def post_requeue(request: Request) -> Response:
    """Start to add the entries of dead letters to their stream again."""

    def choose(body: dict[str, Any]) -> Callable[[Job], str]:
        reason = body.get("reason", "")
        if not isinstance(reason, str) or len(reason) > 1000:
            text = "reason isn't a text of at most 1,000 characters"
            raise ApiError(422, "bad_field", text, "reason")
        return lambda job: run_requeue(job, reason)

    return await _start(request, "requeue", ("reason",), choose)


async def _start(
    request: Request,
    kind: str,
    fields: tuple[str, ...],
    choose: Callable[[dict[str, Any]], Callable[[Job], str]],
) -> Response:
    """Check the token and the body, and start the action that the body describes."""
    context: Context = request.app.state.context
    check_token(request, context.token)
    body = read_json(await read_body(request, _BODY_BYTES) or b"{}")
    for key in body.keys() - set(fields):
        text = f"unknown field {key[:60]!r}; expected {', '.join(fields) or 'none'}"
        raise ApiError(422, "bad_field", text, key[:60])
    action = context.actions.start(kind, model_name(request), choose(body))
    context.publish_action(action)
    return Json(asdict(action), 202)


async def get_action(request: Request) -> Response:
    """Return an action."""
    context: Context = request.app.state.context
    check_token(request, context.token)
    return Json(asdict(context.actions.get(request.path_params["action"])))
