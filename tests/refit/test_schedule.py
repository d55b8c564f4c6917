"""Refits by the clock, beside the stream."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from structlog.testing import LogCapture

from streamclust.config import load_settings
from streamclust.errors import ConfigError
from streamclust.refit.schedule import keep_refitting
from tests.support.points import add_blocks, blobs
from tests.support.refit_helpers import poor_workspace, reasons
from tests.support.workers import WorkerProcess, drain, open_job
from tests.support.workspace import Workspace

OFTEN = {"every": "1s", "restarts": 2}


def test_a_worker_refits_while_it_learns(workspace: Workspace) -> None:
    # Given a model that online learning alone leaves in a poor place
    poor_workspace(workspace, blobs(600), refit=OFTEN)
    with WorkerProcess(workspace) as worker, workspace.client as client:
        # When its worker refits it by the clock Then it is taken over by itself
        done = worker.wait_for("refit_finished")
        assert done["points"] >= 600
        assert done["loss"] < done["live_loss"]
        worker.wait(lambda: "refit" in reasons(workspace))
        # and the feed goes on, and the next refit has what came
        add_blocks(client, workspace.stream(), blobs(300, seed=1))
        worker.wait(lambda: workspace.committed("m") == 900)
        assert worker.leave() == 0
        assert "Traceback" not in worker.log
    assert sorted(workspace.newest("m").means[:, 0].round().tolist()) == [-10, 0, 10]


def test_a_standby_leaves_it_to_the_worker(workspace: Workspace) -> None:
    # Given a model that is due, and no live worker of this process
    drain(poor_workspace(workspace, blobs(300), refit={"every": "1ms"}))
    logged = LogCapture()
    with open_job(workspace, logged=logged) as job:
        # When the clock ticks Then nothing is refitted, until the job stops
        ticking = threading.Thread(
            target=keep_refitting, args=(lambda: {"m": job}, job.stop, job.server)
        )
        ticking.start()
        ticking.join(0.5)
        assert ticking.is_alive()
        job.stop.set()
        ticking.join(10.0)
        assert not ticking.is_alive()
    assert logged.entries == []
    assert "refit" not in reasons(workspace)


@pytest.mark.parametrize(
    ("last", "text"), [("1h", "1h"), ("1e6", "1000000"), ("1000", "1000"), ("'1e6'", "1e6")]
)
def test_what_a_scheduled_refit_is_of(tmp_path: Path, last: str, text: str) -> None:
    path = tmp_path / "config.yaml"
    file = "models: {m: {kind: kmeans, n_clusters: 2, streams: s, refit: {every: 6h, last: %s}}}"
    path.write_text(file % last, encoding="utf-8")
    refit = load_settings(path, (), {}).models["m"].refit
    assert (refit.every, refit.last) == (6 * 3600.0, text)


@pytest.mark.parametrize("last", ["often", "-1", "[1]", "true"])
def test_what_it_can_not_be_of(tmp_path: Path, last: str) -> None:
    path = tmp_path / "config.yaml"
    text = "models: {m: {kind: kmeans, n_clusters: 2, streams: s, refit: {last: %s}}}"
    path.write_text(text % last, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"models\.m\.refit\.last: .*a duration .* or a number"):
        load_settings(path, (), {})
