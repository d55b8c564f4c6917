"""Pauses of models, and the wait for the workers that confirm them."""

from __future__ import annotations

import getpass
import socket
import time
from typing import TYPE_CHECKING

from streamclust.client.arguments import check_text
from streamclust.errors import DataError
from streamclust.store.model.lease import release_ended
from streamclust.store.model.pause import LONGEST, Pause, pause_models, read_effects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import redis

    from streamclust.store.model.keys import Keys
    from streamclust.store.model.pause import Effect

_LOOK = 0.1
"""Seconds between two looks for the answers of the workers."""


def user_and_host() -> str:
    """Return the user and the host of this process, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user ID without a name, as in a container
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def new_pause(reason: str = "", by: str = "") -> Pause:
    """Return a pause that starts now.

    Raises
    ------
    DataError
        If a text is too long, or isn't a text.
    """
    for name, text in (("reason", reason), ("by", by)):
        check_text(name, text)
        if len(text) > LONGEST:
            raise DataError(f"{name} has {len(text):,} characters, expected at most {LONGEST}")
    return Pause(time.time(), by or user_and_host(), reason)


def pause_all(
    client: redis.Redis,
    models: Sequence[Keys],
    pause: Pause,
    wait: float,
    stop: Callable[[], bool] = lambda: False,
) -> Mapping[Keys, Effect]:
    """Pause models, and wait until their workers have confirmed it.

    A worker confirms after the current batch is committed. Models that were resumed during the wait
    are left out.

    Parameters
    ----------
    client : redis.Redis
    models : sequence of Keys
    pause : Pause
        Models that are paused already keep their earlier pause.
    wait : float
        Maximum seconds to wait.
    stop : callable, optional
        Returns whether to end the wait.
    """
    deadline = time.monotonic() + wait
    found = dict(zip(models, pause_models(client, models, pause), strict=True))
    while pending := [keys for keys, effect in found.items() if not effect.is_confirmed]:
        if time.monotonic() > deadline or stop():
            break
        for keys in pending:  # a worker that died holds the lease of a sleeping model for long
            health = found[keys].health
            if health is None or health.asleep:
                release_ended(client, keys)
        time.sleep(_LOOK)
        for keys, effect in zip(pending, read_effects(client, pending), strict=True):
            if effect is None:
                del found[keys]
            else:
                found[keys] = effect._replace(is_new=found[keys].is_new)
    return found
