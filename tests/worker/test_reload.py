"""A worker that reads its settings again: models come, go and change, each refused alone."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from streamclust.cli.main import cli
from streamclust.store.model.workers import read_workers
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, add_points, blobs
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace

EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "10ms"},
    "commit": {"points": 30},
    "publish": {"points": 30},
}


def model(workspace: Workspace, name: str, **more: Any) -> dict[str, Any]:
    return {name: kmeans(workspace.stream(name), **{**EAGER, **more})}


def reload(workspace: Workspace, *options: str) -> tuple[int, list[Any]]:
    """Run the command; return the exit code and the answers."""
    config = ("--config", str(workspace.folder / "config.yaml"))
    done = CliRunner().invoke(cli, ["reload", "--json", *config, *options])
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def worker(workspace: Workspace) -> Iterator[WorkerProcess]:
    """A worker of the models a and b, each with 120 learned points."""
    workspace.write({**model(workspace, "a"), **model(workspace, "b")})
    with workspace.client as client:
        for name in "abc":
            add_blocks(client, workspace.stream(name), blobs(120))
    with WorkerProcess(workspace) as worker:
        worker.wait(lambda: workspace.committed("a") == workspace.committed("b") == 120)
        yield worker


def test_models_come_go_and_change(workspace: Workspace, worker: WorkerProcess) -> None:
    # When the file has another model, one less, and one with other settings
    workspace.write({**model(workspace, "a", publish={"keep": 1}), **model(workspace, "c")})
    code, answers = reload(workspace)
    # Then the worker says what has changed
    assert code == 0
    [answer] = answers
    assert (answer["added"], answer["removed"], answer["changed"]) == (1, 1, 1)
    worker.wait(lambda: workspace.committed("c") == 120)
    with workspace.client as client:
        # the model that has gone has returned its lease, and keeps its keys
        worker.wait(lambda: not client.exists(workspace.keys("b").lease))
        assert workspace.committed("b") == 120
        add_blocks(client, workspace.stream("a"), blobs(120, seed=1))
        add_blocks(client, workspace.stream("b"), blobs(120, seed=1))
        # the one that has changed continues, with its new settings
        worker.wait(lambda: workspace.committed("a") == 240)
        worker.wait(lambda: client.xlen(workspace.keys("a").models) == 1)
        assert workspace.newest("a").version > 1
        # When the first settings come back Then the model continues too
        workspace.write({**model(workspace, "a"), **model(workspace, "b")})
        assert reload(workspace)[0] == 0
        worker.wait(lambda: workspace.committed("b") == 240)
    assert worker.leave() == 0
    assert "Traceback" not in worker.log
    assert not worker.events("model_failed")


def test_what_a_model_can_not_continue_with_is_refused_for_it_alone(
    workspace: Workspace, worker: WorkerProcess
) -> None:
    changed = model(workspace, "a", K=5)
    workspace.write({**changed, **model(workspace, "b", seed=7), **model(workspace, "c")})
    code, [answer] = reload(workspace)
    assert code == 1
    assert (answer["added"], answer["changed"], answer["kept"]) == (1, 1, 1)
    assert "learned with n_clusters 3, the config says 5" in answer["refused"]["a"]
    line = worker.wait_for("reload_refused")
    assert line["model"] == "a"
    assert "it keeps its old settings" in line["error"]
    with workspace.client as client:
        for name in "abc":
            add_blocks(client, workspace.stream(name), blobs(120, seed=1))
    worker.wait(lambda: [workspace.committed(name) for name in "abc"] == [240] * 3)
    assert workspace.newest("a").means.shape == (3, 2)
    assert len(worker.events("reload_refused")) == 1
    assert worker.leave() == 0


def test_features_that_do_not_fit_are_refused(workspace: Workspace, worker: WorkerProcess) -> None:
    points = {"features": ["x", "y", "z"], "format": "fields"}
    workspace.write({**model(workspace, "a", points=points), **model(workspace, "b")})
    code, [answer] = reload(workspace)
    assert (code, list(answer["refused"])) == (1, ["a"])
    with workspace.client as client:
        add_blocks(client, workspace.stream("a"), blobs(120, seed=1))
    worker.wait(lambda: workspace.committed("a") == 240)


def test_a_broken_file_changes_nothing(workspace: Workspace, worker: WorkerProcess) -> None:
    file = workspace.folder / "config.yaml"
    whole = file.read_text()
    for broken in ("models: [", whole.replace("kmeans", "k-median"), "models:", "", None):
        file.unlink(missing_ok=True)
        if broken is not None:
            file.write_text(broken)
        before = len(worker.events("reload_failed"))
        # a worker with a file of its own reports what is wrong with it
        worker.send(signal.SIGHUP)
        worker.wait(lambda seen=before: len(worker.events("reload_failed")) == seen + 1)
    assert "config.yaml" in worker.events("reload_failed")[0]["error"]
    with workspace.client as client:
        add_blocks(client, workspace.stream("a"), blobs(120, seed=1))
        worker.wait(lambda: workspace.committed("a") == 240)
    # and the command refuses such a file itself
    file.write_text("models: [")
    assert reload(workspace) == (2, [])
    file.write_text(whole)
    assert reload(workspace)[0] == 0
    assert worker.leave() == 0


def test_settings_that_need_a_restart_are_named(
    workspace: Workspace, worker: WorkerProcess
) -> None:
    models = {**model(workspace, "a"), **model(workspace, "b")}
    workspace.write(models, log={"level": "debug"}, worker={"lease": "2s", "health_ttl": "1s"})
    code, [answer] = reload(workspace)
    assert (code, answer["fixed"]) == (1, ["worker.lease", "log.level"])
    assert worker.wait_for("reload_incomplete")["settings"] == answer["fixed"]


def test_a_template_comes_changes_and_goes(workspace: Workspace, worker: WorkerProcess) -> None:
    named = {**model(workspace, "a"), **model(workspace, "b")}
    pattern, template = workspace.stream("t:{x}"), {**EAGER, "discover": "100ms"}
    with workspace.client as client:
        for name in "pq":
            add_points(client, workspace.stream(f"t:{name}"), blobs(120))
        # When a template comes
        workspace.write({**named, "t-{x}": kmeans(pattern, **template)})
        assert reload(workspace)[0] == 0
        worker.wait(lambda: workspace.committed("t-p") == workspace.committed("t-q") == 120)
        # and gets settings that change one of its models, and settings that another can't have
        overrides = {"p": {"publish": {"keep": 1}}, "q": {"n_clusters": 4}}
        workspace.write({**named, "t-{x}": kmeans(pattern, **template, overrides=overrides)})
        code, [answer] = reload(workspace)
        assert (code, list(answer["refused"]), answer["changed"]) == (1, ["t-q"], 1)
        for name in "pqr":
            add_points(client, workspace.stream(f"t:{name}"), blobs(120))
        worker.wait(lambda: [workspace.committed(f"t-{n}") for n in "pqr"] == [240, 240, 120])
        # When it goes Then its models go
        workspace.write(named)
        assert reload(workspace)[1][0]["removed"] == 3
        leases = [workspace.keys(f"t-{name}").lease for name in "pqr"]
        worker.wait(lambda: not any(map(client.exists, leases)))
    assert worker.leave() == 0
    assert "Traceback" not in worker.log


def test_own_codes_and_scheduled_refits_follow(workspace: Workspace, worker: WorkerProcess) -> None:
    refit = {"every": "300ms", "restarts": 0}
    changed = model(workspace, "a", encode=True, refit=refit)
    workspace.write({**changed, **model(workspace, "b")})
    assert reload(workspace)[0] == 0
    with workspace.client as client:
        add_blocks(client, workspace.stream("a"), blobs(120, seed=1))
        worker.wait(lambda: client.xlen(workspace.keys("a").codes()) > 0)
        assert worker.wait_for("refit_finished")["model"] == "a"
    workspace.write(model(workspace, "b"))
    assert reload(workspace)[1][0]["removed"] == 1
    assert worker.leave() == 0


def test_a_failed_model_is_changed_or_removed(workspace: Workspace, worker: WorkerProcess) -> None:
    named = {**model(workspace, "a"), **model(workspace, "b")}
    wrong = workspace.stream("wrong")
    with workspace.client as client:
        client.set(wrong, "no stream")
        # Given two models that fail
        failed = {name: kmeans(wrong, **EAGER) for name in "xy"}
        workspace.write({**named, **failed})
        assert reload(workspace)[0] == 0
        worker.wait(lambda: {line["model"] for line in worker.events("model_failed")} == {"x", "y"})
        # When one gets another stream, and the other one goes
        workspace.write({**named, "x": kmeans(workspace.stream("c"), **EAGER)})
        assert reload(workspace)[0] == 0
        # Then one learns, and none is failed at the end
        worker.wait(lambda: workspace.committed("x") == 120)
        worker.wait(lambda: [r.failed for r in read_workers(client, workspace.namespace)] == [0])
    assert worker.leave() == 0


def test_the_command_says_that_no_worker_answers(workspace: Workspace) -> None:
    workspace.write(model(workspace, "a"))
    config = str(workspace.folder / "config.yaml")
    done = CliRunner().invoke(cli, ["reload", "--timeout", "0.1", "--config", config])
    assert done.exit_code == 1
    assert (
        f"no worker or encoder of namespace '{workspace.namespace}' answered within 0.1 s"
        in done.stderr
    )


def test_missing_values_are_learned_after_a_reload(workspace: Workspace) -> None:
    # Given a model that refuses points with missing values, in the middle of its feed
    def settings(missing: str) -> dict[str, Any]:
        points = {"format": "fields", "features": ["x0", "x1"], "missing": missing}
        return model(workspace, "a", points=points)

    stream = workspace.stream("a")
    workspace.write(settings("reject"))
    with workspace.client as client, WorkerProcess(workspace) as worker:
        add_points(client, stream, blobs(120))
        client.xadd(stream, {"x0": "10"})
        worker.wait(lambda: len(workspace.dead("a")) == 1)
        # When the setting changes while points arrive
        workspace.write(settings("learn"))
        add_points(client, stream, blobs(900, seed=1))
        code, [answer] = reload(workspace)
        add_points(client, stream, blobs(900, seed=2))
        client.xadd(stream, {"x0": "10"})
        # Then all points are learned, the later ones with a missing value too
        assert (code, answer["changed"], answer["kept"]) == (0, 1, 0)
        worker.wait(lambda: workspace.committed("a") == 1_921)
        assert len(workspace.dead("a")) == 1
        # and it can't be changed back, since the state holds such a point
        workspace.write(settings("reject"))
        code, [answer] = reload(workspace)
        assert (code, answer["changed"], answer["kept"]) == (1, 0, 1)
        assert "missing" in answer["refused"]["a"]
        client.xadd(stream, {"x1": "10"})
        worker.wait(lambda: workspace.committed("a") == 1_922)
        # The refused point is still there for a requeue
        [letter] = workspace.dead("a")
        assert b"missing" in letter[b"reason"]
    assert not worker.events("gap_detected")


def test_a_model_that_has_seen_no_missing_value_can_reject_them_again(
    workspace: Workspace,
) -> None:
    def settings(missing: str) -> dict[str, Any]:
        points = {"format": "fields", "features": ["x0", "x1"], "missing": missing}
        return model(workspace, "a", points=points)

    workspace.write(settings("learn"))
    with workspace.client as client, WorkerProcess(workspace) as worker:
        add_points(client, workspace.stream("a"), blobs(120))
        worker.wait(lambda: workspace.committed("a") == 120)
        workspace.write(settings("reject"))
        code, [answer] = reload(workspace)
        assert (code, answer["changed"]) == (0, 1)
        client.xadd(workspace.stream("a"), {"x0": "10"})
        worker.wait(lambda: len(workspace.dead("a")) == 1)
        assert workspace.committed("a") == 120
