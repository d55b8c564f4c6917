"""Commands and the models of templates: each finds them by their names, or shows them all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamclust.cli.main import cli
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    """The models c-a and c-b of a template, which have learned 90 points each."""
    workspace = Workspace(tmp_path, valkey_url, namespace)
    points = {"format": "fields", "features": ["x0", "x1"]}
    template = kmeans(workspace.stream("{tenant}"), points=points, overrides={"b": {"seed": 5}})
    workspace.write({"c-{tenant}": template})
    with workspace.client as client:
        for tenant in "ab":
            add_points(client, workspace.stream(tenant), blobs(90))
    done = invoke(workspace, "worker", "--until-idle")
    assert done.exit_code == 0, done.output
    return workspace


def invoke(workspace: Workspace, *arguments: str) -> Result:
    config = ("--config", str(workspace.folder / "config.yaml"))
    return CliRunner().invoke(cli, [*arguments, *config])


def test_status_and_metrics_have_all_models(workspace: Workspace) -> None:
    # also one that no worker has learned yet
    with workspace.client as client:
        add_points(client, workspace.stream("c"), blobs(3))
    rows = {row["model"]: row for row in json.loads(invoke(workspace, "status", "--json").stdout)}
    assert sorted(rows) == ["c-a", "c-b", "c-c"]
    assert [rows[name]["points_seen"] for name in ("c-a", "c-b")] == [90, 90]
    assert rows["c-c"]["lag"] == 3
    text = invoke(workspace, "metrics").stdout
    assert 'streamclust_group_points_total{group="c-{tenant}"} 180.0' in text


def test_a_model_is_found_by_its_name(workspace: Workspace) -> None:
    assert "90" in invoke(workspace, "status", "c-b").stdout
    done = invoke(workspace, "score", "c-b")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "as model 'c-a' reads it" in invoke(workspace, "peek", workspace.stream("a")).stdout
    assert invoke(workspace, "dead", "c-a").exit_code == 0
    assert invoke(workspace, "models", "list", "c-a").exit_code == 0
    renamed = invoke(workspace, "models", "rename", "c-a", "old", "--yes")
    assert "the template c-{tenant} starts c-a from nothing" in renamed.stderr


@pytest.mark.parametrize("name", ["c-a", "c-*", "c-{tenant}"])
def test_encode_encodes_them(workspace: Workspace, name: str) -> None:
    done = invoke(workspace, "encode", name, "--until-idle")
    assert done.exit_code == 0, done.output
    with workspace.client as client:
        coded = [client.xlen(workspace.keys(f"c-{tenant}").codes()) for tenant in "ab"]
    assert coded == ([90, 0] if name == "c-a" else [90, 90])


def test_a_command_for_one_model_refuses_a_template(workspace: Workspace) -> None:
    done = invoke(workspace, "refit", "c-{tenant}")
    assert done.exit_code == 2
    assert "'c-{tenant}' is a template; name one of its models" in done.stderr


@pytest.mark.parametrize("name", ["c-*", "c-{tenant}"])
def test_a_command_for_one_model_says_that_a_name_stands_for_several(
    workspace: Workspace, name: str
) -> None:
    for command in (["models", "delete", name, "--yes"], ["models", "show", name], ["dead", name]):
        done = invoke(workspace, *command)
        assert done.exit_code == 1
        assert (
            f"{name!r} stands for several models; this command takes the name of one" in done.stderr
        )
    done = invoke(workspace, "score", "c-*")
    assert (done.exit_code, "`streamclust status 'c-*'` lists those" in done.stderr) == (2, True)


def test_checks_name_the_models_that_match(workspace: Workspace) -> None:
    done = invoke(workspace, "config", "check")
    assert f"c-{{tenant}}: kmeans, K 3, streams {workspace.stream('{tenant}')}" in done.stdout
    done = invoke(workspace, "config", "check", "--connect")
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "ok template c-{tenant}: 2 models have streams that match" in text
    assert "model c-b: " in text
    override = ("--set", 'models.c-{tenant}.overrides={"a": {"seed": 1}, "acme": {"seed": 2}}')
    warned = " ".join(invoke(workspace, "config", "check", "--connect", *override).stdout.split())
    assert "warn template c-{tenant}: 2 models" in warned
    assert "; no stream has the overrides of acme" in warned
    done = invoke(workspace, "worker", "--check")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == ["c-a: no live worker", "c-b: no live worker"]


def test_a_template_without_a_stream_is_a_warning(workspace: Workspace) -> None:
    workspace.write({"d-{tenant}": kmeans(workspace.stream("d:{tenant}"))})
    done = invoke(workspace, "config", "check", "--connect")
    assert done.exit_code == 0
    assert "template d-{tenant}: no stream matches" in " ".join(done.stdout.split())
    done = invoke(workspace, "worker", "--check")
    assert (done.exit_code, done.stderr) == (1, "no live worker\n")
    with WorkerProcess(workspace) as worker:
        worker.wait(lambda: invoke(workspace, "worker", "--check").exit_code == 0)
        done = invoke(workspace, "worker", "--check")
        assert done.stdout == "alive; no stream matches a template yet\n"
