"""Pauses between attempts to reach the server again."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes

if TYPE_CHECKING:
    import redis

_LONGEST_PAUSE = 5.0
"""Longest pause before the next attempt to reach the server, in seconds."""

_LOG = logging.getLogger("streamclust")


class Reconnects:
    """Counts the faults since the server answered, and logs the first fault and the end of it.

    Parameters
    ----------
    label : str
        Name of the server in messages.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._faults = 0

    def pause_after(self, error: redis.RedisError) -> float:
        """Return the number of seconds to wait before the next call, after this fault.

        Raises
        ------
        StreamclustError
            If the fault isn't a temporary one.
        """
        if not passes(error):
            raise translated(error, self._label) from error
        if not self._faults:
            _LOG.warning("%s; retrying", translated(error, self._label))
        self._faults += 1
        longest = min(_LONGEST_PAUSE, 0.05 * 2.0 ** min(self._faults, 10))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311

    def _connected(self) -> None:
        """Record that the server answers."""
        if self._faults:
            _LOG.warning("connected again to %s", self._label)
        self._faults = 0
