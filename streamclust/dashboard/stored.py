"""Stored versions of models: a given version, or the newest version, which is remembered."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from streamclust.dashboard.errors import ApiError
from streamclust.errors import UnknownModelError
from streamclust.store.model.versions import newest_unless, read_model

if TYPE_CHECKING:
    from streamclust.dashboard.source import Source
    from streamclust.formats.model import Model

_FRESH_SECONDS = 1.0
"""Time after which the newest version is looked up again."""

_MODELS = 8
"""Maximum number of models that are remembered."""


def as_learned(model: Model) -> Model:
    """Return a version that accepts missing values if the model has learned such points."""
    return model if model.layout is None else model.accepting(model.layout.missing)


def read_version(source: Source, name: str, version: int) -> Model:
    """Return a stored version; runs in a thread.

    Raises
    ------
    ApiError
        If it isn't stored.
    """
    try:
        return as_learned(read_model(source.client(), source.keys(name), version))
    except UnknownModelError as error:
        raise ApiError(404, "unknown_version", str(error), "version") from None


class NewestModels:
    """Remembers the newest versions of a few models, and looks them up again after a second."""

    def __init__(self) -> None:
        self._models: dict[str, tuple[float, Model]] = {}

    def get(self, source: Source, name: str) -> Model:
        """Return the newest version; runs in a thread.

        Raises
        ------
        UnknownModelError
            If the model has no version.
        """
        client, keys, now = source.client(), source.keys(name), time.monotonic()
        at, known = self._models.get(name, (-math.inf, None))
        if known is not None and now - at < _FRESH_SECONDS:
            return known
        fresh = None if known is None else newest_unless(client, keys, known)
        model = as_learned(fresh or known or read_model(client, keys))
        self._models.pop(name, None)
        if len(self._models) >= _MODELS:
            self._models.pop(next(iter(self._models)), None)
        self._models[name] = now, model
        return model
