"""The description of the API is true: each route is described, and each reply is as described."""

from __future__ import annotations

import re

import httpx
import pytest
from pydantic import BaseModel

from streamclust.dashboard import schemas
from streamclust.dashboard.app import ROUTES
from streamclust.dashboard.openapi import OPERATIONS
from tests.support.dashboard import ALLOWED, followed

GETS = {
    "/api/server": "/api/server",
    "/api/models": "/api/models?filter=*m&sort=lag&limit=1&offset=1",
    "/api/models/{name}": "/api/models/gm?x=x0&y=2&points=20",
    "/api/models/{name}/versions": "/api/models/km/versions?limit=2&before=4",
    "/api/models/{name}/versions/{version}": "/api/models/km/versions/2?arrays=1",
    "/api/models/{name}/diff": "/api/models/km/diff?from=1&to=4",
}


def test_each_route_is_described() -> None:
    served = {
        (method.lower(), route.path.replace(":path", ""))
        for route in ROUTES
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert served == set(OPERATIONS)


@pytest.mark.parametrize("path", GETS)
def test_a_reply_is_as_described(api: httpx.Client, path: str) -> None:
    found = api.get(GETS[path])
    assert found.status_code == 200
    reply = OPERATIONS["get", path].reply
    assert reply is not None
    reply.model_validate_json(found.content, strict=True)


def test_the_other_gets_have_tests_of_their_own() -> None:
    rest = {path for method, path in OPERATIONS if method == "get"} - set(GETS)
    assert rest == {"/api/updates", "/api/models/{name}/updates", "/api/actions/{action}"}


def test_a_prediction_is_as_described(api: httpx.Client) -> None:
    found = api.post("/api/models/gm/predict", json={"points": [[0, 0, 0], [9.0, 9.0, 9.0]]})
    schemas.Prediction.model_validate_json(found.content, strict=True)


def test_an_error_is_as_described(api: httpx.Client) -> None:
    for path in ("/api/models/none", "/api/models?limit=x", "/api/nothing", "/none"):
        found = api.get(path)
        schemas.Error.model_validate_json(found.content, strict=True)
        assert found.status_code in (400, 404)


def test_an_action_is_as_described(api: httpx.Client) -> None:
    action = api.post("/api/models/km/rollback", json={"version": 99}, headers=ALLOWED)
    assert action.status_code == 202
    schemas.Action.model_validate_json(action.content, strict=True)
    again = api.get(f"/api/actions/{action.json()['id']}", headers=ALLOWED)
    schemas.Action.model_validate_json(again.content, strict=True)


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("/api/updates", schemas.OVERVIEW_EVENTS),
        ("/api/models/gm/updates?x=0&y=1", schemas.MODEL_EVENTS),
    ],
)
def test_an_event_is_as_described(
    api: httpx.Client, path: str, events: dict[str, type[BaseModel]]
) -> None:
    kinds = ["overview"] if path == "/api/updates" else ["version", "status", "server"]
    with followed(api, path) as stream:
        for kind in kinds:
            _, value = stream.next(kind)
            events[kind].model_validate(value, strict=True)


def test_the_document_is_valid(api: httpx.Client) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(api.get("/openapi.json").json())


def test_each_operation_has_a_name_of_its_own(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    names = [each["operationId"] for path in paths.values() for each in path.values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)
    assert {name for name in names if re.fullmatch(r"[a-z_]+", name)} == set(names)


def test_the_description_of_a_parameter_has_its_limits(api: httpx.Client) -> None:
    """The bounds in the document are those that the server checks."""
    for parameter in api.get("/openapi.json").json()["paths"]["/api/models"]["get"]["parameters"]:
        name, schema = parameter["name"], parameter["schema"]
        for limit, step in (("minimum", -1), ("maximum", 1)):
            if limit in schema:
                assert api.get(f"/api/models?{name}={schema[limit]}").status_code == 200
                assert api.get(f"/api/models?{name}={schema[limit] + step}").status_code == 400
        for value in schema.get("enum", ()):
            assert api.get(f"/api/models?{name}={value}").status_code == 200


def test_the_document_names_only_schemas_that_it_has(api: httpx.Client) -> None:
    found = api.get("/openapi.json")
    schemes = found.json()["components"]["schemas"]
    named = {part.partition('"')[0] for part in found.text.split("#/components/schemas/")[1:]}
    assert named <= set(schemes)
    assert found.json()["openapi"] == "3.1.0"
