"""Reads the versions or the alerts of a model in order, also after lost connections."""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from streamclust.errors import ClientClosedError
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis

    from streamclust.errors import StreamclustError
    from streamclust.store.model.keys import Keys

    OnGap = Callable[[int, int], object]
    Explain = Callable[[redis.RedisError], StreamclustError]

T = TypeVar("T")

CLOSED = "the client is closed; open another one"

LOOK_SECONDS = 1.0
"""Seconds between checks that the server still has the last item that was read.

The model may have been deleted and started again, with lower numbers. A client may also reconnect
to a server that lost its data, without noticing the reconnection."""

_LONGEST_PAUSE = 5.0
"""Longest pause before the next attempt to reach the server, in seconds."""

_LOG = logging.getLogger("streamclust")


class Follower(ABC, Generic[T]):
    """Reads each version, or each alert, of a model once, in the order of their numbers.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    label : str
        Name of the server in messages.
    since : int or None
        Number before the first item to read. None starts with the latest version, or with new
        alerts.
    on_gap : callable or None
        Called with the first and the last number of a gap: versions or alerts that were trimmed
        before they could be read. By default, the follower logs a warning.
    explain : callable, optional
        Returns the error of streamclust for a fault of the server.
    """

    noun: ClassVar[str]
    """The word for an item in messages."""

    setting: ClassVar[str]
    """The setting with the maximum number of stored items."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        label: str,
        since: int | None,
        on_gap: OnGap | None,
        explain: Explain | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._label = label
        self._last = since
        self._on_gap = on_gap or self._warn_of_gap
        self._explain = explain or partial(translated, label=label)
        self._is_closed = False
        self._from_first = False  # then missing numbers before the next one are a gap
        self._looked = time.monotonic()
        self._delay = 0.0  # seconds until the next check; a check that reads much makes it longer
        self._faults = 0  # since the server answered

    def poll(self, block_ms: int | None) -> Sequence[T]:
        """Return the items that are new since the last call; wait for the first of them.

        Raises
        ------
        DamagedVersionError
            If the first new version can't be read.
        ClientClosedError
            After `close`.
        """
        if self._is_closed:
            raise ClientClosedError(CLOSED)
        is_due = time.monotonic() - self._looked > LOOK_SECONDS + self._delay
        if self._last is None or self._faults or is_due:
            self._look()
            self._looked = time.monotonic()
            if self._faults:
                _LOG.warning("connected again to %s", self._label)
            self._faults = 0
        return self._read(block_ms)

    def close(self) -> None:
        """Refuse further calls of `poll`: the client is closed."""
        self._is_closed = True

    def pause_after(self, error: redis.RedisError) -> float:
        """Return the number of seconds to wait before the next call, after this fault.

        Raises
        ------
        StreamclustError
            If the fault isn't a temporary one, or the client is closed.
        """
        if self._is_closed:
            raise ClientClosedError(CLOSED) from error
        if not passes(error):
            raise self._explain(error) from error
        if not self._faults:
            _LOG.warning("%s; retrying", self._explain(error))
        self._faults += 1
        longest = min(_LONGEST_PAUSE, 0.05 * 2.0 ** min(self._faults, 10))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311

    @abstractmethod
    def _look(self) -> None:
        """Find the start, and whether the model was created again since the last read."""

    @abstractmethod
    def _read(self, block_ms: int | None) -> Sequence[T]:
        """Read the items after the last number; call `_advance` for each."""

    def _advance(self, number: int) -> None:
        """Record the number of an item that was read; report missing numbers before it."""
        first = 1 if self._from_first else self._last and self._last + 1
        if first and number > first:
            self._on_gap(first, number - 1)
        self._last, self._from_first = number, False
        self._looked = time.monotonic()

    def _begin_again(self, newest: int, after: int = 0) -> None:
        """Continue after another number than the last one; 0 for all stored items."""
        _LOG.warning(
            "model %r went back from %s %d to %d: the server lost data, or the model was deleted "
            "and started again; continuing from there",
            self._keys.model,
            self.noun,
            self._last,
            newest,
        )
        self._last, self._from_first = after, not after

    def _warn_of_gap(self, first: int, last: int) -> None:
        _LOG.warning(
            "%ss %d to %d of %r were trimmed before they could be read; raise %s to keep more",
            self.noun,
            first,
            last,
            self._keys.model,
            self.setting,
        )
