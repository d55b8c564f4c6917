"""A job: one model of the settings, and the server that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from streamclust.store.model.keys import Keys

if TYPE_CHECKING:
    import threading

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings
    from streamclust.config.model import ModelSettings
    from streamclust.store.server.connect import Server


@dataclass(frozen=True)
class Job:
    """One model to work on.

    Parameters
    ----------
    name : str
    settings : Settings
        Settings of the whole process.
    server : Server
    stop : threading.Event
        Set to make the worker finish its batch and leave.
    until_idle : bool
        Whether to leave when all points of the streams are learned.
    log : structlog logger
    """

    name: str
    settings: Settings
    server: Server
    stop: threading.Event
    until_idle: bool
    log: FilteringBoundLogger

    @cached_property
    def model(self) -> ModelSettings:
        """The settings of this model."""
        return self.settings.models[self.name]

    @cached_property
    def keys(self) -> Keys:
        """The keys of this model."""
        return Keys(self.settings.namespace, self.name)
