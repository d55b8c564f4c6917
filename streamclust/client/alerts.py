"""Reads the alerts of a model in order."""

from __future__ import annotations

import logging

from streamclust.client.follower import Follower
from streamclust.errors import FormatError
from streamclust.formats.alerts import Alert
from streamclust.store.model.read_alerts import new_alerts, newest_alert

_LOG = logging.getLogger("streamclust")


class AlertFollower(Follower[Alert]):
    """Reads each alert of a model once, in order."""

    noun = "alert"
    setting = "anomaly.keep"

    def _read(self, block_ms: int | None) -> list[Alert]:
        found = []
        for _, number, alert in new_alerts(
            self._client, {self._keys.alerts: self._last or 0}, block_ms
        ):
            self._advance(number)
            if isinstance(alert, FormatError):
                _LOG.warning("%s", alert)
            else:
                found.append(alert)
        return found

    def _look(self) -> None:
        """Find the newest alert; a model that was created again counts its alerts from 1."""
        newest = newest_alert(self._client, self._keys)
        if self._last is None:
            self._last = newest
        elif newest < self._last:
            self._begin_again(newest)
