"""``streamclust watch``: versions as they come, for people and for programs."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamclust.formats.model import encode_model
from streamclust.store.model.commit import Commit, commit
from tests.support.commands import run_here
from tests.support.commits import take
from tests.support.encoder_fixture import model_of
from tests.support.forked import PipedCommand
from tests.support.many_models import fill
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import WorkerProcess, drain
from tests.support.workspace import Workspace, environment, error_line, run


@contextmanager
def watching(workspace: Workspace, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `watch` whose output is read while it runs; it ends by itself when nothing comes."""
    with PipedCommand(
        ["watch", *arguments, "--timeout", str(LIMIT)],
        cwd=workspace.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def as_json(workspace: Workspace, *arguments: str) -> list[dict[str, Any]]:
    done = run_here(workspace, "watch", *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_has_a_line_a_version_from_any_kept_one_on(learned: Workspace) -> None:
    versions = as_json(learned, "km", "--since", "1", "--count", "3")
    assert [line["version"] for line in versions] == [2, 3, 4]
    assert [line["points"] for line in versions] == [120, 180, 240]
    first = versions[0]
    assert (first["model"], first["kind"], first["reason"]) == ("km", "kmeans", "step")
    assert first["features"] == ["x0", "x1"]
    assert first["effective_weight"] == pytest.approx(120, abs=1e-9)
    assert 0 < first["inertia"] < 20
    assert list(first["position"]) == [learned.stream()]


def test_it_begins_with_the_newest_version(learned: Workspace) -> None:
    assert [line["version"] for line in as_json(learned, "km", "--count", "1")] == [5]
    assert [line["version"] for line in as_json(learned, "km", "--timeout", "0.1")] == [5]
    assert as_json(learned, "km", "--since", "5", "--timeout", "0.1") == []


def test_arrays_are_those_of_the_model(learned: Workspace) -> None:
    [line] = as_json(learned, "km", "--arrays", "--count", "1")
    newest = learned.newest("km")
    assert line["centroids"] == newest.means.tolist()
    assert line["mass"] == newest.mass.tolist()
    [line] = as_json(learned, "gm", "--arrays", "--count", "1")
    newest = learned.newest("gm")
    assert {name: line[name] for name in ("weights", "means", "covariances")} == {
        "weights": newest.params.weights.tolist(),
        "means": newest.params.means.tolist(),
        "covariances": newest.params.covariances.tolist(),
    }


def test_a_person_sees_a_table(learned: Workspace) -> None:
    done = run_here(learned, "watch", "gm", "--since", "0", "--count", "5")
    assert (done.returncode, done.stderr) == (0, "")
    header, first, *rest = done.stdout.splitlines()
    assert header.split()[:5] == ["VERSION", "TIME", time.strftime("%Z"), "POINTS", "REASON"]
    assert "LOG LIKELIHOOD" in header
    assert [first.split()[0], *first.split()[2:]][:5] == ["1", "60", "start", "-", "-"]
    assert [line.split()[0] for line in rest] == ["2", "3", "4", "5"]
    assert rest[-1].split()[2:4] == ["300", "step"]
    moved = [float(line.split()[5]) for line in rest]
    assert all(0 < value < 5 for value in moved)
    assert {len(line.split()[-1]) for line in [first, *rest]} == {3}  # a bar a component


def test_arrays_need_json(learned: Workspace) -> None:
    done = run_here(learned, "watch", "km", "--arrays")
    assert done.returncode == 2
    assert "--arrays needs --json" in done.stderr


def test_it_waits_for_a_model_and_ends_with_ctrl_c(
    tmp_path: Path, server_url: str, namespace: str
) -> None:
    # Given a watch on a model that isn't there yet
    workspace = Workspace(tmp_path, server_url, namespace)
    workspace.write({"m": kmeans(workspace.stream(), publish={"every": "100ms"})})
    with watching(workspace, "m") as watch, workspace.client as client:
        assert watch.stdout is not None
        assert watch.stderr is not None
        waiting = (
            f"waiting for the first version of 'm': stream '{workspace.stream()}' doesn't exist"
        )
        assert watch.stderr.readline() == f"{waiting} yet on {workspace.url}; no worker runs\n"
        # When versions are published Then each is shown at once
        with WorkerProcess(workspace) as worker:
            add_points(client, workspace.stream(), blobs(60))
            assert watch.stdout.readline().startswith(" VERSION")
            assert watch.stdout.readline().split()[0] == "1"
            add_points(client, workspace.stream(), blobs(60, seed=1))
            assert watch.stdout.readline().split()[0] == "2"
            assert worker.leave() == 0
        # and Ctrl-C ends it, in silence
        watch.send_signal(signal.SIGINT)
        assert watch.wait(LIMIT) == 130
        rest = watch.stderr.read().splitlines()
        assert all(line.startswith("waiting for the first version of 'm'") for line in rest)


def test_it_says_that_it_waits_for_a_model_that_still_warms_up(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    workspace = Workspace(tmp_path, valkey_url, namespace)
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(1))  # too few points for three clusters
    drain(workspace.write({"m": kmeans(workspace.stream())}))
    done = run_here(workspace, "watch", "m", "--timeout", "0.1")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "waiting for the first version of 'm': warming up: 1 of 60 points; no worker runs\n"
    )
    # and no thread still asks the server
    wait_until(lambda: all(thread.name != "waiting" for thread in threading.enumerate()))


def test_a_reader_that_leaves_early_is_no_fault(learned: Workspace) -> None:
    with watching(learned, "km", "--since", "0") as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        watch.stdout.close()
        assert watch.stderr.read() == ""
        assert watch.wait(LIMIT) == 1


def test_a_model_that_was_begun_anew_is_said(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    # Given a watch that has shown a version of a model
    workspace = Workspace(tmp_path, valkey_url, namespace)
    workspace.write({"m": kmeans(workspace.stream())})
    keys = workspace.keys("m")
    with workspace.client as client, watching(workspace, "m") as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert watch.stderr.readline().startswith("waiting")
        add_points(client, workspace.stream(), blobs(60))
        drain(workspace)
        assert watch.stdout.readline().startswith(" VERSION")
        assert watch.stdout.readline().split()[0] == "1"
        # When it is begun anew Then that is said, and its versions are shown
        client.delete(keys.state, keys.models, keys.token)
        drain(workspace)
        again = "the model was deleted and started again"
        assert any(again in line for line in iter(watch.stderr.readline, ""))
        shown = watch.stdout.readline().split()
    assert (shown[0], shown[5]) == ("1", "-")  # what has moved since another model says nothing


def test_a_pattern_shows_the_new_versions_of_all_models_that_match(workspace: Workspace) -> None:
    # Given three models, and a watch of two of them
    workspace.write({})
    with workspace.client as client, ThreadPoolExecutor(1) as pool:
        fill(client, workspace.namespace, ["clicks-1", "clicks-2", "other"])
        subscribed = client.pubsub_numpat()
        watch = ("watch", "clicks-*", "--count", "2", "--json")
        shown = pool.submit(run, workspace.folder, *watch)
        wait_until(lambda: client.pubsub_numpat() > subscribed)
        # When all have a new version, and another program writes to the channel
        client.publish(workspace.keys("clicks-1").models, b"\xff")
        for name in ("other", "clicks-2", "clicks-1"):
            keys, model = workspace.keys(name), model_of(2)
            commit(client, keys, Commit(take(client, keys), b"s", model, encode_model(model)))
        # Then those two are shown
        done = shown.result(LIMIT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "following 2 models that match 'clicks-*'\n"
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["model"], each["version"]) for each in found] == [
        ("clicks-2", 2),
        ("clicks-1", 2),
    ]
    # and a pattern that matches no model is an error
    assert "'nix-*'" in error_line(run_here(workspace, "watch", "nix-*"), 1)
    assert "--since" in run_here(workspace, "watch", "c*", "--since", "0").stderr
