"""The description of the API, by OpenAPI 3.1."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from streamclust.dashboard import schemas
from streamclust.dashboard.errors import Json
from streamclust.store.model.ordering import SORTS
from streamclust.version import __version__

if TYPE_CHECKING:
    from pydantic import BaseModel
    from starlette.requests import Request
    from starlette.responses import Response

_REF = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Operation:
    """An operation of the API.

    Parameters
    ----------
    summary : str
    reply : pydantic model
    query : dict of str to str
        Parameters of the query, and what they mean.
    body : pydantic model, optional
    events : dict of str to pydantic model, optional
        Events of a stream; then there is no other reply.
    errors : tuple of int
        Statuses of failed requests, besides 503.
    status : int
    needs_token : bool
    """

    summary: str
    reply: type[BaseModel] | None
    query: dict[str, str]
    body: type[BaseModel] | None = None
    events: dict[str, type[BaseModel]] | None = None
    errors: tuple[int, ...] = ()
    status: int = 200
    needs_token: bool = False


_AXES = {
    "x": "Feature of the first axis: its name or its number. Default: principal axes.",
    "y": "Feature of the second axis.",
}
_ACTION_ERRORS = (401, 403, 409, 413, 415, 422)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/api/server"): Operation(
        "The server, its workers, and what this API permits", schemas.ServerReport, {}
    ),
    ("get", "/api/models"): Operation(
        "The models, those with problems first",
        schemas.ModelList,
        {
            "filter": "Part of a name, or a pattern with * and ?.",
            "group": "Only models of this template.",
            "phase": "Only models in this phase. Repeatable.",
            "sort": f"One of {', '.join(SORTS)}. Default: problems.",
            "limit": "Maximum number of models, up to 500. Default: 50.",
            "offset": "Number of models to leave out at the start.",
        },
        errors=(400,),
    ),
    ("get", "/api/updates"): Operation(
        "Updates of all models", None, {}, events=schemas.OVERVIEW_EVENTS
    ),
    ("get", "/api/models/{name}"): Operation(
        "One model: components in a plane, recent points, trails, scores, events, dead letters",
        schemas.Detail,
        {**_AXES, "points": "Maximum number of recent points, up to 2,000. Default: 500."},
        errors=(400, 404),
    ),
    ("get", "/api/models/{name}/updates"): Operation(
        "Updates of one model",
        None,
        {**_AXES, "last_event_id": "The last known event; the header Last-Event-ID has priority."},
        events=schemas.MODEL_EVENTS,
        errors=(400, 404),
    ),
    ("get", "/api/models/{name}/versions"): Operation(
        "The stored versions of a model, newest first",
        schemas.Versions,
        {
            "limit": "Maximum number of versions, up to 500. Default: 100.",
            "before": "Only versions below this one.",
        },
        errors=(400, 404),
    ),
    ("get", "/api/models/{name}/versions/{version}"): Operation(
        "One stored version, in the plane of the newest one",
        schemas.Version,
        {**_AXES, "arrays": "1 adds the stored arrays."},
        errors=(400, 404, 409),
    ),
    ("get", "/api/models/{name}/diff"): Operation(
        "How components moved between two stored versions",
        schemas.Difference,
        {"from": "The older version.", "to": "The newer version."},
        errors=(400, 404, 409),
    ),
    ("post", "/api/models/{name}/predict"): Operation(
        "The component and the score of each point",
        schemas.Prediction,
        {},
        body=schemas.PredictRequest,
        errors=(404, 413, 415, 422, 429),
    ),
    ("post", "/api/models/{name}/refit"): Operation(
        "Fit the model again to all stored points",
        schemas.Action,
        {},
        body=schemas.RefitRequest,
        errors=_ACTION_ERRORS,
        status=202,
        needs_token=True,
    ),
    ("post", "/api/models/{name}/rollback"): Operation(
        "Publish an older version again and continue from it",
        schemas.Action,
        {},
        body=schemas.RollbackRequest,
        errors=_ACTION_ERRORS,
        status=202,
        needs_token=True,
    ),
    ("post", "/api/models/{name}/pause"): Operation(
        "Stop learning and publishing the model, until it is resumed",
        schemas.Action,
        {},
        body=schemas.PauseRequest,
        errors=_ACTION_ERRORS,
        status=202,
        needs_token=True,
    ),
    ("post", "/api/models/{name}/resume"): Operation(
        "Continue a paused model where it was paused",
        schemas.Action,
        {},
        body=schemas.ResumeRequest,
        errors=_ACTION_ERRORS,
        status=202,
        needs_token=True,
    ),
    ("post", "/api/models/{name}/requeue"): Operation(
        "Add the entries of dead letters to their streams again",
        schemas.Action,
        {},
        body=schemas.RequeueRequest,
        errors=_ACTION_ERRORS,
        status=202,
        needs_token=True,
    ),
    ("get", "/api/actions/{action}"): Operation(
        "An action that runs or has ended",
        schemas.Action,
        {},
        errors=(401, 403, 404),
        needs_token=True,
    ),
}
"""The operations, by method and path."""


async def get_openapi(_: Request) -> Response:
    """Return the description of the API."""
    return Json(description())


@cache
def description() -> dict[str, Any]:
    """Return the description of the API, as a document of OpenAPI 3.1."""
    used = {
        model
        for each in OPERATIONS.values()
        for model in (each.reply, each.body, *(each.events or {}).values(), schemas.Error)
        if model is not None
    }
    ordered = sorted(used, key=lambda model: model.__name__)
    _, found = models_json_schema(
        [(model, "serialization") for model in ordered], ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method] = _described(path, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamclust",
            "version": __version__,
            "description": "Live models of a streamclust server. See docs/dashboard.md.",
        },
        "paths": paths,
        "components": {
            "schemas": found["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(path: str, operation: Operation) -> dict[str, Any]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    in_query = [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in operation.query.items()
    ]
    if operation.events is not None:
        kinds = {kind: _ref(model) for kind, model in operation.events.items()}
        content: dict[str, Any] = {
            "text/event-stream": {"schema": {"type": "string"}, "x-events": kinds}
        }
        text = "Server-sent events; the data of each event are JSON, described in x-events."
    else:
        assert operation.reply is not None  # noqa: S101
        content, text = _json(operation.reply), "Success"
    replies = {str(operation.status): {"description": text, "content": content}}
    for status in (*operation.errors, 503):
        replies[str(status)] = {"description": "Error", "content": _json(schemas.Error)}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": in_path + in_query,
        "responses": replies,
    }
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": _json(operation.body)}
    if operation.needs_token:
        found["security"] = [{"token": []}]
    return found


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(model)}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
