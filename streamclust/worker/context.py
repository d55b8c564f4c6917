"""The data that all parts of one model's session share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis
    from structlog.typing import FilteringBoundLogger

    from streamclust.config.model import ModelSettings
    from streamclust.store.model.keys import Keys


@dataclass(frozen=True)
class ModelContext:
    """One model of the settings, and the connection of the session that learns it.

    Parameters
    ----------
    name : str
    settings : KMeansSettings or GaussianMixtureSettings
    client : redis.Redis
    keys : Keys
    log : structlog logger
    """

    name: str
    settings: ModelSettings
    client: redis.Redis
    keys: Keys
    log: FilteringBoundLogger
