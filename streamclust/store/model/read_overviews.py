"""Reads the overviews of models, many in two round trips: their keys, then their streams.

A key that can't be read becomes a line of the overview, so that the other figures are still shown.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import redis

from streamclust.errors import UnknownModelError
from streamclust.formats.checkpoint import Covered, decode_covered
from streamclust.formats.lost import Lost
from streamclust.store.ids import BEGINNING
from streamclust.store.model.attempts import attempt, raised
from streamclust.store.model.health import decode_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.overview import Overview
from streamclust.store.model.pause import pause_of
from streamclust.store.model.read_healths import TOGETHER, LiveWorkers
from streamclust.store.model.stored_values import ValueReader
from streamclust.store.model.versions import decode_entry_head, model_names
from streamclust.store.server.round_trip import round_trip
from streamclust.store.stream.info import NO_ENTRY, StreamInfo, probe_command, probed
from streamclust.store.stream.lag import lag_of
from streamclust.store.stream.names import is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from streamclust.formats.model_head import ModelHead
    from streamclust.store.model.health import Health
    from streamclust.store.model.pause import Pause
    from streamclust.store.model.stored_values import StoredValues

T = TypeVar("T")


class _Unfinished(NamedTuple):
    """The overview of a model, without its streams."""

    keys: Keys
    health: Health | None
    model: ModelHead | None
    covered: Covered | None
    gathered: int | None
    dead: int | None
    alerts: int | None
    pause: Pause | None
    troubles: list[str]


def read_overviews(
    client: redis.Redis,
    namespace: str,
    configured: Mapping[str, Sequence[str]],
    names: Iterable[str] | None = None,
    warm_ups: Mapping[str, int] | None = None,
) -> Iterator[Overview]:
    """Yield the overviews of some models, in the order of the names.

    Parameters
    ----------
    client : redis.Redis
    namespace : str
    configured : mapping of str to sequence of str
        The streams of each model in the settings.
    names : iterable of str, optional
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
    if names is None:
        names = sorted({*configured, *model_names(client, namespace)})
    reader, rest = _Reader(client, namespace, configured, warm_ups or {}), iter(names)
    while chunk := list(islice(rest, TOGETHER)):
        yield from reader.read(chunk)


class _Reader:
    """Reads overviews."""

    def __init__(
        self,
        client: redis.Redis,
        namespace: str,
        configured: Mapping[str, Sequence[str]],
        warm_ups: Mapping[str, int],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._configured = configured
        self._warm_ups = warm_ups
        self._workers = LiveWorkers(client, namespace)
        self._values = ValueReader(client)

    def read(self, names: Sequence[str]) -> Iterator[Overview]:
        """Yield the overviews of models, which are read in two round trips."""
        models = [Keys(self._namespace, name) for name in names]
        pairs = zip(models, self._values.read(models), strict=True)
        found = [self._decoded(keys, stored) for keys, stored in pairs]
        streams = sorted({stream for each in found for stream in self._streams(each)})
        answers = round_trip(
            self._client, [(stream, probe_command(stream, NO_ENTRY)) for stream in streams]
        )
        infos = dict(zip(streams, answers, strict=True))
        for each in found:
            yield self._finished(each, infos)

    def _decoded(self, keys: Keys, stored: StoredValues) -> _Unfinished:
        troubles: list[str] = []

        def covered() -> tuple[Covered, int | None]:
            state = raised(stored.state)
            if state is None:
                return Covered(), None
            return decode_covered(state, f"key {keys.state}", stored.state_bytes)

        def health() -> Health | None:
            data = raised(stored.health)
            return self._workers.alive(None if data is None else decode_health(data, keys.health))

        def model() -> ModelHead | None:
            if not raised(stored.version):
                return None
            entry_id, payload, length, mass, published, model_id = stored.version
            fields = {b"payload": payload, b"time": published}
            fields |= {} if model_id is None else {b"model_id": model_id}
            return decode_entry_head(entry_id, fields, length, mass, keys)

        def number(newest: Any) -> int:
            return int(raised(newest).partition(b"-")[0] or 0)

        report = attempt(health, keys.health, troubles)
        version = attempt(model, keys.models, troubles)
        state, gathered = attempt(covered, keys.state, troubles) or (None, None)
        refused = attempt(lambda: number(stored.dead), keys.dead, troubles)
        flagged = attempt(lambda: number(stored.alerts), keys.alerts, troubles)
        pause = attempt(lambda: pause_of(stored.pause), keys.paused, troubles)
        unfinished = _Unfinished(
            keys, report, version, state, gathered, refused, flagged, pause, troubles
        )
        self._refuse_unknown(unfinished, stored)
        return unfinished

    def _refuse_unknown(self, found: _Unfinished, stored: StoredValues) -> None:
        """Raise an error for a model that neither the settings nor the server have."""
        keys = found.keys
        if "\\x" in keys.model:
            found.troubles.append("the name isn't UTF-8, so its keys can't be read")
        elif not (
            stored.health is not None
            or stored.state is not None
            or stored.version
            or stored.pause is not None
            or keys.model in self._configured
            or keys.model in model_names(self._client, keys.namespace, keys.model)
        ):
            raise UnknownModelError(
                f"model {keys.model!r} doesn't exist in namespace {keys.namespace!r}", keys.model
            )

    def _streams(self, found: _Unfinished) -> tuple[str, ...]:
        if found.covered is None:
            return ()
        return tuple(found.covered.position) or tuple(self._configured.get(found.keys.model, ()))

    def _finished(self, found: _Unfinished, infos: Mapping[str, Any]) -> Overview:
        """Return the overview, with what the server answered about the streams."""
        streams, troubles, name = self._streams(found), found.troubles, found.keys.model
        covered = found.covered or Covered()

        def info(stream: str) -> StreamInfo | None:
            answer = probed(raised(infos[stream]))
            return answer if isinstance(answer, StreamInfo) else None

        def lag() -> int | None:
            lags = [
                lag_of(
                    self._client,
                    stream,
                    info(stream),
                    covered.position.get(stream, BEGINNING),
                    covered.read.get(stream),
                )
                for stream in streams
            ]
            return None if None in lags else sum(filter(None, lags))

        behind = attempt(lag, ", ".join(streams), troubles) if streams else None
        missing = {
            stream: covered.position.get(stream, BEGINNING) != BEGINNING
            for stream in (streams if behind == 0 else ())
            if is_missing(info(stream))
        }
        return Overview(
            name,
            found.model,
            found.health,
            behind,
            None if found.covered is None else sum(covered.lost.values(), Lost()),
            found.dead,
            tuple(troubles),
            missing,
            _warm_up(found.health, found.gathered, lambda: self._warm_ups.get(name, 0)),
            found.alerts,
            found.pause,
        )


def _warm_up(
    health: Health | None, gathered: int | None, wanted: Callable[[], int]
) -> tuple[int, int] | None:
    """Return the points of an unfinished warm-up, and the number that ends it; None after it."""
    if health is not None and health.alive:
        return (health.gathered, health.warm_up) if health.phase == "warming" else None
    return None if gathered is None else (gathered, wanted())
