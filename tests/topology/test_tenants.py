"""Templates in a cluster, and the rights of each tenant as docs/tenants.md has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from streamclust import Client
from streamclust.config import load_settings
from streamclust.errors import ServerError
from streamclust.runtime.discovery import found_models
from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import Address, open_server
from tests.support.fleet import Cluster
from tests.support.fleet_workspace import FleetWorkspace, eager
from tests.support.points import add_blocks, blobs
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace, run

PAGE = Path(__file__).parents[2] / "docs" / "tenants.md"
USERS = dict(re.findall(r"^user (\S+) on (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
PASSWORD = "secret"


def test_streams_on_all_nodes_are_found(tmp_path: Path, cluster: Cluster, namespace: str) -> None:
    workspace = FleetWorkspace(tmp_path, cluster.url, namespace)
    pattern = workspace.stream("{{{tenant}}}:clicks")
    workspace.write({"c-{tenant}": {**eager(pattern), "discover": "100ms"}})
    tenants = [f"t{number}" for number in range(9)]
    streams = [workspace.stream(f"{{{tenant}}}:clicks") for tenant in tenants]
    assert len({cluster.owner(stream) for stream in streams}) == 3
    with workspace.client as client, WorkerProcess(workspace) as worker:
        for stream in streams[:8]:
            add_blocks(client, stream, blobs(120))
        worker.wait(lambda: all(workspace.committed(f"c-t{n}") == 120 for n in range(8)))
        # also one that comes later
        add_blocks(client, streams[8], blobs(120))
        worker.wait(lambda: workspace.committed("c-t8") == 120)
        assert "1 model removed" not in workspace.shows("reload")
        assert worker.leave() == 0
    with open_server(Address(cluster.url)) as server:
        settings = load_settings(tmp_path / "config.yaml", ())
        assert found_models(settings, server.client()) == [f"c-{tenant}" for tenant in tenants]


@pytest.fixture
def place(tmp_path: Path, valkey_url: str) -> Iterator[Workspace]:
    """Streams and models of two tenants, under the names in the page, and its users."""
    workspace = Workspace(tmp_path, valkey_url, "streamclust")
    keys = [*(f"clicks:{tenant}" for tenant in ("acme", "acme2"))]
    with workspace.client as client:
        for user, rules in USERS.items():
            selectors = re.findall(r"\([^)]*\)", rules)
            plain = re.sub(r"\([^)]*\)", "", rules).split()
            client.execute_command("ACL", "SETUSER", user, "on", f">{PASSWORD}", *plain, *selectors)
        for key in keys:
            add_blocks(client, key, blobs(120))
        yield workspace
        for user in USERS:
            client.execute_command("ACL", "DELUSER", user)
        client.delete(*keys)
        for key in client.scan_iter(match="{streamclust*"):
            client.delete(key)


def test_each_tenant_has_only_its_own_stream_and_model(place: Workspace) -> None:
    assert set(USERS) == {"acme-producer", "acme-reader", "clicks-worker"}
    place.write({"clicks-{tenant}": {**eager("clicks:{tenant}"), "discover": "100ms"}})
    login = {"password": PASSWORD}
    # Given a worker with the rights of the page
    password = {"STREAMCLUST_REDIS__PASSWORD": PASSWORD}
    user = ("--set", "redis.username=clicks-worker")
    done = run(place.folder, "worker", "--until-idle", *user, **password)
    assert done.returncode == 0, done.stderr
    assert place.committed("clicks-acme") == place.committed("clicks-acme2") == 120
    # Then a producer may add points to its stream, and nothing else
    with redis.Redis.from_url(place.url, username="acme-producer", **login) as producer:
        producer.xadd("clicks:acme", {"x": "1"})
        for forbidden in (
            lambda: producer.xadd("clicks:acme2", {"x": "1"}),
            lambda: producer.xrange("clicks:acme"),
            lambda: producer.delete("clicks:acme"),
            lambda: producer.get(Keys("streamclust", "clicks-acme").state),
            lambda: list(producer.scan_iter()),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                forbidden()
    # and a reader may read its model, and no other
    with Client(place.url, username="acme-reader", **login) as reader:
        assert reader.model("clicks-acme").means.shape == (3, 2)
        assert len(list(reader.updates("clicks-acme", since=0, timeout=0))) >= 1
        for forbidden in (
            lambda: reader.model("clicks-acme2"),
            lambda: reader.add("clicks:acme", [[1.0, 2.0]]),
        ):
            with pytest.raises(ServerError, match="doesn't permit this"):
                forbidden()


def test_a_running_worker_with_these_rights_is_reloaded(place: Workspace) -> None:
    template = {"clicks-{tenant}": {**eager("clicks:{tenant}"), "discover": "100ms"}}
    login = {"username": "clicks-worker", "password": PASSWORD, "url": place.url}
    place.write(template, redis=login)
    with WorkerProcess(place) as worker:
        worker.wait(lambda: place.committed("clicks-acme") == 120)
        worker.wait_for("models_discovered")
        template["clicks-{tenant}"]["max_models"] = 1
        place.write(template, redis=login)
        admin = ("--redis-url", place.url, "--set", "redis.username=null")
        done = run(place.folder, "reload", *admin, "--set", "redis.password=null")
        assert "no model has changed" in done.stdout, done.stderr
        worker.wait_for("models_limited")
        assert not worker.events("reload_unavailable")
        assert worker.leave() == 0
    wait_until(lambda: place.committed("clicks-acme") == 120)
