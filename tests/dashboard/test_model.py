"""What the page of a model shows, and what it can't show."""

from __future__ import annotations

from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest

from streamclust.dashboard.payload import swatches
from streamclust.runtime.overviews import read_overviews
from tests.support.dashboard import followed, opened
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_points, blobs
from tests.support.waiting import LIMIT
from tests.support.workers import drain
from tests.support.workspace import Workspace


def test_the_components_points_and_trails_are_those_of_the_model(
    api: httpx.Client, learned: Workspace
) -> None:
    found = api.get("/api/models/km?x=x0&y=x2&points=40").json()
    versions = learned.versions("km")
    newest, shown = versions[-1], found["model"]
    np.testing.assert_allclose(shown["components"]["x"], newest.means[:, 0], rtol=1e-5)
    np.testing.assert_allclose(shown["components"]["y"], newest.means[:, 2], rtol=1e-5)
    np.testing.assert_allclose(shown["means"], newest.means, rtol=1e-5)
    assert sum(shown["components"]["weight"]) == pytest.approx(1.0, abs=1e-5)
    assert shown["covariance_source"] == "points"
    X = blobs(300, D=3)[-40:]
    np.testing.assert_allclose(found["points"]["x"], X[:, 0], rtol=1e-5)
    assert found["points"]["code"] == newest.predict(X).tolist()
    assert found["trails"]["version"] == [model.version for model in versions]
    moved = [model.means[:, 2] for model in versions]
    np.testing.assert_allclose(found["trails"]["y"], moved, rtol=1e-5)
    assert found["trails"]["complete"]
    assert found["history"]["score"] == [model.score for model in versions]


def test_an_older_version_is_in_the_plane_of_the_newest(api: httpx.Client) -> None:
    newest = api.get("/api/models/gm").json()["model"]["projection"]
    assert newest["kind"] == "principal"
    assert api.get("/api/models/gm/versions/1").json()["projection"] == newest


def test_dead_letters_are_printable_and_have_reasons(api: httpx.Client) -> None:
    dead = api.get("/api/models/km").json()["dead"]
    [letter] = dead["letters"]
    assert "\x1b" not in letter["data"]
    assert "<b>odd" in letter["data"]
    assert dead["reasons"] == [{"reason": "x0=* is not a number", "count": 1}]


def test_the_rows_have_the_scores_of_stored_versions(api: httpx.Client, learned: Workspace) -> None:
    rows = {row["name"]: row for row in api.get("/api/models").json()["models"]}
    for name in ("km", "gm"):
        scores = [model.score for model in learned.versions(name) if model.score is not None]
        assert rows[name]["scores"] == scores


def test_models_are_filtered_sorted_and_paged(api: httpx.Client) -> None:
    def names(query: str) -> list[str]:
        return [row["name"] for row in api.get(f"/api/models?{query}").json()["models"]]

    assert names("sort=name") == ["gm", "km"]
    assert names("sort=name&offset=1") == ["km"]
    assert names("filter=K") == ["km"]
    assert names("filter=g*") == ["gm"]
    assert names("phase=learning") == []
    assert names("phase=stopped&phase=failed&limit=1&sort=name") == ["gm"]
    assert names("group=none") == []


def test_a_visitor_who_came_before_the_first_reading_reads_the_models_after_it(
    learned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read = Event()

    def read_later(*arguments: Any) -> Any:
        assert may_read.wait(LIMIT)
        return read_overviews(*arguments)

    monkeypatch.setattr("streamclust.dashboard.snapshot.read_overviews", read_later)
    monkeypatch.setattr("streamclust.dashboard.snapshot._FIRST_SECONDS", 0.05)
    with opened(learned) as api:
        early = api.get("/api/models").json()
        assert (early["snapshot_ms"], early["models"]) == (None, [])
        with followed(api, "/api/updates") as events:
            assert events.next("overview")[1]["total"] == 0
            may_read.set()
            _, update = events.next("overview")
            assert (update["total"], update["many"]) == (2, True)
        assert len(api.get("/api/models").json()["models"]) == 2


def test_models_of_a_template_form_a_group(workspace: Workspace) -> None:
    namespace = workspace.namespace
    with workspace.client as client:
        for tenant in ("a", "b"):
            client.xadd(f"{namespace}:{tenant}", {"x": 1})
    workspace.write({"t-{tenant}": kmeans(f"{namespace}:{{tenant}}"), "other": kmeans("none")})
    with opened(workspace) as api:
        found = api.get("/api/models?group=t-{tenant}").json()
        groups = api.get("/api/models").json()["groups"]
    assert [row["name"] for row in found["models"]] == ["t-a", "t-b"]
    assert [(group["name"], group["models"]) for group in groups] == [
        ("t-{tenant}", 2),
        ("other", 1),
    ]


def test_a_difference_pairs_components_of_both_versions(
    api: httpx.Client, learned: Workspace
) -> None:
    found = api.get("/api/models/km/diff?from=1&to=5").json()
    first, *_, last = learned.versions("km")
    moved = np.linalg.norm(last.means - first.means, axis=1)
    np.testing.assert_allclose(found["pairs"]["distance"], moved, rtol=1e-5)
    assert (found["matching"], found["born"], found["died"]) == ("places", [], [])
    assert found["points_between"] == 240


def test_missing_values_are_shown_where_the_model_expects_them(workspace: Workspace) -> None:
    stream = workspace.stream()
    points = {"missing": "learn", "features": ["x0", "x1", "x2"]}
    workspace.write({"m": mixture(stream, points=points)})
    with workspace.client as client:
        add_points(client, stream, blobs(90, D=3))
        client.xadd(stream, {"x0": "9", "x1": "9"})
    drain(workspace)
    with opened(workspace) as api:
        found = api.get("/api/models/m?x=x0&y=x2&points=1").json()
        body = {"points": [{"x0": 9, "x1": 9}, [9, 9, None]]}
        predicted = api.post("/api/models/m/predict", json=body).json()
    assert found["points"]["x"] == [9.0]
    assert found["points"]["y"] == pytest.approx([10.0], abs=2.0)
    assert predicted["codes"] == [found["points"]["code"][0]] * 2
    assert predicted["scores"][0] == predicted["scores"][1]


def test_alerts_arrive_with_their_attribution(workspace: Workspace) -> None:
    stream = workspace.stream()
    workspace.write({"m": mixture(stream, anomaly={"rate": 0.01}, batch={"size": 60})})
    with workspace.client as client:
        add_points(client, stream, blobs(3000))
        drain(workspace)
        with opened(workspace) as api, followed(api, "/api/models/m/updates") as events:
            events.next("server")
            add_points(client, stream, np.array([[500.0, 10.0]]))
            drain(workspace)
            _, alert = events.next("alert")
            alerts = api.get("/api/models/m").json()["alerts"]
            row = api.get("/api/models").json()["models"][0]
            body = {"points": [[500.0, 10.0]], "top": 1}
            predicted = api.post("/api/models/m/predict", json=body).json()
    assert alert["top"][0]["feature"] == "x0"
    assert alert["top"][0]["value"] == 500.0
    assert alerts["newest"][0] == alert
    assert row["alerts"] == alerts["count"] == alert["alert"]
    [[share]] = predicted["attribution"]
    assert (share["feature"], share["value"]) == ("x0", 500.0)
    assert predicted["quantiles"][0] > 0.99


def test_swatches_are_colours_of_values_that_look_like_colours() -> None:
    assert swatches(np.array([[0.0, 127.6, 255.0]])) == ["#0080ff"]
    assert swatches(np.array([[0.0, 0.5, 1.0]])) == ["#0080ff"]
    assert swatches(np.array([[0.0, 0.5, 300.0]])) is None
    assert swatches(np.array([[-1.0, 0.5, 3.0]])) is None
    assert swatches(np.array([[1.0, 2.0]])) is None
