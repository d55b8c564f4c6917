"""All that the server has on a model, for people: its newest version, its worker, its backlog.

A key that can't be read becomes a line of the overview, so that the other figures are still shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from streamclust.errors import NotPermittedError, StreamclustError, UnknownModelError
from streamclust.formats.checkpoint import Covered, decode_covered
from streamclust.formats.lost import Lost
from streamclust.store.ids import BEGINNING
from streamclust.store.model.health import read_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.versions import dead_count, model_names, read_model
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes
from streamclust.store.stream.lag import lag
from streamclust.store.stream.names import missing_streams, missing_text
from streamclust.store.stream.read_size import read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamclust.formats.model import Model
    from streamclust.store.model.health import Health

T = TypeVar("T")

WARMING_UP = "warming up"


@dataclass(frozen=True)
class Overview:
    """The figures of one model. None stands for a figure that doesn't exist or can't be read.

    Parameters
    ----------
    name : str
        Name of the model.
    model : Model or None
        Newest version.
    health : Health or None
        Report of the live worker.
    lag : int or None
        Stream entries that are not learned yet.
    lost : Lost or None
        Entries that were removed before the worker read them.
    dead : int or None
        Points in the dead-letter stream.
    troubles : tuple of str
        A line for each key that can't be read.
    missing : dict of str to bool
        Streams that don't exist, or never had an entry -> whether the model has read them before.
    warm_up : tuple of (int, int) or None
        Points of an unfinished warm-up, and the number that ends the warm-up (0 if unknown).
    """

    name: str
    model: Model | None
    health: Health | None
    lag: int | None
    lost: Lost | None
    dead: int | None
    troubles: tuple[str, ...] = ()
    missing: Mapping[str, bool] = field(default_factory=dict)
    warm_up: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        health = self.health
        return {
            "model": self.name,
            "worker": None if health is None else f"{health.host}:{health.pid}",
            "phase": self.phase,
            "reason": self.reason or None,
            "points_seen": self.points,
            "waiting": list(self.waits()),
            "missing_streams": list(self.missing),
            "warm_up": self.warm_up and dict(zip(("points", "of"), self.warm_up, strict=True)),
            "progress_age": None if health is None else health.progress_age,
            "kernels": None if health is None else health.kernels,
            "drifts": None if health is None else health.drifts,
            "rate": None if health is None else health.rate,
            "dead": self.dead,
            "lag": self.lag,
            "lost": None if self.lost is None else asdict(self.lost),
            "published": None if self.model is None else self.model.summary(),
            "weight_per_cluster": None if self.model is None else self.model.mass.tolist(),
        }

    @property
    def points(self) -> int | None:
        """Points learned, by the live worker's report or else the newest version's."""
        if self.health is not None and (self.health.alive or self.model is None):
            return self.health.points
        return None if self.model is None else self.model.points

    @property
    def alive(self) -> bool:
        """Whether a live worker has the model and makes progress."""
        return self.health is not None and self.health.alive

    @property
    def failed(self) -> bool:
        """Whether the model is failed, stalled or damaged."""
        return bool(self.troubles) or not (self.health is None or self.health.alive)

    @property
    def phase(self) -> str:
        """The worker's phase; without a worker 'stopped', or 'damaged' if a key can't be read."""
        if self.health is not None:
            return self.health.phase
        return "damaged" if self.troubles else "stopped"

    @property
    def reason(self) -> str:
        """Why the model doesn't learn; empty if it does."""
        if self.health is None and self.model is None and not self.troubles:
            return "never published"
        reasons = [] if self.health is None or not self.health.reason else [self.health.reason]
        for trouble in self.troubles:
            if not any(trouble in reason for reason in reasons):
                reasons.append(trouble)
        return "; ".join(reasons)

    def waits(self, server: str = "the server") -> tuple[str, ...]:
        """Return a line for each thing that the model waits for.

        Parameters
        ----------
        server : str
            Name of the server.
        """
        lines = [
            missing_text(stream, server, end=" any more" if was_read else " yet")
            for stream, was_read in self.missing.items()
        ]
        gathered, wanted = self.warm_up or (0, 0)
        if gathered or (self.warm_up and self.alive and not self.missing):
            of = f" of {wanted:,}" if wanted else ""
            lines.append(f"{WARMING_UP}: {gathered:,}{of} points")
        return tuple(lines)


def read_overviews(
    client: redis.Redis,
    namespace: str,
    configured: Mapping[str, Sequence[str]],
    names: Sequence[str] = (),
    warm_ups: Mapping[str, int] | None = None,
) -> list[Overview]:
    """Return the overviews of some models.

    Parameters
    ----------
    client : redis.Redis
    namespace : str
    configured : mapping of str to sequence of str
        The streams of each model in the settings.
    names : sequence of str, optional
        Models to read. Default: all that are configured or exist in the namespace.
    warm_ups : mapping of str to int, optional
        The points of the warm-up of each model in the settings.

    Raises
    ------
    UnknownModelError
        If a model is neither configured nor on the server.
    redis.RedisError
        If the server can't be used.
    """
    names = names or sorted({*configured, *model_names(client, namespace)})
    wanted = warm_ups or {}
    return [
        _read(client, Keys(namespace, name), configured.get(name), wanted.get(name, 0))
        for name in names
    ]


def _read(
    client: redis.Redis, keys: Keys, configured: Sequence[str] | None, warm_up: int
) -> Overview:
    troubles: list[str] = []

    def attempt(read: Callable[[], Any], key: str) -> Any:
        value, trouble = _attempt(read, key)
        troubles.extend(filter(None, [trouble]))
        return value

    def covered() -> tuple[Covered, int | None]:
        state: Any = read_value(client, keys.state, lambda: client.get(keys.state))
        return (Covered(), None) if state is None else decode_covered(state, f"key {keys.state}")

    health: Health | None = attempt(lambda: read_health(client, keys), keys.health)
    model: Model | None = None
    try:
        model = attempt(lambda: read_model(client, keys), keys.models)
    except UnknownModelError:
        known = configured is not None or health is not None
        if not known and keys.model not in model_names(client, keys.namespace):
            raise
        if "\\x" in keys.model:
            troubles.append("the name isn't UTF-8, so its keys can't be read")
    found: tuple[Covered, int | None] | None = attempt(covered, keys.state)
    lost = behind = None
    missing: dict[str, bool] = {}
    if found is not None:
        state = found[0]
        lost = sum(state.lost.values(), Lost())
        streams = tuple(state.position) or configured
        if streams:
            behind = attempt(
                lambda: lag(client, streams, state.position, state.read), ", ".join(streams)
            )
        if streams and behind == 0:
            at = state.position
            missing = {
                stream: at.get(stream, BEGINNING) != BEGINNING
                for stream in missing_streams(client, streams)
            }
    dead = attempt(lambda: dead_count(client, keys), keys.dead)
    return Overview(
        keys.model,
        model,
        health,
        behind,
        lost,
        dead,
        tuple(troubles),
        missing,
        _warm_up(health, None if found is None else found[1], warm_up),
    )


def _warm_up(health: Health | None, gathered: int | None, wanted: int) -> tuple[int, int] | None:
    """Return the points of an unfinished warm-up, and the number that ends it; None after it."""
    if health is not None and health.alive:
        return (health.gathered, health.warm_up) if health.phase == "warming" else None
    return None if gathered is None else (gathered, wanted)


def health_of(client: redis.Redis, keys: Keys) -> tuple[Health | None, str]:
    """Return the report of a model's live worker, or None and the reason if it can't be read."""
    return _attempt(lambda: read_health(client, keys), keys.health)


def _attempt(read: Callable[[], T], key: str) -> tuple[T | None, str]:
    """Return the result of `read`, or None and the reason why `key` can't be read.

    A fault of the server, or of the user's rights, is raised: it concerns more than this key.
    """
    try:
        return read(), ""
    except UnknownModelError:
        raise
    except StreamclustError as error:
        return None, str(error)
    except redis.RedisError as error:
        if passes(error) or isinstance(translated(error, ""), NotPermittedError):
            raise
        reason = str(error).removeprefix("WRONGTYPE ")
        return None, reason if key in reason else f"key {key} can't be read: {reason}"
    except Exception as error:
        return None, f"key {key} can't be decoded: {error!r}"
