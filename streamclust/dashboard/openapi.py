"""The description of the API, by OpenAPI 3.1."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from streamclust.dashboard import schemas
from streamclust.dashboard.model import LARGEST_VERSION
from streamclust.dashboard.points import MOST
from streamclust.store.model.ordering import SORTS
from streamclust.store.model.totals import PHASES
from streamclust.version import __version__

if TYPE_CHECKING:
    from pydantic import BaseModel

_REF = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Operation:
    """An operation of the API.

    Parameters
    ----------
    id : str
        Name of the operation, for programs that make clients.
    summary : str
    reply : pydantic model
    query : dict of str to dict
        Parameters of the query, and their schemas.
    body : pydantic model, optional
    events : dict of str to pydantic model, optional
        Events of a stream; then there is no other reply.
    errors : tuple of int
        Statuses of failed requests, besides 503.
    status : int
    needs_token : bool
    """

    id: str
    summary: str
    reply: type[BaseModel] | None
    query: dict[str, dict[str, Any]]
    body: type[BaseModel] | None = None
    events: dict[str, type[BaseModel]] | None = None
    errors: tuple[int, ...] = ()
    status: int = 200
    needs_token: bool = False


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _whole(description: str, least: int, most: int, default: int | None = None) -> dict[str, Any]:
    found = {"type": "integer", "description": description, "minimum": least, "maximum": most}
    return found if default is None else {**found, "default": default}


def _version(description: str) -> dict[str, Any]:
    return _whole(description, 1, LARGEST_VERSION)


_AXES = {
    "x": _text("Feature of the first axis: its name or its number. Default: the principal plane."),
    "y": _text("Feature of the second axis."),
}
_REQUIRED = ("from", "to")
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}
_ERRORS = {
    400: "A parameter of the query is wrong",
    401: "The token is missing or wrong",
    403: "Actions are off",
    404: "The model, the version or the action isn't known",
    409: "The model or the version doesn't allow it at present",
    413: "The body or its number of points is too large",
    415: "The content type isn't application/json",
    422: "A value of the body is wrong; `field` names it",
    429: "Too many requests",
    503: "The server of the models can't be reached, or too many pages are open",
}
"""The errors, by their status."""


def _action(name: str, summary: str, body: type[BaseModel]) -> Operation:
    """Return an operation that starts a change of a model."""
    return Operation(
        name,
        summary,
        schemas.Action,
        {},
        body=body,
        errors=(401, 403, 404, 409, 413, 415, 422),
        status=202,
        needs_token=True,
    )


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/api/server"): Operation(
        "get_server", "The server, its workers, and what this API permits", schemas.ServerReport, {}
    ),
    ("get", "/api/models"): Operation(
        "get_models",
        "The models, those with problems first",
        schemas.ModelList,
        {
            "filter": _text("Part of a name, or a pattern with * and ?."),
            "group": _text("Only models of this template."),
            "phase": {
                "type": "array",
                "items": {"type": "string", "enum": list(PHASES)},
                "description": "Only models in this phase. Repeatable.",
            },
            "sort": {"type": "string", "enum": list(SORTS), "default": "problems"},
            "limit": _whole("Maximum number of models.", 0, 500, 50),
            "offset": _whole("Number of models to leave out at the start.", 0, 10**9, 0),
        },
        errors=(400,),
    ),
    ("get", "/api/updates"): Operation(
        "get_updates", "Updates of all models", None, {}, events=schemas.OVERVIEW_EVENTS
    ),
    ("get", "/api/models/{name}"): Operation(
        "get_model",
        "One model: components in a plane, recent points, trails, scores, events, dead letters",
        schemas.Detail,
        {**_AXES, "points": _whole("Maximum number of recent points.", 0, MOST, 500)},
        errors=(400, 404),
    ),
    ("get", "/api/models/{name}/updates"): Operation(
        "get_model_updates",
        "Updates of one model",
        None,
        {
            **_AXES,
            "last_event_id": _text("The last known event; the header Last-Event-ID has priority."),
        },
        events=schemas.MODEL_EVENTS,
        errors=(400, 404),
    ),
    ("get", "/api/models/{name}/versions"): Operation(
        "get_versions",
        "The stored versions of a model, newest first",
        schemas.Versions,
        {
            "limit": _whole("Maximum number of versions.", 1, 500, 100),
            "before": _version("Only versions below this one."),
        },
        errors=(400, 404),
    ),
    ("get", "/api/models/{name}/versions/{version}"): Operation(
        "get_version",
        "One stored version, in the plane of the newest one",
        schemas.Version,
        {**_AXES, "arrays": _whole("1 adds the stored arrays.", 0, 1, 0)},
        errors=(400, 404, 409),
    ),
    ("get", "/api/models/{name}/diff"): Operation(
        "get_diff",
        "How components moved between two stored versions",
        schemas.Difference,
        {"from": _version("The older version."), "to": _version("The newer version.")},
        errors=(400, 404, 409),
    ),
    ("post", "/api/models/{name}/predict"): Operation(
        "predict",
        "The component and the score of each point",
        schemas.Prediction,
        {},
        body=schemas.PredictRequest,
        errors=(404, 409, 413, 415, 422, 429),
    ),
    ("post", "/api/models/{name}/refit"): _action(
        "refit", "Fit the model again to all stored points", schemas.RefitRequest
    ),
    ("post", "/api/models/{name}/rollback"): _action(
        "rollback", "Publish an older version again and continue from it", schemas.RollbackRequest
    ),
    ("post", "/api/models/{name}/pause"): _action(
        "pause", "Stop learning and publishing the model, until it is resumed", schemas.PauseRequest
    ),
    ("post", "/api/models/{name}/resume"): _action(
        "resume", "Continue a paused model where it was paused", schemas.ResumeRequest
    ),
    ("post", "/api/models/{name}/requeue"): _action(
        "requeue", "Add the entries of dead letters to their streams again", schemas.RequeueRequest
    ),
    ("get", "/api/actions/{action}"): Operation(
        "get_action",
        "An action that runs or has ended",
        schemas.Action,
        {},
        errors=(401, 403, 404),
        needs_token=True,
    ),
}
"""The operations, by method and path."""


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
        {"name": name, "in": "query", "required": name in _REQUIRED, "schema": schema}
        for name, schema in operation.query.items()
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
    for status in (*operation.errors, 429, 503):
        replies[str(status)] = {"description": _ERRORS[status], "content": _json(schemas.Error)}
    for status in (429, 503):
        replies[str(status)]["headers"] = _RETRY_AFTER
    replies["default"] = {"description": "Another error", "content": _json(schemas.Error)}
    found: dict[str, Any] = {
        "operationId": operation.id,
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
