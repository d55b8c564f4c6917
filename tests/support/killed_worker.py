"""A worker of the model `m` that is killed at an instant."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from streamclust import failpoints
from tests.support.forked import Forked
from tests.support.waiting import LIMIT
from tests.support.workers import drain
from tests.support.workspace import Workspace, environment


def _die(words: list[str]) -> None:
    """Be the victim."""
    folder, url, namespace, instant = words

    def watcher(here: failpoints.Instant) -> None:
        if here == instant:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.watch(watcher)
    drain(Workspace(Path(folder), url, namespace))


class _Victim(Forked):
    work = staticmethod(_die)


def die_at(workspace: Workspace, instant: failpoints.Instant) -> None:
    """Run a worker that gets a kill -9 when it first comes by `instant`; return when it is dead."""
    folder = workspace.folder
    words = [str(folder), workspace.url, workspace.namespace, instant]
    victim = _Victim(words, folder, environment(), folder / "victim.log", folder / "victim.log")
    try:
        assert victim.wait(LIMIT) == -signal.SIGKILL
    finally:
        victim.kill()
