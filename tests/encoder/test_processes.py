"""Encoders as a user starts them, killed and stopped while they work."""

from __future__ import annotations

import gc
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streamclust.cli.main import cli
from streamclust.encoder import daemon
from streamclust.formats.model import encode_model
from streamclust.store.model.commit import Commit, commit
from streamclust.system_limits import cores_of_process
from tests.chaos.encoders import story
from tests.support.commits import take
from tests.support.encoder_fixture import model_of
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace

POINTS = 4000


class Encoder(WorkerProcess):
    """A `streamclust encode` in the background."""

    command = "encode"


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    """A model without a version yet, and encoders that take 20 entries at a time."""
    workspace = Workspace(tmp_path, valkey_url, namespace)
    more: dict[str, Any] = {"batch": {"size": 20}, "encode": {"takeover": "500ms"}}
    return workspace.write({"m": kmeans(workspace.stream(), **more)})


def feed(workspace: Workspace, points: int) -> None:
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(points))


def publish(workspace: Workspace) -> None:
    with workspace.client as client:
        what = Commit(
            take(client, workspace.keys("m")), b"s", model_of(1), encode_model(model_of(1))
        )
        commit(client, workspace.keys("m"), what)


def ids(workspace: Workspace, key: str) -> list[bytes]:
    with workspace.client as client:
        return [entry_id for entry_id, _ in client.xrange(key)]


def coded(workspace: Workspace) -> int:
    with workspace.client as client:
        return int(client.xlen(workspace.keys("m").codes()))


def test_killed_and_stopped_encoders_lose_and_repeat_nothing(workspace: Workspace) -> None:
    # Given three encoders that share a feed
    feed(workspace, POINTS)
    with (
        Encoder(workspace, "m") as killed,
        Encoder(workspace, "m") as stopped,
        Encoder(workspace, "m") as stays,
    ):
        for encoder in (killed, stopped, stays):
            encoder.wait_for("model_awaited")
        publish(workspace)
        # When one is killed and one stopped in the middle of it
        killed.wait(lambda: coded(workspace) > POINTS // 6)
        killed.kill()
        stopped.send(signal.SIGSTOP)
        # Then the third ends the work alone
        stays.wait(lambda: coded(workspace) == POINTS)
        codes = ids(workspace, workspace.keys("m").codes())
        assert codes == ids(workspace, workspace.stream())
        # and the stopped one, once it wakes, does nothing twice, and leaves in order
        stopped.send(signal.SIGCONT)
        assert stopped.leave() == 0
        assert stays.leave(signal.SIGINT) == 0
    assert ids(workspace, workspace.keys("m").codes()) == codes
    with workspace.client as client:
        wait_until(
            lambda: (
                client.xpending(workspace.stream(), workspace.keys("m").encoders)["pending"] == 0
            )
        )


def test_until_idle_tells_what_was_done(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(workspace)
    feed(workspace, 500)
    monkeypatch.chdir(workspace.folder)
    quiet = ["--until-idle", "--set", "log.level=error"]
    done = CliRunner().invoke(cli, ["encode", "m", "--json", *quiet])
    assert done.exit_code == 0, done.output
    [stream] = json.loads(done.stdout)["streams"]
    assert (stream["entries"], stream["points"], stream["version"]) == (500, 500, 1)
    again = CliRunner().invoke(cli, ["encode", "m", *quiet])
    assert again.stdout == f"{workspace.stream()}: 0 points in 0 entries encoded\n"
    unknown = CliRunner().invoke(cli, ["encode", "n"])
    assert unknown.exit_code == 2
    assert unknown.stderr == "error: model 'n' isn't configured; configured models: m\n"


def test_objects_that_a_program_has_frozen_stay_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: 0)  # which would search all objects of all tests
    try:
        for prepare, is_frozen in ((gc.freeze, True), (gc.unfreeze, False)):
            prepare()
            with daemon._short_pauses():
                assert gc.get_freeze_count() > 0
            assert (gc.get_freeze_count() > 0) == is_frozen
    finally:
        gc.freeze()


def test_encoders_of_many_models_are_killed_and_each_entry_has_its_code_once(
    tmp_path: Path, valkey_url: str
) -> None:
    chaos, wrong = story(tmp_path, valkey_url, 0.5, count=3, seed=1, models=8)
    assert wrong == []
    assert chaos.fed > 0


def test_models_of_a_template_are_encoded_as_their_streams_come(workspace: Workspace) -> None:
    template = {**kmeans(workspace.stream("of-{tenant}")), "discover": "100ms"}
    workspace.write({"clicks-{tenant}": template})
    with workspace.client as client, Encoder(workspace, "clicks-*") as encoder:
        encoder.wait_for("streams_awaited")
        for tenant in ("a", "b"):
            keys = workspace.keys(f"clicks-{tenant}")
            what = Commit(take(client, keys), b"s", model_of(1), encode_model(model_of(1)))
            commit(client, keys, what)
            add_points(client, workspace.stream(f"of-{tenant}"), blobs(10))
            encoder.wait(lambda: client.xlen(keys.codes()) == 10)  # noqa: B023
        assert encoder.leave() == 0
    # and a name of the template, or of one of its models, selects too
    with workspace.client as client:
        add_points(client, workspace.stream("of-a"), blobs(10))
        add_points(client, workspace.stream("of-b"), blobs(10))
    for name, points in (("clicks-a", 10), ("clicks-{tenant}", 10)):
        done = CliRunner().invoke(
            cli,
            ["encode", name, "-c", str(workspace.folder / "config.yaml"), "--until-idle", "--json"],
        )
        assert done.exit_code == 0, done.output
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert sum(each["points"] for row in rows for each in row["streams"]) == points


def test_one_process_encodes_100_models_with_few_threads_and_connections(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    # Given models with a version each, and as many streams
    workspace, names = Workspace(tmp_path, valkey_url, namespace), [f"m-{n}" for n in range(100)]
    workspace.write({name: kmeans(workspace.stream(name)) for name in names})
    with workspace.client as client:
        pipe: Any = client.pipeline(transaction=False)
        for name in names:
            payload = encode_model(model_of(1))
            pipe.xadd(workspace.keys(name).models, {"payload": payload}, id="1-0")
            for x, y in blobs(10).tolist():
                pipe.xadd(workspace.stream(name), {"x0": x, "x1": y})
        pipe.execute()

        def coded(name: str) -> int:
            return int(client.xlen(workspace.keys(name).codes()))

        with Encoder(workspace, "m-*") as encoder:
            encoder.wait(lambda: all(coded(name) == 10 for name in names))
            # Then neither threads nor connections are one per model
            proc = Path("/proc", str(encoder.process.pid))
            [threads] = re.findall(r"^Threads:\s*(\d+)", (proc / "status").read_text(), re.M)
            assert int(threads) <= 2 * cores_of_process() + 8
            files = [file.readlink().name for file in (proc / "fd").iterdir()]
            assert sum("socket:" in name for name in files) <= 2 * cores_of_process() + 12
            # and an entry of any of them gets its code
            for name in names[::40]:
                client.xadd(workspace.stream(name), {"x0": 1, "x1": 1})
                encoder.wait(lambda: coded(name) == 11)  # noqa: B023
            assert encoder.leave() == 0
    assert [ids(workspace, workspace.keys(name).codes()) for name in names[::20]] == [
        ids(workspace, workspace.stream(name)) for name in names[::20]
    ]
