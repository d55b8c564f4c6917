"""Streams that don't keep what a worker still needs: said in the log, the state and the status."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from streamclust.cli.main import cli
from streamclust.store.model.health import read_health
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.workers import WorkerThread, drain
from tests.support.workspace import Workspace

FIRST = 1_700_000_000_000
EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "50ms"},
    "commit": {"every": "50ms"},
    "publish": {"every": "200ms"},
}
TRIMMED = "gap_detected"

pytestmark = pytest.mark.every_server


def status(workspace: Workspace, *arguments: str) -> str:
    config = ["--config", str(workspace.folder / "config.yaml")]
    done = CliRunner().invoke(cli, ["status", "m", *config, *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def row(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(status(workspace, "--json"))[0]
    return found


def test_entries_trimmed_while_the_worker_was_away_are_reported(any_workspace: Workspace) -> None:
    # Given a worker that has learned 300 points and left
    workspace, stream = any_workspace, any_workspace.stream()
    workspace.write({"m": kmeans(stream, **EAGER)})
    with workspace.client as client:
        add_points(client, stream, blobs(300), FIRST)
        drain(workspace)
        # When 200 more come, and the stream keeps only 50
        add_points(client, stream, blobs(200, seed=1), FIRST + 10**6)
        client.xtrim(stream, maxlen=50, approximate=False)
        counts = "entries-added" in client.xinfo_stream(stream)
    expected = {"entries": 150 if counts else 0, "unknown": 0 if counts else 1, "restarts": 0}
    # Then a worker says how many it has never seen
    with WorkerThread(workspace) as worker, workspace.client as client:
        said = worker.wait_for(TRIMMED)
        assert (said["stream"], said["entries"]) == (stream, 150 if counts else "unknown")
        worker.wait(lambda: workspace.committed("m") == 350)
        # and so do its health, the state and the status
        meta, _ = workspace.state("m")
        assert meta["lost"] == {stream: expected}

        def healthy() -> bool:
            health = read_health(client, workspace.keys("m"))
            told = health is not None and (health.lost, health.unknown_gaps)
            return told == (expected["entries"], expected["unknown"])

        worker.wait(healthy)
        assert (row(workspace)["lost"], row(workspace)["lag"]) == (expected, 0)
    # and it is neither forgotten nor counted again
    assert not drain(workspace).events(TRIMMED)
    assert row(workspace)["lost"] == expected
    header, cells = (line.split() for line in status(workspace).splitlines()[1:3])
    assert cells[header.index("LOST") + 1] == ("150" if counts else "0+?")


def test_keys_that_are_deleted_under_a_waiting_worker(any_workspace: Workspace) -> None:
    # Given a worker that waits for more points
    workspace, stream = any_workspace, any_workspace.stream()
    workspace.write({"m": kmeans(stream, on_reset="restart", **EAGER)})
    with WorkerThread(workspace) as worker, workspace.client as client:
        add_points(client, stream, blobs(300), FIRST)
        worker.wait(lambda: workspace.committed("m") == 300)
        # When its group is deleted
        client.xgroup_destroy(stream, workspace.keys("m").group)
        add_points(client, stream, blobs(30), FIRST + 10**6)
        worker.wait(lambda: workspace.committed("m") == 330)
        # Then it is there again, at the position of the state and not at the end
        position = workspace.position("m")[stream].encode()
        worker.wait(
            lambda: (
                position in [group["last-delivered-id"] for group in client.xinfo_groups(stream)]
            )
        )
        # When the stream is deleted Then that is said
        client.delete(stream)
        worker.wait_for("stream_missing")
        # and when it is begun again with smaller IDs, it is read from its beginning
        add_points(client, stream, blobs(60), FIRST - 10**9)
        worker.wait_for("stream_restarted")
        worker.wait(lambda: workspace.committed("m") == 390)
        # When all keys of the model are deleted
        client.delete(*client.keys(f"{{{workspace.namespace}:m}}*"))
        # Then it says so, and begins anew
        assert "keys were deleted" in worker.wait_for("lease_lost")["error"]
        worker.wait_for("model_created", 2)
        worker.wait(lambda: workspace.committed("m") == 60)


def test_a_stream_begun_again_is_left_alone_unless_told_otherwise(any_workspace: Workspace) -> None:
    workspace, stream = any_workspace, any_workspace.stream()
    workspace.write({"m": kmeans(stream, **EAGER)})
    with workspace.client as client:
        add_points(client, stream, blobs(300), FIRST)
        drain(workspace)
        client.delete(stream)
        add_points(client, stream, blobs(90), FIRST - 10**9)
    # it is said, and unknown is not shown as nothing to do
    [said] = drain(workspace).events("stream_behind")
    assert "on_reset" in said["remedy"]
    assert row(workspace)["lag"] is None
    assert workspace.committed("m") == 300
    # and it is read if the config says so
    workspace.write({"m": kmeans(stream, on_reset="restart", **EAGER)})
    drain(workspace)
    assert workspace.committed("m") == 390
    assert (row(workspace)["lag"], row(workspace)["lost"]["restarts"]) == (0, 1)


# ---- trimming


@pytest.mark.parametrize(
    ("policy", "least", "most"),  # only whole nodes of up to 100 entries are removed
    [
        ({"kind": "none"}, 450, 450),
        ({"kind": "learned"}, 1, 100),
        ({"kind": "length", "entries": 150}, 150, 250),
        ({"kind": "age", "age": "1s"}, 1, 100),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_learned_entries_are_trimmed_as_the_config_says(
    any_workspace: Workspace, policy: dict[str, Any], least: int, most: int
) -> None:
    workspace, stream = any_workspace, any_workspace.stream()
    workspace.write({"m": kmeans(stream, trim=policy, **EAGER)})
    with workspace.client as client:
        add_points(client, stream, blobs(450), FIRST)
        worker = drain(workspace)
        assert least <= client.xlen(stream) <= most
        # and a worker that goes on finds no gap in that
        add_points(client, stream, blobs(30, seed=1), FIRST + 10**6)
    assert not worker.events(TRIMMED)
    assert not drain(workspace).events(TRIMMED)
    assert workspace.committed("m") == 480
    assert row(workspace)["lost"] == {"entries": 0, "unknown": 0, "restarts": 0}


@pytest.mark.parametrize("server_name", ["valkey9", "redis7", "redis8"])
def test_what_is_learned_refused_and_lost_is_what_was_written(any_workspace: Workspace) -> None:
    # Given a worker on a stream that keeps 20 entries, and is given 60 at a time
    workspace, stream = any_workspace, any_workspace.stream()
    workspace.write({"m": kmeans(stream, **EAGER)})
    ids: list[str] = []

    def write(count: int) -> None:
        with workspace.client as client, client.pipeline(transaction=True) as pipe:
            for number in range(len(ids), len(ids) + count):
                value = b"bad" if number % 9 == 8 else blobs(5, seed=number).tobytes()
                pipe.xadd(stream, {"f8": value, "d": 2}, maxlen=20, approximate=False)
            ids.extend(each.decode() for each in pipe.execute())

    write(20)
    with WorkerThread(workspace) as worker:
        worker.wait_for("model_published")
        for _ in range(20):
            write(60)
        worker.wait(lambda: workspace.position("m") == {stream: ids[-1]})
    # Then of each entry its five points are learned, or it is refused, or counted as lost
    lost = workspace.state("m")[0]["lost"][stream]["entries"]
    assert lost >= 20 * 40
    assert workspace.committed("m") / 5 + len(workspace.dead("m")) + lost == len(ids)
    assert sum(gap["entries"] for gap in worker.events(TRIMMED)) == lost
