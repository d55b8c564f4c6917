"""The versions of a model one after the other, through lost connections."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any

from streamclust.errors import DamagedVersionError
from streamclust.store.connect import translated
from streamclust.store.subscription import follow

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from streamclust.store.keys import Keys
    from streamclust.store.published import Model

    OnGap = Callable[[int, int], object]

_LONGEST_PAUSE = 5.0
"""Cap of the pause before the next try to reach the server, in seconds."""

_LOOK_SECONDS = 10.0
"""While nothing comes: time between looks whether the server still knows the newest version.

A client may connect again to a server that lost its data without noticing either."""

_LOG = logging.getLogger("streamclust")


class Follower:
    """Reads each version once, in order.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    label : str
        What messages call the server.
    since : int or None
        The version before the first that is read; None begins with the newest.
    on_gap : callable or None
        Called with the first and the last version of a gap: versions that were trimmed away
        before they could be read. By default they are logged as a warning.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        label: str,
        since: int | None,
        on_gap: OnGap | None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._label = label
        self._last = since
        self._on_gap = on_gap or self._warn
        self._faults = 0
        self._looked = time.monotonic()

    def poll(self, block_ms: int | None) -> list[Model]:
        """Return the versions that came since the last call, waiting for the first of them.

        Raises
        ------
        DamagedVersionError
            If the first can't be read.
        """
        if self._last is None or self._faults or time.monotonic() - self._looked > _LOOK_SECONDS:
            self._look()
        models: list[Model] = []
        try:
            for model in follow(self._client, self._keys, self._last or 0, block_ms=block_ms):
                models.append(model)
        except DamagedVersionError:
            if not models:
                raise  # else the next call does
        for model in models:
            if self._last and model.version > self._last + 1:
                self._on_gap(self._last + 1, model.version - 1)
            self._last = model.version
            self._looked = time.monotonic()
        return models

    def _look(self) -> None:
        """Make sure that there is something to go on from; only that may take a large reply."""
        newest = self._newest()
        self._looked = time.monotonic()
        if self._last is None or newest < self._last:
            self._begin_with(newest)
        if self._faults:
            _LOG.warning("%s is back", self._label)
        self._faults = 0

    def pause_after(self, error: redis.RedisError) -> float:
        """Return how many seconds to wait before the next call, after this fault."""
        if not self._faults:
            _LOG.warning("%s; trying again", translated(error, self._label))
        self._faults += 1
        longest = min(_LONGEST_PAUSE, 0.05 * 2.0 ** min(self._faults, 10))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311

    def _begin_with(self, newest: int) -> None:
        if self._last is not None:
            _LOG.warning(
                "%s went back from version %d to %d: the server lost data, or the model was "
                "begun anew; going on from there",
                self._keys.models,
                self._last,
                newest,
            )
        self._last = max(newest - 1, 0)

    def _newest(self) -> int:
        entries: Any = self._client.xrevrange(self._keys.models, count=1)
        return int(entries[0][0].partition(b"-")[0]) if entries else 0

    def _warn(self, first: int, last: int) -> None:
        _LOG.warning(
            "versions %d to %d of %r were trimmed away before they could be read; "
            "raise publish.keep to keep more",
            first,
            last,
            self._keys.model,
        )
