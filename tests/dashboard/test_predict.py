"""Points over HTTP: the same components as in Python, and errors that name the value."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from streamclust.dashboard.errors import ApiError
from streamclust.dashboard.predict import BODY_BYTES, POINTS
from streamclust.dashboard.rate_limit import PREDICTIONS_PER_MINUTE, RateLimit
from tests.support.dashboard import opened
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_points, blobs
from tests.support.workers import drain
from tests.support.workspace import Workspace

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("model", ["km", "gm"])
def test_the_components_and_scores_are_those_of_the_client(
    api: httpx.Client, learned: Workspace, model: str
) -> None:
    X = blobs(50, seed=7, D=3)
    found = api.post(f"/api/models/{model}/predict", json={"points": X.tolist()}).json()
    newest = learned.newest(model)
    assert found["version"] == newest.version
    assert found["codes"] == newest.predict(X).tolist()
    np.testing.assert_array_equal(found["scores"], newest.score_samples(X))


def test_points_can_be_objects_by_the_names_of_features(api: httpx.Client) -> None:
    rows = {"points": [[1, 2.5, 3]]}
    named = {"points": [{"x2": 3, "x0": 1, "x1": 2.5}]}
    one, other = (api.post("/api/models/gm/predict", json=body).json() for body in (rows, named))
    assert one == other


def test_an_older_version_can_predict(api: httpx.Client, learned: Workspace) -> None:
    body = {"points": [[0.0, 0.0, 0.0]], "version": 2}
    found = api.post("/api/models/gm/predict", json=body).json()
    second = learned.versions("gm")[1]
    assert found["version"] == 2
    assert found["scores"] == second.score_samples([[0.0, 0.0, 0.0]]).tolist()


BAD: dict[str, tuple[str, int, str | None, str]] = {
    "not JSON": ("{", 422, None, "isn't JSON"),
    "too deep": ("[" * 100_000, 422, None, "isn't JSON"),
    "NaN": ('{"points": [[1, 2, NaN]]}', 422, None, "NaN"),
    "a list": ("[]", 422, None, "isn't an object"),
    "no points": ("{}", 422, "points", "missing or null"),
    "another field": ('{"points": [], "pts": 1}', 422, "pts", "unknown field 'pts'"),
    "a text": ('{"points": [[1, 2, 3], [1, "2", 3]]}', 422, "points[1][1]", '"2"'),
    "a flag": ('{"points": [[1, true, 3]]}', 422, "points[0][1]", "true"),
    "null": ('{"points": [[1, null, 3]]}', 422, "points[0][1]", "null"),
    "too few": ('{"points": [[1, 2]]}', 422, "points[0]", "2 values; expected 3"),
    "a number": ('{"points": [1]}', 422, "points[0]", "is 1"),
    "a feature too few": ('{"points": [{"x0": 1, "x1": 1}]}', 422, "points[0].x2", "no feature"),
    "a feature too many": ('{"points": [{"x9": 1}]}', 422, "points[0].x9", "unknown feature 'x9'"),
    "a feature twice": ('{"points": [{"x0": 1, "x0": 2}]}', 422, "x0", "duplicate key 'x0'"),
    "huge": ('{"points": [[1, 2, 1e200]]}', 422, "points[0][2]", "1e+200"),
    "a huge integer": (f'{{"points": [[1, 2, 1{"0" * 400}]]}}', 422, "points[0][2]", "finite"),
    "a wrong version": ('{"points": [], "version": "2"}', 422, "version", '"2"'),
    "an unknown version": ('{"points": [], "version": 99}', 404, "version", "99"),
    "too many points": (f'{{"points": [{"[], " * POINTS}[]]}}', 413, "points", "10,001"),
}


@pytest.mark.parametrize("body", BAD)
def test_an_error_names_the_field_and_the_value(api: httpx.Client, body: str) -> None:
    text, status, field, part = BAD[body]
    found = api.post("/api/models/km/predict", content=text, headers=JSON)
    error: dict[str, Any] = found.json()["error"]
    assert (found.status_code, error["field"]) == (status, field)
    assert part in error["message"]


def test_a_point_without_a_direction_or_a_value_is_named(workspace: Workspace) -> None:
    stream = workspace.stream()
    points = {"missing": "learn", "features": ["x0", "x1"]}
    models = {"c": kmeans(stream, metric="cosine"), "m": mixture(stream, points=points)}
    workspace.write(models)
    with workspace.client as client:
        add_points(client, stream, blobs(90) + 1.0)
    for name in models:
        drain(workspace, name)
    with opened(workspace) as api:
        for name, bad in (("c", [0, 0.0]), ("m", [None, None])):
            body = {"points": [[1, 2], bad]}
            error = api.post(f"/api/models/{name}/predict", json=body).json()["error"]
            assert (error["code"], error["field"]) == ("bad_point", "points[1]")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(api: httpx.Client) -> None:
    found = api.post("/api/models/km/predict", content=b" " * (BODY_BYTES + 1), headers=JSON)
    assert (found.status_code, found.json()["error"]["code"]) == (413, "too_large")
    parts = (b" " * 1024 for _ in range(BODY_BYTES // 1024 + 1))  # without Content-Length
    found = api.post("/api/models/km/predict", content=parts, headers=JSON)
    assert found.status_code == 413


def test_a_model_without_a_version_is_unknown(api: httpx.Client) -> None:
    found = api.post("/api/models/none/predict", json={"points": []})
    assert (found.status_code, found.json()["error"]["code"]) == (404, "unknown_model")


def test_a_client_with_too_many_requests_waits() -> None:
    limit = RateLimit(per_minute=60)
    for _ in range(60):
        limit.check("a", 100.0)
    limit.check("b", 100.0)
    with pytest.raises(ApiError) as refused:
        limit.check("a", 100.2)
    assert (refused.value.status, refused.value.retry_after) == (429, 1)
    limit.check("a", 101.1)


def test_too_many_requests_are_refused_with_the_time_to_wait(learned: Workspace) -> None:
    with opened(learned) as own:
        replies = (own.post("/api/models/km/predict") for _ in range(2 * PREDICTIONS_PER_MINUTE))
        refused = next(found for found in replies if found.status_code != 415)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
    assert refused.headers["retry-after"] == "1"


def test_the_counts_of_clients_have_a_limit() -> None:
    limit = RateLimit(per_minute=60)
    for number in range(5_000):
        limit.check(str(number), 100.0)
    assert len(limit._buckets) == 1024
