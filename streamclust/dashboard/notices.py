"""The newest dead letters and alerts of a model, which are read again when there are new ones."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from streamclust.dashboard.payload import alert_dict, letter_dict
from streamclust.formats.alerts import Alert
from streamclust.store.model.dead_letters import count_reasons, read_letters
from streamclust.store.model.read_alerts import read_alerts
from streamclust.text import printable

if TYPE_CHECKING:
    import redis

    from streamclust.store.model.keys import Keys

_SHOWN, _REASONS = 50, 1000
"""Maximum number of letters or alerts that are shown, and of letters whose reasons are counted."""


class Letters:
    """The newest dead letters of a model.

    Attributes
    ----------
    value : dict
        For JSON.
    """

    def __init__(self) -> None:
        self.value: dict[str, Any] = {"count": 0, "stored": 0, "letters": [], "reasons": []}

    def read(self, client: redis.Redis, keys: Keys, count: int) -> list[dict[str, Any]]:
        """Return the new letters, newest first; `count` is the number of all letters so far."""
        if count == self.value["count"]:
            return []
        known = {letter["id"] for letter in self.value["letters"]}
        found = list(islice(read_letters(client, keys, newest_first=True), _REASONS))
        letters = [letter_dict(letter) for letter in found[:_SHOWN]]
        reasons = [
            {"reason": printable(reason, 300), "count": n}
            for reason, n in count_reasons(found).most_common()
        ]
        stored = int(client.xlen(keys.dead))
        self.value = {"count": count, "stored": stored, "letters": letters, "reasons": reasons}
        return [letter for letter in letters if letter["id"] not in known]


class Alerts:
    """The newest alerts of a model.

    Attributes
    ----------
    value : dict
        For JSON.
    """

    def __init__(self) -> None:
        self.value: dict[str, Any] = {"count": 0, "newest": []}

    def read(self, client: redis.Redis, keys: Keys, count: int) -> list[dict[str, Any]]:
        """Return the new alerts, oldest first; `count` is the number of all alerts so far."""
        before = self.value["count"]
        if count == before:
            return []
        found = islice(read_alerts(client, keys, newest_first=True), _SHOWN)
        newest = [alert_dict(alert) for alert in found if isinstance(alert, Alert)]
        self.value = {"count": count, "newest": newest}
        return self.after(before)

    def after(self, number: int) -> list[dict[str, Any]]:
        """Return the alerts after the alert `number`, oldest first."""
        return [alert for alert in reversed(self.value["newest"]) if alert["alert"] > number]
