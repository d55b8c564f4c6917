"""The updates of one model: what arrives, what a visitor missed, and what passes over faults."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from streamclust.dashboard.mailbox import Mailbox
from streamclust.store.server.connect import Address, open_server
from tests.support.dashboard import PLAIN, followed, opened
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.publisher import Publisher
from tests.support.servers import own_server
from tests.support.waiting import wait_until
from tests.support.workers import WorkerThread
from tests.support.workspace import Workspace

UPDATES = "/api/models/m/updates"
SECOND = 'data: {"version": 2'


@pytest.fixture
def publisher(workspace: Workspace) -> Iterator[Publisher]:
    """Publishes versions of the model `m`."""
    workspace.write({"m": kmeans(workspace.stream())})
    with open_server(Address(workspace.url)) as server:
        yield Publisher(server, workspace.namespace)


def test_versions_points_and_figures_arrive_while_a_worker_learns(workspace: Workspace) -> None:
    often: dict[str, Any] = {"batch": {"size": 30}, "publish": {"points": 30}}
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream, **often)})
    with workspace.client as client, WorkerThread(workspace), opened(workspace) as api:
        add_points(client, stream, blobs(60))
        wait_until(lambda: client.xlen(workspace.keys("m").models))
        with followed(api, UPDATES) as events:
            _, first = events.next("version")
            add_points(client, stream, blobs(120, seed=1))
            later, points = first, dict[str, Any]()
            while later["points"] < 180 or not points:
                _, found = events.next("version", "points")
                later, points = (found, points) if "means" in found else (later, found)
            _, row = events.next("status")
            while row["points"] < 180:
                _, row = events.next("status")
        newest = workspace.newest("m")
    assert first["version"] < later["version"] == newest.version
    assert set(points["code"]) <= set(newest.numbers.tolist())
    assert later["means"] == pytest.approx(newest.means, rel=1e-5)


def test_a_visitor_who_returns_gets_the_events_that_were_missed(
    workspace: Workspace, publisher: Publisher
) -> None:
    publisher.publish(1)
    with opened(workspace) as api, followed(api, UPDATES) as events:
        known, _ = events.next("server")
    publisher.publish(2, 3)  # while no dashboard runs
    with opened(workspace) as api:
        with followed(api, UPDATES, headers={"Last-Event-ID": known}) as events:
            event_id, version = events.next("version")
            assert version["version"] == 3
        with followed(api, f"{UPDATES}?last_event_id={event_id}") as events:
            events.next("server")  # and no version before it
            publisher.publish(4)
            assert events.next("version")[1]["version"] == 4


def test_a_visitor_of_another_model_of_this_name_reads_everything_again(
    workspace: Workspace, publisher: Publisher
) -> None:
    publisher.publish(1, 2, 3, model_id=8)
    with opened(workspace) as api, followed(api, UPDATES) as events:
        known, _ = events.next("server")
        publisher.forget()
        publisher.publish(1, model_id=10)
        assert events.next("reset")[1] == {"reason": "model"}
        assert events.next("version")[1]["model_id"] == 10
        with followed(api, UPDATES, headers={"Last-Event-ID": known}) as later:
            assert later.next("reset")[1] == {"reason": "model"}


def test_a_stream_ends_when_the_model_is_deleted(workspace: Workspace) -> None:
    workspace.write({})
    with open_server(Address(workspace.url)) as server, opened(workspace) as api:
        publisher = Publisher(server, workspace.namespace)
        publisher.publish(1)
        with followed(api, UPDATES) as events:
            events.next("version")
            with workspace.client as client:
                for key in publisher.keys.fixed:
                    client.delete(key)
            assert events.next("reset")[1] == {"reason": "deleted"}
            with pytest.raises(AssertionError, match="the stream ended"):
                events.next("version")


def test_a_model_without_a_version_shows_what_it_waits_for(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream())})
    with opened(workspace) as api:
        found = api.get("/api/models/m").json()
        assert (found["model"], found["points"], found["trails"]) == (None, None, None)
        assert f"stream {workspace.stream()!r}" in found["row"]["waiting"][0]
        with followed(api, UPDATES) as events:
            assert events.next("status")[1]["version"] is None


def test_the_page_survives_a_restart_of_the_server(tmp_path: Path, namespace: str) -> None:
    with own_server(tmp_path) as server:
        workspace = Workspace(tmp_path, server.url, namespace).write({"m": kmeans("points")})
        with open_server(Address(server.url)) as before:
            Publisher(before, namespace).publish(1)
        with opened(workspace) as api, followed(api, UPDATES) as events:
            assert api.get("/api/models").json()["server"]["state"] == "ok"
            events.next("version")
            server.kill()
            _, state = events.next("server")
            while state["state"] == "ok":
                _, state = events.next("server")
            assert state["state"] == "retrying"
            assert state["error"].startswith(f"can't reach {server.url}")
            known = api.get("/api/models/m").json()  # of the last reading
            assert (known["model"]["version"], known["server"]["state"]) == (1, "retrying")
            refused = api.get("/api/models/m/versions")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            server.start()
            assert events.next("server")[1]["state"] == "ok"


def test_the_page_shows_soon_that_the_server_hangs(tmp_path: Path, namespace: str) -> None:
    with own_server(tmp_path) as server:
        workspace = Workspace(tmp_path, server.url, namespace).write({"m": kmeans("points")})
        with opened(workspace) as api, followed(api, UPDATES) as events:
            assert events.next("server")[1]["state"] == "ok"
            server.send(signal.SIGSTOP)  # it takes connections, and answers nothing
            try:
                state = events.next("server", "beat")[1]  # before a beat, which is due after 10 s
                answered = api.get("/api/models").json()["server"]
            finally:
                server.send(signal.SIGCONT)
            assert state["state"] == answered["state"] == "retrying"
            assert f"can't reach {server.url}: no answer in time; retrying" == state["error"]
            assert events.next("server")[1]["state"] == "ok"


def test_the_server_may_start_after_the_dashboard(tmp_path: Path, namespace: str) -> None:
    with own_server(tmp_path) as server:
        server.kill()
        workspace = Workspace(tmp_path, server.url, namespace).write({"m": kmeans("points")})
        with opened(workspace) as api:
            found = api.get("/api/models").json()
            assert (found["models"], found["server"]["state"]) == ([], "retrying")
            assert api.get("/api/models/m").json()["error"]["code"] == "server_unreachable"
            assert api.get("/api/server").json()["product"] is None
            server.start()
            wait_until(lambda: api.get("/api/models").json()["models"])


def waiting(box: Mailbox) -> list[str]:
    """Return the data of all events that wait."""
    return [data.decode() for _, data in box._waiting]


def test_a_slow_visitor_gets_the_newest_version_and_all_recent_events() -> None:
    box = Mailbox()
    for number in range(1000):
        box.put("version", f"v{number}".encode())
        box.put("event", f"e{number}".encode())
    assert [each for each in waiting(box) if each[0] == "v"] == ["v999"]
    assert [each for each in waiting(box) if each[0] == "e"] == [f"e{n}" for n in range(936, 1000)]


def test_a_slow_visitor_of_all_models_is_asked_to_read_them_again() -> None:
    box = Mailbox()
    box.put("overview", b"one", b"read again")
    assert waiting(box) == ["one"]
    box.put("overview", b"two", b"read again")
    assert waiting(box) == ["read again"]


def test_all_visitors_share_one_reading(workspace: Workspace, publisher: Publisher) -> None:
    publisher.publish(1)
    with opened(workspace) as api, workspace.client as client:
        limits = httpx.Limits(max_connections=40)
        with httpx.Client(base_url=api.base_url, limits=limits, **PLAIN) as many:
            streams = [many.stream("GET", UPDATES) for _ in range(30)]
            responses = [stream.__enter__() for stream in streams]
            lines = [response.iter_lines() for response in responses]
            for each in lines:
                assert next(line for line in each if line == "event: server")
            assert api.get("/api/server").json()["visitors"] == 30
            connections = len([c for c in client.client_list() if c["name"] == "streamclust"])
            publisher.publish(2)
            found = {
                next(line for line in each if line.startswith('data: {"version": 2'))
                for each in lines
            }
            for stream in streams:
                stream.__exit__(None, None, None)
    assert len(found) == 1
    assert json.loads(found.pop()[6:])["version"] == 2
    assert connections < 15


def test_nothing_is_read_while_nobody_looks(
    workspace: Workspace, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(1)
    monkeypatch.setattr("streamclust.dashboard.feed._LINGER", 0.0)
    monkeypatch.setattr("streamclust.dashboard.snapshot.LINGER", 0.0)
    with workspace.client as client:
        before = {each["id"] for each in client.client_list()}  # of others on the shared server
        with opened(workspace) as api:
            api.get("/api/models")
            with followed(api, UPDATES) as events:
                events.next("version")

            def is_quiet() -> bool:
                connections = [each for each in client.client_list() if each["id"] not in before]
                own = [each for each in connections if each["name"] == "streamclust"]
                return all(int(each["idle"]) >= 2 for each in own)  # while it reads: less than 1 s

            wait_until(is_quiet)
