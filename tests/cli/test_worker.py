"""``streamclust worker``: its options and exit codes. What it does is in tests/worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import run_here
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace, error_line, run


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    return Workspace(tmp_path, valkey_url, namespace)


def test_check_tells_whether_live_workers_have_all_models(workspace: Workspace) -> None:
    def check() -> int:
        return run_here(workspace, "worker", "--check").returncode

    workspace.write({"a": kmeans(workspace.stream()), "b": kmeans(workspace.stream())})
    # Given no worker Then each model is named
    before = run_here(workspace, "worker", "--check")
    assert before.returncode == 1
    assert before.stderr == "a: no live worker\nb: no live worker\n"
    with WorkerProcess(workspace) as worker:
        # When there is one
        worker.wait_for("model_created", 2)
        worker.wait(lambda: check() == 0)
        # Then one model that it doesn't have is still missing
        another = 'models.c={"kind": "kmeans", "n_clusters": 2, "streams": "s"}'
        other = run_here(workspace, "worker", "--check", "--set", another)
        assert other.returncode == 1
        assert other.stderr == "c: no live worker\n"
        waits = f"stream '{workspace.stream()}' doesn't exist yet on {workspace.url}"
        assert f"a: alive, warming, 0 points; {waits}" in other.stdout
        # When it is killed Then that shows as soon as its word is stale
        worker.kill()
        with workspace.client as client:
            wait_until(lambda: not client.exists(workspace.keys("a").health), LIMIT)
        assert check() == 1
    with WorkerProcess(workspace) as worker:
        worker.wait_for("model_resumed", 2)
        worker.wait(lambda: check() == 0)
        # When it leaves Then that shows at once
        assert worker.leave() == 0
        assert check() == 1


def test_settings_from_flags_and_the_environment(workspace: Workspace) -> None:
    # Given three distinct points, and a file that asks for three clusters of another server
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, blobs(60))
    Workspace(workspace.folder, "redis://127.0.0.1:1/0", workspace.namespace).write(
        {"m": kmeans(stream)}
    )
    (workspace.folder / "config.yaml").rename(workspace.folder / "other.yaml")
    # When flags name the file, the server and the number of clusters, and a variable the level
    flags = ["-c", "other.yaml", "--redis-url", workspace.url, "--set", "models.m.n_clusters=5"]
    done = run(workspace.folder, "worker", "--until-idle", *flags, STREAMCLUST_LOG__LEVEL="error")
    # Then that is what is learned
    assert done.returncode == 0
    assert done.stderr == ""
    assert workspace.newest("m").means.shape == (5, 2)


def test_settings_that_are_wrong_are_named(tmp_path: Path) -> None:
    assert "models" in error_line(run(tmp_path, "worker"), 2)
    assert "nowhere.yaml" in error_line(run(tmp_path, "worker", "-c", "nowhere.yaml"), 2)
    (tmp_path / "config.yaml").write_text(
        "models: {m: {kind: kmeans, n_clusters: 2, streams: s, batch: {sise: 5}}}"
    )
    line = error_line(run(tmp_path, "worker"), 2)
    assert "models.m.batch.sise" in line
    assert "size" in line
    assert run(tmp_path, "worker", "--no-such-option").returncode == 2


def test_check_without_models_is_not_alive(workspace: Workspace) -> None:
    workspace.write({})
    done = run_here(workspace, "worker", "--check")
    assert "models" in error_line(done, 2)
