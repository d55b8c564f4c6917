"""A worker of the model `m` that is killed at an instant: python -m tests.support.killed_worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from streamclust import failpoints
from tests.support.waiting import LIMIT
from tests.support.workers import drain
from tests.support.workspace import Workspace

ROOT = Path(__file__).parents[2]


def die_at(workspace: Workspace, instant: failpoints.Instant) -> None:
    """Run a worker that gets a kill -9 when it first comes by `instant`; return when it is dead."""
    arguments = [str(workspace.folder), workspace.url, workspace.namespace, instant]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_worker", *arguments],
        cwd=ROOT,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def main() -> None:
    """Be the victim."""
    folder, url, namespace, instant = sys.argv[1:]

    def watcher(here: failpoints.Instant) -> None:
        if here == instant:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.watch(watcher)
    drain(Workspace(Path(folder), url, namespace))


if __name__ == "__main__":
    main()
