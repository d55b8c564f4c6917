"""``streamclust status``: models, their workers, and what is still to learn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_entry, add_points, blobs
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace, error_line, run


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    return Workspace(tmp_path, valkey_url, namespace)


def rows(workspace: Workspace, *arguments: str) -> dict[str, dict[str, Any]]:
    done = run(workspace.folder, "status", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return {row["model"]: row for row in json.loads(done.stdout)}


def table(workspace: Workspace, *arguments: str) -> list[list[str]]:
    done = run(workspace.folder, "status", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    return [line.split() for line in done.stdout.splitlines() if line.strip()]


def test_before_anything_it_says_what_to_do(workspace: Workspace) -> None:
    workspace.write({})
    done = run(workspace.folder, "status")
    assert done.returncode == 0
    assert "no models yet" in done.stdout
    assert "streamclust worker" in done.stdout
    assert rows(workspace) == {}


def test_a_model_goes_from_waiting_to_learned(
    tmp_path: Path, server_url: str, namespace: str
) -> None:
    # Given a model in the file, and points that nobody has learned
    workspace = Workspace(tmp_path, server_url, namespace)
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, blobs(90))
        add_entry(client, stream, x0="nan", x1="1")
    workspace.write({"m": mixture(stream)})
    # Then all of them are still to come
    row = rows(workspace)["m"]
    assert (row["worker"], row["phase"], row["published"], row["lag"]) == (
        None,
        "stopped",
        None,
        91,
    )
    # When they are learned Then nothing is left to do
    workspace.drain()
    row = rows(workspace)["m"]
    assert (row["worker"], row["phase"], row["lag"], row["dead"]) == (None, "stopped", 0, 1)
    assert row["points_seen"] == row["published"]["points"] == 90
    assert row["published"]["version"] == 1
    assert sum(row["weight_per_cluster"]) == pytest.approx(90, abs=1e-9)
    # and a person sees the same
    header, model, *_ = table(workspace)
    assert header[:7] == ["MODEL", "KIND", "WORKER", "VER", "POINTS", "RATE/S", "LAG"]
    assert header[7:] == ["LOST", "DEAD", "SCORE", "WEIGHTS"]
    assert model[:8] == ["m", "mixture", "3x2", "none", "1", "90", "-", "0"]
    assert model[8:10] == ["0", "1"]
    # When more comes Then that is the lag
    with workspace.client as client:
        add_points(client, stream, blobs(7))
    assert rows(workspace)["m"]["lag"] == 7


def test_one_model_is_shown_with_its_components(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, blobs(90))
    workspace.write({"m": kmeans(stream), "other": kmeans(stream)}).drain()
    assert [line[0] for line in table(workspace)] == ["MODEL", "m", "other", "SCORE"]
    *_, published, header, first, second, third = table(workspace, "m")
    assert published[:3] == ["version", "1,", "published"]
    assert header == ["#", "WEIGHT", "SHARE", "x0", "x1"]
    means = workspace.newest("m").means
    for number, component in enumerate((first, second, third)):
        assert component[:3] == [str(number), "30.0", "33.33%"]
        assert np.array(component[3:], float) == pytest.approx(means[number], rel=6e-3)


def test_names_of_features_are_shown_as_they_are(workspace: Workspace) -> None:
    with workspace.client as client:
        for number in range(60):
            add_entry(client, workspace.stream(), **{"t[/C]": str(number % 3), "[red]": "1.5"})
    workspace.write({"m": kmeans(workspace.stream())}).drain()
    assert ["#", "WEIGHT", "SHARE", "t[/C]", "[red]"] in table(workspace, "m")


def test_a_live_worker_is_named(workspace: Workspace) -> None:
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream), "idle": kmeans(workspace.stream("none"))})
    with WorkerProcess(workspace) as worker, workspace.client as client:
        add_points(client, stream, blobs(600))
        worker.wait(lambda: workspace.committed("m") == 600)
        worker.wait(lambda: rows(workspace)["m"]["points_seen"] == 600)
        found = rows(workspace)
        assert found["m"]["worker"] == f"{os.uname().nodename}:{worker.process.pid}"
        assert found["m"]["phase"] == "learning"
        assert found["m"]["rate"] >= 0
        assert (found["idle"]["phase"], found["idle"]["points_seen"]) == ("warming", 0)
        assert worker.leave() == 0
    assert {row["worker"] for row in rows(workspace).values()} == {None}


def test_an_unknown_model_is_an_error_that_names_those_there_are(workspace: Workspace) -> None:
    workspace.write({"palette": kmeans(workspace.stream())}).drain()
    line = error_line(run(workspace.folder, "status", "pallete"), 1)
    assert "'pallete'" in line
    assert "palette" in line.replace("pallete", "")
