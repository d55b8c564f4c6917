"""``streamclust workers`` and ``worker --check``: what live workers report of many models."""

from __future__ import annotations

import json
import time
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from streamclust.store.model.health import Health
from streamclust.store.model.workers import WorkerReport, beat, digest
from tests.support.commands import run_here
from tests.support.many_models import fill
from tests.support.model_settings import kmeans
from tests.support.servers import free_port
from tests.support.workspace import Workspace, run

NAMES = [f"clicks-{number:02}" for number in range(40)]


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    workspace = Workspace(tmp_path, valkey_url, namespace)
    return workspace.write({name: kmeans(workspace.stream(name)) for name in NAMES})


def report(workspace: Workspace, worker_id: str, **fields: Any) -> None:
    now = time.time()
    common = {"host": f"h{worker_id}", "pid": 7, "release": "1.2", "started": now, "time": now}
    shared = {"models": len(NAMES), "shares": digest(NAMES)}
    found = WorkerReport(id=worker_id, **{**common, **shared, **fields})
    with workspace.client as client:
        beat(client, workspace.namespace, worker_id, found, 60.0)


def test_live_workers_are_shown_with_their_models(workspace: Workspace) -> None:
    assert "no live worker" in run_here(workspace, "workers").stdout
    report(workspace, "a", held=30, awake=10, asleep=20, waiting=10)
    report(workspace, "b", held=10, awake=10, failed=1, troubles={"clicks-07": "no memory"})
    header, *lines = run(workspace.folder, "workers", COLUMNS="200").stdout.splitlines()
    assert header.split()[:4] == ["WORKER", "RELEASE", "STARTED", "MODELS"]
    assert [line.split()[0] for line in lines] == ["ha:7", "hb:7", "clicks-07:"]
    assert lines[2] == "clicks-07: no memory"
    rows = json.loads(run_here(workspace, "workers", "--json").stdout)
    assert [(row["host"], row["held"], row["asleep"]) for row in rows] == [
        ("ha", 30, 20),
        ("hb", 10, 0),
    ]


def test_the_check_of_many_models_asks_the_workers(workspace: Workspace) -> None:
    # Given two workers that share the models; no model has a report of its own
    report(workspace, "a", held=30)
    report(workspace, "b", held=10)
    done = run_here(workspace, "worker", "--check")
    assert (done.returncode, done.stdout) == (0, "ha:7: alive, 30 models\nhb:7: alive, 10 models\n")
    # When one of them has other settings Then the models are looked at one by one
    report(workspace, "b", held=10, shares="other")
    done = run_here(workspace, "worker", "--check")
    assert done.returncode == 1
    assert done.stdout == "0 of 40 models alive: none\n"
    assert "clicks-00: no live worker" in done.stderr
    assert "and 15 more; `streamclust status` has the counts" in done.stderr


def test_the_check_names_the_models_that_have_failed(workspace: Workspace) -> None:
    def health(name: str) -> Health:
        failed = Health(phase="failed", reason="no memory")
        return failed if name == "clicks-07" else Health(phase="learning")

    with workspace.client as client:
        fill(client, workspace.namespace, NAMES, health)
    report(workspace, "a", held=39, failed=1, troubles={"clicks-07": "no memory"})
    done = run_here(workspace, "worker", "--check")
    assert (done.returncode, done.stderr) == (1, "clicks-07: failed: no memory\n")
    assert done.stdout == "39 of 40 models alive: 39 learning\n"


def test_a_model_that_sleeps_is_alive_while_its_worker_is(workspace: Workspace) -> None:
    with workspace.client as client:
        asleep = Health(phase="learning", asleep=True, worker="a", points=7)
        fill(client, workspace.namespace, NAMES[:2], lambda _: asleep)

    def phases() -> set[str]:
        rows = json.loads(run_here(workspace, "status", "--json", *NAMES[:2]).stdout)
        return {row["phase"] for row in rows}

    assert phases() == {"stopped"}
    report(workspace, "a", held=40, asleep=2)
    assert phases() == {"learning"}


def test_alive_asks_for_a_worker_of_this_machine_whatever_its_models_do(
    workspace: Workspace,
) -> None:
    report(workspace, "a", held=40)  # on another machine
    done = run_here(workspace, "worker", "--alive")
    assert (done.returncode, done.stderr) == (1, f"no live worker on {gethostname()}\n")
    report(workspace, "b", host=gethostname(), held=3, failed=2, stalled=1)
    done = run_here(workspace, "worker", "--alive")
    assert (done.returncode, done.stdout) == (0, f"{gethostname()}:7: alive, 3 models\n")


def test_a_worker_whose_server_is_away_is_alive(workspace: Workspace) -> None:
    away = f"redis.url=redis://127.0.0.1:{free_port()}/0"
    done = run_here(workspace, "worker", "--alive", "--set", away)
    assert done.returncode == 0
    assert "a worker waits for the server" in done.stderr
