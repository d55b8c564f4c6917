"""Batches that an engine computes in parts: the state of a worker that computes them itself."""

from __future__ import annotations

from tests.support.costly_worker import PARTS, add_feed, learn, of_engine
from tests.support.workspace import Workspace


def test_threads_and_kills_change_no_byte_of_a_model_of_two_streams(workspace: Workspace) -> None:
    streams = add_feed(workspace)
    calm, threads = (
        of_engine(workspace, streams, kind="inline"),
        of_engine(workspace, streams, kind="threads", workers=2),
    )
    learn(calm)
    log = learn(threads, ["computing:3", "committing:2"])
    assert threads.state("m") == calm.state("m")
    assert f"threads computed {PARTS * 3} parts" in log
