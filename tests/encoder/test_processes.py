"""Encoders as a user starts them, killed and stopped while they work."""

from __future__ import annotations

import gc
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streamclust.cli.main import cli
from streamclust.formats.model import encode_model
from streamclust.store.model.commit import Commit, commit
from tests.encoder.desk import model_of
from tests.store.model.committing import take
from tests.waiting import wait_until
from tests.worker.harness import Site, Worker, add_points, blobs, kmeans

POINTS = 6000


class Encoder(Worker):
    """A `streamclust encode` in the background."""

    command = "encode"


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, namespace: str) -> Site:
    """A feed of 6,000 points, without a model yet, and encoders that take 20 entries at a time."""
    site = Site(tmp_path, valkey_url, namespace)
    more: dict[str, Any] = {"batch": {"size": 20}, "encode": {"takeover": "500ms"}}
    site.write({"m": kmeans(site.stream(), **more)})
    with site.client as client:
        add_points(client, site.stream(), blobs(POINTS))
    return site


def publish(site: Site) -> None:
    with site.client as client:
        what = Commit(take(client, site.keys("m")), b"s", model_of(1), encode_model(model_of(1)))
        commit(client, site.keys("m"), what)


def ids(site: Site, key: str) -> list[bytes]:
    with site.client as client:
        return [entry_id for entry_id, _ in client.xrange(key)]


def coded(site: Site) -> int:
    with site.client as client:
        return int(client.xlen(site.keys("m").codes()))


def test_killed_and_stopped_encoders_lose_and_repeat_nothing(site: Site) -> None:
    # Given three encoders that share a feed
    with Encoder(site, "m") as killed, Encoder(site, "m") as stopped, Encoder(site, "m") as stays:
        for encoder in (killed, stopped, stays):
            encoder.says("model_awaited")
        publish(site)
        # When one is killed and one stopped in the middle of it
        killed.wait(lambda: coded(site) > POINTS // 6)
        killed.kill()
        stopped.send(signal.SIGSTOP)
        # Then the third ends the work alone
        stays.wait(lambda: coded(site) == POINTS)
        codes = ids(site, site.keys("m").codes())
        assert codes == ids(site, site.stream())
        # and the stopped one, once it wakes, does nothing twice, and leaves in order
        stopped.send(signal.SIGCONT)
        assert stopped.leave() == 0
        assert stays.leave(signal.SIGINT) == 0
    assert ids(site, site.keys("m").codes()) == codes
    with site.client as client:
        wait_until(lambda: client.xpending(site.stream(), site.keys("m").encoders)["pending"] == 0)


def test_until_idle_tells_what_was_done(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(site)
    monkeypatch.chdir(site.folder)
    quiet = ["--until-idle", "--set", "log.level=error"]
    frozen = gc.get_freeze_count()
    done = CliRunner().invoke(cli, ["encode", "m", "--json", *quiet])
    assert gc.get_freeze_count() == frozen
    assert done.exit_code == 0, done.output
    [stream] = json.loads(done.stdout)["streams"]
    assert (stream["entries"], stream["points"], stream["version"]) == (POINTS, POINTS, 1)
    again = CliRunner().invoke(cli, ["encode", "m", *quiet])
    assert again.stdout == f"{site.stream()}: 0 points in 0 entries encoded\n"
    unknown = CliRunner().invoke(cli, ["encode", "n"])
    assert unknown.exit_code == 2
    assert unknown.stderr == "error: models.n: is not configured; models: m\n"
