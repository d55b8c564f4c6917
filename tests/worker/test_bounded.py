"""Memory: what a feed may make a worker hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamclust.formats.layout import Layout
from streamclust.formats.points import encode
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace

MIB = 1 << 20
D = 8
"""Few features: the time goes with the points, and their bytes are what counts here."""

LAYOUT = Layout("float64", "f8", None, (), D, strict=False)


def test_entries_that_are_large_or_too_large_cost_no_more_than_is_stated(
    workspace: Workspace,
) -> None:
    # Given a model that takes entries of up to 4 MiB
    stream = workspace.stream()
    batch = {"max_entry_bytes": 4 * MIB, "linger": "50ms"}
    workspace.write({"m": kmeans(stream, batch=batch)})
    with WorkerProcess(workspace) as worker, workspace.client as client:
        add_blocks(client, stream, blobs(3000, D=D))
        worker.wait(lambda: workspace.committed("m") == 3000)
        before = worker.peak_mib()
        # When one of 100 MB comes, and among small ones 40 of 3.5 MiB
        command: Any = client.execute_command
        command("XADD", stream, "*", "f8", bytes(100_000_000), "d", D)
        points = 7 * MIB // (16 * D)
        [large] = encode(np.ones((points, D)), LAYOUT, block=points)
        for _ in range(40):
            command("XADD", stream, "*", *large)
        add_blocks(client, stream, blobs(3000, seed=1, D=D))
        worker.wait(lambda: workspace.committed("m") == 6000 + 40 * points)
        # Then its memory has grown by no more than 32 MiB and 16 times the largest entry
        grown = worker.peak_mib() - before
        assert grown < 32 + 16 * 4, f"by {grown} MiB"
        assert worker.leave() == 0
    # and the largest is a dead letter
    [letter] = workspace.dead("m")
    assert letter[b"reason"].startswith(b"100000")
    assert letter[b"data"] == b""
