"""The pause of a model: one key, which the worker that has the model's lease reads.

A worker reads the key when it starts with the model. Later, the server reports changes of the key,
and each renewal of the lease returns whether the key exists.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from streamclust.store.model.attempts import attempt, raised
from streamclust.store.model.health import PAUSED, decode_health
from streamclust.store.server.round_trip import round_trip
from streamclust.store.server.wrong_type import is_wrong_type
from streamclust.text import printable
from streamclust.times import ago, iso_time, local_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from streamclust.store.model.health import Health
    from streamclust.store.model.keys import Keys

LONGEST = 200
"""Maximum number of characters of a reason, and of the name of the user who has paused a model."""

_LARGEST_STEP = 1 << 24

# Without a lease no worker has to confirm the pause. But a worker that was suspended for longer
# than its lease may still have the newest token; so the token grows. ARGV: the pause, or an empty
# text to read without a change; the step of the token.
_PAUSE = """
local found = redis.call('GET', KEYS[1])
if not found and ARGV[1] == '' then return {} end
if not found then redis.call('SET', KEYS[1], ARGV[1]) end
local is_held = redis.call('EXISTS', KEYS[2])
if is_held == 0 and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('INCRBY', KEYS[3], ARGV[2])
end
return {found or '', is_held, redis.call('GET', KEYS[4]) or ''}
"""

_RESUME = """
local found = redis.call('GET', KEYS[1])
if not found then return {} end
redis.call('DEL', KEYS[1])
return {found, redis.call('EXISTS', KEYS[2])}
"""


@dataclass(frozen=True)
class Pause:
    """Since when a model is paused, and why.

    Parameters
    ----------
    since : float
        Wall clock, seconds since the epoch.
    by : str
        The user who has paused the model, such as ``ann@host``.
    reason : str
    """

    since: float = 0.0
    by: str = "?"
    reason: str = ""

    @property
    def text(self) -> str:
        """Since when, by whom, and why; for people."""
        return self._text(f"since {local_time(1000.0 * self.since)} ")

    @property
    def text_with_age(self) -> str:
        """How long ago, by whom, and why; for people."""
        return self._text(f"{ago(1000.0 * self.since)} ")

    def _text(self, since: str) -> str:
        end = f": {self.reason}" if self.reason else ""
        return f"{since if self.since else ''}by {self.by}{end}"


def pause_dict(pause: Pause) -> dict[str, Any]:
    """Return plain values, for JSON."""
    return {**asdict(pause), "since": iso_time(1000.0 * pause.since) if pause.since else None}


class Effect(NamedTuple):
    """The effect of a pause on the server.

    Parameters
    ----------
    pause : Pause
        The pause in effect: the earlier one, if the model was paused already.
    is_new : bool
        Whether the model wasn't paused before.
    is_held : bool
        Whether a worker has the lease of the model.
    health : Health or None
        The report of this worker.
    """

    pause: Pause
    is_new: bool
    is_held: bool
    health: Health | None

    @property
    def is_confirmed(self) -> bool:
        """Whether nothing is learned or published from now on.

        A report of an earlier pause, after which the model was resumed, confirms nothing.
        """
        health = self.health
        if not self.is_held:
            return True
        return (
            health is not None
            and health.phase == PAUSED
            and health.paused_since == self.pause.since
        )


def decode_pause(data: bytes | None) -> Pause | None:
    """Return the pause in the value of a key; None without a value.

    A value that streamclust didn't write is a pause too: the model must not learn by mistake.
    """
    if data is None:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    known = found if isinstance(found, dict) else {}
    since, by, reason = (known.get(name) for name in ("since", "by", "reason"))
    usable = isinstance(since, int | float) and not isinstance(since, bool) and 0 < since < 1e11
    return Pause(
        float(since) if usable and since is not None else 0.0,
        printable(by, LONGEST) if isinstance(by, str) and by else "?",
        printable(reason, LONGEST) if isinstance(reason, str) else "",
    )


def read_pause(client: redis.Redis, keys: Keys) -> Pause | None:
    """Return the pause of a model; None if it isn't paused.

    Raises
    ------
    redis.RedisError
        If the server can't be reached, or refuses.
    """
    [found] = read_pauses(client, [keys])
    return found


def read_pauses(client: redis.Redis, models: Sequence[Keys]) -> list[Pause | None]:
    """Return the pauses of models, in one round trip."""
    replies = round_trip(client, [(keys.paused, pause_command(keys)) for keys in models])
    return [pause_of(reply) for reply in replies]


def pause_command(keys: Keys) -> tuple[str, str]:
    """Return the words of the command whose reply is for `pause_of`."""
    return "GET", keys.paused


def pause_of(reply: Any) -> Pause | None:
    """Return the pause in the reply to `pause_command`. A key of another type is a pause too."""
    if is_wrong_type(reply):
        return Pause()
    return decode_pause(raised(reply))


def pause_models(client: redis.Redis, models: Sequence[Keys], pause: Pause) -> list[Effect]:
    """Pause models, in one round trip. A model that is paused already keeps its earlier pause."""
    words = json.dumps(asdict(pause))
    found = _effects(client, models, words, pause)
    return [each for each in found if each is not None]


def read_effects(client: redis.Redis, models: Sequence[Keys]) -> list[Effect | None]:
    """Return the effects of pauses; None for a model that was resumed meanwhile."""
    return _effects(client, models, "", Pause())


def _effects(
    client: redis.Redis, models: Sequence[Keys], words: str, new: Pause
) -> list[Effect | None]:
    step = 1 + secrets.randbelow(_LARGEST_STEP)
    commands: list[tuple[str, tuple[Any, ...]]] = [
        (
            keys.paused,
            ("EVAL", _PAUSE, 4, keys.paused, keys.lease, keys.token, keys.health, words, step),
        )
        for keys in models
    ]
    replies = map(raised, round_trip(client, commands))
    found: list[Effect | None] = []
    for keys, reply in zip(models, replies, strict=True):
        if not reply:
            found.append(None)
            continue
        before, is_held, data = reply
        health = attempt(lambda: decode_health(data, keys.health), keys.health, [])  # noqa: B023
        pause = (decode_pause(before) or new) if before else new
        found.append(Effect(pause, not before, bool(is_held), health if data else None))
    return found


class Resumed(NamedTuple):
    """A pause that has ended.

    Parameters
    ----------
    pause : Pause
    is_held : bool
        Whether a worker has the lease of the model, and so continues it at once.
    """

    pause: Pause
    is_held: bool


def resume_models(client: redis.Redis, models: Sequence[Keys]) -> list[Resumed | None]:
    """End the pauses of models, in one round trip; None for a model that wasn't paused."""
    commands: list[tuple[str, tuple[Any, ...]]] = [
        (keys.paused, ("EVAL", _RESUME, 2, keys.paused, keys.lease)) for keys in models
    ]
    replies = map(raised, round_trip(client, commands))
    return [
        Resumed(decode_pause(reply[0]) or Pause(), bool(reply[1])) if reply else None
        for reply in replies
    ]
