"""Reads the alerts of a model in order, also after lost connections."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from streamclust.client.reconnects import Reconnects
from streamclust.errors import FormatError
from streamclust.store.model.read_alerts import new_alerts, newest_alert

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from streamclust.formats.alerts import Alert
    from streamclust.store.model.keys import Keys

    OnGap = Callable[[int, int], object]

_LOOK_SECONDS = 1.0
"""Without new alerts: time between checks whether the model was created again."""

_LOG = logging.getLogger("streamclust")


class AlertFollower(Reconnects):
    """Reads each alert once, in order.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    label : str
        Name of the server in messages.
    since : int or None
        Number of the alert before the first one to read; None reads new alerts only.
    on_gap : callable or None
        Called with the numbers of the first and the last alert of a gap: alerts that were trimmed
        before they could be read. By default, the follower logs a warning.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        label: str,
        since: int | None,
        on_gap: OnGap | None,
    ) -> None:
        super().__init__(label)
        self._client = client
        self._keys = keys
        self._last = since
        self._on_gap = on_gap or self._warn
        self._looked = time.monotonic()

    def poll(self, block_ms: int | None) -> list[Alert]:
        """Return the new alerts since the last call; wait for the first of them."""
        looks = time.monotonic() - self._looked > _LOOK_SECONDS
        if self._last is None or self._faults or looks:
            self._look()
        last, found = self._last or 0, []
        for _, number, alert in new_alerts(self._client, {self._keys.alerts: last}, block_ms):
            if last and number > last + 1:
                self._on_gap(last + 1, number - 1)
            last = number
            self._looked = time.monotonic()
            if isinstance(alert, FormatError):
                _LOG.warning("%s", alert)
            else:
                found.append(alert)
        self._last = last
        return found

    def _look(self) -> None:
        """Find the newest alert; a model that was created again counts its alerts from 1."""
        newest = newest_alert(self._client, self._keys)
        self._looked = time.monotonic()
        if self._last is None:
            self._last = newest
        elif newest < self._last:
            _LOG.warning(
                "%s went back from alert %d to %d: the server lost data, or the model was deleted "
                "and started again; continuing from there",
                self._keys.alerts,
                self._last,
                newest,
            )
            self._last = 0
        self._connected()

    def _warn(self, first: int, last: int) -> None:
        _LOG.warning(
            "alerts %d to %d of %r were trimmed before they could be read; raise anomaly.keep to "
            "keep more",
            first,
            last,
            self._keys.model,
        )
