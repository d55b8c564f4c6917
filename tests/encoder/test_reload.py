"""An encoder that reads its settings again: models come, go and change, each refused alone."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from streamclust.formats.codes import decode_fields
from streamclust.formats.model import encode_model
from streamclust.store.model.commit import Commit, commit
from tests.support.commands import shown
from tests.support.commits import take
from tests.support.encoder_fixture import model_of
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace

NAMES = ("a", "b", "c")


class Encoder(WorkerProcess):
    """A `streamclust encode` in the background."""

    command = "encode"


def models(workspace: Workspace, *names: str, **changed: dict[str, Any]) -> dict[str, Any]:
    """The settings of these models; `changed` has other settings of some."""
    return {
        name: kmeans(workspace.stream(name), **{"batch": {"size": 30}, **changed.get(name, {})})
        for name in names
    }


def tops(workspace: Workspace, name: str) -> list[int]:
    """The number of components that each entry of codes has."""
    with workspace.client as client:
        entries: Any = client.xrange(workspace.keys(name).codes())
    found = [decode_fields(entry_id.decode(), fields, "codes") for entry_id, fields in entries]
    return [1 if each.top is None else each.top.shape[1] for each in found]


def coded(workspace: Workspace, name: str) -> int:
    """The number of entries that have codes."""
    with workspace.client as client:
        return int(client.xlen(workspace.keys(name).codes()))


def publish(workspace: Workspace, *names: str) -> None:
    """Publish a version of each model, and add 90 points to its stream."""
    model = model_of(1, features=("x0", "x1"))
    with workspace.client as client:
        for name in names:
            keys = workspace.keys(name)
            commit(client, keys, Commit(take(client, keys), b"s", model, encode_model(model)))
            add_points(client, workspace.stream(name), blobs(90))


@pytest.fixture(params=["few", "many"])
def encoder(request: pytest.FixtureRequest, workspace: Workspace) -> Iterator[Encoder]:
    """An encoder of two models, in threads of their own or in shared ones."""
    publish(workspace, *NAMES)
    workspace.write(models(workspace, "a", "b"))
    names = {"few": NAMES[:2], "many": ("[abc]",)}[request.param]
    with Encoder(workspace, *names) as encoder:
        encoder.wait(lambda: coded(workspace, "a") == coded(workspace, "b") == 90)
        yield encoder


def reload(workspace: Workspace, *options: str) -> tuple[int, list[Any]]:
    done = shown(workspace, "reload", "--json", *options)
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


def test_models_change_and_others_keep_their_old_settings(
    workspace: Workspace, encoder: Encoder
) -> None:
    # Given settings that fit the versions of one model, and contradict those of the other
    wrong = {"points": {"features": ["x", "y"], "format": "fields"}}
    workspace.write(models(workspace, "a", "b", a={"encode": {"top": 2}}, b=wrong))
    # When the encoder is asked over the server
    code, [answer] = reload(workspace)
    # Then it says what has changed, and what has not
    assert code == 1
    assert answer["encoder"].startswith(f"process {encoder.process.pid} on ")
    assert (answer["added"], answer["removed"], answer["changed"]) == (0, 0, 1)
    assert list(answer["refused"]) == ["b"]
    line = encoder.wait_for("reload_refused")
    assert (line["model"], "it keeps its old settings" in line["error"]) == ("b", True)
    # and each entry has its codes once, by the settings of its time
    with workspace.client as client:
        for name in ("a", "b"):
            add_points(client, workspace.stream(name), blobs(30, seed=1))
    encoder.wait(lambda: coded(workspace, "a") == coded(workspace, "b") == 120)
    assert tops(workspace, "a") == [1] * 90 + [2] * 30
    assert tops(workspace, "b") == [1] * 120
    # When the settings are correct again and the encoder gets SIGHUP
    workspace.write(models(workspace, "a", "b", b={"encode": {"top": 3}}))
    encoder.send(signal.SIGHUP)
    encoder.wait_for("settings_reloaded", 2)
    with workspace.client as client:
        for name in ("a", "b"):
            add_points(client, workspace.stream(name), blobs(30, seed=2))
    encoder.wait(lambda: coded(workspace, "a") == coded(workspace, "b") == 150)
    assert tops(workspace, "a") == [1] * 90 + [2] * 30 + [1] * 30
    assert tops(workspace, "b") == [1] * 120 + [3] * 30
    assert encoder.leave() == 0
    assert "Traceback" not in encoder.log
    # The counts at the end are those of the whole life of the process
    assert [line for line in encoder.log.splitlines() if "150 points in 150 entries" in line]


def test_models_go_and_come_back(workspace: Workspace, encoder: Encoder) -> None:
    workspace.write(models(workspace, "a"))
    code, [answer] = reload(workspace)
    assert (code, answer["removed"], answer["changed"]) == (0, 1, 0)
    with workspace.client as client:
        for name in ("a", "b"):
            add_points(client, workspace.stream(name), blobs(30, seed=1))
        encoder.wait(lambda: coded(workspace, "a") == 120)
        # Its group is left without a member, and its entries without codes
        encoder.wait(
            lambda: not client.xinfo_consumers(workspace.stream("b"), workspace.keys("b").encoders)
        )
        assert coded(workspace, "b") == 90
        workspace.write(models(workspace, "a", "b"))
        assert reload(workspace)[0] == 0
        encoder.wait(lambda: coded(workspace, "b") == 120)
    assert encoder.leave() == 0


def test_a_broken_file_changes_nothing(workspace: Workspace, encoder: Encoder) -> None:
    file = workspace.folder / "config.yaml"
    whole = file.read_text()
    for number, broken in enumerate(("models: [", whole.replace("kmeans", "k-median")), 1):
        file.write_text(broken)
        encoder.send(signal.SIGHUP)
        encoder.wait_for("reload_failed", number)
    with workspace.client as client:
        add_points(client, workspace.stream("a"), blobs(30, seed=1))
    encoder.wait(lambda: coded(workspace, "a") == 120)
    assert not encoder.events("settings_reloaded")
    assert encoder.leave() == 0


def test_an_encoder_is_not_left_without_models(workspace: Workspace) -> None:
    publish(workspace, "a")
    workspace.write(models(workspace, "a"))
    with Encoder(workspace, "a") as encoder:
        encoder.wait(lambda: coded(workspace, "a") == 90)
        workspace.write(models(workspace, "b"))
        encoder.send(signal.SIGHUP)
        error = encoder.wait_for("reload_failed")["error"]
        assert error.startswith("model 'a' isn't configured any more")
        with workspace.client as client:
            add_points(client, workspace.stream("a"), blobs(30, seed=1))
        encoder.wait(lambda: coded(workspace, "a") == 120)
