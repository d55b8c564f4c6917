"""What the models of a worker share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamclust.online.batch_parts import EachPart
    from streamclust.runtime.backoff import Faults
    from streamclust.runtime.connections import Connections
    from streamclust.runtime.pool import Pool
    from streamclust.worker.heartbeat import Heartbeats
    from streamclust.worker.reading import ReaderThreads
    from streamclust.worker.solver import Solves
    from streamclust.worker.standbys import Standbys


@dataclass(frozen=True)
class Shared:
    """What the models of a worker share.

    Parameters
    ----------
    connections : Connections
    heartbeats : Heartbeats
    pool : Pool
    readers : ReaderThreads
    solves : Solves
    standbys : Standbys
    faults : Faults
    each_part : callable
        Computes the parts of costly batches; see `StreamLearner`.
    """

    connections: Connections
    heartbeats: Heartbeats
    pool: Pool
    readers: ReaderThreads
    solves: Solves
    standbys: Standbys
    faults: Faults
    each_part: EachPart
