"""All that the server has on a model, for people: its newest version, its worker, its backlog.

A key that can't be read becomes a line of the overview, so that the other figures are still shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from streamclust.errors import NotPermittedError, StreamclustError, UnknownModelError
from streamclust.formats.checkpoint import Covered, decode_covered
from streamclust.formats.lost import Lost
from streamclust.store.model.health import read_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.versions import dead_count, model_names, read_model
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes
from streamclust.store.stream.lag import lag
from streamclust.store.stream.read_size import read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamclust.formats.model import Model
    from streamclust.store.model.health import Health

T = TypeVar("T")


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
    """

    name: str
    model: Model | None
    health: Health | None
    lag: int | None
    lost: Lost | None
    dead: int | None
    troubles: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        health = self.health
        return {
            "model": self.name,
            "worker": None if health is None else f"{health.host}:{health.pid}",
            "phase": self.phase,
            "reason": self.reason or None,
            "points_seen": self.points,
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
        reported = "" if self.health is None else self.health.reason
        return "; ".join(dict.fromkeys(filter(None, (reported, *self.troubles))))


def read_overviews(
    client: redis.Redis,
    namespace: str,
    configured: Mapping[str, Sequence[str]],
    names: Sequence[str] = (),
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

    Raises
    ------
    UnknownModelError
        If a model is neither configured nor on the server.
    redis.RedisError
        If the server can't be used.
    """
    names = names or sorted({*configured, *model_names(client, namespace)})
    return [_read(client, Keys(namespace, name), configured.get(name)) for name in names]


def _read(client: redis.Redis, keys: Keys, configured: Sequence[str] | None) -> Overview:
    troubles: list[str] = []

    def attempt(read: Callable[[], Any], key: str) -> Any:
        value, trouble = _attempt(read, key)
        troubles.extend(filter(None, [trouble]))
        return value

    def covered() -> Covered:
        state: Any = read_value(client, keys.state, lambda: client.get(keys.state))
        return Covered() if state is None else decode_covered(state, f"key {keys.state}")

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
    state: Covered | None = attempt(covered, keys.state)
    lost = behind = None
    if state is not None:
        lost = sum(state.lost.values(), Lost())
        streams = tuple(state.position) or configured
        if streams:
            behind = attempt(
                lambda: lag(client, streams, state.position, state.read), ", ".join(streams)
            )
    dead = attempt(lambda: dead_count(client, keys), keys.dead)
    return Overview(keys.model, model, health, behind, lost, dead, tuple(troubles))


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
