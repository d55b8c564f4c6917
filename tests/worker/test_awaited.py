"""What a worker waits for is logged once, again after ten minutes, and when the wait ends."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from streamclust.config import load_settings
from streamclust.errors import UnknownStreamError
from streamclust.runtime.job import Job
from streamclust.store.model.lease import Lease
from streamclust.store.server.connect import Address, open_server
from streamclust.worker.awaited import Awaited, refuse_missing
from streamclust.worker.context import ModelContext
from streamclust.worker.model_worker import open_model_worker
from tests.support.clock import Clock
from tests.support.model_settings import kmeans
from tests.support.points import add_entry, add_points, blobs
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, server_url: str, namespace: str) -> Workspace:
    return Workspace(tmp_path, server_url, namespace)


def test_a_missing_stream_is_reported_with_reminders(workspace: Workspace) -> None:
    one, two = workspace.stream("one"), workspace.stream("two")
    workspace.write({"m": kmeans(one, two)})
    settings = load_settings(workspace.folder / "config.yaml", (), {})
    capture, clock = LogCapture(), Clock()
    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[capture])

    def events() -> list[tuple[str, str]]:
        found = [(each["event"], each.get("stream", "")) for each in capture.entries]
        capture.entries.clear()
        return found

    with open_server(Address(workspace.url)) as server, workspace.client as client:
        lease = Lease(client, workspace.keys("m"), 60.0)
        assert lease.take()
        job = Job("m", settings, server, threading.Event(), False, log)
        context = ModelContext("m", job.model, client, job.keys, log)
        worker = open_model_worker(context, lease.token)
        capture.entries.clear()
        awaited = Awaited(job, client, clock)

        def after(seconds: float) -> list[tuple[str, str]]:
            clock.now += seconds
            awaited.look(worker)
            return events()

        assert after(0.0) == [("stream_awaited", one), ("stream_awaited", two)]
        assert after(0.5) == after(5.0) == []
        add_entry(client, two, x="1", y="1")
        assert after(1.0) == [("stream_appeared", two)]
        assert after(600.0) == [("stream_awaited", one)]
        add_points(client, one, blobs(1))
        assert after(1.0) == [("stream_appeared", one)]
        assert after(1e6) == []


def test_streams_of_a_worker_that_does_not_wait(workspace: Workspace) -> None:
    one, two = workspace.stream("one"), workspace.stream("two")
    workspace.write({"m": kmeans(one, two)})
    settings = load_settings(workspace.folder / "config.yaml", (), {})
    log: Any = structlog.wrap_logger(structlog.ReturnLogger())
    with open_server(Address(workspace.url)) as server, workspace.client as client:
        job = Job("m", settings, server, threading.Event(), True, log)
        with pytest.raises(
            UnknownStreamError, match=rf"'{one}' doesn't .*; stream '{two}' doesn't"
        ):
            refuse_missing(job, client, every=False)
        add_entry(client, one, x="1")
        refuse_missing(job, client, every=False)
        with pytest.raises(UnknownStreamError, match=f"'{two}' doesn't exist"):
            refuse_missing(job, client)
        add_entry(client, two, x="1")
        client.xtrim(two, 0)  # a stream whose entries were trimmed exists
        refuse_missing(job, client)
