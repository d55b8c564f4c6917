"""The data that all parts of one model's session share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamclust.online.batch_parts import one_by_one
from streamclust.worker.lost_commits import LostCommits
from streamclust.worker.rejected_batches import RejectedBatches

if TYPE_CHECKING:
    import redis
    from structlog.typing import FilteringBoundLogger

    from streamclust.config.model import ModelSettings
    from streamclust.online.batch_parts import EachPart
    from streamclust.runtime.activity import Activity
    from streamclust.store.model.keys import Keys
    from streamclust.worker.solver import Solves


@dataclass(frozen=True)
class ModelContext:
    """One model of the settings, and what the session that learns it provides.

    Parameters
    ----------
    name : str
    settings : KMeansSettings or GaussianMixtureSettings
    client : redis.Redis
    keys : Keys
    log : structlog logger
    reader : redis.Redis, optional
        Reads the points that are encoded. Default: `client`.
    activity : Activity, optional
        Where progress is recorded.
    solves : Solves, optional
        The threads that solve; shared by the models of a worker.
    each_part : callable, optional
        Computes the parts of costly batches; see `StreamLearner`.
    lost_commits : LostCommits, optional
    rejected : RejectedBatches, optional
        Of the worker's earlier sessions.
    """

    name: str
    settings: ModelSettings
    client: redis.Redis
    keys: Keys
    log: FilteringBoundLogger
    reader: redis.Redis | None = None
    activity: Activity | None = None
    solves: Solves | None = None
    each_part: EachPart = one_by_one
    lost_commits: LostCommits = field(default_factory=LostCommits)
    rejected: RejectedBatches = field(default_factory=RejectedBatches)
