"""Models of templates: a worker runs one for each stream that matches, also for those to come."""

from __future__ import annotations

from typing import Any

import redis

from streamclust.config import load_settings
from streamclust.runtime.discovery import found_models
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace, error_line, run

EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "10ms"},
    "commit": {"points": 30},
    "discover": "100ms",
}


def templated(workspace: Workspace, **more: Any) -> Workspace:
    """Write one template: a model for each stream whose name begins with that of the test."""
    return workspace.write({"c-{tenant}": kmeans(stream(workspace, "{tenant}"), **EAGER, **more)})


def stream(workspace: Workspace, tenant: str) -> str:
    return workspace.stream(f"clicks:{tenant}")


def feed(client: redis.Redis, workspace: Workspace, *tenants: str, n: int = 120) -> None:
    for tenant in tenants:
        add_blocks(client, stream(workspace, tenant), blobs(n))


def found(workspace: Workspace, client: redis.Redis) -> list[str]:
    return found_models(load_settings(workspace.folder / "config.yaml", ()), client)


def test_streams_that_come_later_get_models_while_the_worker_runs(
    any_workspace: Workspace,
) -> None:
    workspace = templated(any_workspace, overrides={"acme": {"n_clusters": 2}})
    with workspace.client as client, WorkerProcess(workspace) as worker:
        # Given a worker without a stream
        worker.wait_for("streams_awaited")
        # When streams come, one after another
        feed(client, workspace, "acme")
        worker.wait(lambda: workspace.committed("c-acme") == 120)
        feed(client, workspace, "b/c", "acme")
        # Then each has a model, with the settings of its own
        worker.wait(lambda: workspace.committed("c-b_x2F_c") == 120)
        worker.wait(lambda: workspace.committed("c-acme") == 240)
        # and a stream that is deleted takes no model with it
        client.delete(stream(workspace, "b/c"))
        feed(client, workspace, "acme")
        worker.wait(lambda: workspace.committed("c-acme") == 360)
        assert worker.leave() == 0
        assert "Traceback" not in worker.log
    assert workspace.committed("c-b_x2F_c") == 120
    assert workspace.newest("c-acme").means.shape == (2, 2)
    assert workspace.newest("c-b_x2F_c").means.shape == (3, 2)


def test_until_idle_learns_all_streams_that_match(workspace: Workspace) -> None:
    templated(workspace, encode=True)
    with workspace.client as client:
        feed(client, workspace, "a", "b")
        workspace.drain()
        assert [workspace.committed(f"c-{tenant}") for tenant in "ab"] == [120, 120]
        # the streams of codes and of versions match no template
        assert found(workspace, client) == ["c-a", "c-b"]
        templated(workspace).write({"{any}": kmeans("{any}", **EAGER)})
        names = found(workspace, client)
    own = [name for name in names if workspace.namespace in name]
    assert [name.rpartition("_x3A_")[2] for name in own] == ["a", "b"]


def test_until_idle_fails_if_no_stream_matches(workspace: Workspace) -> None:
    templated(workspace)
    line = error_line(run(workspace.folder, "worker", "--until-idle"), 1)
    pattern = stream(workspace, "{tenant}")
    assert f"models.c-{{tenant}}.streams: no stream matches {pattern} on " in line


def test_strange_streams_have_models_of_their_own_or_none(workspace: Workspace) -> None:
    templated(workspace)
    prefix = stream(workspace, "").encode()
    learned = ["a*b", "a?b", "a[b]c", "{a}", "a b", "a\\b", "köln", "_x2F_", "/", "-", "a" * 198]
    refused = [b"\xff\xfe", b"a\nb", b"a" * 199, "é".encode() * 100]
    with workspace.client as client:
        feed(client, workspace, *learned, n=60)
        for value in (b"", *refused):
            client.xadd(prefix + value, {"x": "1"})
        client.set(prefix + b"string", "no stream")
        done = workspace.drain()
        names = found(workspace, client)
    assert len(names) == len(learned)
    streams = {next(iter(workspace.position(name))) for name in names}
    assert streams == {stream(workspace, value) for value in learned}
    assert [workspace.committed(name) for name in names] == [60] * len(names)
    [line] = [line for line in done.stderr.splitlines() if "streams_left_out" in line]
    for reason in ("isn't UTF-8", "control characters", "would have 201 characters", "maximum"):
        assert reason in line
    assert '"count": 4' in line


def test_a_limit_of_models_is_logged_once_and_those_that_learned_stay(
    workspace: Workspace,
) -> None:
    templated(workspace, max_models=2)
    with workspace.client as client:
        feed(client, workspace, "m", "n")
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: workspace.committed("c-n") == 120)
            # When more streams come than models are allowed
            names = [stream(workspace, tenant) for tenant in ("a", "z")]
            for name in names:
                add_blocks(client, f"hidden-{name}", blobs(120))
            with client.pipeline() as together:
                for name in names:
                    together.rename(f"hidden-{name}", name)
                together.execute()
            # Then those that run stay, and one line names the others
            line = worker.wait_for("models_limited")
            assert (line["max_models"], line["left_out"]) == (2, 2)
            assert set(line["models"]) <= {"c-a", "c-z"}
            feed(client, workspace, "m")
            worker.wait(lambda: workspace.committed("c-m") == 240)
            assert worker.leave() == 0
            assert len(worker.events("models_limited")) == 1
        # and another worker prefers them too
        feed(client, workspace, "m")
        workspace.drain()
        assert workspace.committed("c-m") == 360
        assert workspace.committed("c-a") == workspace.committed("c-z") == 0


def test_a_name_that_two_entries_of_the_settings_have_is_that_of_one_stream(
    workspace: Workspace,
) -> None:
    first, second = stream(workspace, "{tenant}"), workspace.stream("other:{x}")
    models = {"c-{tenant}": kmeans(first, **EAGER), "{x}-b": kmeans(second, **EAGER)}
    workspace.write(models)
    with workspace.client as client:
        feed(client, workspace, "b")
        for name in ("c", "d"):
            add_blocks(client, workspace.stream(f"other:{name}"), blobs(60))
        done = workspace.drain()
    assert list(workspace.position("c-b")) == [stream(workspace, "b")]
    assert list(workspace.position("d-b")) == [workspace.stream("other:d")]
    assert "its model would have the name of another model, c-b" in done.stderr


def test_the_right_to_scan_is_asked_for(workspace: Workspace) -> None:
    user = f"{workspace.namespace}-u"
    templated(workspace)
    with workspace.client as client:
        feed(client, workspace, "a")
        client.execute_command("ACL", "SETUSER", user, "on", ">p", "~*", "&*", "+@all", "-scan")
        try:
            line = error_line(
                run(
                    workspace.folder,
                    *("worker", "--until-idle", "--set", f"redis.username={user}"),
                    STREAMCLUST_REDIS__PASSWORD="p",
                ),
                3,
            )
            assert "scan" in line
        finally:
            client.execute_command("ACL", "DELUSER", user)
