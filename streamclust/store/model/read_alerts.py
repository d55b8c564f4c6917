"""Reads the alerts of models: the stored ones, how many there were, and new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.errors import FormatError
from streamclust.formats.alerts import Alert, decode_alert

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis

    from streamclust.store.model.keys import Keys

_PAGE = 500

StoredAlert = Alert | FormatError
"""An alert, or the reason why it can't be read."""


def read_alerts(
    client: redis.Redis, keys: Keys, *, after: int = 0, newest_first: bool = False
) -> Iterator[StoredAlert]:
    """Yield the stored alerts, oldest first or newest first.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    after : int, default=0
        Number of the alert before the first one.
    newest_first : bool, default=False
    """
    first, last = f"{after + 1}-0", "+"
    while True:
        page: Any = (
            client.xrevrange(keys.alerts, last, first, count=_PAGE)
            if newest_first
            else client.xrange(keys.alerts, first, last, count=_PAGE)
        )
        for alert_id, fields in page:
            yield _decoded(keys.alerts, alert_id, fields)
        if len(page) < _PAGE:
            return
        end = f"({page[-1][0].decode()}"
        first, last = (first, end) if newest_first else (end, last)


def newest_alert(client: redis.Redis, keys: Keys) -> int:
    """Return the number of the newest alert, which is how many there were; 0 without alerts."""
    newest: Any = client.xrevrange(keys.alerts, count=1)
    return int(newest[0][0].partition(b"-")[0]) if newest else 0


def new_alerts(
    client: redis.Redis, position: Mapping[str, int], block_ms: int | None
) -> list[tuple[str, int, StoredAlert]]:
    """Return the key, the number and the alert of new alerts; wait for the first of them.

    Parameters
    ----------
    client : redis.Redis
    position : mapping of str to int
        Key -> number of the alert after which to read.
    block_ms : int or None
        Maximum wait; None doesn't wait.
    """
    places: dict[Any, Any] = {key: f"{number}-0" for key, number in position.items()}
    reply: Any = client.xread(places, count=_PAGE, block=block_ms)
    return [
        (key, int(alert_id.partition(b"-")[0]), _decoded(key, alert_id, fields))
        for name, entries in reply or ()
        for key in (name.decode(errors="surrogateescape"),)
        for alert_id, fields in entries
    ]


def _decoded(key: str, alert_id: bytes, fields: dict[bytes, bytes]) -> StoredAlert:
    try:
        return decode_alert(alert_id.decode(), fields, f"key {key}")
    except FormatError as error:
        return error
