"""Actions: what they change, and how the visitors of the page see them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from streamclust.dashboard.serve import Listen
from tests.support.dashboard import ALLOWED, TOKEN, followed, opened
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.waiting import wait_until
from tests.support.workers import drain
from tests.support.workspace import Workspace


def done(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    """Run an action to its end."""
    started = client.post(path, json=body, headers=ALLOWED)
    assert started.status_code == 202, started.text
    action: dict[str, Any] = started.json()
    assert action["state"] == "running"

    def has_ended() -> bool:
        found = client.get(f"/api/actions/{action['id']}", headers=ALLOWED)
        action.update(found.json())
        return bool(action["state"] != "running")

    wait_until(has_ended)
    return action


def test_a_rollback_publishes_the_older_version_again(own: Workspace) -> None:
    with opened(own, Listen(token=TOKEN)) as client:
        action = done(client, "/api/models/km/rollback", version=2)
        detail = client.get("/api/models/km").json()
    assert (action["state"], action["message"]) == (
        "done",
        "version 2 was published again as version 6",
    )
    newest = own.newest("km")
    assert newest.reason == "rollback"
    assert newest.means.tolist() == own.versions("km")[1].means.tolist()
    assert detail["events"][-1]["kind"] == "rollback"


def test_a_refit_publishes_a_better_fit(own: Workspace) -> None:
    with opened(own, Listen(token=TOKEN)) as client:
        action = done(client, "/api/models/gm/refit")
    assert action["state"] == "done", action
    assert own.newest("gm").reason == "refit"


def test_a_requeue_adds_the_refused_entries_again(workspace: Workspace) -> None:
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream)})
    with workspace.client as redis:
        add_points(redis, stream, blobs(90))
        redis.xadd(stream, {"x0": "odd", "x1": "1"})
        drain(workspace)
        with opened(workspace, Listen(token=TOKEN)) as client:
            none = done(client, "/api/models/m/requeue", reason="another reason")
            action = done(client, "/api/models/m/requeue", reason="not a number")
            dead = client.get("/api/models/m").json()["dead"]
        assert none["message"] == "0 entries were added to their streams again"
        assert action["message"] == "1 entry was added to their streams again"
        assert redis.xlen(stream) == 92
        assert dead["stored"] == 0


def test_an_action_that_fails_has_the_reason(api: httpx.Client) -> None:
    action = done(api, "/api/models/km/rollback", version=99)
    assert action["state"] == "failed"
    assert "version 99 of 'km' isn't stored" in action["message"]


def test_visitors_see_an_action_start_and_end(own: Workspace) -> None:
    with (
        opened(own, Listen(token=TOKEN)) as client,
        followed(client, "/api/models/km/updates") as events,
    ):
        done(client, "/api/models/km/rollback", version=3)
        states = [events.next("action")[1]["state"] for _ in range(2)]
        assert states == ["running", "done"]
        _, event = events.next("event")
        assert (event["kind"], event["version"]) == ("rollback", 6)


def test_a_model_that_the_settings_do_not_have_can_not_be_changed(api: httpx.Client) -> None:
    found = api.post("/api/models/none/refit", json={}, headers=ALLOWED)
    assert (found.status_code, found.json()["error"]["code"]) == (409, "not_configured")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("rollback", {}, "version"),
        ("rollback", {"version": True}, "version"),
        ("rollback", {"version": 0}, "version"),
        ("requeue", {"reason": 3}, "reason"),
        ("refit", {"restarts": 3}, "restarts"),
        ("pause", {"reason": "x" * 201}, "reason"),
        ("resume", {"reason": "x"}, "reason"),
    ],
)
def test_an_error_names_the_field(
    api: httpx.Client, path: str, body: dict[str, Any], field: str
) -> None:
    found = api.post(f"/api/models/km/{path}", json=body, headers=ALLOWED)
    assert (found.status_code, found.json()["error"]["field"]) == (422, field)


def test_an_action_without_a_body_is_one_without_options(own: Workspace) -> None:
    with opened(own, Listen(token=TOKEN)) as client:
        headers = {**ALLOWED, "Content-Type": "application/json"}
        assert client.post("/api/models/km/requeue", headers=headers).status_code == 202


def test_a_model_is_paused_and_resumed(own: Workspace) -> None:
    with opened(own, Listen(token=TOKEN)) as client:

        def row() -> Any:
            return client.get("/api/models/km").json()["row"]

        assert row()["paused"] is None
        action = done(client, "/api/models/km/pause", reason="a <b>new</b> sensor")
        assert action["message"] == "the model is paused; no worker has it"
        wait_until(lambda: row()["phase"] == "paused")
        assert row()["paused"]["reason"] == "a <b>new</b> sensor"
        assert row()["paused"]["by"].startswith("the dashboard on ")
        assert "already paused" in done(client, "/api/models/km/pause")["message"]
        # a rollback waits for the end of the pause
        message = done(client, "/api/models/km/rollback", version=2)["message"]
        assert message.endswith("the model is paused, and applies it when it is resumed")
        assert own.newest("km").version == 5
        assert "it continues" in done(client, "/api/models/km/resume")["message"]
        wait_until(lambda: row()["paused"] is None)
        assert done(client, "/api/models/km/resume")["message"] == "the model isn't paused"
