"""Send the feeds, and follow every version until the worker has learned all points."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamclust.demo.feeding import Feeding
from streamclust.demo.plan import PALETTE, SHUTTLE
from streamclust.demo.recorder import Recorder
from streamclust.errors import StreamclustError

if TYPE_CHECKING:
    from streamclust.demo.feeds import Feeds
    from streamclust.demo.interrupts import Interrupts
    from streamclust.demo.sandbox import Sandbox, WorkerEnd
    from streamclust.demo.view import View
    from streamclust.formats.model import Model

_FRAME = 0.125
"""Seconds between two updates of the view."""

_GLANCE = 0.02


@dataclass(frozen=True, eq=False)
class Learned:
    """The models that the worker learned from the feeds.

    Parameters
    ----------
    palette, shuttle : Recorder
    ends : dict of str to Model
        For each feed: the version that had learned exactly all of its points.
    seconds : float
        From the first point sent to the publication of the last one.
    worker : WorkerEnd
    """

    palette: Recorder
    shuttle: Recorder
    ends: dict[str, Model]
    seconds: float
    worker: WorkerEnd


def learn(sandbox: Sandbox, feeds: Feeds, view: View, interrupts: Interrupts) -> Learned:
    """Send all feeds, show the progress until all points are learned, and stop the worker.

    Raises
    ------
    StreamclustError
        If the worker ends too early, or with an exit code other than 0.
    """
    while not {PALETTE, SHUTTLE} <= set(sandbox.client.names()):  # until it has started all models
        sandbox.worker.check()
        time.sleep(_GLANCE)
    view.say("Sending pixels and sensor readings; the worker learns and publishes")
    feeding = Feeding(sandbox, feeds)
    with view.live() as show, feeding.running(interrupts):
        while not feeding.finished():
            sandbox.worker.check()
            show(feeding)
            feeding.wait(_FRAME)
        show(feeding)
    seconds = feeding.seconds
    view.say("All points are learned; stopping the worker (SIGTERM)")
    end = sandbox.worker.stop()
    if end.exit_code != 0:
        raise StreamclustError(f"the worker ended with exit code {end.exit_code} after SIGTERM")
    return Learned(feeding.palette, feeding.shuttle, feeding.ends, seconds, end)
