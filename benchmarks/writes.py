"""Bytes that a worker writes to the server's append-only file.

Each row starts a server with an append-only file and a worker, lets the worker learn a backlog, and
then feeds one point per second, or the same backlog again at full speed. The entries of the feed
itself are not counted.

    python benchmarks/writes.py --seconds 30
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.servers import own_server
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace

PATIENCE = 600.0

ROWS = [
    ("K-means K 64 D 16", {"kind": "kmeans", "n_clusters": 64}, 16),
    ("K-means K 1,024 D 128", {"kind": "kmeans", "n_clusters": 1024}, 128),
    ("full mixture K 64 D 128", {"kind": "gaussian_mixture", "n_components": 64}, 128),
]


def blocks(D: int, n: int, seed: int) -> list[dict[str, Any]]:
    """Entries of blobs, 1,000 points each."""
    rng = np.random.default_rng(seed)
    places = 10.0 * rng.normal(size=(50, D))
    return [
        {
            "f4": (places[rng.integers(0, 50, 1000)] + rng.normal(size=(1000, D)))
            .astype("<f4")
            .tobytes(),
            "d": D,
        }
        for _ in range(n // 1000)
    ]


def written(workspace: Workspace) -> int:
    """Bytes that were ever appended to the file since its start."""
    with workspace.client as client:
        return int(client.info("persistence")["aof_current_size"])


def add(workspace: Workspace, entries: list[dict[str, Any]]) -> None:
    with workspace.client as client:
        for entry in entries:
            client.xadd("points", entry)


def measure(folder: Path, model: dict[str, Any], D: int, backlog: int, seconds: float) -> list[str]:
    """Return the bytes per second at one point per second, and per point at full speed."""
    entries = blocks(D, backlog, 0)
    with own_server(folder, "", "no", "--auto-aof-rewrite-percentage", "0") as server:
        workspace = Workspace(folder, server.url, "writes")
        workspace.write({"m": {"streams": ["points"], **model}}, worker={})
        add(workspace, entries)
        with WorkerProcess(workspace):
            wait_until(lambda: workspace.committed("m") >= backlog, PATIENCE)
            time.sleep(3.0)  # the last version is published, and its fit of the coreset adopted
            before, size = written(workspace), 0
            began = time.monotonic()
            rows = np.frombuffer(entries[0]["f4"], "<f4").reshape(-1, D)
            with workspace.client as client:
                while time.monotonic() - began < seconds:
                    entry = {"f4": rows[size % 1000].tobytes(), "d": D}
                    client.xadd("points", entry)
                    size += 1
                    time.sleep(max(0.0, began + size - time.monotonic()))
            took = time.monotonic() - began
            slow = (written(workspace) - before - size * (len(entry["f4"]) + 70)) / took
            before = written(workspace)
            add(workspace, entries)
            wait_until(lambda: workspace.committed("m") >= 2 * backlog + size, PATIENCE)
            fast = (written(workspace) - before) / backlog - (4 * D)
        state, coreset = (
            len(workspace.client.get(key) or b"")  # type: ignore[arg-type]
            for key in (workspace.keys("m").state, workspace.keys("m").coreset)
        )
    return [f"{slow / 1000:.1f} kB/s", f"{fast:,.0f} B", f"{state:,}", f"{coreset:,}"]


@click.command()
@click.option("--seconds", default=30.0, show_default=True, help="Of the slow feed, per row.")
@click.option("--backlog", default=100_000, show_default=True, help="Points.")
def main(seconds: float, backlog: int) -> None:
    """Measure each row."""
    click.echo("| model | at 1 point/s | per point at full speed | :state | :coreset |")
    click.echo("|---|---|---|---|---|")
    for name, model, D in ROWS:
        with TemporaryDirectory() as folder:
            cells = measure(Path(folder), model, D, backlog, seconds)
        click.echo(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
